"""Tensors that share memory, on the RTL, whatever the rhythm of the memory."""

import numpy as np
import pytest
from kinds import SMALL
from random_workloads import branches, network

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.sim import Disturbance, Job, run


@pytest.mark.parametrize("on", ["systolic-8x8", SMALL["row-stationary-8"]], ids=["systolic", "row-stationary"])
def test_stalls_change_nothing(rng, on):
    """No command waits for memory to be free: a reader that could be overtaken would show under stalls."""
    config = pe.load_config(on).hardware
    for draw in (branches, network, branches):
        graph, inputs = draw(rng)
        compiled = compile_graph(graph, config)
        regions = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
        expected = graph.golden(inputs)
        for stall in (0.0, 0.3, 0.8):
            task = Job(config, compiled.segments + compiled.bind(inputs), compiled.program_address, regions)
            outcome = run(task, disturbance=Disturbance(stall=stall, seed=int(rng.integers(1 << 30))))
            contents = dict(zip(task.read, outcome.regions, strict=True))
            for name in graph.outputs:
                found = compiled.extract(name, lambda address, length, contents=contents: contents[address, length])
                np.testing.assert_array_equal(found, expected[name])
