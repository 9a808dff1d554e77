"""Sum of two table entries, chosen by the two low bytes of a sum."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, Signature

from ..blocks.pipeline import delay
from ..blocks.unit import Unit
from ..shell.config import Config
from .parameters import WORD_BYTES, WordWrite, beat_words

__all__ = ["ELEMENT_FRACTION", "PairSum", "PairWrite", "element_of", "pair_bytes", "pair_words"]

#: Words of each table.
ENTRIES = 256

#: Fraction bits of a sum of two entries that is an element of a row.
ELEMENT_FRACTION = 20


def pair_words(config: Config) -> int:
    """Return the distance from the words of one entry to those of the next, of which the first two are kept."""
    return max(2, beat_words(config))


def pair_bytes(config: Config) -> int:
    """Return the bytes that a load of both tables takes."""
    return ENTRIES * pair_words(config) * WORD_BYTES


def element_of(m: Module, total: Value, name: str) -> Value:
    """Cut the fraction of a sum of two entries, signed(32), off, and saturate what is left: signed(8)."""
    whole = Signal(signed(32 - ELEMENT_FRACTION), name=f"{name}_whole")
    element = Signal(signed(8), name=f"{name}_element")
    m.d.comb += [
        whole.eq(total >> ELEMENT_FRACTION),
        element.eq(Mux(whole[7:].any() & ~whole[7:].all(), Cat((~whole[-1]).replicate(7), whole[-1]), whole[:8])),
    ]
    return element


class PairWrite(Signature):
    """Words for the two tables of every lane: ``data[i]`` becomes entry ``entry[i]`` of table i if ``en[i]`` is set."""

    def __init__(self):
        super().__init__({"en": Out(2), "entry": Out(data.ArrayLayout(8, 2)), "data": Out(data.ArrayLayout(32, 2))})

    @staticmethod
    def of(config: Config, write: WordWrite, enable: Signal) -> list:
        """Return (en, entry, data) of both tables from the words of a beat, if they are for them.

        Parameters
        ----------
        config : Config
            Configuration of the accelerator.
        write : WordWrite
            Words, with their places.
        enable : Value
            Whether they are for these tables.
        """
        if beat_words(config) > 1:
            return [(write.en[table] & enable, write.place[table][:8], write.data[table]) for table in range(2)]
        # One word a beat: those of the tables take turns.
        place = write.place[0]
        return [(write.en[0] & enable & (place[0] == Const(table, 1)), place[1:9], write.data[0])
                for table in range(2)]


class PairSum(Unit):
    """Look two bytes up, each in a table of its own, and add what is found; sums wrap.

    One sum per cycle, :attr:`LATENCY` cycles after its bytes. An entry can be looked up from the cycle after it was
    written. There is no flow control.

    Parameters
    ----------
    probed : bool
        Whether the second table may be looked up elsewhere, and entries are told.

    Members
    -------
    pair : :py:`In(16)`
        Bytes, that of the first table in the low bits.
    write : :py:`In(PairWrite())`
        Words to write.
    sum : :py:`Out(signed(32))`
        Sum of the two entries.
    probe : :py:`In(8)`, probing : :py:`In(1)`
        Entry of the second table to look up instead of that of the byte, if ``probing`` is set; where `probed`.
    entries : :py:`Out(ArrayLayout(32, 2))`
        The two entries, a cycle before their sum; where `probed`.
    """

    #: Cycles from bytes to their sum: memory, register, and adder.
    LATENCY = 3

    def __init__(self, probed: bool = False):
        self._probed = probed
        members = {"pair": In(16), "write": In(PairWrite()), "sum": Out(signed(32))}
        if probed:
            members |= {"probe": In(8), "probing": In(1), "entries": Out(data.ArrayLayout(32, 2))}
        super().__init__(members)

    def elaborate(self, platform):
        """Build the two tables and the adder."""
        m = Module()

        entries = []
        for table in range(2):
            memory = Memory(shape=unsigned(32), depth=ENTRIES, init=[], attrs={"no_rw_check": 1, "ram_style": "block"})
            m.submodules[f"table_{table}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(self.write.en[table]),
                write.addr.eq(self.write.entry[table]),
                write.data.eq(self.write.data[table]),
                read.addr.eq(self.pair.word_select(table, 8)),
            ]
            if self._probed and table == 1:
                m.d.comb += read.addr.eq(Mux(self.probing, self.probe, self.pair.word_select(table, 8)))
            entries.append(delay(m, read.data, 1, f"entry_{table}", reset_less=True))
        m.d.sync += self.sum.eq(entries[0] + entries[1])
        if self._probed:
            m.d.comb += [told.eq(entry) for told, entry in zip(self.entries, entries, strict=True)]

        return m
