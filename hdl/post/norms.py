"""LayerNorm and RMSNorm: sums of rows and of their squares, inverse roots, and what lanes make of elements."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..arithmetic.inverse_root import InverseRoot
from ..blocks.pipeline import delay
from ..blocks.rules import never
from ..blocks.tree import tree
from ..blocks.unit import Unit
from ..shell.commands import Rounding
from ..shell.config import Config
from ..shell.functions import NORM_STATES
from .parameters import BLOCK_LINES
from .requantise import Requantiser

__all__ = ["NormedElement", "Norms"]

#: Bits of an element less its zero point, of its square, of a row's sum, and of the sum of its squares.
_ELEMENT, _SQUARE, _TOTAL, _SQUARES = 9, 16, 24, 31

#: Fraction bits of what is added to the squares of a row, and half of them, which the root's exponent takes away.
_FRACTION = 16


class NormedElement(Unit):
    """Normalise the elements of a lane, one a cycle, or square them. There is no flow control.

    Parameters
    ----------
    width : int
        Bits of a sum.

    Members
    -------
    element : :py:`In(signed(9))`
        Element less its zero point.
    square : :py:`In(1)`
        Whether it is squared: given with it.
    elements : :py:`In(16)`
        Elements of the row: given with it.
    value : :py:`Out(signed(9))`, squared : :py:`Out(16)`
        The element, and its square, :attr:`SQUARED` cycles later.
    total : :py:`In(signed(24))`
        Sum of the row's elements, or zero, :attr:`SQUARED` cycles after the element.
    root : :py:`In(31)`
        Positive float32 number, a cycle later.
    gain : :py:`In(signed(16))`
        Factor, :attr:`GAIN` cycles after the element.
    product : :py:`Out(signed(32))`
        ``clip(rint(float32(elements * element - total) * root), -2**15, 2**15 - 1) * gain``, :attr:`LATENCY` cycles
        after the element.
    """

    #: Cycles from an element to its square: to registers, and multiplied.
    SQUARED = 2
    #: Cycles from an element to its gain: the difference, and what is rounded and clipped.
    GAIN = SQUARED + 1 + Requantiser.latency_of(32) + 1
    #: Cycles from an element to its product.
    LATENCY = GAIN + 2

    def __init__(self):
        super().__init__({
            "element": In(signed(_ELEMENT)), "square": In(1), "elements": In(16), "value": Out(signed(_ELEMENT)),
            "squared": Out(_SQUARE), "total": In(signed(_TOTAL)), "root": In(31), "gain": In(signed(16)),
            "product": Out(signed(32)),
        })

    def elaborate(self, platform):
        """Build the two multipliers, and the requantiser between them."""
        m = Module()

        element = Signal(signed(_ELEMENT), reset_less=True)
        factor = Signal(signed(17), reset_less=True)
        product = Signal(signed(_ELEMENT + 17), reset_less=True)
        m.d.sync += [
            element.eq(self.element),
            factor.eq(Mux(self.square, self.element, self.elements)),
            product.eq(element * factor),
            self.value.eq(element),
        ]
        m.d.comb += self.squared.eq(product)

        m.submodules.requantiser = requantiser = Requantiser()
        difference = Signal(signed(_TOTAL + 1), reset_less=True)
        m.d.sync += difference.eq(product - self.total)
        m.d.comb += [
            requantiser.rounding.eq(Rounding.ONNX),
            requantiser.sum.eq(difference),
            requantiser.scale.eq(self.root),
        ]
        high = requantiser.result[15:]
        clipped = Signal(signed(16), reset_less=True)
        with m.If(high.any() & ~high.all()):
            m.d.sync += clipped.eq(Cat((~high[-1]).replicate(15), high[-1]).as_signed())
        with m.Else():
            m.d.sync += clipped.eq(requantiser.result)
        weighed = Signal(signed(32), reset_less=True)
        m.d.sync += [weighed.eq(clipped * self.gain), self.product.eq(weighed)]

        return m


class Norms(wiring.Component):
    """States of rows: the sum of elements, and the inverse root of what their squares add up to.

    A command of moments gives the elements of rows, one row after another. When the last group of a row has come, its
    sums go into a queue, from which one row after another gets its root, :attr:`PERIOD` cycles after the one before at
    the earliest. A command begins only when as few roots are missing as it says.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    cycle : int
        Cycles from a group to its elements.

    Members
    -------
    command : :py:`In(PostBody)`
        Command.
    valid, first, last_of_tile : :py:`In(1)`
        Whether there is a group, the first of its command, and the last of its tile.
    busy : :py:`Out(1)`
        Whether a root is missing.
    ripe : :py:`Out(1)`
        Whether so many roots have been found that the command may begin in the next cycle.
    values : :py:`In(ArrayLayout(signed(9), lanes))`, squares : :py:`In(ArrayLayout(16, lanes))`
        Elements of a group, and their squares, ``cycle + NormedElement.SQUARED`` cycles after it.
    square : :py:`Out(1)`, elements : :py:`Out(16)`
        Whether a group is squared, ``cycle`` cycles after it; and the elements of a row of the latest command of
        moments.
    total : :py:`Out(signed(24))`
        Sum of the elements of a group's row, ``cycle + NormedElement.SQUARED`` cycles after the group.
    root : :py:`Out(31)`
        Its root, a cycle later.
    """

    #: Cycles in which the sum of squares is multiplied, and that of the elements squared, a bit each; and all cycles
    #: from a row's place in the queue to the difference of both.
    _BITS = _TOTAL
    _DIFFERENCE = 1 + _BITS + 2
    #: Cycles from one root to the next: while one is found, the products for the next are.
    PERIOD = max(InverseRoot.LATENCY, _DIFFERENCE + 1)

    def __init__(self, config: Config, cycle: int):
        self._lanes, self._cycle = config.post.lanes, cycle
        super().__init__({
            "command": In(config.commands.post), "valid": In(1), "first": In(1), "last_of_tile": In(1), "ripe": Out(1),
            "busy": Out(1),
            "values": In(data.ArrayLayout(signed(_ELEMENT), self._lanes)),
            "squares": In(data.ArrayLayout(_SQUARE, self._lanes)),
            "square": Out(1), "elements": Out(16), "total": Out(signed(_TOTAL)), "root": Out(31),
        })

    @classmethod
    def found_of(cls, cycle: int, lanes: int) -> int:
        """Return the cycles from the last group of a row to the first of a command that waits for its root alone."""
        return cls._queued_of(cycle, lanes) + 1 + cls._DIFFERENCE + InverseRoot.LATENCY + 2

    @staticmethod
    def _queued_of(cycle: int, lanes: int) -> int:
        """Cycles from the last group of a row to its sums."""
        return cycle + NormedElement.SQUARED + ceil_log2(lanes) + 1

    def elaborate(self, platform):
        """Build the sums, the queue, and the states."""
        m = Module()

        command, moments = self.command, self.valid & self.command.moments
        closes = moments & self.last_of_tile & command.row_closes
        row, behind = Signal(range(NORM_STATES)), Signal(range(NORM_STATES))
        after = Signal()
        m.d.comb += row.eq(Mux(self.first, command.state_row, behind))
        with m.If(self.valid):
            m.d.sync += [behind.eq(row + self.last_of_tile), after.eq(self.last_of_tile)]
        opens = moments & (self.first | after) & command.row_opens

        fields = Cat(command.scale_nstep, command.bias_nstep[:5], command.centred, command.out_base, command.out_nstep,
                     command.out_mstep, command.low[:2])
        settings = Signal(len(fields), reset_less=True)
        with m.If(moments & self.first):
            m.d.sync += settings.eq(fields)
        m.d.comb += [
            self.square.eq(delay(m, command.moments, self._cycle, "square", reset_less=True)),
            self.elements.eq(settings[:16]),
        ]
        centred = settings[21]

        total, squares = self._add_up(m, moments, opens)
        queued = self._queued_of(self._cycle, self._lanes)
        words = Cat(Mux(centred, total, 0), squares, delay(m, row, queued, "row", reset_less=True))
        found, state = self._find_roots(m, delay(m, closes, queued, "closes"), words, settings)
        self._keep(m, found, state, row)

        missing = Signal(range(NORM_STATES + 1))
        m.d.sync += missing.eq(missing + closes - found)
        m.d.comb += [
            self.busy.eq(missing != 0),
            self.ripe.eq(~(command.moments | command.normed) | (missing <= command.behind)),
        ]
        self._state_rules(m, fields, settings, missing, closes)

        return m

    def _add_up(self, m, valid, opens):
        """Add up elements and squares of a row; return both as they stand a cycle after a group's have been added."""
        cycle, levels = self._cycle + NormedElement.SQUARED, ceil_log2(self._lanes)
        valid, opens = (delay(m, flag, cycle + levels, name) for flag, name in ((valid, "group"), (opens, "opens")))
        sums = []
        for name, values, shape in (("total", self.values, signed(_TOTAL)), ("squares", self.squares,
                                                                             unsigned(_SQUARES))):
            added = tree(m, name, list(values), lambda one, other: one + other)
            total = Signal(shape, name=f"row_{name}", reset_less=True)
            with m.If(valid):
                m.d.sync += total.eq(Mux(opens, 0, total) + added)
            sums.append(total)
        return sums

    def _memory(self, m, name, width):
        """Memory of a word for each row."""
        attributes = {"no_rw_check": 1} | ({"ram_style": "block"} if NORM_STATES >= BLOCK_LINES else {})
        memory = Memory(shape=unsigned(width), depth=NORM_STATES, init=[], attrs=attributes)
        m.submodules[f"{name}_memory"] = memory
        return memory.write_port(), memory.read_port()

    def _find_roots(self, m, queued, words, settings):
        """Queue rows, and find the root of one after another; return when it stands, and row, sum and root."""
        write, read = self._memory(m, "queue", len(words))
        waiting = Signal(range(NORM_STATES + 1))
        put, take = Signal(range(NORM_STATES)), Signal(range(NORM_STATES))
        m.submodules.inverse_root = root = InverseRoot()
        step = Signal(range(self._DIFFERENCE + 1))
        takes, stands = (step == 0) & (waiting != 0), step == self._DIFFERENCE
        m.d.comb += [write.en.eq(queued), write.addr.eq(put), write.data.eq(words), read.addr.eq(take)]
        m.d.sync += [put.eq(put + queued), take.eq(take + takes), waiting.eq(waiting + queued - takes)]
        with m.If(stands):
            m.d.sync += step.eq(Mux(root.ready, 0, step))
        with m.Elif((step != 0) | takes):
            m.d.sync += step.eq(step + 1)

        # D times the sum of squares, and the square of the sum, from the highest bit down.
        held = Signal(len(words), name="queue_word", reset_less=True)
        total, squares, row = held[:_TOTAL], held[_TOTAL:_TOTAL + _SQUARES], held[_TOTAL + _SQUARES:]
        size = Signal(_TOTAL, reset_less=True)
        bits = [Signal(self._BITS, name=f"{name}_bits", reset_less=True) for name in ("size", "elements")]
        products = [Signal(48, name=f"{name}_product", reset_less=True) for name in ("size", "elements")]
        given = read.data[:_TOTAL].as_signed()
        with m.If(step == 1):
            magnitude = Mux(given[-1], -given, given)[:_TOTAL]
            m.d.sync += [held.eq(read.data), size.eq(magnitude), bits[0].eq(magnitude), bits[1].eq(settings[:16])]
            m.d.sync += [product.eq(0) for product in products]
        with m.Else():
            for product, bit, factor in zip(products, bits, (size, squares), strict=True):
                with m.If((step != 0) & (step < 2 + self._BITS)):
                    m.d.sync += [product.eq((product << 1) + Mux(bit[-1], factor, 0)), bit.eq(bit << 1)]
        difference = Signal(48, reset_less=True)
        with m.If(step == 2 + self._BITS):
            m.d.sync += difference.eq(products[1] - products[0])

        m.d.comb += [
            root.start.eq(stands & root.ready),
            root.operand.eq(Cat(Const(0, _FRACTION), difference[:64 - _FRACTION]) + settings[22:]),
            root.exponent.eq(settings[16:21] + _FRACTION // 2),
        ]
        # What belongs to a root while the next row is multiplied.
        state = Signal(_TOTAL + len(row), name="state_found", reset_less=True)
        with m.If(root.start):
            m.d.sync += state.eq(Cat(total, row))
        return root.found, (state[_TOTAL:], Cat(state[:_TOTAL], root.root))

    def _keep(self, m, found, state, row):
        """Write states, and read that of a group's row."""
        write, read = self._memory(m, "state", len(state[1]))
        m.d.comb += [
            write.en.eq(found),
            write.addr.eq(state[0]),
            write.data.eq(state[1]),
            read.addr.eq(delay(m, row, self._cycle, "state_row", reset_less=True)),
            self.total.eq(delay(m, read.data[:_TOTAL], 1, "total", reset_less=True)),
            self.root.eq(delay(m, read.data[_TOTAL:], 2, "root", reset_less=True)),
        ]

    def _state_rules(self, m, fields, settings, missing, closes):
        """State what commands must not do."""
        command, first = self.command, self.valid & self.first
        never(m, "norm_settings", first & command.moments & (missing != 0) & (fields != settings),
              "rows of another command have yet to get their roots")
        never(m, "norm_states", closes & (missing == NORM_STATES), "more rows than there are states")
        never(m, "norm_fields", self.valid & (command.moments | command.normed) & (command.table | command.moments & (
            command.normed | command.bias | command.per_channel)), "a field is set that it has no place for")
        never(m, "norm_channels", self.valid & command.normed & ~command.per_channel, "biases are for each channel")
