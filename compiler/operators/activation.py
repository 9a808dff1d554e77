"""Activations of quantised tensors, as bounds or as a table over every stored value."""

import numpy as np

from ...golden import activation as golden
from ...hdl.errors import PearrayError
from .operator import Activation
from .requant import Requant

__all__ = ["activation_bounds", "activation_table"]


def activation_bounds(activation: Activation, requant: Requant, x_dtype: object) -> tuple[int, int]:
    """Bounds of the stored output with ``relu`` and ``clip`` folded in.

    Bounds of ``clip`` are real numbers, ``rint(bound / y_scale) + y_zero_point`` when stored, if
    `requant` knows the output's scale, else stored values.
    """
    low, high = requant.bounds(x_dtype)
    first, last = low, high
    if activation == "relu":
        first = requant.y_zero_point
    elif isinstance(activation, tuple) and activation[0] == "clip":
        if requant.y_scale is None:
            first, last = round(activation[1]), round(activation[2])
        else:
            first, last = golden.quantised_bounds(activation[1], activation[2], requant.y_scale,
                                                  requant.y_zero_point, requant.output_dtype(x_dtype))
    return min(max(first, low), high), min(max(last, low), high)


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
        raise PearrayError(f"activation {name!r} needs the output's scale: use Requant.onnx")
    # Leaky ReLU commutes with the scale.
    scale = 1.0 if scale is None else scale
    return golden.table(activation, scale, requant.y_zero_point, scale, requant.y_zero_point, dtype)
