"""Shifts of rows of sums, as the running maximum of a softmax changes."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from ..blocks import rules
from ..blocks.pipeline import delay
from ..post.sums import ShiftWrite

__all__ = ["LOW_BITS", "ROW_SHIFT", "RowShifts", "shift_request_layout"]

#: Bits by which the sums of low bytes stand below those of high ones.
LOW_BITS = 8

#: What happens to a row of sums before it is combined: the row of accumulators, or that which comes from the array, is
#: shifted right by ``amount`` bits and rounded, halves up. The other one stays as it is.
ROW_SHIFT = data.StructLayout({"old": 1, "amount": 5})


def shift_request_layout(depth: int) -> data.StructLayout:
    """Layout of what tells the shift of a row of sums."""
    return data.StructLayout({
        # Without it nothing is shifted.
        "rescale": 1,
        # The accumulators are shifted if the maximum grew: once for each row of a command, and not if overwritten.
        "old": 1,
        # The array's sums are those of low bytes.
        "low_part": 1,
        # Of the shift memory.
        "row": range(depth),
    })


class RowShifts(wiring.Component):
    """Memory of a shift for each row of sums, and what a row's shift means for accumulators and array.

    An amount above zero shifts what was accumulated, one below zero what comes from the array. The result stands
    :attr:`LATENCY` cycles after the request; one request a cycle.

    Parameters
    ----------
    depth : int
        Shifts that the memory holds.

    Members
    -------
    write : In(ShiftWrite(depth))
        Amounts from post-processing. A row is not read in the cycle in which it is written.
    request : In(shift_request_layout(depth))
        Row that is to be combined.
    shift : Out(ROW_SHIFT)
        What happens to it.
    """

    #: Cycles from a request to the shift.
    LATENCY = 2

    def __init__(self, depth: int):
        self._depth = depth
        super().__init__({
            "write": In(ShiftWrite(depth)),
            "request": In(shift_request_layout(depth)),
            "shift": Out(ROW_SHIFT),
        })

    def elaborate(self, platform):
        """Build the memory, and the choice of what is shifted."""
        m = Module()

        m.submodules.memory = memory = Memory(shape=self.write.amount.shape(), depth=self._depth, init=[],
                                              attrs={"no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            write.en.eq(self.write.en),
            write.addr.eq(self.write.row),
            write.data.eq(self.write.amount),
            read.en.eq(self.request.rescale),
            read.addr.eq(self.request.row),
        ]
        rules.never(m, "shifts", self.write.en & self.request.rescale & (self.write.row == self.request.row),
                    "a shift is read while it is written")

        request = delay(m, self.request, 1, "request")
        amount, low = read.data, Mux(request.low_part, LOW_BITS, 0)
        most = (1 << len(self.shift.amount)) - 1
        part = Signal(range(2 * most + 2))
        m.d.comb += part.eq(low - amount)
        m.d.sync += self.shift.eq(0)
        with m.If(request.rescale):
            with m.If(amount < 0):
                m.d.sync += self.shift.amount.eq(Mux(part > most, most, part))
            with m.Else():
                m.d.sync += [self.shift.old.eq(request.old), self.shift.amount.eq(Mux(request.old, amount, low))]

        return m
