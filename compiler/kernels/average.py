"""Averages as one requantisation of an exact integer sum, compared with the golden rule over every sum.

onnxruntime's QLinearAveragePool adds dequantised elements in float32, in order, and divides. The array has the
exact sum. Where float32's additions are exact too, as with scales that are powers of two, the output is a function
of the sum, and a factor is sought that gives it for every sum that a window can have. Otherwise the output is
certain for all sums but those within float32's error of half-way between two outputs. For scales of a simple ratio
these are many, and no accelerator that adds integers can follow: that is an error. For others they are
next to none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["Average", "find_average", "find_integer_average"]

#: Neighbours of the best factor to try, in units of its last place.
_ULPS = sorted(range(-48, 49), key=abs)

#: Share of the sums that may lie too near half-way. Accidental ones are some in 10,000.
_UNCERTAIN = 1 / 200


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


def _exact(scale: float, greatest: int) -> bool:
    """Whether float32 holds the product of `scale` and any integer up to `greatest`."""
    significand = int(np.float32(scale).view(np.int32)) & 0x7FFFFF | 0x800000
    odd = significand // (significand & -significand)
    return odd * greatest < 1 << 24


@cache
def find_average(x_scale: float, x_range: tuple[int, int], y_scale: float, y_zero: int, y_range: tuple[int, int],
                 count: int) -> Average | None:
    """Find the factor that averages as onnxruntime's QLinearAveragePool.

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

    Returns
    -------
    Average or None
        None if the outputs of too many sums depend on the order of float32's additions.
    """
    x, y = np.float32(x_scale), np.float32(y_scale)
    sums = np.arange(count * x_range[0], count * x_range[1] + 1, dtype=np.int64)
    real = sums * float(x) / count / float(y)
    # Sums far beyond the output's range need no comparison.
    inside = (real > y_range[0] - y_zero - 2) & (real < y_range[1] - y_zero + 2)
    sums, real = sums[inside], real[inside]
    means = sums.astype(np.float32) * x / np.float32(count) / y + np.float32(y_zero)
    expected = np.clip(np.rint(means), *y_range)
    certain = np.ones(sums.shape, bool)
    greatest = max(map(abs, x_range))
    if not _exact(float(x), count * greatest):
        # Roundings of elements and of partial sums, which grow with the square root of their number.
        noise = 2.0**-24 * (greatest * float(x) * 2 * count**1.5 / count / float(y)
                            + 3 * (np.abs(real) + abs(y_zero)))
        certain = np.abs(real - np.floor(real) - 0.5) > noise
        if (~certain).mean() > _UNCERTAIN:
            return None
    best: tuple[int, Average] | None = None
    middle = np.float32(float(x) / count / float(y))
    for point_inside in (False, True):
        for scale in _neighbours(middle):
            bias = round(y_zero / scale) if point_inside else 0
            if not -(1 << 31) <= bias < 1 << 31:
                continue
            choice = Average(scale, bias, 0 if point_inside else y_zero)
            rounded = np.rint((sums + bias).astype(np.float32) * np.float32(scale)) + choice.point
            wrong = np.clip(rounded, *y_range) != expected
            if not wrong.any():
                return choice
            if not (wrong & certain).any() and (best is None or wrong.sum() < best[0]):
                best = int(wrong.sum()), choice
    return None if best is None else best[1]


@cache
def find_integer_average(x_range: tuple[int, int], count: int) -> Average | None:
    """Find the factor that averages integers with halves away from zero, for every sum of `count` elements."""
    sums = np.arange(count * x_range[0], count * x_range[1] + 1, dtype=np.int64)
    expected = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    for scale in _neighbours(np.float32(1 / count)):
        if np.array_equal(np.rint(sums.astype(np.float32) * np.float32(scale)), expected):
            return Average(scale, 0, 0)
    return None
