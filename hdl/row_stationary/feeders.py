"""What feeds the array's networks from the buffers, and what takes its sums back."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..fifo import StreamFIFO
from ..stream_buffer import StreamRegister
from .buffer import LineReader, ReadLines, line_write_layout
from .row import ArrayShape
from .walk import Walk, walk_layout

__all__ = ["FILTER_COUNTS", "IFMAP_COUNTS", "PSUM_COUNTS", "FilterFeeder", "IfmapFeeder", "PsumDrain", "PsumFeeder",
           "SetupFeeder", "operand_layout", "psum_walk_layout"]

#: Widths of the counts of each walk, innermost loop first.
IFMAP_COUNTS = (8, 8, 8, 12, 8)
FILTER_COUNTS = (8, 8, 8)
PSUM_COUNTS = (8, 8, 8, 12, 8)


def operand_layout() -> data.StructLayout:
    """Layout of how operands are read: as ``unsigned`` ones or not, and the ``zero_point`` that they lose."""
    return data.StructLayout({"unsigned": 1, "zero_point": signed(9)})


def psum_walk_layout(lines: int) -> data.StructLayout:
    """Layout of a walk over psums: ``walk``, ``last`` (words of a window's last beat, less one), ``fresh``."""
    return data.StructLayout({"walk": walk_layout(ceil_log2(lines), PSUM_COUNTS), "last": 4, "fresh": 1})


def _word(shape, operand, how):
    """Word that an operand stands for."""
    if shape.word_bits == len(operand):
        return operand.as_signed()
    return (Cat(operand, ~how.unsigned & operand[-1]).as_signed() - how.zero_point)[:shape.word_bits].as_signed()


class IfmapFeeder(wiring.Component):
    """Reads the operands of passes and sends each to the PEs with its tag.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    operand_bits : int
        Width of an operand in the buffer.
    lines, width : int
        Lines of the buffer, and bits of a line.

    Members
    -------
    i : In(stream.Signature(walk_layout(20, IFMAP_COUNTS)))
        Walks over operands; the second loop is the column tag and the third the row tag.
    how : In(operand_layout())
        How operands are read. Constant while walks last.
    port : Out(ReadLines(lines, width))
        Port of the buffer.
    o : Out(stream.Signature(shape.datum("ifmap")))
        Words with their tags.
    """

    def __init__(self, shape: ArrayShape, operand_bits: int, lines: int, width: int):
        self._shape = shape
        self._operand_bits = operand_bits
        self._parameters = lines, width
        super().__init__({
            "i": In(stream.Signature(walk_layout(20, IFMAP_COUNTS))),
            "how": In(operand_layout()),
            "port": Out(ReadLines(lines, width)),
            "o": Out(stream.Signature(shape.datum("ifmap"))),
        })

    def elaborate(self, platform):
        """Build the walk, the reader and the selection of an operand."""
        m = Module()

        lines, width = self._parameters
        lane_bits = ceil_log2(width // self._operand_bits)
        along = data.StructLayout({"tag": self._shape.tag, "lane": lane_bits})
        m.submodules.walk = walk = Walk(20, IFMAP_COUNTS)
        m.submodules.reader = reader = LineReader(lines, width, along)
        m.submodules.out = out = StreamRegister(self._shape.datum("ifmap"))
        wiring.connect(m, wiring.flipped(self.i), walk.i)
        wiring.connect(m, reader.port, wiring.flipped(self.port))
        wiring.connect(m, out.o, wiring.flipped(self.o))
        place = walk.o.payload
        operand = reader.o.payload.line.word_select(reader.o.payload.along.lane, self._operand_bits)
        m.d.comb += [
            reader.i.valid.eq(walk.o.valid),
            reader.i.payload.address.eq(place.address >> lane_bits),
            reader.i.payload.along.lane.eq(place.address[:lane_bits]),
            reader.i.payload.along.tag.row.eq(place.index_2),
            reader.i.payload.along.tag.col.eq(place.index_1),
            walk.o.ready.eq(reader.i.ready),
            out.i.valid.eq(reader.o.valid),
            out.i.payload.tag.eq(reader.o.payload.along.tag),
            out.i.payload.data.eq(_word(self._shape, operand, self.how)),
            reader.o.ready.eq(out.i.ready),
        ]

        return m


class FilterFeeder(wiring.Component):
    """Reads the beats of filters of passes, one line after another, and sends each to the PEs with its tag.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    operand_bits : int
        Width of an operand in the buffer.
    lines, width : int
        Lines of the filter buffer, and bits of a line.

    Members
    -------
    i : In(stream.Signature(StructLayout({"walk": walk_layout(...), "last": 4})))
        Walks; the first loop is the column tag and the second the row tag. Only the first address counts. ``last``
        is the number of words of the last beat of each tag, less one.
    how : In(operand_layout())
        How operands are read. Constant while walks last.
    port : Out(ReadLines(lines, width))
        Port of the buffer.
    o : Out(stream.Signature(shape.datum("filters")))
        Beats with their tags.
    """

    def __init__(self, shape: ArrayShape, operand_bits: int, lines: int, width: int):
        self._shape = shape
        self._operand_bits = operand_bits
        self._parameters = lines, width
        self._walk = walk_layout(ceil_log2(lines), FILTER_COUNTS)
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"walk": self._walk, "last": 4}))),
            "how": In(operand_layout()),
            "port": Out(ReadLines(lines, width)),
            "o": Out(stream.Signature(shape.datum("filters"))),
        })

    def elaborate(self, platform):
        """Build the walk, the linear address and the reader."""
        m = Module()

        lines, width = self._parameters
        along = data.StructLayout({"tag": self._shape.tag, "last": 4})
        m.submodules.walk = walk = Walk(ceil_log2(lines), FILTER_COUNTS)
        m.submodules.reader = reader = LineReader(lines, width, along)
        m.submodules.out = out = StreamRegister(self._shape.datum("filters"))
        wiring.connect(m, reader.port, wiring.flipped(self.port))
        wiring.connect(m, out.o, wiring.flipped(self.o))

        last = Signal(4)
        last_beat = Signal.like(walk.i.payload.count_2)
        address = Signal(ceil_log2(lines))
        with m.If(walk.i.valid & walk.i.ready):
            m.d.sync += [
                last.eq(self.i.payload.last),
                last_beat.eq(self.i.payload.walk.count_2),
                address.eq(self.i.payload.walk.base),
            ]
        with m.Elif(walk.o.valid & walk.o.ready):
            m.d.sync += address.eq(address + 1)
        place = walk.o.payload
        full = width // self._operand_bits - 1
        operands = reader.o.payload.line
        m.d.comb += [
            walk.i.valid.eq(self.i.valid),
            walk.i.payload.eq(self.i.payload.walk),
            self.i.ready.eq(walk.i.ready),
            reader.i.valid.eq(walk.o.valid),
            reader.i.payload.address.eq(address),
            reader.i.payload.along.tag.row.eq(place.index_1),
            reader.i.payload.along.tag.col.eq(place.index_0),
            reader.i.payload.along.last.eq(Mux(place.index_2 == last_beat, last, full)),
            walk.o.ready.eq(reader.i.ready),
            out.i.valid.eq(reader.o.valid),
            out.i.payload.tag.eq(reader.o.payload.along.tag),
            out.i.payload.data.last.eq(reader.o.payload.along.last),
            reader.o.ready.eq(out.i.ready),
        ]
        m.d.comb += [
            out.i.payload.data.words[lane].eq(
                _word(self._shape, operands.word_select(lane, self._operand_bits), self.how))
            for lane in range(self._shape.filter_lanes)
        ]

        return m


