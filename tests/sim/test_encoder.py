"""A whole encoder layer on the RTL, in one program."""

import numpy as np
from encoder_layers import drawn_layer, layer_array

from pearray.compiler.compile import compile_graph
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Disturbance, Job, run
from pearray.workloads.workload import load_workload


def test_layers_equal_golden(seed):
    """The RTL gives golden's bytes, with a memory that stalls, too, and accesses as predicted."""
    config = layer_array()
    for number in range(3):
        workload = drawn_layer(np.random.default_rng([seed, number, 1]), config) if number else load_workload(
            "encoder-layer:24,32,4,64", seed, {}, config)
        compiled = compile_graph(workload.graph, config)
        placed = compiled.outputs["y"]
        disturbance = Disturbance(stall=0.3, seed=number) if number % 2 else None
        outcome = run(Job(config, compiled.segments + compiled.bind(workload.inputs), compiled.program_address,
                          [(placed.address, placed.nbytes)]), disturbance=disturbance)
        np.testing.assert_array_equal(placed.from_bytes(outcome.regions[0]),
                                      compiled.graph.golden(workload.inputs)["y"])
        expected = predict(config, compiled.program)
        assert {name: outcome.counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        if disturbance is None:
            assert abs(expected["cycles"] - outcome.counters["cycles"]) <= 0.02 * outcome.counters["cycles"]
