"""Output pixels of a channel side by side: what is computed, and when it is worth it."""

from dataclasses import replace

import numpy as np
from beside_layers import force, graph_of
from random_workloads import briefly, interpret, operands, random_configuration

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kinds import compiler_for
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.commands import Opcode


def test_drawn_layers(rng, monkeypatch):
    """Any window, stride, padding and cut: a pixel, weight or constant of a neighbour gives another sum."""
    taken = force(monkeypatch, rng)
    for _ in range(20):
        config = random_configuration(rng)
        config = replace(config, post=replace(config.post, transposed=1))
        try:
            interpret(*graph_of(rng, config.array.operand_bits), config, **briefly(config))
        except PearrayError as error:
            if not any(part in str(error) for part in ("can't hold", "must be")):
                raise
    assert len(taken) >= 6
    assert {plan.flat for plan in taken} == {False, True}
    assert any(plan.lines > 1 for plan in taken)


def _depthwise(rng, shape, overrides, run=True, **window):
    channels = shape[1]
    tensors = {"x": operands(rng, shape), "w": operands(rng, (channels, 1, 3, 3))}
    operator = pe.Conv2d(groups=channels, requant=pe.Requant.onnx(1.0, 0, 0.01, 0, 1.0, np.int8(1)), **window)
    graph = Graph.of(operator, tensors)
    config = pe.load_config("systolic-16x16", overrides).hardware
    if run:
        program = interpret(graph, {role: tensors[role] for role in graph.inputs}, config, **briefly(config)).program
    else:
        program = compile_graph(graph, config, **briefly(config)).program
    return program, compiler_for(config).cycles(config, program)


def _array_cycles(program):
    """Cycles of the array for the EXECUTEs of layers that lie side by side, on 16 rows."""
    executes = [command.body for command in program.commands if command.opcode is Opcode.EXECUTE]
    assert not any(body.get("diagonal") for body in executes)
    return sum(body["n_count"] * body["m_count0"] * body["m_count1"] * -(-body["k_total"] // 16) for body in executes)


def test_products_of_each_column(rng):
    """Fourteen outputs of a row see three tiles: more would let the array work for nothing, or wait for others."""
    program, cycles = _depthwise(rng, (1, 32, 28, 28), {}, padding=1)
    assert _array_cycles(program) <= 32 * 28 * 2 * 3
    assert cycles < 1.25 * 32 * 28 * 2 * 3
    assert cycles < 0.5 * _depthwise(rng, (1, 32, 28, 28), {"post.transposed": 0}, padding=1)[1]


def test_strides_see_rows_together(rng):
    """Of a stride of two, too, rows of outputs share rows of the input: each for itself sees two tiles for four."""
    program, _ = _depthwise(rng, (1, 144, 56, 56), {}, run=False, padding=1, stride=2)
    assert _array_cycles(program) < 0.8 * 144 * 28 * 28 / 4 * 2


def test_the_cheapest_is_taken(rng):
    """What is slower than the diagonal would be taken, or the diagonal where it is the slower."""
    for shape, window in (((1, 64, 25, 5), {"padding": 1}), ((1, 48, 7, 7), {"padding": 1}),
                          ((1, 16, 9, 9), {"padding": 1, "stride": 2}), ((2, 8, 12, 12), {"dilation": (2, 1)})):
        assert _depthwise(rng, shape, {}, **window)[1] <= _depthwise(rng, shape, {"post.transposed": 0}, **window)[1]
