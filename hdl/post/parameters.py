"""Memories that hold what post-processing is given ahead: biases, scales and tables.

They are written in words of 32 bits, so that a block RAM can be as wide as its word: in loads to
``BIAS``, ``SCALE`` and ``TABLE`` all addresses, steps and lengths must be multiples of 4 bytes.
Scratchpads, whose loads are of any alignment, need a bank for each byte.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.pipeline import delay, taps
from ..shell.commands import ADDRESS_BITS
from ..shell.config import Config
from ..shell.load_port import LoadWrite

__all__ = ["WORD_BYTES", "LineMemory", "Table", "WordPort", "WordWrite", "beat_words", "place_bits"]

WORD_BYTES = 4

#: Lines from which even a narrow memory is worth a block RAM: in LUTs it would need wide multiplexers.
BLOCK_LINES = 64


def beat_words(config: Config) -> int:
    """Return the 32-bit words of an AXI beat."""
    return config.beat_bytes // WORD_BYTES


def place_bits(config: Config) -> int:
    """Return the bits of the place of a beat in any memory."""
    return ADDRESS_BITS - ceil_log2(config.beat_bytes)


class WordWrite(wiring.Signature):
    """Words of one beat from the loader, each with its own place.

    Word ``i`` goes to word ``place[i] * beat_words + i`` of a memory if ``en[i]`` is set.

    Parameters
    ----------
    words : int
        Words of a beat.
    place_bits : int
        Bits of a place.
    """

    def __init__(self, words: int, place_bits: int):
        super().__init__({
            "en": Out(words),
            "place": Out(data.ArrayLayout(place_bits, words)),
            "data": Out(data.ArrayLayout(32, words)),
        })


class WordPort(wiring.Component):
    """Adapter from the loader's bytes to words, with the place of each worked out.

    Throughput is one beat per cycle, latency :attr:`LATENCY` cycles; nothing is refused.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    load : :py:`In(LoadWrite(config))`
        Bytes. The four bytes of a word must have the same mask and wrap.
    destination : :py:`Out(config.commands.destination)`
        Memory that the words go to.
    write : :py:`Out(WordWrite(...))`
        Words, for any destination.
    """

    #: Cycles from bytes to words.
    LATENCY = 1

    def __init__(self, config: Config):
        self._words = beat_words(config)
        self._place_bits = place_bits(config)
        super().__init__({
            "load": In(LoadWrite(config)),
            "destination": Out(config.commands.destination),
            "write": Out(WordWrite(self._words, self._place_bits)),
        })

    def elaborate(self, platform):
        """Build the adapter."""
        m = Module()

        load = self.load
        word = load.word[:self._place_bits]
        after = Signal(self._place_bits, name="word_after")
        m.d.comb += after.eq(word + 1)
        en = Signal(self._words)
        m.d.sync += self.destination.eq(load.destination)
        m.d.comb += self.write.en.eq(en)
        for index in range(self._words):
            byte = index * WORD_BYTES
            m.d.sync += [
                en[index].eq(load.valid & load.mask[byte]),
                self.write.place[index].eq(Mux(load.wrap[byte], after, word)),
                self.write.data[index].eq(Cat(*(load.data[byte + offset] for offset in range(WORD_BYTES)))),
            ]

        return m


class LineMemory(wiring.Component):
    """Memory that is written in beats and read in lines of several words.

    One line per cycle can be read, :attr:`latency` cycles after its number. A word can be read
    from the cycle after it was written.

    Parameters
    ----------
    beat_words : int
        Words of a beat, a power of two.
    place_bits : int
        Bits of the place of a beat.
    line_words : int
        Words of a line, a power of two.
    lines : int
        Number of lines, a power of two.
    widths : tuple of int
        Low bits of each word that are kept, repeated over the words of a line.

    Members
    -------
    write : :py:`In(WordWrite(beat_words, place_bits))`
        Words to write.
    line : :py:`In(range(lines))`
        Line to read.
    data : :py:`Out(ArrayLayout(32, line_words))`
        Words of the line, zero in bits that are not kept.
    """

    def __init__(self, beat_words: int, place_bits: int, line_words: int, lines: int,
                 widths: tuple[int, ...] = (32,)):
        self._beat_words = beat_words
        self._line_words = line_words
        self._lines = lines
        self._widths = widths
        super().__init__({
            "write": In(WordWrite(beat_words, place_bits)),
            "line": In(range(max(lines, 2))),
            "data": Out(data.ArrayLayout(32, line_words)),
        })

    @property
    def latency(self) -> int:
        """Cycles from a line's number to its words."""
        return self.latency_of(self._beat_words, self._line_words)

    @staticmethod
    def latency_of(beat_words: int, line_words: int) -> int:
        """Return the latency in cycles: memory, register, and selection if a beat holds several lines."""
        return 2 if line_words >= beat_words else 3

    def elaborate(self, platform):
        """Build the banks, one for each word of a beat or of a line, whichever is longer."""
        m = Module()

        banks = max(self._beat_words, self._line_words)
        choices = banks // self._line_words
        choice_bits = ceil_log2(choices)
        depth = max(2, self._lines // choices)
        address_bits = ceil_log2(depth)
        slots = banks // self._beat_words
        slot_bits = ceil_log2(slots)
        words = []
        for bank in range(banks):
            slot, index = divmod(bank, self._beat_words)
            width = self._widths[bank % len(self._widths)]
            attributes = {"no_rw_check": 1}
            if depth >= BLOCK_LINES:
                attributes["ram_style"] = "block"
            memory = Memory(shape=unsigned(width), depth=depth, init=[], attrs=attributes)
            m.submodules[f"bank_{bank}"] = memory
            write, read = memory.write_port(), memory.read_port()
            place = self.write.place[index]
            word = Signal(32, name=f"word_{bank}", reset_less=True)
            m.d.comb += [
                write.en.eq(self.write.en[index] & (place[:slot_bits] == slot)),
                write.addr.eq(place[slot_bits:slot_bits + address_bits]),
                write.data.eq(self.write.data[index][:width]),
                read.addr.eq(self.line[choice_bits:]),
            ]
            m.d.sync += word.eq(read.data)
            words.append(word)

        if self.latency == 2:
            m.d.comb += [self.data[index].eq(word) for index, word in enumerate(words)]
        else:
            choice = delay(m, self.line[:choice_bits], 2, "choice", reset_less=True)
            for index in range(self._line_words):
                with m.Switch(choice):
                    for number, word in enumerate(words[index::self._line_words]):
                        with m.Case(number):
                            m.d.sync += self.data[index].eq(word)

        return m


class Table(wiring.Component):
    """Bytes of one lane's columns, written in beats and read one byte per cycle.

    A byte is read :attr:`LATENCY` cycles after its address, and can be read from the cycle after
    it was written.

    Parameters
    ----------
    beat_words : int
        Words of a beat, a power of two.
    size : int
        Bytes.

    Members
    -------
    write : :py:`In(WordWrite(beat_words, ...))`
        Words to write; a place is a beat of this lane's table.
    address : :py:`In(range(size))`
        Byte to read.
    value : :py:`Out(8)`
        The byte.
    """

    #: Cycles from an address to its byte: memory, register, and two selections.
    LATENCY = 4

    def __init__(self, beat_words: int, size: int):
        self._beat_words = beat_words
        self._depth = max(2, -(-size // (WORD_BYTES * beat_words)))
        super().__init__({
            "write": In(WordWrite(beat_words, ceil_log2(self._depth))),
            "address": In(range(size)),
            "value": Out(8),
        })

    def elaborate(self, platform):
        """Build the banks, one for each word of a beat."""
        m = Module()

        byte_bits, word_bits = ceil_log2(WORD_BYTES), ceil_log2(self._beat_words)
        address = taps(m, self.address[:byte_bits + word_bits], 3, "address", reset_less=True)
        words = []
        for index in range(self._beat_words):
            memory = Memory(shape=unsigned(32), depth=self._depth, init=[], attrs={"no_rw_check": 1})
            m.submodules[f"bank_{index}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(self.write.en[index]),
                write.addr.eq(self.write.place[index]),
                write.data.eq(self.write.data[index]),
                read.addr.eq(self.address[byte_bits + word_bits:]),
            ]
            words.append(delay(m, read.data, 1, f"word_{index}", reset_less=True))

        word = Signal(32, reset_less=True)
        m.d.sync += word.eq(Array(words)[address[2][byte_bits:]] if word_bits else words[0])
        m.d.sync += self.value.eq(Array(word[8 * byte:8 * byte + 8] for byte in range(WORD_BYTES))[
            address[3][:byte_bits]])

        return m
