"""What feeds the array's networks from the buffers."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks.stream_buffer import StreamRegister
from .buffer import LineReader, ReadLines
from .row import ArrayShape
from .walk import Walk, walk_layout

__all__ = ["FILTER_COUNTS", "LAST_BITS", "PSUM_COUNTS", "Feeder", "FilterFeeder", "IfmapFeeder", "PsumFeeder",
           "operand_layout", "word_of"]

#: Widths of the counts of each walk, innermost loop first.
IFMAP_COUNTS = (8, 8, 8, 12, 8)
FILTER_COUNTS = (8, 8, 8)
PSUM_COUNTS = (8, 8, 8, 12, 8)

#: Width of the number of the last word of a beat.
LAST_BITS = 4


def operand_layout() -> data.StructLayout:
    """Layout of how operands are read: as ``unsigned`` ones or not, and the ``zero_point`` that they lose."""
    return data.StructLayout({"unsigned": 1, "zero_point": signed(9)})


def word_of(arithmetic, operand, how):
    """Word of an operand."""
    return arithmetic.prepare(operand, ~how.unsigned & operand[-1], how.zero_point)


class Feeder(wiring.Component):
    """What the feeders share: a walk over places, a reader of lines, and a register before the network.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    network : str
        Network that is fed.
    lines, width : int
        Lines of the buffer, and bits of a line.
    walk : Walk
        Walk over the places of a pass.
    along : mapping
        What goes with a place's address and comes with its line, beside the tag.
    members : mapping
        Ports besides those below.

    Members
    -------
    port : Out(ReadLines(lines, width))
        Port of the buffer.
    o : Out(stream.Signature(shape.datum(network)))
        Data with their tags.
    read : Out(1)
        The last line of a pass is read.
    """

    def __init__(self, shape: ArrayShape, network: str, lines: int, width: int, walk: Walk, along, members):
        self._shape = shape
        self._walk = walk
        self._reader = LineReader(lines, width, data.StructLayout({"tag": shape.tag} | along))
        self._out = StreamRegister(shape.datum(network))
        super().__init__({
            "port": Out(ReadLines(lines, width)),
            "o": Out(stream.Signature(shape.datum(network))),
            "read": Out(1),
        } | members)

    def _connect(self, m, row, col, allowed=1):
        """Connect the parts; ``row`` and ``col`` are the tag of the present place, ``allowed`` lets it be read."""
        m.submodules.walk = walk = self._walk
        m.submodules.reader = reader = self._reader
        m.submodules.out = out = self._out
        wiring.connect(m, reader.port, wiring.flipped(self.port))
        wiring.connect(m, out.o, wiring.flipped(self.o))
        m.d.comb += [
            reader.i.valid.eq(walk.o.valid & allowed),
            reader.i.payload.along.tag.row.eq(row),
            reader.i.payload.along.tag.col.eq(col),
            walk.o.ready.eq(reader.i.ready & allowed),
            self.read.eq(walk.o.valid & walk.o.ready & walk.o.payload.last),
            out.i.valid.eq(reader.o.valid),
            out.i.payload.tag.eq(reader.o.payload.along.tag),
            reader.o.ready.eq(out.i.ready),
        ]

    def _count(self, m, begun, count, last, lanes):
        """Number of the last word of the present beat: that of a whole one, or ``last`` in the last of ``count``.

        Beats are the walk's third loop; ``begun`` says when a walk with these values begins.
        """
        last_beat = Signal.like(count)
        last_word = Signal(LAST_BITS)
        result = Signal(LAST_BITS)
        with m.If(begun):
            m.d.sync += [last_beat.eq(count), last_word.eq(last)]
        m.d.comb += [
            result.eq(Mux(self._walk.o.payload.index_2 == last_beat, last_word, lanes - 1)),
            self._reader.i.payload.along.last.eq(result),
            self._out.i.payload.data.last.eq(self._reader.o.payload.along.last),
        ]
        return result


class IfmapFeeder(Feeder):
    """Reads the operands of passes and sends each to the PEs with its tag.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    lines, width : int
        Lines of the buffer, and bits of a line.
    signs : bool
        Whether a pass can say that its operands have no sign.

    Members
    -------
    i : In(stream.Signature(walk_layout(20, IFMAP_COUNTS)))
        Walks over operands; the second loop is the column tag and the third the row tag. With `signs`, ``walk``, and
        ``no_sign``.
    how : In(operand_layout())
        How operands are read. Constant while walks last.
    port, o, read
        See :class:`Feeder`.
    """

    def __init__(self, shape: ArrayShape, lines: int, width: int, signs: bool = False):
        self._lane_bits, self._signs = ceil_log2(width // shape.arithmetic.bits), signs
        item = walk_layout(20, IFMAP_COUNTS)
        sign = {"no_sign": 1} if signs else {}
        super().__init__(shape, "ifmap", lines, width, Walk(20, IFMAP_COUNTS), {"lane": self._lane_bits} | sign, {
            "i": In(stream.Signature(data.StructLayout({"walk": item} | sign) if signs else item)),
            "how": In(operand_layout()),
        })

    def elaborate(self, platform):
        """Build the selection of an operand."""
        m = Module()

        place, reader = self._walk.o.payload, self._reader
        self._connect(m, place.index_2, place.index_1)
        how = self.how
        if self._signs:
            how = self._sign(m)
        else:
            wiring.connect(m, wiring.flipped(self.i), self._walk.i)
        arithmetic = self._shape.arithmetic
        operand = reader.o.payload.line.word_select(reader.o.payload.along.lane, arithmetic.bits)
        m.d.comb += [
            reader.i.payload.address.eq(place.address >> self._lane_bits),
            reader.i.payload.along.lane.eq(place.address[:self._lane_bits]),
            self._out.i.payload.data.eq(word_of(arithmetic, operand, how)),
        ]

        return m

    def _sign(self, m):
        """Connect the walk; return how operands of the present datum are read."""
        walk, no_sign = self._walk, Signal()
        m.d.comb += [
            walk.i.valid.eq(self.i.valid),
            walk.i.payload.eq(self.i.payload.walk),
            self.i.ready.eq(walk.i.ready),
            self._reader.i.payload.along.no_sign.eq(no_sign),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += no_sign.eq(self.i.payload.no_sign)
        how = Signal(operand_layout(), name="how_now")
        m.d.comb += [how.zero_point.eq(self.how.zero_point),
                     how.unsigned.eq(self.how.unsigned | self._reader.o.payload.along.no_sign)]
        return how


class FilterFeeder(Feeder):
    """Reads the beats of filters of passes, one line after another, and sends each to the PEs with its tag.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    lines, width : int
        Lines of the filter buffer, and bits of a line.

    Members
    -------
    i : In(stream.Signature(StructLayout({"base": ..., "last": 4, "rows": 8, "sets": 8, "beats": 8})))
        Passes: address of the first line, number of the last word of each tag's last beat, and the turns less one
        of the loops over filter rows (the column tag), sets (the row tag) and beats, innermost first.
    how : In(operand_layout())
        How operands are read. Constant while walks last.
    port, o, read
        See :class:`Feeder`.
    """

    def __init__(self, shape: ArrayShape, lines: int, width: int):
        counts = dict(zip(("rows", "sets", "beats"), FILTER_COUNTS, strict=True))
        super().__init__(shape, "filters", lines, width, Walk(1, FILTER_COUNTS), {"last": LAST_BITS}, {
            "i": In(stream.Signature(data.StructLayout({"base": range(lines), "last": LAST_BITS} | counts))),
            "how": In(operand_layout()),
        })

    def elaborate(self, platform):
        """Build the linear address, and the words of beats."""
        m = Module()

        walk, place = self._walk, self._walk.o.payload
        item = self.i.payload
        begun = Signal()
        address = Signal.like(item.base)
        self._connect(m, place.index_1, place.index_0)
        self._count(m, begun, item.beats, item.last, self._shape.filter_lanes)
        m.d.comb += [
            begun.eq(self.i.valid & walk.i.ready),
            walk.i.valid.eq(self.i.valid),
            walk.i.payload.count_0.eq(item.rows),
            walk.i.payload.count_1.eq(item.sets),
            walk.i.payload.count_2.eq(item.beats),
            self.i.ready.eq(walk.i.ready),
            self._reader.i.payload.address.eq(address),
        ]
        with m.If(begun):
            m.d.sync += address.eq(item.base)
        with m.Elif(walk.o.valid & walk.o.ready):
            m.d.sync += address.eq(address + 1)
        arithmetic, line = self._shape.arithmetic, self._reader.o.payload.line
        for lane, word in enumerate(self._out.i.payload.data.words):
            m.d.comb += word.eq(word_of(arithmetic, line.word_select(lane, arithmetic.bits), self.how))

        return m


class PsumFeeder(Feeder):
    """Reads the psums of passes and sends each beat to the chain with its tag.

    A line is read only when the drain has written it, if the pass before writes it.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    lines : int
        Lines of the buffer.
    joins : bool
        Whether there are passes whose sums join others behind the array.

    Members
    -------
    i : In(stream.Signature(StructLayout({"walk": ..., "last": 4, "fresh": 1, "bias": 1})))
        Walks of passes, as for :class:`.drain.PsumDrain`, and the number of the last word of a window's last beat.
        One of ``fresh`` sums reads nothing; one of ``bias`` reads what no pass writes, and never waits. With `joins`
        there is ``join`` behind.
    written, ended : In(1)
        The drain has written a line; it was the last one of its pass.
    words : Out(range(shape.psum_lanes + 1))
        Psums that are read in this cycle.
    joined : Out(stream.Signature(ArrayLayout(psum, psum_lanes)))
        With `joins`, the beats of passes of ``join`` sums, which go to the drain instead.
    port, o, read
        See :class:`Feeder`.
    """

    def __init__(self, shape: ArrayShape, lines: int, joins: bool = False):
        address_bits = ceil_log2(lines)
        self._joins = joins
        join = {"join": 1} if joins else {}
        item = data.StructLayout(
            {"walk": walk_layout(address_bits, PSUM_COUNTS), "last": LAST_BITS, "fresh": 1, "bias": 1} | join)
        walk = Walk(address_bits, PSUM_COUNTS)
        words = data.ArrayLayout(shape.psum, shape.psum_lanes)
        along = {"last": LAST_BITS} | join
        super().__init__(shape, "psums", lines, shape.psum_lanes * shape.psum.width, walk, along, {
            **({"joined": Out(stream.Signature(words))} if joins else {}),
            "i": In(stream.Signature(item)),
            "written": In(1),
            "ended": In(1),
            "words": Out(range(shape.psum_lanes + 1)),
        })

    def elaborate(self, platform):
        """Build the count of what the drain has written."""
        m = Module()

        walk, place = self._walk, self._walk.o.payload
        item = self.i.payload
        # Passes of which the reads have begun, less those that have been written: two if the pass before is
        # still being written, and more if not even that.
        ahead = Signal(4)
        begun = Signal()
        bias = Signal()
        lines_read = Signal(24)
        lines_written = Signal(24)
        allowed = Signal()
        self._connect(m, place.index_1, place.index_0, allowed)
        last = self._count(m, begun, item.walk.count_2, item.last, self._shape.psum_lanes)
        m.d.comb += [
            begun.eq(self.i.valid & walk.i.ready & (ahead != 15)),
            walk.i.valid.eq(begun & ~item.fresh),
            walk.i.payload.eq(item.walk),
            self.i.ready.eq(begun),
            allowed.eq(bias | (ahead <= 1) | (ahead == 2) & (lines_read < lines_written)),
            self._reader.i.payload.address.eq(place.address),
            self._out.i.payload.data.words.eq(self._reader.o.payload.line),
            self.words.eq(Mux(walk.o.valid & walk.o.ready, last + 1, 0)),
        ]
        m.d.sync += ahead.eq(ahead + begun - self.ended)
        with m.If(begun):
            m.d.sync += [bias.eq(item.bias), lines_read.eq(0)]
        with m.Elif(walk.o.valid & walk.o.ready):
            m.d.sync += lines_read.eq(lines_read + 1)
        with m.If(self.ended):
            m.d.sync += lines_written.eq(0)
        with m.Elif(self.written):
            m.d.sync += lines_written.eq(lines_written + 1)
        if self._joins:
            self._join(m, begun)

        return m

    def _join(self, m, begun):
        """Give the beats of a pass that joins sums to the drain, and not to the array."""
        m.submodules.joined = joined = StreamRegister(self.joined.payload.shape())
        wiring.connect(m, joined.o, wiring.flipped(self.joined))
        join = Signal()
        with m.If(begun):
            m.d.sync += join.eq(self.i.payload.join)
        reader = self._reader
        to_drain = reader.o.payload.along.join
        m.d.comb += [
            reader.i.payload.along.join.eq(join),
            joined.i.valid.eq(reader.o.valid & to_drain),
            joined.i.payload.eq(reader.o.payload.line),
            self._out.i.valid.eq(reader.o.valid & ~to_drain),
            reader.o.ready.eq(Mux(to_drain, joined.i.ready, self._out.i.ready)),
        ]
