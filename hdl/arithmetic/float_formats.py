"""Formats of floating point: where exponent and fraction stand, and what is no finite number."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from amaranth.hdl import Cat, Const, Value

__all__ = ["BFLOAT16", "E4M3", "E5M2", "FLOAT16", "FLOAT32", "FORMATS", "FloatFormat"]


@dataclass(frozen=True)
class FloatFormat:
    """A binary format with sign, exponent and fraction from the highest bit down, subnormal numbers included.

    Parameters
    ----------
    name : str
        Name of the type in NumPy or ``ml_dtypes``.
    exponent, fraction : int
        Bits of each.
    has_infinities : bool
        Whether the greatest exponent stands for infinities and what is no number, as in IEEE 754. If not, all of it
        are numbers but the one whose bits are all set, which is none (Open Compute Project, OFP8 1.0, 5.2).
    """

    name: str
    exponent: int
    fraction: int
    has_infinities: bool = True

    @property
    def bits(self) -> int:
        """Bits of a number."""
        return 1 + self.exponent + self.fraction

    @property
    def dtype(self) -> np.dtype:
        """Type of NumPy, or of ``ml_dtypes``."""
        return np.dtype(getattr(ml_dtypes, self.name, self.name))

    @property
    def bias(self) -> int:
        """What the exponent of 1.0 is stored as."""
        return (1 << self.exponent - 1) - 1

    @property
    def infinity(self) -> int | None:
        """Bits of infinity, if there is one."""
        return ((1 << self.exponent) - 1) << self.fraction if self.has_infinities else None

    @property
    def no_number(self) -> int:
        """Bits of what is no number, as hardware makes it: without a sign, and a fraction of one bit where it can."""
        if self.infinity is None:
            return (1 << self.exponent + self.fraction) - 1
        return self.infinity | 1 << self.fraction - 1

    @property
    def greatest(self) -> int:
        """Bits of the greatest finite number."""
        return (self.no_number if self.infinity is None else self.infinity) - 1

    @property
    def beyond(self) -> int:
        """Bits of what numbers beyond the greatest are rounded to: infinity, or no number."""
        return self.no_number if self.infinity is None else self.infinity

    def significand(self, number: Value) -> Value:
        """Fraction with the bit above it that is not stored, which subnormal numbers have not."""
        return Cat(number[:self.fraction], number[self.fraction:-1].any())

    def scale(self, number: Value) -> Value:
        """Stored exponent, and 1 for subnormal numbers, which have the weight of the least normal ones."""
        stored = number[self.fraction:-1]
        return Cat(stored[0] | ~stored.any(), stored[1:])

    def is_infinite(self, number: Value) -> Value:
        """Whether a number is infinite."""
        if self.infinity is None:
            return Const(0, 1)
        return number[self.fraction:-1].all() & ~number[:self.fraction].any()

    def is_none(self, number: Value) -> Value:
        """Whether bits stand for no number."""
        if self.infinity is None:
            return number[:-1].all()
        return number[self.fraction:-1].all() & number[:self.fraction].any()


#: Brain floating point: the upper half of a float32.
BFLOAT16 = FloatFormat("bfloat16", 8, 7)

#: IEEE 754 half precision.
FLOAT16 = FloatFormat("float16", 5, 10)

#: IEEE 754 single precision, the format of sums.
FLOAT32 = FloatFormat("float32", 8, 23)

#: Formats of 8 bits of the Open Compute Project (OFP8 1.0, 2023).
E4M3, E5M2 = FloatFormat("float8_e4m3fn", 4, 3, has_infinities=False), FloatFormat("float8_e5m2", 5, 2)

#: All by name.
FORMATS = {each.name: each for each in (BFLOAT16, FLOAT16, FLOAT32, E4M3, E5M2)}
