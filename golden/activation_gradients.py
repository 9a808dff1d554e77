"""Gradients by the derivatives of the activation functions, :data:`.float_functions.DERIVATIVES`."""

from collections.abc import Callable
from typing import Any

from .float_functions import DERIVATIVES
from .float_steps import Steps, V, evaluate
from .tensors import Array, floating, shaped

__all__ = ["OF_OUTPUT", "activation_grad", "derivative_of"]

#: Functions whose derivative is the same at the output as at the argument, so that the argument need not be kept.
OF_OUTPUT = frozenset(("relu", "clip"))


def derivative_of(activation: Any) -> Callable[[Steps[V], V], V]:
    """Return the derivative of an activation, a name or a tuple of it and all parameters, as a function of steps.

    Raises
    ------
    ValueError
        If there is no such activation.
    """
    name, *values = activation if isinstance(activation, tuple) and activation else (activation,)
    found = DERIVATIVES.get(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"activation must be one of {', '.join(DERIVATIVES)}, not {activation!r}")
    return lambda s, x: found(s, x, *values)


def activation_grad(activation: Any, x: Array, dy: Array) -> Array:
    """Differentiate an activation: ``dX = dY * f'(X)``.

    Parameters
    ----------
    activation : str or tuple
        Name of :data:`.float_functions.DERIVATIVES`, or a tuple of it and all parameters.
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
    argument, derivative = floating("x", x), derivative_of(activation)
    gradient = shaped("dy", dy, argument.shape)
    return evaluate(lambda s, x, dy: s.multiply(dy, derivative(s, x)), argument, gradient)
