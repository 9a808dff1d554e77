"""What an instruction asks of the parts of a lane."""

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, enum

from ..arithmetic.float_divide_root import FloatDivideRoot
from .instructions import Operation

__all__ = ["Comparison", "Early", "Functions", "Late", "Logic", "Middle", "Plain", "Results", "decode"]


class Plain(enum.Enum, shape=2):
    """Results that need neither shifts nor roundings."""

    SUM = 0
    LOGIC = 1
    CHOSEN = 2
    COMPARED = 3


class Logic(enum.Enum, shape=2):
    """Functions of single bits."""

    AND = 0
    OR = 1
    XOR = 2


class Comparison(enum.Enum, shape=2):
    """What is compared, and how."""

    LESS = 0
    EQUAL = 1
    INTEGER_LESS = 2


class Functions(data.Struct):
    """What units do with operands."""

    plain: Plain
    logic: Logic
    comparison: Comparison
    shifts: unsigned(1)
    left: unsigned(1)
    subtract: unsigned(1)
    at_random: unsigned(1)
    root: unsigned(1)
    #: Which time the operands of a quotient come.
    round: range(FloatDivideRoot.ROUNDS)


class Early(data.Struct):
    """Whether the result is one of those that are there first; one bit at most is set."""

    plain: unsigned(1)
    given: unsigned(1)
    word: unsigned(1)
    narrow_word: unsigned(1)
    to_integer: unsigned(1)
    to_float: unsigned(1)
    narrowed: unsigned(1)


class Middle(data.Struct):
    """Whether it is a sum or a product; if not, it is one of those that were there before."""

    sum: unsigned(1)
    product: unsigned(1)


class Late(data.Struct):
    """Whether it is a hash, or a quotient or root; if not, it is one of those that were there before."""

    mixed: unsigned(1)
    quotient: unsigned(1)


class Results(data.Struct):
    """Where the result comes from."""

    early: Early
    middle: Middle
    late: Late


#: What is set for each operation: fields of :class:`Functions`, and where its result comes from.
_DECODED = {
    Operation.SET: ({}, ("early", "given")),
    Operation.INDEX: ({}, ("early", "given")),
    Operation.LOAD_WORD: ({}, ("early", "word")),
    Operation.LOAD_NARROW: ({}, ("early", "narrow_word")),
    Operation.ADD: ({}, ("middle", "sum")),
    Operation.SUB: ({"subtract": 1}, ("middle", "sum")),
    Operation.MUL: ({}, ("middle", "product")),
    Operation.DIV: ({}, ("late", "quotient")),
    Operation.SQRT: ({"root": 1}, ("late", "quotient")),
    Operation.LESS: ({"plain": Plain.COMPARED, "comparison": Comparison.LESS}, ("early", "plain")),
    Operation.EQUAL: ({"plain": Plain.COMPARED, "comparison": Comparison.EQUAL}, ("early", "plain")),
    Operation.SELECT: ({"plain": Plain.CHOSEN}, ("early", "plain")),
    Operation.INTEGER_ADD: ({"plain": Plain.SUM}, ("early", "plain")),
    Operation.AND: ({"plain": Plain.LOGIC, "logic": Logic.AND}, ("early", "plain")),
    Operation.OR: ({"plain": Plain.LOGIC, "logic": Logic.OR}, ("early", "plain")),
    Operation.XOR: ({"plain": Plain.LOGIC, "logic": Logic.XOR}, ("early", "plain")),
    Operation.SHIFT_LEFT: ({"shifts": 1, "left": 1}, ("early", "plain")),
    Operation.SHIFT_RIGHT: ({"shifts": 1}, ("early", "plain")),
    Operation.INTEGER_LESS: ({"plain": Plain.COMPARED, "comparison": Comparison.INTEGER_LESS}, ("early", "plain")),
    Operation.TO_INTEGER: ({}, ("early", "to_integer")),
    Operation.TO_FLOAT: ({}, ("early", "to_float")),
    Operation.NARROW: ({}, ("early", "narrowed")),
    Operation.NARROW_RANDOM: ({"at_random": 1}, ("early", "narrowed")),
    Operation.MIX: ({}, ("late", "mixed")),
}


def decode(m: Module, operation: Signal) -> tuple[Any, Any]:
    """Return what units do with the operands of an operation, but for the round, and where its result comes from."""
    functions, results = Signal(Functions), Signal(Results)
    with m.Switch(operation):
        for member, (fields, (stage, name)) in _DECODED.items():
            with m.Case(member):
                m.d.comb += [getattr(functions, field).eq(value) for field, value in fields.items()]
                m.d.comb += getattr(getattr(results, stage), name).eq(1)
    return functions, results
