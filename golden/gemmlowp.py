"""Exponential and reciprocal in 32-bit fixed point, as gemmlowp defines them, and what LiteRT adds.

A number with i integer bits is an int32 word that stands for ``word / 2**(31 - i)``. All functions take and give int64
arrays of such words, and are held to LiteRT's reference kernel for SOFTMAX.
"""

import math

import numpy as np

from .requantise import divide_by_power, doubling_high
from .tensors import Array

__all__ = ["exponential", "input_radius", "reciprocal", "scale_up"]

_LOW, _HIGH = -(1 << 31), (1 << 31) - 1

#: ``exp(-2**n)`` for n from -2 on, as words without integer bits.
_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def _shift_up(x: Array, amount: int) -> Array:
    """Multiply words by ``2**amount``, and saturate."""
    return np.clip(x << amount, _LOW, _HIGH)


def scale_up(scale: float, integer_bits: int) -> tuple[int, int]:
    """Multiplier and left shift that turn integers times a scale into words with some integer bits.

    Parameters
    ----------
    scale : float
        Of an operand, in float64.
    integer_bits : int
        Of the words.

    Returns
    -------
    multiplier, shift : int
        With ``multiplier * 2**(shift - 31)`` nearest to ``scale * 2**(31 - integer_bits)``, or its greatest value.

    Raises
    ------
    ValueError
        If `scale` is not positive, or so small that the factor is less than 1.
    """
    factor = min(scale * (1 << 31 - integer_bits), float(_HIGH))
    if not factor > 1:
        raise ValueError(f"scale must be greater than 2**{integer_bits - 31}, not {scale}")
    fraction, shift = math.frexp(factor)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    return (multiplier >> 1, shift + 1) if multiplier == 1 << 31 else (multiplier, shift)


def input_radius(integer_bits: int, shift: int) -> int:
    """Greatest operand that fits a word with some integer bits after a left shift of :func:`scale_up`."""
    return math.floor(((1 << integer_bits) - 1) * (1 << 31 - integer_bits) / (1 << shift))


def exponential(x: Array, integer_bits: int) -> Array:
    """``exp(x)`` of words that are not positive, as words without integer bits; the error is at most 2**-22."""
    values = np.asarray(x, np.int64)
    fraction = 31 - integer_bits
    quarter = 1 << fraction - 2
    rest = (values & quarter - 1) - quarter
    # Taylor's series about -1/8.
    a = _shift_up(rest, integer_bits) + (1 << 28)
    square = doubling_high(a, a)
    cube = doubling_high(square, a)
    fourth = divide_by_power(doubling_high(square, square), 2)
    tail = divide_by_power(doubling_high(fourth + cube, 715827883) + square, 1)
    result = 1895147668 + doubling_high(a + tail, 1895147668)
    remainder = rest - values
    for power, factor in zip(range(-2, integer_bits), _POWERS, strict=False):
        result = np.where(remainder & 1 << fraction + power, doubling_high(result, factor), result)
    return np.where(values == 0, _HIGH, result)


def reciprocal(x: Array) -> Array:
    """``1 / (1 + x)`` of words of 0 to 1 without integer bits, as such words; the error is at most 2**-27.

    By Newton's method.
    """
    total = np.asarray(x, np.int64) + _HIGH
    half = total + 1 >> 1
    found = 1515870810 + doubling_high(half, -1010580540)
    for _ in range(3):
        found = found + _shift_up(doubling_high(found, (1 << 29) - doubling_high(half, found)), 2)
    return _shift_up(found, 1)
