"""Operators on accelerators of floats that run routines, through the functional model of programs."""

import numpy as np
from drawn_floats import float_configuration, same_bits

from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import interpreter

__all__ = ["check_graph", "check_operator", "routine_configuration", "run_graph"]


def routine_configuration(**overrides):
    """Return a small accelerator of bfloat16 with routines."""
    given = {"post__routines": 1, "scratchpads__vector_bytes": 2048, "post__lanes": 2} | overrides
    return float_configuration(**given)


def run_graph(graph, system, inputs):
    """Outputs of a graph's program in the functional model, and what was compiled."""
    compiled = compile_graph(graph, system.hardware, inputs=inputs, memory=system.memory, effort=0)
    model = interpreter(system.hardware, compiled.memory_bytes)
    model.write([*compiled.segments, *compiled.bind(inputs)])
    model.run(compiled.program_address)
    return {name: compiled.extract(name, model.read, inputs) for name in graph.outputs}, compiled


def check_graph(graph, system, inputs):
    """Compare every output of a graph with the golden model, bit by bit."""
    found, compiled = run_graph(graph, system, inputs)
    with np.errstate(all="ignore"):
        expected = compiled.graph.golden(inputs)
    for name in graph.outputs:
        assert same_bits(found[name], expected[name]), f"{name}: {np.count_nonzero(found[name] != expected[name])}"
    return compiled


def check_operator(operator, tensors, system, constants=()):
    """Compare an operator's outputs with its golden model."""
    graph = Graph.of(operator, tensors, constants)
    return check_graph(graph, system, {name: np.asarray(tensors[name]) for name in graph.inputs})
