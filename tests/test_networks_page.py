"""The page of public networks: that it has all of them, and that what it says is so."""

import sys
from pathlib import Path

import pytest
from slow import slow

pytest.importorskip("torch")

from torch_networks import NETWORKS as OF_TORCH

ROOT = Path(__file__).parents[1]

#: Small networks in one form each, one of which has a part on the host.
QUICK = [("squeezenet", "QOperator s8s8"), ("unet", "QOperator s8s8")]


@pytest.fixture(scope="module")
def networks():
    """The module that writes the page."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import networks
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return networks


@pytest.fixture(scope="module")
def rows():
    """Cells of the rows of both tables by network and form."""
    text = (ROOT / "docs" / "networks.md").read_text()
    tables = [[line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")][1:]
              for part in text.split("## On RTL")]
    return [{(cells[0], cells[1]): cells for cells in table} for table in tables]


def test_the_page_has_every_network(networks, rows):
    """A network that stops the census would be missing, and nobody would see it."""
    census, runs = rows
    assert [*census] == [(name, form) for name in networks.NETWORKS for form in networks.FORMS]
    assert [*runs] == networks.ON_RTL


def test_what_differs_has_a_reason(rows):
    """What is not equal to onnxruntime must not stand there as if it were."""
    census, runs = rows
    for cells in census.values():
        if "fails" not in cells[2]:
            # Where nothing differs, there is nothing for `exact` to mend.
            assert cells[-1] == ("-" if cells[-3] == "0" else "0"), cells
            assert cells[-3] == "0" or cells[-2] != "-", cells
    assert all(cells[-1] == "0" for cells in runs.values())


def _same(networks, rows, name, form, folder):
    """Compare a row with the page's."""
    assert networks.census_row(name, form, folder).strip("| ").split(" | ") == rows[0][name, form]


@pytest.mark.parametrize(("name", "form"), QUICK)
def test_small_networks_are_as_the_page_says(networks, rows, tmp_path, name, form):
    """An importer that refuses more than it did would be noticed when the page is next written."""
    _same(networks, rows, name, form, tmp_path)


@pytest.mark.parametrize("name", [slow(name) for name in OF_TORCH])
def test_all_networks_of_torch_are_as_the_page_says(networks, rows, tmp_path, name):
    """As before, for all of those that need no package but PyTorch."""
    for form in networks.FORMS:
        _same(networks, rows, name, form, tmp_path)
