"""Banked on-chip memory, and the port by which loads fill one."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .commands import Destination
from .config import Config
from .errors import PearrayError
from .interfaces import BankRead, BankWrite, LoadWrite

__all__ = ["LoadPort", "Scratchpad"]


class Scratchpad(wiring.Component):
    """Memory of several banks, each with one write and one read port.

    A line written in one cycle can be read (its ``line`` given) from the next cycle on. Reading
    takes :attr:`BankRead.LATENCY` cycles, one read a cycle; while ``read.en`` is low the data of
    the last read stay. What a bank returns for the line that is written in the same cycle is
    undefined: schedules only do so where the data are not used.

    Parameters
    ----------
    banks : int
        Number of banks.
    lines : int
        Lines of each bank, at least two.
    width : int
        Bits of a line of one bank.

    Members
    -------
    write : In(BankWrite(banks, lines, width))
        Write port.
    read : In(BankRead(banks, lines, width))
        Read port.

    Raises
    ------
    PearrayError
        If a parameter is out of range.
    """

    def __init__(self, banks: int, lines: int, width: int):
        for name, value, least in (("banks", banks, 1), ("lines", lines, 2), ("width", width, 1)):
            if type(value) is not int or value < least:
                raise PearrayError(f"{name} must be an integer of at least {least}, not {value!r}")
        self._banks = banks
        self._lines = lines
        self._width = width
        super().__init__({
            "write": In(BankWrite(banks, lines, width)),
            "read": In(BankRead(banks, lines, width)),
        })

    def elaborate(self, platform):
        """Build the banks and their output registers."""
        m = Module()

        for bank in range(self._banks):
            # Without this attribute Yosys adds logic that returns the old data on a collision.
            memory = Memory(shape=unsigned(self._width), depth=self._lines, init=[],
                            attrs={"no_rw_check": 1})
            m.submodules[f"bank_{bank}"] = memory
            write = memory.write_port(granularity=None if self._width % 8 else 8)
            read = memory.read_port()
            output = Signal(self._width, name=f"output_{bank}", reset_less=True)
            m.d.comb += [
                write.en.eq(self.write.en.word_select(bank, len(write.en))),
                write.addr.eq(self.write.line[bank]),
                write.data.eq(self.write.data[bank]),
                read.en.eq(self.read.en),
                read.addr.eq(self.read.line[bank]),
                self.read.data[bank].eq(output),
            ]
            m.d.sync += output.eq(read.data)

        return m


class LoadPort(wiring.Component):
    """Adapter from the loader's bus to the write port of one banked memory.

    The memory holds byte ``a`` in line ``a // (banks * width / 8)``; within a line, bank 0 holds
    the first ``width / 8`` bytes, least significant first. A memory with wider words than 16 bits
    uses several 8-bit banks a word, since a load may begin and end at any byte.

    Latency is :attr:`LATENCY` cycles from ``load`` to ``write``, so that the byte can be read
    (:class:`Scratchpad`) ``LATENCY + 1`` cycles after it is given. Throughput is one beat a cycle.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator; its ``beat_bytes`` are the lanes of the bus.
    destination : Destination
        Memory whose loads are taken; the others are ignored.
    banks : int
        Banks of the memory.
    lines : int
        Lines of each bank.
    width : int
        Bits of a bank, 8 or 16. ``banks * width / 8`` must be a power-of-two multiple of ``beat_bytes``.

    Members
    -------
    load : In(LoadWrite(config))
        Bus from the loader.
    write : Out(BankWrite(banks, lines, width))
        Write port of the memory.

    Raises
    ------
    PearrayError
        If the memory's line is not a power-of-two number of beats.
    """

    #: Cycles from ``load`` to ``write``.
    LATENCY = 1

    def __init__(self, config: Config, destination: Destination, banks: int, lines: int, width: int):
        if width not in (8, 16):
            raise PearrayError(f"width must be 8 or 16, not {width!r}")
        line_bytes = banks * width // 8
        beats = line_bytes // config.beat_bytes
        if beats < 1 or beats & beats - 1 or beats * config.beat_bytes != line_bytes:
            raise PearrayError(f"banks * width / 8 must be a power-of-two multiple of {config.beat_bytes}, "
                               f"not {line_bytes}")
        self._config = config
        self._destination = destination
        self._banks = banks
        self._lines = lines
        self._width = width
        super().__init__({
            "load": In(LoadWrite(config)),
            "write": Out(BankWrite(banks, lines, width)),
        })

    def elaborate(self, platform):
        """Build the adapter: one line a lane of as many bytes as a bank, one enable a byte."""
        m = Module()

        bank_bytes = self._width // 8
        beat_banks = self._config.beat_bytes // bank_bytes
        beats = self._banks // beat_banks
        beat_bits = ceil_log2(beats)
        line_bits = Shape.cast(range(self._lines)).width

        word = self.load.word[:beat_bits + line_bits]
        word_after = Signal.like(word)
        selected = Signal()
        m.d.comb += [
            word_after.eq(word + 1),
            selected.eq(self.load.valid & (self.load.destination == self._destination)),
        ]
        for lane in range(beat_banks):
            byte = lane * bank_bytes
            line = Signal(line_bits, name=f"line_{lane}", reset_less=True)
            value = Signal(self._width, name=f"value_{lane}", reset_less=True)
            place = Signal.like(word, name=f"place_{lane}")
            m.d.comb += place.eq(Mux(self.load.wrap[byte], word_after, word))
            m.d.sync += [
                line.eq(place[beat_bits:]),
                value.eq(Cat(self.load.data[byte + index] for index in range(bank_bytes))),
            ]
            for beat in range(beats):
                bank = beat * beat_banks + lane
                enable = Signal(bank_bytes, name=f"enable_{bank}")
                here = selected & (place[:beat_bits] == beat)
                m.d.sync += enable.eq(Mux(here, self.load.mask[byte:byte + bank_bytes], 0))
                m.d.comb += [
                    self.write.en.word_select(bank, bank_bytes).eq(enable),
                    self.write.line[bank].eq(line),
                    self.write.data[bank].eq(value),
                ]

        return m
