"""Delay lines, and the skew registers of arrays made of them."""

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from .structure import Structure
from .unit import Unit

__all__ = ["Delay", "Skew"]


class Delay(Unit):
    """Delay line: ``o`` is what ``i`` was ``cycles`` cycles ago. Registers don't reset.

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

    def __init__(self, width: int, cycles: int):
        self._width = width
        self._cycles = cycles
        super().__init__({"i": In(width), "o": Out(width)})

    @property
    def unit_name(self) -> str:
        """Name of the Verilog module."""
        return f"delay_{self._width}x{self._cycles}"

    def elaborate(self, platform):
        """Build the line."""
        m = Module()

        value = self.i
        for stage in range(self._cycles):
            register = Signal(self._width, name=f"stage_{stage}", reset_less=True)
            m.d.sync += register.eq(value)
            value = register
        m.d.comb += self.o.eq(value)

        return m


class Skew(Structure):
    """Skew registers: element i of the output is what element i of the input was ``step`` times i cycles ago.

    Made of delay lines whose lengths are powers of two, so an array of any size has few distinct ones.

    Parameters
    ----------
    width : int
        Bits of an element.
    count : int
        Elements.
    step : int
        Cycles between an element and the next.
    reverse : bool
        Delay element i by as much as element ``count`` - 1 - i instead, which undoes a skew.

    Members
    -------
    i, o : :py:`In(width).array(count)`, :py:`Out(width).array(count)`
        Elements.
    """

    def __init__(self, width: int, count: int, *, step: int = 1, reverse: bool = False):
        self._width = width
        self._delays = range(0, step * count, step)[::-1 if reverse else 1]
        super().__init__({"i": In(width).array(count), "o": Out(width).array(count)})

    def _lines(self):
        """Return name and length of the lines of each element."""
        for element, cycles in enumerate(self._delays):
            yield element, [(f"delay_{element}_{1 << bit}", 1 << bit)
                            for bit in range(cycles.bit_length()) if cycles >> bit & 1]

    def parts(self):
        """Return the delay lines."""
        return {name: (Delay, (self._width, cycles)) for _, lines in self._lines() for name, cycles in lines}

    def wires(self):
        """Wire each element through its lines."""
        for element, lines in self._lines():
            source = f"i_{element}"
            for name, _ in lines:
                yield f"{name}.i", source
                source = f"{name}.o"
            yield f"o_{element}", source
