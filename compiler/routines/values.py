"""Routines as Python functions of symbolic values, whose operations are noted as they are called.

A function is given a :class:`Lane`: what one lane does with one of its elements in one pass. It loads words by the
names of what they are elements of, computes with them, keeps some from pass to pass as states, and stores others. Its
values are float32 numbers or 32 bits, as its operations say; equal operations on equal values are one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...hdl.routines.instructions import Operation
from .effects import COMPUTED

__all__ = ["Effect", "Lane", "Number", "Value", "float_bits"]

#: Bit of a float32 number's sign.
_SIGN = 1 << 31


def float_bits(number: float) -> int:
    """Bits of a number, rounded to float32."""
    # Beyond float32 is infinite, as in NumPy.
    with np.errstate(over="ignore"):
        return int(np.float32(number).view(np.uint32))


@dataclass(frozen=True, eq=False)
class Value:
    """What an operation makes.

    Parameters
    ----------
    lane : Lane
        Who notes operations on it.
    operation : Operation or None
        The operation; None is what a state was before the pass.
    arguments : tuple of Value
        What stands in registers a, b and c.
    literal : int
        Number of a ``SET``.
    name : str
        What a load reads, or a state's name.
    """

    lane: "Lane" = field(repr=False)
    operation: Operation | None
    arguments: tuple["Value", ...] = ()
    literal: int = 0
    name: str = ""

    def __add__(self, other: "Number") -> "Value":
        return self.lane.compute(Operation.ADD, self, other)

    def __radd__(self, other: "Number") -> "Value":
        return self.lane.compute(Operation.ADD, other, self)

    def __sub__(self, other: "Number") -> "Value":
        return self.lane.compute(Operation.SUB, self, other)

    def __rsub__(self, other: "Number") -> "Value":
        return self.lane.compute(Operation.SUB, other, self)

    def __mul__(self, other: "Number") -> "Value":
        return self.lane.compute(Operation.MUL, self, other)

    def __rmul__(self, other: "Number") -> "Value":
        return self.lane.compute(Operation.MUL, other, self)

    def __truediv__(self, other: "Number") -> "Value":
        return self.lane.compute(Operation.DIV, self, other)

    def __rtruediv__(self, other: "Number") -> "Value":
        return self.lane.compute(Operation.DIV, other, self)

    def __neg__(self) -> "Value":
        return self.lane.bit_xor(self, self.lane.literal(_SIGN))


#: A value, or a number that is rounded to float32.
Number = Value | float


@dataclass(frozen=True)
class Effect:
    """What a pass leaves behind: a value that is stored, or that a state becomes.

    Parameters
    ----------
    name : str
        Of the result or the state.
    value : Value
        The value.
    is_state : bool
        Which of both.
    """

    name: str
    value: Value
    is_state: bool


class Lane:
    """What one lane does with an element: :class:`.golden.float_steps.Steps`, and more, on symbolic values.

    Parameters
    ----------
    narrow : mapping of str to bool
        Whether elements of a source or result have the operands' format; by name. Others are words.

    Members
    -------
    effects : list of Effect
        What it stores, and what states become, in order.
    names : mapping of str to str
        Names that others stand for from now on, of sources and results.
    """

    def __init__(self, narrow: Mapping[str, bool]):
        self._narrow = narrow
        self.names: Mapping[str, str] = {}
        self._known: dict[object, Value] = {}
        self._states: dict[str, Value] = {}
        self._stored: list[Effect] = []

    @property
    def effects(self) -> list[Effect]:
        """What it stores, in order, and then what states become."""
        return self._stored + [Effect(name, value, True) for name, value in self._states.items()
                               if value.operation is not None or value.name != name]

    def _value(self, operation: Operation | None, *arguments: Value, literal: int = 0, name: str = "") -> Value:
        key = operation, tuple(map(id, arguments)), literal, name
        if key not in self._known:
            self._known[key] = Value(self, operation, arguments, literal, name)
        return self._known[key]

    def compute(self, operation: Operation, *arguments: Number) -> Value:
        """Note an operation on values; numbers become constants, and what is made of constants alone is one."""
        values = [each if isinstance(each, Value) else self.number(each) for each in arguments]
        if operation in COMPUTED and all(value.operation is Operation.SET for value in values):
            with np.errstate(all="ignore"):
                made = COMPUTED[operation](*(np.full(1, value.literal, np.uint32) for value in values))
            return self.literal(int(made[0]))
        return self._value(operation, *values)

    # What stands somewhere.

    def number(self, value: float) -> Value:
        """A float32 constant."""
        return self.literal(float_bits(value))

    def literal(self, bits: int) -> Value:
        """A constant of 32 bits, an integer modulo 2**32."""
        return self._value(Operation.SET, literal=bits & 0xFFFFFFFF)

    def load(self, name: str) -> Value:
        """Element of a source; of one in the operands' format as float32."""
        name = self.names.get(name, name)
        return self._value(Operation.LOAD_NARROW if self._narrow[name] else Operation.LOAD_WORD, name=name)

    def store(self, name: str, value: Number) -> None:
        """Let a value be the element of a result: its bits, of which one in the operands' format has the low ones."""
        name = self.names.get(name, name)
        self._stored.append(Effect(name, value if isinstance(value, Value) else self.number(value), False))

    def index(self) -> Value:
        """Number of the unit, of kernels whose units have one step."""
        return self._value(Operation.INDEX)

    def state(self, name: str) -> Value:
        """What a state is: what it was before the pass, or what has become of it."""
        return self._states.get(name) or self._value(None, name=name)

    def become(self, name: str, value: Number) -> None:
        """Let a state become a value."""
        self._states[name] = value if isinstance(value, Value) else self.number(value)

    # Steps.

    def add(self, a: Number, b: Number) -> Value:
        """``a + b``."""
        return self.compute(Operation.ADD, a, b)

    def subtract(self, a: Number, b: Number) -> Value:
        """``a - b``."""
        return self.compute(Operation.SUB, a, b)

    def multiply(self, a: Number, b: Number) -> Value:
        """``a * b``."""
        return self.compute(Operation.MUL, a, b)

    def divide(self, a: Number, b: Number) -> Value:
        """``a / b``."""
        return self.compute(Operation.DIV, a, b)

    def root(self, a: Number) -> Value:
        """Square root."""
        return self.compute(Operation.SQRT, a)

    def less(self, a: Number, b: Number) -> Value:
        """1 if one number is less than another, else 0."""
        return self.compute(Operation.LESS, a, b)

    def equal(self, a: Number, b: Number) -> Value:
        """1 if numbers are equal, else 0."""
        return self.compute(Operation.EQUAL, a, b)

    def select(self, condition: Value, one: Number, other: Number) -> Value:
        """One value where a condition has a bit that is set, else another."""
        return self.compute(Operation.SELECT, one, other, condition)

    def integer_add(self, a: Value, b: Value) -> Value:
        """Sum modulo 2**32."""
        return self.compute(Operation.INTEGER_ADD, a, b)

    def bit_and(self, a: Value, b: Value) -> Value:
        """Bits that both have."""
        return self.compute(Operation.AND, a, b)

    def bit_or(self, a: Value, b: Value) -> Value:
        """Bits that either has."""
        return self.compute(Operation.OR, a, b)

    def bit_xor(self, a: Value, b: Value) -> Value:
        """Bits that one has alone."""
        return self.compute(Operation.XOR, a, b)

    def shift_left(self, a: Value, count: Value) -> Value:
        """Bits shifted by the low 5 bits of a count."""
        return self.compute(Operation.SHIFT_LEFT, a, count)

    def shift_right(self, a: Value, count: Value) -> Value:
        """Bits shifted to the right, zeros coming in."""
        return self.compute(Operation.SHIFT_RIGHT, a, count)

    def integer_less(self, a: Value, b: Value) -> Value:
        """1 if one integer is less than another in two's complement, else 0."""
        return self.compute(Operation.INTEGER_LESS, a, b)

    def to_integer(self, a: Value) -> Value:
        """Nearest integer, of halves the even one."""
        return self.compute(Operation.TO_INTEGER, a)

    def to_float(self, a: Value) -> Value:
        """An integer as a float."""
        return self.compute(Operation.TO_FLOAT, a)

    def narrow(self, a: Value) -> Value:
        """Bits of a number that is rounded to the operands' format."""
        return self.compute(Operation.NARROW, a)

    def narrow_random(self, a: Value, random: Value) -> Value:
        """The same, rounded at random by 16 bits."""
        return self.compute(Operation.NARROW_RANDOM, a, random)

    def mix(self, a: Value) -> Value:
        """Hash of 32 bits."""
        return self.compute(Operation.MIX, a)
