# amaranth: UnusedElaboratable=no
"""The lock-step systolic array against NumPy."""

import pytest
from amaranth.sim import Simulator
from array_schedule import Schedule

from pearray import PearrayError
from pearray.hdl.systolic.array import SystolicArray


def run(schedule):
    """Run a schedule in Amaranth's simulator and check every output that is due."""
    dut, outputs = schedule.dut, []

    async def testbench(ctx):
        for cycle in range(schedule.cycles):
            for name, value in schedule.inputs(cycle).items():
                ctx.set(getattr(dut, name), value)
            outputs.append([ctx.get(dut.psum[col]) for col in range(dut.cols)])
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    schedule.check(outputs)


def array(rng, rows, cols, operand_bits=9):
    """Make an array whose sums can't overflow in these tests."""
    return SystolicArray(rows, cols, operand_bits, 2 * operand_bits + 5)


SHAPES = [(1, 1), (1, 5), (6, 1), (2, 2), (3, 5), (6, 4)]


@pytest.mark.parametrize("left", [False, True], ids=["top", "left"])
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_fastest_matrix_vector(rng, rows, cols, left):
    """A tile every R (C) cycles with one activation vector each: no register is overwritten early."""
    schedule = Schedule(array(rng, rows, cols), rng)
    for _ in range(8):
        schedule.weight_stationary(1, left=left)
    size = cols if left else rows
    assert schedule.swap == 8 * size
    run(schedule)


@pytest.mark.parametrize("left", [False, True], ids=["top", "left"])
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_weights_load_under_compute(rng, rows, cols, left):
    """With M >= R vectors a tile, loading the next tile costs nothing and disturbs nothing."""
    schedule = Schedule(array(rng, rows, cols), rng)
    vectors = max(rows, cols) + 1
    for _ in range(5):
        schedule.weight_stationary(vectors, left=left)
    assert schedule.vector_free == (cols if left else rows) + 5 * vectors
    run(schedule)


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_output_stationary_back_to_back(rng, rows, cols):
    """Sums of R products follow one another without a gap, while earlier sums drain."""
    schedule = Schedule(array(rng, rows, cols), rng)
    for _ in range(5):
        schedule.output_stationary(rows)
    assert schedule.vector_free == 1 + 5 * rows
    run(schedule)


@pytest.mark.parametrize("stall", [0.0, 0.4], ids=["fast", "stalled"])
def test_random_operations(rng, stall):
    """Modes, directions and partial tiles in any order, at the least distances that are documented."""
    for _ in range(12):
        rows, cols = (int(x) for x in rng.integers(1, 6, size=2))
        schedule = Schedule(array(rng, rows, cols, int(rng.integers(5, 18))), rng, stall)
        schedule.random(25)
        run(schedule)


def test_latencies():
    """The execute unit times its captures by these properties."""
    dut = SystolicArray(6, 4, 9, 23)
    assert (dut.ws_latency, dut.os_latency, dut.swap_lead_top, dut.swap_lead_left) == (10, 10, 6, 4)
    assert (dut.os_weight_lead, dut.turn_gap, dut.drain_interval) == (1, 0, 6)


@pytest.mark.parametrize(("arguments", "message"), [
    ((0, 1, 9, 23), r"^rows must be an integer in 1\.\.1024, not 0$"),
    ((1, 2.0, 9, 23), r"^cols must be an integer in 1\.\.1024, not 2\.0$"),
    ((1, 1, 1, 23), r"^operand_bits must be an integer in 2\.\.32, not 1$"),
    ((1, 1, 9, 17), r"^psum_bits must be an integer in 18\.\.128, not 17$"),
])
def test_bad_parameters(arguments, message):
    """A parameter out of range is named before anything is built."""
    with pytest.raises(PearrayError, match=message):
        SystolicArray(*arguments)
