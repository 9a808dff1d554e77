"""Every lowering for row-stationary arrays against golden, on the interpreter, over random shapes."""

from dataclasses import replace

import numpy as np
import pytest
from fixed_layers import configuration, fixed_conv, fixed_gemm, gradients, random_configuration
from random_workloads import (
    MOVED_OPERATORS,
    NARROW_MOVED_OPERATORS,
    NARROW_OPERATORS,
    OPERATORS,
    check_operator,
    interpret,
    network,
    operands,
)

import pearray as pe
from pearray import PearrayError
from pearray.compiler.cells import ProgramError
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import interpreter
from pearray.compiler.program import Program
from pearray.compiler.row_stationary.codes import CodedTensor
from pearray.golden.models import ALEXNET_CONV
from pearray.hdl.shell.commands import Opcode
from pearray.workloads.published import named_settings

_MAKERS = OPERATORS | NARROW_OPERATORS | MOVED_OPERATORS | NARROW_MOVED_OPERATORS


def check(operator, tensors, config, **options):
    """Compile, interpret and compare with golden."""
    graph = Graph.of(operator, tensors)
    inputs = {name: tensors[name] for name in graph.inputs}
    compiled = compile_graph(graph, config, **options)
    machine = interpreter(config, compiled.memory_bytes + 64)
    machine.write(compiled.segments + compiled.bind(inputs))
    machine.run(compiled.program_address)
    expected = graph.golden(inputs)
    for name in compiled.output_names:
        np.testing.assert_array_equal(compiled.extract(name, machine.read), expected[name], name)
    return compiled


@pytest.mark.parametrize("name", _MAKERS)
def test_operators(rng, name):
    """A set, a tag, a walk, a zero filter, a wait: any slip changes an output or races."""
    done = [check_operator(rng, _MAKERS[name], random_configuration(rng, 8)) for _ in range(6)]
    assert any(done)


def test_networks(rng):
    """Layers that read what others store, in buffers whose division changes from one to the next."""
    for _ in range(3):
        graph, inputs = network(rng)
        interpret(graph, inputs, random_configuration(rng, 8), keep="all")


def test_large_tiles_behind_large_blocks(rng):
    """A layer that needs what the one before had for its sums would find no place for its ifmaps."""
    config = configuration(1, 6, 8, ifmap=9, filters=71, psums=9, banks=4, bank_lines=128, filter_banks=4,
                           data_width=32)
    requant = pe.Requant.onnx(0.5, 1, 0.01, 0, 2.0, np.int8(3))
    nodes = [Node(f"conv{index}", pe.Conv2d(requant=requant), {"x": x, "w": f"w{index}"}, {"y": y})
             for index, x, y in ((0, "x", "h"), (1, "h", "y"))]
    shape = 1, 1, 28, 29
    graph = Graph(nodes, {"x": Tensor("x", shape, np.dtype(np.int8))},
                  {"w0": operands(rng, (67, 1, 1, 1)), "w1": operands(rng, (1, 67, 1, 1))}, ["x"], ["y"])
    interpret(graph, {"x": operands(rng, shape)}, config)


@pytest.mark.parametrize("maker", [fixed_conv, fixed_gemm])
def test_fixed_point(rng, maker):
    """Windows of products, sums that wrap, stores from the global buffer, codes of inputs and outputs."""
    seen = set()
    for _ in range(30):
        operator, tensors = maker(rng)
        role = operator.roles[0]
        compiled = check(operator, tensors, random_configuration(rng, 16), coded={role} if rng.integers(2) else ())
        assert isinstance(compiled.outputs["y"], CodedTensor) is (operator.activation == "relu")
        seen.add(type(compiled.inputs[role]).__name__)
    assert seen == {"CodedTensor", "Placed"}


