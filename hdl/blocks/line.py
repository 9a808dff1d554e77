"""Delay lines in memories, for many bits that wait for many cycles."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .pipeline import delay
from .unit import Unit

__all__ = ["Line"]


class Line(Unit):
    """Delay line: ``o`` is what ``i`` was ``cycles`` cycles ago; undefined before anything has gone through.

    From :attr:`LEAST` cycles on it is a memory with a register behind it, of which a counter gives the places; a
    shorter one is registers.

    Parameters
    ----------
    width : int
        Bits.
    cycles : int
        Length, at least 1.

    Members
    -------
    i, o : :py:`In(width)`, :py:`Out(width)`
        Input and output.
    """

    #: Fewest cycles from a write to what a read has brought to the register.
    LEAST = 3

    def __init__(self, width: int, cycles: int):
        self._width, self._cycles = width, cycles
        super().__init__({"i": In(width), "o": Out(width)})

    @property
    def unit_name(self) -> str:
        """Name of the Verilog module."""
        return f"line_{self._width}x{self._cycles}"

    def elaborate(self, platform):
        """Build the memory, or registers."""
        m = Module()

        if self._cycles < self.LEAST:
            m.d.comb += self.o.eq(delay(m, self.i, self._cycles, "stage", reset_less=True))
            return m
        ago = self._cycles - 2
        depth = 1 << ceil_log2(ago + 1)
        m.submodules.memory = memory = Memory(shape=unsigned(self._width), depth=depth, init=[],
                                              attrs={"no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port()
        place = Signal(range(depth))
        m.d.sync += [place.eq(place + 1), self.o.eq(read.data)]
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(place),
            write.data.eq(self.i),
            read.addr.eq(place - ago),
        ]

        return m
