"""R x C row-stationary processing elements between the networks and the global buffer."""

from itertools import pairwise

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..blocks.unit import add
from .row import ArrayShape, PERow, event_counts_layout

__all__ = ["RowStationaryArray"]


class RowStationaryArray(wiring.Component):
    """Array of independent PEs (JSSC 2017, section V).

    A datum carries a row tag and a column tag. It goes to every PE whose tags match, in one cycle, when all of
    them can take it; one that no PE matches is dropped. Which tags a PE has, and its place in a chain of psums, is
    set up before a layer. Sums go up each column, and leave at the tops of chains, in the order in which their tags
    are asked for.

    Parameters
    ----------
    shape : ArrayShape
        Parameters.

    Members
    -------
    setup : In(stream.Signature(shape.setup, always_ready=True))
        Setups of all PEs, that of the last PE of the last row first. Only while the array is idle.
    shapes : In(stream.Signature(shape.datum("shape")))
        Shapes of passes, for all active PEs.
    ifmap, filters, psums : In(stream.Signature(shape.datum(...)))
        Data for PEs.
    wants : In(stream.Signature(shape.tag))
        Psum tags of the beats that shall leave.
    out : Out(stream.Signature(beat_layout))
        Beats of sums, one for each tag of `wants`.
    shift, maximum : In
        Lowest bit of a product's window; whether sums are maxima. Constant while the array works.
    idle : Out(1)
        No PE has anything to do.
    events : Out(event_counts_layout(rows * cols))
        Number of PEs in which something happened, two cycles before.
    """

    def __init__(self, shape: ArrayShape):
        self._shape = shape
        super().__init__({
            "setup": In(stream.Signature(shape.setup, always_ready=True)),
            "shapes": In(stream.Signature(shape.datum("shape"))),
            "ifmap": In(stream.Signature(shape.datum("ifmap"))),
            "filters": In(stream.Signature(shape.datum("filters"))),
            "psums": In(stream.Signature(shape.datum("psums"))),
            "wants": In(stream.Signature(shape.tag)),
            "out": Out(stream.Signature(shape.networks["psums"])),
            "shift": In(shape.shift),
            "maximum": In(1),
            "idle": Out(1),
            "events": Out(event_counts_layout(shape.rows * shape.cols)),
        })

    def elaborate(self, platform):
        """Build the rows and connect them."""
        m = Module()

        rows = [PERow(self._shape) for _ in range(self._shape.rows)]
        for index, row in enumerate(rows):
            add(m, f"row_{index}", row, platform)
            m.d.comb += [row.shift.eq(self.shift), row.maximum.eq(self.maximum), row.setup_move.eq(self.setup.valid)]
        setup = self.setup.payload
        for row in rows:
            m.d.comb += row.setup_in.eq(setup)
            setup = row.setup
        for upper, lower in pairwise(rows):
            for column in range(self._shape.cols):
                wiring.connect(m, lower.above[column], upper.below[column])

        for name, port in (("shape", self.shapes), ("ifmap", self.ifmap), ("filters", self.filters),
                           ("psums", self.psums)):
            ready = Cat(getattr(row, f"{name}_ready") for row in rows).all()
            m.d.comb += port.ready.eq(ready)
            for row in rows:
                m.d.comb += [
                    getattr(row, f"{name}_offer").eq(port.payload),
                    getattr(row, f"{name}_deliver").eq(port.valid & ready),
                ]

        beat = Const(0, Shape.cast(self.out.payload.shape()))
        for row in rows:
            beat |= row.beat.as_value()
            m.d.comb += [row.want.eq(self.wants.payload), row.take.eq(self.wants.valid & self.wants.ready)]
        m.d.comb += self.wants.ready.eq(
            Cat(row.some for row in rows).any() & (~self.out.valid | self.out.ready))
        with m.If(self.out.ready):
            m.d.sync += self.out.valid.eq(0)
        with m.If(self.wants.valid & self.wants.ready):
            m.d.sync += [self.out.valid.eq(1), self.out.payload.eq(beat)]

        m.d.comb += self.idle.eq(Cat(row.idle for row in rows).all() & ~self.out.valid)
        m.d.sync += [self.events[name].eq(sum(row.events[name] for row in rows)) for name, _ in self.events.shape()]
        return m
