"""Steps of float32 arithmetic that a lane has one instruction for, and NumPy's form of them.

Functions made of these steps (:mod:`.float_functions`) are written once, over any arithmetic: with NumPy's they are the
golden model, with that of an assembler they are a program. A value is 32 bits, which a step takes as a float32 number,
as an integer, or as they are. Each float step is rounded as IEEE 754 says, to the nearest, halves to even, with
subnormal numbers; what it makes that is no number has one pattern, :data:`NONE`. Conditions are the integers 1 and 0.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np

from .tensors import Array, floating

__all__ = ["NONE", "NUMPY", "NumpySteps", "Steps", "evaluate"]

#: Pattern of what is no number.
NONE = 0x7FC00000

V = TypeVar("V")


class Steps(Protocol[V]):
    """What an arithmetic has; its values are of one type V."""

    def literal(self, bits: int) -> V:
        """32 bits that are known before."""

    def add(self, a: V, b: V) -> V:
        """``a + b``."""

    def subtract(self, a: V, b: V) -> V:
        """``a - b``."""

    def multiply(self, a: V, b: V) -> V:
        """``a * b``."""

    def divide(self, a: V, b: V) -> V:
        """``a / b``."""

    def root(self, a: V) -> V:
        """Square root."""

    def less(self, a: V, b: V) -> V:
        """1 where ``a < b``, else 0; zeros of both signs are equal, what is no number is not less."""

    def equal(self, a: V, b: V) -> V:
        """1 where ``a == b``, else 0; what is no number equals nothing."""

    def select(self, condition: V, one: V, other: V) -> V:
        """Bits of `one` where the condition is not 0, of `other` where it is."""

    def integer_add(self, a: V, b: V) -> V:
        """Sum modulo 2**32."""

    def bit_and(self, a: V, b: V) -> V:
        """Bits that both have."""

    def bit_or(self, a: V, b: V) -> V:
        """Bits that either has."""

    def bit_xor(self, a: V, b: V) -> V:
        """Bits that one has."""

    def shift_left(self, a: V, count: V) -> V:
        """Shift by 0 to 31 places, the low 5 bits of `count`."""

    def shift_right(self, a: V, count: V) -> V:
        """Shift by 0 to 31 places, zeros coming in."""

    def integer_less(self, a: V, b: V) -> V:
        """1 where ``a < b`` as signed integers, else 0."""

    def to_integer(self, a: V) -> V:
        """Nearest integer, halves to even, limited to the signed ones of 32 bits; 0 for what is no number."""

    def to_float(self, a: V) -> V:
        """Nearest float32 of a signed integer."""


def _on_floats(function: Callable[..., Array]) -> Callable[..., Array]:
    """A step on float32 numbers."""
    def step(*values: Array) -> Array:
        made = function(*(value.view(np.float32) for value in values))
        bits: Array = made.view(np.uint32)
        strange = made != made
        return np.where(strange, np.uint32(NONE), bits) if strange.any() else bits

    return step


def _compared(function: Callable[..., Array], dtype: type[Any]) -> Callable[..., Array]:
    """A comparison of numbers of a type."""
    return lambda a, b: function(a.view(dtype), b.view(dtype)).astype(np.uint32)


def _to_integer(a: Array) -> Array:
    nearest = np.nan_to_num(np.rint(a.view(np.float32).astype(np.float64)), nan=0.0)
    found: Array = np.clip(nearest, -2.0 ** 31, 2.0 ** 31 - 1).astype(np.int32).view(np.uint32)
    return found


class NumpySteps:
    """The steps on arrays of uint32."""

    literal = staticmethod(lambda bits: np.asarray(bits & 0xFFFFFFFF, np.uint32))
    add, subtract = staticmethod(_on_floats(np.add)), staticmethod(_on_floats(np.subtract))
    multiply, divide = staticmethod(_on_floats(np.multiply)), staticmethod(_on_floats(np.divide))
    root = staticmethod(_on_floats(np.sqrt))
    less, equal = staticmethod(_compared(np.less, np.float32)), staticmethod(_compared(np.equal, np.float32))
    select = staticmethod(lambda condition, one, other: np.where(condition != 0, one, other))
    integer_add, integer_less = staticmethod(np.add), staticmethod(_compared(np.less, np.int32))
    bit_and, bit_or = staticmethod(np.bitwise_and), staticmethod(np.bitwise_or)
    bit_xor = staticmethod(np.bitwise_xor)
    shift_left = staticmethod(lambda a, count: a << (count & np.uint32(31)))
    shift_right = staticmethod(lambda a, count: a >> (count & np.uint32(31)))
    to_integer = staticmethod(_to_integer)
    to_float = staticmethod(lambda a: a.view(np.int32).astype(np.float32).view(np.uint32))


#: NumPy's form of the steps.
NUMPY = NumpySteps()


def evaluate(function: Callable[..., Any], *operands: Array) -> Array:
    """Evaluate a function made of steps on arrays.

    Parameters
    ----------
    function : callable
        Takes an arithmetic and as many values as there are operands.
    operands : float arrays
        Their shapes broadcast.

    Returns
    -------
    float32 array of their common shape

    Raises
    ------
    ValueError
        If a type does not fit.
    """
    values = [floating("x", operand) for operand in operands]
    shape = np.broadcast_shapes(*(value.shape for value in values))
    # Results that are infinite, subnormal or no number are the ones that are wanted.
    with np.errstate(all="ignore"):
        made = function(NUMPY, *(np.atleast_1d(value).view(np.uint32) for value in values))
    return np.broadcast_to(made.view(np.float32), shape or (1,)).reshape(shape).copy()