class PsumFeeder(wiring.Component):
    """Reads the psums of passes and sends each beat to the chain with its tag.

    A line is read only when the drain has written it, if the pass before writes it.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    lines : int
        Lines of the buffer.

    Members
    -------
    i : In(stream.Signature(psum_walk_layout(lines)))
        Walks of passes, as for :class:`PsumDrain`; one of ``fresh`` sums reads nothing.
    written, ended : In(1)
        The drain has written a line; it was the last one of its pass.
    port : Out(ReadLines)
        Port of the buffer.
    o : Out(stream.Signature(shape.datum("psums")))
        Beats with their tags.
    """

    def __init__(self, shape: ArrayShape, lines: int):
        self._shape = shape
        self._lines = lines
        self._width = shape.psum_lanes * shape.psum_bits
        super().__init__({
            "i": In(stream.Signature(psum_walk_layout(lines))),
            "written": In(1),
            "ended": In(1),
            "port": Out(ReadLines(lines, self._width)),
            "o": Out(stream.Signature(shape.datum("psums"))),
        })

    def elaborate(self, platform):
        """Build the walk, the reader, and the count of what the drain has written."""
        m = Module()

        along = data.StructLayout({"tag": self._shape.tag, "last": 4})
        m.submodules.walk = walk = Walk(ceil_log2(self._lines), PSUM_COUNTS)
        m.submodules.reader = reader = LineReader(self._lines, self._width, along)
        m.submodules.out = out = StreamRegister(self._shape.datum("psums"))
        wiring.connect(m, reader.port, wiring.flipped(self.port))
        wiring.connect(m, out.o, wiring.flipped(self.o))

        # Passes of which the reads have begun, less those that have been written: two if the pass before is
        # still being written, and more if not even that.
        ahead = Signal(4)
        begun = Signal()
        last = Signal(4)
        last_beat = Signal.like(walk.i.payload.count_2)
        lines_read = Signal(24)
        lines_written = Signal(24)
        allowed = Signal()
        place = walk.o.payload
        m.d.comb += [
            begun.eq(self.i.valid & walk.i.ready & (ahead != 15)),
            walk.i.valid.eq(begun & ~self.i.payload.fresh),
            walk.i.payload.eq(self.i.payload.walk),
            self.i.ready.eq(begun),
            allowed.eq((ahead <= 1) | (ahead == 2) & (lines_read < lines_written)),
            reader.i.valid.eq(walk.o.valid & allowed),
            reader.i.payload.address.eq(place.address),
            reader.i.payload.along.tag.row.eq(place.index_1),
            reader.i.payload.along.tag.col.eq(place.index_0),
            reader.i.payload.along.last.eq(Mux(place.index_2 == last_beat, last, self._shape.psum_lanes - 1)),
            walk.o.ready.eq(reader.i.ready & allowed),
            out.i.valid.eq(reader.o.valid),
            out.i.payload.tag.eq(reader.o.payload.along.tag),
            out.i.payload.data.words.eq(reader.o.payload.line),
            out.i.payload.data.last.eq(reader.o.payload.along.last),
            reader.o.ready.eq(out.i.ready),
        ]
        m.d.sync += ahead.eq(ahead + begun - self.ended)
        with m.If(begun):
            m.d.sync += [last.eq(self.i.payload.last), last_beat.eq(self.i.payload.walk.count_2), lines_read.eq(0)]
        with m.Elif(walk.o.valid & walk.o.ready):
            m.d.sync += lines_read.eq(lines_read + 1)
        with m.If(self.ended):
            m.d.sync += lines_written.eq(0)
        with m.Elif(self.written):
            m.d.sync += lines_written.eq(lines_written + 1)

        return m


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
    i : In(stream.Signature(psum_walk_layout(lines)))
        Walks of passes: loops over ofmap rows (the column tag), filter sets (the row tag), beats, windows, ifmaps.
    wants, beats : Out(stream.Signature(shape.tag)), In(stream.Signature(beat_layout))
        To and from the array.
    result : Out(stream.Signature(line_write_layout(lines, width)))
        Write port of the buffer.
    written, ended : Out(1)
        A line has been written; it was the last one of its pass.
    """

    def __init__(self, shape: ArrayShape, lines: int):
        self._shape = shape
        self._lines = lines
        self._width = shape.psum_lanes * shape.psum_bits
        super().__init__({
            "i": In(stream.Signature(psum_walk_layout(lines))),
            "wants": Out(stream.Signature(shape.tag)),
            "beats": In(stream.Signature(shape.networks["psums"])),
            "result": Out(stream.Signature(line_write_layout(lines, self._width))),
            "written": Out(1),
            "ended": Out(1),
        })

    def elaborate(self, platform):
        """Build the walk, and the queue of addresses of beats to come."""
        m = Module()

        place_shape = data.StructLayout({"address": ceil_log2(self._lines), "last": 1})
        m.submodules.walk = walk = Walk(ceil_log2(self._lines), PSUM_COUNTS)
        m.submodules.places = places = StreamFIFO(place_shape, 4)
        place = walk.o.payload
        beat = self.beats.payload
        m.d.comb += [
            walk.i.valid.eq(self.i.valid),
            walk.i.payload.eq(self.i.payload.walk),
            self.i.ready.eq(walk.i.ready),
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
        ]
        size = self._shape.psum_bits // 8
        for lane in range(self._shape.psum_lanes):
            m.d.comb += self.result.payload.mask.word_select(lane, size).eq(Mux(lane <= beat.last, ~0, 0))

        return m


class SetupFeeder(wiring.Component):
    """Reads the setups of all PEs from the filter buffer.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    lines, width : int
        Lines of the filter buffer, and bits of a line.

    Members
    -------
    i : In(stream.Signature(range(lines)))
        First lines.
    port : Out(ReadLines(lines, width))
        Port of the buffer.
    o : Out(stream.Signature(shape.setup, always_ready=True))
        Setups: those of one address follow without others in between.
    done : Out(1)
        The last setup is leaving.
    """

    def __init__(self, shape: ArrayShape, lines: int, width: int):
        self._shape = shape
        self._parameters = lines, width
        super().__init__({
            "i": In(stream.Signature(range(lines))),
            "port": Out(ReadLines(lines, width)),
            "o": Out(stream.Signature(shape.setup, always_ready=True)),
            "done": Out(1),
        })

    def elaborate(self, platform):
        """Build the walk over lines, and the register in which they become setups."""
        m = Module()

        lines, width = self._parameters
        bits = Shape.cast(self._shape.setup).width
        parts = -(-bits // width)
        along = data.StructLayout({"end": 1, "last": 1})
        m.submodules.reader = reader = LineReader(lines, width, along)
        wiring.connect(m, reader.port, wiring.flipped(self.port))
        count = parts * self._shape.rows * self._shape.cols
        busy = Signal()
        address = Signal(range(lines))
        left = Signal(range(count))
        part = Signal(range(max(2, parts)))
        with m.If(self.i.ready & self.i.valid):
            m.d.sync += [busy.eq(1), address.eq(self.i.payload), left.eq(count - 1), part.eq(0)]
        with m.Elif(busy & reader.i.ready):
            m.d.sync += [
                address.eq(address + 1),
                left.eq(left - 1),
                part.eq(Mux(part == parts - 1, 0, part + 1)),
                busy.eq(left != 0),
            ]
        held = Signal(parts * width)
        setup = Signal(parts * width)
        item = reader.o.payload
        m.d.comb += [
            self.i.ready.eq(~busy),
            reader.i.valid.eq(busy),
            reader.i.payload.address.eq(address),
            reader.i.payload.along.end.eq(part == parts - 1),
            reader.i.payload.along.last.eq(left == 0),
            reader.o.ready.eq(1),
            setup.eq(Cat(held[width:], item.line)),
            self.o.payload.eq(setup[:bits]),
            self.o.valid.eq(reader.o.valid & item.along.end),
            self.done.eq(reader.o.valid & item.along.last),
        ]
        with m.If(reader.o.valid):
            m.d.sync += held.eq(setup)

        return m
