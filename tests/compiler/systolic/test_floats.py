"""Programs of floats in the interpreter, whose every bit must be the golden model's."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_floats import FORMATS, OPERATORS, draw_float_operator, float_configuration, same_bits

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.graph.passes import run_passes
from pearray.compiler.kernels.context import Context
from pearray.compiler.kernels.conv import conv
from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kinds import interpreter
from pearray.compiler.placement import MemoryPlan
from pearray.compiler.systolic import mapper
from pearray.compiler.systolic.candidates import Chooser
from pearray.compiler.systolic.layer import Layer
from pearray.compiler.systolic.lower import lower
from pearray.compiler.systolic.order import order_of
from pearray.golden.tensors import float_type
from pearray.memory import DEFAULT_MEMORY


def _interpret(graph, inputs, config):
    """Outputs of a program, each with that of the golden model in the program's order."""
    compiled = compile_graph(graph, config, effort=0)
    machine = interpreter(config, compiled.memory_bytes)
    machine.write(compiled.segments + compiled.bind(inputs))
    machine.run(compiled.program_address)
    golden = compiled.graph.golden(inputs)
    return {name: (compiled.extract(name, machine.read), golden[name]) for name in graph.outputs}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", OPERATORS)
def test_programs_equal_golden(rng, name, form):
    """A sum added in another order than golden's, a bound or a rounding that is not its own, shows in some last bit."""
    for scale in (1.0, 100.0):
        config = float_configuration(array__operands=form, array__rows=int(rng.integers(1, 7)),
                                     array__sum_cycles=int(rng.integers(1, 9))).hardware
        operator, tensors = draw_float_operator(rng, name, form, scale)
        # Weights that are no constants, as those that are learned, are loaded where they stand; short biases must be.
        constants = [role for role, tensor in tensors.items() if role == "b" and tensor.dtype != np.float32]
        graph = Graph.of(operator, tensors, constants if rng.random() < 0.5 else None)
        results = _interpret(graph, {role: tensors[role] for role in graph.inputs}, config)
        for role, (found, expected) in results.items():
            shapes = {key: tensor.shape for key, tensor in tensors.items()}
            assert same_bits(found, expected), f"{role} of {operator} of {shapes}"


@pytest.mark.parametrize("operator", [pe.Gemm(), pe.Gemm(trans_a=True)], ids=["rows", "columns"])
def test_no_search_changes_a_bit(rng, operator):
    """Results that depend on how long the mapper looks, or on the memory behind, can't be had twice."""
    config = float_configuration().hardware
    a, b = ((rng.standard_normal(shape)).astype(float_type("bfloat16")) for shape in ((40, 40), (40, 20)))
    graph = Graph.of(operator, {"a": a, "b": b})
    slow = replace(DEFAULT_MEMORY, read_latency=200)
    ways = {"effort": 0}, {"effort": 1}, {"effort": 0, "memory": slow}, {"effort": 0, "keep": "all"}
    orders = [compile_graph(graph, config, **way).graph.nodes[0].operator.order for way in ways]
    assert all(len(order) == len(orders[0]) and all(map(np.array_equal, order, orders[0])) for order in orders)


def test_where_all_fits_the_order_is_the_natural_one(rng):
    """A user who adds as the page says must get the array's bits: as many products as there are rows at a time."""
    config = float_configuration().hardware
    tensors = {"x": rng.standard_normal((1, 3, 6, 6)).astype(np.float32), "w": rng.standard_normal((4, 3, 3, 3))}
    tensors = {name: tensor.astype(float_type("bfloat16")) for name, tensor in tensors.items()}
    operator = compile_graph(Graph.of(pe.Conv2d(), tensors), config, effort=0).graph.nodes[0].operator
    assert [tile.tolist() for tile in operator.order] == [[*range(at, min(at + 4, 27))] for at in range(0, 27, 4)]


def test_infinities_stay_where_they_are():
    """Groups that share tiles would make no number of what is infinite in another group."""
    config = float_configuration(array__operands="float16").hardware
    weights = np.array([1, 2, 3, 6e4], np.float16).reshape(4, 1, 1, 1)
    graph = pe.Graph()
    image = graph.input("image", (1, 4, 3, 3), "float16")
    # One channel is beyond float16.
    first = graph.add("first", pe.Conv2d(groups=4), x=image, w=weights, b=np.array([0, 0, 0, 3e4], np.float32))
    graph.output(graph.add("second", pe.Conv2d(groups=2), x=first, w=np.ones((2, 2, 3, 3), np.float16)))
    found, expected = _interpret(graph, {"image": np.ones((1, 4, 3, 3), np.float16)}, config)["second"]
    assert same_bits(found, expected)
    assert found.reshape(-1).tolist() == [27, np.inf]


def _lengths(bodies, rows):
    """Products of each partial sum of a group's EXECUTEs, as the commands' documentation has it."""
    found = []
    for body in bodies:
        total, run = body["k_total"], body["k_total"] if body["fold"] else body["run"]
        found += [min(rows, end - at) for start in range(0, total, run)
                  for end in [min(start + run, total)] for at in range(start, end, rows)]
    return found


def _layer(channels, taps, rows):
    """Lay out a convolution of square filters on an array of so many rows."""
    config = float_configuration(array__rows=rows, scratchpads__activation_bytes=8192,
                                 scratchpads__weight_bytes=16384).hardware
    x, w = (np.zeros(shape, float_type("bfloat16")) for shape in ((1, channels, 12, 12), (8, channels, taps, taps)))
    graph = run_passes(Graph.of(pe.Conv2d(), {"x": x, "w": w}))
    context = Context(graph, config, False)
    context.locate("x")
    [kernel] = conv(context, graph.nodes[0])
    return Layer(Nest.of(kernel, config.array.operand_bits), config, DEFAULT_MEMORY)


def test_first_weights_in_pieces_change_no_sum():
    """Pieces that end within a tile of the array would add in another order, in the first group alone."""
    cut = 0
    for channels, taps, rows in ((3, 3, 4), (5, 2, 6), (8, 3, 4), (60, 1, 8), (62, 1, 8), (12, 3, 8), (7, 3, 1)):
        layer = _layer(channels, taps, rows)
        [(_, tiling)] = Chooser(layer).best(1)
        for rest_first in (False, True):
            begun = replace(tiling, rest_first=rest_first, first_pixels=rows, pixels=2 * rows)
            begun = replace(begun, k_cuts=begun.pieces(layer, 1.0))
            cut += bool(begun.k_cuts)
            groups = {}
            for step in lower(begun, layer, MemoryPlan(keep=False)):
                groups.setdefault(id(step.group), []).append(step.body)
            expected = [len(tile) for tile in order_of(layer, begun)]
            assert all(_lengths(bodies, rows) == expected for bodies in groups.values()), (channels, taps, rows)
    assert cut >= 4


@pytest.mark.parametrize(("layers", "many", "is_alone"), [(1, 1, True), (1, 3, False), (2, 1, False)])
def test_kernels_of_one_node_are_not_alone(monkeypatch, layers, many, is_alone):
    """The ramps of a layer among others of its node cost less than the search for them takes."""
    told, choose = [], mapper.choose_tiling
    monkeypatch.setattr(mapper, "choose_tiling", lambda layer, effort, *, is_alone: (
        told.append(is_alone) or choose(layer, effort, is_alone=is_alone)))
    layer = _layer(4, 1, 4)
    found = mapper.Mapper(layer.config, layer.timing, layers, effort=0)
    found.steps(replace(layer.problem, many=many), MemoryPlan(keep=False))
    assert told == [is_alone]
