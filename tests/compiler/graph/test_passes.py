"""The verifier of graphs, the passes it runs behind, and how a graph is printed."""

from dataclasses import replace

import numpy as np
import pytest
from random_workloads import branches, network, operands

import pearray as pe
from pearray.compiler.graph import passes
from pearray.compiler.graph.graph import Graph, Node, Quantisation, Tensor
from pearray.compiler.graph.passes import run_passes
from pearray.compiler.graph.passes.host import host_edges
from pearray.compiler.graph.passes.reshapes import reshapes_are_views
from pearray.compiler.graph.passes.types import quantised_types
from pearray.compiler.graph.verify import verify
from pearray.compiler.operators import Add, Conv2d, Dequantize, Gemm, Quantize, Relu, Requant, Reshape

INT8 = np.dtype(np.int8)


def _graph():
    """Images that are quantised, convolved, added to themselves, flattened, multiplied and dequantised."""
    rng = np.random.default_rng(1)
    nodes = [
        Node("quantize", Quantize(0.5, np.int8(3)), {"x": "image"}, {"y": "x"}),
        Node("conv", Conv2d(requant=Requant.onnx(0.5, 3, 1.0, 0, 0.25, np.int8(-4))), {"x": "x", "w": "w"}, {"y": "h"}),
        Node("add", Add(0.25, -4, 0.25, -4, 0.75, np.int8(7)), {"a": "h", "b": "h"}, {"y": "s"}),
        Node("flatten", Reshape((1, -1)), {"x": "s"}, {"y": "flat"}),
        Node("gemm", Gemm(requant=Requant.onnx(0.75, 7, 1.0, 0, 2.0, np.int8(1))), {"a": "flat", "b": "v"}, {"y": "z"}),
        Node("dequantize", Dequantize(2.0, np.int8(1)), {"x": "z"}, {"y": "real"})]
    constants = {"w": operands(rng, (3, 2, 1, 1)), "v": operands(rng, (12, 5))}
    return Graph(nodes, {"image": Tensor("image", (1, 2, 2, 2), np.dtype(np.float32))}, constants, ["image"], ["real"])


def test_types_hold_quantisation():
    """Whoever reads a tensor's scale from its type must find what its producers and readers state."""
    tensors = quantised_types(_graph()).tensors
    assert tensors["x"].quantisation == Quantisation(0.5, 3)
    assert tensors["h"].quantisation == Quantisation(0.25, -4)
    assert tensors["s"].quantisation == Quantisation(0.75, 7)
    assert tensors["z"].quantisation == Quantisation(2.0, 1)
    assert tensors["w"].quantisation is None
    assert _graph().tensors["x"].quantisation is None


def test_quantisation_that_differs_is_no_type():
    """Integers may be read with another scale than they were made with; a type that sided with one would be wrong."""
    graph = _graph()
    nodes = [replace(node, operator=Dequantize(3.0, np.int8(1))) if node.name == "dequantize" else node
             for node in graph.nodes]
    changed = quantised_types(graph.changed(nodes=nodes))
    assert changed.tensors["z"].quantisation is None
    verify(changed)


def test_the_edges_are_the_host_s():
    """What quantises in the middle of a graph is not the host's."""
    assert [node.name for node in host_edges(_graph()).nodes if node.on_host] == ["quantize", "dequantize"]
    graph = Graph([Node("one", Quantize(0.5, 0), {"x": "image"}, {"y": "x"}),
                   Node("two", Dequantize(0.5, 0), {"x": "x"}, {"y": "back"}),
                   Node("three", Quantize(0.25, 0), {"x": "back"}, {"y": "z"})],
                  {"image": Tensor("image", (1, 2), np.dtype(np.float32))}, {}, ["image"], ["z"])
    assert [node.name for node in host_edges(graph).nodes if node.on_host] == ["one"]


def test_reshapes_are_views_or_constants():
    """A reshape takes no command; of a constant it is known at compile time."""
    graph = reshapes_are_views(_graph())
    assert (graph.views, graph.source("flat")) == ({"flat": "s"}, "s")
    assert "flatten" not in {node.name for node in graph.nodes}
    rng = np.random.default_rng(0)
    b = operands(rng, (20,))
    made = Graph([Node("shape", Reshape((4, 5)), {"x": "b"}, {"y": "matrix"}),
                  Node("gemm", Gemm(), {"a": "a", "b": "matrix"}, {"y": "y"})],
                 {"a": Tensor("a", (3, 4), INT8)}, {"b": b}, ["a"], ["y"])
    changed = run_passes(made)
    np.testing.assert_array_equal(changed.constants["matrix"], b.reshape(4, 5))
    assert not changed.views


