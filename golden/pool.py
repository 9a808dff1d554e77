"""Pooling: the maximum, and the sums and counts that averages are made of."""

import numpy as np

from .tensors import Array, Padding, centre, floating, four_sides, integer, output_size, pair, patch, wrap

__all__ = [
    "max_pool2d", "padded_for", "pooled_size", "real_window_counts", "sequential_sums", "window_counts", "window_sums",
]


def max_pool2d(x: Array, kernel: int | tuple[int, int], *, stride: int | tuple[int, int] | None = None,
               padding: Padding = 0, dilation: int | tuple[int, int] = 1, ceil_mode: bool = False) -> Array:
    """Take the greatest element of each window: ``Y[n,c,p,q] = max X[n,c,U*p+r-top,U*q+s-left]``.

    Padding never wins: a window sees only elements of the input.

    Parameters
    ----------
    x : (N, C, H, W) integer or float32 array
        Activations.
    kernel : int or (int, int)
        Size of the window, (R, S).
    stride : int or (int, int), optional
        Step of the window; that of `kernel` if not given.
    padding : int, (int, int) or (int, int, int, int)
        Padding of all sides, (height, width) or (top, left, bottom, right), less than what the window reaches over.
    dilation : int or (int, int)
        Distance of taps.
    ceil_mode : bool
        Also make an output of a last window that hangs over the end.

    Returns
    -------
    (N, C, P, Q) array of the type of `x`

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    real = np.asarray(x).dtype.kind == "f"
    activations = floating("x", x, 4) if real else integer("x", x, 4)
    window, taps = pair("kernel", kernel), pair("dilation", dilation)
    step = window if stride is None else pair("stride", stride)
    least = -np.inf if real else np.iinfo(activations.dtype).min
    padded, p, q = _pad(activations, window, step, four_sides(padding), taps, ceil_mode, least)
    best = np.full((*activations.shape[:2], p, q), least, activations.dtype)
    for i in range(window[0]):
        for j in range(window[1]):
            values = patch(padded, i * taps[0], j * taps[1], p, q, step)
            # Of equal zeros the first stays, whatever its sign.
            best = np.where((best < values) | (values != values), values, best)
    return best


def pooled_size(height: int, width: int, kernel: tuple[int, int], stride: tuple[int, int],
                padding: tuple[int, int, int, int], dilation: tuple[int, int] = (1, 1),
                ceil_mode: bool = False) -> tuple[int, int]:
    """Count the rows and the columns of a pooling's output.

    Raises
    ------
    ValueError
        If a window is larger than the padded input, or padding is not less than what the window reaches over.
    """
    sizes = []
    for axis, (name, size) in enumerate((("height", height), ("width", width))):
        before, after = padding[axis], padding[axis + 2]
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        if max(before, after) >= reach:
            raise ValueError(f"padding must be less than the {reach} elements of {name} that a window reaches over, "
                             f"not {max(before, after)}")
        sizes.append(output_size(name, size, kernel[axis], stride[axis], before, after, dilation[axis], ceil_mode))
    return sizes[0], sizes[1]


def _pad(x: Array, window: tuple[int, int], step: tuple[int, int], sides: tuple[int, int, int, int],
         taps: tuple[int, int], ceil_mode: bool, value: float) -> tuple[Array, int, int]:
    top, left, bottom, right = sides
    p, q = pooled_size(x.shape[2], x.shape[3], window, step, sides, taps, ceil_mode)
    # The last window may hang over the padding in ceil mode.
    below = max(bottom, (p - 1) * step[0] + taps[0] * (window[0] - 1) + 1 - top - x.shape[2])
    beside = max(right, (q - 1) * step[1] + taps[1] * (window[1] - 1) + 1 - left - x.shape[3])
    return np.pad(x, ((0, 0), (0, 0), (top, below), (left, beside)), constant_values=value), p, q


def padded_for(x: Array, window: tuple[int, int], step: tuple[int, int], padding: Padding, taps: tuple[int, int],
               ceil_mode: bool, value: float) -> tuple[Array, int, int]:
    """Pad images as far as windows reach, and say where they begin in that: at which row and which column."""
    top, left, *_ = sides = four_sides(padding)
    return _pad(x, window, step, sides, taps, ceil_mode, value)[0], top, left


def window_sums(x: Array, kernel: int | tuple[int, int], *, stride: int | tuple[int, int] | None = None,
                padding: Padding = 0, x_zero_point: int = 0, ceil_mode: bool = False,
                acc_bits: int = 32) -> Array:
    """Sum each window: ``Y[n,c,p,q] = sum X[n,c,U*p+r-top,U*q+s-left] - zero point``, padding adding nothing.

    Parameters
    ----------
    x : (N, C, H, W) integer array
        Activations.
    kernel, stride, padding, ceil_mode
        As for :func:`max_pool2d`.
    x_zero_point : int
        Zero point of the activations.
    acc_bits : int
        Width at which sums wrap.

    Returns
    -------
    (N, C, P, Q) int32 array, int64 if `acc_bits` exceeds 32

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    centred = centre("x", integer("x", x, 4), x_zero_point)
    return wrap(_sums(centred, kernel, stride, padding, ceil_mode), acc_bits)


