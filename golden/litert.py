"""Functions of 8-bit numbers in integers, to the last bit as LiteRT's reference kernels.

Of SOFTMAX and LOGISTIC errors against float64, in steps of the result (1 / 256), of which 255 are the most there are:
at most 0.501, and for SOFTMAX 1 / 4096 more for each score of a row, whose exponential loses at most 2**-20 when it is
added.
"""

from math import erfc

import numpy as np

from . import gemmlowp
from .quantise import checked_scale
from .requantise import divide_by_power, doubling_high, tflite, tflite_multiplier
from .tensors import Array

__all__ = [
    "MOST_SCORES", "absolute", "bounds", "factor", "gelu", "hard_swish", "leaky_relu", "logistic", "mean_factor",
    "prelu", "relu", "requantise", "rescaled", "softmax", "softmax_terms", "tanh",
]

#: Integer bits of scores below the greatest, and of their sum.
_SCORE_BITS, _SUM_BITS = 5, 12

#: Most scores of a row.
MOST_SCORES = (1 << _SUM_BITS) - 1


def _words(x: Array) -> Array:
    """Check an operand of 8 bits and widen it."""
    values = np.asarray(x)
    if values.dtype not in (np.int8, np.uint8) or values.ndim == 0 or values.size == 0:
        raise ValueError(f"x must be int8 or uint8, of at least one dimension, none of them 0, not {values.dtype} of "
                         f"shape {values.shape}")
    return values.astype(np.int64)


def _real(x: Array, x_scale: float, x_zero_point: int) -> Array:
    """Numbers in float64 that an operand stands for."""
    real: Array = (_words(x) - int(x_zero_point)) * np.float64(checked_scale("x_scale", x_scale))
    return real


def softmax_terms(x_scale: float, beta: float = 1.0) -> Array:
    """Exponentials of scores that are 0 to 255 below the greatest, with 31 bits behind the point.

    Parameters
    ----------
    x_scale, beta : float
        Scale of the scores, and factor.

    Returns
    -------
    (256,) int64 array
        0 to 2**31 - 1; 0 for what is so far below that it is not seen.

    Raises
    ------
    ValueError
        If the product of scale and factor is not positive, or too small.
    """
    multiplier, shift = gemmlowp.scale_up(float(beta) * float(np.float32(x_scale)), _SCORE_BITS)
    below = -np.arange(256, dtype=np.int64)
    seen = below >= -gemmlowp.input_radius(_SCORE_BITS, shift)
    words = doubling_high(np.where(seen, below, 0) << shift, multiplier)
    return np.where(seen, gemmlowp.exponential(words, _SCORE_BITS), 0)


def softmax(x: Array, x_scale: float, beta: float = 1.0) -> Array:
    """Normalise the last axis: ``exp(beta * x) / sum(exp(beta * x))``.

    Parameters
    ----------
    x : (..., K) int8 or uint8 array
        Scores, of which at most 4,095 stand in a row. Their zero point cancels.
    x_scale : float
        Scale of the scores.
    beta : float
        Factor.

    Returns
    -------
    (..., K) array of the type of `x`
        With the scale 1 / 256, and the least number of the type for zero point.

    Raises
    ------
    ValueError
        If the type, the shape or the scale does not fit.
    """
    scores = _words(x)
    if scores.shape[-1] > MOST_SCORES:
        raise ValueError(f"x must have at most {MOST_SCORES} scores in a row, not {scores.shape[-1]}")
    terms = softmax_terms(x_scale, beta)[scores.max(axis=-1, keepdims=True) - scores]
    total = divide_by_power(terms, _SUM_BITS).sum(axis=-1, keepdims=True)
    # Zeros before the first one of 32 bits.
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    inverse = gemmlowp.reciprocal((total << headroom) - (1 << 31))
    shares = divide_by_power(doubling_high(terms, inverse), _SUM_BITS - headroom + 31 - 8)
    bounds = np.iinfo(x.dtype)
    return np.clip(shares + bounds.min, bounds.min, bounds.max).astype(x.dtype)


def logistic(x: Array, x_scale: float, x_zero_point: int = 0) -> Array:
    """Logistic function ``1 / (1 + exp(-x))``, element by element.

    Parameters
    ----------
    x : int8 or uint8 array of any shape
        Arguments.
    x_scale : float
        Scale of the arguments.
    x_zero_point : int
        Zero point of the arguments.

    Returns
    -------
    array of the type and shape of `x`
        With the scale 1 / 256, and the least number of the type for zero point.

    Raises
    ------
    ValueError
        If the type, the shape or the scale does not fit.
    """
    # A table of the function itself, whatever the scale.
    with np.errstate(over="ignore"):
        exact = 256 / (1 + np.exp(-_real(x, x_scale, x_zero_point)))
    info = np.iinfo(x.dtype)
    return np.clip(np.rint(exact) + info.min, info.min, info.max).astype(x.dtype)


