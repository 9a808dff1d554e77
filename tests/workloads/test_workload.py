"""Workloads: what they compute, and that their tensors follow from the seed as documented."""

import re

import numpy as np
import pytest

import pearray as pe
from pearray.golden import integer
from pearray.workloads.workload import load_workload


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


@pytest.mark.parametrize(("name", "operator", "shapes", "macs"), [
    ("linear-grad:5,7,3", pe.LinearGrad(), ((5, 7), (3, 7), (5, 3)), 2 * 5 * 7 * 3),
    ("conv-grad:2,3,5,6,4,2,3,2,1", pe.Conv2dGrad(stride=2, padding=1), ((2, 3, 5, 6), (4, 3, 2, 3), (2, 4, 3, 3)),
     2 * 2 * 9 * 4 * 3 * 6),
])
def test_gradients_draw_in_the_documented_order(name, operator, shapes, macs):
    """The same for x, w, dy, of which only w is part of the program."""
    rng, workload = np.random.default_rng(1), load_workload(name, 1)
    tensors = {role: rng.integers(-128, 128, shape, dtype=np.int8) for role, shape in zip(
        ("x", "w", "dy"), shapes, strict=True)}
    assert set(workload.inputs) == {"x", "dy"}
    assert workload.graph.macs(workload.graph.nodes[0]) == macs
    made = workload.graph.golden(workload.inputs)
    for role, expected in pe.golden_run(operator, tensors).items():
        np.testing.assert_array_equal(made[role], expected)
    with pytest.raises(pe.PearrayError, match=r"^workload 'linear-grad:5' must have the form linear-grad:N,IN,OUT"):
        load_workload("linear-grad:5")


@pytest.mark.parametrize(("name", "operator", "roles"), [
    ("layer-norm:5,24", pe.LayerNorm(x_scale=1 / 40, y_scale=1 / 40), ("gamma", "beta")),
    ("rms-norm:5,24", pe.RMSNorm(x_scale=1 / 40, y_scale=1 / 40), ("gamma",)),
])
def test_norms_draw_in_the_documented_order(name, operator, roles):
    """Rows over the full range, then gains about 1, then biases about 0, which are part of the program."""
    rng, workload = np.random.default_rng(1), load_workload(name, 1)
    tensors = {"x": rng.integers(-128, 128, (5, 24), dtype=np.int8)}
    tensors |= {role: rng.normal(role == "gamma", 0.1, 24).astype(np.float32) for role in roles}
    assert set(workload.inputs) == {"x"}
    made = workload.graph.golden(workload.inputs)["y"]
    np.testing.assert_array_equal(made, pe.golden_run(operator, tensors)["y"])
    assert 30 < made.std() < 50
    for sizes, message in (("5", "must have the form"), ("5,0", "D of workload")):
        with pytest.raises(pe.PearrayError, match=message):
            load_workload(f"{name.split(':')[0]}:{sizes}")
def test_multi_head_attention_draws_in_the_documented_order():
    """The same for x, w_q, b_q and so on, of which only x is given at run time; outputs hardly clip."""
    rng, workload = np.random.default_rng(2), load_workload("multi-head-attention:40,24,6", 2, {"kv_heads": 2})
    x, w_q, b_q, w_k = (rng.integers(-128, 128, shape, dtype=np.int8) for shape in ((40, 24), (24, 24), (24,), (8, 24)))
    np.testing.assert_array_equal(workload.inputs["x"], x)
    for name, value in (("w_q", w_q), ("b_q", b_q), ("w_k", w_k)):
        np.testing.assert_array_equal(workload.graph.constants[name], value)
    y = workload.graph.golden(workload.inputs)["y"]
    assert len(np.unique(y)) > 100
    assert np.mean(np.abs(y.astype(int)) > 126) < 0.02
    with pytest.raises(pe.PearrayError, match="H of workload 'multi-head-attention:4,6,4' must divide D = 6, not be 4"):
        load_workload("multi-head-attention:4,6,4")


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


@pytest.fixture(scope="module")
def chip():
    return pe.load_config("eyeriss").hardware


