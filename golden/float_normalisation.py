"""LayerNorm and RMSNorm in float32, and their gradients.

Rows are those of the last axis. Each step is rounded to float32; sums along a row take elements in order, those of
gradients of gains and biases take rows in order.
"""

import numpy as np

from .floating import sequential_sum
from .tensors import Array, floating, shaped

__all__ = ["layer_norm", "layer_norm_grad", "rms_norm", "rms_norm_grad"]


def _checked(x: Array, epsilon: float, **gains: Array | None) -> tuple[Array, list[Array | None]]:
    values = floating("x", x)
    if not values.ndim or not values.size:
        raise ValueError(f"x must have shape (..., D) with at least one element, not {values.shape}")
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be finite and at least 0, not {epsilon!r}")
    return values, [None if gain is None else shaped(name, gain, values.shape[-1:]) for name, gain in gains.items()]


def _mean(rows: Array) -> Array:
    return sequential_sum(rows)[..., None] / np.float32(rows.shape[-1])


def _normalised(x: Array, epsilon: float, centred: bool) -> tuple[Array, Array]:
    """Rows of a mean square of one, and what they were multiplied by, (..., 1)."""
    values = x - _mean(x) if centred else x
    root = np.float32(1) / np.sqrt(_mean(values * values) + np.float32(epsilon))
    return values * root, root


def layer_norm(x: Array, gamma: Array, beta: Array | None = None, *, epsilon: float = 1e-5) -> Array:
    """Normalise rows: ``(X - mean) * (1 / sqrt(variance + epsilon)) * gamma + beta``.

    Parameters
    ----------
    x : (..., D) float array
        Activations.
    gamma, beta : (D,) float arrays
        Gains and biases.
    epsilon : float
        Added to the variance, taken as float32.

    Returns
    -------
    (..., D) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    values, (gains, biases) = _checked(x, epsilon, gamma=gamma, beta=beta)
    assert gains is not None
    y = _normalised(values, epsilon, True)[0] * gains
    return np.asarray(y if biases is None else y + biases)


def rms_norm(x: Array, gamma: Array, *, epsilon: float = 1e-5) -> Array:
    """Normalise rows: ``X * (1 / sqrt(mean of squares + epsilon)) * gamma``; see :func:`layer_norm`."""
    values, (gains,) = _checked(x, epsilon, gamma=gamma)
    assert gains is not None
    return np.asarray(_normalised(values, epsilon, False)[0] * gains)


def _gradients(x: Array, gamma: Array, dy: Array, epsilon: float, centred: bool) -> tuple[Array, Array, Array]:
    values, (gains,) = _checked(x, epsilon, gamma=gamma)
    assert gains is not None
    gradient = shaped("dy", dy, values.shape)
    unit, root = _normalised(values, epsilon, centred)
    inner = gradient * gains
    dx = inner - unit * _mean(inner * unit)
    if centred:
        dx = dx - _mean(inner)
    width = values.shape[-1]
    return (np.asarray(root * dx), sequential_sum((gradient * unit).reshape(-1, width), 0),
            sequential_sum(gradient.reshape(-1, width), 0))


def layer_norm_grad(x: Array, gamma: Array, dy: Array, *, epsilon: float = 1e-5) -> tuple[Array, Array, Array]:
    """Differentiate :func:`layer_norm`, whose statistics are computed again.

    With ``U`` the normalised rows, ``r`` their factors and ``G = dY * gamma``, ``dX = r * (G - U * mean(G * U) -
    mean(G))``, ``dgamma = sum dY * U`` and ``dbeta = sum dY``.

    Parameters
    ----------
    x, gamma, epsilon
        As for :func:`layer_norm`.
    dy : (..., D) float array
        Gradient of the output.

    Returns
    -------
    dx, dgamma, dbeta : (..., D), (D,) and (D,) float32 arrays

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    return _gradients(x, gamma, dy, epsilon, True)


def rms_norm_grad(x: Array, gamma: Array, dy: Array, *, epsilon: float = 1e-5) -> tuple[Array, Array]:
    """Differentiate :func:`rms_norm`: dx and dgamma, as :func:`layer_norm_grad` but for ``mean(G)``."""
    return _gradients(x, gamma, dy, epsilon, False)[:2]
