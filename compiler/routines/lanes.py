"""Functional model of lanes that run routines: every instruction on arrays of all slots and lanes.

Written from what ``hdl/routines/instructions.py`` says of each; float32 is NumPy's, and rounding that of the golden
models.
"""

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from ...golden import rounding
from ...hdl.arithmetic.float_formats import FloatFormat
from ...hdl.routines.instructions import ELEMENT_BITS, REGISTERS, SLOTS, Instruction, Operation

__all__ = ["Lanes"]

#: What is no number in float32.
_NO_NUMBER = np.uint32(0x7FC00000)

_INTEGER = 1 << 31


def _floats(bits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bits).view(np.float32)


def _bits(values: np.ndarray) -> np.ndarray:
    """Bits of float32 numbers, all that is no number alike."""
    return np.where(np.isnan(values), _NO_NUMBER, np.asarray(values, np.float32).view(np.uint32))


def _to_integer(x: np.ndarray) -> np.ndarray:
    whole = np.rint(np.where(np.isnan(x), 0, x).astype(np.float64))
    return np.clip(whole, -_INTEGER, _INTEGER - 1).astype(np.int64).astype(np.uint32)


def _signed(bits: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bits).view(np.int32)


#: What becomes of the bits in registers a and b.
_EFFECTS: Mapping[Operation, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    Operation.ADD: lambda a, b: _bits(_floats(a) + _floats(b)),
    Operation.SUB: lambda a, b: _bits(_floats(a) - _floats(b)),
    Operation.MUL: lambda a, b: _bits(_floats(a) * _floats(b)),
    Operation.DIV: lambda a, b: _bits(_floats(a) / _floats(b)),
    Operation.SQRT: lambda a, b: _bits(np.sqrt(_floats(a))),
    Operation.LESS: lambda a, b: (_floats(a) < _floats(b)).astype(np.uint32),
    Operation.EQUAL: lambda a, b: (_floats(a) == _floats(b)).astype(np.uint32),
    Operation.INTEGER_ADD: lambda a, b: a + b,
    Operation.AND: lambda a, b: a & b,
    Operation.OR: lambda a, b: a | b,
    Operation.XOR: lambda a, b: a ^ b,
    Operation.SHIFT_LEFT: lambda a, b: a << (b & np.uint32(31)),
    Operation.SHIFT_RIGHT: lambda a, b: a >> (b & np.uint32(31)),
    Operation.INTEGER_LESS: lambda a, b: (_signed(a) < _signed(b)).astype(np.uint32),
    Operation.TO_INTEGER: lambda a, b: _to_integer(_floats(a)),
    Operation.TO_FLOAT: lambda a, b: _bits(_signed(a).astype(np.float32)),
    Operation.MIX: lambda a, b: rounding.mix(a),
}


class Lanes:
    """Registers of all lanes, and what instructions do to them.

    Parameters
    ----------
    lanes : int
        Lanes.
    form : FloatFormat
        Format of operands.

    Members
    -------
    registers : (16, 16, lanes) uint32 ndarray
        By register, slot and lane.
    """

    def __init__(self, lanes: int, form: FloatFormat):
        self.lanes, self._format = lanes, form
        self.registers = np.zeros((REGISTERS, SLOTS, lanes), np.uint32)

    @cached_property
    def _kind(self) -> np.dtype:
        return np.dtype(f"u{self._format.dtype.itemsize}")

    def elements(self, instruction: Instruction, number: int, slots: int) -> np.ndarray:
        """Numbers of the elements that an instruction of memory means in a pass: (slots, lanes)."""
        groups = (instruction.offset + number * instruction.step + np.arange(slots) * instruction.slot_step) % (
            1 << ELEMENT_BITS)
        found: np.ndarray = groups[:, None] * self.lanes + np.arange(self.lanes)
        return found

    def widened(self, stored: np.ndarray) -> np.ndarray:
        """Bits of operands, by their bits in float32."""
        return _bits(stored.astype(self._kind).view(self._format.dtype).astype(np.float32))

    def compute(self, instruction: Instruction, slots: int) -> None:
        """Do an instruction that touches no memory in some slots."""
        a, b, c = (self.registers[number, :slots] for number in (instruction.a, instruction.b, instruction.c))
        with np.errstate(all="ignore"):
            self.registers[instruction.dst, :slots] = self._made(instruction, a, b, c)

    def _made(self, instruction: Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        operation = instruction.op
        if operation is Operation.SET:
            return np.full_like(a, instruction.literal)
        if operation is Operation.SELECT:
            return np.where(c != 0, a, b)
        if operation is Operation.NARROW:
            return self._narrowed(rounding.nearest(_floats(a), self._format.name))
        if operation is Operation.NARROW_RANDOM:
            return self._narrowed(rounding.by_bits(_floats(a), self._format.name, b & np.uint32(0xFFFF)))
        return _EFFECTS[operation](a, b)

    def _narrowed(self, values: np.ndarray) -> np.ndarray:
        """Bits of operands."""
        bits = np.ascontiguousarray(values).view(self._kind).astype(np.uint32)
        return np.where(np.isnan(values.astype(np.float32)), np.uint32(self._format.no_number), bits)
