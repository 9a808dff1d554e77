"""LayerNorm and RMSNorm on the RTL: outputs, what the rules say, and the cycles and accesses that are predicted."""

import numpy as np
import pytest
from encoder_layers import layer_array
from kinds import SMALL
from norm_draws import drawn_norm, drawn_sum
from random_workloads import configuration

from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Disturbance, Job, run


def _run(operator, tensors, config, disturbance=None, engine="verilator"):
    """Run a program, compare what it stores, and return its counters and those that are predicted."""
    graph = Graph.of(operator, tensors)
    return _run_graph(graph, {name: tensors[name] for name in graph.inputs}, config, disturbance, engine)


def _run_graph(graph, inputs, config, disturbance=None, engine="verilator"):
    compiled = compile_graph(graph, config)
    placed = compiled.outputs["y"]
    outcome = run(Job(config, compiled.segments + compiled.bind(inputs), compiled.program_address,
                      [(placed.address, placed.nbytes)]), engine, disturbance=disturbance)
    np.testing.assert_array_equal(placed.from_bytes(outcome.regions[0]), compiled.graph.golden(inputs)["y"])
    return outcome.counters, predict(config, compiled.program)


def test_drawn_rows_equal_golden(seed):
    """The RTL gives golden's bytes for any shape and type, accesses as predicted, and cycles within 2 %.

    Or, if the memory stalls, whenever it is done: nothing may depend on which engine comes first.
    """
    config = SMALL["moves"]
    for number in range(20):
        rng = np.random.default_rng([seed, number, 3])
        operator, tensors = drawn_norm(rng)
        stalls = number % 2
        disturbance = Disturbance(stall=[0.1, 0.5][number // 2 % 2], seed=number) if stalls else None
        counters, expected = _run(operator, tensors, config, disturbance)
        assert {name: counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        assert stalls or abs(expected["cycles"] - counters["cycles"]) <= 0.02 * counters["cycles"]


def test_drawn_sums_equal_golden(seed):
    """Rows of two tensors' sums, which no memory ever holds, with a memory that stalls, too."""
    config = layer_array()
    for number in range(12):
        graph, inputs = drawn_sum(np.random.default_rng([seed, number, 4]), rows=[None, 9][number == 0],
                                  elements=[None, 500][number == 0])
        disturbance = Disturbance(stall=0.3, seed=number) if number % 2 else None
        counters, expected = _run_graph(graph, inputs, config, disturbance)
        assert {name: counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        assert disturbance or abs(expected["cycles"] - counters["cycles"]) <= 0.02 * counters["cycles"]


@pytest.mark.parametrize("elements", [1, 255, 768, 2048])
def test_long_rows_equal_golden(elements, rng):
    """Rows longer than the memories: parts of a row join, and gains are loaded as they are needed."""
    operator, tensors = drawn_norm(rng, elements, rows=9)
    counters, expected = _run(operator, tensors, SMALL["moves"])
    assert {name: counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
    assert abs(expected["cycles"] - counters["cycles"]) <= 0.02 * counters["cycles"]


def test_another_engine_gives_the_same(rng):
    """What the compiled model says is what the design says: a tiny array in Amaranth's own simulator."""
    config = configuration(rows=2, cols=2, lanes=2, activation=64, weight=64, output=64, channels=16, depth=8,
                           data_width=32, norms=1)
    operator, tensors = drawn_norm(rng, 5, rows=3)
    counters, expected = _run(operator, tensors, config, engine="amaranth")
    assert counters["cycles"] == expected["cycles"]
