"""Functional model of lanes that run routines: every instruction on arrays of passes, slots and lanes.

Written from what ``hdl/routines/instructions.py`` says of each, with the steps of the golden models.
"""

from collections.abc import Sequence

import numpy as np

from ...golden import rounding
from ...golden.float_steps import NONE
from ...hdl.arithmetic.float_formats import FloatFormat
from ...hdl.routines.instructions import ELEMENT_BITS, REGISTERS, SLOTS, Instruction, Operation
from .effects import OF_ONE, OF_TWO

__all__ = ["Frame", "Lanes", "registers_of"]

def registers_of(instruction: Instruction) -> tuple[tuple[int, ...], int | None]:
    """Registers that an instruction reads, and that which it writes, if any."""
    operation, a, b, c = instruction.op, instruction.a, instruction.b, instruction.c
    if operation.is_store:
        return (a,), None
    if operation is Operation.SELECT:
        return (a, b, c), instruction.dst
    if operation in OF_TWO or operation is Operation.NARROW_RANDOM:
        return (a, b), instruction.dst
    reads = (a,) if operation in OF_ONE or operation is Operation.NARROW else ()
    return reads, instruction.dst


class Lanes:
    """Registers of all lanes, which they keep from command to command.

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
        self.lanes, self.format = lanes, form
        self.registers = np.zeros((REGISTERS, SLOTS, lanes), np.uint32)

    @staticmethod
    def are_apart(instructions: Sequence[Instruction]) -> bool:
        """Whether no pass reads what another has written."""
        written, before = set[int](), set[int]()
        for instruction in instructions:
            reads, dst = registers_of(instruction)
            before |= {*reads} - written
            written |= set() if dst is None else {dst}
        return not before & written

    def frame(self, passes: np.ndarray, slots: int) -> "Frame":
        """Begin some passes, which do not know of one another."""
        return Frame(self, passes, slots)


class Frame:
    """Registers of lanes in some passes: (passes, slots, lanes) of each that has been written.

    Parameters
    ----------
    lanes : Lanes
        Whose registers they are.
    passes : (passes,) int ndarray
        Numbers of the passes.
    slots : int
        Slots that take part.
    """

    def __init__(self, lanes: Lanes, passes: np.ndarray, slots: int):
        self._lanes, self._passes, self._slots = lanes, passes, slots
        self._written: dict[int, np.ndarray] = {}
        self._kind = np.dtype(f"u{lanes.format.dtype.itemsize}")

    def read(self, register: int) -> np.ndarray:
        """What a register holds, in each pass."""
        found = self._written.get(register)
        return self._lanes.registers[register, :self._slots][None] if found is None else found

    def write(self, register: int, bits: np.ndarray) -> None:
        """Let a register hold something."""
        shape = len(self._passes), self._slots, self._lanes.lanes
        self._written[register] = np.broadcast_to(np.asarray(bits, np.uint32), shape)

    def end(self) -> None:
        """Let registers keep what they hold behind the last pass."""
        for register, bits in self._written.items():
            self._lanes.registers[register, :self._slots] = bits[-1]

    def elements(self, instruction: Instruction) -> np.ndarray:
        """Numbers of the elements that an instruction of memory means: (passes, slots, lanes)."""
        groups = (instruction.offset + self._passes[:, None] * instruction.step
                  + np.arange(self._slots) * instruction.slot_step) % (1 << ELEMENT_BITS)
        found: np.ndarray = groups[..., None] * self._lanes.lanes + np.arange(self._lanes.lanes)
        return found

    def widened(self, stored: np.ndarray) -> np.ndarray:
        """Bits of operands as those of float32 numbers."""
        return _one_pattern(stored.astype(self._kind).view(self._lanes.format.dtype).astype(np.float32))

    def compute(self, instruction: Instruction) -> None:
        """Do an instruction that touches no memory."""
        with np.errstate(all="ignore"):
            self.write(instruction.dst, self._made(instruction))

    def _made(self, instruction: Instruction) -> np.ndarray:
        operation = instruction.op
        if operation is Operation.SET:
            return np.array(instruction.literal, np.uint32)
        a, b = (np.ascontiguousarray(self.read(number)) for number in (instruction.a, instruction.b))
        if operation in OF_ONE:
            return OF_ONE[operation](a)
        if operation in OF_TWO:
            return OF_TWO[operation](a, b)
        if operation is Operation.SELECT:
            return np.where(self.read(instruction.c) != 0, a, b)
        values, name = a.view(np.float32), self._lanes.format.name
        if operation is Operation.NARROW:
            return self._narrowed(rounding.nearest(values, name))
        random = np.broadcast_to(b & np.uint32(0xFFFF), np.broadcast_shapes(a.shape, b.shape))
        return self._narrowed(rounding.by_bits(np.broadcast_to(values, random.shape).copy(), name, random))

    def _narrowed(self, values: np.ndarray) -> np.ndarray:
        """Bits of operands."""
        bits = np.ascontiguousarray(values).view(self._kind).astype(np.uint32)
        return np.where(np.isnan(values.astype(np.float32)), np.uint32(self._lanes.format.no_number), bits)


def _one_pattern(values: np.ndarray) -> np.ndarray:
    """Bits of float32 numbers, all that is no number alike."""
    return np.where(np.isnan(values), np.uint32(NONE), values.view(np.uint32))