def test_loads_go_before_stores(rng):
    """If it failed, sums whose place nothing wants would share the link with what the next pass waits for."""
    config = pe.load_config("eyeriss").hardware
    layer = {"x": operands(rng, (1, 3, 227, 227), np.int16, 16), "w": operands(rng, (32, 3, 11, 11), np.int16, 16)}
    operator = pe.Conv2d(stride=4, requant=pe.FixedPoint(3), activation="relu")
    compiled = compile_graph(Graph.of(operator, layer), config)
    (plan,) = compiled.layers[0].notes["plans"]
    assert plan.psum_blocks == 2
    loads, waits = 0, []
    for command in compiled.program.commands:
        if command.opcode is Opcode.EXECUTE:
            loads = max(loads, command.waits["load"])
        elif command.opcode is Opcode.STORE and not command.body.get("profile"):
            waits.append((command.waits["load"], loads))
    assert len(waits) > 1
    assert all(waited == before for waited, before in waits)


@pytest.mark.parametrize(("rows", "cols", "bits"), [(1, 1, 8), (1, 1, 16), (2, 3, 8), (12, 14, 16), (16, 2, 8)])
def test_filters_of_any_size(rng, rows, cols, bits):
    """Filters higher than the array, wider than a scratchpad, and strides beyond them come in parts."""
    config = configuration(rows, cols, bits, ifmap=5, filters=40, banks=8, bank_lines=64, filter_banks=6)
    for r, s, stride, dilation in [(7, 7, 1, 1), (17, 1, 2, 1), (1, 13, 1, 2), (2, 2, 5, 1), (3, 3, (6, 1), (1, 4))]:
        shape = 1, 3, 18, 17
        if bits == 8:
            tensors = {"x": operands(rng, shape), "w": operands(rng, (5, 3, r, s))}
            check(pe.Conv2d(stride=stride, dilation=dilation, padding=4), tensors, config)
        else:
            tensors = {"x": operands(rng, shape, np.int16, 16), "w": operands(rng, (5, 3, r, s), np.int16, 16)}
            check(pe.Conv2d(stride=stride, dilation=dilation, padding=4, requant=pe.FixedPoint(3)), tensors, config)


def test_gradients(rng):
    """Both gradients of a convolution are convolutions: of another stride, dilation, and other filters."""
    for _ in range(10):
        for operator, tensors, expected in gradients(rng):
            config = random_configuration(rng, 8)
            graph = Graph.of(operator, tensors)
            compiled = compile_graph(graph, config)
            machine = interpreter(config, compiled.memory_bytes + 64)
            machine.write(compiled.segments + compiled.bind({"x": tensors["x"]}))
            machine.run(compiled.program_address)
            # dW has as many taps as the filter; windows beyond it see what no output of the layer saw.
            actual = compiled.extract("y", machine.read)[:, :, :expected.shape[2], :expected.shape[3]]
            np.testing.assert_array_equal(actual, expected)


def test_codes_between_layers_are_plain(rng):
    """A tensor that another layer reads must stand as NHWC, and each coded one in its reader's own cuts."""
    first, second = ({name: operands(rng, shape, np.int16, 16) for name, shape in shapes.items()} for shapes in (
        {"x": (2, 4, 8, 9), "w1": (6, 4, 3, 3)}, {"w2": (5, 6, 1, 1)}))
    nodes = [Node(f"conv{index}", pe.Conv2d(requant=pe.FixedPoint(9), activation="relu"),
                  {"x": x, "w": f"w{index}"}, {"y": y}) for index, x, y in ((1, "x", "h"), (2, "h", "y"))]
    graph = Graph(nodes, {"x": Tensor("x", (2, 4, 8, 9), np.dtype(np.int16))},
                  {"w1": first["w1"], "w2": second["w2"]}, ["x"], ["y"])
    config = configuration(6, 8, 16, banks=8, bank_lines=128)
    compiled = compile_graph(graph, config, "all", coded={"x", "h"})
    kinds = {name: type(placed).__name__ for name, placed in (compiled.inputs | compiled.outputs).items()}
    assert kinds == {"x": "CodedTensor", "h": "Placed", "y": "CodedTensor"}
    machine = interpreter(config, compiled.memory_bytes + 64)
    machine.write(compiled.segments + compiled.bind({"x": first["x"]}))
    machine.run(compiled.program_address)
    expected = graph.golden({"x": first["x"]})
    for name in ("h", "y"):
        np.testing.assert_array_equal(compiled.extract(name, machine.read), expected[name], name)
    x = compiled.inputs["x"]
    np.testing.assert_array_equal(x.from_bytes(x.to_bytes(first["x"])), first["x"])
    assert sum(len(unit["images"]) for unit in x.describe()["codes"]) == 2 * len(x.units)


