"""Activations: their forms, and what they are on quantised tensors, bounds or a table over every stored value."""

from typing import Any

import numpy as np

from ...golden import activation as golden
from ...golden.float_functions import FUNCTIONS
from ...golden.float_steps import evaluate
from ...hdl.errors import PearrayError
from .fields import is_number
from .requant import Requant

__all__ = ["Activation", "activation_bounds", "activation_table", "check_activation", "float_activation"]

#: None, "relu", ("clip", low, high), or a function of the table :data:`.golden.activation.FUNCTIONS`.
Activation = Any


def _is_clip(activation: Activation) -> bool:
    return isinstance(activation, tuple) and activation[:1] == ("clip",)


def check_activation(activation: Activation) -> None:
    """Check the form of an activation."""
    name, *values = activation if isinstance(activation, tuple) and activation else (activation,)
    counts = {"clip": 2} | {known: len(function.parameters) for known, function in golden.FUNCTIONS.items()}
    if activation is None or (isinstance(activation, str) and activation == "relu"):
        return
    if (isinstance(name, str) and len(values) == counts.get(name) and all(map(is_number, values))
            and not (name == "clip" and values[0] > values[1])):
        return
    forms = golden.listed("None", "'relu'", "('clip', low, high)")
    raise PearrayError(f"activation must be {forms}, not {activation!r}")


def float_activation(activation: Activation, sums: np.ndarray) -> np.ndarray:
    """Activation of float sums, by :data:`.golden.float_functions.FUNCTIONS`."""
    if activation is None:
        return sums
    name, *values = activation if isinstance(activation, tuple) else (activation,)
    return evaluate(lambda s, x: FUNCTIONS[name](s, x, *values), sums).astype(sums.dtype)


def activation_bounds(activation: Activation, requant: Requant, x_dtype: object) -> tuple[int, int]:
    """Bounds of the stored output with ``relu`` and ``clip`` folded in.

    Bounds of ``clip`` are real numbers, ``rint(bound / y_scale) + y_zero_point`` when stored, if
    `requant` knows the output's scale, else stored values.
    """
    low, high = requant.bounds(x_dtype)
    first, last = low, high
    if activation == "relu":
        first = requant.y_zero_point
    elif _is_clip(activation):
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
    if activation in (None, "relu") or _is_clip(activation):
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
