"""Gradients of the float operators, and the optimiser's step.

All sums run in order, as in :mod:`.floating`; a sum over a batch takes samples in order.
"""

import numpy as np

from .attention import scores, softmax
from .floating import matmul, patches, sequential_sum
from .tensors import Array, Padding, floating, four_sides, pair, patch

__all__ = ["attention_grad", "conv2d_grad", "linear_grad", "sgd", "softmax_grad"]


def _same(name: str, tensor: Array, shape: tuple[int, ...]) -> Array:
    values = floating(name, tensor)
    if values.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, not {values.shape}")
    return values


def linear_grad(x: Array, w: Array, dy: Array, *, tile: int | None = None) -> tuple[Array, Array, Array]:
    """Differentiate ``Y[n,m] = X[n,c] * W[m,c] + B[m]``.

    ``dX[n,c] = dY[n,m] * W[m,c]``, ``dW[m,c] = dY[n,m] * X[n,c]``, ``dB[m] = sum_n dY[n,m]``.

    Parameters
    ----------
    x : (N, C) float array
        Activations.
    w : (M, C) float array
        Weights.
    dy : (N, M) float array
        Gradient of the output.
    tile : int, optional
        As for :func:`.floating.matmul`.

    Returns
    -------
    dx, dw, db : (N, C), (M, C) and (M,) float32 arrays

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    activations, weights = floating("x", x, 2), floating("w", w, 2)
    if activations.shape[1] != weights.shape[1]:
        raise ValueError(f"w must have {activations.shape[1]} columns, as x has, not {weights.shape[1]}")
    gradient = _same("dy", dy, (activations.shape[0], weights.shape[0]))
    return (matmul(gradient, weights, tile=tile), matmul(gradient.T, activations, tile=tile),
            sequential_sum(gradient, axis=0))


def conv2d_grad(x: Array, w: Array, dy: Array, *, stride: int | tuple[int, int] = 1, padding: Padding = 0,
                dilation: int | tuple[int, int] = 1, groups: int = 1,
                tile: int | None = None) -> tuple[Array, Array, Array]:
    """Differentiate a convolution, ``Y[n,m,p,q] = X[n,c,U*p+D*r-top,U*q+D*s-left] * W[m,c,r,s] + B[m]``.

    ``dW`` and ``dB`` add over ``n, p, q`` with q innermost. ``dX`` first adds over m for each tap, then taps
    in the order of r and s.

    Parameters
    ----------
    x : (N, C, H, W) float array
        Activations.
    w : (M, C / G, R, S) float array
        Weights.
    dy : (N, M, P, Q) float array
        Gradient of the output.
    stride, padding, dilation, groups, tile
        As for :func:`.floating.conv2d`.

    Returns
    -------
    dx, dw, db : float32 arrays of the shapes of `x`, `w` and (M,)

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    activations, weights = floating("x", x, 4), floating("w", w, 4)
    step, taps = pair("stride", stride), pair("dilation", dilation)
    top, left, bottom, right = four_sides(padding)
    (n, c, height, width), (m, channels, r, s) = activations.shape, weights.shape
    if groups < 1 or c % groups or m % groups or channels != c // groups:
        raise ValueError(f"groups must divide {c} input and {m} output channels into the {channels} of w, "
                         f"not be {groups!r}")
    columns, p, q = patches(activations, (r, s), step, (top, left, bottom, right), taps, groups)
    gradient = _same("dy", dy, (n, m, p, q))
    # (G, M / G, N * P * Q), samples and pixels in order.
    rows = gradient.transpose(1, 0, 2, 3).reshape(groups, m // groups, n * p * q)
    dw = matmul(rows, columns, tile=tile).reshape(groups, m // groups, r, s, channels)
    dw = dw.transpose(0, 1, 4, 2, 3).reshape(weights.shape)
    filters = weights.reshape(groups, m // groups, channels, r, s)
    by_group = gradient.reshape(n, groups, m // groups, p * q)
    padded = np.zeros((n, groups, channels, height + top + bottom, width + left + right), np.float32)
    for i in range(r):
        for j in range(s):
            spread = matmul(filters[..., i, j].swapaxes(-1, -2), by_group, tile=tile)
            target = patch(padded, i * taps[0], j * taps[1], p, q, step)
            target += spread.reshape(target.shape)
    dx = padded[..., top:top + height, left:left + width].reshape(activations.shape)
    return dx, dw, sequential_sum(rows.reshape(m, -1))


def softmax_grad(y: Array, dy: Array) -> Array:
    """Differentiate a softmax of the last axis: ``dX = Y * (dY - sum(dY * Y))``.

    Parameters
    ----------
    y, dy : (..., K) float arrays
        Output of the softmax and its gradient.

    Returns
    -------
    (..., K) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    output = floating("y", y)
    gradient = _same("dy", dy, output.shape)
    return np.asarray(output * (gradient - sequential_sum(gradient * output)[..., None]))


def attention_grad(q: Array, k: Array, v: Array, dy: Array, *, scale: float | None = None,
                   causal: bool = False, tile: int | None = None) -> tuple[Array, Array, Array]:
    """Differentiate :func:`.attention.attention`; the probabilities are computed again, not kept.

    ``dV = A' dY``, ``dA = dY V'``, ``dS = softmax_grad(A, dA) * scale``, ``dQ = dS K``, ``dK = dS' Q``.

    Parameters
    ----------
    q : (..., P, E) float array
        Queries.
    k : (..., M, E) float array
        Keys.
    v : (..., M, F) float array
        Values.
    dy : (..., P, F) float array
        Gradient of the output.
    scale, causal, tile
        As for :func:`.attention.scores`.

    Returns
    -------
    dq, dk, dv : float32 arrays of the shapes of `q`, `k` and `v`

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    queries, keys, values = floating("q", q), floating("k", k), floating("v", v)
    weights = softmax(scores(queries, keys, scale, causal, tile=tile))
    if values.shape[:-1] != keys.shape[:-1]:
        raise ValueError(f"v must have shape {keys.shape[:-1]} and one more dimension, not {values.shape}")
    gradient = _same("dy", dy, (*queries.shape[:-1], values.shape[-1]))
    factor = np.float32(1 / np.sqrt(queries.shape[-1]) if scale is None else scale)
    inner = softmax_grad(weights, matmul(gradient, values.swapaxes(-1, -2), tile=tile)) * factor
    return (matmul(inner, keys, tile=tile), matmul(inner.swapaxes(-1, -2), queries, tile=tile),
            matmul(weights.swapaxes(-1, -2), gradient, tile=tile))


def sgd(w: Array, dw: Array, rate: float, *, momentum: float = 0.0, velocity: Array | None = None,
        weight_decay: float = 0.0) -> tuple[Array, Array]:
    """Take one step of stochastic gradient descent, in float32.

    ``g = dw + weight_decay * w``; ``velocity' = momentum * velocity + g``, the first g;
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

    Returns
    -------
    w, velocity : float32 arrays

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    weights = floating("w", w)
    gradient = _same("dw", dw, weights.shape)
    if weight_decay:
        gradient = gradient + np.float32(weight_decay) * weights
    step = gradient
    if momentum and velocity is not None:
        step = np.float32(momentum) * _same("velocity", velocity, weights.shape) + gradient
    return weights - np.float32(rate) * step, step
