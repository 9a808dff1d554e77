"""Activations of quantised tensors, as bounds or as a table over every stored value."""

import math

import numpy as np

from ..hdl.errors import PearrayError
from .operator import Activation
from .requant import Requant

__all__ = ["activation_bounds", "activation_table", "lookup_table"]


def activation_bounds(activation: Activation, requant: Requant, x_dtype: object) -> tuple[int, int]:
    """Bounds of the stored output with ``relu`` and ``clip`` folded in.

    Bounds of ``clip`` are real numbers, ``rint(bound / y_scale) + y_zero_point`` when stored, if
    `requant` knows the output's scale, else stored values.
    """
    low, high = requant.bounds(x_dtype)
    if activation == "relu":
        low = max(low, requant.y_zero_point)
    elif isinstance(activation, tuple) and activation[0] == "clip":
        bounds = [float(value) for value in activation[1:]]
        if requant.y_scale is not None:
            scale = np.float32(requant.y_scale)
            bounds = [float(np.rint(np.float32(value) / scale)) + requant.y_zero_point for value in bounds]
        first, last = (int(min(max(math.floor(value + 0.5), low), high)) for value in bounds)
        low, high = first, last
    return min(low, high), max(low, high)


def lookup_table(function: object, in_scale: float, in_zero_point: int, in_dtype: object,
                 out_scale: float, out_zero_point: int, out_dtype: object) -> np.ndarray:
    """Table of ``quantise(function(dequantise(value)))`` over every value of an 8-bit type.

    Parameters
    ----------
    function : callable
        From a float32 array to an array of the same shape.
    in_scale, in_zero_point, in_dtype : float, int, dtype
        How the argument is stored.
    out_scale, out_zero_point, out_dtype : float, int, dtype
        How the result is stored.

    Returns
    -------
    array of shape (256,) of `out_dtype`
        Entry i belongs to the stored value whose low 8 bits are i.
    """
    stored = np.arange(256, dtype=np.uint8).view(np.dtype(in_dtype)).astype(np.int32)  # type: ignore[call-overload]
    real = (stored - in_zero_point).astype(np.float32) * np.float32(in_scale)
    info = np.iinfo(np.dtype(out_dtype))  # type: ignore[call-overload]
    result = np.rint(np.asarray(function(real), np.float32) / np.float32(out_scale))  # type: ignore[operator]
    clipped: np.ndarray = np.clip(result + out_zero_point, info.min, info.max).astype(info.dtype)
    return clipped


def _functions(activation: Activation) -> object:
    if isinstance(activation, tuple):
        alpha = np.float32(activation[1])
        return lambda x: np.where(x >= 0, x, alpha * x)
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return {
        "sigmoid": lambda x: 1 / (1 + np.exp(-x.astype(np.float64))),
        "tanh": lambda x: np.tanh(x.astype(np.float64)),
        "gelu": lambda x: 0.5 * x.astype(np.float64) * (1 + erf(x / math.sqrt(2))),
    }[activation]


def activation_table(activation: Activation, requant: Requant, x_dtype: object) -> np.ndarray | None:
    """Table of an activation over stored outputs, or None if bounds express it.

    Argument and result share the output's scale and zero point.

    Raises
    ------
    PearrayError
        If the output's scale is unknown, or its type has more than 8 bits.
    """
    if activation in (None, "relu") or (isinstance(activation, tuple) and activation[0] == "clip"):
        return None
    name = activation[0] if isinstance(activation, tuple) else activation
    dtype = requant.output_dtype(x_dtype)
    if dtype.itemsize != 1:
        raise PearrayError(f"activation {name!r} needs an 8-bit output, not {dtype}")
    scale = requant.y_scale
    if scale is None and name != "leaky_relu":
        raise PearrayError(f"activation {name!r} needs the output's scale: use Requant.onnx, not Requant.tflite")
    # Leaky ReLU commutes with the scale.
    return lookup_table(_functions(activation), scale or 1.0, requant.y_zero_point, dtype, scale or 1.0,
                        requant.y_zero_point, dtype)
