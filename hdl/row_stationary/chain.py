"""Sums of PEs above one another: the psum scratchpad of a PE and its adder."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.arithmetic import Arithmetic
from ..blocks.fifo import StreamFIFO
from .beats import Packer, Unpacker, beat_layout
from .mac import window_sum_layout
from .scratchpad import QueueScratchpad

__all__ = ["PsumChain"]


class PsumChain(wiring.Component):
    """Adds the sums of a PE to those of the PE below, or of the network, and hands them up or out.

    With ``maximum`` it hands on the greater of the two instead. Sums wait in the psum scratchpad until those to add to
    have come; a sum leaves every cycle.

    Parameters
    ----------
    arithmetic : Arithmetic
        What sums are.
    psum_words : int
        Words of the scratchpad.
    psum_lanes : int
        Sums of a beat on the network.

    Members
    -------
    reserve : In(1)
        A sum is going to come.
    room : Out(1)
        There is room for another sum.
    sums : In(stream.Signature(window_sum_layout(psum), always_ready=True))
        Sums of the PE, reserved before.
    bottom, top, maximum : In(1)
        The PE is the first, and the last, of a chain; sums are maxima. Constant while it works.
    psums, below : In(stream.Signature(beat_layout(psum, psum_lanes))), In(stream.Signature(psum))
        Sums to add to: from the network at the bottom of a chain, else from the PE below. Beats of a window
        hold nothing of the next one.
    above, out : Out(stream.Signature(psum)), Out(stream.Signature(beat_layout(psum, psum_lanes)))
        Sums for the PE above or, at the top of a chain, for the network, beats likewise.
    idle : Out(1)
        No sum is waiting.
    """

    def __init__(self, arithmetic: Arithmetic, psum_words: int, psum_lanes: int):
        psum = arithmetic.accumulator
        self._arithmetic = arithmetic
        self._psum = psum
        self._psum_words = psum_words
        self._lanes = psum_lanes
        beats = stream.Signature(beat_layout(psum, psum_lanes))
        super().__init__({
            "reserve": In(1),
            "room": Out(1),
            "sums": In(stream.Signature(window_sum_layout(psum), always_ready=True)),
            "bottom": In(1),
            "top": In(1),
            "maximum": In(1),
            "psums": In(beats),
            "below": In(stream.Signature(psum)),
            "above": Out(stream.Signature(psum)),
            "out": Out(beats),
            "idle": Out(1),
        })

    def elaborate(self, platform):
        """Build the scratchpad, the adder and the way out."""
        m = Module()

        m.submodules.scratchpad = scratchpad = QueueScratchpad(window_sum_layout(self._psum), self._psum_words)
        m.submodules.unpacker = unpacker = Unpacker(self._psum, self._lanes)
        m.submodules.packer = packer = Packer(self._psum, self._lanes)
        wiring.connect(m, wiring.flipped(self.psums), unpacker.i)
        wiring.connect(m, packer.o, wiring.flipped(self.out))

        # The queue's `ready` comes from a register: what leaves a PE doesn't depend on all those above it.
        result = data.StructLayout({"sum": self._psum, "end": 1})
        m.submodules.results = results = StreamFIFO(result, 2)
        own = scratchpad.word
        other = Signal(self._psum)
        alone = Signal()
        waiting = Signal()
        added = Signal()
        wiring.connect(m, wiring.flipped(self.sums), scratchpad.i)
        m.d.comb += [
            alone.eq(self.bottom & own.fresh),
            # No output depends on an input of the same cycle, so PEs above one another are no long path.
            waiting.eq(scratchpad.some & results.i.ready),
            added.eq(waiting & (alone | Mux(self.bottom, unpacker.o.valid, self.below.valid))),
            scratchpad.reserve.eq(self.reserve),
            scratchpad.take.eq(added),
            unpacker.o.ready.eq(waiting & self.bottom & ~alone),
            self.below.ready.eq(waiting & ~self.bottom),
            results.i.valid.eq(added),
            other.eq(Mux(self.bottom, unpacker.o.payload, self.below.payload)),
            results.i.payload.sum.eq(self._arithmetic.combine(m, own.sum, other, alone, self.maximum)),
            results.i.payload.end.eq(own.end),
            packer.i.valid.eq(results.o.valid & self.top),
            packer.i.payload.word.eq(results.o.payload.sum),
            packer.i.payload.end.eq(results.o.payload.end),
            self.above.valid.eq(results.o.valid & ~self.top),
            self.above.payload.eq(results.o.payload.sum),
            results.o.ready.eq(Mux(self.top, packer.i.ready, self.above.ready)),
            self.room.eq(scratchpad.room),
            self.idle.eq(scratchpad.empty & ~results.o.valid & ~packer.o.valid),
        ]

        return m
