"""Operators on quantised tensors, as onnxruntime's CPU kernels compute them, to the last bit.

Every rounding below is part of the
definition: float32 throughout, in the order written. Where onnxruntime's result depends on the
processor, the rule is that of its x86 kernels with AVX2 and fused multiply-add.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from . import pool
from .quantise import checked_scale, checked_zero_point, dequantize_linear, fused_multiply_add, quantize_linear
from .requantise import onnx
from .tensors import Array, Padding, pair, rank

__all__ = [
    "add", "average_pool2d", "check_reach", "first_is_spread", "global_average_pool2d", "integer_average_pool2d",
    "softmax", "softmax_terms",
]

#: Greatest scale of an addition or an average, and greatest quotient by that of the output. With these no sum of
#: numbers of 8 bits overflows float32, whose infinities would cancel to what is no number.
_REACH = 2.0**96


def check_reach(**scales: npt.ArrayLike) -> None:
    """Check that scales of an addition or an average, of which the output's is the last, keep its sums in float32.

    Raises
    ------
    ValueError
        If a scale is not finite and positive, or it, or its quotient by that of the output, is beyond 2**96.
    """
    *terms, (last, y_scale) = ((name, float(checked_scale(name, value))) for name, value in scales.items())
    reached = {last: y_scale} | dict(terms) | {f"{name} / {last}": value / y_scale for name, value in terms}
    for name, value in reached.items():
        if value > _REACH:
            raise ValueError(f"{name} must be at most {_REACH:.3g} (2**96), not {value:.3g}")


def _eight_bits(name: str, tensor: npt.ArrayLike) -> Array:
    values = np.asarray(tensor)
    if values.dtype not in (np.int8, np.uint8):
        raise ValueError(f"{name} must be int8 or uint8, not {values.dtype}")
    return values


def _output(tensor: Array, dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    """Type of an output: `dtype`, which must have 8 bits, or that of a tensor."""
    kind = tensor.dtype if dtype is None else np.dtype(dtype)
    if kind not in (np.int8, np.uint8):
        raise ValueError(f"dtype must be int8 or uint8, not {kind}")
    return kind


def _is_fused(fused: bool | None, *kinds: np.dtype[Any]) -> bool:
    """Whether a rule is that of a fused kernel: as said, or if all types are one."""
    return len(set(kinds)) == 1 if fused is None else fused


def first_is_spread(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Tell whether onnxruntime's inner loop meets one number of `a` with a run of numbers of `b`."""
    length = max(len(a), len(b))
    padded = ((1,) * (length - len(shape)) + shape for shape in (a, b))
    for i, j in reversed(list(zip(*padded, strict=True))):
        if i != 1 or j != 1:
            return i == 1
    return True


