"""What takes the sums of the array back to the global buffer."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.fifo import StreamFIFO
from ..post.sums import ShiftWrite
from .buffer import line_write_layout
from .commands import SHIFT_BITS
from .feeders import PSUM_COUNTS
from .join import SumJoin
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
    shift_rows : int
        Rows of sums that have a shift, a power of two; 0 if sums join none.

    Members
    -------
    i : In(stream.Signature(walk_layout(ceil_log2(lines), PSUM_COUNTS)))
        Walks of passes: loops over ofmap rows (the column tag), filter sets (the row tag), beats, windows, ifmaps.
        With `shift_rows`, ``walk``, whether sums ``join`` those that stand there, as their ``low`` part, and
        ``shift_base``, the row of the first window.
    old, shifts : In(stream.Signature(ArrayLayout(psum, psum_lanes))), In(ShiftWrite(shift_rows))
        With `shift_rows`, beats of what stands there, of passes that join it, and shifts of rows.
    wants, beats : Out(stream.Signature(shape.tag)), In(stream.Signature(beat_layout))
        To and from the array.
    result : Out(stream.Signature(line_write_layout(lines, width)))
        Write port of the buffer.
    written, ended : Out(1)
        A line has been written; it was the last one of its pass.
    words : Out(range(shape.psum_lanes + 1))
        Sums that are written in this cycle.
    """

    def __init__(self, shape: ArrayShape, lines: int, shift_rows: int = 0):
        self._shape = shape
        self._lines = lines
        self._width = shape.psum_lanes * shape.psum.width
        self._walk = Walk(ceil_log2(lines), PSUM_COUNTS)
        self._join = SumJoin(shape, ceil_log2(lines), shift_rows) if shift_rows else None
        item = walk_layout(ceil_log2(lines), PSUM_COUNTS)
        members: dict[str, Any] = {}
        if self._join is not None:
            item = data.StructLayout({"walk": item, "join": 1, "low": 1, "shift_base": SHIFT_BITS})
            words = data.ArrayLayout(shape.psum, shape.psum_lanes)
            members = {"old": In(stream.Signature(words)), "shifts": In(ShiftWrite(shift_rows))}
        super().__init__({
            **members,
            "i": In(stream.Signature(item)),
            "wants": Out(stream.Signature(shape.tag)),
            "beats": In(stream.Signature(shape.networks["psums"])),
            "result": Out(stream.Signature(line_write_layout(lines, self._width))),
            "written": Out(1),
            "ended": Out(1),
            "words": Out(range(shape.psum_lanes + 1)),
        })

    def elaborate(self, platform):
        """Build the walk, and the queue of addresses of beats to come, which sums may join on their way."""
        m = Module()

        row = {} if self._join is None else {"join": 1, "low": 1, "row": len(self._join.i.payload.row)}
        place_shape = data.StructLayout({"address": ceil_log2(self._lines), "last": 1} | row)
        m.submodules.walk = walk = self._walk
        m.submodules.places = places = StreamFIFO(place_shape, 4)
        place = walk.o.payload
        if self._join is None:
            wiring.connect(m, wiring.flipped(self.i), walk.i)
            beat, known = self.beats.payload, places.o.payload
            valid, ready = self.beats.valid & places.o.valid, self.result.ready
            address, words, last, end = known.address, beat.words, known.last, beat.last
        else:
            sums = self._joined(m, places)
            valid, ready = sums.valid, self._join.i.ready
            address, words, last, end = (sums.payload[name] for name in ("address", "words", "last", "end"))
        m.d.comb += [
            self.wants.valid.eq(walk.o.valid & places.i.ready),
            self.wants.payload.row.eq(place.index_1),
            self.wants.payload.col.eq(place.index_0),
            places.i.valid.eq(walk.o.valid & self.wants.ready),
            places.i.payload.address.eq(place.address),
            places.i.payload.last.eq(place.last),
            walk.o.ready.eq(self.wants.ready & places.i.ready),
            self.result.valid.eq(valid),
            self.result.payload.address.eq(address),
            self.result.payload.data.eq(words),
            self.beats.ready.eq(ready & places.o.valid),
            places.o.ready.eq(ready & self.beats.valid),
            self.written.eq(self.result.valid & self.result.ready),
            self.ended.eq(self.written & last),
            self.words.eq(Mux(self.written, end + 1, 0)),
        ]
        size = self._shape.psum.width // 8
        for lane in range(self._shape.psum_lanes):
            m.d.comb += self.result.payload.mask.word_select(lane, size).eq(Mux(lane <= end, ~0, 0))

        return m

    def _joined(self, m, places):
        """Let beats join the sums in their places, where their pass does; return the stream of what is written."""
        join, walk, item = self._join, self._walk, self.i.payload
        m.submodules.join = join
        joins, low, base = Signal(), Signal(), Signal(len(join.i.payload.row))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [joins.eq(item.join), low.eq(item.low), base.eq(item.shift_base)]
        beat, known = self.beats.payload, places.o.payload
        wiring.connect(m, wiring.flipped(self.old), join.old)
        wiring.connect(m, wiring.flipped(self.shifts), join.shifts)
        m.d.comb += [
            walk.i.valid.eq(self.i.valid),
            walk.i.payload.eq(item.walk),
            self.i.ready.eq(walk.i.ready),
            places.i.payload.join.eq(joins),
            places.i.payload.low.eq(low),
            places.i.payload.row.eq(base + walk.o.payload.index_3),
            join.i.valid.eq(self.beats.valid & places.o.valid),
            *(join.i.payload[name].eq(known[name]) for name in ("address", "last", "join", "low", "row")),
            join.i.payload.end.eq(beat.last),
            join.i.payload.words.eq(beat.words),
            join.o.ready.eq(self.result.ready),
        ]
        return join.o
