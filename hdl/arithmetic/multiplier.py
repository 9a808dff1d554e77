"""Pipelined wide multiplier out of four or six multipliers of 18 bits."""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..blocks.pipeline import delay

__all__ = ["Multiplier"]

#: Bits of the low part of an operand: with a zero sign bit, 18 bits signed.
LOW_BITS = 17


class Multiplier(wiring.Component):
    """Signed product of 32 by 33 bits, or up to 48 by 33, from 2 x 2 or 3 x 2 products of at most 18 bits.

    The throughput is one product per cycle and the latency is :attr:`LATENCY` cycles: partial
    products, sums of those that have one place, and the sum of all. There is no flow control. The
    operands should come from registers.

    Parameters
    ----------
    width : int
        Bits of the multiplicand, 32 to 48.

    Members
    -------
    a : :py:`In(signed(width))`
        Multiplicand.
    b : :py:`In(signed(33))`
        Multiplier.
    product : :py:`Out(signed(width + 32))`
        Low bits of ``a * b``: all but the sign of the greatest product.
    """

    #: Cycles from operands to product.
    LATENCY = 3

    def __init__(self, width: int = 32):
        self._width = width
        super().__init__({"a": In(signed(width)), "b": In(signed(33)), "product": Out(signed(width + 32))})

    @property
    def width(self) -> int:
        """Bits of the multiplicand."""
        return self._width

    def elaborate(self, platform):
        """Build the multiplier."""
        m = Module()
        if self.width > 32:
            self._three_by_two(m)
        else:
            self._two_by_two(m)
        return m

    def _two_by_two(self, m):
        """Four products, of which the middle two stand in one place."""
        def split(value, name):
            low = Signal(signed(LOW_BITS + 1), name=f"{name}_low")
            high = Signal(signed(len(value) - LOW_BITS), name=f"{name}_high")
            m.d.comb += [low.eq(Cat(value[:LOW_BITS], Const(0, 1))), high.eq(value[LOW_BITS:])]
            return low, high

        a_low, a_high = split(self.a, "a")
        b_low, b_high = split(self.b, "b")
        products = {}
        for name, left, right in (("low", a_low, b_low), ("high", a_high, b_high),
                                  ("cross_a", a_low, b_high), ("cross_b", a_high, b_low)):
            products[name] = Signal(signed(len(left) + len(right)), name=f"product_{name}", reset_less=True)
            m.d.sync += products[name].eq(left * right)

        cross_shape = signed(max(len(products["cross_a"]), len(products["cross_b"])) + 1)
        cross = Signal(cross_shape, reset_less=True)
        m.d.sync += cross.eq(products["cross_a"] + products["cross_b"])
        # The high product starts where the low one, which isn't negative, ends.
        ends = Cat(products["low"][:2 * LOW_BITS], products["high"])[:64]
        outer = delay(m, ends, 1, "outer", reset_less=True)

        product = Signal(signed(64), reset_less=True)
        m.d.sync += [
            product[:LOW_BITS].eq(outer[:LOW_BITS]),
            product[LOW_BITS:].eq(outer[LOW_BITS:] + cross),
        ]
        m.d.comb += self.product.eq(product)

    def _three_by_two(self, m):
        """Six products; two pairs of them stand in one place each."""
        def low_part(value, start, name):
            part = Signal(signed(LOW_BITS + 1), name=name)
            m.d.comb += part.eq(Cat(value[start:start + LOW_BITS], Const(0, 1)))
            return part

        a = Signal(signed(max(self.width, 2 * LOW_BITS + 1)), name="a_extended")
        m.d.comb += a.eq(self.a)
        b_low, b_high = low_part(self.b, 0, "b_low"), self.b[LOW_BITS:].as_signed()
        parts = {"low": low_part(a, 0, "a_low"), "middle": low_part(a, LOW_BITS, "a_middle"),
                 "high": a[2 * LOW_BITS:].as_signed()}
        products = {}
        for name, part in parts.items():
            for place, other in (("low", b_low), ("high", b_high)):
                product = products[name, place] = Signal(
                    signed(len(part) + len(other)), name=f"product_{name}_{place}", reset_less=True)
                m.d.sync += product.eq(part * other)

        pairs = []
        for name, first, second in (("cross", ("low", "high"), ("middle", "low")),
                                    ("upper", ("middle", "high"), ("high", "low"))):
            pair = Signal(signed(2 * LOW_BITS + 3), name=name, reset_less=True)
            m.d.sync += pair.eq(products[first] + products[second])
            pairs.append(pair)
        # The highest product starts 17 bits above the end of the lowest, which isn't negative.
        ends = Cat(products["low", "low"][:2 * LOW_BITS], Const(0, LOW_BITS), products["high", "high"])
        outer = delay(m, ends, 1, "outer", reset_less=True)

        product = Signal(signed(self.width + 32), reset_less=True)
        m.d.sync += [
            product[:LOW_BITS].eq(outer[:LOW_BITS]),
            product[LOW_BITS:].eq(outer[LOW_BITS:] + pairs[0] + (pairs[1] << LOW_BITS)),
        ]
        m.d.comb += self.product.eq(product)
