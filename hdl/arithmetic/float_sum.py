"""Addition of two float32 numbers with little logic, as arrays of floats have it."""

from amaranth.hdl import Cat, Const, Mux

from .float_add import ALIGNED, FloatAdd
from .float_formats import FLOAT32
from .stages import named, shifted_right

__all__ = ["FloatSum"]


class FloatSum(FloatAdd):
    """The same sums as those of :class:`.FloatAdd`, of one adder for sums and differences, and shorter shifts.

    It is faster and smaller. What integers need of float32 has the other, so that their Verilog stays as it is.
    """

    @staticmethod
    def _align(m, stages, sign, opposite, special, number, large, small, above, aligned):
        """Shift the smaller significand by the distance of the exponents."""
        difference = named(m, "difference", (FLOAT32.scale(large) - FLOAT32.scale(small))[:8])
        # Nothing but the sticky bit is left beyond 31.
        distance = named(m, "distance", difference[:5] | difference[5:].any().replicate(5))
        exponent = FLOAT32.scale(large)[:8]
        for steps in ((4, 3, 2), (1, 0)):
            for step in steps:
                aligned = named(m, f"aligned_{step}", Mux(distance[step], shifted_right(aligned, 1 << step), aligned))
            sign, opposite, special, number, exponent, above, aligned, distance = stages.end(
                sign, opposite, special, number, exponent, above, aligned, distance)
        return sign, opposite, special, number, exponent, above, aligned

    @classmethod
    def _add(cls, m, stages, sign, opposite, special, number, exponent, above, aligned):
        """Add significands or take one from the other, and shift out zeros above, as far as the exponent allows."""
        # One bit above for the carry, whose weight is that of the next exponent. A difference adds the complement, and
        # one that a bit below carries in.
        term = named(m, "term", aligned ^ opposite.replicate(ALIGNED))
        above = Cat(Const(1, ALIGNED - FLOAT32.fraction), above)
        both = named(m, "both", (above + Cat(opposite, term))[1:ALIGNED + 2])
        total = named(m, "total", Cat(both[:-1], both[-1] & ~opposite))
        sign, opposite, special, number, exponent, total = stages.end(
            sign, opposite, special, number, exponent, total)
        return cls._normalised(m, stages, sign, opposite, special, number, exponent, total)

    @staticmethod
    def _normalised(m, stages, sign, opposite, special, number, exponent, total):
        """Shift out zeros above, but no more than the exponent allows; what becomes nothing has no sign."""
        sign = sign & ~(opposite & ~total.any())
        # As many zeros may go, and whether these are more than all steps take.
        most, is_more, exponent = exponent[:5], exponent[5:].any(), exponent + 1
        for steps in ((4, 3), (2, 1, 0)):
            taken = Const(0, 0)
            for step in steps:
                zeros = 1 << step
                take = named(m, f"take_{zeros}", (is_more | most[step]) & ~total[-zeros:].any())
                is_more = named(m, f"is_more_{zeros}", is_more | most[step] & ~take)
                total = named(m, f"total_{zeros}", Mux(take, Cat(Const(0, zeros), total[:-zeros]), total))
                taken = Cat(take, taken)
            sign, special, number, most, is_more, exponent, taken, total = stages.end(
                sign, special, number, most, is_more, exponent, taken, total)
            exponent = named(m, f"lowered_{1 << steps[-1]}", (exponent - Cat(Const(0, steps[-1]), taken))[:9])
        return sign, special, number, exponent, total
