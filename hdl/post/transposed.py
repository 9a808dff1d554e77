"""Rows of sums that are pixels of one channel: constants that all lanes share, and places of outputs that lie apart.

A pixel stands in the output scratchpad some lines and one operand behind the pixel before it. So the lanes of a group
write to as many banks one after another, wherever the first begins, each to a line of its own.
"""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.pipeline import delay, taps
from ..blocks.rules import never
from ..shell.commands import Rounding
from ..shell.config import Config

__all__ = ["Apart", "LanePlaces", "shared_constants", "state_rules"]


def _chosen(values: list, index):
    """Return the value of an index, a power of two of values."""
    while len(values) > 1:
        values = [Mux(index[0], odd, even) for even, odd in zip(values[::2], values[1::2], strict=True)]
        index = index[1:]
    return values[0]


def state_rules(m: Module, command, valid, groups: int) -> None:
    """State what transposed commands must not do; `groups` are those of a row."""
    transposed = valid & command.transposed
    never(m, "transposed_rounding", transposed & (command.rounding == Rounding.NONE), "sums are not rounded")
    never(m, "transposed_groups", transposed & (command.last_group >= groups), "more groups than a row has")
    if "pair" in dict(data.Layout.cast(command.shape())):
        never(m, "transposed_pair", transposed & command.pair, "sums are pairs")


def shared_constants(m: Module, walk, cycle: int, biases: list, scales: list) -> tuple[list, list]:
    """Return the words of biases and scales for each lane: those of its line, or of the entry that all lanes share.

    Parameters
    ----------
    walk : PostWalk
        Entries, and the command.
    cycle : int
        Cycles from the walk to the scales' words, and one more than to those of the biases.
    biases, scales : list of Value
        Words of a line: one for each lane, and two.
    """
    transposed = taps(m, walk.command.transposed, cycle, "transposed", reset_less=True)
    low = ceil_log2(len(biases))
    of_bias = delay(m, walk.bias_line[:low], cycle - 1, "bias_entry", reset_less=True)
    of_scale = delay(m, walk.scale_line[:low], cycle, "scale_entry", reset_less=True)
    bias, scale = _chosen(biases, of_bias), [_chosen(scales[word::2], of_scale) for word in range(2)]
    return ([Mux(transposed[cycle - 1], bias, word) for word in biases],
            [Mux(transposed[cycle], scale[number % 2], word) for number, word in enumerate(scales)])


class LanePlaces(wiring.Component):
    """Lines and banks of a group's outputs, :attr:`LATENCY` cycles after the place of its first; one group a cycle.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    banks : int
        Operand-wide banks of the output scratchpad, a power of two.
    lines : int
        Lines of each.

    Members
    -------
    place : In(range(banks * lines))
        Operand to which the first lane writes.
    first : In(1)
        The place is that of a command's first group; ``lane_lines`` counts from then on.
    lane_lines : In(16)
        Lines from a lane to the next, one operand less; needed with ``first``.
    line : Out(ArrayLayout(range(lines), lanes))
        Line of the banks whose numbers leave this remainder.
    en : Out(banks)
        Banks to be written.
    amount : Out(range(lanes))
        Which of ``lanes`` neighbouring banks is the first lane's.
    """

    #: Cycles from a place to its lines: their sum, and their rotation.
    LATENCY = 2

    def __init__(self, config: Config, banks: int, lines: int):
        self._lanes, self._banks, self._lines = config.post.lanes, banks, lines
        super().__init__({
            "place": In(range(banks * lines)),
            "first": In(1),
            "lane_lines": In(16),
            "line": Out(data.ArrayLayout(range(lines), self._lanes)),
            "en": Out(banks),
            "amount": Out(range(max(self._lanes, 2))),
        })

    def elaborate(self, platform):
        """Build a multiple of the distance for each lane, then the sums, then the rotation."""
        m = Module()

        lanes, bank_bits, line_bits = self._lanes, ceil_log2(self._banks), ceil_log2(self._lines)
        bank, line = self.place[:bank_bits], self.place[bank_bits:]
        far = self.lane_lines[:line_bits]
        multiples = [Signal(line_bits, name=f"multiple_{lane}", reset_less=True) for lane in range(lanes)]
        sums = [Signal(line_bits, name=f"sum_{lane}", reset_less=True) for lane in range(lanes)]
        # Multiples of the command before count up to its last group.
        found = [Signal(line_bits, name=f"found_{lane}", reset_less=True) for lane in range(lanes)]
        later_bank = Signal(bank_bits, reset_less=True)
        for lane in range(lanes):
            rest, low = lane & lane - 1, (lane & -lane).bit_length() - 1
            m.d.comb += found[lane].eq(found[rest] + (far << low) if lane else 0)
            with m.If(self.first):
                m.d.sync += multiples[lane].eq(found[lane])
            beyond = (bank + lane)[bank_bits] if lane else 0
            m.d.sync += sums[lane].eq(line + Mux(self.first, found[lane], multiples[lane]) + beyond)
        m.d.sync += later_bank.eq(bank)

        lane_bits = ceil_log2(lanes)
        turn = later_bank[:lane_bits]
        for place in range(lanes):
            # The lane whose bank leaves this remainder is `place - turn`, modulo the lanes.
            source = [sums[(place - amount) % lanes] for amount in range(lanes)]
            m.d.sync += self.line[place].eq(_chosen(source, turn))
        for number in range(self._banks):
            behind = Signal(bank_bits, name=f"behind_{number}")
            m.d.comb += behind.eq(number - later_bank)
            m.d.sync += self.en[number].eq(behind < lanes)
        m.d.sync += self.amount.eq(turn)

        return m