def add(a: Array, a_scale: float, a_zero_point: int, b: Array, b_scale: float, b_zero_point: int,
        y_scale: float, y_zero_point: int, *, dtype: npt.DTypeLike | None = None, spread: bool | None = None,
        fused: bool | None = None) -> Array:
    """Add two quantised tensors as onnxruntime adds them between DequantizeLinear and QuantizeLinear.

    Operands and result of one type are added by its fused kernel, QLinearAdd (com.microsoft). With
    ``ra = a_scale / y_scale``, ``rb = b_scale / y_scale``, a constant
    ``k = y_zero_point - fma(ra, a_zero_point, rb * b_zero_point)``, and each fma and each operation
    rounded to float32, ``y = clip(rint(fma(a, ra, fma(b, rb, k))))``. The zero point is inside the
    rounding, so ties go to even outputs. Where the innermost axis spreads one number of `a` over a
    run of `b`, `a` is added first. (On ARM, onnxruntime uses an integer formula that
    differs from this one in rare ties.)

    For a mixture of types there is no such kernel, and the standard's operators follow one another, each operation
    rounded to float32: ``y = clip(rint(((a - a_zero_point) * a_scale + (b - b_zero_point) * b_scale) / y_scale) +
    y_zero_point)``. Here the zero point is outside the rounding.

    Parameters
    ----------
    a, b : int8 or uint8 arrays
        Terms, whose shapes broadcast.
    a_scale, b_scale, y_scale : float
        Scales, taken as float32.
    a_zero_point, b_zero_point, y_zero_point : int
        Zero points.
    dtype : int8 or uint8, optional
        Type of the result, that of `a` if not given.
    spread : bool, optional
        Whether `a` is added first, instead of what follows from the shapes (:func:`first_is_spread`).
    fused : bool, optional
        Whether the rule is that of QLinearAdd, instead of what follows from the types.

    Returns
    -------
    array of type `dtype` and of the broadcast shape

    Raises
    ------
    ValueError
        If types, shapes or ranges do not fit.
    """
    first, second = _eight_bits("a", a), _eight_bits("b", b)
    kind = _output(first, dtype)
    try:
        np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise ValueError(f"b must broadcast with {first.shape}, not have shape {second.shape}") from None
    scales = [checked_scale(name, value) for name, value in
              (("a_scale", a_scale), ("b_scale", b_scale), ("y_scale", y_scale))]
    points = [checked_zero_point(f"{name}_zero_point", value, of) for name, value, of in
              (("a", a_zero_point, first.dtype), ("b", b_zero_point, second.dtype), ("y", y_zero_point, kind))]
    check_reach(a_scale=a_scale, b_scale=b_scale, y_scale=y_scale)
    if not _is_fused(fused, first.dtype, second.dtype, kind):
        real = (dequantize_linear(values, scale, point) for values, scale, point in
                zip((first, second), scales[:2], points[:2], strict=True))
        return quantize_linear(np.add(*real), scales[2], points[2], dtype=kind)
    total = _fused_sum(first, second, scales, points,
                       first_is_spread(first.shape, second.shape) if spread is None else spread)
    bounds = np.iinfo(kind)
    return np.clip(np.rint(total), bounds.min, bounds.max).astype(kind)


def _fused_sum(a: Array, b: Array, scales: list[Any], points: list[Any], spread: bool) -> Array:
    """Sum in steps of the output, its zero point included, as QLinearAdd has it before it rounds."""
    with np.errstate(under="ignore"):
        ratio_a, ratio_b = scales[0] / scales[2], scales[1] / scales[2]
        constant = np.float32(points[2]) - fused_multiply_add(ratio_a, points[0], ratio_b * np.float32(points[1]))
        if spread:
            return fused_multiply_add(b, ratio_b, fused_multiply_add(a, ratio_a, constant))
        return fused_multiply_add(a, ratio_a, fused_multiply_add(b, ratio_b, constant))


