"""Activation functions: clamps of integers, and tables of 256 entries for everything else."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .quantise import dequantize_linear, fused_multiply_add, quantize_linear
from .tensors import Array

__all__ = [
    "FUNCTIONS", "Function", "apply_table", "clip", "function_of", "gelu", "gelu_tanh", "hard_sigmoid", "hard_swish",
    "leaky_relu", "listed", "quantised_bounds", "relu", "sigmoid", "silu", "table", "tanh",
]

erf = np.vectorize(math.erf, otypes=[np.float64])

#: Coefficients of the tanh form of GELU.
LINEAR = math.sqrt(2 / math.pi)
CUBIC = 0.044715 * LINEAR


def relu(x: Array, zero_point: int = 0) -> Array:
    """Replace what is below the zero point by it.

    Parameters
    ----------
    x : array of any type and shape
    zero_point : int
        Integer that stands for zero.

    Returns
    -------
    array of the type and shape of `x`
    """
    return np.maximum(x, np.asarray(zero_point).astype(x.dtype))


def clip(x: Array, low: float, high: float) -> Array:
    """Limit to low..high.

    Parameters
    ----------
    x : array of any type and shape
    low, high : float
        Bounds, in the numbers of `x` itself (see :func:`quantised_bounds`).

    Returns
    -------
    array of the type and shape of `x`

    Raises
    ------
    ValueError
        If `low` exceeds `high` or a bound is not a number.
    """
    if not low <= high:
        raise ValueError(f"clip must have low <= high, not {low}, {high}")
    return np.clip(x, low, high).astype(x.dtype)


def quantised_bounds(low: float, high: float, scale: float, zero_point: int,
                     dtype: npt.DTypeLike = np.int8) -> tuple[int, int]:
    """Turn the bounds of a clamp of real numbers into those of quantised ones.

    Quantisation is monotonic and returns every quantised number to itself, so clamping to these bounds equals
    dequantising, clamping and quantising again. ReLU is the clamp to 0 .. infinity, ReLU6 to 0 .. 6.

    Returns
    -------
    low, high : int

    Raises
    ------
    ValueError
        If `low` exceeds `high`, a bound is not a number, or a scale or zero point is out of range.
    """
    if not low <= high:
        raise ValueError(f"clip must have low <= high, not {low}, {high}")
    bounds = quantize_linear(np.array([low, high], np.float32), scale, zero_point, dtype=dtype)
    return int(bounds[0]), int(bounds[1])


def leaky_relu(x: Array, alpha: float) -> Array:
    """Multiply negative numbers by a slope: ``x if x >= 0 else float32(alpha) * x``, in float32."""
    values = np.asarray(x, np.float32)
    return np.where(values >= 0, values, np.float32(alpha) * values)


def _rational(x: Array, numerator: list[float], denominator: list[float]) -> Array:
    """Evaluate ``x * n(x**2) / d(x**2)`` by Horner's rule with fused multiply-adds."""
    square = x * x
    parts = []
    for coefficients in (numerator, denominator):
        part = np.full_like(x, coefficients[0])
        for coefficient in coefficients[1:]:
            part = fused_multiply_add(part, square, coefficient)
        parts.append(part)
    return np.asarray(x * parts[0] / parts[1])


def sigmoid(x: Array) -> Array:
    """Logistic function in float32, by the rational approximation that onnxruntime evaluates.

    Numerator and denominator (degrees 9 and 10, for arguments cut to +-18) are those of the Eigen
    library, in the order and with the fused multiply-adds of onnxruntime's x86 kernels.
    """
    cut = np.clip(np.asarray(x, np.float32), np.float32(-18), np.float32(18))
    ratio = _rational(
        cut,
        [4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03,
         2.48287947061529e-01],
        [6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06, 1.70198817374094e-03,
         1.16817656904453e-01, 9.93151921023180e-01])
    return np.clip(ratio + np.float32(0.5), np.float32(0), np.float32(1))


def tanh(x: Array) -> Array:
    """Hyperbolic tangent in float32, by the rational approximation that onnxruntime evaluates.

    Numerator and denominator (degrees 13 and 6, for arguments cut to +-9) are those of the Eigen library.
    """
    cut = np.clip(np.asarray(x, np.float32), np.float32(-9), np.float32(9))
    return _rational(
        cut,
        [-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
         1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03],
        [1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03])


def gelu(x: Array) -> Array:
    """Gaussian error linear unit ``x * (1 + erf(x / sqrt(2))) / 2``, the exact form, rounded to float32."""
    values = np.asarray(x, np.float64)
    return np.asarray(0.5 * values * (1 + erf(values / math.sqrt(2))), np.float32)


def gelu_tanh(x: Array) -> Array:
    """``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2`` in float32, in the order of onnxruntime."""
    values = np.asarray(x, np.float32)
    # The square is the first to overflow, and then the hyperbolic tangent is 1 or -1 as it should be.
    with np.errstate(over="ignore"):
        inner = values * (np.float32(CUBIC) * values * values + np.float32(LINEAR))
    return np.asarray(np.float32(0.5) * values * (tanh(inner) + np.float32(1)))


