"""Sigmoid and hyperbolic tangent of 16-bit fixed point, as gemmlowp defines them, which LiteRT's integer LSTM takes.

A number with i integer bits is a word of 16 bits that stands for ``word / 2**(15 - i)``. Constants are those of 32
bits, rounded. Functions give words without integer bits; the sigmoid is at most 7 steps of 2**-15 away from that of
real numbers, the tangent at most 13.
"""

import numpy as np

from .requantise import divide_by_power
from .tensors import Array

__all__ = ["divided", "product", "sigmoid", "tanh"]

_LOW, _HIGH = -(1 << 15), (1 << 15) - 1


def _constant(word: int) -> int:
    """A constant of 32 bits in 16."""
    return int(divide_by_power(np.asarray(word, np.int64), 16))


#: ``exp(-2**n)`` for n from -2 on, and ``exp(-1 / 8)``, without integer bits.
_POWERS = tuple(map(_constant, (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)))
_EIGHTH = _constant(1895147668)


def divided(x: Array, exponent: int) -> Array:
    """Divide by ``2**exponent``, which may be negative: halves go away from zero, and products saturate."""
    result: Array = divide_by_power(x, exponent) if exponent >= 0 else np.clip(x << -exponent, _LOW, _HIGH)
    return result


def product(a: Array, b: Array | int) -> Array:
    """Product of words, whose integer bits add up; halves go up."""
    return np.minimum(np.asarray(a, np.int64) * b + (1 << 14) >> 15, _HIGH)


def _exponential(x: Array, integer_bits: int) -> Array:
    """``exp(x)`` of words that are not positive."""
    fraction = 15 - integer_bits
    quarter = 1 << fraction - 2
    rest = (x & quarter - 1) - quarter
    # Taylor's series about -1/8.
    a = divided(rest, -integer_bits) + (1 << 12)
    square = product(a, a)
    tail = divided(product(divided(product(square, square), 2) + product(square, a), _constant(715827883)) + square, 1)
    result = np.minimum(_EIGHTH + product(a + tail, _EIGHTH), _HIGH)
    remainder = rest - x
    for power, factor in zip(range(-2, integer_bits), _POWERS, strict=False):
        result = np.where(remainder & 1 << fraction + power, product(result, factor), result)
    # Less than exp(-32) is none.
    result = np.where(x < -32 << fraction, 0, result)
    return np.where(x == 0, _HIGH, result)


def _halved_inverse(x: Array) -> Array:
    """``2 / (1 + x)`` of words of 0 to 1, with two integer bits, by Newton's method."""
    total = x + _HIGH
    half = (total + 1) >> 1
    found = _constant(1515870810) + product(half, _constant(-1010580540))
    for _ in range(3):
        rest = (1 << 13) - product(half, found)
        found = found + divided(product(found, rest), -2)
    return found


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))`` of int16 words with three integer bits.

    Returns
    -------
    int16 array
    """
    words = np.asarray(x, np.int64)
    positive = divided(_halved_inverse(_exponential(-np.abs(words), 3)), -1)
    return np.where(words == 0, 1 << 14, np.where(words > 0, positive, _HIGH - positive)).astype(np.int16)


def tanh(x: Array, integer_bits: int) -> Array:
    """``tanh(x)`` of int16 words with some integer bits.

    Returns
    -------
    int16 array
    """
    words = np.asarray(x, np.int64)
    # A word of twice the number has one integer bit more.
    found = divided(_halved_inverse(_exponential(-np.abs(words), integer_bits + 1)) - (1 << 13), -2)
    return np.where(words == 0, 0, np.where(words > 0, found, -found)).astype(np.int16)
