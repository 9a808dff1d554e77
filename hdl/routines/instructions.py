"""Instructions of routines: what each does, how it is stored, and the cycles that it takes.

A routine is a list of instructions. Every lane runs each on :data:`SLOTS` slots, one a cycle, with registers of
their own: r0 to r15, of 32 bits, for each lane and slot. They keep what they hold from one command to the next. What an
instruction has written can be read by the one behind it, so nothing waits for anything but cycles.

A command (:class:`~pearray.hdl.shell.commands.PostBody` with ``routine``) runs its instructions once for each pass i,
from 0 on, and each of them for each slot s. Those of memory name a group of ``lanes`` elements,
``e = offset + i * step + s * slot_step`` modulo 2**14, of which lane l has element ``e * lanes + l``.

Numbers are float32, and rounded to nearest, halves to even (IEEE 754-2019, 4.3.1), subnormal ones as others. What is no
number comes out of arithmetic as 0x7FC00000, and as the operands' one pattern where it is narrowed.
"""

from dataclasses import dataclass

from amaranth.lib import data, enum

from ..arithmetic.float_divide_root import FloatDivideRoot
from ..shell.packing import pack, places, unpack

__all__ = ["EFFECTS", "ELEMENT_BITS", "INSTRUCTIONS", "INSTRUCTION_BYTES", "LAYOUT", "LITERAL_BITS", "REGISTERS",
           "ROUNDS", "ROUTINE_BYTES", "SLOTS", "Instruction", "Operation", "cycles_of"]

#: Slots of each lane, and registers of each slot.
SLOTS, REGISTERS = 16, 16

#: Instructions that are held, and bytes of one.
INSTRUCTIONS, INSTRUCTION_BYTES = 256, 8

#: Bytes of all that are held.
ROUTINE_BYTES = INSTRUCTIONS * INSTRUCTION_BYTES

#: Bits of the number of a group of elements, and of its steps.
ELEMENT_BITS = 14

#: Bits of a number in an instruction.
LITERAL_BITS = 3 * ELEMENT_BITS


class Operation(enum.Enum, shape=6):
    """What an instruction does with registers r[a], r[b] and r[c] of a lane and slot, and with its r[dst].

    Where nothing else is said, what is found goes to r[dst]. Bytes of memories are counted from
    ``bias_base * lanes * 4`` of the vector memory, and from ``out_base`` of the output scratchpad; ``size`` is that of
    an operand.
    """

    SET = 0
    LOAD_WORD = 1
    LOAD_NARROW = 2
    STORE_WORD = 3
    STORE_NARROW = 4
    INDEX = 5
    ADD = 8
    SUB = 9
    MUL = 10
    DIV = 11
    SQRT = 12
    LESS = 16
    EQUAL = 17
    SELECT = 18
    INTEGER_ADD = 20
    AND = 21
    OR = 22
    XOR = 23
    SHIFT_LEFT = 24
    SHIFT_RIGHT = 25
    INTEGER_LESS = 26
    TO_INTEGER = 28
    TO_FLOAT = 29
    NARROW = 30
    NARROW_RANDOM = 31
    MIX = 32

    @property
    def is_memory(self) -> bool:
        """Whether it names elements: its literal is offset, step and slot_step then."""
        return self in (self.LOAD_WORD, self.LOAD_NARROW, self.STORE_WORD, self.STORE_NARROW, self.INDEX)

    @property
    def is_store(self) -> bool:
        """Whether it writes outputs, and no register."""
        return self in (self.STORE_WORD, self.STORE_NARROW)


