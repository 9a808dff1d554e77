"""Figures of layers that overlap in time, on the RTL of both kinds of array."""

import numpy as np
import pytest
from kinds import SMALL
from random_workloads import briefly, network, operands

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor


def side_by_side(rng, first, second):
    """Graph of two products (M, K, N): one of sums that take memory long, and one of few outputs."""
    requant = pe.Requant.onnx(0.5, 1, 0.01, 0, 2.0, np.int8(3))
    nodes, inputs, weights = [], {}, {}
    for name, (m, k, n), operator in (("sums", first, pe.Linear()), ("bytes", second, pe.Linear(requant=requant))):
        nodes.append(Node(name, operator, {"x": f"{name}_x", "w": f"{name}_w"}, {"y": f"{name}_y"}))
        inputs[f"{name}_x"], weights[f"{name}_w"] = operands(rng, (m, k)), operands(rng, (n, k))
    tensors = {name: Tensor(name, value.shape, value.dtype) for name, value in inputs.items()}
    return Graph(nodes, tensors, weights, list(inputs), [node.outputs["y"] for node in nodes]), inputs


@pytest.mark.parametrize("name", ["systolic", "row-stationary-8"])
def test_a_layer_that_begins_before_the_last_one_has_ended(rng, name):
    """Its cycles would be counted for the layer whose outputs are on their way, and its utilisation exceed 100 %."""
    config = SMALL[name]
    busiest = 0
    for first, second in (((64, 8, 64), (16, 64, 16)), ((64, 8, 64), (32, 32, 32)), ((256, 4, 16), (8, 64, 8))):
        graph, inputs = side_by_side(rng, first, second)
        result = pe.run(graph, inputs, on=config)
        for output, expected in pe.golden_run(graph, inputs).items():
            np.testing.assert_array_equal(result.outputs[output], expected)
        assert sum(layer.cycles for layer in result.layers) == result.cycles
        assert all(layer.utilisation <= 1 for layer in result.layers)
        busiest = max(busiest, result.layers[1].utilisation)
    assert busiest > 0.2


@pytest.mark.parametrize("name", ["systolic", "row-stationary-8"])
def test_work_is_what_the_array_counts(rng, name):
    """If a layer's work were not what the array's counter tells, the next one would lend or borrow cycles for it."""
    config = SMALL[name]
    for _ in range(4):
        graph, inputs = network(rng)
        handle = pe.compile(graph, inputs, config, **briefly(config))
        compiled, counters = handle.compiled(), handle.run(inputs).counters
        counted = counters["execute_active"] if name == "systolic" else (
            counters["execute_macs"] + counters["execute_gated"])
        assert sum(layer.work for layer in compiled.layers) == counted
