"""Gradients of float contractions, of softmax and of what was gathered.

All sums run in order, as in :mod:`.floating`; a sum over a batch takes samples in order.
"""

from collections.abc import Mapping
from math import gcd
from typing import Any

import numpy as np

from .floating import conv2d, matmul, patches, sequential_sum
from .tensors import Array, Padding, floating, four_sides, pair, shaped

__all__ = ["conv2d_grad", "linear_grad", "scatter_sum", "softmax_grad", "sum_along"]


def linear_grad(x: Array, w: Array, dy: Array, *,
                tile: int | Mapping[str, Any] | None = None) -> tuple[Array, Array, Array]:
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
    tile : int or mapping, optional
        As for :func:`.floating.matmul`, or one such for each of dx, dw and db.

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
    gradient = shaped("dy", dy, (activations.shape[0], weights.shape[0]))
    tiles = _tiles(tile)
    return (matmul(gradient, weights, tile=tiles["dx"]), matmul(gradient.T, activations, tile=tiles["dw"]),
            _total(gradient, tiles["db"]))


def _tiles(tile: int | Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a sum has of each gradient; of one that no array computes nothing is said."""
    whole = dict.fromkeys(("dx", "dw", "db"), None if isinstance(tile, Mapping) else tile)
    return {**whole, **tile} if isinstance(tile, Mapping) else whole


def _total(rows: Array, tile: Any) -> Array:
    """Sums of rows, as products with ones."""
    return matmul(np.ones((1, len(rows)), np.float32), rows, tile=tile)[0]


def conv2d_grad(x: Array, w: Array, dy: Array, *, stride: int | tuple[int, int] = 1, padding: Padding = 0,
                dilation: int | tuple[int, int] = 1, groups: int = 1,
                tile: int | Mapping[str, Any] | None = None) -> tuple[Array, Array, Array]:
    """Differentiate a convolution, ``Y[n,m,p,q] = X[n,c,U*p+D*r-top,U*q+D*s-left] * W[m,c,r,s] + B[m]``.

    ``dW`` and ``dB`` add over ``n, p, q`` with q innermost. ``dX`` adds over m innermost, then the taps that reach it
    in the order of the outputs that they come from, columns before rows.

    Parameters
    ----------
    x : (N, C, H, W) float array
        Activations.
    w : (M, C / G, R, S) float array
        Weights.
    dy : (N, M, P, Q) float array
        Gradient of the output.
    stride, padding, dilation, groups
        As for :func:`.floating.conv2d`.
    tile : int or mapping, optional
        As for :func:`.floating.matmul`, or one such for each of dx, dw and db; that of dx may be a list, with one for
        each phase of the stride, columns before rows.

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
    (n, c, _, _), (m, channels, r, s) = activations.shape, weights.shape
    if groups < 1 or c % groups or m % groups or channels != c // groups:
        raise ValueError(f"groups must divide {c} input and {m} output channels into the {channels} of w, "
                         f"not be {groups!r}")
    columns, p, q = patches(activations, (r, s), step, (top, left, bottom, right), taps, groups)
    gradient, tiles = shaped("dy", dy, (n, m, p, q)), _tiles(tile)
    # (G, M / G, N * P * Q), samples and pixels in order.
    rows = gradient.transpose(1, 0, 2, 3).reshape(groups, m // groups, n * p * q)
    dw = matmul(rows, columns, tile=tiles["dw"]).reshape(groups, m // groups, r, s, channels)
    dw = dw.transpose(0, 1, 4, 2, 3).reshape(weights.shape)
    dx = _spread(gradient, weights, activations.shape, step, (top, left), taps, groups, tiles["dx"])
    return dx, dw, _total(rows.reshape(m, -1).T, tiles["db"])


def _spread(dy: Array, w: Array, shape: tuple[int, ...], stride: tuple[int, int], padding: tuple[int, int],
            dilation: tuple[int, int], groups: int, tile: Any) -> Array:
    """Gradient of a convolution's input: for each phase of the stride a convolution of dy by the taps that reach it."""
    (m, channels, r, s), dx = w.shape, np.zeros(shape, np.float32)
    turned = w.reshape(groups, m // groups, channels, r, s).swapaxes(1, 2).reshape(-1, m // groups, r, s)
    phases = [(a, b) for a in range(min(stride[0], shape[2])) for b in range(min(stride[1], shape[3]))]
    for number, firsts in enumerate(phases):
        offsets = [first + before for first, before in zip(firsts, padding, strict=True)]
        reached = [[tap for tap in reversed(range(size)) if (offset - apart * tap) % step == 0]
                   for size, offset, apart, step in zip((r, s), offsets, dilation, stride, strict=True)]
        # Where no tap reaches them, one that weighs nothing does.
        filters = turned[:, :, reached[0]][..., reached[1]] if all(reached) else np.zeros_like(turned[..., :1, :1])
        part, distances = dy, []
        for axis in (0, 1):
            taps, step, first = reached[axis], stride[axis], firsts[axis]
            distances.append(dilation[axis] // gcd(step, dilation[axis]) if taps else 1)
            count = len(range(first, shape[axis + 2], step)) + distances[axis] * (filters.shape[axis + 2] - 1)
            source = np.arange(count) + ((offsets[axis] - dilation[axis] * taps[0]) // step if taps else 0)
            part = np.where(_along((source >= 0) & (source < dy.shape[axis + 2]), axis + 2),
                            np.take(part, source, axis + 2, mode="clip"), np.float32(0))
        dx[:, :, firsts[0]::stride[0], firsts[1]::stride[1]] = conv2d(
            part, filters, dilation=(distances[0], distances[1]), groups=groups,
            tile=tile[number] if isinstance(tile, list) else tile)
    return dx


def _along(values: Array, axis: int) -> Array:
    """Values along one axis of four."""
    return np.expand_dims(values, tuple(other for other in range(4) if other != axis))


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
    gradient = shaped("dy", dy, output.shape)
    return np.asarray(output * (gradient - sequential_sum(gradient * output)[..., None]))


def scatter_sum(dy: Array, places: Array, size: int) -> Array:
    """Add elements, or rows, up where they came from, in order: the gradient of what was gathered.

    Parameters
    ----------
    dy : float array, whose first dimensions are those of `places`
        Gradients.
    places : integer array
        Where each goes; what is less than 0 goes nowhere.
    size : int
        How many places there are.

    Returns
    -------
    (size, ...) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit, or a place is beyond the last.
    """
    gradient, indices = floating("dy", dy), np.asarray(places)
    if indices.dtype.kind not in "iu" or gradient.shape[:indices.ndim] != indices.shape:
        raise ValueError(f"places must be integers of a shape that dy {gradient.shape} begins with, not "
                         f"{indices.dtype} of shape {indices.shape}")
    if indices.size and indices.max() >= size:
        raise ValueError(f"places must be less than {size}, not {indices.max()}")
    total = np.zeros((size, *gradient.shape[indices.ndim:]), np.float32)
    # Unlike an assignment, this adds one after another where places are equal.
    np.add.at(total, indices[indices >= 0], gradient[indices >= 0])
    return total


def sum_along(x: Array, axes: tuple[int, ...]) -> Array:
    """Add up along axes, in C order of their elements: the gradient of what was broadcast.

    Parameters
    ----------
    x : float array
        Gradients.
    axes : tuple of int
        Axes, from the first; none for x as it is.

    Returns
    -------
    float32 array without these axes
    """
    values = floating("x", x)
    kept = [axis for axis in range(values.ndim) if axis not in axes]
    rows = values.transpose(*kept, *axes).reshape(*(values.shape[axis] for axis in kept), -1)
    return sequential_sum(rows)
