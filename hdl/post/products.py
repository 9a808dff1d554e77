"""Product of the two low bytes of a sum."""

from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import In, Out

from ..blocks.pipeline import delay
from ..blocks.unit import Unit
from .pairs import PairSum

__all__ = ["ADDEND_BITS", "PairProduct"]

#: Bits of what is added to a product.
ADDEND_BITS = 20


class PairProduct(Unit):
    """Multiply two bytes, each less a zero point, and add a number.

    The second byte comes negated, as sums have it. One product per cycle, :attr:`LATENCY` cycles after its bytes. There
    is no flow control.

    Members
    -------
    pair : :py:`In(16)`
        Bytes, the first in the low bits, the second, negated modulo 256, above it.
    zeros : :py:`In(16)`
        Zero points of both, given with them.
    addend : :py:`In(signed(20))`
        Number to add, given with them.
    product : :py:`Out(signed(32))`
        ``(first - zero) * (second - zero) + addend``, where neither leaves 20 bits.
    """

    #: Cycles from bytes to their product: differences, multiplier, and adder.
    LATENCY = PairSum.LATENCY

    def __init__(self):
        super().__init__({
            "pair": In(16),
            "zeros": In(16),
            "addend": In(signed(ADDEND_BITS)),
            "product": Out(signed(32)),
        })

    def elaborate(self, platform):
        """Build the subtractors, the multiplier and the adder."""
        m = Module()

        second_byte = (-self.pair[8:])[:8]
        first = Signal(signed(9), reset_less=True)
        second = Signal(signed(9), reset_less=True)
        factor = Signal(signed(18), reset_less=True)
        total = Signal(signed(ADDEND_BITS), reset_less=True)
        addend = delay(m, self.addend, 2, "addend", reset_less=True)
        m.d.sync += [
            first.eq(self.pair[:8] - self.zeros[:8]),
            second.eq(second_byte - self.zeros[8:]),
            factor.eq(first * second),
            total.eq(factor + addend),
        ]
        m.d.comb += self.product.eq(total)

        return m
