"""Float contractions that add in the array's own order, so that hardware can equal them bit for bit.

Products are rounded to float32 before they are added; those of bfloat16 and 8-bit floats are exact.
The sum of a column of the array starts at zero, takes one product after another, and is added to
the accumulator tile by tile. ``tile`` says which products a sum has: ``None``, one tile for the whole contraction, is
the strictly sequential sum; a number, so many in the contraction's own order; or an :data:`Order`, the numbers of
those of each tile. NumPy's own products are no model: they add in an order of their choosing.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .tensors import Array, Padding, floating, four_sides, output_size, pair, patch, shaped

__all__ = ["Order", "conv2d", "gemm", "linear", "matmul", "patches", "rounded", "sequential_sum"]

#: Numbers of the products that are added up from zero, tile by tile, in the order in which the accumulators take these.
Order: TypeAlias = Sequence[Array]



def sequential_sum(x: Array, axis: int = -1) -> Array:
    """Add up one axis from its first element to its last in float32.

    Parameters
    ----------
    x : float32 array
    axis : int

    Returns
    -------
    float32 array without that axis
    """
    running = np.add.accumulate(x, axis=axis, dtype=np.float32)
    return np.asarray(np.take(running, -1, axis=axis))


def matmul(a: Array, b: Array, *, tile: int | Order | None = None) -> Array:
    """Multiply matrices in float32: ``Y[...,m,n] = A[...,m,k] * B[...,k,n]``, k in order.

    Parameters
    ----------
    a : (..., M, K) float array
        Left operand.
    b : (..., K, N) float array
        Right operand; leading dimensions broadcast.
    tile : int or Order, optional
        Products added from zero before they join the accumulator, how many or which; all if not given.

    Returns
    -------
    (..., M, N) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    left, right = floating("a", a), floating("b", b)
    if left.ndim < 2 or right.ndim < 2 or left.shape[-1] != right.shape[-2]:
        raise ValueError("a and b must have shapes (..., M, K) and (..., K, N), "
                         f"not {left.shape} and {right.shape}")
    tiles = _tiles(tile, left.shape[-1])
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    total = np.zeros((*batch, left.shape[-2], right.shape[-1]), np.float32)
    # What is too great becomes infinite, as in the array.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for number, chosen in enumerate(tiles):
            partial = np.zeros_like(total)
            for k in chosen:
                partial += left[..., :, k, None] * right[..., None, k, :]
            # The first tile overwrites the accumulator instead of joining a zero in it.
            total = total + partial if number else partial
    return total


def _tiles(tile: int | Order | None, depth: int) -> Sequence[Array]:
    """Numbers of the products of each tile, of as many products as `depth`."""
    if tile is None or isinstance(tile, (int, np.integer)):
        if tile is not None and tile < 1:
            raise ValueError(f"tile must be at least 1, not {tile}")
        length = tile or max(depth, 1)
        return [np.arange(start, min(start + length, depth)) for start in range(0, depth, length)]
    found = np.concatenate([np.asarray(each) for each in tile])
    if not np.array_equal(np.sort(found), np.arange(depth)):
        raise ValueError(f"tile must have each of the {depth} products once, not {len(found)} numbers")
    return tile


def rounded(x: Array, dtype: npt.DTypeLike) -> Array:
    """Round float32 to a type, to nearest, halves to even; what is beyond it becomes infinite, or no number."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return x.astype(dtype)


def gemm(a: Array, b: Array, c: Array | None = None, *, trans_a: bool = False, trans_b: bool = False,
         tile: int | Order | None = None) -> Array:
    """Multiply two matrices and add: ``Y[m,n] = A[m,k] * B[k,n] + C[m,n]``, C last.

    Parameters
    ----------
    a : (M, K) float array, or (K, M) with `trans_a`
    b : (K, N) float array, or (N, K) with `trans_b`
    c : (N,) or (M, N) float array, optional
        Addend.
    trans_a, trans_b : bool
        Whether an operand is given transposed.
    tile : int or Order, optional
        As for :func:`matmul`.

    Returns
    -------
    (M, N) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    left, right = floating("a", a, 2), floating("b", b, 2)
    product = matmul(left.T if trans_a else left, right.T if trans_b else right, tile=tile)
    if c is None:
        return product
    addend = floating("c", c)
    if addend.shape not in (product.shape, (1, product.shape[1]), product.shape[1:]):
        raise ValueError(f"c must have shape {product.shape[1:]} or {product.shape}, not {addend.shape}")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(product + addend)


