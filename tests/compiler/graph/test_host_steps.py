"""What exported folders say of the host: enough to repeat it without pearray."""

import json
from functools import partial

import numpy as np
import pytest
from random_workloads import configuration

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.graph.host_steps import host_steps
from pearray.compiler.operators.edges import Given


def _repeated(step, x):
    """Compute a step from its description alone."""
    [(_, made)], given = step["types"].items(), step["parameters"]
    if step["operator"] == "Quantize":
        info = np.iinfo(made["dtype"])
        y = np.clip(np.rint(x / np.float32(given["scale"])) + given["zero_point"], info.min, info.max)
    else:
        assert step["operator"] == "Dequantize"
        y = (x.astype(np.float32) - np.float32(given["zero_point"])) * np.float32(given["scale"])
    return y.astype(made["dtype"]).reshape(made["shape"])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_edges_can_be_repeated_from_the_file(rng, tmp_path, dtype):
    """A host without pearray would quantise to another type, or not at all."""
    graph = pe.Graph()
    x = graph.input("x", (3, 10), np.float32)
    stored = graph.add("stored", pe.Quantize(0.05, dtype(2)), x=x)
    moved = graph.add("moved", pe.Transpose((1, 0)), x=stored)
    graph.output(graph.add("y", pe.Dequantize(0.05, dtype(2)), x=moved))
    compiled = compile_graph(graph, configuration())
    inputs = {"x": rng.standard_normal((3, 10)).astype(np.float32)}
    compiled.write(tmp_path, inputs)
    known, host = inputs | graph.golden(inputs), json.loads((tmp_path / "tensors.json").read_text())["host"]
    assert [step["operator"] for step in host["before"] + host["after"]] == ["Quantize", "Dequantize"]
    for step in host["before"] + host["after"]:
        [source], [name] = step["inputs"].values(), step["outputs"].values()
        np.testing.assert_array_equal(_repeated(step, known[source]), known[name])


def test_functions_are_told_from_what_a_file_states():
    """An address of memory in a file would look like a parameter, and be another at each export."""
    graph = Graph.of(Given(partial(np.negative), ("x",), (2,), np.dtype(np.int8)), {"x": np.zeros(2, np.int8)})
    [step] = host_steps(graph, graph.nodes)
    assert step["parameters"] is None
    json.dumps(step)
