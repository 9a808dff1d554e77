"""The example of a kind of array in a package of its own: it runs without a change to any file of pearray."""

import re

import numpy as np
import pytest
from example import EXAMPLE
from kinds import SMALL
from random_workloads import check_operator, conv, gemm, linear, lookup, max_pool, relu

import pearray as pe
from pearray.workloads.workload import load_workload


@pytest.fixture
def config():
    """The example's configuration."""
    return pe.load_config(EXAMPLE / "dot-8x8.toml").hardware


@pytest.mark.parametrize("maker", [gemm, linear, conv, max_pool, relu, lookup], ids=lambda maker: maker.__name__)
def test_operators(config, rng, maker):
    """A kernel that the example lowers wrongly would show students a compiler that is wrong."""
    done = [check_operator(rng, maker, config) for _ in range(8)]
    assert any(compiled is not None for compiled in done)


def _check(name, engine):
    """Run a workload on an array of fewer units, which other tests build as well."""
    config = SMALL["dot"]
    workload = load_workload(name, 0, {}, config)
    handle = pe.compile(workload.graph, workload.inputs, config)
    compiled, result = handle.compiled("all"), handle.run(workload.inputs, engine, "all")
    expected = workload.graph.golden(workload.inputs)
    assert result.outputs
    assert sum(layer.work for layer in compiled.layers) == result.counters["execute_active"]
    for tensor, values in result.outputs.items():
        np.testing.assert_array_equal(values, expected[tensor], tensor)


@pytest.mark.parametrize("name", ["gemm:64x64x64", "conv:1,6,13,13,10,3,3,2,1", "mnist"])
def test_on_rtl(name):
    """A plug-in whose hardware and compiler disagree gives wrong tensors."""
    _check(name, "verilator")


@pytest.mark.parametrize("engine", ["amaranth", "cocotb"])
def test_other_engines(engine):
    """An engine that knows pearray's own kinds only would fail for all others."""
    _check("gemm:5x19x11", engine)


def test_page_walks_through_every_file():
    """A file that the page does not explain is one that a newcomer has to guess; a name on it that is gone misleads."""
    page = (EXAMPLE.parents[1] / "docs" / "extending.md").read_text()
    named = set(re.findall(r"`(?:[\w/]+/)?(\w+\.py)`", page))
    files = {path.name for path in (EXAMPLE / "dot_array").glob("*.py")} - {"__init__.py"}
    assert files <= named
    assert {path.name for path in (EXAMPLE / "tests").glob("*.py")} - {"conftest.py"} <= named
    for path in re.findall(r"`((?:compiler|examples|tests)/[\w/]+(?:\.py)?)`", page):
        assert (EXAMPLE.parents[1] / path).exists(), path


def test_product_does_not_know_it():
    """An example for which pearray had been changed would show nothing."""
    for folder in ("boards", "compiler", "golden", "hdl", "pearray", "sim"):
        for path in (EXAMPLE.parents[1] / folder).rglob("*.py"):
            assert "dot_array" not in path.read_text(), path
