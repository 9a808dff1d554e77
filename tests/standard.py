"""Float operators of the ONNX standard, written from its text alone, and what may be stored of their results.

Nothing here is shared with the golden models. Stored integers stand for ``(stored - zero_point) * scale``; products of
these are added in int64 and multiplied by float64 scales, so that a result is exact but for float64's last bits. Beside
each result stands a bound on what a runtime that computes in float32, in any order, may be off by.
"""

import math
from dataclasses import dataclass

import numpy as np

__all__ = [
    "KINDS", "Real", "add", "average", "convolution", "elementwise", "maximum", "pads_of", "product", "quantised",
    "store", "transposed",
]

#: Least and greatest value of a stored type, and the type that holds it in NumPy.
KINDS = {"int4": (-8, 7, np.int8), "uint4": (0, 15, np.uint8), "int8": (-128, 127, np.int8),
         "uint8": (0, 255, np.uint8), "int16": (-32768, 32767, np.int16),
         "uint16": (0, 65535, np.uint16)}

#: Half a unit in the last place of float32, relative to the number.
ROUNDING = 2.0**-24


@dataclass
class Real:
    """A float tensor: its values in float64, and how far off float32 may be.

    Members
    -------
    values, error : ndarray
        An error of 0 says that float32 holds the value itself, whatever the order of additions.
    grain : float
        Power of two of which all values are multiples; 0 if none is known.
    scale : float64 array or None
        Scale of stored integers.
    steps : float64 array or None
        Scale of sums of integers, which a kernel may have added in place of real numbers.
    """

    values: np.ndarray
    error: np.ndarray
    grain: float = 0.0
    scale: np.ndarray | None = None
    steps: np.ndarray | None = None


def _grain(scale):
    """Greatest power of two of which all of some numbers are multiples."""
    mantissas = (np.frexp(np.asarray(scale, np.float64))[0] * 2.0**53).astype(np.int64)
    exponents = np.frexp(np.asarray(scale, np.float64))[1] - 53
    return float(np.min((mantissas & -mantissas).astype(np.float64) * np.exp2(exponents)))


def _inexact(values):
    """Whether float32 does not hold a number."""
    return np.float64(np.float32(values)) != values


def quantised(stored, scale, zero_point, axis=1):
    """DequantizeLinear: ``(x - x_zero_point) * x_scale``, one scale for all or one for each index of an axis."""
    shape = [-1 if index == axis % max(stored.ndim, 1) else 1 for index in range(stored.ndim)]
    scale, zero_point = (np.asarray(value).reshape(shape) if np.size(value) > 1 else np.asarray(value).reshape(())
                         for value in (scale, zero_point))
    values = (stored.astype(np.int64) - zero_point.astype(np.int64)) * scale.astype(np.float64)
    return Real(values, np.abs(values) * ROUNDING * _inexact(values), _grain(scale), scale.astype(np.float64))


def store(real, scale, zero_point, kind, fused=False):
    """QuantizeLinear: ``saturate(round(x / y_scale) + y_zero_point)``, as the least and the greatest admissible.

    The quotient is rounded to the nearest integer, halves to the even one. Both neighbours are admissible where the
    quotient is as near to half-way as what float32 may be off by: the runtime's float operators, its fused kernels, and
    the order of their additions decide there, and disagree. Where float32 has the half itself, nothing is left to
    decide, unless the runtime has a `fused` kernel, which places the zero point inside the rounding.
    """
    low, high, _ = KINDS[kind]
    scale = np.float64(scale)
    quotient = real.values / scale
    slack = real.error / scale + 16 * ROUNDING * (np.abs(quotient) + abs(int(zero_point)))
    least, most = np.ceil(quotient - slack - 0.5), np.floor(quotient + slack + 0.5)
    half = (np.floor(quotient) + 0.5) * scale == real.values
    # A kernel that adds integers multiplies their sum by this quotient.
    factors = np.zeros(()) if real.steps is None else real.steps / scale
    decided = half & (real.error == 0) & ~_inexact(factors).any() & (not fused)
    least, most = (np.where(decided, np.rint(quotient), bound) for bound in (least, most))
    return tuple(np.clip(bound + int(zero_point), low, high).astype(np.int64) for bound in (least, most))


