# amaranth: UnusedElaboratable=no
"""States of rows of softmax against the golden model's integers."""

import numpy as np
import pytest

from pearray.golden.fused_attention import EMPTY, LARGEST_SHIFT, quotient, rshift
from pearray.hdl.post.states import RowStates
from pearray.sim.pysim import simulate

ROWS, TOTAL_BITS = 16, 21


def random_rows(rng, every, count):
    """Draw rows as (cycle, row, shift row, first, opens, factor bits, greatest, total): commands of distinct rows."""
    rows, cycle, top = [], 0, 0
    for command in range(count):
        places = rng.permutation(ROWS)[:int(rng.integers(1, ROWS + 1))]
        factor = int(np.float32(2.0 ** rng.uniform(-40, 60)).view(np.uint32))
        opens = int(command % 5 == 0)
        if command == 0:
            places = np.arange(ROWS)
        # Most blocks have about the same greatest exponents, so that what is shifted counts.
        top = int(rng.integers(-60000, 60000)) if command % 8 == 7 else top + int(rng.integers(-8, 9))
        for index, place in enumerate(places.tolist()):
            near = top + int(rng.integers(-40, 41) >> rng.integers(1, 6))
            # Of an old sum all but a row without keys would shift nearly everything away.
            greatest = EMPTY if rng.random() < 0.1 or (opens and index < 3) else near if rng.random() < 0.8 else int(
                rng.integers(-65535, 65537))
            total = 0 if greatest == EMPTY else int(rng.integers(0, 1 << TOTAL_BITS) >> rng.integers(0, TOTAL_BITS))
            rows.append((cycle, place, int(rng.integers(0, ROWS)), int(index == 0), opens, factor, greatest, total))
            cycle += every + int(rng.integers(0, 3) * (rng.random() < 0.2))
        # First rows lie further apart than dividends are on their way.
        cycle += RowStates.APART + int(rng.integers(0, 5)) + (30 if len(places) * every < 30 else 0)
    return rows


def run(every, wait, rows):
    """Shifts as (cycle, row, amount), and the quotient of each row as soon as it can be read."""
    states, shifts, quotients = RowStates(ROWS, TOTAL_BITS, wait, every), [], []
    at = {row[0]: row for row in rows}
    settled = RowStates.settled_of(wait, every)

    async def drive(ctx):
        for cycle in range(rows[-1][0] + settled + 3):
            row = at.get(cycle)
            ctx.set(states.valid, row is not None)
            for name, field in (("row", 1), ("shift_row", 2), ("first", 3), ("opens", 4), ("dividend", 5)):
                ctx.set(getattr(states, name), row[field] if row else 0)
            ctx.set(states.greatest, at[cycle - 2][6] if cycle - 2 in at else 0)
            ctx.set(states.total, at[cycle - wait - 6][7] if cycle - wait - 6 in at else 0)
            ctx.set(states.quotient_row, at[cycle - settled][1] if cycle - settled in at else 0)
            if ctx.get(states.shifts.en):
                shifts.append((cycle, ctx.get(states.shifts.row), ctx.get(states.shifts.amount)))
            if cycle - settled - 2 in at:
                quotients.append(ctx.get(states.quotient))
            await ctx.tick()

    simulate(states, drive)
    return shifts, quotients


@pytest.mark.parametrize(("every", "wait"), [(1, 7), (2, 8), (5, 13)])
def test_states(rng, every, wait):
    """A state, shift, sum or quotient of another row or command, or one that was rounded otherwise, would show."""
    rows = random_rows(rng, every, 30)
    shifts, quotients = run(every, wait, rows)
    maxima, totals, wanted = np.full(ROWS, EMPTY), np.zeros(ROWS, np.int64), []
    moved = []
    for cycle, row, shift_row, _, opens, factor, greatest, total in rows:
        old, before = (EMPTY, 0) if opens else (int(maxima[row]), totals[row])
        new = max(old, greatest)
        d, dp = min(new - old, LARGEST_SHIFT), min(new - greatest, LARGEST_SHIFT)
        maxima[row], totals[row] = new, rshift(before, d) + rshift(total << 4, dp)
        wanted.append(int(quotient(np.uint32(factor).view(np.float32), totals[row]).view(np.uint32)))
        moved.append((cycle + 5, shift_row, d - dp))
    assert shifts == moved
    wrong = [index for index, pair in enumerate(zip(quotients, wanted, strict=True)) if pair[0] != pair[1]]
    assert not wrong, f"{len(wrong)} wrong, first of row {rows[wrong[0]]}: {quotients[wrong[0]]:08x}"
    assert any(amount > 0 for *_, amount in moved)
    assert any(amount < 0 for *_, amount in moved)


def test_rows_keep_their_distance():
    """The same row before its state has been written breaks a rule."""
    states = RowStates(ROWS, TOTAL_BITS, 7, 1)

    async def drive(ctx):
        for cycle in range(RowStates.APART + 30):
            ctx.set(states.valid, cycle in (0, RowStates.APART - 1))
            ctx.set(states.row, 3)
            await ctx.tick()

    with pytest.raises(AssertionError, match=r"sum_row: a row comes again before its state has been written"):
        simulate(states, drive)
