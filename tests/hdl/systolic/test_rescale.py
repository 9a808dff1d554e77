"""Rescaling: rows of sums are shifted before they meet, and rows that overwrite come in beside those that are read."""

from itertools import product

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib.wiring import Component, In, Out
from execute_model import config
from float_draws import draw, to_bits
from words import wrap

from pearray.golden.float_attention import rescaled
from pearray.golden.fused_attention import rshift
from pearray.hdl.arithmetic.float_formats import BFLOAT16, FLOAT32
from pearray.hdl.arithmetic.floating import FloatArithmetic
from pearray.hdl.arithmetic.integer import IntegerArithmetic
from pearray.hdl.post.sums import AccumulatorRead
from pearray.hdl.systolic.accumulator import Accumulators, control_layout
from pearray.hdl.systolic.shifts import RowShifts
from pearray.sim.pysim import simulate

ARITHMETIC = IntegerArithmetic(8)
WIDTH = ARITHMETIC.accumulator.width


class Sum(Component):
    """An accumulator's arithmetic."""

    def __init__(self, arithmetic=ARITHMETIC):
        self._arithmetic = arithmetic
        super().__init__({"old": In(arithmetic.accumulator), "new": In(arithmetic.psum(64)),
                          "control": In(control_layout(16, rescales=True)), "total": Out(arithmetic.accumulator)})

    def elaborate(self, platform):
        """Build it."""
        m = Module()
        m.d.comb += self.total.eq(self._arithmetic.accumulate_shifted(m, self.old, self.new, self.control))
        return m


def draw_number(rng, shape):
    """A number of any size; the least and the greatest often, and such as lie at half of a step."""
    bits = int(rng.integers(shape.width))
    number = (int(rng.integers(1 << bits)) if rng.random() < 0.5 else 1 << bits >> 1) * int(rng.choice([1, -1]))
    half = 1 << shape.width - 1
    return int(rng.choice([-half, half - 1, 0, number], p=[0.05, 0.05, 0.05, 0.85]))


def test_every_amount(rng):
    """A bit of the shifter, a sign or a rounding that is wrong for one amount would be met by one row in thousands."""
    cases = [(old, amount, first, draw_number(rng, ARITHMETIC.accumulator), draw_number(rng, ARITHMETIC.psum(64)))
             for _ in range(40) for old, amount, first in product((0, 1), range(32), (0, 1)) if not (old and first)]
    cases = [cases[index] for index in rng.permutation(len(cases))]
    dut, got = Sum(), []

    async def testbench(ctx):
        for old, amount, first, before, new in cases + cases[:ARITHMETIC.accumulate_latency]:
            ctx.set(dut.control, {"first": first, "shift": {"old": old, "amount": amount}})
            ctx.set(dut.old, before)
            ctx.set(dut.new, new)
            got.append(ctx.get(dut.total))
            await ctx.tick()

    simulate(dut, testbench)
    old, amount, first, before, new = np.array(cases).T
    expected = np.where(first, 0, rshift(before, old * amount)) + rshift(new, (1 - old) * amount)
    assert got[ARITHMETIC.accumulate_latency:] == [wrap(int(each), WIDTH) for each in expected]


def test_every_amount_of_floats(rng):
    """An exponent that wraps, a sign or an infinity that is lost, or what is divided by 1 and changes, would show."""
    arithmetic = FloatArithmetic(BFLOAT16, add_latency=3)
    number = draw(rng, FLOAT32, 2 * 1200).reshape(2, -1)
    old, first, maximum = rng.integers(0, 2, (3, 1200))
    amount = rng.integers(0, 32, 1200)
    # Sums near the least normal number, and sums of alike magnitude.
    near = rng.random(1200) < 0.3
    number[:, near] = number[:, near] & 0x807FFFFF | rng.integers(0, 36, near.sum()).astype(np.uint32) << 23
    old = old & ~first & ~maximum
    amount = np.where(maximum, 0, amount)
    dut, got = Sum(arithmetic), []

    async def testbench(ctx):
        for index in range(1200 + arithmetic.accumulate_latency):
            now = index % 1200
            ctx.set(dut.control, {"first": int(first[now]), "maximum": int(maximum[now]),
                                  "shift": {"old": int(old[now]), "amount": int(amount[now])}})
            ctx.set(dut.old, int(number[0, now]))
            ctx.set(dut.new, int(number[1, now]))
            got.append(ctx.get(dut.total))
            await ctx.tick()

    simulate(dut, testbench)
    before, new = (number.view(np.float32)[each] for each in (0, 1))
    before, new = rescaled(before, amount * old), rescaled(new, amount * (1 - old))
    with np.errstate(all="ignore"):
        expected = np.where(first, new, np.where(maximum, np.where(before < new, new, before), before + new))
    assert got[arithmetic.accumulate_latency:] == to_bits(expected).tolist()


