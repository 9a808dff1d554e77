"""Gradients of pooling. What windows that overlap give to an element is added tap by tap, rows of the window first."""

import numpy as np

from .pool import max_pool2d, padded_for, real_window_counts
from .tensors import Array, Padding, floating, pair, patch, shaped

__all__ = ["average_pool2d_grad", "max_pool2d_grad"]


def max_pool2d_grad(x: Array, dy: Array, kernel: int | tuple[int, int], *, stride: int | tuple[int, int] | None = None,
                    padding: Padding = 0, dilation: int | tuple[int, int] = 1, ceil_mode: bool = False) -> Array:
    """Differentiate :func:`.pool.max_pool2d`: dy goes to the greatest element of a window, the first of equal ones.

    What is no number counts as greatest, as it does forwards. Padding gets nothing, even from windows of minus
    infinities.

    Parameters
    ----------
    x : (N, C, H, W) float array
        Activations.
    dy : (N, C, P, Q) float array
        Gradient of the output.
    kernel, stride, padding, dilation, ceil_mode
        As for :func:`.pool.max_pool2d`.

    Returns
    -------
    (N, C, H, W) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    activations = floating("x", x, 4)
    window, taps = pair("kernel", kernel), pair("dilation", dilation)
    step = window if stride is None else pair("stride", stride)
    best = max_pool2d(activations, window, stride=step, padding=padding, dilation=taps, ceil_mode=ceil_mode)
    gradient = shaped("dy", dy, best.shape)
    padded, top, left = padded_for(activations, window, step, padding, taps, ceil_mode, -np.inf)
    inside, *_ = padded_for(np.ones((1, 1, *activations.shape[2:]), bool), window, step, padding, taps, ceil_mode,
                            False)
    total, p, q = np.zeros_like(padded), *best.shape[2:]
    waiting = np.ones(best.shape, bool)
    for i in range(window[0]):
        for j in range(window[1]):
            place = i * taps[0], j * taps[1], p, q, step
            values = patch(padded, *place)
            taken = waiting & patch(inside, *place) & ((values == best) | np.isnan(values))
            target = patch(total, *place)
            target += np.where(taken, gradient, np.float32(0))
            waiting &= ~taken
    return total[..., top:top + activations.shape[2], left:left + activations.shape[3]]


def average_pool2d_grad(x: Array, dy: Array, kernel: int | tuple[int, int], *,
                        stride: int | tuple[int, int] | None = None, padding: Padding = 0,
                        count_include_pad: bool = False, ceil_mode: bool = False) -> Array:
    """Differentiate the mean of each window: every element gets ``dY / count`` of the windows that it is in.

    Parameters
    ----------
    x : (N, C, H, W) float array
        Activations, of which only the shape counts.
    dy : (N, C, P, Q) float array
        Gradient of the output.
    kernel, stride, padding, ceil_mode
        As for :func:`.pool.max_pool2d`.
    count_include_pad : bool
        As for :func:`.pool.real_window_counts`.

    Returns
    -------
    (N, C, H, W) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    activations, window = floating("x", x, 4), pair("kernel", kernel)
    step = window if stride is None else pair("stride", stride)
    height, width = activations.shape[2:]
    counts = real_window_counts(height, width, window, stride=step, padding=padding,
                                count_include_pad=count_include_pad, ceil_mode=ceil_mode)
    gradient = shaped("dy", dy, (*activations.shape[:2], *counts.shape)) / counts.astype(np.float32)
    padded, top, left = padded_for(activations, window, step, padding, (1, 1), ceil_mode, 0)
    total, (p, q) = np.zeros_like(padded), counts.shape
    for i in range(window[0]):
        for j in range(window[1]):
            target = patch(total, i, j, p, q, step)
            target += gradient
    return total[..., top:top + height, left:left + width]
