"""Graphs that are built step by step, as users do from Python."""

import re

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.hdl.errors import PearrayError


def small(rng):
    """A network with two branches, a constant that two operators share, and an operator of two outputs."""
    graph = pe.Graph()
    x = graph.input("x", (1, 4, 6, 6), "int8")
    w = graph.constant("w", rng.integers(-9, 10, (4, 4, 3, 3), dtype=np.int8))
    convolution = pe.Conv2d(padding=1, requant=pe.Requant.onnx(0.1, 0, 0.1, 0, 0.5, 0), activation="relu")
    first = graph.add("first", convolution, x=x, w=w, b=np.arange(4, dtype=np.int32))
    second = graph.add("second", convolution, x=first, w=w, b=None)
    upper, lower = graph.add_several("halves", pe.Split(axis=1, sizes=(1, 3)), x=second)
    pooled = graph.add("pooled", pe.MaxPool2d(2, 2), x=lower)
    graph.output(pooled, upper)
    return graph


def test_the_same_as_a_graph_made_at_once(rng):
    """Otherwise what users build would not be what front ends hand over: names, order, types and constants."""
    graph = small(rng)
    made = Graph([Node(node.name, node.operator, node.inputs, node.outputs) for node in reversed(graph.nodes)],
                 {"x": Tensor("x", (1, 4, 6, 6), np.dtype(np.int8))}, graph.constants, ["x"],
                 ["pooled", "halves_y0"])
    assert str(graph) == str(made)
    assert [*graph.constants] == ["w", "first_b"]


def test_it_runs_as_one_program(rng):
    """Otherwise a graph of one's own could be built and not run; every name is its builder's."""
    graph = small(rng)
    x = rng.integers(-128, 128, (1, 4, 6, 6), dtype=np.int8)
    golden = pe.golden_run(graph, {"x": x}, keep="all")
    assert [*golden] == ["first", "second", "halves_y0", "halves_y1", "pooled"]
    result = pe.run(graph, {"x": x}, on="systolic-8x8")
    assert [*result.outputs] == ["pooled", "halves_y0"]
    for name, value in result.outputs.items():
        np.testing.assert_array_equal(value, golden[name], err_msg=name)


def test_a_handle_keeps_the_graph_that_it_was_made_of(rng):
    """Otherwise an operator that is added later would change what a compiled program is said to compute."""
    graph = small(rng)
    handle = pe.compile(graph, {"x": np.zeros((1, 4, 6, 6), np.int8)}, on="systolic-8x8")
    graph.output(graph.add("more", pe.MaxPool2d(2, 2), x="pooled"))
    assert handle.graph.outputs == ["pooled", "halves_y0"]
    assert "more" not in handle.graph.tensors


def test_edges_are_the_hosts(rng):
    """Quantised in front of the first operator and real behind the last; between two the message says where."""
    graph = pe.Graph()
    stored = graph.add("stored", pe.Quantize(0.02, np.int8(3)), x=graph.input("x", (2, 8), "float32"))
    sums = graph.add("sums", pe.Linear(), x=stored, w=rng.integers(-9, 10, (5, 8), dtype=np.int8))
    graph.output(graph.add("real", pe.Dequantize(0.3, 0), x=sums))
    x = rng.normal(0, 1, (2, 8)).astype(np.float32)
    result = pe.run(graph, {"x": x}, on="systolic-8x8")
    np.testing.assert_array_equal(result.outputs["real"], pe.golden_run(graph, {"x": x})["real"])
    between = graph.add("between", pe.Quantize(0.1, np.int8(0)), x=sums)
    graph.output(graph.add("last", pe.Linear(), x=between, w=np.ones((1, 5), np.int8)))
    with pytest.raises(PearrayError, match=r"^between: Quantize must stand at the edge of the graph, "):
        pe.run(graph, {"x": x}, on="systolic-8x8")


def test_constants_are_copied(rng):
    """Otherwise somebody who reuses an array would change the program's weights."""
    graph, w = pe.Graph(), rng.integers(-9, 10, (8, 5), dtype=np.int8)
    graph.add("y", pe.Linear(), x=graph.input("x", (2, 5)), w=w)
    kept = w.copy()
    w[:] = 0
    np.testing.assert_array_equal(graph.constants["y_w"], kept)


WRONG = [
    (lambda graph: graph.input("x", (1,)), "name 'x' is taken; give each tensor and operator one of its own"),
    (lambda graph: graph.input(3, (1,)), "name of a tensor must be a string that is not empty, not 3"),
    (lambda graph: graph.input("z", (0, 3)), "shape of input 'z' must be integers of at least 1, not (0, 3)"),
    (lambda graph: graph.input("z", "large"), "shape of input 'z' must be integers of at least 1, not 'large'"),
    (lambda graph: graph.input("z", (1 << 20, 1 << 20)), "input 'z' must have at most"),
    (lambda graph: graph.input("z", 4, "int7"),
     "dtype of input 'z' must be a type of numbers such as 'int8', not 'int7'"),
    (lambda graph: graph.input("z", 4, None), "dtype of input 'z' must be a type of numbers such as 'int8', not None"),
    (lambda graph: graph.constant("z", "abc"), "constant 'z' must be an array of numbers, not 'abc'"),
    (lambda graph: graph.add("y", "conv"), "y: operator must be one such as pearray.Conv2d(), not 'conv'"),
    (lambda graph: graph.add("y", pe.Conv2d(), x="q"),
     "y: tensor 'q' is made by no node before, and is no input of the graph"),
    (lambda graph: graph.add("y", pe.MaxPool2d(2), x="x", w="x"), "y: MaxPool2d has no tensor 'w'; it takes x"),
    (lambda graph: graph.add("y", pe.MaxPool2d(2)), "y: MaxPool2d needs a tensor 'x', got []"),
    (lambda graph: graph.add("x", pe.MaxPool2d(2), x="x"), "name 'x' is taken"),
    (lambda graph: graph.add("y", pe.Split(axis=1, sizes=(2, 2)), x="x"),
     "y: Split makes y0, y1; add it by add_several"),
    (lambda graph: graph.add("y", pe.Conv2d(), x="x", w=[["a"]]),
     "y: w must be the name of a tensor or an array of numbers"),
    (lambda graph: graph.add_several("", pe.Split(axis=1, sizes=(2, 2)), x="x"),
     "name of a tensor must be a string that is not empty, not ''"),
    (lambda graph: graph.output("x"), "output 'x' of the graph is made by no node"),
    (lambda graph: pe.golden_run(graph, {}),
     "the graph must have an output; name those that runs return by Graph.output"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=range(len(WRONG)))
def test_what_is_refused_leaves_the_graph_as_it_was(wrong, message):
    """Otherwise a user who mends a mistake in a session would find half of it in the graph."""
    graph = pe.Graph()
    graph.input("x", (1, 4, 6, 6))
    before = str(graph)
    with pytest.raises(PearrayError, match="^" + re.escape(message)):
        wrong(graph)
    assert str(graph) == before
    assert [*graph.tensors] == ["x"]
    assert not graph.nodes
