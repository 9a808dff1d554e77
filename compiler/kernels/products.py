"""Multiplication of two quantised tensors as an integer product and one requantisation, exact by exhaustion.

An array's product is ``p = (a - a_zero) * (b - b_zero)``, and requantisation makes
``rint(float32(p + addend) * scale) + point`` of it. onnxruntime multiplies in float32, in an order of its own, but for
few exceptions what it gives depends on p alone. Then the outputs say between which bounds the scale must lie, one pair
of bounds for each p: what they have in common is an interval, whose float32 numbers are compared with the golden model
over all pairs of stored values.

The fused kernel has the zero point of the output inside its rounding, so that of halves the even output is taken. With
an odd zero point outside, the odd one would be. An addend that is worth an odd number of steps puts that right, since
another zero point, which is even, takes these away again outside.
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

#: Addends that are tried, how far from a whole number of steps they may be worth, and how many steps at most. Those
#: of few steps come first, since float32 then rounds sums about as finely as it rounds products.
_ADDENDS_TRIED, _NEAR, _MOST_POINT, _FEW = 100, 1e-3, 1 << 15, 300

#: Greatest product, for which an addend leaves room.
_ROOM = 1 << 16


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
    # Products half-way between two outputs, or nearly so, decide: they are tried before all.
    real = products * multiplication.ratio
    hard = np.flatnonzero(np.abs(real - np.floor(real) - 0.5) < _NEAR)
    for addend, point in _offsets(multiplication):
        sums, wanted = products + addend, outputs - point
        low, high = (bound - point for bound in multiplication.bounds)
        for scale in _scales(sums, wanted, low, high):
            if all(np.array_equal(np.rint(sums[some].astype(np.float32) * scale).clip(low, high), wanted[some])
                   for some in (hard, slice(None))):
                return ScaledProduct(float(scale), addend, point)
    return None


def _offsets(multiplication: Multiplication) -> list[tuple[int, int]]:
    """Addends to try, each with the point that takes it away again: none, then those nearest to a number of steps."""
    zero, addends = multiplication.y_zero, np.arange(ADDENDS[0] + _ROOM, ADDENDS[1] - _ROOM)
    steps = np.rint(addends * multiplication.ratio)
    error, points = np.abs(addends * multiplication.ratio - steps), zero - steps
    # Halves go to even outputs with the zero point inside the rounding, and are rounded before it is added outside.
    parity = 0 if multiplication.fused else zero % 2
    kept = (error < _NEAR) & (points % 2 == parity) & (np.abs(points) <= _MOST_POINT) & (addends != 0)
    addends, points, error = addends[kept], points[kept], error[kept]
    order = np.lexsort((np.abs(addends), np.abs(points) > _FEW, np.rint(error * 1e5)))[:_ADDENDS_TRIED]
    return [(0, zero), *zip(addends[order].tolist(), points[order].astype(np.int64).tolist(), strict=True)]


def _scales(sums: np.ndarray, wanted: np.ndarray, low: int, high: int) -> np.ndarray:
    """Scales, float32, with which sums may be the outputs wanted of them, but for roundings."""
    upper = np.where(wanted < high, wanted + 0.5, np.inf)
    lower = np.where(wanted > low, wanted - 0.5, -np.inf)
    some = sums != 0
    below, above = lower[some] / sums[some], upper[some] / sums[some]
    least = max(np.minimum(below, above).max(), 0.0)
    most = np.maximum(below, above).min()
    # A rounding may let in what lies just outside, and keep out an end.
    first, last = (int(np.float32(min(bound, 3e38)).view(np.int32)) for bound in (least, most))
    first, last = max(first - 2, 1), last + 2
    tried = np.arange(first, last + 1, max(1, (last - first) // (_TRIED - 1)))
    nearest = np.argsort(np.abs(2 * tried - (first + last)), kind="stable")
    scales: np.ndarray = tried[nearest].astype(np.int32).view(np.float32)
    return scales
