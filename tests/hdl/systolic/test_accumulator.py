"""Accumulators: sums come in on one bank while the other is read."""

import numpy as np
import pytest
from arithmetics import ARITHMETICS, with_arithmetic
from execute_model import config

from pearray.hdl.post.sums import AccumulatorRead
from pearray.hdl.systolic.accumulator import Accumulators, DrainRows
from pearray.sim.pysim import simulate


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_accumulators(rng, arithmetic):
    """A wrong row, a lost update, or reads that disturb the other bank would corrupt sums."""
    cfg = config(4, 3, depth=16)
    cfg = with_arithmetic(cfg, ARITHMETICS[arithmetic](8))
    cols, depth = cfg.array.cols, cfg.accumulators.depth
    dut = Accumulators(cfg)
    bits = cfg.accumulator_bits
    cycles = 600
    half = 1 << cfg.arithmetic.psum(cfg.os_depth).width - 1
    sums = np.zeros((2, depth, cols), np.int64)
    snapshots, rows, controls = [], [], []
    recent: list[tuple[int, int]] = []
    psum = rng.integers(-half, half, (cycles, cols))
    for cycle in range(cycles):
        # In the first cycles everything is overwritten; banks change every 150 cycles.
        bank = cycle // 150 % 2
        row = int(rng.integers(depth))
        valid = rng.random() < 0.9 and row not in recent and cycle % 150 < 130
        recent = [*recent, row if valid else -1][-(dut.period - 1):]
        first, maximum = int(cycle % 150 < 30 or rng.random() < 0.1), int(rng.random() < 0.4)
        control = {"valid": int(valid), "bank": bank, "row": row, "first": first, "maximum": maximum,
                   "last": int(rng.random() < 0.2)}
        controls.append(control)
        if valid:
            old = sums[bank, row]
            new = psum[cycle] if first else np.maximum(old, psum[cycle]) if maximum else old + psum[cycle]
            sums[bank, row] = (new + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
        snapshots.append(sums.copy())
        rows.append(int(rng.integers(depth)))

    async def testbench(ctx):
        ctx.set(dut.read.en, 1)
        for cycle in range(cycles):
            ctx.set(dut.control, controls[cycle])
            for col in range(cols):
                arrival = cycle - Accumulators.LEAD - col
                ctx.set(dut.psum[col], int(psum[arrival, col]) if arrival >= 0 else 0)
            finished = cycle - dut.period - cols + dut.AHEAD
            if finished >= 0:
                assert ctx.get(dut.done) == (controls[finished + 1]["valid"] & controls[finished + 1]["last"])
            ctx.set(dut.read.bank, 1 - cycle // 150 % 2)
            ctx.set(dut.read.row, rows[cycle])
            asked = cycle - AccumulatorRead.LATENCY
            # The other bank is settled once the last columns have been written.
            if asked >= 150 and asked % 150 > 20:
                got = [ctx.get(dut.read.data[col]) for col in range(cols)]
                got = [(value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1) for value in got]
                assert got == snapshots[asked][1 - asked // 150 % 2, rows[asked]].tolist(), f"cycle {cycle}"
            await ctx.tick()

    simulate(dut, testbench)


def test_period():
    """The compiler cuts tiles, and the walker spaces them, by how soon a row may come again."""
    periods = {name: Accumulators.period_of(make(8)) for name, make in ARITHMETICS.items()}
    assert periods == {"integer": 6, "direct": 4, "slow-product": 6, "slow-sum": 7, "float-like": 9}


def test_drain_rows_of_sums_in_turns():
    """Rows in another order would put the sums that took turns into each other's places."""
    dut = DrainRows(3, 16, turns=2)
    got = []

    async def testbench(ctx):
        ctx.set(dut.drain, 1)
        for _ in range(2):
            ctx.set(dut.i, {"valid": 1, "row": 4, "last": 1})
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            for _ in range(6):
                got.append(tuple(ctx.get(dut.o[name]) for name in ("valid", "row", "last")))
                await ctx.tick()
            assert not ctx.get(dut.o.valid)

    simulate(dut, testbench)
    # Two groups of three rows, from row 2 on: the last of both first.
    assert got == [(1, 4, 0), (1, 7, 0), (1, 3, 0), (1, 6, 0), (1, 2, 0), (1, 5, 1)] * 2


def test_drain_rows():
    """A drain that missed a row, or marked the wrong one as last, would lose sums or complete too early."""
    dut = DrainRows(4, 16)
    got = []

    def seen(ctx):
        got.append(tuple(ctx.get(dut.o[name]) for name in ("valid", "row", "last", "first")))

    async def testbench(ctx):
        ctx.set(dut.drain, 1)
        for last in (0, 1):
            ctx.set(dut.i, {"valid": 1, "row": 2 - last, "last": last, "first": last})
            await ctx.tick()
            ctx.set(dut.i.valid, 0)
            for _ in range(3 + 4 * last):
                seen(ctx)
                await ctx.tick()
            seen(ctx)

    simulate(dut, testbench)
    assert got[:4] == [(1, 2, 0, 0), (1, 1, 0, 0), (1, 0, 0, 0), (1, 15, 0, 0)]
    assert got[4:8] == [(1, 1, 0, 1), (1, 0, 0, 1), (1, 15, 0, 1), (1, 14, 1, 1)]
    assert all(not valid for valid, *_ in got[8:])
