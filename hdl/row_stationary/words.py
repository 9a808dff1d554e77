"""Filters that stand in the filter buffer as a matrix, and are sent word by word."""

from amaranth import *
from amaranth.lib import data, stream
from amaranth.lib.wiring import In

from .feeders import FILTER_COUNTS, LAST_BITS, Feeder, operand_layout, word_of
from .row import ArrayShape
from .walk import Walk, walk_layout

__all__ = ["WORD_BITS", "WORD_COUNTS", "WordFilterFeeder"]

#: Bits of the address of a word of the filter buffer, and of the counts of its walk: sets of a chain, chains, channels,
#: filters.
WORD_BITS, WORD_COUNTS = 20, (8, 8, 8, 8)

#: Bits of the number of a word in a line.
_LANE_BITS = 3


class WordFilterFeeder(Feeder):
    """Reads the filters of passes as :class:`.feeders.FilterFeeder` does, or a word a cycle from a matrix.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array, whose operands have 8 bits.
    lines, width : int
        Lines of the filter buffer, and bits of a line.

    Members
    -------
    i : In(stream.Signature(StructLayout({..., "by_word": 1, "by_line": 1, "words": walk_layout(20, WORD_COUNTS)})))
        Passes, with the fields of :class:`.feeders.FilterFeeder`. With ``by_word``, ``words`` counts instead: a walk
        over words, whose loops are sets of channels of a chain and chains, which make the row tag, channels and
        filters. With ``by_line``, each word is the first of a line, of which all are sent.
    how : In(operand_layout())
        How operands are read. Constant while walks last.
    port, o, read
        See :class:`.feeders.Feeder`.
    """

    def __init__(self, shape: ArrayShape, lines: int, width: int):
        counts = dict(zip(("rows", "sets", "beats"), FILTER_COUNTS, strict=True))
        self._words = Walk(WORD_BITS, WORD_COUNTS)
        item = data.StructLayout({"base": range(lines), "last": LAST_BITS} | counts | {
            "by_word": 1, "by_line": 1, "words": walk_layout(WORD_BITS, WORD_COUNTS)})
        along = {"last": LAST_BITS, "by_word": 1, "lane": _LANE_BITS}
        super().__init__(shape, "filters", lines, width, Walk(1, FILTER_COUNTS), along, {
            "i": In(stream.Signature(item)), "how": In(operand_layout())})

    def elaborate(self, platform):
        """Build both walks, of which one is at work at a time, and the words of beats."""
        m = Module()

        walk, words, reader, item = self._walk, self._words, self._reader, self.i.payload
        m.submodules.words = words
        place, word = walk.o.payload, words.o.payload
        begun, step = Signal(), Signal()
        address = Signal.like(item.base)
        set_, sets, by_line = Signal(8), Signal(8), Signal()
        self._connect(m, Mux(words.o.valid, set_, place.index_1), Mux(words.o.valid, 0, place.index_0))
        last = self._count(m, begun, item.beats, item.last, self._shape.filter_lanes)
        m.d.comb += [
            self.i.ready.eq(walk.i.ready & words.i.ready),
            begun.eq(self.i.valid & self.i.ready),
            walk.i.valid.eq(begun & ~item.by_word),
            walk.i.payload.count_0.eq(item.rows),
            walk.i.payload.count_1.eq(item.sets),
            walk.i.payload.count_2.eq(item.beats),
            words.i.valid.eq(begun & item.by_word),
            words.i.payload.eq(item.words),
            step.eq(words.o.valid & words.o.ready),
            words.o.ready.eq(reader.i.ready),
            reader.i.valid.eq(walk.o.valid | words.o.valid),
            reader.i.payload.address.eq(Mux(words.o.valid, word.address >> _LANE_BITS, address)),
            reader.i.payload.along.last.eq(Mux(words.o.valid, Mux(by_line, self._shape.filter_lanes - 1, 0), last)),
            reader.i.payload.along.by_word.eq(words.o.valid & ~by_line),
            reader.i.payload.along.lane.eq(word.address[:_LANE_BITS]),
            self.read.eq(walk.o.valid & walk.o.ready & place.last | step & word.last),
        ]
        with m.If(begun):
            m.d.sync += [address.eq(item.base), set_.eq(0), sets.eq(item.sets), by_line.eq(item.by_line)]
        with m.Elif(walk.o.valid & walk.o.ready):
            m.d.sync += address.eq(address + 1)
        with m.Elif(step):
            m.d.sync += set_.eq(Mux(set_ == sets, 0, set_ + 1))
        self._give_words(m)

        return m

    def _give_words(self, m):
        """Give the words of a line, or the one that was meant as the first."""
        arithmetic, item = self._shape.arithmetic, self._reader.o.payload
        for lane, word in enumerate(self._out.i.payload.data.words):
            operand = item.line.word_select(lane, arithmetic.bits)
            if lane == 0:
                operand = Mux(item.along.by_word, item.line.word_select(item.along.lane, arithmetic.bits), operand)
            m.d.comb += word.eq(word_of(arithmetic, operand, self.how))
