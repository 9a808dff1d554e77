"""The page of the lecture's models: that it holds what is computed and every run, and that no run is wrong."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def models():
    """The module that writes the page; it finds those of its parts in its folder."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import models
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return models


@pytest.fixture(scope="module")
def image_models(models):
    return sys.modules["image_models"]


@pytest.fixture(scope="module")
def others(models):
    """The module of the row-stationary array."""
    return sys.modules["row_stationary_models"]


@pytest.fixture(scope="module")
def text():
    return (ROOT / "docs" / "models.md").read_text()


def _lines(text, heading):
    """Lines of the table under a heading."""
    part = text.split(f"## {heading}\n")[1].split("\n#")[0]
    return [line for line in part.splitlines() if line.startswith("|")][2:]


def test_the_page_is_what_is_computed(models, image_models, others, text):
    """A number that was changed by hand, or a size that was changed in the code only, would stand there for ever."""
    images, rows, runs = (_lines(text, module.HEADING) for module in (image_models, others, models))
    assert [line.split(" | ")[0].removeprefix("| ") for line in images] == image_models.image_rows()
    assert [line.split(" | ")[0].removeprefix("| ") for line in runs] == models.rows()
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == others.row_stationary_rows(
        image_models.NETWORKS)
    assert text == models.page(images, rows, runs)


def test_estimates_of_the_row_stationary_array_are_near(image_models, others, text):
    """An estimate that has nothing to do with the RTL would stand for networks that are too long to be run."""
    for line, name in zip(_lines(text, others.HEADING), image_models.NETWORKS, strict=True):
        cells = line.removesuffix(" |").split(" | ")
        assert (cells[3] not in ("-", "")) == (name in others.MEASURED)
        if name in others.MEASURED:
            estimated, cycles = (int(cell.replace(",", "")) for cell in cells[2:4])
            assert abs(estimated / cycles - 1) < 0.05
            assert cells[6].startswith("0 of ")


def test_image_networks_are_those_of_the_lecture(image_models, text):
    """A network of other shapes, or a run with mismatches, would stand beside the deck's numbers like theirs."""
    for line, (name, _) in zip(_lines(text, image_models.HEADING), image_models.RUNS, strict=True):
        printed = image_models.NETWORKS[name]
        cells = line.split(" | ")
        assert cells[-2].startswith("0 of ")
        for count, told in ((cells[3], printed.weights), (cells[5], printed.macs)):
            if told != "-" and told != "1.43G":
                unit = {"M": 1e6, "G": 1e9}[told[-1]]
                digits = len(told.partition(".")[2][:-1])
                assert f"{float(count.replace(',', '')) / unit:.{digits}f}" == told[:-1]


def test_runs_are_right_and_near_the_limit(models, text):
    """A run with mismatches, or one that lost its speed, must not stand on the page unnoticed."""
    runs = re.findall(r"\| ([\d,]+) \| ([\d,]+) \| [\d.]+ % \| (\d+) of ([\d,]+) \|", text)
    assert len(runs) == len(models.RUNS)
    for cycles, limit, wrong, checked in ([int(cell.replace(",", "")) for cell in run] for run in runs):
        assert not wrong
        assert checked
        # What is causal walks blocks on the diagonal whole.
        assert cycles <= limit / 0.9
