"""Multiplication of two quantised tensors as an integer product and one requantisation, exact by exhaustion.

An array's product is ``p = (a - a_zero) * (b - b_zero)``, and requantisation makes
``rint(float32(p + addend) * scale) + point`` of it. onnxruntime multiplies in float32, in an order of its own, but for
few exceptions what it gives depends on p alone. Then the outputs say between which bounds the scale must lie, one pair
of bounds for each p: what they have in common is an interval, whose float32 numbers are compared with the golden model
over all pairs of stored values.

The fused kernel has the zero point of the output inside its rounding, so that of halves the even output is taken. With
an odd zero point outside, the odd one would be. An addend that is worth an odd number of steps puts that right: where
there are halves at all, the scale is an odd number over ``2**e``, and ``2**e`` is worth that number.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from .addition import Multiplication

__all__ = ["ADDENDS", "ScaledProduct", "find_product"]

#: Least and greatest addend.
ADDENDS = -(1 << 19), (1 << 19) - 1

#: Scales of an interval that are tried.
_TRIED = 33

#: Bounds of what is added to a scaled product.
_POINTS = -(1 << 16), (1 << 16) - 1


@dataclass(frozen=True)
class ScaledProduct:
    """What makes outputs of products; see the module."""

    scale: float
    addend: int
    point: int


@cache
def find_product(multiplication: Multiplication) -> ScaledProduct | None:
    """Find a scale, an addend and a zero point that multiply two tensors as the golden model does, for every pair.

    Returns
    -------
    ScaledProduct or None
        None if pairs of one product have different outputs, or nothing that is tried is exact.
    """
    a, b = multiplication.operands()
    products, first, places = np.unique(np.multiply.outer(a, b), return_index=True, return_inverse=True)
    every = multiplication.outputs().reshape(-1)
    outputs = every[first]
    if not np.array_equal(outputs[places.reshape(-1)], every):
        return None
    for addend, point in _offsets(multiplication):
        sums, wanted = products + addend, outputs - point
        low, high = (bound - point for bound in multiplication.bounds)
        for scale in _scales(sums, wanted, low, high):
            made = np.rint(sums.astype(np.float32) * scale).clip(low, high)
            if np.array_equal(made, wanted):
                return ScaledProduct(float(scale), addend, point)
    return None


def _offsets(multiplication: Multiplication) -> list[tuple[int, int]]:
    """Addends to try, each with the point that takes it away again."""
    zero, ratio = multiplication.y_zero, multiplication.ratio
    found = [(0, zero)]
    for exponent in range(1, ADDENDS[1].bit_length()):
        for addend in (1 << exponent, -1 << exponent):
            steps = round(addend * ratio) if abs(addend * ratio) < _POINTS[1] else 0
            if steps % 2 and _POINTS[0] <= zero - steps <= _POINTS[1]:
                found.append((addend, zero - steps))
    inside = round(zero / ratio) if zero / ratio < ADDENDS[1] else 0
    if ADDENDS[0] <= inside <= ADDENDS[1]:
        found.insert(1, (inside, 0))
    return found


def _scales(sums: np.ndarray, wanted: np.ndarray, low: int, high: int) -> np.ndarray:
    """Scales, float32, with which sums may be the outputs wanted of them, but for roundings."""
    upper = np.where(wanted < high, wanted + 0.5, np.inf)
    lower = np.where(wanted > low, wanted - 0.5, -np.inf)
    some = sums != 0
    below, above = lower[some] / sums[some], upper[some] / sums[some]
    least = max(np.minimum(below, above).max(), 0.0)
    most = np.maximum(below, above).min()
    # A rounding may let in what lies just outside, and keep out an end.
    first, last = (np.float32(min(bound, 3e38)).view(np.int32).astype(np.int64) for bound in (least, most))
    first, last = max(int(first) - 2, 1), int(last) + 2
    if last < first:
        return np.empty(0, np.float32)
    tried = np.unique(np.rint(np.linspace(first, last, min(_TRIED, last - first + 1))).astype(np.int64))
    middle = (first + last) / 2
    return tried[np.argsort(np.abs(tried - middle), kind="stable")].astype(np.int32).view(np.float32)