def _error(error, reach, grain, *terms):
    """An error, unless float32 adds such terms exactly: multiples of `grain`, whose sizes add up to `reach`."""
    exact = not any(term.error.any() for term in terms) and grain > 0 and np.max(reach, initial=0) <= 2**24 * grain
    return np.zeros_like(error) if exact else error


def _summed(sums, sizes, a, b, depth, bias, factor=1.0):
    """Sums of products of two real tensors, given with the sums of their sizes, and a bias."""
    values, reach = (sums, sizes) if bias is None else (sums + bias.values, sizes + np.abs(bias.values))
    error, terms, grain = (depth + 8) * ROUNDING * reach, [a, b], a.grain * b.grain * _grain(abs(factor) or 1.0)
    if bias is not None:
        error, terms, grain = error + bias.error, [a, b, bias], min(grain, bias.grain)
    steps = np.multiply.outer(a.scale, b.scale) * factor
    return Real(values, _error(error, reach, grain, *terms), grain, steps=steps)


def _windows(x, kernel, strides, dilations, rows, columns):
    """View (N, C, H, W) as (N, C, P, Q, R, S)."""
    reach = [step * (taps - 1) + 1 for step, taps in zip(dilations, kernel, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
    seen = seen[:, :, ::strides[0], ::strides[1], ::dilations[0], ::dilations[1]]
    assert seen.shape[2:4] == (rows, columns)
    return seen


def pads_of(sizes, kernel, attributes):
    """Padding (top, left, bottom, right) by ``pads`` or ``auto_pad``, and the outputs of each axis."""
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    mode, given = attributes.get("auto_pad", "NOTSET"), attributes.get("pads", [0, 0, 0, 0])
    begins, ends, outputs = [], [], []
    for axis in range(2):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        if mode.startswith("SAME"):
            count = -(-sizes[axis] // strides[axis])
            total = max((count - 1) * strides[axis] + reach - sizes[axis], 0)
            begin = total // 2 if mode == "SAME_UPPER" else total - total // 2
            end = total - begin
        else:
            begin, end = (0, 0) if mode == "VALID" else (given[axis], given[axis + 2])
            span = (sizes[axis] + begin + end - reach) / strides[axis]
            count = (math.ceil(span) if attributes.get("ceil_mode") and mode == "NOTSET" else math.floor(span)) + 1
            if attributes.get("ceil_mode") and (count - 1) * strides[axis] >= sizes[axis] + begin:
                # Windows of a pooling that would start in the padding at the end are ignored.
                count -= 1
        begins.append(begin)
        ends.append(end)
        outputs.append(count)
    return (*begins, *ends), outputs


def convolution(x, w, bias, attributes):
    """Conv of real (N, C, H, W) and (M, C / group, R, S)."""
    group, (n, c), (m, _, r, s) = attributes.get("group", 1), x.values.shape[:2], w.values.shape
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    (top, left, bottom, right), (p, q) = pads_of(x.values.shape[2:], (r, s), attributes)
    results = []
    for values, filters in ((x.values, w.values), (np.abs(x.values), np.abs(w.values))):
        padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
        height, width = ((count - 1) * step + dilation * (taps - 1) + 1 for count, step, dilation, taps in
                         zip((p, q), strides, dilations, (r, s), strict=True))
        seen = _windows(padded[:, :, :height, :width], (r, s), strides, dilations, p, q)
        seen = seen.reshape(n, group, c // group, p, q, r, s)
        results.append(np.einsum("ngcpqrs,gmcrs->ngmpq", seen, filters.reshape(group, m // group, -1, r, s))
                       .reshape(n, m, p, q))
    return _summed(*results, x, w, w.values[0].size, _channels(bias))


def transposed(x, w, bias, attributes):
    """ConvTranspose of real (N, C, H, W) and (C, M / group, R, S)."""
    group, (n, c, height, width), (_, per, r, s) = attributes.get("group", 1), x.values.shape, w.values.shape
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    extra, pads = attributes.get("output_padding", [0, 0]), attributes.get("pads", [0, 0, 0, 0])
    spread = [strides[i] * (size - 1) + dilations[i] * (taps - 1) + 1 + extra[i]
              for i, (size, taps) in enumerate(((height, r), (width, s)))]
    results = []
    for values, filters in ((x.values, w.values), (np.abs(x.values), np.abs(w.values))):
        whole = np.zeros((n, group, per, *spread))
        parts = np.einsum("ngchw,gcmrs->ngmhwrs", values.reshape(n, group, c // group, height, width),
                          filters.reshape(group, c // group, per, r, s))
        for i, j in np.ndindex(height, width):
            for row, column in np.ndindex(r, s):
                whole[..., i * strides[0] + row * dilations[0], j * strides[1] + column * dilations[1]] += parts[
                    ..., i, j, row, column]
        results.append(whole[..., pads[0]:spread[0] - pads[2], pads[1]:spread[1] - pads[3]].reshape(
            n, group * per, spread[0] - pads[0] - pads[2], spread[1] - pads[1] - pads[3]))
    return _summed(*results, x, w, c // group * r * s, _channels(bias))


def _channels(bias):
    return None if bias is None else Real(bias.values[:, None, None], bias.error[:, None, None], bias.grain)


def product(a, b, c=None, alpha=1.0, beta=1.0):
    """Gemm ``alpha * a b + beta * c`` of real matrices, or MatMul."""
    alpha, beta = np.float64(np.float32(alpha)), np.float64(np.float32(beta))
    sums, sizes = alpha * (a.values @ b.values), abs(alpha) * (np.abs(a.values) @ np.abs(b.values))
    addend = None
    if c is not None:
        scaled = beta * c.values
        off = 2 * abs(beta) * (c.error + np.abs(c.values) * ROUNDING * _inexact(scaled))
        addend = Real(scaled, off, c.grain * _grain(abs(beta) or 1.0))
    return _summed(sums, sizes, a, b, a.values.shape[-1], addend, alpha)


def add(a, b):
    """Add of two real tensors."""
    values, reach = a.values + b.values, np.abs(a.values) + np.abs(b.values)
    grain = min(a.grain, b.grain)
    return Real(values, _error(a.error + b.error + 4 * ROUNDING * reach, reach, grain, a, b), grain)


def average(x, kernel, attributes):
    """AveragePool: the mean of each window, padding counted only with ``count_include_pad``."""
    strides = attributes.get("strides", [1, 1])
    (top, left, bottom, right), (p, q) = pads_of(x.values.shape[2:], kernel, attributes)
    height, width = ((count - 1) * step + taps for count, step, taps in zip((p, q), strides, kernel, strict=True))
    inside = np.ones((1, 1, *x.values.shape[2:]))
    counted = np.pad(inside, ((0, 0), (0, 0), (top, bottom), (left, right)),
                     constant_values=float(bool(attributes.get("count_include_pad"))))

    def windows(values, padded=False):
        values = values if padded else np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
        # What hangs over the padding is not there at all.
        values = np.pad(values, ((0, 0), (0, 0), (0, max(0, height - values.shape[2])),
                                 (0, max(0, width - values.shape[3]))))[:, :, :height, :width]
        return _windows(values, kernel, strides, (1, 1), p, q).sum((4, 5))

    counts = windows(counted, padded=True)
    reach, means = windows(np.abs(x.values)), windows(x.values) / counts
    error = _error((math.prod(kernel) + 8) * ROUNDING * reach, reach, x.grain, x) / counts
    return Real(means, error + np.abs(means) * ROUNDING * _inexact(means))


def maximum(x, kernel, attributes):
    """MaxPool of an array of any type: the greatest element inside each window, padding apart."""
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    (top, left, *_), (p, q) = pads_of(x.shape[2:], kernel, attributes)
    y = np.empty((*x.shape[:2], p, q), x.dtype)
    for i, j in np.ndindex(p, q):
        rows, columns = ([at for at in range(start, start + step * taps, step) if 0 <= at < size]
                         for start, step, taps, size in (
                             (i * strides[0] - top, dilations[0], kernel[0], x.shape[2]),
                             (j * strides[1] - left, dilations[1], kernel[1], x.shape[3])))
        y[:, :, i, j] = x[:, :, rows][:, :, :, columns].max((2, 3))
    return y


def elementwise(x, function, lipschitz=1.0, own=0.0):
    """Apply a function, whose slope is at most `lipschitz` and which a runtime approximates to within `own`."""
    values = function(x.values)
    return Real(values, lipschitz * x.error + own + 2 * ROUNDING * np.abs(values) * _inexact(values), steps=x.steps)
