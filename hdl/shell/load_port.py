"""The port by which loads fill a banked memory."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.banks import BankWrite
from ..blocks.rules import rests
from ..errors import PearrayError
from .commands import ADDRESS_BITS
from .config import Config

__all__ = ["Hold", "LoadPort", "LoadWrite"]


class LoadWrite(wiring.Signature):
    """Bytes from the loader to the scratchpads, one beat a cycle, never refused.

    Lane ``i`` of the beat goes to byte ``(word + wrap[i]) * beat_bytes + i`` of the memory
    ``destination`` if ``mask[i]`` is set.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    """

    def __init__(self, config: Config):
        lanes = config.beat_bytes
        super().__init__({
            "valid": Out(1),
            "destination": Out(config.commands.destination),
            "word": Out(ADDRESS_BITS),
            "wrap": Out(lanes),
            "mask": Out(lanes),
            "data": Out(data.ArrayLayout(8, lanes)),
        })


class Hold(wiring.Signature):
    """Says to the loader that a moved beat will be written when one that comes to it now would be.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    valid : Out(1)
        There is such a beat.
    destination : Out(config.commands.destination)
        Memory that it goes to; beats to others need not wait.
    """

    def __init__(self, config: Config):
        super().__init__({"valid": Out(1), "destination": Out(config.commands.destination)})


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
    destination : int
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

    def __init__(self, config: Config, destination: int, banks: int, lines: int, width: int):
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
        rests(m, selected, self.write.en, self.LATENCY + 1)

        return m
