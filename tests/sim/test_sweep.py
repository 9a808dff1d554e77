"""A slice of the sweep of docs/bench_sweep.py: random operators on one configuration, against golden."""

import sys
from pathlib import Path

import pytest
from drawn_graphs import GRAPHS
from kinds import SMALL

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("count", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_sweep(seed, monkeypatch, count):
    """An operator would be wrong, refused for no reason, or hang on a small array with a disturbed memory."""
    # The folder of documents is no package.
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    from bench_sweep import check

    cases, refused = check(SMALL["moves"], (seed,), count)
    assert len(cases) == count, f"{refused} refused"
    assert {name for name, drawn in GRAPHS.items() if drawn.needs} <= {case["operator"] for case in cases}
    assert all(case["checked"] for case in cases)
    assert not [case for case in cases if case["mismatches"] or "error" in case]