def test_passes_leave_what_is_computed(rng):
    """A pass may move work, never change it: golden of the graph before and of the nodes behind it agree."""
    for draw in (branches, network):
        graph, inputs = draw(rng)
        changed, golden = run_passes(graph), graph.golden(inputs)
        values = dict(changed.constants) | inputs
        for node in changed.nodes:
            given = {role: values[changed.source(name)].reshape(changed.tensors[name].shape)
                     if changed.source(name) != name else values[name] for role, name in node.inputs.items()}
            for role, value in node.operator.golden(given).items():
                values[node.outputs[role]] = value
        for name in graph.outputs:
            found = values[changed.source(name)]
            np.testing.assert_array_equal(found.reshape(golden[name].shape), golden[name])


def _change(graph, name, **fields):
    return graph.changed(nodes=[replace(node, **fields) if node.name == name else node for node in graph.nodes])


BREAKS = [
    (lambda graph: graph.changed(nodes=graph.nodes[1:]), "conv: tensor 'x' is read before it is made"),
    (lambda graph: graph.changed(nodes=graph.nodes[::-1]), "dequantize: tensor 'z' is read before it is made"),
    (lambda graph: graph.changed(nodes=[*graph.nodes, graph.nodes[-1]]), "dequantize: tensor 'real' is made twice"),
    (lambda graph: graph.changed(nodes=graph.nodes[:-1]), "output 'real' of the graph is made by no node"),
    (lambda graph: _change(graph, "conv", outputs={"y": "unknown"}), "conv: tensor 'unknown' has no type"),
    (lambda graph: _change(graph, "conv", operator=Relu(0), inputs={"x": "x"}),
     "conv: h must be int8 of shape (1, 2, 2, 2), not int8 of shape (1, 3, 2, 2)"),
    (lambda graph: graph.changed(constants=graph.constants | {"w": np.zeros((3, 2, 1, 2), np.int8)}),
     "constant w must be int8 of shape (3, 2, 1, 1), not int8 of shape (3, 2, 1, 2)"),
    (lambda graph: graph.changed(tensors=graph.tensors | {"h": Tensor("h", (1, 3, 2, 2), INT8, Quantisation(9.0, 0))}),
     "conv: h must be stored with scale 9.0 and zero point 0, as its type says, not with scale 0.25 and zero point -4"),
    (lambda graph: reshapes_are_views(graph).changed(views={"flat": "x"}),
     "view flat must have the elements of x, int8 of shape (1, 2, 2, 2), not be int8 of shape (1, 12)"),
]


@pytest.mark.parametrize(("break_", "message"), BREAKS)
def test_broken_graphs_are_refused(break_, message):
    """A pass that forgets a node or a type must be stopped behind it, not three levels further down."""
    verify(_graph())
    with pytest.raises(pe.PearrayError) as caught:
        verify(break_(_graph()))
    assert str(caught.value) == message


@pytest.mark.parametrize("place", range(len(passes.PASSES) + 1))
def test_the_verifier_runs_behind_each_pass(monkeypatch, place):
    """A fault of any pass must be found, wherever it stands."""
    found = list(passes.PASSES)
    found.insert(place, lambda graph: graph.changed(nodes=graph.nodes[1:]))
    monkeypatch.setattr(passes, "PASSES", tuple(found))
    with pytest.raises(pe.PearrayError, match=r"is read before it is made$"):
        run_passes(_graph())


def test_graphs_are_printed():
    """People read a level by its dump: each line must say what is made of what, and in which type."""
    assert str(run_passes(_graph())).splitlines() == [
        "input image: float32[1, 2, 2, 2]",
        "constant w: int8[3, 2, 1, 1]",
        "constant v: int8[12, 5]",
        "view flat: int8[1, 12] of s",
        "host quantize: x: int8[1, 2, 2, 2], scale 0.5 and zero point 3 = Quantize(x=image)",
        "conv: h: int8[1, 3, 2, 2], scale 0.25 and zero point -4 = Conv2d(x=x, w=w)",
        "add: s: int8[1, 3, 2, 2], scale 0.75 and zero point 7 = Add(a=h, b=h)",
        "gemm: z: int8[1, 5], scale 2.0 and zero point 1 = Gemm(a=flat, b=v)",
        "host dequantize: real: float32[1, 5] = Dequantize(x=z)",
        "output real",
    ]
