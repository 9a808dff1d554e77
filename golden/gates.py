"""GELU, its tanh form, and SiLU of 8-bit numbers, as tables of 256 entries that are rounded once.

A table holds the function itself, evaluated in float64, so that its error is that of its one rounding: at most half a
step of the result, and 2**-40 of it. (:mod:`.activation` has the functions of which onnxruntime defines the float32.)
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .quantise import checked_scale
from .tensors import Array

__all__ = ["FUNCTIONS", "table"]


def _gelu(x: float) -> float:
    """``x * (1 + erf(x / sqrt(2))) / 2``, without cancellation where it is small."""
    return 0.5 * x * math.erfc(-x / math.sqrt(2))


def _sigmoid(x: float) -> float:
    """Logistic function, without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _gelu_tanh(x: float) -> float:
    """``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2``, as a logistic function of twice the argument."""
    return x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))


def _silu(x: float) -> float:
    """``x / (1 + exp(-x))``, also called swish."""
    return x * _sigmoid(x)


#: Functions of a real number by name.
FUNCTIONS: dict[str, Callable[[float], float]] = {"gelu": _gelu, "gelu_tanh": _gelu_tanh, "silu": _silu}


def table(name: str, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int,
          dtype: npt.DTypeLike = np.int8) -> Array:
    """Tabulate a function of a quantised number; see :func:`.activation.apply_table`.

    Parameters
    ----------
    name : str
        Key of :data:`FUNCTIONS`.
    x_scale, y_scale : float
        Scales of argument and result.
    x_zero_point, y_zero_point : int
        Zero points of argument and result.
    dtype : int8 or uint8
        Type of both.

    Returns
    -------
    (256,) array of type `dtype`
        Entry ``q mod 256`` is the result for argument q, halves rounded to even.

    Raises
    ------
    ValueError
        If the function is unknown, or a type or a scale does not fit.
    """
    kind = np.dtype(dtype)
    if name not in FUNCTIONS or kind not in (np.int8, np.uint8):
        raise ValueError(f"function must be {', '.join(FUNCTIONS)}, and dtype int8 or uint8, not {name!r} of {kind}")
    for field, scale in (("x_scale", x_scale), ("y_scale", y_scale)):
        checked_scale(field, scale)
    arguments = (np.arange(256, dtype=np.uint8).view(kind).astype(np.int64) - int(x_zero_point)) * float(x_scale)
    results = np.array([FUNCTIONS[name](float(x)) for x in arguments]) / float(y_scale)
    bounds = np.iinfo(kind)
    return np.clip(np.rint(results) + int(y_zero_point), bounds.min, bounds.max).astype(kind)
