"""Words to and from beats: buses carry several words at once, PEs take one a cycle.

Parameters of both components are those of :func:`beat_layout`.
"""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Packer", "Unpacker", "beat_layout"]


def beat_layout(shape, lanes: int) -> data.StructLayout:
    """Layout of a beat of words: ``words``, and ``last``, the number of the last word that counts.

    Parameters
    ----------
    shape : shape-like
        Shape of a word.
    lanes : int
        Words that a beat has room for.
    """
    return data.StructLayout({"words": data.ArrayLayout(shape, lanes), "last": range(max(2, lanes))})


class Unpacker(wiring.Component):
    """Takes beats apart: word 0 first, one a cycle, without idle cycles between beats.

    Members
    -------
    i, o : In(stream.Signature(beat_layout(shape, lanes))), Out(stream.Signature(shape))
        Beats, and their words.
    """

    def __init__(self, shape, lanes):
        self._lanes = lanes
        super().__init__({
            "i": In(stream.Signature(beat_layout(shape, lanes))),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform):
        """Build the register and its count."""
        m = Module()

        words = Signal.like(self.i.payload.words)
        left = Signal.like(self.i.payload.last)
        some = Signal()
        m.d.comb += [
            self.o.valid.eq(some),
            self.o.payload.eq(words[0]),
            self.i.ready.eq(~some | self.o.ready & (left == 0)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [some.eq(self.i.valid), words.eq(self.i.payload.words), left.eq(self.i.payload.last)]
        with m.Elif(self.o.ready):
            m.d.sync += left.eq(left - 1)
            m.d.sync += [words[lane].eq(words[lane + 1]) for lane in range(self._lanes - 1)]

        return m


class Packer(wiring.Component):
    """Puts words together: a beat leaves when it is full or its last word has come.

    Members
    -------
    i : In(stream.Signature(StructLayout({"word": shape, "end": 1})))
        Words; ``end`` marks one that nothing may follow in its beat.
    o : Out(stream.Signature(beat_layout(shape, lanes)))
        Beats; lanes behind ``last`` are not defined.
    """

    def __init__(self, shape, lanes):
        self._lanes = lanes
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"word": shape, "end": 1}))),
            "o": Out(stream.Signature(beat_layout(shape, lanes))),
        })

    def elaborate(self, platform):
        """Build the register and its count."""
        m = Module()

        at = Signal(range(max(2, self._lanes)))
        m.d.comb += self.i.ready.eq(~self.o.valid | self.o.ready)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            full = self.i.payload.end | (at == self._lanes - 1)
            m.d.sync += [
                self.o.payload.words[at].eq(self.i.payload.word),
                self.o.payload.last.eq(at),
                self.o.valid.eq(full),
                at.eq(Mux(full, 0, at + 1)),
            ]

        return m
