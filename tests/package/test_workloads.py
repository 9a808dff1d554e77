"""Workloads: what they compute, and that their tensors follow from the seed as documented."""

import numpy as np
import pytest

import pearray as pe
from pearray.workloads import load_workload


def test_gemm_draws_in_the_documented_order():
    """Whoever repeats a run elsewhere draws a, b, c from the same generator in this order."""
    rng = np.random.default_rng(7)
    a, b, c = (rng.integers(-128, 128, shape, dtype=np.int8) for shape in ((5, 6), (6, 3), (3,)))
    workload = load_workload("gemm:5x6x3", 7)
    assert set(workload.inputs) == {"a", "b", "c"}
    np.testing.assert_array_equal(workload.inputs["a"], a)
    np.testing.assert_array_equal(workload.inputs["b"], b)
    np.testing.assert_array_equal(workload.inputs["c"], c)
    sums = a.astype(np.int32) @ b.astype(np.int32) + c
    scale = np.float32(1) / np.float32(np.std(sums) / 40)
    expected = np.clip(np.rint(sums.astype(np.float32) * scale), -128, 127)
    np.testing.assert_array_equal(workload.graph.golden(workload.inputs)["y"], expected)


def test_convolution_draws_in_the_documented_order():
    """The same for x, w, b, of which only x is given at run time."""
    rng = np.random.default_rng(1)
    x, w, b = (rng.integers(-128, 128, shape, dtype=np.int8) for shape in ((2, 3, 5, 6), (4, 3, 2, 3), (4,)))
    workload = load_workload("conv:2,3,5,6,4,2,3,2,1", 1, {"out": "int32"})
    assert set(workload.inputs) == {"x"}
    np.testing.assert_array_equal(workload.inputs["x"], x)
    expected = pe.golden_run(pe.Conv2d(stride=2, padding=1), {"x": x, "w": w, "b": b.astype(np.int32)})["y"]
    np.testing.assert_array_equal(workload.graph.golden(workload.inputs)["y"], expected)


def test_settings():
    """Settings change what they say, and nothing else."""
    assert load_workload("gemm:4x5x6", settings={"trans_a": True}).inputs["a"].shape == (5, 4)
    assert load_workload("gemm:4x5x6", settings={"trans_b": True}).inputs["b"].shape == (6, 5)
    assert "c" not in load_workload("gemm:4x5x6", settings={"bias": False}).inputs
    assert load_workload("conv:1,2,4,4,3,1,1,1,0", settings={"batch": 5}).inputs["x"].shape == (5, 2, 4, 4)
    assert load_workload("linear:2,8,3").graph.tensors["y"].shape == (2, 3)


def test_alexnet():
    """Five layers as published, each with inputs of its own and outputs of many distinct values."""
    workload = load_workload("alexnet-conv")
    graph = workload.graph
    assert [graph.macs(node) for node in graph.nodes] == [105_415_200, 223_948_800, 149_520_384, 112_140_288,
                                                          74_760_192]
    assert len(graph.inputs) == len(graph.outputs) == 5
    for value in graph.golden(workload.inputs).values():
        assert len(np.unique(value)) >= 200
        assert np.mean(value == 127) < 0.01


def test_single_sum():
    """One sum has no deviation to scale by."""
    load_workload("gemm:1x3x1")


def test_digits():
    """The built-in network takes real digits, as many as asked for."""
    pytest.importorskip("onnxruntime")
    workload = load_workload("mnist", settings={"batch": 3})
    assert [value.shape for value in workload.inputs.values()] == [(3, 1, 28, 28)]
    assert workload.labels.shape == (3,)
