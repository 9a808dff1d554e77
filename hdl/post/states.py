"""Greatest exponents and sums of rows of softmax, over blocks of keys, and what follows from them."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ..arithmetic.quotient import DIVISOR_BITS, Quotient
from ..blocks.line import Line
from ..blocks.pipeline import delay, taps
from ..blocks.rules import never
from .numerators import EMPTY, EXPONENT
from .parameters import BLOCK_LINES
from .sums import ShiftWrite

__all__ = ["FRACTION", "RowStates"]

#: Bits of a row's sum below those of the numerators.
FRACTION = 4

#: Bits of the distance of a shift.
_DISTANCE = 5


class RowStates(Component):
    """State of each row: the greatest exponent m of all blocks, and the sum l of their numerators beside it.

    A row is given when its block's greatest exponent is about to come. With the state (m, l), (:data:`EMPTY`, 0) if
    the command opens its rows, and the block's greatest exponent g and total s:

    * m becomes ``max(m, g)``, and the old and the block's part lose the bits by which that is greater than m and g,
      at most 31 (one of the two loses none): l becomes ``l >> d + (s << fraction) >> dp``, rounded to nearest, halves
      upwards.
    * ``d - dp`` is told on :py:`shifts`, 5 cycles after the row.
    * ``dividend / l`` (:class:`Quotient`) becomes the row's quotient, :meth:`settled_of` cycles after the row.

    One row a cycle, or as many cycles apart as ``every`` says. The same row comes again :attr:`APART` cycles later at
    the earliest, and quotients are not read while any is on its way.

    Parameters
    ----------
    rows : int
        Rows, a power of two.
    total_bits : int
        Bits of a block's total.
    wait : int
        Cycles from a block's greatest exponent to its total, less 4.
    every : int
        Cycles from a row to the next, at least.
    fraction : int
        Bits of a row's sum below those of a block's total.

    Members
    -------
    valid : :py:`In(1)`
        Whether there is a row.
    row : :py:`In(range(rows))`, shift_row : :py:`In(range(rows))`
        Row, and where its shift is written.
    first : :py:`In(1)`
        Whether it is the first of its command.
    opens : :py:`In(1)`
        Whether its state begins here.
    dividend : :py:`In(31)`
        Positive float32 number; that of all rows of a command, given with the first.
    greatest : :py:`In(signed(18))`
        The block's greatest exponent, 2 cycles after the row.
    total : :py:`In(total_bits)`
        Sum of the block's numerators, ``wait`` + 6 cycles after the row.
    shifts : :py:`Out(ShiftWrite(rows))`
        By how much sums must be shifted before the block's are added.
    quotient_row : :py:`In(range(rows))`, quotient : :py:`Out(31)`
        Row, and its quotient two cycles later.
    """

    #: Cycles from a row to the same one again, at least: from the read of its sum to the next cycle after its write.
    APART = 7

    def __init__(self, rows: int, total_bits: int, wait: int, every: int, fraction: int = FRACTION):
        self._rows, self._wait, self._every, self._fraction = rows, wait, every, fraction
        super().__init__({
            "valid": In(1), "row": In(range(rows)), "shift_row": In(range(rows)), "first": In(1), "opens": In(1),
            "dividend": In(31), "greatest": In(EXPONENT), "total": In(total_bits), "shifts": Out(ShiftWrite(rows)),
            "quotient_row": In(range(rows)), "quotient": Out(31),
        })

    @classmethod
    def settled_of(cls, wait: int, every: int) -> int:
        """Return the cycles from a row to the first in which its new quotient can be read."""
        return cls._sum_cycle_of(wait) + Quotient.latency_of(every) + 1

    @staticmethod
    def _sum_cycle_of(wait: int) -> int:
        """Cycles from a row to its new sum."""
        return wait + 10

    def elaborate(self, platform):
        """Build the two parts of the state; ``name[t]`` is a value t cycles after its row."""
        m = Module()

        summed = self._sum_cycle_of(self._wait)
        valid = taps(m, self.valid, summed, "valid")
        row = taps(m, self.row, 4, "row", reset_less=True)
        opens = taps(m, self.opens, 4, "opens", reset_less=True)
        first = delay(m, self.first, 4, "first", reset_less=True)
        self._keep_apart(m, "greatest", valid[:5], row)

        negative, distance = self._greatest(m, valid, row, opens)
        m.submodules.block = block = Line(len(Cat(negative, distance, opens[4], first, row[4])), self._wait)
        m.d.comb += block.i.eq(Cat(negative, distance, opens[4], first, row[4]))
        start = self._wait + 4
        fields = Cat(block.o, Const(0, 0))
        begun, row = fields[_DISTANCE + 2], taps(m, fields[_DISTANCE + 3:], 6, "sum_row", reset_less=True)
        self._keep_apart(m, "sum", valid[start:start + 7], row)
        total = self._sum(m, valid[summed], row, fields)
        self._quotient(m, valid[summed], delay(m, begun, 6, "begun", reset_less=True), row[6], total)

        return m

    @staticmethod
    def _keep_apart(m, name, valid, rows):
        """State that no row is read while the same one is on its way to be written."""
        again = Cat(earlier & (row == rows[0]) for earlier, row in zip(valid[1:], rows[1:], strict=True))
        never(m, f"{name}_row", valid[0] & again.any(), "a row comes again before its state has been written")

    def _memory(self, m, name, shape, row):
        """Memory of a word for each row: its write port, and the word of a row two cycles later."""
        attributes = {"no_rw_check": 1} | ({"ram_style": "block"} if self._rows >= BLOCK_LINES else {})
        memory = Memory(shape=shape, depth=self._rows, init=[], attrs=attributes)
        m.submodules[f"{name}_memory"] = memory
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += read.addr.eq(row)
        return write, delay(m, read.data, 1, f"{name}_read", reset_less=True)

    def _greatest(self, m, valid, row, opens):
        """Find the new greatest exponent, and which part is shifted, the block's or the old, and by how much."""
        write, stored = self._memory(m, "greatest", EXPONENT, row[0])
        old = Mux(opens[2], EMPTY, stored)
        above = Signal(signed(EXPONENT.width + 1), reset_less=True)
        below = Signal(signed(EXPONENT.width + 1), reset_less=True)
        m.d.sync += [above.eq(self.greatest - old), below.eq(old - self.greatest)]
        of_block, of_old = (delay(m, value, 1, name, reset_less=True) for value, name in
                            ((self.greatest, "greatest_of_block"), (old, "greatest_of_old")))
        negative = Signal(reset_less=True)
        distance = Signal(_DISTANCE, reset_less=True)
        greatest = Signal(EXPONENT, name="new_greatest", reset_less=True)
        size = Mux(above[-1], below, above)
        m.d.sync += [
            negative.eq(above[-1]),
            distance.eq(Mux(size[_DISTANCE:].any(), (1 << _DISTANCE) - 1, size[:_DISTANCE])),
            greatest.eq(Mux(above[-1], of_old, of_block)),
        ]
        m.d.comb += [write.en.eq(valid[4]), write.addr.eq(row[4]), write.data.eq(greatest)]
        shifts = self.shifts
        m.d.sync += shifts.amount.eq(Mux(negative, -distance, distance))
        m.d.comb += [
            shifts.en.eq(valid[5]),
            shifts.row.eq(delay(m, self.shift_row, 5, "shift_row", reset_less=True)),
        ]
        return negative, distance

    def _sum(self, m, valid, row, fields):
        """Find the new sum: one part is shifted, with a bit more below, which rounds, and the other added."""
        write, stored = self._memory(m, "sum", unsigned(DIVISOR_BITS), row[0])
        now = delay(m, fields[:_DISTANCE + 2], 2, "fields", reset_less=True)
        negative, distance, opens = now[0], now[1:_DISTANCE + 1], now[_DISTANCE + 1]
        old, part = Mux(opens, 0, stored), self.total << self._fraction
        value = Signal(DIVISOR_BITS, name="to_shift", reset_less=True)
        whole = Signal(DIVISOR_BITS, name="whole", reset_less=True)
        m.d.sync += [value.eq(Mux(negative, part, old)), whole.eq(Mux(negative, old, part))]
        value = Cat(Const(0, 1), value)
        for stage, bits in enumerate(((4, 3), (2, 1, 0)), 1):
            distance = delay(m, distance, 1, f"distance_{stage}", reset_less=True)
            for bit in bits:
                value = Mux(distance[bit], value >> (1 << bit), value)
            shifted = Signal(DIVISOR_BITS + 1, name=f"shifted_{stage}", reset_less=True)
            m.d.sync += shifted.eq(value)
            value = shifted
        total = Signal(DIVISOR_BITS, name="new_sum", reset_less=True)
        m.d.sync += total.eq(delay(m, whole, 2, "whole", reset_less=True) + value[1:] + value[0])
        m.d.comb += [write.en.eq(valid), write.addr.eq(row[6]), write.data.eq(total)]
        return total

    def _quotient(self, m, valid, first, row, total):
        """Divide the command's number by the new sum."""
        m.submodules.divider = divider = Quotient(self._every)
        latency = Quotient.latency_of(self._every)
        held = Signal(31, name="next_dividend", reset_less=True)
        with m.If(self.valid & self.first):
            m.d.sync += held.eq(self.dividend)
        # Rows of the command before are still on their way: its number goes on with them.
        with m.If(valid & first):
            m.d.sync += divider.dividend.eq(held)
        m.submodules.rows = rows = Line(len(row), latency)
        m.d.comb += [divider.valid.eq(valid), divider.divisor.eq(total), rows.i.eq(row)]
        write, quotient = self._memory(m, "quotient", unsigned(31), self.quotient_row)
        m.d.comb += [
            write.en.eq(delay(m, valid, latency, "found")),
            write.addr.eq(rows.o),
            write.data.eq(divider.quotient),
            self.quotient.eq(quotient),
        ]
