"""What operations of lanes make of bits, by the steps of the golden models."""

from collections.abc import Callable, Mapping

import numpy as np

from ...golden import rounding
from ...golden.float_steps import NUMPY
from ...hdl.routines.instructions import Operation

__all__ = ["COMPUTED", "OF_ONE", "OF_TWO"]

#: What becomes of the bits in registers a and b, of those operations that have both.
OF_TWO: Mapping[Operation, Callable[..., np.ndarray]] = {
    Operation.ADD: NUMPY.add, Operation.SUB: NUMPY.subtract, Operation.MUL: NUMPY.multiply,
    Operation.DIV: NUMPY.divide, Operation.LESS: NUMPY.less, Operation.EQUAL: NUMPY.equal,
    Operation.INTEGER_ADD: NUMPY.integer_add, Operation.AND: NUMPY.bit_and, Operation.OR: NUMPY.bit_or,
    Operation.XOR: NUMPY.bit_xor, Operation.SHIFT_LEFT: NUMPY.shift_left, Operation.SHIFT_RIGHT: NUMPY.shift_right,
    Operation.INTEGER_LESS: NUMPY.integer_less,
}

#: What becomes of the bits in register a.
OF_ONE: Mapping[Operation, Callable[..., np.ndarray]] = {
    Operation.SQRT: NUMPY.root, Operation.TO_INTEGER: NUMPY.to_integer, Operation.TO_FLOAT: NUMPY.to_float,
    Operation.MIX: rounding.mix,
}


def _selected(one: np.ndarray, other: np.ndarray, condition: np.ndarray) -> np.ndarray:
    return np.where(condition != 0, one, other)


#: Those that make the same of the same bits on every accelerator, with what they make of their arguments.
COMPUTED: Mapping[Operation, Callable[..., np.ndarray]] = {**OF_ONE, **OF_TWO, Operation.SELECT: _selected}
