"""Quantisation of real numbers and back, as ONNX defines and onnxruntime computes it.

A quantised integer q stands for ``scale * (q - zero_point)``.
"""

import numpy as np
import numpy.typing as npt

from .requantise import per_channel
from .tensors import Array, integer

__all__ = [
    "checked_scale", "checked_zero_point", "dequantize_blocks", "dequantize_linear", "dynamic_quantize_linear",
    "fused_multiply_add", "quantize_blocks", "quantize_linear",
]


def checked_scale(name: str, value: npt.ArrayLike) -> Array:
    """Return a scale, or several, as float32, after checking that they are finite and positive."""
    with np.errstate(over="ignore"):
        scale = np.asarray(value, np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError(f"{name} must be finite and positive, not {value!r}")
    return scale


def checked_zero_point(name: str, value: npt.ArrayLike, dtype: npt.DTypeLike) -> Array:
    """Return a zero point, or several, as int32, after checking that a type holds them."""
    points, bounds = np.asarray(value), np.iinfo(dtype)
    if points.dtype.kind not in "iu" or (points < bounds.min).any() or (points > bounds.max).any():
        raise ValueError(f"{name} must be an integer in {bounds.min}..{bounds.max}, not {value!r}")
    return points.astype(np.int32)


def fused_multiply_add(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> Array:
    """Compute ``a * b + c`` of float32 numbers with one rounding.

    The product is exact in float64. The sum is rounded to odd there, which keeps the second
    rounding, to float32, from seeing a tie that is none.

    Returns
    -------
    float32 array
    """
    product = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32)
    addend = np.asarray(c, np.float32).astype(np.float64)
    total = product + addend
    shadow = total - product
    error = (product - (total - shadow)) + (addend - shadow)
    even = (total.view(np.int64) & 1) == 0
    towards = np.where(error > 0, np.inf, -np.inf)
    odd = np.where((error != 0) & even, np.nextafter(total, towards), total)
    return odd.astype(np.float32)


def quantize_linear(x: Array, scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0, *,
                    dtype: npt.DTypeLike = np.int8, axis: int = 1) -> Array:
    """Quantise as ONNX's QuantizeLinear: ``clip(rint(x / scale) + zero_point)``.

    Parameters
    ----------
    x : float32 array of any shape
        Real numbers.
    scale : float32 array_like of shape () or (channels,)
        Scale, or one for each channel.
    zero_point : integer array_like of shape () or (channels,)
        Zero point, or one for each channel.
    dtype : integer type
        Type of the result, 8 or 16 bits.
    axis : int
        Axis of the channels.

    Returns
    -------
    array of type `dtype` and of the shape of `x`

    Raises
    ------
    ValueError
        If a type, a shape or a range does not fit, or `x` holds a number that is none.
    """
    values = np.asarray(x)
    if values.dtype != np.float32:
        raise ValueError(f"x must be float32, not {values.dtype}")
    if np.isnan(values).any():
        raise ValueError("x must be numbers, not NaN")
    scales = per_channel("scale", checked_scale("scale", scale), values.shape, axis)
    points = checked_zero_point("zero_point", zero_point, dtype)
    points = per_channel("zero_point", points, values.shape, axis)
    return _quantise(values, scales, points, dtype)


def _quantise(values: Array, scale: Array, zero_point: Array, dtype: npt.DTypeLike) -> Array:
    bounds = np.iinfo(dtype)
    with np.errstate(over="ignore", under="ignore"):
        scaled = values / scale
    clipped = np.clip(scaled, (bounds.min - zero_point).astype(np.float32),
                      (bounds.max - zero_point).astype(np.float32))
    return (np.rint(clipped).astype(np.int32) + zero_point).astype(dtype)


def dynamic_quantize_linear(x: Array) -> tuple[Array, Array, Array]:
    """Quantise to uint8 by the range of the numbers themselves, as ONNX's DynamicQuantizeLinear.

    Parameters
    ----------
    x : float32 array of any shape
        Real numbers.

    Returns
    -------
    y : uint8 array of the shape of `x`
        ``clip(rint(x / scale) + zero_point)``.
    scale : float32 array of shape ()
        ``(max(x, 0) - min(x, 0)) / 255``. Where all numbers are 0 it is 1, as onnxruntime has it.
    zero_point : uint8 array of shape ()
        ``rint(-min(x, 0) / scale)``.

    Raises
    ------
    ValueError
        If `x` is not float32, or holds a number that is none.
    """
    values = np.asarray(x)
    if values.dtype != np.float32:
        raise ValueError(f"x must be float32, not {values.dtype}")
    if np.isnan(values).any():
        raise ValueError("x must be numbers, not NaN")
    low, high = (np.float32(bound(values, initial=0)) for bound in (np.min, np.max))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scale = np.asarray(np.float32(1) if low == high else (high - low) / np.float32(255))
        zero_point = np.asarray(np.rint(np.clip(-low / scale, 0, 255)), np.uint8)
        return _quantise(values, scale, zero_point.astype(np.int32), np.uint8), scale, zero_point


def dequantize_linear(x: Array, scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0, *,
                      axis: int = 1) -> Array:
    """Turn quantised integers into real numbers: ``float32(x - zero_point) * scale``.

    Parameters
    ----------
    x : int8, uint8, int16, uint16 or int32 array of any shape
        Quantised integers.
    scale, zero_point, axis
        As for :func:`quantize_linear`.

    Returns
    -------
    float32 array of the shape of `x`

    Raises
    ------
    ValueError
        If a type, a shape or a range does not fit.
    """
    values = np.asarray(x)
    if values.dtype != np.int32:
        values = integer("x", values)
    scales = per_channel("scale", checked_scale("scale", scale), values.shape, axis)
    points = checked_zero_point("zero_point", zero_point, values.dtype)
    points = per_channel("zero_point", points, values.shape, axis)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray((values.astype(np.int64) - points).astype(np.float32) * scales)


def _blocks(values: npt.ArrayLike, shape: tuple[int, ...], axis: int, block: int) -> Array:
    """One number for each block along an axis as one for each element of a tensor."""
    numbers = np.repeat(np.asarray(values), block, axis)
    return np.take(numbers, np.arange(shape[axis]), axis)


def quantize_blocks(x: Array, scale: Array, zero_point: Array, *, axis: int, block: int) -> Array:
    """Quantise as ONNX's QuantizeLinear with a scale for each block of elements along an axis.

    Parameters
    ----------
    x : float32 array of any shape
        Real numbers.
    scale : float32 array
        Of the shape of `x`, but along `axis`, which has one for each block.
    zero_point : integer array of the shape of `scale`
        Zero points, of the type of the result.
    axis, block : int
        Axis along which there are blocks, and how many elements each has, of which the last one may have fewer.

    Returns
    -------
    array of the type of `zero_point` and of the shape of `x`
    """
    scales = _blocks(checked_scale("scale", scale), x.shape, axis, block)
    points = _blocks(zero_point, x.shape, axis, block).astype(np.int32)
    return _quantise(x, scales, points, zero_point.dtype)


def dequantize_blocks(x: Array, scale: Array, zero_point: Array, *, axis: int, block: int) -> Array:
    """Turn integers into real numbers with a scale for each block along an axis; see :func:`quantize_blocks`.

    Returns
    -------
    float32 array of the shape of `x`
    """
    scales = _blocks(checked_scale("scale", scale), x.shape, axis, block)
    points = _blocks(zero_point, x.shape, axis, block).astype(np.int64)
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray((x.astype(np.int64) - points).astype(np.float32) * scales)
