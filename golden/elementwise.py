"""Difference and product of two quantised tensors, and TensorFlow Lite's integer rules for sum, difference and product.

What onnxruntime's CPU kernels compute in float32, and LiteRT's reference kernels in integers, to the last bit.
:func:`.quantised.add` is the sum as onnxruntime has it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .quantise import checked_scale, checked_zero_point, dequantize_linear, quantize_linear
from .requantise import tflite, tflite_multiplier
from .tensors import Array

__all__ = ["IntegerSum", "multiply", "product_multiplier", "product_ratio", "subtract", "tflite_multiply", "tflite_sum"]

#: Bits by which TensorFlow Lite shifts operands of so many bytes to the left before it scales them.
_LEFT_SHIFTS = {1: 20, 2: 15}

#: Types of bytes, and those of which TensorFlow Lite has rules.
_BYTES = np.int8, np.uint8
_STORED = *_BYTES, np.int16


def _checked(a: Array, a_zero_point: int, b: Array, b_zero_point: int, y_zero_point: int,
             dtype: npt.DTypeLike | None, allowed: Sequence[type] = _BYTES) -> tuple[
                 list[Array], list[Any], np.dtype[Any]]:
    """Operands, the three zero points, and the type of the result, all of allowed types."""
    operands = [np.asarray(a), np.asarray(b)]
    kinds = [operand.dtype for operand in operands]
    kinds.append(kinds[0] if dtype is None else np.dtype(dtype))
    for name, kind in zip(("a", "b", "dtype"), kinds, strict=True):
        if kind not in allowed:
            raise ValueError(f"{name} must be {' or '.join(each.__name__ for each in allowed)}, not {kind}")
    try:
        np.broadcast_shapes(operands[0].shape, operands[1].shape)
    except ValueError:
        raise ValueError(f"b must broadcast with {operands[0].shape}, not have shape {operands[1].shape}") from None
    points = [checked_zero_point(f"{name}_zero_point", value, kind) for name, value, kind in
              zip("aby", (a_zero_point, b_zero_point, y_zero_point), kinds, strict=True)]
    return operands, points, kinds[-1]


def subtract(a: Array, a_scale: float, a_zero_point: int, b: Array, b_scale: float, b_zero_point: int,
             y_scale: float, y_zero_point: int, *, dtype: npt.DTypeLike | None = None) -> Array:
    """Subtract two quantised tensors as onnxruntime does between DequantizeLinear and QuantizeLinear.

    It has no fused kernel for it, so the standard's operators follow one another, each operation rounded to float32:
    ``y = clip(rint(((a - a_zero_point) * a_scale - (b - b_zero_point) * b_scale) / y_scale) + y_zero_point)``.

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

    Returns
    -------
    array of type `dtype` and of the broadcast shape

    Raises
    ------
    ValueError
        If types, shapes or ranges do not fit.
    """
    operands, points, kind = _checked(a, a_zero_point, b, b_zero_point, y_zero_point, dtype)
    real = (dequantize_linear(values, checked_scale(name, scale), point) for name, values, scale, point in
            zip(("a_scale", "b_scale"), operands, (a_scale, b_scale), points, strict=False))
    return quantize_linear(np.subtract(*real), checked_scale("y_scale", y_scale), points[2], dtype=kind)


def product_ratio(a_scale: float, b_scale: float, y_scale: float) -> np.float32:
    """Steps of the output in a product of one step of each operand: ``a_scale * b_scale / y_scale``, as QLinearMul.

    Raises
    ------
    ValueError
        If a scale is not finite and positive, or the ratio is not finite.
    """
    scales = [checked_scale(name, value) for name, value in
              (("a_scale", a_scale), ("b_scale", b_scale), ("y_scale", y_scale))]
    with np.errstate(over="ignore", under="ignore"):
        ratio = np.float32(scales[0] * scales[1] / scales[2])
    if not np.isfinite(ratio):
        raise ValueError(f"a_scale * b_scale / y_scale must be finite, not {ratio}")
    return ratio


def multiply(a: Array, a_scale: float, a_zero_point: int, b: Array, b_scale: float, b_zero_point: int,
             y_scale: float, y_zero_point: int, *, dtype: npt.DTypeLike | None = None,
             fused: bool | None = None) -> Array:
    """Multiply two quantised tensors as onnxruntime does between DequantizeLinear and QuantizeLinear.

    Operands and result of one type are multiplied by its fused kernel, QLinearMul (com.microsoft): ``y = clip(rint(
    float32((a - a_zero_point) * (b - b_zero_point)) * (a_scale * b_scale / y_scale) + y_zero_point))``, an integer
    product, and each operation rounded to float32. The zero point is inside the rounding, so ties go to even outputs.

    For a mixture of types there is no such kernel, and the standard's operators follow one another, each operation
    rounded to float32: ``y = clip(rint((a - a_zero_point) * a_scale * ((b - b_zero_point) * b_scale) / y_scale) +
    y_zero_point)``. Here the zero point is outside the rounding.

    Parameters
    ----------
    a, b : int8 or uint8 arrays
        Factors, whose shapes broadcast.
    a_scale, b_scale, y_scale : float
        Scales, taken as float32.
    a_zero_point, b_zero_point, y_zero_point : int
        Zero points.
    dtype : int8 or uint8, optional
        Type of the result, that of `a` if not given.
    fused : bool, optional
        Whether the rule is that of QLinearMul, instead of what follows from the types.

    Returns
    -------
    array of type `dtype` and of the broadcast shape

    Raises
    ------
    ValueError
        If types, shapes or ranges do not fit.
    """
    operands, points, kind = _checked(a, a_zero_point, b, b_zero_point, y_zero_point, dtype)
    ratio = product_ratio(a_scale, b_scale, y_scale)
    if not (len({operands[0].dtype, operands[1].dtype, kind}) == 1 if fused is None else fused):
        with np.errstate(under="ignore"):
            real = np.multiply(*(dequantize_linear(values, scale, point) for values, scale, point in
                                 zip(operands, (a_scale, b_scale), points, strict=False)))
        return quantize_linear(real, checked_scale("y_scale", y_scale), points[2], dtype=kind)
    steps = [values.astype(np.int32) - int(point) for values, point in zip(operands, points, strict=False)]
    bounds = np.iinfo(kind)
    with np.errstate(under="ignore"):
        scaled = np.multiply(*steps).astype(np.float32) * ratio + np.float32(points[2])
    return np.clip(np.rint(scaled), bounds.min, bounds.max).astype(kind)


class IntegerSum:
    """Sum or difference of two quantised tensors as TensorFlow Lite's ADD and SUB have it.

    Each operand, less its zero point and shifted left by 20, or by 15 if it has 16 bits, is scaled by half its scale
    over the greater one; the two are added, and the sum is scaled to the output. All three scalings are a doubling high
    multiply and a rounding right shift, in int32.

    Parameters
    ----------
    a_scale, b_scale, y_scale : float
        Scales, taken as float32.
    a_zero_point, b_zero_point, y_zero_point : int
        Zero points.
    negative : bool
        Whether b is subtracted.
    item : {1, 2}
        Bytes of an operand.

    Raises
    ------
    ValueError
        If a scale is not finite and positive, or the output's is too small for the rule, which takes factors below 1.
    """

    def __init__(self, a_scale: float, a_zero_point: int, b_scale: float, b_zero_point: int, y_scale: float,
                 y_zero_point: int, *, negative: bool = False, item: int = 1):
        scales = [float(checked_scale(name, value)) for name, value in
                  (("a_scale", a_scale), ("b_scale", b_scale), ("y_scale", y_scale))]
        twice = 2 * max(scales[:2])
        self._left_shift = _LEFT_SHIFTS[item]
        factor = twice / ((1 << self._left_shift) * scales[2])
        if factor >= 1:
            raise ValueError(f"y_scale must be more than {twice / (1 << self._left_shift):.3g} for the other scales, "
                             f"not {scales[2]:.3g}")
        self._zeros = int(a_zero_point), int(b_zero_point)
        #: Multiplier and left shift of each operand, and the sign of the second one.
        self.factors = [tflite_multiplier(scale / twice) for scale in scales[:2]]
        self.sign = -1 if negative else 1
        #: Multiplier and left shift of the sum, and the zero point of the output.
        self.multiplier, self.shift = tflite_multiplier(factor)
        self.zero_point = int(y_zero_point)

    def terms(self, a: Array, b: Array) -> tuple[Array, Array]:
        """What stored values of each operand add to the sum: int64 arrays of their shapes."""
        first, second = (
            tflite((values.astype(np.int64) - zero) << self._left_shift, *factor, 0, -(1 << 31), (1 << 31) - 1)
            for values, zero, factor in zip((a, b), self._zeros, self.factors, strict=True))
        return first.astype(np.int64), self.sign * second.astype(np.int64)


def tflite_sum(a: Array, a_scale: float, a_zero_point: int, b: Array, b_scale: float, b_zero_point: int,
               y_scale: float, y_zero_point: int, *, negative: bool = False) -> Array:
    """Add or, if `negative`, subtract as TensorFlow Lite's ADD and SUB; see :class:`IntegerSum`.

    Parameters
    ----------
    a, b : int8, uint8 or int16 arrays of one type
        Terms, whose shapes broadcast.
    a_scale, b_scale, y_scale : float
        Scales.
    a_zero_point, b_zero_point, y_zero_point : int
        Zero points.
    negative : bool
        Whether b is subtracted.

    Returns
    -------
    array of that type and of the broadcast shape

    Raises
    ------
    ValueError
        If types, shapes or ranges do not fit.
    """
    operands, points, kind = _checked(a, a_zero_point, b, b_zero_point, y_zero_point, None, _STORED)
    rule = IntegerSum(a_scale, points[0], b_scale, points[1], y_scale, points[2], negative=negative,
                      item=kind.itemsize)
    bounds = np.iinfo(kind)
    return tflite(np.add(*rule.terms(*operands)), rule.multiplier, rule.shift, rule.zero_point, bounds.min,
                  bounds.max).astype(kind)


def product_multiplier(a_scale: float, b_scale: float, y_scale: float) -> tuple[int, int]:
    """Multiplier and left shift by which TensorFlow Lite's MUL scales integer products.

    Raises
    ------
    ValueError
        If a scale is not finite and positive, or their ratio is 2**30 or more.
    """
    return tflite_multiplier(float(product_ratio(a_scale, b_scale, y_scale)))


def tflite_multiply(a: Array, a_scale: float, a_zero_point: int, b: Array, b_scale: float, b_zero_point: int,
                    y_scale: float, y_zero_point: int) -> Array:
    """Multiply as TensorFlow Lite's MUL: integer products, requantised by the rule with two roundings.

    Parameters
    ----------
    a, b : int8, uint8 or int16 arrays of one type
        Factors, whose shapes broadcast.
    a_scale, b_scale, y_scale : float
        Scales.
    a_zero_point, b_zero_point, y_zero_point : int
        Zero points.

    Returns
    -------
    array of that type and of the broadcast shape

    Raises
    ------
    ValueError
        If types, shapes or ranges do not fit.
    """
    operands, points, kind = _checked(a, a_zero_point, b, b_zero_point, y_zero_point, None, _STORED)
    steps = [values.astype(np.int64) - int(point) for values, point in zip(operands, points, strict=False)]
    bounds = np.iinfo(kind)
    return tflite(np.multiply(*steps), *product_multiplier(a_scale, b_scale, y_scale), int(points[2]), bounds.min,
                  bounds.max).astype(kind)
