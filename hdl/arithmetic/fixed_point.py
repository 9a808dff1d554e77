"""Fixed point as in Eyeriss: a window of each product, sums that wrap around at the width of a word."""

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Shape, Value, signed

from .integer import IntegerArithmetic

__all__ = ["FixedPointArithmetic"]


@dataclass(frozen=True)
class FixedPointArithmetic(IntegerArithmetic):
    """Signed words without zero points, whose sums are as wide as they are.

    A sum takes ``bits`` bits of each product, from bit ``shift`` on, and is modulo 2**bits. So no order of additions
    changes a result.

    Parameters
    ----------
    bits : int
        Width of an operand, a word and a sum.
    """

    bits: int = 16

    @property
    def word(self) -> Shape:
        """Shape of a word: that of an operand."""
        return signed(self.bits)

    def psum(self, products: int) -> Shape:
        """Shape of a partial sum: that of a word, however many products there are."""
        return signed(self.bits)

    @property
    def accumulator(self) -> Shape:
        """Shape of a finished sum: that of a word."""
        return signed(self.bits)

    def prepare(self, operand: Value, sign: Value, zero_point: Value) -> Value:
        """Take the operand as it is."""
        return operand.as_signed()

    def windows(self) -> range:
        """Bits at which a product's window may begin."""
        return range(self.product.width - self.accumulator.width + 1)

    def term(self, product: Value, shift: Value) -> Value:
        """Product without the bits below its window; a sum has no room for those above."""
        return product >> shift

    def words(self, stored: np.ndarray, is_unsigned: bool, zero_point: int) -> np.ndarray:
        """Operands as they are."""
        return super().words(stored, False, 0)
