"""Derivatives of the activation functions, and gradients by them.

Each derivative belongs to the function of the same name in :mod:`.activation`, and is computed as that is: in float32,
each operation rounded, but for the exact GELU, which is rounded once. A function with a kink has the derivative of
the side on which it is level, or less steep, as PyTorch has it.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .activation import CUBIC, LINEAR, erf, sigmoid, tanh
from .tensors import Array, floating, shaped

__all__ = ["DERIVATIVES", "OF_OUTPUT", "activation_grad", "derivative_of"]


def _one_where(condition: Array) -> Array:
    return condition.astype(np.float32)


def _relu(x: Array) -> Array:
    return _one_where(x > 0)


def _clip(x: Array, low: float, high: float) -> Array:
    return _one_where((x > np.float32(low)) & (x < np.float32(high)))


def _leaky_relu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, np.float32(1), np.float32(alpha))


def _sigmoid(x: Array) -> Array:
    y = sigmoid(x)
    return y * (np.float32(1) - y)


def _tanh(x: Array) -> Array:
    y = tanh(x)
    return np.float32(1) - y * y


def _gelu(x: Array) -> Array:
    values = x.astype(np.float64)
    density = np.exp(-0.5 * values * values) / math.sqrt(2 * math.pi)
    return np.asarray(0.5 * (1 + erf(values / math.sqrt(2))) + values * density, np.float32)


def _gelu_tanh(x: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        square = x * x
        y = tanh(x * (np.float32(CUBIC) * square + np.float32(LINEAR)))
        inner = np.float32(3 * CUBIC) * square + np.float32(LINEAR)
        bent = np.float32(0.5) * x * ((np.float32(1) - y * y) * inner)
    # Where the square is beyond float32 the hyperbolic tangent is level.
    return np.float32(0.5) * (np.float32(1) + y) + np.where(np.isfinite(inner), bent, np.float32(0))


def _silu(x: Array) -> Array:
    y = sigmoid(x)
    return y * (np.float32(1) + x * (np.float32(1) - y))


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    line = x * np.float32(alpha) + np.float32(beta)
    return np.where((line > 0) & (line < 1), np.float32(alpha), np.float32(0))


def _hard_swish(x: Array) -> Array:
    inside = x / np.float32(3) + np.float32(0.5)
    return np.where(x <= -3, np.float32(0), np.where(x < 3, inside, np.float32(1)))


#: Derivatives by the names of activations, of a float32 array and the parameters.
DERIVATIVES: dict[str, Callable[..., Array]] = {
    "relu": _relu, "clip": _clip, "leaky_relu": _leaky_relu, "sigmoid": _sigmoid, "tanh": _tanh, "gelu": _gelu,
    "gelu_tanh": _gelu_tanh, "silu": _silu, "hard_sigmoid": _hard_sigmoid, "hard_swish": _hard_swish,
}

#: Functions whose derivative is the same at the output as at the argument, so that the argument need not be kept.
OF_OUTPUT = frozenset(("relu", "clip"))


def derivative_of(activation: Any) -> Callable[[Array], Array]:
    """Return the derivative of an activation, a name or a tuple of it and all parameters.

    Raises
    ------
    ValueError
        If there is no such activation.
    """
    name, *values = activation if isinstance(activation, tuple) and activation else (activation,)
    found = DERIVATIVES.get(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"activation must be one of {', '.join(DERIVATIVES)}, not {activation!r}")
    return lambda x: found(x, *values)


def activation_grad(activation: Any, x: Array, dy: Array) -> Array:
    """Differentiate an activation: ``dX = dY * f'(X)``.

    Parameters
    ----------
    activation : str or tuple
        Name of :data:`DERIVATIVES`, or a tuple of it and all parameters.
    x : float array
        Argument; of those of :data:`OF_OUTPUT` also the output.
    dy : float array of the same shape
        Gradient of the output.

    Returns
    -------
    float32 array of that shape

    Raises
    ------
    ValueError
        If there is no such activation, or types or shapes do not fit.
    """
    argument = floating("x", x)
    return np.asarray(shaped("dy", dy, argument.shape) * derivative_of(activation)(argument))
