"""16-bit fixed point with 16-bit sums, as Eyeriss computes (JSSC 2017, section V-D).

A window of 16 bits is taken from each 32-bit product, and sums wrap at 16 bits. So sums don't depend on the order
in which products are added, hence not on the mapping.
"""

import numpy as np
import numpy.typing as npt

from .tensors import Array, Padding, convolved_size, four_sides, integer, pair

__all__ = ["conv2d", "gemm"]

#: Sums computed at a time, so that they and their products stay in a processor's cache.
_BLOCK = 1 << 16


def conv2d(x: Array, w: Array, b: Array | None = None, *, shift: int, stride: int | tuple[int, int] = 1,
           padding: Padding = 0, dilation: int | tuple[int, int] = 1, groups: int = 1) -> npt.NDArray[np.int16]:
    """Convolve: ``Y[n,m,p,q] = b[m] + sum (X[n,c,U*p+r-top,U*q+s-left] * W[m,c,r,s] >> shift)``, modulo 2**16.

    Parameters
    ----------
    x : (N, C, H, W) int16 array
        Activations.
    w : (M, C / G, R, S) int16 array
        Weights.
    b : (M,) int16 array, optional
        Bias.
    shift : int
        Lowest bit of the window of a product, 0 to 16.
    stride, padding, dilation, groups
        As for :func:`.integer.conv2d`.

    Returns
    -------
    (N, M, P, Q) int16 array

    Raises
    ------
    ValueError
        If types, shapes or the shift do not fit.
    """
    activations, weights = _words("x", x, 4), _words("w", w, 4)
    _check_shift(shift)
    (u, v), (down, across) = pair("stride", stride), pair("dilation", dilation)
    top, left, bottom, right = sides = four_sides(padding)
    p, q = convolved_size(activations, weights, (u, v), sides, (down, across), groups)
    (n, *_), (m, channels, r, s) = activations.shape, weights.shape
    padded = np.pad(activations, ((0, 0), (0, 0), (top, bottom), (left, right)))
    # Channel by channel, so that a tap of all pixels is one vector: where windows begin, and how far off the tap is.
    rows, columns = padded.shape[2:]
    planes = np.ascontiguousarray(padded.transpose(1, 0, 2, 3)).reshape(groups, channels, -1)
    begins = ((np.arange(n) * rows)[:, None, None] + (np.arange(p) * u)[:, None]) * columns + np.arange(q) * v
    taps = ((np.arange(r) * down * columns)[:, None] + np.arange(s) * across).reshape(-1)
    filters = weights.reshape(groups, m // groups, channels, r * s)
    sums = np.stack([_sums(planes[g], filters[g], begins.reshape(-1), taps, shift) for g in range(groups)])
    return _biased(sums.reshape(m, n, p, q).transpose(1, 0, 2, 3), b, (m, 1, 1))


def gemm(a: Array, b: Array, c: Array | None = None, *, shift: int) -> npt.NDArray[np.int16]:
    """Multiply matrices: ``Y[m,n] = C[m,n] + sum (A[m,k] * B[k,n] >> shift)``, modulo 2**16.

    Parameters
    ----------
    a : (M, K) int16 array
        Left operand.
    b : (K, N) int16 array
        Right operand.
    c : (N,), (1, N) or (M, N) int16 array, optional
        Bias.
    shift : int
        Lowest bit of the window of a product, 0 to 16.

    Returns
    -------
    (M, N) int16 array

    Raises
    ------
    ValueError
        If types, shapes or the shift do not fit.
    """
    left, right = _words("a", a, 2), _words("b", b, 2)
    _check_shift(shift)
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"b must have {left.shape[1]} rows, not {right.shape[0]}")
    sums = _sums(np.ascontiguousarray(left.T), right.T[:, :, None], np.arange(len(left)), np.zeros(1, np.int64), shift)
    # Pixels of a 1 x 1 convolution are the rows of the left operand.
    return _biased(sums.T, c, (1, right.shape[1]) if c is not None and c.ndim == 1 else None)


def _words(name: str, tensor: Array, dimensions: int) -> Array:
    words = integer(name, tensor, dimensions)
    if words.dtype != np.int16:
        raise ValueError(f"{name} must be int16, not {words.dtype}")
    return words


def _check_shift(shift: int) -> None:
    if type(shift) is not int or not 0 <= shift <= 16:
        raise ValueError(f"shift must be an integer in 0..16, not {shift!r}")


def _sums(planes: Array, filters: Array, begins: Array, taps: Array, shift: int) -> npt.NDArray[np.int16]:
    """Sums (M, pixels) of filters (M, C, taps) at pixels whose windows begin at `begins` in planes (C, elements)."""
    m, channels, _ = filters.shape
    sums = np.empty((m, len(begins)), np.int16)
    step = max(1, _BLOCK // m)
    for start in range(0, len(begins), step):
        at = begins[start:start + step]
        # A product's window is the low half of the shifted product. Low halves of 32-bit sums depend on nothing else.
        block = np.zeros((m, len(at)), np.int32)
        products = np.empty_like(block)
        for channel in range(channels):
            for tap, offset in enumerate(taps):
                seen = planes[channel][at + offset].astype(np.int32)
                np.multiply(filters[:, channel, tap, None].astype(np.int32), seen, out=products)
                np.right_shift(products, shift, out=products)
                np.add(block, products, out=block)
        sums[:, start:start + step] = block.astype(np.int16)
    return sums


def _biased(sums: Array, bias: Array | None, shape: tuple[int, ...] | None) -> npt.NDArray[np.int16]:
    """Add a bias in 16 bits; `shape` lays it along the sums."""
    if bias is None:
        return np.ascontiguousarray(sums)
    if bias.dtype != np.int16:
        raise ValueError(f"bias must be int16, not {bias.dtype}")
    biased: npt.NDArray[np.int16] = np.ascontiguousarray(sums + (bias if shape is None else bias.reshape(shape)))
    return biased
