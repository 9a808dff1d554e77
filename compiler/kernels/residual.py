"""Addition of two quantised tensors as one integer sum and one requantisation, exact by exhaustion.

onnxruntime adds two scaled tensors in float32. An array has integer weights instead: with
``sum = m * (a - a_zero) + n * (b - b_zero) + bias`` the result is ``rint(float32(sum) * scale) + point``.
If n / m is close enough to the ratio of the scales, both agree for all 65,536 pairs of stored values; weights
beyond an operand are sums of several. Candidates are fractions n / m in order of how well they fit, and each is
compared with the golden model over all pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from .addition import Addition

__all__ = ["Residual", "find_residual"]

#: Fractions to try for each number of weights.
_CANDIDATES = 300

#: Pairs nearest to half-way between two outputs.
_HARD = 2048

#: Of these, the first ones, which refuse most candidates.
_HARDEST = 64

#: Neighbours of the best scale to try, in units of its last place.
_ULPS = (0, 1, -1, 2, -2, 4, -4, 8, -8, 16, -16)

#: Greatest bias, which leaves room for the weighted operands in 32 bits.
_BIAS = 1 << 30


@dataclass(frozen=True)
class Residual:
    """Integers and a scale that add two tensors exactly; see the module."""

    m: int
    n: int
    scale: float
    bias: int
    point: int


@cache
def find_residual(addition: Addition, greatest: int) -> Residual | None:
    """Find weights that add two 8-bit tensors as the golden model does, for every pair of values.

    Parameters
    ----------
    addition : Addition
        The addition.
    greatest : int
        Greatest weight of the array.

    Returns
    -------
    Residual or None
        None if no candidate with at most 64 weights for each tensor is exact.
    """
    expected = addition.outputs().reshape(-1).astype(np.int32)
    x, z = (steps.reshape(-1) for steps in np.meshgrid(*addition.operands(), indexing="ij"))
    (low, high), (ra, rb), y_zero = addition.bounds, addition.ratios, addition.y_zero
    # Pairs half-way between two outputs, or nearly so, decide: they are tried before all.
    real = ra * x + rb * z
    within = np.flatnonzero((real + y_zero > low - 1) & (real + y_zero < high + 1))
    hard = within[np.argsort(np.abs(real[within] - np.floor(real[within]) - 0.5), kind="stable")[:_HARD]]
    ordered = hard[np.argsort(expected[hard], kind="stable")]
    starts = np.flatnonzero(np.diff(expected[ordered], prepend=expected[ordered[:1]] - 1))

    def separates(m: int, n: int) -> bool:
        """Tell whether all sums of one output are below those of the next, without which no scale will do."""
        sums = m * x[ordered] + n * z[ordered]
        return bool((np.maximum.reduceat(sums, starts)[:-1] < np.minimum.reduceat(sums, starts)[1:]).all())

    # Drawn from the whole once, since very many candidates are compared with the first ones.
    compared = [(x[pairs], z[pairs], expected[pairs]) for pairs in (hard[:_HARDEST], hard, slice(None))]

    def exact(choice: Residual) -> bool:
        for first, second, wanted in compared:
            sums = choice.m * first + choice.n * second + choice.bias
            rounded = np.rint(sums.astype(np.float32) * np.float32(choice.scale)) + choice.point
            if not np.array_equal(np.clip(rounded, low, high), wanted):
                return False
        return True

    for m, n in _weights(ra, rb, greatest):
        if separates(m, n):
            for choice in _choices(m, n, ra, rb, y_zero):
                if exact(choice):
                    return choice
    return None


def _weights(ra: float, rb: float, greatest: int) -> Iterator[tuple[int, int]]:
    """Yield weights (m, n), few before many, in the order of how well n / m fits rb / ra."""
    for count in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64):
        m = np.arange(1, greatest * count + 1)
        n = np.rint(np.minimum(m * rb / ra, greatest * count + 1)).astype(np.int64)
        kept = (n >= 1) & (n <= greatest * count)
        m, n = m[kept], n[kept]
        for index in np.argsort(np.abs(n / m * ra - rb), kind="stable")[:_CANDIDATES]:
            yield int(m[index]), int(n[index])


def _choices(m: int, n: int, ra: float, rb: float, zero: int) -> Iterator[Residual]:
    """Yield what may stand with two weights: scales near the best one, and the zero point outside or inside."""
    scale = np.float32((ra * m + rb * n) / (m**2 + n**2))
    for bits in int(scale.view(np.int32)) + np.array(_ULPS, np.int32):
        factor = float(bits.view(np.float32))
        if bits <= 0:
            continue
        # The zero point inside the rounding, as in the runtime's fused kernel, matters where sums tie.
        inside = round(zero / factor)
        for bias, point in ((0, zero), (inside, 0), (1, zero), (-1, zero), (inside + 1, 0), (inside - 1, 0)):
            if abs(bias) <= _BIAS:
                yield Residual(m, n, factor, bias, point)
