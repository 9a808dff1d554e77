"""Averages as requantisations of sums, compared with the golden rule over every sum.

onnxruntime adds dequantised elements in float32, in order, and divides. The array has the
exact sum. Elements of one sum can add up to several float32 numbers, the least and the greatest of which are found
for every sum that a window can have. Where both give one output, it is a function of the sum, and a factor is
sought that gives it for every sum. Where they don't, as often with scales of a simple ratio, whose means lie half-way
between two outputs, the accelerator has to add float32 numbers itself (``post.averages``). Division and rounding
never fall when the sum rises, so an output is the number of steps that the sum has reached, and each step is found by
bisection over float32 numbers, or over integers where the mean is one of integers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from ...golden.quantise import dequantize_linear

__all__ = [
    "Average", "exact_steps", "find_average", "float_order", "float_steps", "float_terms", "integer_average",
    "least_reaching",
]

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


def integer_average(count: int, greatest: int) -> tuple[int, int]:
    """Multiplier and right shift that average integers with halves away from zero, in one rounding of the product.

    A multiplier that is a bit too large takes halves away from zero, and nothing else over the next integer, as long as
    the greatest mean times its error is less than the ``1 / (2 * count)`` from a half to the mean next to it.

    Parameters
    ----------
    count : int
        Elements of a window.
    greatest : int
        Greatest magnitude of an element.

    Raises
    ------
    ValueError
        If no multiplier of 31 bits is near enough, as it may be for more than two million elements of 8 bits.
    """
    shift = (count - 1).bit_length()
    multiplier = (1 << 30 + shift) // count + 1
    # (multiplier / 2**(30 + shift) - 1 / count) * count * greatest < 1 / (2 * count)
    if 2 * (multiplier * count - (1 << 30 + shift)) * greatest * count >= 1 << 30 + shift:
        raise ValueError(f"count must be smaller, not {count}")
    return multiplier, shift - 1


def float_order(numbers: np.ndarray) -> np.ndarray:
    """Integers in the order of float32 numbers: their bits, with all but the sign turned over where that is set.

    Numbers and integers (32 bits) may be given; it is its own inverse.
    """
    bits = numbers.view(np.int32)
    return bits ^ (bits >> 31 & 0x7FFFFFFF)


def least_reaching(output: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray, low: int, high: int) -> np.ndarray:
    """Least integer from `low` to `high` for which `output`, which never falls, is as wanted; ``high + 1`` for none."""
    below, reached = np.full(wanted.shape, low - 1, np.int64), np.full(wanted.shape, high + 1, np.int64)
    while (reached - below > 1).any():
        middle = (below + reached) >> 1
        # Where all has been found, middle is no integer that may be asked for.
        enough = output(np.clip(middle, low, high)) >= wanted
        open_ = reached - below > 1
        below, reached = np.where(open_ & ~enough, middle, below), np.where(open_ & enough, middle, reached)
    return reached


def float_terms(x_scale: float, x_zero: int, dtype: np.dtype) -> np.ndarray:
    """What each stored byte adds to a sum: 256 float32 numbers."""
    return dequantize_linear(np.arange(256).astype(np.uint8).view(dtype), np.float32(x_scale), x_zero)


@cache
def float_steps(y_scale: float, y_zero: int, y_range: tuple[int, int], count: int, *, fused: bool) -> np.ndarray:
    """Least float32 sums, as :func:`float_order` has them, of all outputs but the least: (255,) int32.

    Parameters
    ----------
    y_scale, y_zero, y_range
        Scale and zero point of the output, its least and its greatest.
    count : int
        Elements of a window.
    fused : bool
        Whether the zero point is inside the rounding, as in onnxruntime's QLinearAveragePool.
    """
    scale, within, beyond = np.float32(y_scale), np.float32(y_zero if fused else 0), 0 if fused else y_zero

    def output(order: np.ndarray) -> np.ndarray:
        sums = float_order(order.astype(np.int32)).view(np.float32)
        with np.errstate(over="ignore", under="ignore"):
            return np.rint(sums / np.float32(count) / scale + within) + beyond

    most = 0x7F7FFFFF
    return least_reaching(output, np.arange(y_range[0] + 1, y_range[1] + 1), ~most, most).astype(np.int32)


@cache
def exact_steps(x_scale: float, y_scale: float, y_zero: int, y_range: tuple[int, int], count: int) -> np.ndarray:
    """Least integer sums of all outputs but the least, where the mean is exact: (255,) int32."""
    x, divisor = float(np.float32(x_scale)), count * float(np.float32(y_scale))
    return least_reaching(lambda sums: np.rint(sums * x / divisor) + y_zero,
                          np.arange(y_range[0] + 1, y_range[1] + 1), -1 << 31, (1 << 31) - 2).astype(np.int32)