def tanh(x: Array, x_scale: float, x_zero_point: int = 0) -> Array:
    """Hyperbolic tangent, element by element.

    Parameters are those of :func:`logistic`.

    Returns
    -------
    array of the type and shape of `x`
        With the scale 1 / 128, and the middle of the type, 0 or 128, for zero point.

    Raises
    ------
    ValueError
        If the type, the shape or the scale does not fit.
    """
    exact = 128 * np.tanh(_real(x, x_scale, x_zero_point))
    info = np.iinfo(x.dtype)
    return np.clip(np.rint(exact) + info.min + 128, info.min, info.max).astype(x.dtype)


def factor(x_scale: float, w_scale: float, y_scale: float) -> tuple[int, int]:
    """Multiplier and left shift by which kernels that contract scale their sums: the factor is made in float64."""
    x, w, y = (np.float64(checked_scale(name, scale)) for name, scale in
               (("x_scale", x_scale), ("w_scale", w_scale), ("y_scale", y_scale)))
    return tflite_multiplier(float(x * w / y))


def mean_factor(x_scale: float, y_scale: float, count: int) -> tuple[int, int]:
    """Multiplier and left shift by which MEAN scales sums of `count` elements.

    The quotient of the scales becomes a multiplier first, and is then divided in integers, with as many bits as fit.
    """
    x, y = (np.float64(checked_scale(name, scale)) for name, scale in (("x_scale", x_scale), ("y_scale", y_scale)))
    multiplier, shift = tflite_multiplier(float(x / y))
    more = min(int(count).bit_length() - 1, 32, 31 + shift)
    return (multiplier << more) // count, shift - more


def bounds(low: float, high: float, scale: float, zero_point: int, dtype: np.dtype) -> tuple[int, int]:
    """Stored bounds of a clamp of real numbers, each rounded with halves away from zero, or those of the type."""
    info = np.iinfo(dtype)

    def stored(value: float, least: int) -> int:
        if np.isinf(value):
            return least
        steps = abs(float(np.float32(value) / np.float32(scale)))
        return int(np.clip(np.copysign(np.floor(steps + 0.5), value) + zero_point, info.min, info.max))

    return stored(low, info.min), stored(high, info.max)


def _scaled(values: Array, ratio: float) -> Array:
    """Integers times a factor of at least 0, by the rule with two roundings."""
    if ratio == 0:
        return np.zeros_like(values)
    return tflite(values, *tflite_multiplier(ratio), 0, -(1 << 31), (1 << 31) - 1).astype(np.int64)


def _stored(values: Array, zero_point: int, dtype: np.dtype) -> Array:
    info = np.iinfo(dtype)
    return np.clip(values + int(zero_point), info.min, info.max).astype(dtype)


def _scales(**scales: float) -> list[np.float32]:
    return [np.float32(checked_scale(name, scale)) for name, scale in scales.items()]


def requantise(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, *,
               dtype: np.dtype) -> Array:
    """Store numbers with another scale and zero point, as QUANTIZE of quantised numbers.

    Parameters
    ----------
    x : int8 or uint8 array of any shape
        Numbers.
    x_scale, x_zero_point, y_scale, y_zero_point
        How they are stored, and how they shall be.
    dtype : int8 or uint8
        Type of the result.

    Raises
    ------
    ValueError
        If a type or a scale does not fit; of :func:`relu`, :func:`leaky_relu`, :func:`prelu` and :func:`hard_swish`,
        too.
    """
    a, y = _scales(x_scale=x_scale, y_scale=y_scale)
    return _stored(_scaled(_words(x) - int(x_zero_point), float(a) / float(y)), y_zero_point, dtype)


def relu(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, low: float, high: float, *,
         dtype: np.dtype) -> Array:
    """Limit to low..high, as RELU, RELU6 and RELU_N1_TO_1; the quotient of the scales is rounded to float32.

    Parameters are those of :func:`requantise`, and the bounds, as real numbers.
    """
    a, y = _scales(x_scale=x_scale, y_scale=y_scale)
    made = _stored(_scaled(_words(x) - int(x_zero_point), float(a / y)), y_zero_point, dtype)
    return np.clip(made, *bounds(low, high, float(y), int(y_zero_point), np.dtype(dtype))).astype(dtype)


def leaky_relu(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, alpha: float, *,
               dtype: np.dtype) -> Array:
    """Multiply negative numbers by a slope, as LEAKY_RELU; factors are made in float32.

    Parameters are those of :func:`requantise`, and `alpha`, the slope, which is not negative.
    """
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha must be at least 0, not {alpha}")
    a, y = _scales(x_scale=x_scale, y_scale=y_scale)
    values = _words(x) - int(x_zero_point)
    slope = float(np.float32(a * np.float32(alpha)) / y)
    return _stored(np.where(values >= 0, _scaled(values, float(a / y)), _scaled(values, slope)), y_zero_point, dtype)