def linear(x: Array, w: Array, b: Array | None = None, *, tile: int | Order | None = None) -> Array:
    """Apply a fully connected layer: ``Y[n,m] = X[n,c] * W[m,c] + B[m]``, the bias last.

    Parameters
    ----------
    x : (N, C) float array
        Activations.
    w : (M, C) float array
        Weights.
    b : (M,) float array, optional
        Bias.
    tile : int or Order, optional
        As for :func:`matmul`.

    Returns
    -------
    (N, M) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    weights = floating("w", w, 2)
    if b is not None and np.shape(b) != weights.shape[:1]:
        raise ValueError(f"b must have shape {weights.shape[:1]}, not {np.shape(b)}")
    return gemm(x, weights, b, trans_b=True, tile=tile)


def patches(x: Array, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int],
            dilation: tuple[int, int], groups: int) -> tuple[Array, int, int]:
    """Lay out what each output of a convolution meets, in the order of an NHWC walk.

    Parameters
    ----------
    x : (N, C, H, W) array
    kernel, stride, dilation : (int, int)
    padding : (top, left, bottom, right)
    groups : int

    Returns
    -------
    columns : (G, N * P * Q, R * S * C / G) array
        With the channel innermost, then the column and the row of the tap.
    p, q : int
        Size of the output.
    """
    top, left, bottom, right = padding
    n, c, height, width = x.shape
    p = output_size("height", height, kernel[0], stride[0], top, bottom, dilation[0])
    q = output_size("width", width, kernel[1], stride[1], left, right, dilation[1])
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    taps = [patch(padded, i * dilation[0], j * dilation[1], p, q, stride)
            for i in range(kernel[0]) for j in range(kernel[1])]
    stacked = np.stack(taps).reshape(len(taps), n, groups, c // groups, p * q)
    return stacked.transpose(2, 1, 4, 0, 3).reshape(groups, n * p * q, -1), p, q


def conv2d(x: Array, w: Array, b: Array | None = None, *, stride: int | tuple[int, int] = 1,
           padding: Padding = 0, dilation: int | tuple[int, int] = 1, groups: int = 1,
           tile: int | Order | None = None) -> Array:
    """Convolve: ``Y[n,m,p,q] = X[n,c,U*p+D*r-top,U*q+D*s-left] * W[m,c,r,s] + B[m]``, the bias last.

    Products are added in the order of an NHWC walk: channels innermost, then columns, then rows of
    the filter. Those with padding are added like all others.

    Parameters
    ----------
    x : (N, C, H, W) float array
        Activations.
    w : (M, C / G, R, S) float array
        Weights.
    b : (M,) float array, optional
        Bias.
    stride, dilation : int or (int, int)
        Steps of the window and of its taps.
    padding : int, (int, int) or (int, int, int, int)
        Zero padding of all sides, (height, width) or (top, left, bottom, right).
    groups : int
        Number of groups G.
    tile : int or Order, optional
        As for :func:`matmul`.

    Returns
    -------
    (N, M, P, Q) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    activations, weights = floating("x", x, 4), floating("w", w, 4)
    m, channels, r, s = weights.shape
    if groups < 1 or activations.shape[1] % groups or m % groups:
        raise ValueError(f"groups must divide the {activations.shape[1]} input and {m} output channels, "
                         f"not {groups!r}")
    if channels != activations.shape[1] // groups:
        raise ValueError(f"w must have {activations.shape[1] // groups} channels a group, not {channels}")
    columns, p, q = patches(activations, (r, s), pair("stride", stride), four_sides(padding),
                            pair("dilation", dilation), groups)
    filters = weights.transpose(2, 3, 1, 0).reshape(r * s * channels, groups, m // groups).swapaxes(0, 1)
    y = matmul(columns, filters, tile=tile).reshape(groups, activations.shape[0], p, q, m // groups)
    y = y.transpose(1, 0, 4, 2, 3).reshape(activations.shape[0], m, p, q)
    if b is None:
        return y
    bias = shaped("b", b, (m,))
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(y + bias[:, None, None])
