"""Outputs of routines on their way to the output scratchpad."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks.banks import BankWrite
from ..shell.config import Config
from .vector_memory import WORD_BYTES, place_bits

__all__ = ["GroupWriter"]


class GroupWriter(wiring.Component):
    """Writes a group of elements, one of each lane, every cycle: words, or operands in their low bits.

    A group is offered to every slot of a line, and those that it belongs to take it, a cycle later.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    en : :py:`In(1)`
        Whether there is a group.
    place : :py:`In(place_bits(config, output_bytes))`
        Its place, as of :class:`~.vector_memory.VectorMemory`.
    narrow : :py:`In(1)`
        Whether it is one of operands.
    data : :py:`In(ArrayLayout(32, lanes))`
        Elements.
    output : :py:`Out(BankWrite(config.output_banks, config.output_lines, 8))`
        Write port of the output scratchpad.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "en": In(1),
            "place": In(place_bits(config, config.scratchpads.output_bytes)),
            "narrow": In(1),
            "data": In(data.ArrayLayout(8 * WORD_BYTES, config.post.lanes)),
            "output": Out(BankWrite(config.output_banks, config.output_lines, 8)),
        })

    def elaborate(self, platform):
        """Build the registers of bytes, line and enables."""
        m = Module()

        config = self._config
        lanes, size, banks = config.post.lanes, config.operand_bytes, config.output_banks
        slots = banks // (lanes * size)
        slot_bits, part_bits = exact_log2(slots), exact_log2(WORD_BYTES // size)
        slot = self.place[:slot_bits]
        line = Signal(range(max(config.output_lines, 2)), reset_less=True)
        m.d.sync += line.eq(self.place[slot_bits:])
        enable = Signal(slots)
        for number in range(slots):
            taken = Mux(self.narrow, slot == number, slot[part_bits:] == number >> part_bits)
            m.d.sync += enable[number].eq(self.en & taken)
        value = Signal(data.ArrayLayout(8, lanes * WORD_BYTES), reset_less=True)
        for byte in range(lanes * WORD_BYTES):
            whole = self.data[byte // WORD_BYTES].word_select(byte % WORD_BYTES, 8)
            operand = self.data[byte // size % lanes].word_select(byte % size, 8)
            m.d.sync += value[byte].eq(Mux(self.narrow, operand, whole))
        for bank in range(banks):
            m.d.comb += [
                self.output.en[bank].eq(enable[bank // (lanes * size)]),
                self.output.line[bank].eq(line),
                self.output.data[bank].eq(value[bank % (lanes * WORD_BYTES)]),
            ]

        return m
