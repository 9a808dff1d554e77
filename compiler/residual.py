"""Addition of two quantised tensors as one integer sum and one requantisation, exact by exhaustion.

onnxruntime adds two scaled tensors in float32. An array has integer weights instead: with
``sum = m * (a - a_zero) + n * (b - b_zero) + bias`` the result is ``rint(float32(sum) * scale) + point``.
If n / m is close enough to the ratio of the scales, both agree for all 65,536 pairs of stored values; weights
beyond an operand are sums of several. Candidates are fractions n / m in order of how well they fit, and each is
compared with the golden model over all pairs.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from ..golden import quantised

__all__ = ["Residual", "find_residual"]

#: Fractions to try for each number of weights.
_CANDIDATES = 24


@dataclass(frozen=True)
class Residual:
    """Integers and a scale that add two tensors exactly; see the module."""

    m: int
    n: int
    scale: float
    bias: int
    point: int


@cache
def find_residual(a_scale: float, a_zero: int, a_dtype: str, b_scale: float, b_zero: int, b_dtype: str,
                  y_scale: float, y_zero: int, greatest: int) -> Residual | None:
    """Find weights that add two 8-bit tensors as the golden model does, for every pair of values.

    Parameters
    ----------
    a_scale, b_scale, y_scale : float
        Scales.
    a_zero, b_zero, y_zero : int
        Zero points.
    a_dtype, b_dtype : str
        Types of the operands, int8 or uint8; the output has that of a.
    greatest : int
        Greatest weight of the array.

    Returns
    -------
    Residual or None
        None if no candidate with at most 64 weights for each tensor is exact.
    """
    stored = np.arange(256, dtype=np.uint8)
    a, b = np.repeat(stored, 256).view(a_dtype), np.tile(stored, 256).view(b_dtype)
    expected = quantised.add(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero).astype(np.int32)
    x, z = a.astype(np.int64) - a_zero, b.astype(np.int64) - b_zero
    info, (ra, rb) = np.iinfo(a_dtype), (a_scale / y_scale, b_scale / y_scale)
    for count in (1, 2, 4, 8, 16, 32, 64):
        m = np.arange(1, greatest * count + 1)
        n = np.rint(m * rb / ra).astype(np.int64)
        kept = (n >= 1) & (n <= greatest * count)
        m, n = m[kept], n[kept]
        for index in np.argsort(np.abs(n / m * ra - rb), kind="stable")[:_CANDIDATES]:
            first, second = int(m[index]), int(n[index])
            sums = first * x + second * z
            scale = np.float32((ra * first + rb * second) / (first**2 + second**2))
            for factor in (scale, np.nextafter(scale, np.float32(np.inf)), np.nextafter(scale, np.float32(0))):
                # The zero point inside the rounding, as in the golden model, matters where sums tie.
                for bias, point in ((0, y_zero), (round(y_zero / float(factor)), 0)):
                    rounded = np.rint((sums + bias).astype(np.float32) * factor) + point
                    if np.array_equal(np.clip(rounded, info.min, info.max).astype(np.int32), expected):
                        return Residual(first, second, float(factor), bias, point)
    return None
