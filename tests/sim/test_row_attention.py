"""Fused attention on the RTL of row-stationary arrays: its outputs, what its rules say, and accesses and cycles."""


import numpy as np
import pytest
from attention_draws import UNIT, drawn_attention, masked_runs, row_array
from random_workloads import operands
from slow import slow

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.row_stationary.accesses import accesses
from pearray.compiler.row_stationary.timeline import timeline
from pearray.sim.engine import Disturbance, Job, run

CONFIG = row_array("4x6")


def _run(operator, tensors, config=CONFIG, **options):
    """Run a program, compare what it stores, and return its counters."""
    graph = Graph.of(operator, tensors)
    compiled = compile_graph(graph, config)
    return _check(compiled, {name: tensors[name] for name in graph.inputs}, **options), compiled


def _check(compiled, inputs, engine="verilator", disturbance=None):
    """Run a compiled program, compare what it stores, and its cycles if memory never stalls; return its counters."""
    placed = compiled.outputs["y"]
    outcome = run(Job(compiled.config, compiled.segments + compiled.bind(inputs), compiled.program_address,
                      [(placed.address, placed.nbytes)]), engine, disturbance=disturbance)
    np.testing.assert_array_equal(placed.from_bytes(outcome.regions[0]), compiled.graph.golden(inputs)["y"])
    predicted = timeline(compiled.config, compiled.program).cycles
    assert disturbance or abs(predicted - outcome.cycles) <= 0.02 * outcome.cycles, (predicted, outcome.cycles)
    return outcome.counters


def test_drawn_attention_equals_golden(seed):
    """The RTL gives golden's bytes for any shape and mask, however the memory stalls, and accesses as predicted.

    So are cycles, within 2 %, if memory never stalls.
    """
    for number in range(16):
        operator, tensors = drawn_attention(np.random.default_rng([seed, number, 2]), CONFIG)
        disturbance = Disturbance(stall=[0.1, 0.5][number // 2 % 2], seed=number) if number % 2 else None
        counters, compiled = _run(operator, tensors, disturbance=disturbance)
        expected = accesses(CONFIG, compiled.program)
        assert {**{name: counters[name] for name in expected},
                "execute_macs": counters["execute_macs"] + counters["execute_gated"]} == expected
        assert expected["execute_macs"] == compiled.layers[0].work


def test_masks_of_runs_equal_golden(rng):
    """One program takes another mask at each run, in any form."""
    for _ in range(3):
        graph, runs = masked_runs(rng, CONFIG, 2)
        compiled = compile_graph(graph, CONFIG)
        for inputs in runs:
            _check(compiled, inputs)


def test_positions_equal_golden(rng):
    """A decoder's steps from one program: bounds of keys go up with the position, with numerators of two bytes, too."""
    tensors = {name: operands(rng, (2, 1 if name == "q" else 100, 24)) for name in "qkv"}
    for two_bytes in (False, True):
        operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 2, causal=True, window=60,
                                two_bytes=two_bytes)
        compiled = compile_graph(Graph.of(operator, {**tensors, "position": np.array(0)}), CONFIG)
        for position in (0, 47, 48, 99):
            _check(compiled, {**tensors, "position": np.array(position)})


def test_softmax_runs_under_products(rng):
    """If the array waited for softmax of each block, a longer attention would take twice as long."""
    sizes = {name: operands(rng, (2, 64, 24)) for name in "qkv"}
    counters, _ = _run(pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 4), sizes)
    assert counters["execute_active"] >= 0.9 * counters["cycles"]


@pytest.mark.parametrize("engine", [slow("cocotb"), "amaranth"])
def test_engines(rng, engine):
    """The other engines join and normalise as well, on an array that they soon build."""
    tensors = {"q": operands(rng, (1, 2, 2)), "k": operands(rng, (1, 3, 2)), "v": operands(rng, (1, 3, 2))}
    _run(pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 4), tensors, row_array("1x3"),
         engine=engine)
