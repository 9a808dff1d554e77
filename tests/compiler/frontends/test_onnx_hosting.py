"""Networks of which onnxruntime computes parts on the host, against onnxruntime on the whole file."""

import re

import numpy as np
import onnx
import pytest
from hosted_networks import NETWORKS, drawn
from onnx_chain import dequantised, stored
from onnx_models import draw, make_model
from onnx_whole import differences, reference

import pearray as pe
from pearray.compiler.graph.parts import crossings, parts_of
from pearray.compiler.operators import Hosted
from pearray.parts import host_work


def _saved(model, folder):
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return path


def _compared(path, inputs, fallback="host"):
    """Compare every tensor with onnxruntime; return the graph."""
    graph = pe.load_onnx(path, fallback=fallback).graph_for(inputs)
    names = [name for node in graph.nodes for name in node.outputs.values()]
    (tensors, _, wrong), _ = differences(graph, inputs, reference(path, inputs, names))
    assert tensors
    assert not wrong
    return graph


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_equals_onnxruntime(rng, tmp_path, name):
    """Parts that are cut elsewhere than at stored tensors, or in another order, compute another network."""
    model, inputs = drawn(name, rng)
    graph = _compared(_saved(model, tmp_path), inputs)
    assert "".join("H" if part.on_host else "A" for part in parts_of(graph)) == NETWORKS[name][1]


def test_stored_tensors_alone_cross(rng, tmp_path):
    """A program knows integers only: real numbers that crossed would be read as something else."""
    for name in NETWORKS:
        model, inputs = drawn(name, rng)
        found = crossings(parts_of(pe.load_onnx(_saved(model, tmp_path), fallback="host").graph_for(inputs)))
        graph = pe.load_onnx(_saved(model, tmp_path), fallback="host").graph_for(inputs)
        for each in found:
            tensor = graph.tensors[each.name]
            assert tensor.dtype == np.int8
            assert each.nbytes == np.prod(tensor.shape)


def test_what_the_host_shares_is_not_taken_from_programs(rng, tmp_path):
    """A convolution that stands beside what is refused is no work of the host's."""
    model, inputs = drawn("shared", rng)
    work = host_work(pe.load_onnx(_saved(model, tmp_path), fallback="host").graph_for(inputs))
    assert work.macs == 0
    assert work.share == 1
    assert [(kind.operator, kind.count) for kind in work.kinds if kind.refused] == [("CumSum", 1)]
    assert "not supported" in work.kinds[0].why


def test_products_of_the_host_are_counted(rng, tmp_path):
    """A share of the accelerator that passes over products on the host would always be 1."""
    x, w = draw(rng, (1, 3, 5, 6), np.int8), rng.normal(0, 1, (4, 3, 3, 3)).astype(np.float32)
    constants = {"x_s": np.float32(0.02), "x_z": np.int8(1), "w": w, "y_s": np.float32(0.1), "y_z": np.int8(0)}
    model = make_model([dequantised("x"), ("Conv", ["x_d", "w"], ["f"], {}), stored("f", "y")], {"x": x}, ["y"],
                       constants, 17)
    work = host_work(_compared(_saved(model, tmp_path), {"x": x}))
    assert work.macs == 4 * 3 * 4 * 27
    assert work.share == 0
    assert work.programs == 0


def test_branches_read_what_stands_outside(rng, tmp_path):
    """A node of branches has operands that it does not list."""
    x = draw(rng, (2, 3), np.int8)
    branches = [onnx.helper.make_graph(
        [onnx.helper.make_node(kind, ["x_d", "k"], [f"{kind}_out"])], kind, [],
        [onnx.helper.make_tensor_value_info(f"{kind}_out", onnx.TensorProto.FLOAT, (2, 3))]) for kind in ("Add", "Mul")]
    constants = {"x_s": np.float32(0.02), "x_z": np.int8(1), "k": np.float32(0.7), "y_s": np.float32(0.02),
                 "y_z": np.int8(0), "limit": np.float32(0)}
    nodes = [dequantised("x"), ("ReduceMax", ["x_d"], ["top"], {"keepdims": 0}),
             ("Greater", ["top", "limit"], ["c"], {}),
             ("If", ["c"], ["f"], {"then_branch": branches[0], "else_branch": branches[1]}), stored("f", "y")]
    _compared(_saved(make_model(nodes, {"x": x}, ["y"], constants, 17), tmp_path), {"x": x})


def test_exact_leaves_what_is_within_a_bound(rng, tmp_path):
    """Who asks for onnxruntime's bits gets them, of normalisation, too."""
    x = draw(rng, (5, 33), np.int8)
    constants = {"x_s": np.float32(0.03), "x_z": np.int8(4), "g": rng.normal(1, 0.2, 33).astype(np.float32),
                 "b": rng.normal(0, 0.2, 33).astype(np.float32), "y_s": np.float32(0.02), "y_z": np.int8(0)}
    nodes = [dequantised("x"), ("LayerNormalization", ["x_d", "g", "b"], ["f"], {}), stored("f", "y")]
    path = _saved(make_model(nodes, {"x": x}, ["y"], constants, 17), tmp_path)
    graph = pe.load_onnx(path, fallback="host").graph_for({"x": x})
    assert [node.operator.kind for node in graph.nodes] == ["LayerNorm"]
    graph = _compared(path, {"x": x}, "exact")
    assert [type(node.operator) for node in graph.nodes] == [Hosted]


def test_a_refusal_names_the_option(rng, tmp_path):
    """Who does not know that there is a way out must take the network apart."""
    model, inputs = drawn("twice", rng)
    with pytest.raises(pe.PearrayError, match=r"2 nodes cannot be mapped\. CumSum \(2 nodes, .*--fallback host"):
        pe.load_onnx(_saved(model, tmp_path)).graph_for(inputs)


@pytest.mark.parametrize("fallback", ["Host", "", 1, True])
def test_only_known_fallbacks(tmp_path, fallback):
    """A word that is passed over would refuse the network, or leave it to the host unasked."""
    with pytest.raises(pe.PearrayError, match=re.escape(f"fallback must be 'host' or 'exact', not {fallback!r}")):
        pe.load_onnx(tmp_path / "model.onnx", fallback=fallback)


def test_shapes_that_follow_from_values_are_refused_at_the_run(rng, tmp_path):
    """A part whose shapes change from run to run would be read at places where nothing stands."""
    x = np.zeros((1, 6), np.float32)
    constants = {"y_s": np.float32(0.02), "y_z": np.int8(0), "count": np.array([2], np.int64)}
    nodes = [("Unique", ["x"], ["u"], {}), stored("u", "y")]
    model = pe.load_onnx(_saved(make_model(nodes, {"x": x}, ["y"], constants, 17), tmp_path), fallback="host")
    graph = model.graph_for({"x": x})
    assert graph.golden({"x": x})["y"].shape == (1,)
    with pytest.raises(pe.PearrayError, match="no shape may follow from values"):
        graph.golden({"x": np.arange(6, dtype=np.float32).reshape(1, 6)})
