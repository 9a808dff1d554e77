"""Requantisation: the two rules that turn an integer sum into a narrow output, to the last bit.

Both rules are those of a runtime that people deploy, so that hardware which obeys them gives a
network's published results. They differ: neither can stand for the other.
"""

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "divide_by_power", "doubling_high", "onnx", "onnx_scale", "per_channel", "tflite",
           "tflite_int64_multiplier", "tflite_multiplier"]

#: Array of any numeric type; functions state and check which types they take.
Array: TypeAlias = npt.NDArray[Any]

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1
_INT48_MIN, _INT48_MAX = -(1 << 47), (1 << 47) - 1


def per_channel(name: str, value: npt.ArrayLike, shape: tuple[int, ...], axis: int) -> Array:
    """Give a scalar or a vector the rank of a tensor, so that it broadcasts along one axis.

    Parameters
    ----------
    name : str
        Name of the field, for messages.
    value : array_like of shape () or (1,) or (channels,)
        One value for all channels, or one for each.
    shape : tuple of int
        Shape of the tensor, with ``shape[axis] == channels``.
    axis : int
        Axis of the channels.

    Returns
    -------
    array of shape () or (1, ..., channels, ..., 1)

    Raises
    ------
    ValueError
        If the number of values is neither one nor the number of channels.
    """
    values = np.asarray(value)
    if values.size == 1:
        return values.reshape(())
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis must be in {-len(shape)}..{len(shape) - 1}, not {axis}")
    if values.shape != (shape[axis],):
        raise ValueError(f"{name} must be a scalar or have shape ({shape[axis]},), not {values.shape}")
    broadcast = [1] * len(shape)
    broadcast[axis] = shape[axis]
    return values.reshape(broadcast)


def _integer(name: str, values: Array) -> Array:
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be of an integer type, not {values.dtype}")
    return values.astype(np.int64)


def _inside(name: str, values: Array, low: int, high: int) -> None:
    if values.size and (values.min() < low or values.max() > high):
        wrong = values.min() if values.min() < low else values.max()
        raise ValueError(f"{name} must be in {low}..{high}, not {wrong}")


def _clamp(low: int, high: int) -> None:
    if low > high:
        raise ValueError(f"low must be at most high ({high}), not {low}")


def onnx_scale(x_scale: npt.ArrayLike, w_scale: npt.ArrayLike, y_scale: npt.ArrayLike) -> Array:
    """Combine the scales of two operands and a result as onnxruntime does: in float32, left to right.

    Parameters
    ----------
    x_scale, y_scale : float
        Scales of the activations and of the output.
    w_scale : array_like of shape () or (M,)
        Scale of the weights, or one for each output channel.

    Returns
    -------
    float32 array of the shape of `w_scale`
        ``(x_scale * w_scale) / y_scale``, two roundings.

    Raises
    ------
    ValueError
        If a scale is not finite and positive.
    """
    scales = []
    for name, value in (("x_scale", x_scale), ("w_scale", w_scale), ("y_scale", y_scale)):
        with np.errstate(over="ignore"):
            scale = np.asarray(value, np.float32)
        if not (np.isfinite(scale) & (scale > 0)).all():
            raise ValueError(f"{name} must be finite and positive, not {value!r}")
        scales.append(scale)
    with np.errstate(over="ignore", under="ignore"):
        product: Array = np.divide(np.multiply(scales[0], scales[1]), scales[2])
    if not np.isfinite(product).all():
        raise ValueError(f"x_scale * w_scale / y_scale must be finite, not {product.max()}")
    return product


def onnx(acc: Array, scale: npt.ArrayLike, zero_point: int = 0, low: int = -128, high: int = 127,
         axis: int = 1) -> Array:
    """Requantise as onnxruntime's CPU kernels: ``clip(rint(float32(acc) * scale) + zero_point)``.

    The sum is first rounded to float32, the product is one float32 multiplication, and ``rint``
    rounds halves to even. Clipping comes before the conversion to an integer, so no sum overflows.

    Parameters
    ----------
    acc : integer array of any shape
        Sums.
    scale : float32 array_like of shape () or (channels,)
        Scale of the sum over the scale of the output (:func:`onnx_scale`).
    zero_point : int
        Zero point of the output.
    low, high : int
        Least and greatest output, the clamp of an activation included.
    axis : int
        Axis of `acc` that holds the channels.

    Returns
    -------
    int32 array of the shape of `acc`
        Outputs in low..high.

    Raises
    ------
    ValueError
        If `acc` is not of an integer type, a scale is not finite and positive, or the number of
        scales is wrong.
    """
    sums = _integer("acc", np.asarray(acc))
    _clamp(low, high)
    factors = np.asarray(scale, np.float32)
    if not (np.isfinite(factors) & (factors >= 0)).all():
        raise ValueError(f"scale must be finite and not negative, not {scale!r}")
    factors = per_channel("scale", factors, sums.shape, axis)
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.rint(np.multiply(sums.astype(np.float32), factors))
    # Bounds of up to 18 bits and their differences are exact in float32.
    return np.clip(scaled, np.float32(low - zero_point), np.float32(high - zero_point)).astype(
        np.int32) + np.int32(zero_point)


def doubling_high(a: Array, b: Array | int) -> Array:
    """Round ``2 * a * b / 2**32``, halves upwards.

    gemmlowp writes this as a nudge that depends on the sign and a division that truncates, which
    comes to the same. Its saturation concerns a negative multiplier only, which is excluded here.
    """
    return np.asarray((a * b + (1 << 30)) >> 31)


