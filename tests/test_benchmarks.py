"""The page of benchmarks: that it holds what is measured and nothing else, and that the README quotes it."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bench():
    """The module that writes the page; it and its parts find one another in their folder."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import bench
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return bench


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs" / "benchmarks.md").read_text()


PARTS = ["attention", "breadth", "cells", "compile", "cost", "decoder", "demo", "encoder", "errors", "eyeriss",
         "generation", "interpolation", "minilm", "products", "sentences", "shapes", "simulation", "speed", "sweep",
         "vector"]


def test_parts(bench):
    """A part that no test names would never be compared with the page."""
    assert sorted(bench.PARTS) == PARTS


@pytest.mark.parametrize("name", PARTS)
def test_page_holds_every_row(bench, page, name):
    """A row that is measured but not on the page, or the other way, is a figure that nobody can repeat."""
    part = bench.PARTS[name]
    assert bench.first_cells(page, part.heading) == part.rows, f"run `python docs/bench.py --only {name}`"


def test_nothing_is_missed_without_a_word(page):
    """A goal that is missed, or a row that is an error, must not stand on the page unnoticed."""
    assert "missed**" not in page
    assert "too few" not in page


def test_ledger_that_does_not_add_up_is_an_error(bench):
    """A cycle that no cause has, in a run as long as those of the page, would never be noticed."""
    layer = {"name": "conv", "cycles": 5, "ledger": {"useful": 3, "padding": 2}}
    whole = {"cycles": 5, "ledger": {"useful": 3, "padding": 2}, "layers": [layer]}
    assert bench.unbalanced(whole) == {}
    assert bench.unbalanced({"cycles": 5}) == {}
    assert bench.unbalanced(whole | {"cycles": 6}) == {"error": "ledger of the run adds up to 5, not 6 cycles"}
    assert bench.unbalanced(whole | {"layers": [layer | {"cycles": 4}]}) == {
        "error": "ledger of conv adds up to 5, not 4 cycles"}


def test_readme_quotes_the_page(bench, page):
    """Figures of the README that no command prints any more send newcomers looking for a fault of their own."""
    heading = bench.PARTS["demo"].heading
    row = page.split(f"## {heading}\n")[1].split("\n## ")[0].strip().splitlines()[-1]
    _, digits, right, cycles, _, mismatches, _ = (cell.strip() for cell in row.strip("|").split("|"))
    wrong, elements = mismatches.split(" of ")
    readme = (ROOT / "README.md").read_text()
    assert f"accuracy {right} of {digits} = " in readme
    assert f"{wrong} mismatches with NumPy in {elements} elements; {cycles} cycles a digit" in readme
    assert re.search(rf"^{digits} digits on systolic-8x8", readme, re.MULTILINE)