def average_pool2d(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int,
                   kernel: int | tuple[int, int], *, stride: int | tuple[int, int] | None = None,
                   padding: Padding = 0, count_include_pad: bool = False, ceil_mode: bool = False,
                   dtype: npt.DTypeLike | None = None, fused: bool | None = None) -> Array:
    """Average each window as onnxruntime averages between DequantizeLinear and QuantizeLinear.

    The elements ``float32(x - x_zero_point) * x_scale`` are added in float32, row by row from the left. Input and
    output of one type are those of its fused kernel, QLinearAveragePool (com.microsoft):
    ``y = clip(rint(sum / count / y_scale + y_zero_point))``, each operation rounded to float32. For two types it has
    none, and the zero point is outside the rounding, as QuantizeLinear has it.

    Parameters
    ----------
    x : (N, C, H, W) int8 or uint8 array
        Activations.
    x_scale, y_scale : float
        Scales.
    x_zero_point, y_zero_point : int
        Zero points.
    kernel : int or (int, int)
        Size of the window, (R, S).
    stride : int or (int, int), optional
        Step of the window; 1 if not given, as in ONNX.
    padding : int, (int, int) or (int, int, int, int)
        Padding of all sides, (height, width) or (top, left, bottom, right).
    count_include_pad : bool
        Divide by the size of the window, and not by the number of elements of the input in it.
    ceil_mode : bool
        Also make an output of a last window that hangs over the end.
    dtype : int8 or uint8, optional
        Type of the result, that of `x` if not given.
    fused : bool, optional
        Whether the rule is that of QLinearAveragePool, instead of what follows from the types.

    Returns
    -------
    (N, C, P, Q) array of type `dtype`

    Raises
    ------
    ValueError
        If types, shapes or ranges do not fit.
    """
    activations = _eight_bits("x", x)
    rank("x", activations, 4)
    kind = _output(activations, dtype)
    point = checked_zero_point("y_zero_point", y_zero_point, kind)
    window, step = pair("kernel", kernel), pair("stride", 1 if stride is None else stride)
    geometry: dict[str, Any] = {"stride": step, "padding": padding, "ceil_mode": ceil_mode}
    height, width = activations.shape[2:]
    counts = pool.window_counts(height, width, window, count_include_pad=count_include_pad, **geometry)
    check_reach(x_scale=x_scale, y_scale=y_scale)
    real = dequantize_linear(activations, x_scale, x_zero_point)
    mean = pool.sequential_sums(real, window, **geometry) / counts.astype(np.float32)
    if not _is_fused(fused, activations.dtype, kind):
        return quantize_linear(mean, y_scale, point, dtype=kind)
    bounds = np.iinfo(kind)
    with np.errstate(under="ignore"):
        rounded = np.rint(mean / checked_scale("y_scale", y_scale) + point.astype(np.float32))
    return np.clip(rounded, bounds.min, bounds.max).astype(kind)


def global_average_pool2d(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, *,
                          dtype: npt.DTypeLike | None = None, fused: bool | None = None) -> Array:
    """Average each channel, input and output of one type as onnxruntime's QLinearGlobalAveragePool (com.microsoft).

    Unlike :func:`average_pool2d` that adds integers and requantises once, with the scale
    ``x_scale / (y_scale * float32(H * W))``. For two types onnxruntime adds float32 numbers in an order that depends
    on the processor. Here the mean is exact, ``y = clip(rint(sum * x_scale / (H * W * y_scale)) + y_zero_point)``.

    Parameters
    ----------
    x : (N, C, H, W) int8 or uint8 array
        Activations.
    x_scale, y_scale : float
        Scales.
    x_zero_point, y_zero_point : int
        Zero points.
    dtype : int8 or uint8, optional
        Type of the result, that of `x` if not given.
    fused : bool, optional
        Whether the rule is that of QLinearGlobalAveragePool, instead of what follows from the types.

    Returns
    -------
    (N, C, 1, 1) array of type `dtype`

    Raises
    ------
    ValueError
        If types, shapes or ranges do not fit.
    """
    activations = _eight_bits("x", x)
    rank("x", activations, 4)
    shift = int(checked_zero_point("x_zero_point", x_zero_point, activations.dtype))
    kind = _output(activations, dtype)
    point = int(checked_zero_point("y_zero_point", y_zero_point, kind))
    sums = pool.window_sums(activations, activations.shape[2:], x_zero_point=shift)
    size = np.float32(activations.shape[2] * activations.shape[3])
    check_reach(x_scale=x_scale, y_scale=y_scale)
    bounds = np.iinfo(kind).min, np.iinfo(kind).max
    if not _is_fused(fused, activations.dtype, kind):
        # Numerator and denominator are exact in float64, so that a half is one, and nothing else.
        mean = sums * np.float64(np.float32(x_scale)) / (np.float64(size) * np.float32(y_scale))
        return np.clip(np.rint(mean) + point, *bounds).astype(kind)
    scale = checked_scale("x_scale", x_scale) / (checked_scale("y_scale", y_scale) * size)
    return onnx(sums, scale, point, *bounds).astype(kind)


