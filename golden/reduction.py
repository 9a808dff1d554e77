"""Sums and means over axes of a quantised tensor, exact, and where float32 additions can't give another output.

onnxruntime has no kernel on integers for ReduceSum and ReduceMean. It dequantises the elements, adds them in float32 in
an order that depends on shape and processor, divides, and quantises. Here sum and mean are exact, and rounded once.
Both are the same for all tensors, whatever the order, if :func:`is_certain` says so.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .quantise import checked_zero_point
from .tensors import Array

__all__ = ["is_certain", "odd_part", "rounded", "zeroed_sums"]

#: Half of the distance of float32 numbers near 1: the greatest relative error of a rounding.
_HALF_STEP = 2.0**-24

#: What those behind the sum change of an output at most, in its steps: four of numbers below 2**10, with room.
_MARGIN = 2.0**-12

#: Most sums that are tried, and the greatest relative error of a sum for which the nearest tell of all.
_MOST_SUMS, _MOST_ROUNDINGS = 1 << 22, 2.0**-4

#: Roundings behind the sum: of the mean, of its quotient by the scale, and one for what float64 rounds here.
_BEHIND = 3


def zeroed_sums(x: Array, axes: Sequence[int], keepdims: bool, x_zero_point: int) -> Array:
    """Add up stored integers, less their zero point, along some axes: int64.

    Parameters
    ----------
    x : int8 or uint8 array
        Stored integers.
    axes : sequence of int
        Axes.
    keepdims : bool
        Whether the result has the axes, with one element each.
    x_zero_point : int
        Zero point.
    """
    zero = int(checked_zero_point("x_zero_point", x_zero_point, x.dtype))
    return np.asarray((x.astype(np.int64) - zero).sum(axis=tuple(axes), keepdims=keepdims))


def rounded(sums: Array, x_scale: float, count: int, y_scale: float, y_zero_point: int,
            dtype: npt.DTypeLike) -> Array:
    """Requantise exact sums: ``clip(rint(sum * x_scale / (count * y_scale)) + y_zero_point)``.

    Parameters
    ----------
    sums : int64 array
        Sums of stored integers, less their zero point.
    x_scale, y_scale : float
        Scales, taken as float32.
    count : int
        What a sum is divided by: 1, or the elements of which it is one.
    y_zero_point : int
        Zero point of the result.
    dtype : int8 or uint8
        Type of the result.
    """
    info = np.iinfo(dtype)
    # Numerator and denominator are exact in float64, so that a half is one, and nothing else.
    real = sums * np.float64(np.float32(x_scale)) / (count * np.float64(np.float32(y_scale)))
    return np.clip(np.rint(real) + int(y_zero_point), info.min, info.max).astype(dtype)


def is_certain(x_scale: float, x_zero_point: int, x_dtype: npt.DTypeLike, elements: int, is_mean: bool,
               y_scale: float, y_zero_point: int, dtype: npt.DTypeLike) -> bool:
    """Whether float32 additions of `elements` dequantised numbers, in whatever order, give what :func:`rounded` gives.

    All sums about half-way between two outputs are tried, where alone roundings tell. Either each is exact in float32,
    which then tells the output, or what `elements` roundings of numbers of these magnitudes can change at most (Higham,
    *Accuracy and Stability of Numerical Algorithms*, 4.2) moves none of them to another output. Where too many sums lie
    there, none is.

    Parameters
    ----------
    x_scale, x_zero_point, x_dtype
        How the elements are stored.
    elements : int
        How many are added up.
    is_mean : bool
        Whether the sum is divided by that.
    y_scale, y_zero_point, dtype
        How the result is stored.
    """
    info, count = np.iinfo(x_dtype), elements if is_mean else 1
    low, high = int(info.min) - int(x_zero_point), int(info.max) - int(x_zero_point)
    x, y, bounds = np.float32(x_scale), np.float32(y_scale), np.iinfo(dtype)
    roundings = (elements + _BEHIND) * _HALF_STEP
    step = float(x) / (count * float(y))
    sums = _decisive(range(elements * low, elements * high + 1), step, int(y_zero_point), bounds)
    if sums is None or roundings > _MOST_ROUNDINGS:
        return False
    expected = rounded(sums, x_scale, count, y_scale, y_zero_point, dtype)
    if elements * max(-low, high) * odd_part(float(x)) <= 1 << 24:
        with np.errstate(over="ignore", under="ignore"):
            found = np.rint(sums.astype(np.float32) * x / np.float32(count) / y) + int(y_zero_point)
        return bool((np.clip(found, bounds.min, bounds.max) == expected).all())
    # Of elements that add up to a sum, the greatest magnitudes have those that are all the least or the greatest.
    far = np.abs(sums) if low >= 0 or high <= 0 else (
        2 * high * (sums - elements * low) / (high - low) - sums).astype(np.float64)
    error, real = np.maximum(far, np.abs(sums)) * step * roundings / (1 - roundings), sums * step
    least, greatest = (np.clip(np.rint(end) + int(y_zero_point), bounds.min, bounds.max)
                       for end in (real - error, real + error))
    return bool((least == greatest).all() and (least == expected).all())


def _decisive(sums: range, step: float, zero_point: int, bounds: np.iinfo) -> Array | None:
    """Sums whose outputs roundings could change: those about half-way between two of them, and the ends of all.

    A few roundings move what is behind the sum by less than :data:`_MARGIN`. Those of the sum itself grow more slowly
    from one sum to the next than the outputs do, so that the nearest ones tell of all. None if there are too many.
    """
    halves = (np.arange(bounds.min, bounds.max) + 0.5 - zero_point) / step
    about = np.arange(2 * (int(min(_MARGIN / step, _MOST_SUMS)) + 2)) - int(min(_MARGIN / step, _MOST_SUMS)) - 1
    if halves.size * about.size > _MOST_SUMS:
        return None
    halves = np.clip(np.floor(halves), sums[0], sums[-1]).astype(np.int64)
    found = (halves[:, None] + about).ravel()
    return np.unique(np.concatenate([found[(found >= sums[0]) & (found <= sums[-1])], [sums[0], sums[-1]]]))


def odd_part(number: float) -> int:
    """The odd integer that a float32 number is a power of two of."""
    mantissa = int(np.frexp(number)[0] * (1 << 24))
    return mantissa // (mantissa & -mantissa)
