"""Steps of optimisers in float32, each operation rounded, and the factor by which losses are scaled."""

import math
from dataclasses import dataclass, replace

import numpy as np

from .tensors import Array, floating, shaped

__all__ = ["LossScale", "adam", "adam_factors", "adam_step", "sgd"]


def sgd(w: Array, dw: Array, rate: float, *, momentum: float = 0.0, velocity: Array | None = None,
        weight_decay: float = 0.0, unscaled: float = 1.0) -> tuple[Array, Array]:
    """Take one step of stochastic gradient descent, in float32.

    ``g = unscaled * dw + weight_decay * w``; ``velocity' = momentum * velocity + g``, the first g;
    ``w' = w - rate * velocity'``.

    Parameters
    ----------
    w, dw : float arrays of one shape
        Weights and their gradient.
    rate : float
        Learning rate.
    momentum, weight_decay : float
        Share of the last step that is kept, and pull towards zero.
    velocity : float array, optional
        The last velocity.
    unscaled : float
        What takes the factor of a loss out of its gradients.

    Returns
    -------
    w, velocity : float32 arrays

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    weights = floating("w", w)
    step = gradient = _gradient(weights, dw, weight_decay, unscaled)
    if momentum and velocity is not None:
        step = np.float32(momentum) * shaped("velocity", velocity, weights.shape) + gradient
    return weights - np.float32(rate) * step, step


def _gradient(weights: Array, dw: Array, weight_decay: float, unscaled: float) -> Array:
    gradient = shaped("dw", dw, weights.shape)
    if unscaled != 1:
        gradient = gradient * np.float32(unscaled)
    return gradient + np.float32(weight_decay) * weights if weight_decay else gradient


def adam_factors(rate: float, step: int, beta1: float = 0.9, beta2: float = 0.999) -> tuple[float, float]:
    """Factors of a whole step of Adam, ``rate / c1`` and ``1 / sqrt(c2)`` with ``c = 1 - beta**step``.

    They are computed in float64 and rounded to float32.

    Raises
    ------
    ValueError
        If there is no such step, or a range does not fit.
    """
    if step < 1:
        raise ValueError(f"step must be at least 1, not {step}")
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= beta < 1:
            raise ValueError(f"{name} must be at least 0 and less than 1, not {beta}")
    with np.errstate(over="ignore"):
        return (float(np.float32(rate / (1 - beta1 ** step))), float(np.float32(1 / math.sqrt(1 - beta2 ** step))))


def adam(w: Array, dw: Array, rate: float, *, step: int, first: Array, second: Array, beta1: float = 0.9,
         beta2: float = 0.999, epsilon: float = 1e-8, weight_decay: float = 0.0) -> tuple[Array, Array, Array]:
    """Take one step of Adam (Kingma and Ba 2015), in float32.

    It is :func:`adam_step` with :func:`adam_factors`.

    Parameters
    ----------
    w, dw : float arrays of one shape
        Weights and their gradient.
    rate : float
        Learning rate.
    step : int
        Number of this step, from 1.
    first, second : float arrays of that shape
        Running means of gradients and of their squares; zeros before the first step.
    beta1, beta2 : float
        How much of these is kept, in 0..1 but for 1.
    epsilon, weight_decay : float
        Added to the divisor, and pull towards zero.

    Returns
    -------
    w, first, second : float32 arrays

    Raises
    ------
    ValueError
        If types, shapes or ranges do not fit.
    """
    size, root = adam_factors(rate, step, beta1, beta2)
    return adam_step(w, dw, size, root, first=first, second=second, beta1=beta1, beta2=beta2, epsilon=epsilon,
                     weight_decay=weight_decay)


def adam_step(w: Array, dw: Array, size: float, root: float, *, first: Array, second: Array, beta1: float = 0.9,
              beta2: float = 0.999, epsilon: float = 1e-8, weight_decay: float = 0.0,
              unscaled: float = 1.0) -> tuple[Array, Array, Array]:
    """Take one step of Adam with the factors of :func:`adam_factors`, in float32.

    ``g = unscaled * dw + weight_decay * w``; ``first' = beta1 * first + (1 - beta1) * g``; ``second' = beta2 * second +
    (1 - beta2) * g * g``; ``w' = w - size * first' / (sqrt(second') * root + epsilon)``.

    Parameters
    ----------
    w, dw, first, second, beta1, beta2, epsilon, weight_decay
        As for :func:`adam`.
    size, root : float
        Factors of the step.
    unscaled : float
        What takes the factor of a loss out of its gradients.

    Returns
    -------
    w, first, second : float32 arrays

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    weights = floating("w", w)
    gradient = _gradient(weights, dw, weight_decay, unscaled)
    mean, square = (shaped(name, tensor, weights.shape) for name, tensor in (("first", first), ("second", second)))
    mean = np.float32(beta1) * mean + np.float32(1 - beta1) * gradient
    square = np.float32(beta2) * square + np.float32(1 - beta2) * (gradient * gradient)
    divisor = np.sqrt(square) * np.float32(root) + np.float32(epsilon)
    return weights - np.float32(size) * (mean / divisor), mean, square


@dataclass(frozen=True)
class LossScale:
    """Factor of a loss, a power of two, which keeps gradients within a narrow format.

    Gradients that are not finite cost the step, and the factor is multiplied by a half; after some steps without
    such, it is doubled.

    Parameters
    ----------
    value : float
        The factor; 2**-14 to 2**24.
    interval : int
        Steps in a row without a loss after which it is doubled.
    good : int
        How many there have been.
    """

    value: float = 65536.0
    interval: int = 2000
    good: int = 0

    def __post_init__(self) -> None:
        if not 2.0 ** -14 <= self.value <= 2.0 ** 24 or math.frexp(self.value)[0] != 0.5:
            raise ValueError(f"value must be a power of two in 2**-14..2**24, not {self.value!r}")
        if self.interval < 1:
            raise ValueError(f"interval must be at least 1, not {self.interval}")

    def after(self, finite: bool) -> "LossScale":
        """What it is after a step whose gradients were all finite, or not."""
        if not finite:
            return replace(self, value=max(self.value / 2, 2.0 ** -14), good=0)
        if self.good + 1 < self.interval:
            return replace(self, good=self.good + 1)
        return replace(self, value=min(self.value * 2, 2.0 ** 24), good=0)
