# amaranth: UnusedElaboratable=no
"""The rotator against ``numpy.roll``."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from pearray import PearrayError
from pearray.hdl.blocks.rotate import Rotator


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32])
def test_rotate(rng, lanes, reverse):
    """A wrong direction or latency would put every bank's operand in a wrong row of the array."""
    dut = Rotator(lanes, 9, reverse=reverse)
    amounts = rng.integers(0, lanes, 40)
    inputs = rng.integers(0, 512, (40, lanes))

    async def testbench(ctx):
        for cycle in range(40 + dut.latency):
            if cycle < 40:
                ctx.set(dut.amount, int(amounts[cycle]))
                ctx.set(dut.i, inputs[cycle].tolist())
            if cycle >= dut.latency:
                index = cycle - dut.latency
                turn = int(amounts[index]) if reverse else -int(amounts[index])
                got = [ctx.get(dut.o[lane]) for lane in range(lanes)]
                np.testing.assert_array_equal(got, np.roll(inputs[index], turn), f"vector {index}")
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize("lanes", [0, 3, 2.0])
def test_lanes_wrong(lanes):
    """Bank numbers wrap only modulo a power of two."""
    with pytest.raises(PearrayError, match=r"^lanes must be a power of two, not"):
        Rotator(lanes, 8)


def test_width_wrong():
    """A lane of no bits would be emitted as a port of two."""
    with pytest.raises(PearrayError, match=r"^width must be a positive integer, not 0$"):
        Rotator(4, 0)
