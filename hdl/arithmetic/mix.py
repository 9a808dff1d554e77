"""Hash of 32 bits, of which random numbers are made (``golden/rounding.py``, ``mix``)."""

from amaranth.hdl import Cat, Const, Module
from amaranth.lib.wiring import In, Out

from .stages import Staged, named

__all__ = ["Mix"]


def _left(value, bits):
    return Cat(Const(0, bits), value[:-bits])


#: The steps, each of a value of 32 bits.
_STEPS = (
    lambda value: value + _left(value, 12) + 0x7ED55D16,
    lambda value: value ^ 0xC761C23C ^ value[19:],
    lambda value: value + _left(value, 5) + 0x165667B1,
    lambda value: (value + 0xD3A2646C) ^ _left(value, 9),
    lambda value: value + _left(value, 3) + 0xFD7046C5,
    lambda value: value ^ 0xB55A4F09 ^ value[16:],
    lambda value: value + _left(value, 10),
    lambda value: value ^ value[6:],
    lambda value: value + _left(value, 3),
    lambda value: value ^ value[11:],
    lambda value: value + _left(value, 15),
)


class Mix(Staged):
    """Pipeline that makes of each number another, all different; no bit of one tells a bit of the other.

    One number per cycle, :attr:`latency` cycles later; there is no flow control.

    Parameters
    ----------
    latency : int
        Registers in line, at most :attr:`MOST`.

    Members
    -------
    value, mixed : :py:`In(32)`, :py:`Out(32)`
        Number, and what is made of it.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    #: Steps behind each of which there may be a register.
    MOST = len(_STEPS)

    def __init__(self, latency: int):
        super().__init__("a hash", latency, {"value": In(32), "mixed": Out(32)})

    def elaborate(self, platform):
        """Build the steps."""
        m = Module()

        stages, value = self.stages(m), self.value
        for number, step in enumerate(_STEPS):
            (value,) = stages.end(named(m, f"step_{number}", step(value)[:32]))
        m.d.comb += self.mixed.eq(value)

        return m
