"""Addition of two float32 numbers, rounded to nearest, halves to even (IEEE 754-2019, 5.4.1)."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib.wiring import In, Out

from .float_formats import FLOAT32
from .float_round import packed_float32
from .stages import Staged, named, shifted_right

__all__ = ["FloatAdd"]

#: Bits of a fraction as it is stored, and of a significand with the bit that is not, and two bits and a sticky one
#: below it: of what is shifted out further only whether it is zero can matter.
_FRACTION, _ALIGNED = FLOAT32.fraction, FLOAT32.fraction + 4


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
        aligned = Cat(Const(0, _ALIGNED - _FRACTION - 1), small[:_FRACTION], small[_FRACTION:31].any())
        difference = named(m, "difference", (FLOAT32.scale(large) - FLOAT32.scale(small))[:8])
        # Nothing but the sticky bit is left beyond 31.
        distance = named(m, "distance", difference[:5] | difference[5:].any().replicate(5))
        exponent = FLOAT32.scale(large)[:8]
        for steps in ((4, 3, 2), (1, 0)):
            for step in steps:
                aligned = named(m, f"aligned_{step}", Mux(distance[step], shifted_right(aligned, 1 << step), aligned))
            sign, opposite, special, number, exponent, above, aligned, distance = stages.end(
                sign, opposite, special, number, exponent, above, aligned, distance)

        # One bit above for the carry, whose weight is that of the next exponent. A difference adds the complement, and
        # one that a bit below carries in.
        term = named(m, "term", aligned ^ opposite.replicate(_ALIGNED))
        above = Cat(Const(1, _ALIGNED - _FRACTION), above)
        both = named(m, "both", (above + Cat(opposite, term))[1:_ALIGNED + 2])
        total = named(m, "total", Cat(both[:-1], both[-1] & ~opposite))
        sign, opposite, special, number, exponent, total = stages.end(
            sign, opposite, special, number, exponent, total)
        sign, special, number, exponent, total = self._normalised(m, stages, sign, opposite, special, number, exponent,
                                                                  total)

        (found,) = stages.end(packed_float32(sign, special, number, exponent, total))
        m.d.comb += self.sum.eq(found)

        return m

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

    @staticmethod
    def _order(m, stages, a, b, less):
        """Put the greater magnitude first; tell whether the sum is infinite or no number, and whether it is one."""
        large = named(m, "large", Mux(less, b, a))
        small = named(m, "small", Mux(less, a, b))
        special = large[_FRACTION:31].all()
        number = ~special | ~(large[:_FRACTION].any() | small[_FRACTION:31].all() & (large[31] ^ small[31]))
        return stages.end(large, small, special, number)
