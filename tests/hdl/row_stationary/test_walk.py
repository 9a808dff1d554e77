# amaranth: UnusedElaboratable=no
"""Nested walks against nested loops."""

from itertools import product

import pytest
from amaranth.sim import Simulator

from pearray import PearrayError
from pearray.hdl.row_stationary.walk import Walk

BITS = (3, 2, 4)


def test_walks(rng):
    """If it failed, data would be read from wrong places, or walks that follow one another would mix."""
    dut = Walk(16, BITS)
    walks, wanted = [], []
    for _ in range(20):
        counts = [int(rng.integers(0, 1 << min(bits, 3))) for bits in BITS]
        steps = [int(rng.integers(0, 1 << 16)) for _ in BITS]
        base = int(rng.integers(0, 1 << 16))
        fields = {"base": base}
        for loop in range(3):
            fields |= {f"count_{loop}": counts[loop], f"step_{loop}": steps[loop]}
        walks.append(fields)
        for outer in product(*(range(count + 1) for count in reversed(counts))):
            indices = outer[::-1]
            address = base + sum(index * step for index, step in zip(indices, steps, strict=True))
            wanted.append((address % (1 << 16), *indices, int(list(indices) == counts)))
    seen = []

    async def source(ctx):
        for walk in walks:
            ctx.set(dut.i.payload, walk)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)

    async def sink(ctx):
        while len(seen) < len(wanted):
            ctx.set(dut.o.ready, int(rng.random() < 0.7))
            *_, valid, ready, place = await ctx.tick().sample(dut.o.valid, dut.o.ready, dut.o.payload)
            if valid and ready:
                seen.append((place.address, *(place[f"index_{loop}"] for loop in range(3)), place.last))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source, background=True)
    simulator.add_testbench(sink)
    simulator.run()
    assert seen == wanted


def test_no_idle_cycles():
    """If it failed, a walk would not follow another at once, and each pass would lose cycles."""
    dut = Walk(8, (2, 1, 1))
    places = []

    async def testbench(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.payload, {"base": 3, "count_0": 2, "step_0": 5})
        await ctx.tick()
        for _ in range(9):
            assert ctx.get(dut.o.valid)
            places.append(ctx.get(dut.o.payload.address))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert places == [3, 8, 13] * 3


def test_no_loops_are_refused():
    """If it failed, a walk without loops would never end."""
    with pytest.raises(PearrayError, match=r"^count_bits must name at least one loop"):
        Walk(8, ())
