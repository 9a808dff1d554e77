"""The bound of random shapes: its parts against all there is to choose, and the whole against programs."""

import sys
from pathlib import Path

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.kinds import compiler_for
from pearray.workloads.workload import load_workload


@pytest.fixture(scope="module")
def bound():
    sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))
    try:
        return __import__("shape_bound")
    finally:
        sys.path.pop(0)


def _compositions(total):
    """All ways to read so many sums in POSTs, in order."""
    if not total:
        yield ()
    for first in range(1, total + 1):
        for rest in _compositions(total - first):
            yield (first, *rest)


@pytest.mark.parametrize("deep", [1, 3, 4, 5, 9])
def test_lanes_are_no_sooner(bound, deep):
    """A bound above the best of all orders of POSTs would be of no schedule, and one far below would say nothing."""
    groups = 4
    for sums in range(1, 14):
        found = []
        for posts in _compositions(sums):
            time, had = 0, 0
            for rows in posts:
                had += deep * rows
                # The first is accepted when its sums stand, each other a cycle behind the one before at least.
                time = max(time + (time > 0), had) + groups * rows
            found.append(time - groups * sums)
        least = bound._excess(deep, groups, sums)
        # The array's last sums say more where it is slower than lanes.
        assert min(found) - 2 - deep - (groups if deep > groups else 0) <= least <= min(found)


def test_the_last_sums_are_no_sooner(bound):
    """A last POST of few rows leaves the array waiting, or comes too soon behind the one before."""
    config = pe.load_config("systolic-8x8").hardware
    apart, best = 22, 1 << 30
    for last in range(1, 9):
        for tiles in range(1, 30):
            # All tiles behind the POST before have as many vectors as the last POST has rows.
            idle = (tiles - 1) * max(0, 8 - last)
            ends = tiles * last + idle
            best = min(best, max(ends, apart) + 4 * last - tiles * last)
    assert bound._left(config, 100) <= best
    assert best - bound._left(config, 100) <= 2


def test_programs_take_longer(bound, rng):
    """A program below the bound would prove it wrong."""
    system = pe.load_config("systolic-8x8")
    m, k, n = (int(size) for size in rng.integers(8, 33, 3))
    for name, product in (
            (f"gemm:{m}x{k}x{n}", bound.Product(m, k, n, k, False, m * k + k * n, m * n)),
            (f"conv:1,{k},2,{m},{n},1,1,1,0", bound.Product(2 * m, k, n, k, True, 2 * m * k + k * n, 2 * m * n))):
        made = load_workload(name, 0)
        compiled = pe.compile(made.graph, made.inputs, system).compiled()
        cycles = compiler_for(system.hardware).cycles(system.hardware, compiled.program, system.memory)
        assert bound.least_cycles(system.hardware, product) <= cycles, name


def test_more_work_takes_no_fewer_cycles(bound, rng):
    """A bound that falls as a product grows has a term that is none."""
    config = pe.load_config("systolic-8x8").hardware
    for _ in range(40):
        m, k, n = (int(size) for size in rng.integers(8, 200, 3))
        cycles = [bound.least_cycles(config, bound.Product(m + more, k, n, k, False, (m + more) * k, (m + more) * n))
                  for more in (0, 1, 8)]
        assert np.all(np.diff(cycles) >= 0), (m, k, n)
