"""The sweep of docs/bench_sweep.py: a slice of it on configurations that other tests build, and what it plans."""

import sys
from pathlib import Path

import pytest
from draws import DRAWS, draws_of
from kinds import SMALL

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sweep(monkeypatch):
    """The module, from the folder of documents, which is no package."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    import bench_sweep
    return bench_sweep


@pytest.mark.parametrize(("name", "count"), [
    ("moves", 1), *(pytest.param(name, 3, marks=pytest.mark.slow) for name in SMALL)])
def test_sweep(seed, sweep, name, count):
    """An operator would be wrong, refused for no reason, or hang on a small array with a disturbed memory."""
    names = draws_of(SMALL[name])
    cases, refused = sweep.check(SMALL[name], (seed,), dict.fromkeys(names, count))
    assert [case["operator"] for case in cases] == [each for each in names for _ in range(count)], f"{refused} refused"
    assert all(case["checked"] for case in cases)
    assert not [case for case in cases if case["mismatches"] or "error" in case]


def test_plan(sweep):
    """An operator that few configurations have the functions for would be drawn on them less often than others."""
    planned = sweep.plan(sweep.SEED, sweep.CONFIGURATIONS)
    runs = {}
    for number, names in enumerate(planned):
        for name, count in names.items():
            key = sweep.kind_of(number), name
            runs[key] = runs.get(key, 0) + count
    assert {name for _, name in runs} == set(DRAWS)
    assert min(runs.values()) >= sweep.RUNS
    # The corners of what is promised, and no kind left out.
    sides = {tuple(vars(sweep.draw_configuration(sweep.SEED, number).array)[side] for side in ("rows", "cols"))
             for number in range(sweep.CONFIGURATIONS)}
    assert {(1, 1), (64, 64), (64, 1), (1, 64)} <= sides
    assert {kind for kind, _ in runs} == {"systolic", "row-stationary", "dot"}