def test_comparisons_beside_shifts(rng):
    """Rows of other commands come between those that are shifted, and their sums are compared as ever."""
    cases = [(int(rng.integers(2)), int(rng.integers(2)), draw_number(rng, ARITHMETIC.accumulator),
              draw_number(rng, ARITHMETIC.psum(64))) for _ in range(300)]
    dut, got = Sum(), []

    async def testbench(ctx):
        for first, maximum, before, new in cases + cases[:2]:
            shift = {} if first or maximum else {"shift": {"old": 1, "amount": 3}}
            ctx.set(dut.control, {"first": first, "maximum": maximum} | shift)
            ctx.set(dut.old, before)
            ctx.set(dut.new, new)
            got.append(ctx.get(dut.total))
            await ctx.tick()

    simulate(dut, testbench)
    assert got[2:] == [wrap(new if first else max(old, new) if maximum else int(rshift(old, 3)) + new, WIDTH)
                       for first, maximum, old, new in cases]


def test_shifts_of_rows(rng):
    """What a row's amount means depends on its sign, on the tile, and on which bytes are contracted."""
    dut = RowShifts(64)
    cases = [(amount, rescale, old, low) for amount in range(-31, 32) for rescale, old, low in product((0, 1), repeat=3)
             if not (old and low)]
    cases = [cases[index] for index in rng.permutation(len(cases))]
    got = []

    async def testbench(ctx):
        ctx.set(dut.write.en, 1)
        for amount in range(-31, 32):
            ctx.set(dut.write.row, (amount + 40) % 64)
            ctx.set(dut.write.amount, amount)
            await ctx.tick()
        ctx.set(dut.write.en, 0)
        for amount, rescale, old, low in cases + cases[:RowShifts.LATENCY]:
            ctx.set(dut.request, {"rescale": rescale, "old": old, "low_part": low, "row": (amount + 40) % 64})
            got.append((ctx.get(dut.shift.old), ctx.get(dut.shift.amount)))
            await ctx.tick()

    simulate(dut, testbench)
    for (amount, rescale, first_tile, low), (old, shift) in zip(cases, got[RowShifts.LATENCY:], strict=True):
        part = min(max(-amount, 0) + 8 * low, 31)
        of_old, of_part = (shift, 0) if old else (0, shift)
        assert (of_old, of_part) == (max(amount, 0) * rescale * first_tile, part * rescale), (amount, first_tile, low)


def test_rows_that_overwrite_beside_rows_that_are_read(rng):
    """Scores of a block come in while those of the block before are read from the same bank."""
    cfg = config(4, 3, depth=16, softmax=1)
    dut = Accumulators(cfg)
    cols, period = cfg.array.cols, dut.period
    rounds, rows = 6, 8
    psum = rng.integers(-100, 100, (rounds, rows, cols))
    got = np.zeros((rounds, rows, cols), np.int64)
    step = rows + period + cols

    async def testbench(ctx):
        for cycle in range(step * (rounds + 1)):
            turn, slot = divmod(cycle, step)
            inside = turn < rounds and slot < rows
            ctx.set(dut.control, {"valid": inside, "first": 1, "row": slot % rows + rows * (turn % 2)})
            for col in range(cols):
                arrived, slot_of = divmod(cycle - Accumulators.LEAD - col, step)
                if 0 <= arrived < rounds and slot_of < rows:
                    ctx.set(dut.psum[col], int(psum[arrived, slot_of, col]))
            ctx.set(dut.read.en, turn > 0 and slot < rows)
            ctx.set(dut.read.row, slot % rows + rows * ((turn + 1) % 2))
            asked, slot_of = divmod(cycle - AccumulatorRead.LATENCY, step)
            if asked > 0 and slot_of < rows:
                got[asked - 1, slot_of] = [ctx.get(dut.read.data[col]) for col in range(cols)]
            await ctx.tick()

    simulate(dut, testbench)
    np.testing.assert_array_equal(wrap(got, WIDTH), psum)


@pytest.mark.parametrize(("first", "row", "cycles", "broken"), [
    (0, 9, 7, True), (0, 9, 8, False), (1, 9, 0, False), (1, 2, 0, True), (1, 2, 7, True), (1, 2, 8, False)])
def test_rules(first, row, cycles, broken):
    """A schedule that reads what is on its way, or takes the port from a row that is added to, must not pass."""
    cfg = config(4, 3, depth=16, softmax=1)
    dut = Accumulators(cfg)

    async def testbench(ctx):
        ctx.set(dut.control, {"valid": 1, "first": first, "row": 2})
        for cycle in range(20):
            ctx.set(dut.read.en, cycle == cycles)
            ctx.set(dut.read.row, row)
            await ctx.tick()
            ctx.set(dut.control.valid, 0)

    if broken:
        with pytest.raises(AssertionError, match="rows: a row is read" if first else "bank_0: sums are read"):
            simulate(dut, testbench)
    else:
        simulate(dut, testbench)


def test_shift_memory_rule():
    """A shift that is read while it is written may be the old or the new one."""
    dut = RowShifts(16)

    async def testbench(ctx):
        ctx.set(dut.write.en, 1)
        ctx.set(dut.write.row, 3)
        ctx.set(dut.request, {"rescale": 1, "row": 3})
        await ctx.tick().repeat(3)

    with pytest.raises(AssertionError, match="shifts: a shift is read"):
        simulate(dut, testbench)
