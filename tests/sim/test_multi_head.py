"""Multi-head attention with its projections on the RTL, in one program."""

import numpy as np
from multi_head_draws import drawn_multi_head

from pearray import load_config
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Disturbance, Job, run


def test_drawn_cases_equal_golden(seed):
    """The RTL gives golden's bytes, with a memory that stalls, too, and accesses as predicted."""
    config = load_config("systolic-8x8").hardware
    for number in range(3):
        operator, tensors = drawn_multi_head(np.random.default_rng([seed, number, 2]), config)
        graph = Graph.of(operator, tensors)
        compiled = compile_graph(graph, config)
        inputs = {name: tensors[name] for name in graph.inputs}
        placed = compiled.outputs["y"]
        disturbance = Disturbance(stall=0.3, seed=number) if number % 2 else None
        outcome = run(Job(config, compiled.segments + compiled.bind(inputs), compiled.program_address,
                          [(placed.address, placed.nbytes)]), disturbance=disturbance)
        np.testing.assert_array_equal(placed.from_bytes(outcome.regions[0]), compiled.graph.golden(inputs)["y"])
        expected = predict(config, compiled.program)
        assert {name: outcome.counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
