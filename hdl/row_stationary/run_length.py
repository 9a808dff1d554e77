"""Run-length code between feature maps on chip and in DRAM (JSSC 2017, section V-C).

The format is defined by :mod:`pearray.golden.run_length`: 64-bit code words of three pairs (a run of 5 bits, a
level of 16) and a mark on the last one.
"""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CODE_LAYOUT", "RunLengthDecoder", "RunLengthEncoder", "word_layout"]

_PAIRS = 3
_LONGEST = 31

#: Layout of a code word.
CODE_LAYOUT = data.StructLayout({
    "pairs": data.ArrayLayout(data.StructLayout({"run": 5, "level": 16}), _PAIRS),
    "last": 1,
})


def word_layout(lanes: int = 1) -> data.StructLayout:
    """Layout of a word of a feature map, and whether it is the last one of its code.

    Where `lanes` words may come at once, they are ``zeros`` zeros, the word, and ``after`` more zeros. Behind a word
    that is zero itself, or the last one, come no more.
    """
    fields: dict[str, Any] = {"word": 16, "last": 1}
    return data.StructLayout(fields | ({"zeros": range(lanes), "after": range(lanes)} if lanes > 1 else {}))


class RunLengthEncoder(wiring.Component):
    """Encodes words: takes one a cycle, except while a code word that is full has not been taken.

    Parameters
    ----------
    lanes : int
        Words of which at most one is not zero that may come at once, at most 32. If the zeros before a word are more
        than are left of the longest run, it takes a cycle more.

    Members
    -------
    i : In(stream.Signature(word_layout(lanes)))
        Words.
    o : Out(stream.Signature(CODE_LAYOUT))
        Code words; pairs behind the last one are zero.
    """

    def __init__(self, lanes: int = 1):
        self._lanes = lanes
        super().__init__({
            "i": In(stream.Signature(word_layout(lanes))),
            "o": Out(stream.Signature(CODE_LAYOUT)),
        })

    def elaborate(self, platform):
        """Build the count of zeros and the code word."""
        m = Module()

        run = Signal(5)
        pair = Signal(range(_PAIRS))
        if self._lanes > 1:
            self._several(m, run, pair)
        else:
            self._one(m, run, pair)

        return m

    def _one(self, m, run, pair):
        """Take a word in a cycle."""
        word = self.i.payload
        code = self.o.payload
        ends = Signal()
        m.d.comb += [
            self.i.ready.eq(~self.o.valid | self.o.ready),
            # A level ends a run: a word that is not zero, the last word, or one more zero than a run can be.
            ends.eq((word.word != 0) | word.last | (run == _LONGEST)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            with m.If(~ends):
                m.d.sync += run.eq(run + 1)
            with m.Else():
                full = (pair == _PAIRS - 1) | word.last
                with m.If(pair == 0):
                    m.d.sync += code.eq(0)
                m.d.sync += [
                    run.eq(0),
                    code.pairs[pair].run.eq(run),
                    code.pairs[pair].level.eq(word.word),
                    code.last.eq(word.last),
                    pair.eq(Mux(full, 0, pair + 1)),
                    self.o.valid.eq(full),
                ]

    def _several(self, m, run, pair):
        """Take a word with the zeros around it in a cycle, or first a longest run of zeros with one more."""
        word = self.i.payload
        code = self.o.payload
        counted = Signal()
        zeros = Signal(6)
        free = Signal()
        ends = Signal()
        spills = Signal()
        full = Signal()
        m.d.comb += [
            free.eq(~self.o.valid | self.o.ready),
            zeros.eq(run + Mux(counted, 0, word.zeros)),
            spills.eq(zeros > _LONGEST),
            ends.eq((word.word != 0) | word.last | (zeros == _LONGEST)),
            full.eq((pair == _PAIRS - 1) | word.last & ~spills),
            self.i.ready.eq(free & ~spills),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & free):
            m.d.sync += counted.eq(spills)
            with m.If(~spills & ~ends):
                m.d.sync += run.eq(zeros + 1)
            with m.Else():
                with m.If(pair == 0):
                    m.d.sync += code.eq(0)
                m.d.sync += [
                    run.eq(Mux(spills, zeros - (_LONGEST + 1), word.after)),
                    code.pairs[pair].run.eq(Mux(spills, _LONGEST, zeros)),
                    code.pairs[pair].level.eq(Mux(spills, 0, word.word)),
                    code.last.eq(word.last & ~spills),
                    pair.eq(Mux(full, 0, pair + 1)),
                    self.o.valid.eq(full),
                ]


class RunLengthDecoder(wiring.Component):
    """Decodes code words: gives a word a cycle.

    Members
    -------
    i : In(stream.Signature(CODE_LAYOUT))
        Code words.
    o : Out(stream.Signature(word_layout()))
        Words. Behind the words that were encoded come a zero for each pair that the last code word has to spare:
        whoever knows how many words there are drops them. ``last`` marks the very last one.
    """

    i: In(stream.Signature(CODE_LAYOUT))
    o: Out(stream.Signature(word_layout()))

    def elaborate(self, platform):
        """Build the code word and the count of its zeros."""
        m = Module()

        code = Signal(CODE_LAYOUT)
        some = Signal()
        pair = Signal(range(_PAIRS))
        run = Signal(5)
        level = Signal()
        end = Signal()
        m.d.comb += [
            level.eq(run == code.pairs[0].run),
            end.eq(level & (pair == _PAIRS - 1)),
            self.o.valid.eq(some),
            self.o.payload.word.eq(Mux(level, code.pairs[0].level, 0)),
            self.o.payload.last.eq(end & code.last),
            self.i.ready.eq(~some | self.o.ready & end),
        ]
        with m.If(some & self.o.ready):
            m.d.sync += run.eq(Mux(level, 0, run + 1))
            with m.If(level):
                m.d.sync += [pair.eq(pair + 1), code.pairs[0].eq(code.pairs[1]), code.pairs[1].eq(code.pairs[2])]
        with m.If(self.i.ready):
            m.d.sync += [some.eq(self.i.valid), code.eq(self.i.payload), pair.eq(0)]

        return m
