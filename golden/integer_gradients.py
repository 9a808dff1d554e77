"""Gradients of integer contractions: exact sums of products of integer operands.

As in :mod:`.integer` sums are exact and then wrap to the accumulator's width, as in hardware.
"""

import numpy as np

from .tensors import Array, Padding, convolved_size, exact_matmul, four_sides, integer, pair, patch, wrap

__all__ = ["conv2d_grad", "linear_grad"]


def _gradient(dy: Array, shape: tuple[int, ...]) -> Array:
    values = integer("dy", dy)
    if values.shape != shape:
        raise ValueError(f"dy must have shape {shape}, not {values.shape}")
    return values.astype(np.int64)


def linear_grad(x: Array, w: Array, dy: Array, *, acc_bits: int = 32) -> tuple[Array, Array, Array]:
    """Differentiate ``Y[n,m] = X[n,c] * W[m,c] + B[m]``.

    ``dX[n,c] = dY[n,m] * W[m,c]``, ``dW[m,c] = dY[n,m] * X[n,c]``, ``dB[m] = sum_n dY[n,m]``.

    Parameters
    ----------
    x : (N, C) integer array
        Activations.
    w : (M, C) integer array
        Weights.
    dy : (N, M) integer array
        Gradient of the output.
    acc_bits : int
        Width at which sums wrap.

    Returns
    -------
    dx, dw, db : (N, C), (M, C) and (M,) int32 arrays, int64 if `acc_bits` exceeds 32

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    activations, weights = integer("x", x, 2).astype(np.int64), integer("w", w, 2).astype(np.int64)
    if activations.shape[1] != weights.shape[1]:
        raise ValueError(f"w must have {activations.shape[1]} columns, as x has, not {weights.shape[1]}")
    gradient = _gradient(dy, (activations.shape[0], weights.shape[0]))
    return (wrap(exact_matmul(gradient, weights), acc_bits), wrap(exact_matmul(gradient.T, activations), acc_bits),
            wrap(gradient.sum(0), acc_bits))


def conv2d_grad(x: Array, w: Array, dy: Array, *, stride: int | tuple[int, int] = 1, padding: Padding = 0,
                dilation: int | tuple[int, int] = 1, groups: int = 1,
                acc_bits: int = 32) -> tuple[Array, Array, Array]:
    """Differentiate a convolution, ``Y[n,m,p,q] = X[n,c,U*p+D*r-top,U*q+D*s-left] * W[m,c,r,s] + B[m]``.

    ``dW[m,c,r,s] = dY[n,m,p,q] * X[n,c,U*p+D*r-top,U*q+D*s-left]``, ``dB[m] = sum_npq dY[n,m,p,q]``, and
    ``dX[n,c,U*p+D*r-top,U*q+D*s-left] += dY[n,m,p,q] * W[m,c,r,s]``.

    Parameters
    ----------
    x : (N, C, H, W) integer array
        Activations.
    w : (M, C / G, R, S) integer array
        Weights.
    dy : (N, M, P, Q) integer array
        Gradient of the output.
    stride, padding, dilation, groups, acc_bits
        As for :func:`.integer.conv2d`.

    Returns
    -------
    dx, dw, db : int32 arrays of the shapes of `x`, `w` and (M,), int64 if `acc_bits` exceeds 32

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    activations, weights = integer("x", x, 4).astype(np.int64), integer("w", w, 4).astype(np.int64)
    step, taps = pair("stride", stride), pair("dilation", dilation)
    top, left, bottom, right = sides = four_sides(padding)
    p, q = convolved_size(activations, weights, step, sides, taps, groups)
    (n, c, height, width), (m, channels, r, s) = activations.shape, weights.shape
    gradient = _gradient(dy, (n, m, p, q)).reshape(n, groups, m // groups, p * q)
    # (G, M / G, N * P * Q), samples and pixels in order.
    rows = gradient.transpose(1, 2, 0, 3).reshape(groups, m // groups, n * p * q)
    filters = weights.reshape(groups, m // groups, channels, r, s)
    padded = np.pad(activations, ((0, 0), (0, 0), (top, bottom), (left, right)))
    padded = padded.reshape(n, groups, channels, *padded.shape[2:])
    dx, dw = np.zeros_like(padded), np.zeros_like(filters)
    for i in range(r):
        for j in range(s):
            place = i * taps[0], j * taps[1], p, q, step
            seen = patch(padded, *place).transpose(1, 0, 3, 4, 2).reshape(groups, n * p * q, channels)
            dw[..., i, j] = exact_matmul(rows, seen)
            target = patch(dx, *place)
            target += exact_matmul(filters[..., i, j].swapaxes(1, 2), gradient).reshape(target.shape)
    dx = dx[..., top:top + height, left:left + width].reshape(n, c, height, width)
    return wrap(dx, acc_bits), wrap(dw.reshape(weights.shape), acc_bits), wrap(rows.sum(-1).reshape(m), acc_bits)
