"""What takes the sums of the array back to the global buffer."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.fifo import StreamFIFO
from .buffer import line_write_layout
from .feeders import PSUM_COUNTS
from .row import ArrayShape
from .walk import Walk, walk_layout

__all__ = ["PsumDrain"]


class PsumDrain(wiring.Component):
    """Asks the array for the sums of passes, beat by beat, and writes them to the buffer.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    lines : int
        Lines of the buffer.

    Members
    -------
    i : In(stream.Signature(walk_layout(ceil_log2(lines), PSUM_COUNTS)))
        Walks of passes: loops over ofmap rows (the column tag), filter sets (the row tag), beats, windows, ifmaps.
    wants, beats : Out(stream.Signature(shape.tag)), In(stream.Signature(beat_layout))
        To and from the array.
    result : Out(stream.Signature(line_write_layout(lines, width)))
        Write port of the buffer.
    written, ended : Out(1)
        A line has been written; it was the last one of its pass.
    words : Out(range(shape.psum_lanes + 1))
        Sums that are written in this cycle.
    """

    def __init__(self, shape: ArrayShape, lines: int):
        self._shape = shape
        self._lines = lines
        self._width = shape.psum_lanes * shape.psum.width
        self._walk = Walk(ceil_log2(lines), PSUM_COUNTS)
        super().__init__({
            "i": In(stream.Signature(walk_layout(ceil_log2(lines), PSUM_COUNTS))),
            "wants": Out(stream.Signature(shape.tag)),
            "beats": In(stream.Signature(shape.networks["psums"])),
            "result": Out(stream.Signature(line_write_layout(lines, self._width))),
            "written": Out(1),
            "ended": Out(1),
            "words": Out(range(shape.psum_lanes + 1)),
        })

    def elaborate(self, platform):
        """Build the walk, and the queue of addresses of beats to come."""
        m = Module()

        place_shape = data.StructLayout({"address": ceil_log2(self._lines), "last": 1})
        m.submodules.walk = walk = self._walk
        m.submodules.places = places = StreamFIFO(place_shape, 4)
        place = walk.o.payload
        beat = self.beats.payload
        wiring.connect(m, wiring.flipped(self.i), walk.i)
        m.d.comb += [
            self.wants.valid.eq(walk.o.valid & places.i.ready),
            self.wants.payload.row.eq(place.index_1),
            self.wants.payload.col.eq(place.index_0),
            places.i.valid.eq(walk.o.valid & self.wants.ready),
            places.i.payload.address.eq(place.address),
            places.i.payload.last.eq(place.last),
            walk.o.ready.eq(self.wants.ready & places.i.ready),
            self.result.valid.eq(self.beats.valid & places.o.valid),
            self.result.payload.address.eq(places.o.payload.address),
            self.result.payload.data.eq(beat.words),
            self.beats.ready.eq(self.result.ready & places.o.valid),
            places.o.ready.eq(self.result.ready & self.beats.valid),
            self.written.eq(self.result.valid & self.result.ready),
            self.ended.eq(self.written & places.o.payload.last),
            self.words.eq(Mux(self.written, beat.last + 1, 0)),
        ]
        size = self._shape.psum.width // 8
        for lane in range(self._shape.psum_lanes):
            m.d.comb += self.result.payload.mask.word_select(lane, size).eq(Mux(lane <= beat.last, ~0, 0))

        return m
