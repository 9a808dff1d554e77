"""Product of two numbers of one format in float32, rounded to nearest, halves to even (IEEE 754-2019, 5.4.1)."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .float_formats import FLOAT32, FloatFormat
from .float_round import packed_float32
from .stages import Staged, named, shifted_right

__all__ = ["FloatMultiply"]

#: Bits of float32's significand with a bit and a sticky one below it: of what is further below only whether it is zero
#: can matter.
_ALIGNED = FLOAT32.fraction + 3


class FloatMultiply(Staged):
    """Pipeline that multiplies two numbers of a format, subnormal ones and infinities included.

    One product per cycle, :attr:`latency` cycles after its factors; there is no flow control. Of formats of up to 16
    bits products are exact, unless they are too small or too great for float32, which only those of bfloat16 can be.
    What is no number comes out as 0x7FC00000, whatever its sign and payload.

    Parameters
    ----------
    format : FloatFormat
        Format of the factors.
    latency : int
        Registers in line, at most :attr:`MOST`: they stand behind parts of the multiplication, as evenly as they can.

    Members
    -------
    a, b : :py:`In(format.bits)`
        Factors.
    product : :py:`Out(32)`
        Product.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    #: Parts behind each of which there may be a register.
    MOST = 6

    def __init__(self, format: FloatFormat, latency: int):
        self._format = format
        super().__init__("a multiplication", latency, {
            "a": In(format.bits), "b": In(format.bits), "product": Out(32)})

    def elaborate(self, platform):
        """Build the pipeline: multiply, normalise in two parts, shift what is too small in two, round."""
        m = Module()
        stages = self.stages(m)
        format = self._format

        width = 2 * (format.fraction + 1)
        # What float32 stores as exponent of a product whose highest bit is set, which counts twice what the product of
        # the significands' highest bits does; modulo a power of two that leaves a bit for its sign.
        offset = FLOAT32.bias + 1 - 2 * format.bias
        bits = max(format.exponent, FLOAT32.exponent) + 3
        exponent = named(m, "exponent", (format.scale(self.a) + format.scale(self.b) + offset)[:bits])
        product = named(m, "significand", format.significand(self.a) * format.significand(self.b))
        sign, special, number, exponent, product = stages.end(
            self.a[-1] ^ self.b[-1], *self._special(), exponent, product)

        taken = Const(0, 0)
        steps = [1 << bit for bit in reversed(range(ceil_log2(width)))]
        for part in (steps[:len(steps) // 2], steps[len(steps) // 2:]):
            for step in part:
                take = named(m, f"take_{step}", ~product[-step:].any())
                product = named(m, f"product_{step}", Mux(take, Cat(Const(0, step), product[:-step]), product))
                taken = Cat(take, taken)
            sign, special, number, exponent, taken, product = stages.end(
                sign, special, number, exponent, taken, product)

        above = width - _ALIGNED + 1
        aligned = Cat(product[:above].any(), product[above:]) if above > 0 else Cat(Const(0, 1 - above), product)
        exponent = named(m, "normalised", (exponent - taken)[:bits])
        # Only the weight of the least exponent stands for numbers without the highest bit; nothing but the sticky bit
        # is left beyond 31 places.
        missing = named(m, "missing", (1 - exponent)[:bits])
        distance = named(m, "distance", Mux(exponent[-1] | ~exponent.any(),
                                            missing[:5] | missing[5:].any().replicate(5), 0))
        for bits in ((4, 3), (2, 1, 0)):
            # Products of formats with fewer exponents are never too small.
            if 2 + offset < width:
                for bit in bits:
                    aligned = named(m, f"aligned_{bit}", Mux(distance[bit], shifted_right(aligned, 1 << bit), aligned))
            sign, special, number, exponent, aligned, distance = stages.end(
                sign, special, number, exponent, aligned, distance)

        (found,) = stages.end(packed_float32(sign, special, number, exponent[:-1], aligned))
        m.d.comb += self.product.eq(found)

        return m

    def _special(self):
        """Whether the product is infinite or no number, and whether it is one."""
        factors, test = (self.a, self.b), self._format
        infinite = [test.is_infinite(factor) for factor in factors]
        zero = [~factor[:-1].any() for factor in factors]
        none = test.is_none(self.a) | test.is_none(self.b) | infinite[0] & zero[1] | infinite[1] & zero[0]
        return infinite[0] | infinite[1] | none, ~none
