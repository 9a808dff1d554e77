"""LayerNorm and RMSNorm of integers in fixed point, with one inverse square root a row.

A row of D elements is normalised without a rounding before the root: with ``s1`` the sum of its elements and ``s2``
that of their squares, ``(D * x - s1) / sqrt(D * s2 - s1**2)`` is ``(x - mean) / standard deviation``, in integers up to
the division. What comes of it has 16 bits, so that gains of 16 bits and biases of 32 give sums of 32 bits, which are
rounded as all others are.

Errors against float64 are at most 0.5 steps of the result, which its own rounding makes, and
:func:`error_bound` besides.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .quantise import checked_scale
from .requantise import onnx
from .tensors import Array

__all__ = ["MOST_ELEMENTS", "Gains", "addend", "addend_bits", "error_bound", "fraction_bits", "inverse_root",
           "layer_norm", "normalised", "rms_norm"]

#: Bits of a number that is normalised, and of a gain; of what of a sum of squares a root is taken.
_BITS, _ROOT_BITS = 16, 26

#: Greatest bias, and term that is added to the squares; bits of squares before a root is taken.
_BIAS, _ADDEND, _SQUARE_BITS = 1 << 30, 1 << 61, 62

#: Elements of a row, so that sums of squares of 16 bits, times D, fit.
MOST_ELEMENTS = 1 << 15


def inverse_root(values: npt.ArrayLike) -> Array:
    """Inverse square root of integers, cut to 24 bits.

    Parameters
    ----------
    values : integer array_like
        Not negative, of at most 63 bits.

    Returns
    -------
    float32 array of the shape of `values`
        ``isqrt(2**72 // l) * 2**(s - 36)``, where ``l = floor(value * 2**(2 * s))`` has 25 or 26 bits; 0 for 0. The
        error is less than 2**-22 of the root.
    """
    numbers = np.asarray(values, np.int64)

    def root(value: int) -> float:
        if value == 0:
            return 0.0
        s = (_ROOT_BITS - value.bit_length()) // 2
        leading = value << 2 * s if s >= 0 else value >> -2 * s
        return math.ldexp(math.isqrt((1 << 72) // leading), s - 36)

    return np.array([root(int(value)) for value in numbers.reshape(-1)], np.float32).reshape(numbers.shape)


def fraction_bits(elements: int) -> int:
    """Fraction bits of a normalised element: what is left of 16 bits, as no element is more than ``sqrt(D)``."""
    return _BITS - 1 - math.ceil(math.log2(max(elements, 2)) / 2)


def addend_bits(elements: int, bits: int) -> int:
    """Fraction bits of what is added to the squares of a row of elements with a magnitude of some bits: 16, or fewer.

    Rows that are nearly level have squares so small that an addend without a fraction would be coarse.
    """
    return min(16, (_SQUARE_BITS - 2 * ((elements - 1).bit_length() + bits)) // 2 * 2)


def addend(elements: int, bits: int, x_scale: float, epsilon: float) -> int:
    """What is added to the squares of a row for `epsilon`, with :func:`addend_bits` fraction bits.

    Raises
    ------
    ValueError
        If the scale or epsilon do not fit.
    """
    for name, number, least in (("x_scale", x_scale, 1e-30), ("epsilon", epsilon, 0.0)):
        if not (math.isfinite(number) and number >= least):
            raise ValueError(f"{name} must be finite and at least {least}, not {number!r}")
    added = epsilon * (elements / x_scale) ** 2 * (1 << addend_bits(elements, bits))
    if added > _ADDEND:
        least = elements * math.sqrt(epsilon * (1 << addend_bits(elements, bits)) / _ADDEND)
        raise ValueError(f"x_scale must be at least {least:.3g} for epsilon = {epsilon:g} and {elements} elements, "
                         f"not {x_scale!r}")
    return round(added)


@dataclass(frozen=True)
class Gains:
    """Gains and biases of a normalisation as the hardware holds them.

    Parameters
    ----------
    gains : (D,) int64 array
        Of 16 bits.
    biases : (D,) int64 array
        Added to products of gains and normalised elements.
    scale : float32
        Steps of the result for one of the sums.
    """

    gains: Array
    biases: Array
    scale: np.float32

    @classmethod
    def of(cls, gamma: Array, beta: Array | None, y_scale: float) -> "Gains":
        """Quantise the real gains (D,), and biases (D,), of a result with this scale."""
        factors = np.asarray(gamma, np.float64)
        added = np.zeros_like(factors) if beta is None else np.asarray(beta, np.float64)
        if factors.ndim != 1 or factors.size == 0 or added.shape != factors.shape:
            raise ValueError(f"gamma and beta must have the same shape (D,), not {factors.shape} and {added.shape}")
        if not (np.isfinite(factors).all() and np.isfinite(added).all()):
            raise ValueError("gamma and beta must be finite")
        checked_scale("y_scale", y_scale)
        bits = fraction_bits(len(factors))
        # Biases must fit, too.
        step = max(np.abs(factors).max() / ((1 << _BITS - 1) - 1), np.abs(added).max() * (1 << bits) / _BIAS, 1e-30)
        gains = np.rint(factors / step).astype(np.int64)
        biases = np.rint(added / step * (1 << bits)).astype(np.int64)
        return cls(gains, np.clip(biases, -_BIAS, _BIAS), np.float32(step / (1 << bits) / y_scale))


def error_bound(gains: Gains, bits: int = 16) -> float:
    """Steps of a result that are lost before it is rounded, at most, with operands whose magnitude has some bits.

    Half a step of a normalised element and 2**-20 of it, which is at most 2**15, times the greatest gain; half a step
    of each gain, times the greatest element; half a step of a bias; and 2**-23 of the sum, twice. What is added to the
    squares of a row, of which there are at least D - 1 if it has any, is half a step wrong.
    """
    elements = len(gains.gains)
    greatest, half = float(np.abs(gains.gains).max()), float(1 << _BITS - 1)
    total = greatest * half + float(np.abs(gains.biases).max())
    root = 0.25 * 2.0 ** -addend_bits(elements, bits) / max(elements - 1, 1)
    return float(gains.scale) * (greatest * (0.5 + half * (2.0 ** -20 + root)) + 0.5 * half + 0.5 + total * 2.0 ** -22)


def normalised(x: Array, added: int, bits: int, *, centred: bool) -> Array:
    """Normalise rows of integers.

    Parameters
    ----------
    x : (..., D) integer array
        Elements.
    added : int
        Added to ``D * s2``, or to ``D * s2 - s1**2``, with :func:`addend_bits` fraction bits.
    bits : int
        Of their magnitude.
    centred : bool
        Whether elements lose the mean of their row.

    Returns
    -------
    (..., D) int64 array
        With :func:`fraction_bits` fraction bits, of 16 bits. A row of zeros, or of equal elements that lose their mean,
        gives zeros.
    """
    values = x.astype(np.int64)
    elements = values.shape[-1]
    total = values.sum(axis=-1, keepdims=True) if centred else np.zeros_like(values[..., :1])
    squares = elements * np.square(values).sum(axis=-1, keepdims=True) - np.square(total)
    fraction = addend_bits(elements, bits)
    roots = inverse_root((squares << fraction) + added) * np.float32(1 << fraction_bits(elements) + fraction // 2)
    differences = elements * values - total
    half = 1 << _BITS - 1
    return np.clip(np.rint(differences.astype(np.float32) * roots), -half, half - 1).astype(np.int64)


def _normalise(x: Array, x_scale: float, x_zero_point: int, gains: Gains, y_zero_point: int, epsilon: float,
               dtype: Any, centred: bool) -> Array:
    values, made = np.asarray(x), np.dtype(dtype)
    if made not in (np.int8, np.uint8):
        raise ValueError(f"dtype must be int8 or uint8, not {made}")
    if values.dtype not in (np.int8, np.uint8, np.int16):
        raise ValueError(f"x must be int8, uint8 or int16, not {values.dtype}")
    if values.ndim == 0 or values.shape[-1] != len(gains.gains) or values.shape[-1] > MOST_ELEMENTS:
        raise ValueError(f"the last dimension of x {values.shape} must be that of gamma, {len(gains.gains)}, and at "
                         f"most {MOST_ELEMENTS}")
    bits = 8 * values.dtype.itemsize
    added = addend(values.shape[-1], bits, x_scale, epsilon)
    found = normalised(values.astype(np.int64) - int(x_zero_point), added, bits, centred=centred)
    limits = np.iinfo(made)
    return onnx(found * gains.gains + gains.biases, gains.scale, y_zero_point, int(limits.min),
                int(limits.max)).astype(made)


def layer_norm(x: Array, x_scale: float, gains: Gains, *, y_zero_point: int = 0, epsilon: float = 1e-5,
               dtype: Any = np.int8) -> Array:
    """LayerNorm: ``(x - mean) / sqrt(variance + epsilon) * gamma + beta`` of each row, to 8 bits.

    Parameters
    ----------
    x : (..., D) int8, uint8 or int16 array
        D is at most 32,768. Its zero point cancels.
    x_scale : float
        Scale of `x`.
    gains : Gains
        Gamma and beta; see :meth:`Gains.of`, which is told the scale of the result.
    y_zero_point : int
        Zero point of the result.
    epsilon : float
        Added to the variance.
    dtype : dtype
        int8 or uint8, the type of the result.

    Returns
    -------
    (..., D) array of `dtype`

    Raises
    ------
    ValueError
        If types, shapes or numbers do not fit.
    """
    return _normalise(x, x_scale, 0, gains, y_zero_point, epsilon, dtype, True)


def rms_norm(x: Array, x_scale: float, gains: Gains, *, x_zero_point: int = 0, y_zero_point: int = 0,
             epsilon: float = 1e-5, dtype: Any = np.int8) -> Array:
    """RMSNorm: ``x / sqrt(mean of squares + epsilon) * gamma`` of each row, to 8 bits; see :func:`layer_norm`."""
    return _normalise(x, x_scale, x_zero_point, gains, y_zero_point, epsilon, dtype, False)
