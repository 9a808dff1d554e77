"""Integer contractions: matrix product, fully connected layer, convolution, transposed convolution.

Sums are exact and then wrap to the accumulator's width, as in hardware; the results are raw sums,
which :mod:`.requantise` turns into outputs. Zero points are subtracted before the product, so that
padding, which stands for the value zero, contributes nothing.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .tensors import (
    Array,
    Padding,
    centre,
    convolved_size,
    exact_matmul,
    exact_type,
    four_sides,
    integer,
    pair,
    patch,
    wrap,
)

__all__ = ["add", "conv2d", "conv_transpose2d", "gemm", "linear"]

#: Elements of the input that a convolution gathers at a time.
_GATHERED = 1 << 22


def _bias(name: str, bias: npt.ArrayLike, shapes: tuple[tuple[int, ...], ...]) -> Array:
    values = np.asarray(bias)
    if values.dtype not in (np.int32, np.int64):
        raise ValueError(f"{name} must be int32, not {values.dtype}")
    if values.shape not in shapes:
        raise ValueError(f"{name} must have shape {' or '.join(map(str, shapes))}, not {values.shape}")
    return values.astype(np.int64)


def add(a: Array, b: Array, *, a_zero_point: int = 0, b_zero_point: int = 0, acc_bits: int = 32) -> Array:
    """Add two tensors: ``Y = (A - a_zero_point) + (B - b_zero_point)``.

    Parameters
    ----------
    a, b : integer arrays
        Terms, whose shapes broadcast.
    a_zero_point, b_zero_point : int
        Zero points.
    acc_bits : int
        Width at which sums wrap.

    Returns
    -------
    int32 array of the broadcast shape, int64 if `acc_bits` exceeds 32

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    first, second = integer("a", a), integer("b", b)
    try:
        np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise ValueError(f"b must broadcast with {first.shape}, not have shape {second.shape}") from None
    return wrap(centre("a", first, a_zero_point) + centre("b", second, b_zero_point), acc_bits)


def gemm(a: Array, b: Array, c: Array | None = None, *, trans_a: bool = False, trans_b: bool = False,
         a_zero_point: int = 0, b_zero_point: npt.ArrayLike = 0, acc_bits: int = 32) -> Array:
    """Multiply two matrices: ``Y[m,n] = A[m,k] * B[k,n] + C[m,n]``.

    Parameters
    ----------
    a : (M, K) integer array
        Left operand, or (K, M) with `trans_a`.
    b : (K, N) integer array
        Right operand, or (N, K) with `trans_b`.
    c : (N,) or (M, N) int32 array, optional
        Addend.
    trans_a, trans_b : bool
        Whether an operand is given transposed.
    a_zero_point : int
        Zero point of `a`.
    b_zero_point : int or (N,) integer array
        Zero point of `b`, or one for each column.
    acc_bits : int
        Width at which sums wrap.

    Returns
    -------
    (M, N) int32 array, int64 if `acc_bits` exceeds 32

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    left = integer("a", a, 2).T if trans_a else integer("a", a, 2)
    right = integer("b", b, 2).T if trans_b else integer("b", b, 2)
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"b must have {left.shape[1]} rows of contraction, as a has, not {right.shape[0]}")
    sums = exact_matmul(centre("a", left, a_zero_point), centre("b", right, b_zero_point, axis=1))
    if c is not None:
        sums = sums + _bias("c", c, ((sums.shape[1],), sums.shape))
    return wrap(sums, acc_bits)


def linear(x: Array, w: Array, b: Array | None = None, *, x_zero_point: int = 0,
           w_zero_point: npt.ArrayLike = 0, acc_bits: int = 32) -> Array:
    """Apply a fully connected layer: ``Y[n,m] = X[n,c] * W[m,c] + B[m]``.

    Parameters
    ----------
    x : (N, C) integer array
        Activations.
    w : (M, C) integer array
        Weights.
    b : (M,) int32 array, optional
        Bias.
    x_zero_point : int
        Zero point of the activations.
    w_zero_point : int or (M,) integer array
        Zero point of the weights, or one for each output.
    acc_bits : int
        Width at which sums wrap.

    Returns
    -------
    (N, M) int32 array, int64 if `acc_bits` exceeds 32

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    activations, weights = integer("x", x, 2), integer("w", w, 2)
    if activations.shape[1] != weights.shape[1]:
        raise ValueError(f"w must have {activations.shape[1]} columns, as x has, not {weights.shape[1]}")
    sums = exact_matmul(centre("x", activations, x_zero_point), centre("w", weights, w_zero_point).T)
    if b is not None:
        sums = sums + _bias("b", b, ((weights.shape[0],),))
    return wrap(sums, acc_bits)


