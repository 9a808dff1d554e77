"""Tensors that stay on chip, on the RTL: results, accesses as predicted, and cycles."""

from types import SimpleNamespace

import numpy as np
import pytest
from kinds import PROGRAMS
from random_workloads import branches, network, operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.systolic import arrange
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim import run
from pearray.sim.engine import Job

SMALL = next(kind for kind in PROGRAMS if kind.name == "moves").small


@pytest.mark.parametrize("keep", ["outputs", "all"])
@pytest.mark.parametrize("make", [network, lambda rng: branches(rng, 6)], ids=["network", "branches"])
def test_drawn_networks(rng, make, keep):
    """Timing that the interpreter does not know could let a reader overtake a MOVE, or other beats be predicted."""
    graph, inputs = make(rng)
    compiled = compile_graph(graph, SMALL, keep)
    reads = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
    outcome = run(Job(SMALL, compiled.segments + compiled.bind(inputs), compiled.program_address, reads))
    contents, expected = dict(zip(reads, outcome.regions, strict=True)), graph.golden(inputs)
    for name in compiled.outputs:
        np.testing.assert_array_equal(compiled.extract(name, lambda *place: contents[place]), expected[name], name)
    predicted = predict(SMALL, compiled.program)
    assert {name: outcome.counters[name] for name in EXACT} == {name: predicted[name] for name in EXACT}
    assert predicted["moved_beats"] == outcome.counters["moved_beats"]
    assert abs(predicted["cycles"] - outcome.counters["cycles"]) <= 0.03 * outcome.counters["cycles"]


def test_figures_of_layers_in_strips(rng, monkeypatch):
    """Layers that take turns would be charged one another's cycles, or cycles be lost between them."""
    monkeypatch.setattr(arrange, "timeline", lambda *_: SimpleNamespace(cycles=0))
    x, weights = operands(rng, (1, 4, 16, 16)), operands(rng, (2, 4, 4, 3, 3))
    requant = pe.Requant.onnx(1.0, 0, 0.0002, 0, 1.0, np.int8(3))
    nodes = [Node(name, pe.Conv2d(padding=1, requant=requant), {"x": source, "w": f"w{name}"}, {"y": made})
             for name, source, made in (("a", "x", "t"), ("b", "t", "y"))]
    graph = Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, {"wa": weights[0], "wb": weights[1]}, ["x"], ["y"])
    result = pe.run(graph, {"x": x}, on=SMALL)
    np.testing.assert_array_equal(result.outputs["y"], graph.golden({"x": x})["y"])
    assert compile_graph(graph, SMALL).program.counts["move"] > 0
    assert sum(layer.cycles for layer in result.layers) == result.cycles