#: What each does.
EFFECTS = {
    Operation.SET: "r[dst] becomes the low 32 bits of the literal",
    Operation.LOAD_WORD: "r[dst] becomes the 4 bytes at ``(e * lanes + l) * 4``",
    Operation.LOAD_NARROW: "r[dst] becomes the operand at ``(e * lanes + l) * size``, in float32",
    Operation.STORE_WORD: "r[a] is written to the 4 bytes at ``(e * lanes + l) * 4``",
    Operation.STORE_NARROW: "the low bytes of r[a] are written to the operand at ``(e * lanes + l) * size``",
    Operation.INDEX: "r[dst] becomes ``index + e * lanes + l`` modulo 2**32",
    Operation.ADD: "``r[a] + r[b]``",
    Operation.SUB: "``r[a] - r[b]``",
    Operation.MUL: "``r[a] * r[b]``",
    Operation.DIV: "``r[a] / r[b]``",
    Operation.SQRT: "square root of r[a]",
    Operation.LESS: "1 if ``r[a] < r[b]`` as floats, else 0; also where one is no number",
    Operation.EQUAL: "1 if ``r[a] = r[b]`` as floats, so that -0 equals +0, else 0",
    Operation.SELECT: "r[a] if any bit of r[c] is set, else r[b]",
    Operation.INTEGER_ADD: "``r[a] + r[b]`` modulo 2**32",
    Operation.AND: "bits that both have",
    Operation.OR: "bits that either has",
    Operation.XOR: "bits that one has alone",
    Operation.SHIFT_LEFT: "r[a] shifted to the left by the five low bits of r[b]",
    Operation.SHIFT_RIGHT: "to the right, zeros coming in",
    Operation.INTEGER_LESS: "1 if ``r[a] < r[b]`` in two's complement, else 0",
    Operation.TO_INTEGER: "the float r[a] rounded to an integer, halves to even: at most 2**31 - 1, at least -2**31, "
                          "0 if it is no number",
    Operation.TO_FLOAT: "the integer r[a], in two's complement, as a float",
    Operation.NARROW: "the float r[a] rounded to an operand, halves to even: its bits, zeros above them",
    Operation.NARROW_RANDOM: "the same, but away from zero if the first 16 bits that are cut off are more than the low "
                             "16 of r[b], else towards it (``golden/rounding.py``, ``stochastic``)",
    Operation.MIX: "hash of r[a] (``golden/rounding.py``, ``mix``)",
}

#: An instruction, from the lowest bit on. A literal is a number, or ``offset``, ``step`` and ``slot_step``.
LAYOUT = data.StructLayout({"op": Operation, "dst": 4, "a": 4, "b": 4, "c": 4, "literal": LITERAL_BITS})

_PLACES = places(LAYOUT)

#: Where the parts of the literal of an instruction of memory stand.
_ELEMENTS = {name: place * ELEMENT_BITS for place, name in enumerate(("offset", "step", "slot_step"))}

#: Times that all slots go round, for those operations that need more than one.
ROUNDS = dict.fromkeys((Operation.DIV, Operation.SQRT), FloatDivideRoot.ROUNDS)


def cycles_of(operation: Operation) -> int:
    """Cycles of an instruction, whatever the slots of the command."""
    return SLOTS * ROUNDS.get(operation, 1)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An instruction.

    Parameters
    ----------
    op : Operation
        What it does.
    dst, a, b, c : int
        Registers; those that it does not have are zero.
    literal : int
        Number of ``SET``.
    offset, step, slot_step : int
        Groups of elements, for those of memory; modulo 2**14, so they may be negative.

    Raises
    ------
    ValueError
        If a number does not fit, or the operation has no such.
    """

    op: Operation
    dst: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    literal: int = 0
    offset: int = 0
    step: int = 0
    slot_step: int = 0

    def __post_init__(self) -> None:
        if self.op.is_memory and self.literal:
            raise ValueError(f"literal must be 0 with {self.op.name}, not {self.literal}")
        if self.op is Operation.SET and not 0 <= self.literal < 1 << 32:
            raise ValueError(f"literal must be in 0..{(1 << 32) - 1}, not {self.literal}")
        for name in _ELEMENTS:
            value = getattr(self, name)
            if value and not self.op.is_memory:
                raise ValueError(f"{name} must be 0 with {self.op.name}, not {value}")
            if not -(1 << ELEMENT_BITS - 1) <= value < 1 << ELEMENT_BITS:
                raise ValueError(f"{name} must be in {-(1 << ELEMENT_BITS - 1)}..{(1 << ELEMENT_BITS) - 1}, "
                                 f"not {value}")

    @property
    def cycles(self) -> int:
        """Cycles that it takes."""
        return cycles_of(self.op)

    def encode(self) -> bytes:
        """Return its bytes.

        Raises
        ------
        ValueError
            If there is no such register.
        """
        literal = self.literal
        for name, place in _ELEMENTS.items():
            literal |= (getattr(self, name) & (1 << ELEMENT_BITS) - 1) << place
        fields = {"op": self.op.value, "dst": self.dst, "a": self.a, "b": self.b, "c": self.c, "literal": literal}
        return pack(_PLACES, fields, f"instruction {self.op.name}").to_bytes(INSTRUCTION_BYTES, "little")

    @staticmethod
    def decode(stored: bytes) -> "Instruction":
        """Return the instruction of such bytes; groups of elements are not negative.

        Raises
        ------
        ValueError
            If there is no such operation.
        """
        fields = unpack(_PLACES, int.from_bytes(stored, "little"))
        operation = Operation(fields["op"])
        literal = fields.pop("literal")
        if operation.is_memory:
            found = {name: literal >> place & (1 << ELEMENT_BITS) - 1 for name, place in _ELEMENTS.items()}
        else:
            found = {"literal": literal}
        return Instruction(**fields | found | {"op": operation})
