"""Greatest outputs of windows: rows of sums that follow one another and make one output."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..blocks.pipeline import delay
from ..blocks.rules import never
from ..blocks.unit import Unit
from ..shell.functions import REDUCE_BITS

__all__ = ["Greatest", "Windows"]


class Windows(wiring.Component):
    """Tell which rows of a command begin and end a window of ``reduce`` + 1 rows.

    Members
    -------
    start : :py:`In(1)`
        Whether the next cycle's row is a command's first.
    row_end : :py:`In(1)`
        Whether the next cycle's row is another.
    last : :py:`In(1)`
        Whether this row is a command's last, which must end a window.
    reduce : :py:`In(REDUCE_BITS)`
        Rows of a window besides its first.
    opens, closes : :py:`Out(1)`
        Whether the row is the first, or last, of its window.
    """

    def __init__(self):
        super().__init__({
            "start": In(1), "row_end": In(1), "last": In(1), "reduce": In(REDUCE_BITS), "opens": Out(1),
            "closes": Out(1),
        })

    def elaborate(self, platform):
        """Build the counter, which knows one step ahead whether it is at its end."""
        m = Module()

        left = Signal(REDUCE_BITS, reset_less=True)
        with m.If(self.start | self.row_end & self.closes):
            m.d.sync += [left.eq(self.reduce), self.opens.eq(1), self.closes.eq(self.reduce == 0)]
        with m.Elif(self.row_end):
            m.d.sync += [left.eq(left - 1), self.opens.eq(0), self.closes.eq(left == 1)]
        never(m, "windows", self.last & ~self.closes, "m_count must be a multiple of reduce + 1")

        return m


class Greatest(Unit):
    """Keep the greatest value of each of a lane's groups since the first row of a window.

    Groups of a row come one a cycle and in the same order in each row, so that the greatest value so far of a group is
    what left :py:`greatest` ``groups`` cycles before. What comes first after a pause opens a window. The greatest value
    is there in the cycle of the value itself.

    Parameters
    ----------
    bits : int
        Width of a value.
    groups : int
        Groups of a row.

    Members
    -------
    value : :py:`In(bits)`
        A group's value.
    opens : :py:`In(1)`
        Whether its row is the first of a window.
    is_unsigned : :py:`In(1)`
        Whether values are compared as unsigned ones.
    greatest : :py:`Out(bits)`
        Greatest of the values of its group from that row on.
    """

    def __init__(self, bits: int, groups: int):
        self._bits, self._groups = bits, groups
        super().__init__({"value": In(bits), "opens": In(1), "is_unsigned": In(1), "greatest": Out(bits)})

    def elaborate(self, platform):
        """Build the comparison and the line of values on their way round."""
        m = Module()

        so_far = delay(m, self.greatest, self._groups, "so_far", reset_less=True)
        # With their highest bits inverted, signed values are in the order of unsigned ones.
        inverted = Cat(Const(0, self._bits - 1), ~self.is_unsigned)
        above = (so_far ^ inverted) > (self.value ^ inverted)
        m.d.comb += self.greatest.eq(Mux(above & ~self.opens, so_far, self.value))

        return m
