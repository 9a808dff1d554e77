"""Pipelined wide multiplier out of four multipliers of 18 bits."""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..blocks.pipeline import delay

__all__ = ["Multiplier"]

#: Bits of the low part of an operand: with a zero sign bit, 18 bits signed.
LOW_BITS = 17


class Multiplier(wiring.Component):
    """Signed product of 32 by 33 bits, modulo ``2**64``, from 2 x 2 products of at most 18 bits.

    The throughput is one product per cycle and the latency is :attr:`LATENCY` cycles: partial
    products, the sum of the two middle ones, and the sum of all. There is no flow control. The
    operands should come from registers.

    Members
    -------
    a : :py:`In(signed(32))`
        Multiplicand.
    b : :py:`In(signed(33))`
        Multiplier.
    product : :py:`Out(signed(64))`
        Low 64 bits of ``a * b``.
    """

    #: Cycles from operands to product.
    LATENCY = 3

    a: In(signed(32))
    b: In(signed(33))
    product: Out(signed(64))

    def elaborate(self, platform):
        """Build the multiplier."""
        m = Module()

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

        return m