def silu(x: Array) -> Array:
    """``x * sigmoid(x)``, also called swish, in float32."""
    values = np.asarray(x, np.float32)
    return np.asarray(values * sigmoid(values))


def hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    """Line ``alpha * x + beta`` limited to 0..1, in float32, each operation rounded."""
    return np.clip(np.asarray(x, np.float32) * np.float32(alpha) + np.float32(beta), np.float32(0), np.float32(1))


def hard_swish(x: Array) -> Array:
    """``x * hard_sigmoid(x, 1 / 6, 1 / 2)``, in float32, each operation rounded."""
    return np.asarray(x, np.float32) * hard_sigmoid(x, 1 / 6, 0.5)


@dataclass(frozen=True)
class Function:
    """Function of a real number, element by element.

    Parameters
    ----------
    evaluate : callable
        Result of a float32 array and the parameters, in float32 and in the order of onnxruntime's operations.
    parameters : mapping of str to float
        What it takes beside the array, with ONNX's defaults.
    """

    evaluate: Callable[..., Array]
    parameters: Mapping[str, float] = field(default_factory=dict)


#: Functions by name. An activation is a name, or a tuple of it and all parameters. The ONNX operator of a function has
#: the same name in capitals (hard_swish: HardSwish) and the parameters for attributes, if it is not one of its forms.
FUNCTIONS: dict[str, Function] = {
    "leaky_relu": Function(leaky_relu, {"alpha": 0.01}),
    "sigmoid": Function(sigmoid),
    "tanh": Function(tanh),
    "gelu": Function(gelu),
    "gelu_tanh": Function(gelu_tanh),
    "silu": Function(silu),
    "hard_sigmoid": Function(hard_sigmoid, {"alpha": 0.2, "beta": 0.5}),
    "hard_swish": Function(hard_swish),
}


def listed(*others: str) -> str:
    """Forms of activations, `others` first, for a message."""
    forms = [*others, *(f"({', '.join([repr(name), *found.parameters])})" if found.parameters else repr(name)
                        for name, found in FUNCTIONS.items())]
    return f"{', '.join(forms[:-1])} or {forms[-1]}"


def function_of(activation: Any) -> Callable[[Array], Array]:
    """Return the function of a float32 array that an activation of :data:`FUNCTIONS` stands for.

    Raises
    ------
    ValueError
        If it stands for none, or a parameter is missing or no finite number.
    """
    name, *values = activation if isinstance(activation, tuple) and activation else (activation,)
    found = FUNCTIONS.get(name) if isinstance(name, str) else None
    if found is None or len(values) != len(found.parameters):
        raise ValueError(f"activation must be {listed()}, not {activation!r}")
    for parameter, value in zip(found.parameters, values, strict=True):
        if not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
            raise ValueError(f"{parameter} of {name} must be a finite number, not {value!r}")
    return lambda x: found.evaluate(x, *values)


def table(activation: Any, x_scale: float, x_zero_point: int, y_scale: float,
          y_zero_point: int, dtype: npt.DTypeLike = np.int8) -> Array:
    """Tabulate a function of a quantised number, as onnxruntime's QLinearSigmoid and QLinearLeakyRelu do.

    Parameters
    ----------
    activation : str or tuple
        Function of the real number; see :data:`FUNCTIONS`.
    x_scale, y_scale : float
        Scales of argument and result.
    x_zero_point, y_zero_point : int
        Zero points of argument and result.
    dtype : int8 or uint8
        Type of both.

    Returns
    -------
    (256,) array of type `dtype`
        Entry ``q mod 256`` is the result for argument q.

    Raises
    ------
    ValueError
        If the function is unknown, or a type or a range does not fit.
    """
    kind = np.dtype(dtype)
    if kind not in (np.int8, np.uint8):
        raise ValueError(f"dtype must be int8 or uint8, not {kind}")
    arguments = dequantize_linear(np.arange(256, dtype=np.uint8).view(kind), x_scale, x_zero_point)
    return quantize_linear(function_of(activation)(arguments), y_scale, y_zero_point, dtype=kind)


def apply_table(x: Array, entries: Array) -> Array:
    """Look every element up: ``entries[x mod 256]``.

    Parameters
    ----------
    x : int8 or uint8 array of any shape
    entries : (256,) array
        Table made by :func:`table`.

    Returns
    -------
    array of the type of `entries` and the shape of `x`

    Raises
    ------
    ValueError
        If `x` is not of 8 bits or the table has not 256 entries.
    """
    if x.dtype not in (np.int8, np.uint8):
        raise ValueError(f"x must be int8 or uint8, not {x.dtype}")
    if entries.shape != (256,):
        raise ValueError(f"entries must have shape (256,), not {entries.shape}")
    found: Array = entries[x.view(np.uint8)]
    return found
