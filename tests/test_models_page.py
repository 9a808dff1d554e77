"""The page of language models: that it holds what is computed and every run, and that no run is wrong."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def models():
    """The module that writes the page; it finds that of the benchmarks in its folder."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import models
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return models


@pytest.fixture(scope="module")
def text():
    return (ROOT / "docs" / "models.md").read_text()


def test_the_page_is_what_is_computed(models, text):
    """A number that was changed by hand, or a size that was changed in the code only, would stand there for ever."""
    runs = [line for line in text.split(f"## {models.HEADING}\n")[1].splitlines() if line.startswith("|")][2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in runs] == models.rows()
    assert text == models.page(runs)


def test_runs_are_right_and_near_the_limit(models, text):
    """A run with mismatches, or one that lost its speed, must not stand on the page unnoticed."""
    runs = re.findall(r"\| ([\d,]+) \| ([\d,]+) \| [\d.]+ % \| (\d+) of ([\d,]+) \|", text)
    assert len(runs) == len(models.RUNS)
    for cycles, limit, wrong, checked in ([int(cell.replace(",", "")) for cell in run] for run in runs):
        assert not wrong
        assert checked
        # What is causal walks blocks on the diagonal whole.
        assert cycles <= limit / 0.9
