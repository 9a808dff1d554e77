"""Memory of what routines work on: LOADs fill it with bytes, and groups of elements are read."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks.pipeline import delay
from ..blocks.scratchpad import Scratchpad
from ..shell.config import Config
from ..shell.load_port import LoadPort, LoadWrite

__all__ = ["VectorMemory", "place_bits"]

#: Bytes of a word.
WORD_BYTES = 4


def place_bits(config: Config, size: int) -> int:
    """Bits of the place of a group of operands, one of each lane, in a memory of so many bytes."""
    return exact_log2(size // (config.post.lanes * config.operand_bytes))


class VectorMemory(wiring.Component):
    """Bytes in banks; a group of elements, one of each lane, is read every cycle, of words or of operands.

    A place counts groups of operands, and a group of words stands where that many operands would; it is a multiple of
    the operands that a word has room for. Elements come :attr:`LATENCY` cycles behind their place. A byte can be read
    two cycles after it was given.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    load : :py:`In(LoadWrite(config))`
        Bytes from the loader.
    en : :py:`In(1)`
        Whether there is a place.
    place : :py:`In(place_bits(config, vector_bytes))`
        Place of a group.
    narrow : :py:`In(1)`
        Whether it is one of operands.
    data : :py:`Out(ArrayLayout(32, lanes))`
        Words, or operands in the low bits.
    """

    #: Cycles from a place to its elements: the memory, and two selections.
    LATENCY = 4

    def __init__(self, config: Config):
        self._config = config
        self._size = config.scratchpads.vector_bytes
        super().__init__({
            "load": In(LoadWrite(config)),
            "en": In(1),
            "place": In(place_bits(config, self._size)),
            "narrow": In(1),
            "data": Out(data.ArrayLayout(8 * WORD_BYTES, config.post.lanes)),
        })

    def elaborate(self, platform):
        """Build the banks and the selections: of a group of words, and of the operands in it."""
        m = Module()

        config = self._config
        lanes, size = config.post.lanes, config.operand_bytes
        line_bytes = config.output_banks
        banks, lines, width = line_bytes // size, self._size // line_bytes, 8 * size
        m.submodules.port = port = LoadPort(config, config.commands.destination["VECTOR"].value, banks, lines, width)
        m.submodules.banks = pad = Scratchpad(banks, lines, width)
        wiring.connect(m, wiring.flipped(self.load), port.load)
        wiring.connect(m, port.write, pad.write)

        part_bits = exact_log2(WORD_BYTES // size)
        group_bits = exact_log2(line_bytes // (lanes * WORD_BYTES))
        # Data stay only as long as nothing else is read, so the register behind the banks is always on.
        m.d.comb += pad.read.en.eq(1)
        m.d.comb += [line.eq(self.place[part_bits + group_bits:]) for line in (pad.read.line[bank]
                                                                               for bank in range(banks))]
        words = data.View(data.ArrayLayout(8 * WORD_BYTES * lanes, 1 << group_bits), pad.read.data.as_value())
        group = Signal(8 * WORD_BYTES * lanes, reset_less=True)
        m.d.sync += group.eq(words[delay(m, self.place[part_bits:part_bits + group_bits], 2, "group_of",
                                         reset_less=True)] if group_bits else words[0])
        narrow = delay(m, self.narrow, 3, "narrow", reset_less=True)
        part = delay(m, self.place[:part_bits], 3, "part", reset_less=True)
        operands = group.word_select(part, lanes * width)
        for lane in range(lanes):
            m.d.sync += self.data[lane].eq(Mux(narrow, operands.word_select(lane, width),
                                               group.word_select(lane, 8 * WORD_BYTES)))

        return m
