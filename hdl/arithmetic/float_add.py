"""Addition of two float32 numbers, rounded to nearest, halves to even (IEEE 754-2019, 5.4.1)."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib.wiring import In, Out

from .float_formats import FLOAT32
from .float_round import packed_float32
from .stages import Staged, named, shifted_right

__all__ = ["ALIGNED", "FloatAdd"]

_FRACTION = FLOAT32.fraction

#: Bits of a significand with the one that is not stored, and two bits and a sticky one below it: of what is shifted out
#: further only whether it is zero can matter.
ALIGNED = _FRACTION + 4


class FloatAdd(Staged):
    """Pipeline that adds two float32 numbers, subnormal ones and infinities included.

    One sum per cycle, :attr:`latency` cycles after its terms; there is no flow control. What is no number comes out as
    0x7FC00000, whatever its sign and payload.

    Parameters
    ----------
    latency : int
        Registers in line, at most :attr:`MOST`: they stand behind parts of the addition, as evenly as they can.

    Members
    -------
    a, b : :py:`In(32)`
        Terms.
    sum : :py:`Out(32)`
        Sum.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    #: Parts behind each of which there may be a register.
    MOST = 8

    def __init__(self, latency: int):
        super().__init__("an addition", latency, {"a": In(32), "b": In(32), "sum": Out(32)})

    def elaborate(self, platform):
        """Build the pipeline: compare, exchange, align in two parts, add, normalise in two parts, round."""
        m = Module()
        stages = self.stages(m)

        a, b, less = stages.end(self.a, self.b, self.a[:31] < self.b[:31])
        large, small, special, number = self._order(m, stages, a, b, less)
        sign, opposite = large[31], large[31] ^ small[31]
        # The least exponent stands for no bit that is not stored; its weight is that of exponent 1.
        above = Cat(large[:_FRACTION], large[_FRACTION:31].any())
        aligned = Cat(Const(0, ALIGNED - _FRACTION - 1), small[:_FRACTION], small[_FRACTION:31].any())
        parts = self._align(m, stages, sign, opposite, special, number, large, small, above, aligned)
        sign, special, number, exponent, total = self._add(m, stages, *parts)

        (found,) = stages.end(packed_float32(sign, special, number, exponent, total))
        m.d.comb += self.sum.eq(found)

        return m

    @staticmethod
    def _align(m, stages, sign, opposite, special, number, large, small, above, aligned):
        """Shift the smaller significand by the distance of the exponents."""
        distance = named(m, "distance", FLOAT32.scale(large) - FLOAT32.scale(small))
        exponent = FLOAT32.scale(large)[:8]
        for steps in ((4, 3, 2), (1, 0)):
            if steps[0] == 4:
                # Nothing but the sticky bit is left beyond 31.
                aligned = named(m, "aligned", Mux(distance[5:8].any(), aligned.any(), aligned))
            for step in steps:
                aligned = named(m, f"aligned_{step}", Mux(distance[step], shifted_right(aligned, 1 << step), aligned))
            sign, opposite, special, number, exponent, above, aligned, distance = stages.end(
                sign, opposite, special, number, exponent, above, aligned, distance[:5])
        return sign, opposite, special, number, exponent, above, aligned

    @classmethod
    def _add(cls, m, stages, sign, opposite, special, number, exponent, above, aligned):
        """Add significands or take one from the other, and shift out zeros above, as far as the exponent allows."""
        # One bit above for the carry, whose weight is that of the next exponent.
        terms = Cat(Const(0, ALIGNED - _FRACTION - 1), above), aligned
        total = named(m, "total", Mux(opposite, terms[0] - terms[1], terms[0] + terms[1])[:ALIGNED + 1])
        sign, special, number, exponent, total = stages.end(
            sign & ~(opposite & (terms[0] == terms[1])), special, number, exponent + 1, total)
        for steps in ((16, 8), (4, 2, 1)):
            for step in steps:
                take = named(m, f"take_{step}", ~total[-step:].any() & (exponent > step))
                total = named(m, f"total_{step}", Mux(take, Cat(Const(0, step), total[:-step]), total))
                exponent = named(m, f"exponent_{step}", Mux(take, exponent - step, exponent)[:9])
            sign, special, number, exponent, total = stages.end(sign, special, number, exponent, total)
        return sign, special, number, exponent, total

    @staticmethod
    def _order(m, stages, a, b, less):
        """Put the greater magnitude first; tell whether the sum is infinite or no number, and whether it is one."""
        large = named(m, "large", Mux(less, b, a))
        small = named(m, "small", Mux(less, a, b))
        special = large[_FRACTION:31].all()
        number = ~special | ~(large[:_FRACTION].any() | small[_FRACTION:31].all() & (large[31] ^ small[31]))
        return stages.end(large, small, special, number)
