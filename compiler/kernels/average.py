"""Averages as one requantisation of an exact integer sum, compared with the golden rule over every sum.

onnxruntime adds dequantised elements in float32, in order, and divides. The array has the
exact sum. Elements of one sum can add up to several float32 numbers, the least and the greatest of which are found
for every sum that a window can have. Where both give one output, it is a function of the sum, and a factor is
sought that gives it for every sum. Where they don't, as often with scales of a simple ratio, whose means lie half-way
between two outputs, no accelerator that adds integers can follow: that is an error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["Average", "find_average", "find_integer_average"]

#: Neighbours of the best factor to try, in units of its last place.
_ULPS = sorted(range(-48, 49), key=abs)


@dataclass(frozen=True)
class Average:
    """``rint(float32(sum + bias) * scale) + point`` of a window's sum."""

    scale: float
    bias: int
    point: int


def _neighbours(scale: np.float32) -> Iterator[float]:
    bits = scale.view(np.int32)
    for ulps in _ULPS:
        if 0 < bits + ulps < 0x7F800000:
            yield float((bits + np.int32(ulps)).view(np.float32))


def _float_sums(x_scale: np.float32, x_range: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest float32 number that `count` elements in some order add up to, for each of their sums.

    Rounding never changes which of two numbers is greater, so the extremes of a sum follow from those without its
    last element.
    """
    elements = np.arange(x_range[0], x_range[1] + 1).astype(np.float32) * x_scale
    least = greatest = np.zeros(1, np.float32)
    for _ in range(count):
        size = len(least) + len(elements) - 1
        lower, upper = np.full(size, np.inf, np.float32), np.full(size, -np.inf, np.float32)
        for first, element in enumerate(elements):
            sums = slice(first, first + len(least))
            np.minimum(lower[sums], least + element, out=lower[sums])
            np.maximum(upper[sums], greatest + element, out=upper[sums])
        least, greatest = lower, upper
    return least, greatest


@cache
def find_average(x_scale: float, x_range: tuple[int, int], y_scale: float, y_zero: int, y_range: tuple[int, int],
                 count: int, *, fused: bool = True, exact: bool = False) -> Average | None:
    """Find the factor that averages as the golden model does.

    Parameters
    ----------
    x_scale, y_scale : float
        Scales.
    x_range : (int, int)
        Least and greatest element, its zero point subtracted.
    y_zero : int
        Zero point of the output.
    y_range : (int, int)
        Least and greatest output.
    count : int
        Elements of a window.
    fused : bool
        Whether the zero point is inside the rounding, as in onnxruntime's QLinearAveragePool.
    exact : bool
        Whether the mean is exact, as that of a whole image, and not one of float32 numbers.

    Returns
    -------
    Average or None
        None if the output of some sum depends on the elements that add up to it, or no factor gives all outputs.
    """
    x, y = np.float32(x_scale), np.float32(y_scale)
    sums = np.arange(count * x_range[0], count * x_range[1] + 1, dtype=np.int64)
    real = sums * float(x) / count / float(y)
    # Sums far beyond the output's range need no comparison.
    inside = (real > y_range[0] - y_zero - 2) & (real < y_range[1] - y_zero + 2)
    sums = sums[inside]
    if exact:
        least = greatest = sums * float(x) / (count * float(y))
    else:
        with np.errstate(under="ignore"):
            least, greatest = (found[inside] / np.float32(count) / y for found in _float_sums(x, x_range, count))
    within, beyond = (y_zero, 0) if fused else (0, y_zero)
    expected, other = (np.clip(np.rint(mean + np.float32(within)) + beyond, *y_range) for mean in (least, greatest))
    if not np.array_equal(expected, other):
        return None
    middle = np.float32(float(x) / count / float(y))
    for point_inside in (False, True):
        for scale in _neighbours(middle):
            bias = round(y_zero / scale) if point_inside else 0
            if not -(1 << 31) <= bias + count * x_range[0] <= bias + count * x_range[1] < 1 << 31:
                continue
            choice = Average(scale, bias, 0 if point_inside else y_zero)
            rounded = np.rint((sums + bias).astype(np.float32) * np.float32(scale)) + choice.point
            if np.array_equal(np.clip(rounded, *y_range), expected):
                return choice
    return None


@cache
def find_integer_average(x_range: tuple[int, int], count: int) -> Average | None:
    """Find the factor that averages integers with halves away from zero, for every sum of `count` elements."""
    sums = np.arange(count * x_range[0], count * x_range[1] + 1, dtype=np.int64)
    expected = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    for scale in _neighbours(np.float32(1 / count)):
        if np.array_equal(np.rint(sums.astype(np.float32) * np.float32(scale)), expected):
            return Average(scale, 0, 0)
    return None
