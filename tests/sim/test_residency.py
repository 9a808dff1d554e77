"""Tensors that stay on chip, on the RTL: results, accesses as predicted, and cycles."""

import numpy as np
import pytest
from kinds import PROGRAMS
from random_workloads import branches, network

from pearray.compiler.compile import compile_graph
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