def test_each_layer_leaves_a_record_and_its_mapping(rng):
    """Counters of a layer are differences of records, and are predicted from the mapping that was used."""
    graph, _ = network(rng)
    compiled = compile_graph(graph, configuration(6, 8, 8))
    assert all(layer.profile % 64 == 0 and layer.notes["mapping"] is not None for layer in compiled.layers)


def test_published_mappings(rng):
    """With "paper" the passes must be those of the published mapping: their number, and that of setups."""
    layer = ALEXNET_CONV[4]
    tensors = {"x": operands(rng, (4, layer.c, layer.h, layer.w), np.int16, 16),
               "w": operands(rng, (layer.m, layer.c // 2, 3, 3), np.int16, 16)}
    operator = pe.Conv2d(padding=1, groups=2, requant=pe.FixedPoint(8), activation="relu")
    graph = Graph.of(operator, tensors)
    compiled = compile_graph(graph, pe.load_config("eyeriss").hardware, **named_settings({"mapping": "paper"}, graph))
    mapping = compiled.layers[0].notes["mapping"]
    assert (mapping.m, mapping.p, mapping.t) == (64, 16, 2)
    assert compiled.program.counts["execute"] == 1 + 2 * (128 // 32) * (192 // 6)
    few = {name: value[:, :7] for name, value in tensors.items()}
    other = Graph.of(pe.Conv2d(requant=pe.FixedPoint(8)), few)
    with pytest.raises(PearrayError, match="only AlexNet's CONV layers"):
        named_settings({"mapping": "paper"}, other)


def _race_without(wait, compiled, config, inputs, order):
    """Tell whether the interpreter refuses the program without one of the waits of a kind, tried in some order."""
    opcode, queue = wait
    commands = compiled.program.commands
    having = [index for index in order if commands[index].opcode is opcode and commands[index].waits.get(queue)]
    for index in having[:20]:
        changed = list(commands)
        changed[index] = replace(commands[index], waits=commands[index].waits | {queue: 0})
        machine = interpreter(config, compiled.memory_bytes + 64)
        machine.write(compiled.segments + compiled.bind(inputs))
        machine.write([(compiled.program_address, Program.of(config.commands, changed).encode())])
        try:
            machine.run(compiled.program_address)
        except ProgramError:
            return True
    return False


@pytest.mark.parametrize("bits", [8, 16])
def test_missing_waits_are_found(rng, bits):
    """The interpreter has to see the race if a wait is not there, or it proves nothing about the waits that are."""
    config = configuration(3, 4, bits, banks=5, bank_lines=64, filter_banks=1, filters=48)
    load, execute, post, store = Opcode.LOAD, Opcode.EXECUTE, Opcode.POST, Opcode.STORE
    missing = {(load, "execute"), (execute, "load"), (store, "execute"), (execute, "store")} if bits == 16 else {
        (load, "execute"), (execute, "load"), (post, "execute"), (post, "load"), (store, "post"), (execute, "post"),
        (post, "store")}
    for _ in range(8):
        if bits == 16:
            operator, tensors = fixed_conv(rng)
        else:
            tensors = {"x": operands(rng, (3, 6, 9, 8)), "w": operands(rng, (9, 6, 3, 3)),
                       "b": rng.integers(-99, 99, 9).astype(np.int32)}
            operator = pe.Conv2d(padding=1, requant=pe.Requant.onnx(0.5, 3, 0.01, 1, 2.0, np.int8(5)))
        compiled = compile_graph(Graph.of(operator, tensors), config)
        order = rng.permutation(len(compiled.program.commands))
        missing = {wait for wait in missing
                   if not _race_without(wait, compiled, config, {"x": tensors["x"]}, order)}
    assert not missing
