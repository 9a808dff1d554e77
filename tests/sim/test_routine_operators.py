"""Operators of floats by routines on the RTL, bit for bit golden's, in as many cycles as were foreseen."""

import numpy as np
import pytest
from drawn_floats import float_configuration, same_bits
from drawn_routines import OPERATORS, draw_operator
from training_steps import digit_step

import pearray as pe
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import compiler_for
from pearray.compiler.systolic.cost import EXACT, predict

#: That of the other quick tests of floats.
SYSTEM = float_configuration()


def run(operator, tensors):
    """Run an operator, all of whose tensors each run gives, and check its outputs; return the handle and the result."""
    # What a run is given must be finite.
    tensors = {role: np.where(np.isfinite(value), value, 1).astype(value.dtype) for role, value in tensors.items()}
    handle = pe.compile(operator, tensors, on=SYSTEM, effort=0, constants=())
    inputs = {role: np.asarray(tensors[role]) for role in Graph.of(operator, tensors, ()).inputs}
    result = handle.run(inputs)
    with np.errstate(all="ignore"):
        expected = handle.compiled().graph.golden(inputs)
    for name, found in result.outputs.items():
        assert same_bits(found, expected[name]), f"{name} of {operator}"
    return handle, result


@pytest.mark.parametrize("name", OPERATORS)
def test_rtl_equals_golden(rng, name):
    """A LOAD under a routine that reads its place, or registers that are lost between commands, show in some bit."""
    run(*draw_operator(rng, name))


def test_cycles_and_counters_are_predicted(rng):
    """A price of routines that is not the hardware's would mislead every choice between ways to run a graph."""
    for name in ("rounded", "loss", "pool_grad"):
        handle, result = run(*draw_operator(rng, name))
        program, hardware = handle.compiled().program, SYSTEM.hardware
        expected = predict(hardware, program)
        assert {each: result.counters[each] for each in EXACT} == {each: expected[each] for each in EXACT}
        # Bursts of one element each meet fetches and fills at the port of memory, and may go the other way round.
        near = 0.01 * result.cycles if name == "pool_grad" else 0
        assert abs(compiler_for(hardware).cycles(hardware, program) - result.cycles) <= near


@pytest.mark.slow
def test_a_step_of_training_is_one_program(rng):
    """What holds for operators one by one must hold between them: each reads what others have stored."""
    graph, inputs = digit_step(rng, 2)
    handle = pe.compile(graph, inputs, on=SYSTEM, effort=0)
    result = handle.run(inputs)
    expected = handle.compiled().graph.golden(inputs)
    for name in graph.outputs:
        assert same_bits(result.outputs[name], expected[name]), name
