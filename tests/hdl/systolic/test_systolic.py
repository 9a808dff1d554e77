# amaranth: UnusedElaboratable=no
"""The lock-step systolic array against NumPy."""

import pytest
from arithmetics import ARITHMETICS, StagedArithmetic
from array_schedule import Schedule, run

from pearray import PearrayError
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.systolic.array import SystolicArray

#: Arithmetics and shapes: integers on all, the others where rows, columns and turns differ.
CASES = [("integer", *shape) for shape in ((1, 1), (1, 5), (6, 1), (2, 2), (3, 5), (6, 4))]
CASES += [(name, 4, 3) for name in ARITHMETICS if name not in ("integer", "direct")]
CASES += [("float-like", 1, 2), ("slow-sum", 3, 1)]


def array(rows, cols, arithmetic, bits=8):
    """Make an array whose sums can't overflow in these tests, also not those of words that no operand makes."""
    return SystolicArray(rows, cols, ARITHMETICS[arithmetic](bits), 64)


@pytest.mark.parametrize("left", [False, True], ids=["top", "left"])
@pytest.mark.parametrize(("arithmetic", "rows", "cols"), CASES)
def test_fastest_matrix_vector(rng, arithmetic, rows, cols, left):
    """A tile every R (C) cycles with one activation vector each: no register is overwritten early."""
    schedule = Schedule(array(rows, cols, arithmetic), rng)
    for _ in range(8):
        schedule.weight_stationary(1, left=left)
    size = cols if left else rows
    assert schedule.swap == 8 * size
    run(schedule)


@pytest.mark.parametrize("left", [False, True], ids=["top", "left"])
@pytest.mark.parametrize(("arithmetic", "rows", "cols"), CASES)
def test_weights_load_under_compute(rng, arithmetic, rows, cols, left):
    """With M >= R vectors a tile, loading the next tile costs nothing and disturbs nothing."""
    schedule = Schedule(array(rows, cols, arithmetic), rng)
    vectors = max(rows, cols) + 1
    for _ in range(5):
        schedule.weight_stationary(vectors, left=left)
    assert schedule.vector_free == (cols if left else rows) + 5 * vectors
    run(schedule)


@pytest.mark.parametrize(("arithmetic", "rows", "cols"), CASES)
def test_output_stationary_back_to_back(rng, arithmetic, rows, cols):
    """Sums of R products follow one another without a gap, while earlier sums drain."""
    schedule = Schedule(array(rows, cols, arithmetic), rng)
    for _ in range(5):
        schedule.output_stationary(rows)
    assert schedule.vector_free == 1 + 5 * rows * schedule.dut.os_sums
    run(schedule)


@pytest.mark.parametrize(("arithmetic", "stall"), [
    ("integer", 0.0), ("integer", 0.4), ("slow-product", 0.2), ("slow-sum", 0.0), ("float-like", 0.0),
    ("float-like", 0.4)])
def test_random_operations(rng, arithmetic, stall):
    """Modes, directions and partial tiles in any order, at the least distances that are documented."""
    for _ in range(12 if arithmetic == "integer" else 4):
        rows, cols = (int(x) for x in rng.integers(1, 6, size=2))
        schedule = Schedule(array(rows, cols, arithmetic, int(rng.integers(4, 17))), rng, stall)
        schedule.random(25)
        run(schedule)


def test_latencies():
    """The execute unit times its captures by these properties."""
    dut = SystolicArray(6, 4, IntegerArithmetic(8), 64)
    assert (dut.ws_latency, dut.os_latency, dut.swap_lead_top, dut.swap_lead_left) == (10, 10, 6, 4)
    assert (dut.os_weight_lead, dut.turn_gap, dut.drain_interval, dut.os_sums) == (1, 0, 6, 1)
    dut = SystolicArray(6, 4, StagedArithmetic(8, product_latency=2, add_latency=4), 64)
    assert (dut.ws_latency, dut.os_latency, dut.swap_lead_top, dut.swap_lead_left) == (32, 32, 6, 4)
    assert (dut.os_weight_lead, dut.turn_gap, dut.drain_interval, dut.os_sums) == (1, 0, 24, 4)


@pytest.mark.parametrize(("arguments", "message"), [
    ((0, 1, IntegerArithmetic(8), 64), r"^rows must be an integer in 1\.\.1024, not 0$"),
    ((1, 2.0, IntegerArithmetic(8), 64), r"^cols must be an integer in 1\.\.1024, not 2\.0$"),
    ((1, 1, IntegerArithmetic(8), 0), r"^products must be an integer in 1\.\.1048576, not 0$"),
])
def test_bad_parameters(arguments, message):
    """A parameter out of range is named before anything is built."""
    with pytest.raises(PearrayError, match=message):
        SystolicArray(*arguments)
