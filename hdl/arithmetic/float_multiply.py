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

#: Bits of a distance by which products are shifted one after another; what remains of it chooses one of few places.
_FINE = 4


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
    otherwise : int, optional
        Bits of the product where there is none.

    Members
    -------
    a, b : :py:`In(format.bits)`
        Factors.
    absent : :py:`In(1)`
        With ``otherwise``: that there is no product of these factors.
    product : :py:`Out(32)`
        Product.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    #: Parts behind each of which there may be a register.
    MOST = 6

    def __init__(self, format: FloatFormat, latency: int, otherwise: int | None = None):
        self._format = format
        self._otherwise = otherwise
        super().__init__("a multiplication", latency, {
            "a": In(format.bits), "b": In(format.bits), "product": Out(32),
            **({} if otherwise is None else {"absent": In(1)})})

    def elaborate(self, platform):
        """Build the pipeline: multiply, find the highest bit in two parts, shift in two, round."""
        m = Module()
        stages = self.stages(m)
        format = self._format

        width = 2 * (format.fraction + 1)
        # What float32 stores as exponent of a product whose bit 0 is the highest, in two's complement.
        offset = FLOAT32.bias + 2 - 2 * format.bias - width
        bits = max(format.exponent, FLOAT32.exponent) + 3
        exponent = named(m, "exponent", (format.scale(self.a) + format.scale(self.b) + offset)[:bits])
        product = named(m, "significand", format.significand(self.a) * format.significand(self.b))
        absent = Const(0, 1) if self._otherwise is None else self.absent
        sign, special, number, absent, exponent, product = stages.end(
            self.a[-1] ^ self.b[-1], *self._special(), absent, exponent, product)

        highest, rest = Const(0, 0), product
        steps = [1 << bit for bit in reversed(range(ceil_log2(width)))]
        for part in (steps[:len(steps) // 2], steps[len(steps) // 2:]):
            for step in part:
                is_above = named(m, f"above_{step}", rest[step:].any())
                rest = named(m, f"rest_{step}", Mux(is_above, rest[step:], rest[:step]))
                highest = Cat(is_above, highest)
            sign, special, number, absent, exponent, product, highest, rest = stages.end(
                sign, special, number, absent, exponent, product, highest, rest)

        # The highest bit goes to the top, or, if that has a weight below the least exponent's, bit 0 as far below it as
        # its own weight is. Only products of formats with as many exponents are so small.
        stored = named(m, "stored", (exponent + highest)[:bits])
        distance = highest
        if 2 + offset < 1:
            distance = named(m, "distance", Mux(stored[-1] | ~stored.any(), (1 - exponent)[:bits], highest))
        for bit in range(min(len(distance), _FINE)):
            product = named(m, f"product_{1 << bit}", Mux(distance[bit], product, Cat(Const(0, 1 << bit), product)))
        sign, special, number, absent, stored, product, distance = stages.end(
            sign, special, number, absent, stored, product, distance)
        sign, special, number, absent, stored, aligned = stages.end(
            sign, special, number, absent, stored, self._aligned(m, product, distance))

        found = packed_float32(sign, special, number, stored[:-1], aligned)
        if self._otherwise is not None:
            found = Mux(absent, self._otherwise, found)
        (found,) = stages.end(found)
        m.d.comb += self.product.eq(found)

        return m

    @staticmethod
    def _aligned(m, product, distance):
        """Shift right by what remains of a distance; bit 0 of the product stood at the top before it was shifted."""
        fine = min(len(distance), _FINE)
        # Places of bit 0 above the lowest that is kept, where nothing remains of the distance.
        above = _ALIGNED - (1 << fine)
        coarse = distance[fine:]
        if not len(coarse):
            return Cat(Const(0, above), product)[:_ALIGNED]
        places = range(above, max(-len(product), above - (1 << len(distance))), -(1 << fine))
        chosen = [named(m, f"is_{index}", coarse == index) for index in range(len(places))]
        aligned = Cat(~Cat(chosen).any() & product.any(), Const(0, _ALIGNED - 1))
        for place, is_chosen in zip(places, chosen, strict=True):
            moved = Cat(Const(0, place), product) if place > 0 else shifted_right(product, -place)
            aligned = named(m, f"placed_{above - place}", aligned | moved[:_ALIGNED] & is_chosen.replicate(_ALIGNED))
        return aligned

    def _special(self):
        """Whether the product is infinite or no number, and whether it is one."""
        factors, test = (self.a, self.b), self._format
        infinite = [test.is_infinite(factor) for factor in factors]
        zero = [~(factor[test.fraction:-1].any() | factor[:test.fraction].any()) for factor in factors]
        none = test.is_none(self.a) | test.is_none(self.b) | infinite[0] & zero[1] | infinite[1] & zero[0]
        return infinite[0] | infinite[1] | none, ~none
