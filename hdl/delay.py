"""Delay lines, and the skew registers of arrays made of them."""

from collections.abc import Iterable

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import In, Out

from .unit import Unit, add

__all__ = ["Delay", "delay", "skew"]


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


def delay(m: Module, name: str, value: Value, cycles: int, platform: object) -> Value:
    """Delay a value by any number of cycles, with lines whose lengths are powers of two.

    So an array of any size has few distinct lines.

    Parameters
    ----------
    m : Module
        Parent.
    name : str
        Prefix of the names of submodules.
    value : Value
        What to delay; its bits are returned.
    cycles : int
        0 or more.
    platform : object
        The argument of the parent's ``elaborate``.
    """
    value = Value.cast(value)
    for bit in range(cycles.bit_length()):
        if cycles >> bit & 1:
            line = Delay(len(value), 1 << bit)
            add(m, f"{name}_{1 << bit}", line, platform)
            m.d.comb += line.i.eq(value)
            value = line.o
    return value


def skew(m: Module, name: str, elements: Iterable[Value], platform: object) -> list[Value]:
    """Delay element i by i cycles; parameters are those of :func:`delay`."""
    return [delay(m, f"{name}_{i}", value, i, platform) for i, value in enumerate(elements)]
