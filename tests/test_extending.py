"""The example of a kind of array in a package of its own: it runs without a change to any file of pearray."""

import importlib
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from random_workloads import check_operator, conv, gemm, linear, lookup, max_pool, relu

import pearray as pe
from pearray.api import compiled_for, run_compiled
from pearray.compiler import kinds as compilers
from pearray.hdl.kinds import kinds as hardware
from pearray.workloads.workload import load_workload

EXAMPLE = Path(__file__).parents[1] / "examples" / "dot_array"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install the example as pip would: its folder on the path, and its table of entry points beside it."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    described = tmp_path / "pearray_dot_array-0.1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n")
    (described / "entry_points.txt").write_text("".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()))
    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    _forget()
    yield pe.load_config(EXAMPLE / "dot-8x8.toml")
    _forget()
    for name in [name for name in sys.modules if name.partition(".")[0] == "dot_array"]:
        del sys.modules[name]


def _forget():
    hardware.cache_clear()
    for value in vars(compilers).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()


@pytest.mark.parametrize("maker", [gemm, linear, conv, max_pool, relu, lookup], ids=lambda maker: maker.__name__)
def test_operators(installed, rng, maker):
    """A kernel that the example lowers wrongly would show students a compiler that is wrong."""
    done = [check_operator(rng, maker, installed) for _ in range(8)]
    assert any(compiled is not None for compiled in done)


def _check(config, name, engine):
    workload = load_workload(name, 0, {}, config)
    compiled = compiled_for(workload.graph, config, workload.inputs)
    result = run_compiled(compiled, workload.inputs, engine, "all")
    expected = workload.graph.golden(workload.inputs)
    assert result.outputs
    assert sum(layer.work for layer in compiled.layers) == result.counters["execute_active"]
    for tensor, values in result.outputs.items():
        np.testing.assert_array_equal(values, expected[tensor], tensor)


@pytest.mark.parametrize("name", ["gemm:64x64x64", "conv:1,6,13,13,10,3,3,2,1", "mnist"])
def test_on_rtl(installed, name):
    """A plug-in whose hardware and compiler disagree gives wrong tensors."""
    _check(installed, name, "verilator")


@pytest.mark.parametrize("engine", ["amaranth", "cocotb"])
def test_other_engines(installed, engine):
    """An engine that knows pearray's own kinds only would fail for all others."""
    _check(installed, "gemm:5x19x11", engine)
