"""What brings the setups of PEs from the filter buffer."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .buffer import LineReader, ReadLines
from .row import ArrayShape

__all__ = ["SetupFeeder"]


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
