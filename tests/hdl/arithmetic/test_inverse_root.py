# amaranth: UnusedElaboratable=no
"""Inverse square roots against Python's integers."""

import pytest
from amaranth.sim import Simulator
from norm_commands import root_of

from pearray.hdl.arithmetic.inverse_root import InverseRoot


def _roots(values, exponent):
    """Bits of the roots of some operands, one after another as soon as may be."""
    dut, found = InverseRoot(), []

    async def drive(ctx):
        ctx.set(dut.exponent, exponent)
        for value in values:
            ctx.set(dut.operand, value)
            ctx.set(dut.start, 1)
            assert ctx.get(dut.ready)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.operand, 0)
            for cycle in range(1, dut.LATENCY):
                assert not ctx.get(dut.found), cycle
                await ctx.tick()
            assert ctx.get(dut.found)
            found.append(ctx.get(dut.root))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    sim.run()
    return found


@pytest.mark.parametrize("exponent", [0, 22])
def test_roots_are_those_of_integers(rng, exponent):
    """A wrong shift, bit or exponent scales a whole row wrongly: leading bits at both ends, and of every length."""
    values = [0, 1, 2, 3, (1 << 24) - 1, 1 << 24, 1 << 25, (1 << 26) - 1, (1 << 26) + 1, (1 << 63) - 1]
    values += [(1 << bits) + int(rng.integers(0, 1 << bits)) for bits in range(1, 63)]
    expected = [int(root_of(value, exponent).view("u4")) for value in values]
    assert _roots(values, exponent) == expected


def test_an_operand_that_comes_too_soon_breaks_a_rule():
    """The root that is on its way would be lost."""
    dut = InverseRoot()

    async def drive(ctx):
        ctx.set(dut.start, 1)
        for _ in range(4):
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(drive)
    with pytest.raises(AssertionError, match="root: an operand is given before the root of the one before stands"):
        sim.run()