def conv2d(x: Array, w: Array, b: Array | None = None, *, stride: int | tuple[int, int] = 1,
           padding: Padding = 0, dilation: int | tuple[int, int] = 1, groups: int = 1,
           x_zero_point: int = 0, w_zero_point: npt.ArrayLike = 0, acc_bits: int = 32) -> Array:
    """Convolve: ``Y[n,m,p,q] = X[n,c,U*p+D*r-top,U*q+D*s-left] * W[m,c,r,s] + B[m]``.

    With G groups, outputs ``m`` of group ``g = m // (M // G)`` see channels
    ``g * C // G ... (g + 1) * C // G - 1`` only.

    Parameters
    ----------
    x : (N, C, H, W) integer array
        Activations.
    w : (M, C / G, R, S) integer array
        Weights.
    b : (M,) int32 array, optional
        Bias.
    stride, dilation : int or (int, int)
        Steps of the window and of its taps, by height and width.
    padding : int, (int, int) or (int, int, int, int)
        Zero padding of all sides, (height, width) or (top, left, bottom, right).
    groups : int
        Number of groups G.
    x_zero_point : int
        Zero point of the activations.
    w_zero_point : int or (M,) integer array
        Zero point of the weights, or one for each output channel.
    acc_bits : int
        Width at which sums wrap.

    Returns
    -------
    (N, M, P, Q) int32 array, int64 if `acc_bits` exceeds 32

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    activations, weights = integer("x", x, 4), integer("w", w, 4)
    step, taps = pair("stride", stride), pair("dilation", dilation)
    top, left, bottom, right = sides = four_sides(padding)
    p, q = convolved_size(activations, weights, step, sides, taps, groups)
    (n, *_), (m, channels, r, s) = activations.shape, weights.shape
    padded = np.pad(centre("x", activations, x_zero_point), ((0, 0), (0, 0), (top, bottom), (left, right)))
    padded = padded.reshape(n, groups, channels, *padded.shape[2:])
    filters = centre("w", weights, w_zero_point).reshape(groups, m // groups, channels, r, s)
    sums = _correlate(padded, filters, p, q, step, taps).reshape(n, m, p, q)
    if b is not None:
        sums += _bias("b", b, ((m,),))[:, None, None]
    return wrap(sums, acc_bits)


def _correlate(x: Array, w: Array, p: int, q: int, step: tuple[int, int], taps: tuple[int, int]) -> Array:
    """Sum x (N, G, C/G, H, W) against w (G, M/G, C/G, R, S) to (N, G, M/G, P * Q), in int64."""
    (n, groups, channels, _, _), (_, outputs, _, r, s) = x.shape, w.shape
    kind = exact_type(x, w, channels * r * s)
    x, w = x.astype(kind), w.astype(kind)
    sums = np.zeros((n, groups, outputs, p * q), kind)
    positions = [(i, j) for i in range(r) for j in range(s)]
    # Some taps at a time: few channels would make slow products of them, and all taps too much memory.
    share = max(1, _GATHERED // (n * groups * channels * p * q))
    for start in range(0, r * s, share):
        chosen = positions[start:start + share]
        seen = np.stack([patch(x, i * taps[0], j * taps[1], p, q, step) for i, j in chosen], axis=3)
        filters = np.stack([w[..., i, j] for i, j in chosen], axis=3)
        sums += (filters.reshape(groups, outputs, channels * len(chosen))
                 @ seen.reshape(n, groups, channels * len(chosen), p * q))
    return sums.astype(np.int64)


def conv_transpose2d(x: Array, w: Array, b: Array | None = None, *, stride: int | tuple[int, int] = 1,
                     padding: Padding = 0, output_padding: int | tuple[int, int] = 0,
                     dilation: int | tuple[int, int] = 1, groups: int = 1, x_zero_point: int = 0,
                     w_zero_point: int = 0, acc_bits: int = 32) -> Array:
    """Convolve transposed: every input spreads over the outputs that a convolution would draw from.

    ``Y[n,m,U*h+D*r-top,U*w+D*s-left] += X[n,c,h,w] * W[c,m,r,s]``, plus ``B[m]``.

    Parameters
    ----------
    x : (N, C, H, W) integer array
        Activations.
    w : (C, M / G, R, S) integer array
        Weights, in the layout of ONNX's ConvTranspose.
    b : (M,) int32 array, optional
        Bias.
    stride, dilation : int or (int, int)
        Steps of the output window and of its taps.
    padding : int, (int, int) or (int, int, int, int)
        Outputs cut away from the sides.
    output_padding : int or (int, int)
        Outputs added at the bottom and at the right, less than `stride`.
    groups : int
        Number of groups G.
    x_zero_point, w_zero_point : int
        Zero points.
    acc_bits : int
        Width at which sums wrap.

    Returns
    -------
    (N, M, P, Q) int32 array, int64 if `acc_bits` exceeds 32
        With ``P = U * (H - 1) + D * (R - 1) + 1 + output_padding - top - bottom``, Q likewise.

    Raises
    ------
    ValueError
        If types or shapes do not fit, or nothing of the output is left.
    """
    activations, weights = integer("x", x, 4), integer("w", w, 4)
    step, taps = pair("stride", stride), pair("dilation", dilation)
    extra = pair("output_padding", output_padding, 0)
    top, left, bottom, right = four_sides(padding)
    c = activations.shape[1]
    if groups < 1 or c % groups:
        raise ValueError(f"groups must divide the {c} input channels, not {groups!r}")
    if weights.shape[0] != c:
        raise ValueError(f"w must have {c} input channels, as x has, not {weights.shape[0]}")
    if extra[0] >= step[0] or extra[1] >= step[1]:
        raise ValueError(f"output_padding must be less than stride {step}, not {output_padding!r}")
    size = [step[axis] * (activations.shape[2 + axis] - 1) + taps[axis] * (weights.shape[2 + axis] - 1) + 1
            + extra[axis] for axis in (0, 1)]
    p, q = size[0] - top - bottom, size[1] - left - right
    if p < 1 or q < 1:
        raise ValueError(f"padding must leave an output of at least 1 x 1, not {p} x {q}")
    sums = _spread(centre("x", activations, x_zero_point), centre("w", weights, w_zero_point), groups, size, step, taps)
    sums = sums[..., top:top + p, left:left + q]
    if b is not None:
        sums = sums + _bias("b", b, ((sums.shape[1],),))[:, None, None]
    return wrap(sums, acc_bits)


def _spread(x: Array, w: Array, groups: int, size: Sequence[int], step: tuple[int, int],
            taps: tuple[int, int]) -> Array:
    """Spread inputs (N, C, H, W) by filters (C, M / G, R, S) over all outputs (N, M, *size) that they reach."""
    (n, c, height, width), (_, per_group, r, s) = x.shape, w.shape
    inputs = x.reshape(n, groups, c // groups, height * width)
    filters = w.reshape(groups, c // groups, per_group, r, s)
    sums = np.zeros((n, groups, per_group, *size), np.int64)
    for i in range(r):
        for j in range(s):
            products = exact_matmul(filters[..., i, j].swapaxes(1, 2), inputs)
            target = patch(sums, i * taps[0], j * taps[1], height, width, step)
            target += products.reshape(target.shape)
    return sums.reshape(n, groups * per_group, *size)
