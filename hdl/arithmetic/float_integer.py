"""Conversions between float32 and integers of 32 bits in two's complement (IEEE 754-2019, 5.4.1)."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from .float_formats import FLOAT32
from .float_round import packed_float32, rounds_up
from .stages import Staged, named, shifted_right

__all__ = ["FloatToInteger", "IntegerToFloat"]

#: Exponent of a number whose leading bit has the weight of an integer's highest one below the sign.
_HIGHEST = FLOAT32.bias + 30

#: Bits of an integer without its sign, and two behind the point, of which the lower one is sticky.
_ALIGNED = 31 + 2


class FloatToInteger(Staged):
    """Pipeline that rounds float32 numbers to integers: to nearest, halves to even.

    One number per cycle, :attr:`latency` cycles later; there is no flow control. What is beyond the integers becomes
    the greatest or the least of them, and what is no number zero.

    Parameters
    ----------
    latency : int
        Registers in line, at most :attr:`MOST`.

    Members
    -------
    number : :py:`In(32)`
        Number.
    integer : :py:`Out(32)`
        Integer, in two's complement.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    #: Parts behind each of which there may be a register.
    MOST = 4

    def __init__(self, latency: int):
        super().__init__("a conversion", latency, {"number": In(32), "integer": Out(32)})

    def elaborate(self, platform):
        """Build the pipeline: shift in two parts, round, give it a sign."""
        m = Module()
        stages = self.stages(m)

        exponent = FLOAT32.scale(self.number)
        none, beyond, sign = FLOAT32.is_none(self.number), exponent > _HIGHEST, self.number[-1]
        distance = named(m, "distance", (_HIGHEST - exponent)[:8])
        aligned = Cat(Const(0, _ALIGNED - FLOAT32.fraction - 1), FLOAT32.significand(self.number))
        for bits in ((7, 6, 5, 4, 3), (2, 1, 0)):
            for bit in bits:
                aligned = named(m, f"aligned_{bit}", Mux(distance[bit], shifted_right(aligned, 1 << bit), aligned))
            sign, none, beyond, aligned, distance = stages.end(sign, none, beyond, aligned, distance)

        sign, none, beyond, magnitude = stages.end(sign, none, beyond, (aligned[2:] + rounds_up(aligned, 2))[:31])
        # The least integer's bits are those of the greatest turned over.
        inverted = Mux(beyond, Const((1 << 31) - 1, 32), Cat(magnitude, Const(0, 1))) ^ sign.replicate(32)
        (found,) = stages.end(Mux(none, 0, (inverted + (sign & ~beyond))[:32]))
        m.d.comb += self.integer.eq(found)

        return m


class IntegerToFloat(Staged):
    """Pipeline that rounds integers to float32 numbers: to nearest, halves to even.

    One number per cycle, :attr:`latency` cycles later; there is no flow control.

    Parameters
    ----------
    latency : int
        Registers in line, at most :attr:`MOST`.

    Members
    -------
    integer : :py:`In(32)`
        Integer, in two's complement.
    number : :py:`Out(32)`
        Number.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    #: Parts behind each of which there may be a register.
    MOST = 4

    def __init__(self, latency: int):
        super().__init__("a conversion", latency, {"integer": In(32), "number": Out(32)})

    def elaborate(self, platform):
        """Build the pipeline: take the sign off, shift the leading one up in two parts, round."""
        m = Module()
        stages = self.stages(m)

        sign = self.integer[-1]
        magnitude = (self.integer ^ sign.replicate(32)) + sign
        sign, value, exponent = stages.end(sign, magnitude[:32], Const(_HIGHEST + 1, signed(10)))
        for steps in ((16, 8, 4), (2, 1)):
            for step in steps:
                take = named(m, f"take_{step}", ~value[-step:].any())
                value = named(m, f"value_{step}", Mux(take, Cat(Const(0, step), value[:-step]), value))
                lower = Signal(signed(10), name=f"exponent_{step}")
                m.d.comb += lower.eq(Mux(take, exponent - step, exponent))
                exponent = lower
            sign, value, exponent = stages.end(sign, value, exponent)
        (found,) = stages.end(packed_float32(sign, Const(0, 1), Const(1, 1), exponent, value))
        m.d.comb += self.number.eq(found)

        return m
