"""Reciprocals in 32-bit fixed point, against gemmlowp's rule."""

import numpy as np
from amaranth.sim import Simulator

from pearray.golden import gemmlowp
from pearray.hdl.arithmetic.reciprocal import LEAST, Reciprocal


def test_reciprocals_are_those_of_gemmlowp(rng):
    """A step of Newton's method that is left out, or rounds otherwise, changes the last bits of shares."""
    totals = [LEAST, LEAST + 1, 1 << 19, (1 << 20) - 1, 1 << 31, (1 << 32) - 1,
              *np.exp2(rng.uniform(16, 32, 60)).astype(np.int64).tolist()]
    dut = Reciprocal()

    async def drive(ctx):
        for total in totals:
            ctx.set(dut.total, total)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            # It is needed in that cycle only.
            ctx.set(dut.total, int(rng.integers(0, 1 << 32)))
            await ctx.tick().repeat(dut.LATENCY - 1)
            headroom = 32 - total.bit_length()
            expected = int(gemmlowp.reciprocal(np.int64((total << headroom) - (1 << 31))))
            assert (ctx.get(dut.done), ctx.get(dut.inverse), ctx.get(dut.headroom)) == (1, expected, headroom)
            await ctx.tick()
            assert not ctx.get(dut.done)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
