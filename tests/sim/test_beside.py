"""Output pixels of a channel side by side on the RTL, against golden, and their time."""

import kinds
import numpy as np
import pytest
from beside_layers import force, graph_of
from slow import engines

from pearray.compiler.compile import compile_graph
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim import Disturbance
from pearray.sim.engine import Job, run

SMALL = kinds.SMALL["moves"]


def _run(rng, engine="verilator", stall=0.0):
    """Run a drawn layer, compare it with golden, and return its counters and those predicted."""
    graph, inputs = graph_of(rng, SMALL.array.operand_bits)
    compiled = compile_graph(graph, SMALL, effort=0)
    reads = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
    job = Job(SMALL, compiled.segments + compiled.bind(inputs), compiled.program_address, reads)
    outcome = run(job, engine, disturbance=Disturbance(stall=stall, seed=int(rng.integers(1 << 30))))
    contents = dict(zip(reads, outcome.regions, strict=True))
    made = compiled.extract("y", lambda address, length: contents[address, length])
    np.testing.assert_array_equal(made, graph.golden(inputs)["y"])
    return outcome.counters, predict(SMALL, compiled.program)


def test_layers(rng, monkeypatch):
    """Rows of pixels that stand elsewhere, or accesses and cycles that are not predicted."""
    taken, cycles = force(monkeypatch, rng), []
    for _ in range(12):
        counters, expected = _run(rng)
        exact = set(EXACT)
        if taken and taken[-1].passed:
            # A command that finds the one before in flight reads that many vectors fewer; single cycles decide that.
            exact.remove("execute_weight_read")
            assert (counters["execute_weight_read"] - expected["execute_weight_read"]) % (SMALL.array.rows - 2) == 0
        assert {name: counters[name] for name in exact} == {name: expected[name] for name in exact}
        cycles.append((expected["cycles"], counters["cycles"]))
    assert len(taken) >= 6
    predicted, counted = np.array(cycles).T
    assert (predicted == counted).sum() >= 6
    assert abs(predicted.sum() - counted.sum()) <= 0.02 * counted.sum()


def test_layers_under_stalls(rng, monkeypatch):
    """A row that is read before it is loaded, or written over before it is stored, shows when memory stalls."""
    taken = force(monkeypatch, rng)
    for _ in range(8):
        _run(rng, stall=float(rng.choice([0.1, 0.4, 0.8])))
    assert taken


@pytest.mark.parametrize("engine", engines("cocotb", "amaranth"))
def test_engines(rng, monkeypatch, engine):
    """Each engine runs the same commands, rules checked."""
    taken = force(monkeypatch, rng)
    while not taken:
        _run(rng, engine, stall=0.2)