def test_alexnet_in_fixed_point(chip):
    """Zeros are those of the chip's table to a point in every layer, and no sum wraps; else its figures mean little."""
    workload = load_workload("alexnet-conv", 3, {"batch": 2}, chip)
    graph = workload.graph
    golden = graph.golden(workload.inputs)
    before, after = (0.0001, 0.387, 0.725, 0.793, 0.776), (0.387, 0.725, 0.793, 0.776, 0.80)
    for node, zeros, left in zip(graph.nodes, before, after, strict=True):
        x, w, b = (({**workload.inputs, **graph.constants})[node.inputs[role]] for role in "xwb")
        y = golden[node.outputs["y"]]
        assert {array.dtype for array in (x, w, b, y)} == {np.dtype(np.int16)}
        assert abs(np.mean(x == 0) - zeros) <= 1 / x.size
        assert abs(np.mean(y == 0) - left) < 0.01
        assert x.min() >= 0 or node.name == "conv1"
        assert len(np.unique(y)) >= 200
        # A sum that wrapped would differ from the exact one by 65,536; windows differ by less than one a product.
        operator = node.operator
        exact = integer.conv2d(x, w, stride=operator.stride, padding=operator.padding, groups=operator.groups,
                               acc_bits=48) / (1 << operator.requant.shift) + b[:, None, None]
        assert np.abs(exact).max() < 1 << 15
        assert np.max(np.maximum(exact, 0) - y) < w[0].size


def test_alexnet_has_a_share_of_zeros_in_each_channel(chip):
    """Each channel's bias is a quantile of its own sums, so that all channels are as sparse as the layer."""
    workload = load_workload("alexnet-conv", 0, None, chip)
    golden = workload.graph.golden(workload.inputs)
    for y, share in zip(golden.values(), (0.387, 0.725, 0.793, 0.776, 0.80), strict=True):
        zeros = np.mean(y == 0, axis=(0, 2, 3))
        assert np.all(np.abs(zeros - share) < 0.02)


@pytest.mark.parametrize("name", ["gemm:5x6x3", "conv:2,3,5,6,4,2,3,2,1", "linear:2,8,3"])
def test_fixed_point_forms(name, chip):
    """On an array of 16 bits the same forms draw words of 16 bits, in the same order."""
    workload = load_workload(name, 1, {"shift": 12}, chip)
    (node,) = workload.graph.nodes
    assert node.operator.requant == pe.FixedPoint(12)
    drawn = {**workload.inputs, **workload.graph.constants}
    rng = np.random.default_rng(1)
    for role in ("a", "b", "c") if "a" in drawn else ("x", "w", "b"):
        np.testing.assert_array_equal(drawn[role], rng.integers(-(1 << 15), 1 << 15, drawn[role].shape, np.int16))
    assert workload.graph.golden(workload.inputs)["y"].dtype == np.int16


def test_mapping(chip, tmp_path):
    """The mapping's source is passed on where there are mappings, and is an error where there are none."""
    file = tmp_path / "mapping.toml"
    file.write_text("")
    assert load_workload("gemm:5x6x3", config=chip).settings == {}
    for value in ("own", "paper", str(file)):
        given = {"mapping": value}
        assert load_workload("gemm:5x6x3", settings=given | {"shift": 3}, config=chip).settings == given


@pytest.mark.parametrize(("name", "settings", "config", "message"), [
    ("gemm:5x6x3", {"mapping": "own"}, "systolic-8x8",
     "unknown key of workload 'gemm:5x6x3' 'workload.mapping': "),
    ("gemm:5x6x3", {"out": "int8"}, "eyeriss", "workload.out must be 'int16', not 'int8'"),
    ("gemm:5x6x3", {"shift": 17}, "eyeriss", "shift must be an integer in 0..16, not 17"),
    ("gemm:5x6x3", {"shift": 3}, "systolic-8x8", "unknown key of workload 'gemm:5x6x3' 'workload.shift': "),
])
def test_mistakes(name, settings, config, message):
    """Settings of the other arithmetic or the other array are named, not ignored."""
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}"):
        load_workload(name, 0, settings, pe.load_config(config).hardware)


def test_single_sum():
    """One sum has no deviation to scale by."""
    load_workload("gemm:1x3x1")


def test_digits():
    """The built-in network takes real digits, as many as asked for."""
    pytest.importorskip("onnxruntime")
    workload = load_workload("mnist", settings={"batch": 3})
    assert [value.shape for value in workload.inputs.values()] == [(3, 1, 28, 28)]
    assert workload.labels.shape == (3,)
