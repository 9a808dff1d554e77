"""16-bit fixed point with 16-bit sums, as Eyeriss computes (JSSC 2017, section V-D).

A window of 16 bits is taken from each 32-bit product, and sums wrap at 16 bits. So sums don't depend on the order
in which products are added, hence not on the mapping.
"""

import numpy as np
import numpy.typing as npt

from .tensors import Array, Padding, four_sides, integer, output_size, pair, patch

__all__ = ["conv2d"]


def conv2d(x: Array, w: Array, *, shift: int, stride: int | tuple[int, int] = 1, padding: Padding = 0,
           groups: int = 1) -> npt.NDArray[np.int16]:
    """Convolve: ``Y[n,m,p,q] = sum (X[n,c,U*p+r-top,U*q+s-left] * W[m,c,r,s] >> shift)``, modulo 2**16.

    Parameters
    ----------
    x : (N, C, H, W) int16 array
        Activations.
    w : (M, C / G, R, S) int16 array
        Weights.
    shift : int
        Lowest bit of the window of a product, 0 to 16.
    stride, padding, groups
        As for :func:`.integer.conv2d`.

    Returns
    -------
    (N, M, P, Q) int16 array

    Raises
    ------
    ValueError
        If types, shapes or the shift do not fit.
    """
    activations, weights = integer("x", x, 4), integer("w", w, 4)
    for name, tensor in (("x", activations), ("w", weights)):
        if tensor.dtype != np.int16:
            raise ValueError(f"{name} must be int16, not {tensor.dtype}")
    if type(shift) is not int or not 0 <= shift <= 16:
        raise ValueError(f"shift must be an integer in 0..16, not {shift!r}")
    step = pair("stride", stride)
    top, left, bottom, right = four_sides(padding)
    (n, c, height, width), (m, channels, r, s) = activations.shape, weights.shape
    if groups < 1 or c % groups or m % groups:
        raise ValueError(f"groups must divide the {c} input and {m} output channels, not {groups!r}")
    if channels != c // groups:
        raise ValueError(f"w must have {c // groups} channels a group, not {channels}")
    p = output_size("height", height, r, step[0], top, bottom, 1)
    q = output_size("width", width, s, step[1], left, right, 1)
    padded = np.pad(activations.astype(np.int32), ((0, 0), (0, 0), (top, bottom), (left, right)))
    padded = padded.reshape(n, groups, channels, *padded.shape[2:])
    filters = weights.astype(np.int32).reshape(groups, m // groups, channels, r, s)
    sums = np.zeros((n, groups, m // groups, p, q), np.int16)
    for i in range(r):
        for j in range(s):
            seen = patch(padded, i, j, p, q, step)
            for channel in range(channels):
                products = seen[:, :, None, channel] * filters[None, :, :, channel, i, j, None, None]
                sums += (products >> shift).astype(np.int16)
    return sums.reshape(n, m, p, q)
