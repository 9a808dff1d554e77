"""Sums that join others in the global buffer, either of which may be shifted: outputs of attention."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..blocks import rules
from ..post.sums import ShiftWrite
from .row import ArrayShape

__all__ = ["SumJoin", "joined_layout"]

#: Bits by which a low part is shifted more, and most of all.
_LOW, _MOST = 8, 31


def joined_layout(shape: ArrayShape, address_bits: int, rows: int) -> data.StructLayout:
    """Layout of a beat of sums that is to be written.

    ``address`` of its line, whether it is the ``last`` of its pass, the number ``end`` of its last word that counts,
    its ``words``, and whether they ``join`` those that stand there, by the shift of a ``row``, as the ``low`` part.
    """
    return data.StructLayout({
        "address": address_bits, "last": 1, "end": range(max(2, shape.psum_lanes)),
        "words": data.ArrayLayout(shape.psum, shape.psum_lanes), "join": 1, "low": 1,
        "row": ceil_log2(rows)})


class SumJoin(wiring.Component):
    """Add beats of sums to those that stand where they go, shifted as the running maximum of a softmax changes.

    An amount above zero shifts what stands, one below zero what comes, to the right, rounded to nearest, halves
    upwards. Of a low part what comes is shifted by 8 bits more, 31 at most, and what stands is not. Beats that join
    nothing go the same way. Latency is :attr:`LATENCY` cycles, throughput a beat a cycle.

    Parameters
    ----------
    shape : ArrayShape
        Parameters of the array.
    address_bits : int
        Bits of the address of a line.
    rows : int
        Rows that have a shift.

    Members
    -------
    shifts : In(ShiftWrite(rows))
        Amounts from post-processing. A row is not read in the cycle in which it is written.
    i, o : In(stream), Out(stream) of :func:`joined_layout`
        Beats as they come from the array, and as they are written.
    old : In(stream.Signature(ArrayLayout(psum, psum_lanes)))
        Beats of psums, one for each beat that joins.
    """

    #: Cycles from a beat to its sum.
    LATENCY = 4

    def __init__(self, shape: ArrayShape, address_bits: int, rows: int):
        self._shape, self._rows = shape, rows
        layout = joined_layout(shape, address_bits, rows)
        super().__init__({
            "shifts": In(ShiftWrite(rows)), "i": In(stream.Signature(layout)), "o": Out(stream.Signature(layout)),
            "old": In(stream.Signature(data.ArrayLayout(shape.psum, shape.psum_lanes))),
        })

    def elaborate(self, platform):
        """Build the memory of shifts, and stages that all move, or all wait."""
        m = Module()

        move, taken = Signal(), Signal()
        beat = self.i.payload
        m.d.comb += [
            move.eq(~self.o.valid | self.o.ready),
            taken.eq(self.i.valid & (~beat.join | self.old.valid)),
            self.i.ready.eq(move & (~beat.join | self.old.valid)),
            self.old.ready.eq(move & self.i.valid & beat.join),
        ]
        amount = self._amount(m, move & taken & beat.join)
        beats = [beat]
        valid = taken
        with m.If(move):
            for stage in range(1, self.LATENCY):
                beats.append(following := Signal(beat.shape(), name=f"beat_{stage}"))
                m.d.sync += following.eq(beats[-2])
                later = Signal(name=f"valid_{stage}")
                m.d.sync += later.eq(valid)
                valid = later
            m.d.sync += [self.o.valid.eq(valid), self.o.payload.eq(beats[-1])]
            for lane, word in enumerate(self.o.payload.words):
                m.d.sync += word.eq(self._sum(m, lane, beats, amount))

        return m

    def _amount(self, m, read_now):
        """Shift of the row of the last beat that joins sums, a move after it."""
        m.submodules.memory = memory = Memory(shape=self.shifts.amount.shape(), depth=self._rows, init=[],
                                              attrs={"no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port()
        row = self.i.payload.row
        m.d.comb += [
            write.en.eq(self.shifts.en), write.addr.eq(self.shifts.row), write.data.eq(self.shifts.amount),
            read.en.eq(read_now), read.addr.eq(row),
        ]
        rules.never(m, "shifts", self.shifts.en & read_now & (self.shifts.row == row),
                    "a shift is read while it is written")
        return read.data

    def _sum(self, m, lane, beats, amount):
        """Sum of a lane's word: what is shifted has a bit more below, which rounds; it is called where stages move."""
        width = self._shape.psum.width
        old = Signal(signed(width), name=f"old_{lane}", reset_less=True)
        chosen = Signal(signed(width + 1), name=f"chosen_{lane}", reset_less=True)
        kept = [Signal(signed(width), name=f"kept_{lane}_{stage}", reset_less=True) for stage in (2, 3)]
        shifted = Signal(signed(width + 1), name=f"shifted_{lane}", reset_less=True)
        fine = Signal(3, name=f"fine_{lane}", reset_less=True)
        new, negative = beats[1].words[lane], amount < 0
        # Of a beat that joins nothing it is zero that is shifted.
        below = Mux(negative, -amount, 0)[:5]
        distance = Mux(beats[1].low, Mux(below > _MOST - _LOW, _MOST, below + _LOW), Mux(negative, below, amount))[:5]
        swaps = beats[1].join & (negative | beats[1].low)
        m.d.sync += [
            old.eq(Mux(self.i.payload.join, self.old.payload[lane], 0)),
            chosen.eq(Cat(Const(0, 1), Mux(swaps, new, old)).as_signed() >> Cat(Const(0, 3), distance[3:])),
            kept[0].eq(Mux(swaps, old, new)),
            fine.eq(distance[:3]),
            shifted.eq(chosen >> fine),
            kept[1].eq(kept[0]),
        ]
        return (Cat(Const(1, 1), kept[1]) + shifted)[1:]
