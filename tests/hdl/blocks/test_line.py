# amaranth: UnusedElaboratable=no
"""Delay lines in memories."""

import pytest

from pearray.hdl.blocks.line import Line
from pearray.sim.pysim import simulate


@pytest.mark.parametrize("cycles", [1, 2, 3, 4, 5, 9, 10, 17])
def test_values_come_later(rng, cycles):
    """A place too few, or a read of what has not been written yet, would bring another value."""
    line, given, found = Line(7, cycles), rng.integers(0, 128, 60 + cycles).tolist(), []

    async def drive(ctx):
        for value in given:
            ctx.set(line.i, value)
            found.append(ctx.get(line.o))
            await ctx.tick()

    simulate(line, drive)
    assert found[cycles:] == given[:-cycles]