def divide_by_power(x: Array, exponent: Array | int) -> Array:
    """Round ``x / 2**exponent``, halves away from zero."""
    mask = (np.int64(1) << np.asarray(exponent, np.int64)) - 1
    threshold = (mask >> 1) + (x < 0)
    quotient: Array = (x >> exponent) + ((x & mask) > threshold)
    return quotient


def _round_once(sums: Array, multipliers: Array, shifts: Array) -> Array:
    """Round ``sums * multipliers / 2**(31 - shifts)``, halves upwards."""
    if sums.size and (sums.min() < _INT32_MIN or sums.max() > _INT32_MAX):
        # Products of 79 bits need Python's integers.
        sums, multipliers, shifts = (part.astype(object) for part in (sums, multipliers, shifts))
    return np.asarray((sums * multipliers + (1 << 30 - shifts)) >> (31 - shifts))


def tflite(acc: Array, multiplier: npt.ArrayLike, shift: npt.ArrayLike, zero_point: int = 0,
           low: int = -128, high: int = 127, axis: int = 1,
           rounding: Literal["double", "single"] = "double") -> Array:
    """Requantise as the reference kernels of TensorFlow Lite (LiteRT), in integers only.

    The output stands for ``acc * multiplier * 2**(shift - 31) + zero_point``, and is rounded

    * ``"double"``: twice, by gemmlowp's saturating rounding doubling high multiply of
      ``acc * 2**max(shift, 0)``, halves upwards, and by a rounding division by
      ``2**max(-shift, 0)``, halves away from zero (CONV_2D, DEPTHWISE_CONV_2D, ADD, BATCH_MATMUL);
    * ``"single"``: once, ``(acc * multiplier + 2**(30 - shift)) >> (31 - shift)``, with halves
      upwards (FULLY_CONNECTED; the others with 16-bit operands, see :func:`tflite_int64_multiplier`).

    Parameters
    ----------
    acc : integer array of any shape, values of int32, or of 48 bits with single rounding
        Sums.
    multiplier : int array_like of shape () or (channels,)
        Q31 factor, 0 to 2**31 - 1.
    shift : int array_like of shape () or (channels,)
        Exponent, positive to the left as in TensorFlow Lite, -31 to 30. With double rounding a sum shifted
        to the left wraps to 32 bits.
    zero_point : int
        Zero point of the output.
    low, high : int
        Least and greatest output, the clamp of an activation included.
    axis : int
        Axis of `acc` that holds the channels.
    rounding : {"double", "single"}
        Which of the two rules.

    Returns
    -------
    int32 array of the shape of `acc`
        Outputs in low..high.

    Raises
    ------
    ValueError
        If a value is of the wrong type or out of range.
    """
    sums = _integer("acc", np.asarray(acc))
    _clamp(low, high)
    multipliers = _integer("multiplier", np.asarray(multiplier))
    shifts = _integer("shift", np.asarray(shift))
    _inside("acc", sums, *((_INT48_MIN, _INT48_MAX) if rounding == "single" else (_INT32_MIN, _INT32_MAX)))
    _inside("multiplier", multipliers, 0, _INT32_MAX)
    _inside("shift", shifts, -31, 30)
    multipliers = per_channel("multiplier", multipliers, sums.shape, axis)
    shifts = per_channel("shift", shifts, sums.shape, axis)
    if rounding == "double":
        left = (sums << np.maximum(shifts, 0)).astype(np.int32).astype(np.int64)
        rounded = divide_by_power(doubling_high(left, multipliers), np.maximum(-shifts, 0))
    elif rounding == "single":
        rounded = _round_once(sums, multipliers, shifts)
    else:
        raise ValueError(f"rounding must be 'double' or 'single', not {rounding!r}")
    return np.clip(rounded + zero_point, low, high).astype(np.int32)


def tflite_multiplier(scale: float) -> tuple[int, int]:
    """Split a positive real factor into TensorFlow Lite's Q31 multiplier and shift.

    Parameters
    ----------
    scale : float
        ``x_scale * w_scale / y_scale`` in float64.

    Returns
    -------
    multiplier, shift : int
        With ``multiplier * 2**(shift - 31)`` nearest to `scale`, and `multiplier` in
        2**30 .. 2**31 - 1, or zero for a factor that is too small to matter.

    Raises
    ------
    ValueError
        If `scale` is not finite and positive, or is 2**30 or more.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be finite and positive, not {scale}")
    fraction, shift = np.frexp(np.float64(scale))
    # Halves away from zero, as C's round().
    multiplier, exponent = int(np.floor(fraction * (1 << 31) + 0.5)), int(shift)
    if multiplier == 1 << 31:
        multiplier, exponent = multiplier >> 1, exponent + 1
    if exponent < -31:
        return 0, 0
    if exponent > 30:
        raise ValueError(f"scale must be less than 2**30, not {scale}")
    return multiplier, exponent


def tflite_int64_multiplier(multiplier: npt.ArrayLike) -> Array:
    """Round Q31 multipliers to the 15 bits by which TensorFlow Lite multiplies sums of int64.

    Kernels that round twice have another rule for int16 operands, which they add in int64:
    ``(acc * reduced + 2**(14 - shift)) >> (15 - shift)``, for shifts up to 7. That is single rounding with
    ``reduced * 2**16`` (CONV_2D, BATCH_MATMUL). FULLY_CONNECTED keeps its rule and all bits of the multiplier.

    Parameters
    ----------
    multiplier : int array_like
        Q31 factors, 0 to 2**31 - 1.

    Returns
    -------
    int64 array
        ``reduced * 2**16``, with ``reduced = min((multiplier + 2**15) >> 16, 2**15 - 1)``.
    """
    reduced = np.minimum((np.asarray(multiplier, np.int64) + (1 << 15)) >> 16, (1 << 15) - 1)
    return np.asarray(reduced << 16)