def sequential_sums(x: Array, kernel: int | tuple[int, int], *, stride: int | tuple[int, int] | None = None,
                    padding: Padding = 0, ceil_mode: bool = False) -> Array:
    """Add up each window of real numbers in float32, row by row from the left.

    Parameters
    ----------
    x : (N, C, H, W) float32 array
        Activations.
    kernel, stride, padding, ceil_mode
        As for :func:`max_pool2d`.

    Returns
    -------
    (N, C, P, Q) float32 array

    Raises
    ------
    ValueError
        If types or shapes do not fit.
    """
    return _sums(floating("x", x, 4), kernel, stride, padding, ceil_mode)


def _sums(x: Array, kernel: int | tuple[int, int], stride: int | tuple[int, int] | None, padding: Padding,
          ceil_mode: bool) -> Array:
    window = pair("kernel", kernel)
    step = window if stride is None else pair("stride", stride)
    padded, p, q = _pad(x, window, step, four_sides(padding), (1, 1), ceil_mode, 0)
    sums = np.zeros((*x.shape[:2], p, q), x.dtype)
    for i in range(window[0]):
        for j in range(window[1]):
            sums += patch(padded, i, j, p, q, step)
    return sums


def window_counts(height: int, width: int, kernel: int | tuple[int, int], *,
                  stride: int | tuple[int, int] | None = None, padding: Padding = 0,
                  count_include_pad: bool = False, ceil_mode: bool = False) -> Array:
    """Count the elements that the average of each window divides by.

    Parameters
    ----------
    height, width : int
        Size of the input.
    kernel, stride, padding, ceil_mode
        As for :func:`max_pool2d`.
    count_include_pad : bool
        Count the whole window, padding included, and not only elements of the input.

    Returns
    -------
    (P, Q) int32 array
    """
    inside = np.ones((1, 1, height, width), np.uint8)
    counts = window_sums(inside, kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)[0, 0]
    if count_include_pad:
        window = pair("kernel", kernel)
        counts = np.full_like(counts, window[0] * window[1])
    return counts


def real_window_counts(height: int, width: int, kernel: int | tuple[int, int], *,
                       stride: int | tuple[int, int] | None = None, padding: Padding = 0,
                       count_include_pad: bool = False, ceil_mode: bool = False) -> Array:
    """Count as :func:`window_counts`, but never what lies behind the padded image, where a window may reach too.

    So PyTorch and ONNX's AveragePool count; onnxruntime's QLinearAveragePool counts whole windows.
    """
    counts = window_counts(height, width, kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
    if not count_include_pad:
        return counts
    window = pair("kernel", kernel)
    step, (top, left, bottom, right) = window if stride is None else pair("stride", stride), four_sides(padding)
    rows, columns = (np.minimum(np.arange(count) * apart + size, whole) - np.arange(count) * apart
                     for count, apart, size, whole in zip(counts.shape, step, window,
                                                          (top + height + bottom, left + width + right), strict=True))
    return (rows[:, None] * columns).astype(np.int32)
