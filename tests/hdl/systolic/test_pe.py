# amaranth: UnusedElaboratable=no
"""One processing element, cycle by cycle."""

import pytest
from amaranth.sim import Simulator
from arithmetics import StagedArithmetic

from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.systolic.pe import ProcessingElement

LOW = -256
INTEGERS = IntegerArithmetic(8)


def drive(steps, arithmetic=INTEGERS):
    """Apply input changes cycle by cycle; return the outputs seen before each clock edge."""
    dut = ProcessingElement(arithmetic, 64)
    seen = []

    async def testbench(ctx):
        for step in steps:
            control = {name: value for name, value in step.items() if not hasattr(dut, name)}
            ctx.set(dut.control_left, control)
            for name, value in step.items():
                if name not in control:
                    ctx.set(getattr(dut, name), value)
            outputs = ("a", "weight", "token", "psum", "sum")
            seen.append({name: ctx.get(getattr(dut, name)) for name in outputs})
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    return seen


@pytest.mark.parametrize("a", [LOW, -1, 0, 255])
@pytest.mark.parametrize("weight", [LOW, 255])
def test_extremes(a, weight):
    """The most negative operands multiply exactly, and the sum keeps its sign."""
    seen = drive([{"weight_above": weight}, {"through": 1}, {"swap": 1, "a_left": a}, {},
                  {"psum_above": -7, "drain": 1, "move": 1}, {}, {}])
    assert (seen[5]["psum"], seen[6]["sum"]) == (a * weight - 7, a * weight - 7)


def test_timing():
    """An activation takes 1 cycle to the right, 3 to psum and 4 to sum; a token takes 2, a weight 1."""
    idle = {"a_left": 0, "weight_above": 0, "token_above": 0}
    steps = [{"weight_above": 5, "token_above": 1}, dict(idle), {"swap": 1, "a_left": 3},
             {**idle, "drain": 1, "move": 1}, {"drain": 1, "move": 1}, {"drain": 1, "move": 1},
             {"drain": 1, "move": 1}, {"drain": 1, "move": 1}]
    seen = drive(steps)
    assert [step["weight"] for step in seen[:3]] == [0, 5, 0]
    assert [step["token"] for step in seen[:4]] == [0, 0, 1, 0]
    assert [step["a"] for step in seen[2:5]] == [0, 3, 0]
    assert [step["psum"] for step in seen[4:7]] == [0, 15, 0]
    assert [step["sum"] for step in seen[5:8]] == [0, 15, 0]


def test_timing_of_another_arithmetic():
    """A product of 3 cycles and an addition of 2 come to psum after 6 cycles, and to sum, two deep, after 8."""
    steps = [{"weight_above": 5}, {"through": 1}, {"through": 0, "swap": 1, "a_left": 3}, {"swap": 0, "a_left": 0},
             {}, {}, {"psum_above": -7}, {"psum_above": 0, "drain": 1, "move": 1}, {"move": 1}, {}, {}, {}]
    seen = drive(steps, StagedArithmetic(8, product_latency=3, add_latency=2))
    assert [step["psum"] for step in seen[7:10]] == [0, 8, 0]
    assert [step["sum"] for step in seen[9:12]] == [0, 8, 8]


def test_left():
    """With ``left`` the weight and its token come from the left, and those from above are ignored."""
    seen = drive([{"left": 1, "weight_left": 9, "token_left": 1, "weight_above": 4},
                  {"token_left": 0, "weight_left": 1, "token_above": 1}, {"token_above": 0}, {}, {}])
    assert [step["weight"] for step in seen[1:3]] == [9, 4]
    assert [step["token"] for step in seen[:5]] == [0, 0, 1, 1, 0]


def test_hold():
    """Without ``move`` the drained sum stays, whatever passes above."""
    seen = drive([{"move": 1}, {"sum_above": 77}, {"sum_above": 5}, {}, {}])
    assert [step["sum"] for step in seen[2:]] == [77, 77, 77]
