"""Mappings of a row-stationary array from words, files and tables."""

import re

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.compiler.row_stationary.settings import read_mappings
from pearray.golden.row_stationary import Mapping

TABLE = {"m": 4, "n": 1, "e": 2, "p": 4, "q": 1, "r": 1, "t": 1}


@pytest.fixture(scope="module")
def graph():
    tensors = {"x": np.ones((1, 2, 4, 4), np.int16), "w": np.ones((4, 2, 3, 3), np.int16)}
    return Graph.of(pe.Conv2d(requant=pe.FixedPoint(0)), tensors)


def test_words_files_and_tables(graph, tmp_path):
    """All three must reach the compiler in one form."""
    assert read_mappings("own", graph) == {}
    assert read_mappings({"Conv2d": TABLE}, graph) == {"Conv2d": Mapping(**TABLE)}
    file = tmp_path / "mapping.toml"
    file.write_text("[Conv2d]\n" + "".join(f"{name} = {value}\n" for name, value in {**TABLE, "rows": 1}.items()))
    assert read_mappings(file, graph) == read_mappings(str(file), graph) == {"Conv2d": Mapping(**TABLE, rows=1)}


@pytest.mark.parametrize(("given", "message"), [
    ("mine", "mapping must be own, paper or the path of a file, not 'mine'"),
    (3, "mapping must be own, paper or the path of a file, not 3"),
    ({"Conv3d": TABLE}, "unknown layer of the mapping 'Conv3d': did you mean 'Conv2d'? allowed: Conv2d"),
    ({"Conv2d": 5}, "mapping of Conv2d must be a table of parameters, not 5"),
    ({"Conv2d": {**TABLE, "s": 2}}, "unknown parameter of the mapping of Conv2d 's': allowed: m, n, e, p, q, r, t, "),
    ({"Conv2d": {"m": 4}}, "n is missing from the mapping of Conv2d: it must be an integer of at least 1"),
    ({"Conv2d": {**TABLE, "q": 0}}, "mapping of Conv2d: q must be an integer of at least 1, not 0"),
])
def test_mistakes(graph, given, message):
    """A layer or parameter that is none would otherwise be ignored, and the run be taken for one with it."""
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}"):
        read_mappings(given, graph)


def test_file_that_is_no_toml(graph, tmp_path):
    """A corrupt file gives one line that names it."""
    file = tmp_path / "mapping.toml"
    file.write_text("[Conv2d\nm = ")
    message = f"^mapping {re.escape(repr(str(file)))} cannot be read as TOML: "
    with pytest.raises(pe.PearrayError, match=message) as caught:
        read_mappings(file, graph)
    assert "\n" not in str(caught.value)
