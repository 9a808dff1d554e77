"""SOFTMAX and LOGISTIC of 8-bit numbers in integers, to the last bit as LiteRT's reference kernels.

Errors against float64, in steps of the result (1 / 256), of which 255 are the most there are: at most 0.501, and for
SOFTMAX 1 / 4096 more for each score of a row, whose exponential loses at most 2**-20 when it is added.
"""

import numpy as np

from . import gemmlowp
from .quantise import checked_scale
from .requantise import divide_by_power, doubling_high
from .tensors import Array

__all__ = ["MOST_SCORES", "logistic", "softmax", "softmax_terms"]

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
    x : int8 array of any shape
        Arguments.
    x_scale : float
        Scale of the arguments.
    x_zero_point : int
        Zero point of the arguments.

    Returns
    -------
    int8 array of the shape of `x`
        With the scale 1 / 256 and the zero point -128.

    Raises
    ------
    ValueError
        If the type, the shape or the scale does not fit.
    """
    values = _words(x) - int(x_zero_point)
    if x.dtype != np.int8:
        raise ValueError(f"x must be int8, not {x.dtype}")
    checked_scale("x_scale", x_scale)
    # A table of the function itself, whatever the scale.
    with np.errstate(over="ignore"):
        exact = 256 / (1 + np.exp(-values * np.float64(np.float32(x_scale))))
    return np.clip(np.rint(exact) - 128, -128, 127).astype(np.int8)