class Apart:
    """What becomes of a group's outputs where commands may be transposed.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    banks, lines : int
        Byte-wide banks of the output scratchpad, and lines of each.
    command : PostBody
        Command that is held.
    """

    def __init__(self, m: Module, config: Config, banks: int, lines: int, command):
        self._config, self._item, self._command = config, config.operand_bytes, command
        self._banks, self._lines = banks, lines
        m.submodules.lane_places = self._places = LanePlaces(config, banks // self._item, lines)
        #: Whether the group that is to be written is a transposed command's.
        self._transposed = Signal(name="written_transposed", reset_less=True)

    def follow(self, m: Module, places: list, first, cycle: int) -> None:
        """Follow groups whose place `i` cycles after their walk is ``places[i]``, up to the cycle before the write.

        ``first`` tells the first group of a command, `cycle` cycles after its walk; the command is held until then.
        What it says is kept from then on: groups of the next come that far only when all of this are on their way.
        """
        far = Signal(16, name="held_lane_lines", reset_less=True)
        transposed = Signal(name="held_transposed", reset_less=True)
        with m.If(first):
            m.d.sync += [far.eq(self._command.lane_lines), transposed.eq(self._command.transposed)]
        begun = len(places) - 1 - LanePlaces.LATENCY
        begins = taps(m, first, begun - cycle + 1, "written_first")
        with m.If(begins[-1]):
            m.d.sync += self._transposed.eq(transposed)
        m.d.comb += [
            self._places.place.eq(places[begun]),
            self._places.first.eq(begins[-2]),
            self._places.lane_lines.eq(far),
        ]

    def ordered(self, outputs: list) -> list:
        """Return outputs of lanes in the order in which banks take them."""
        lanes, places = len(outputs), self._places
        rotated = [_chosen([outputs[(place - amount) % lanes] for amount in range(lanes)], places.amount)
                   for place in range(lanes)]
        return [Mux(self._transposed, turned, output) for turned, output in zip(rotated, outputs, strict=True)]

    def offered(self, m: Module, valid, enables: list, line) -> tuple[list, list]:
        """Return enables and lines of all banks, from those of other commands and whether a group is to be written."""
        lanes, item, places = self._config.post.lanes, self._item, self._places
        transposed = Signal(name="output_transposed", reset_less=True)
        own = Signal(self._banks // item, name="output_apart")
        lines = Signal(data.ArrayLayout(range(self._lines), lanes), name="output_lines", reset_less=True)
        m.d.sync += [transposed.eq(self._transposed), lines.eq(places.line)]
        m.d.sync += own.eq(Mux(valid & self._transposed, places.en, 0))
        return ([Mux(transposed, own[bank // item], en) for bank, en in enumerate(enables)],
                [Mux(transposed, lines[bank // item % lanes], line) for bank in range(self._banks)])