def absolute(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, *,
             dtype: np.dtype) -> Array:
    """Take the sign away, as ABS; the quotient of the scales is rounded to float32.

    Parameters are those of :func:`requantise`.
    """
    a, y = _scales(x_scale=x_scale, y_scale=y_scale)
    return _stored(_scaled(np.abs(_words(x) - int(x_zero_point)), float(a / y)), y_zero_point, dtype)


def gelu(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, approximate: bool, *,
         dtype: np.dtype) -> Array:
    """``x * Phi(x)``, or its approximation by a hyperbolic tangent, in float32 as the table of GELU is made.

    Parameters are those of :func:`requantise`, and whether the function is approximated.
    """
    a, y = _scales(x_scale=x_scale, y_scale=y_scale)
    real = a * (_words(x) - int(x_zero_point)).astype(np.float32)
    half, one = np.float32(0.5), np.float32(1)
    if approximate:
        inner = np.float32(np.sqrt(2 / np.pi)) * (real + np.float32(0.044715) * real * real * real)
        made = half * real * (one + np.tanh(inner.astype(np.float64)).astype(np.float32))
    else:
        inner = real * np.float32(-np.sqrt(0.5))
        made = half * real * np.vectorize(erfc, [np.float64])(inner.astype(np.float64)).astype(np.float32)
    steps = made * (one / y)
    # Halves away from zero, as C rounds.
    return _stored(np.copysign(np.floor(np.abs(steps) + half), steps).astype(np.int64), y_zero_point, dtype)


def prelu(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, alpha: Array,
          alpha_scale: float, alpha_zero_point: int) -> Array:
    """Multiply negative numbers by slopes of their own, as PRELU; factors are made in float32.

    Parameters are those of :func:`requantise`, and `alpha`, of the type of `x` and of a shape that broadcasts, with its
    scale and zero point.
    """
    a, w, y = _scales(x_scale=x_scale, alpha_scale=alpha_scale, y_scale=y_scale)
    if alpha.dtype != x.dtype:
        raise ValueError(f"alpha must be {x.dtype}, as x is, not {alpha.dtype}")
    values, slopes = _words(x) - int(x_zero_point), _words(alpha) - int(alpha_zero_point)
    positive, negative = _scaled(values, float(a / y)), _scaled(values * slopes, float(a * w / y))
    return _stored(np.where(values >= 0, positive, negative), y_zero_point, x.dtype)


def rescaled(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, *,
             dtype: np.dtype) -> Array:
    """Store numbers with another scale and zero point in float32, as CONCATENATION of uint8.

    Parameters are those of :func:`requantise`.
    """
    a, y = _scales(x_scale=x_scale, y_scale=y_scale)
    if (a, int(x_zero_point)) == (y, int(y_zero_point)):
        return _stored(_words(x), 0, dtype)
    scale = a * (np.float32(1) / y)
    steps = _words(x).astype(np.float32) * scale + -np.float32(x_zero_point) * scale
    # Halves away from zero, as C rounds.
    return _stored(np.copysign(np.floor(np.abs(steps) + np.float32(0.5)), steps).astype(np.int64), y_zero_point, dtype)


def _short_multiplier(scale: np.float32) -> tuple[int, int]:
    """Multiplier of 16 bits, rounded half up from one of 32 bits, and left shift."""
    multiplier, shift = tflite_multiplier(float(scale))
    return min(multiplier + (1 << 15) >> 16, (1 << 15) - 1), shift


def _short_high(a: Array, b: int) -> Array:
    """Upper half of twice a product of 16-bit numbers, rounded half away from zero but for negative halves."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return np.sign(nudged) * (np.abs(nudged) >> 15)


def hard_swish(x: Array, x_scale: float, x_zero_point: int, y_scale: float, y_zero_point: int, *,
               dtype: np.dtype) -> Array:
    """``x * clip(x + 3, 0, 6) / 6`` in words of 16 bits, as HARD_SWISH.

    The argument is brought to a scale by which 3 is 2**15, and, apart from a shift, to that of the output; the product
    of half of one, saturated, and the other is cut towards zero. Parameters are those of :func:`requantise`.
    """
    a, y = _scales(x_scale=x_scale, y_scale=y_scale)
    fine = np.float32(a / np.float32(128))
    output, down = _short_multiplier(np.float32(fine / y))
    gate, up = _short_multiplier(np.float32(fine / np.float32(3 / 32768)))
    if not -15 <= down <= 0 or up < -15:
        raise ValueError(f"y_scale must be {float(fine):.3g} to {float(fine) * (1 << 15):.3g} for x_scale "
                         f"{float(a):.3g}, of at least 1e-6, not {float(y):.3g}")
    words = _words(x) - int(x_zero_point) << 7
    low, high = -(1 << 15), (1 << 15) - 1
    opened = _short_high(np.clip(words << max(up - 1, 0), low, high), gate)
    opened = np.clip(opened << 1, low, high) if up > 0 else divide_by_power(opened, -up)
    product = (opened + (1 << 15) >> 1) * _short_high(words, output)
    return _stored(divide_by_power(np.sign(product) * (np.abs(product) >> 15), -down), y_zero_point, dtype)
