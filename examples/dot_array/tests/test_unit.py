# amaranth: UnusedElaboratable=no
"""One dot-product unit, and rows of finished sums, cycle by cycle."""

from pathlib import Path

import numpy as np
import pytest
from amaranth.sim import Simulator
from dot_array.sums import FinishedSums
from dot_array.unit import DotUnit

import pearray as pe
from pearray.hdl.post.sums import AccumulatorRead

CONFIG = Path(__file__).parents[1] / "dot-8x8.toml"


def simulate(dut, testbench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def sums_of(products, lines):
    """Sum in each cycle of a unit that is given (control, a, w) in each, and as many idle cycles as it takes."""
    dut, seen = DotUnit(products, 9, 32), []

    async def testbench(ctx):
        for control, a, w in [*lines, *[({}, [0] * products, [0] * products)] * dut.latency]:
            ctx.set(dut.control, control)
            ctx.set(dut.a, a)
            ctx.set(dut.w, w)
            seen.append(ctx.get(dut.sum))
            await ctx.tick()

    simulate(dut, testbench)
    return seen[dut.latency:]


@pytest.mark.parametrize("products", [1, 2, 8])
def test_sums(rng, products):
    """Lines with gaps between them, sums and maxima in turn: a unit that mixed two of them would be wrong quietly."""
    lines, expected, total = [], [], 0
    for _ in range(200):
        valid, begin, maximum = (int(bit) for bit in rng.integers(0, 2, 3))
        a, w = (rng.integers(-256, 256, products).tolist() for _ in range(2))
        line = int(np.dot(a, w))
        if valid:
            total = line if begin else max(total, line) if maximum else total + line
        lines.append(({"valid": valid, "begin": begin, "maximum": maximum}, a, w))
        expected.append(total)
    lines[0][0].update(valid=1, begin=1)
    expected[0] = int(np.dot(*lines[0][1:]))
    start = next(index for index, line in enumerate(lines) if index and line[0]["valid"] and line[0]["begin"])
    assert sums_of(products, lines)[start:] == expected[start:]


@pytest.mark.parametrize(("a", "w"), [(-256, -256), (-256, 255), (255, 255)])
def test_extremes(a, w):
    """The greatest products of all keep their sign through the tree, and a sum wraps around at 32 bits."""
    line = ({"valid": 1, "begin": 0, "maximum": 0}, [a] * 8, [w] * 8)
    count = 4200
    total = 8 * a * w * count
    seen = sums_of(8, [({"valid": 1, "begin": 1}, *line[1:]), *[line] * (count - 1)])
    assert abs(total) > 1 << 31
    assert seen[0] == 8 * a * w
    assert seen[-1] == (total + (1 << 31)) % (1 << 32) - (1 << 31)


def test_rows(rng):
    """Rows replace, raise or add to what stands there; one that comes again too soon would miss the one before."""
    config = pe.load_config(CONFIG, {"array.rows": 2, "accumulators.depth": 4}).hardware
    dut, model, latest, plan = FinishedSums(config), {}, {}, []
    for cycle in range(300):
        place, sums, control = (int(rng.integers(2)), int(rng.integers(2))), rng.integers(-1 << 20, 1 << 20, 2), {}
        if rng.integers(4) and latest.get(place, -9) <= cycle - FinishedSums.PERIOD:
            first, maximum = place not in model or not rng.integers(8), not rng.integers(8)
            control = {"valid": 1, "first": int(first), "maximum": int(maximum), "bank": place[0], "row": place[1]}
            if not first:
                old = model[place]
                model[place] = np.maximum(old, sums) if maximum else old + sums
            else:
                model[place] = sums
            latest[place] = cycle
        plan.append((control, sums.tolist()))
    assert len(model) == 4

    async def testbench(ctx):
        for cycle in range(len(plan) + FinishedSums.PERIOD):
            ctx.set(dut.control, plan[cycle][0] if cycle < len(plan) else {})
            if FinishedSums.LEAD <= cycle < len(plan) + FinishedSums.LEAD:
                ctx.set(dut.sums, plan[cycle - FinishedSums.LEAD][1])
            await ctx.tick()
        for (bank, row), sums in model.items():
            for name, value in (("en", 1), ("bank", bank), ("row", row)):
                ctx.set(getattr(dut.read, name), value)
            await ctx.tick().repeat(AccumulatorRead.LATENCY)
            assert [ctx.get(dut.read.data[unit]) for unit in range(2)] == (sums % (1 << 32)).tolist()

    simulate(dut, testbench)