def integer_average_pool2d(x: Array, kernel: int | tuple[int, int], *, stride: int | tuple[int, int] | None = None,
                           padding: Padding = 0, ceil_mode: bool = False) -> Array:
    """Average each window of stored integers as TensorFlow Lite's AVERAGE_POOL_2D: halves away from zero.

    Input and output share scale and zero point; padding is not counted.

    Parameters
    ----------
    x : (N, C, H, W) integer array
        Activations.
    kernel, stride, padding, ceil_mode
        As for :func:`average_pool2d`.

    Returns
    -------
    (N, C, P, Q) array of the type of `x`

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    geometry: dict[str, Any] = {"stride": pair("stride", 1 if stride is None else stride), "padding": padding,
                                "ceil_mode": ceil_mode}
    sums = pool.window_sums(x, kernel, **geometry, acc_bits=48)
    counts = pool.window_counts(x.shape[2], x.shape[3], kernel, **geometry)
    return np.asarray(np.sign(sums) * ((np.abs(sums) + counts // 2) // counts)).astype(x.dtype)


def softmax_terms(x_scale: float, count: int) -> Array:
    """Exponentials of scores that are 0 to 255 below the greatest of a row of some, as onnxruntime's table has them.

    They begin as high as a sum of `count` allows, and may be subnormal, or zero, at the end: (256,) float32.
    """
    step = float(checked_scale("x_scale", x_scale))
    # The logarithm is float32's, and the runtime leaves five below it.
    headroom = max(0.0, float(np.log(np.finfo(np.float32).max / np.float32(count))) - 5)
    found: Array = np.exp((-np.arange(256) + headroom / step) * step).astype(np.float32)
    return found


def softmax(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, *,
            dtype: npt.DTypeLike | None = None) -> Array:
    """Normalise the last axis as onnxruntime's QLinearSoftmax (com.microsoft, opset 13).

    A table of 256 float32 values holds ``exp(x_scale * (i - 255 + d))``, where ``d`` lifts the
    greatest as high as a sum over the axis allows. A row is looked up relative to its maximum and
    added in float32, in order; then ``y = clip(rint(term * floor(1 / y_scale) / sum) +
    y_zero_point)`` with product and quotient in float64.

    Parameters
    ----------
    x : (..., K) int8 or uint8 array
        Scores.
    x_scale, y_scale : float
        Scales; ``floor(1 / y_scale)`` is used, so 1/256 and 1/255 are served best.
    x_zero_point : int
        Zero point of the scores, which cancels.
    y_zero_point : int
        Zero point of the probabilities.
    dtype : int8 or uint8, optional
        Type of the result, that of `x` if not given.

    Returns
    -------
    (..., K) array of type `dtype`

    Raises
    ------
    ValueError
        If types, shapes or ranges do not fit.
    """
    scores = _eight_bits("x", x)
    if scores.ndim == 0 or scores.size == 0:
        raise ValueError(f"x must have at least one dimension, none of them 0, not shape {scores.shape}")
    checked_zero_point("x_zero_point", x_zero_point, scores.dtype)
    kind = _output(scores, dtype)
    point = checked_zero_point("y_zero_point", y_zero_point, kind)
    table = softmax_terms(x_scale, scores.shape[-1])
    inverse = np.float64(np.floor(np.float32(1) / checked_scale("y_scale", y_scale)))
    terms = table[scores.max(axis=-1, keepdims=True).astype(np.int32) - scores]
    # accumulate adds strictly in order, where sum would add in pairs.
    total = np.add.accumulate(terms, axis=-1, dtype=np.float32)[..., -1:]
    bounds = np.iinfo(kind)
    rounded = np.rint(terms * inverse / total) + point
    return np.clip(rounded, bounds.min, bounds.max).astype(kind)
