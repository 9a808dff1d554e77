# amaranth: UnusedElaboratable=no
"""The lock-step systolic array of floats, bit by bit: sums are those of NumPy in the order in which the array adds."""

import numpy as np
import pytest
from array_schedule import run
from float_schedule import FloatSchedule

from pearray.hdl.arithmetic.float_formats import BFLOAT16, E4M3, E5M2, FLOAT16
from pearray.hdl.arithmetic.floating import FloatArithmetic
from pearray.hdl.systolic.array import SystolicArray

CASES = [(BFLOAT16, 1, 1, 3, 2), (BFLOAT16, 2, 3, 4, 3), (BFLOAT16, 1, 4, 1, 3), (FLOAT16, 2, 1, 1, 2),
         (E4M3, 1, 2, 2, 4), (E5M2, 3, 4, 3, 1)]


@pytest.mark.parametrize("stall", [0.0, 0.3])
@pytest.mark.parametrize(("format", "product", "addition", "rows", "cols"), CASES)
def test_random_operations(rng, format, product, addition, rows, cols, stall):
    """A psum that meets its product a cycle off, or is rounded in another order, differs in its last bit."""
    schedule = FloatSchedule(SystolicArray(rows, cols, FloatArithmetic(format, product, addition), 64), rng, stall)
    schedule.random(8)
    run(schedule)


def test_the_order_matters(rng):
    """Sums that any order gives would not show in which one the array adds."""
    schedule = FloatSchedule(SystolicArray(16, 3, FloatArithmetic(BFLOAT16), 64), rng)
    a, w = schedule.operands(200, 16), schedule.operands(16, 3)
    forwards, backwards = schedule.sums(a, w), schedule.sums(a[:, ::-1], w[::-1])
    assert np.count_nonzero(forwards != backwards) > 50
