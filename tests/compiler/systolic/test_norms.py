"""LayerNorm and RMSNorm as commands: equal to their golden models in the interpreter, which also finds races."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.lib import data
from norm_draws import NORM_ARRAYS, drawn_norm, drawn_sum, norm_array, norm_rows
from random_workloads import configuration, interpret, random_configuration

import pearray as pe
from pearray.compiler.cells import ProgramError
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import interpreter
from pearray.compiler.operators import Relu
from pearray.compiler.systolic import norms
from pearray.compiler.systolic.norm_rows import NormRows
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.commands import Parameter, Rounding
from pearray.hdl.shell.functions import FUNCTIONS


def _alone(operator, tensors):
    """Graph of an operator, and its inputs."""
    graph = Graph.of(operator, tensors)
    return graph, {name: tensors[name] for name in graph.inputs}


def _check(operator, tensors, config):
    """Hold a program to the golden model, in the interpreter."""
    interpret(*_alone(operator, tensors), config)


@pytest.mark.parametrize("array", NORM_ARRAYS)
@pytest.mark.parametrize("number", range(12))
def test_drawn_rows_equal_golden(array, number, seed):
    """Every shape, type and array gives golden's bytes, and no command reads what another has yet to write."""
    config = norm_array(array)
    operator, tensors = drawn_norm(np.random.default_rng([seed, number]))
    _check(operator, tensors, config)


@pytest.mark.parametrize("elements", [1, 255, 768, 1000, 4096])
def test_long_rows_equal_golden(elements, rng):
    """Rows longer than any memory are walked part by part, and give what whole ones do."""
    for array in NORM_ARRAYS:
        operator, tensors = drawn_norm(rng, elements, rows=3)
        _check(operator, tensors, norm_array(array))


@pytest.mark.parametrize("array", NORM_ARRAYS)
def test_sums_and_their_norms_are_one_kernel(array, rng):
    """Two tensors added and normalised give what both operators do, padded or not, and nothing between is stored."""
    fused, config = 0, norm_array(array, pairs=1)
    for number in range(12):
        graph, inputs = drawn_sum(rng, rows=3, elements=[None, 300][number == 0])
        compiled = interpret(graph, inputs, config)
        fused += len(compiled.layers) == 1
    assert fused >= 9


def test_sums_need_no_room_for_two_blocks(rng):
    """Where one block of both operands fills the scratchpad, the next must not come before it has been read."""
    for _ in range(4):
        graph, inputs = drawn_sum(rng, rows=5)
        interpret(graph, inputs, configuration(rows=32, cols=32, lanes=4, activation=64, weight=64, norms=1, pairs=1))


def test_sums_that_others_read_are_stored(rng):
    """A sum that is an output, or kept, would be missing if it were made in the norm alone."""
    graph, inputs = drawn_sum(rng, 16, 4)
    config = norm_array("8x8", pairs=1)
    kinds = [node.operator.kind for node in graph.nodes]
    for changed, keep in ((graph, "all"), (graph.changed(outputs=["x", "y"]), "outputs")):
        assert [layer.kind for layer in interpret(changed, inputs, config, keep=keep).layers] == kinds


@pytest.mark.parametrize("number", range(16))
def test_any_array_gives_golden(number, seed):
    """No size of an array or a memory changes a byte, and no order of commands races."""
    rng = np.random.default_rng([seed, number, 11])
    config = random_configuration(rng, widths=(8,))
    config = replace(config, post=replace(config.post, norms=1, pairs=1))
    for graph, inputs in (_alone(*drawn_norm(rng)), _alone(*drawn_norm(rng)), drawn_sum(rng)):
        if config.scratchpads.channels < config.array.cols:
            with pytest.raises(PearrayError, match=r"scratchpads\.channels must be at least \d+ to hold the gains"):
                interpret(graph, inputs, config)
            continue
        interpret(graph, inputs, config)


@pytest.mark.parametrize("number", range(6))
def test_no_block_changes_a_byte(number, seed, monkeypatch):
    """Rows of a block are a matter of cycles: any choice is free of races, and exact."""
    rng = np.random.default_rng([seed, number, 12])
    config = norm_array("8x8")
    monkeypatch.setattr(norms, "_cycles", lambda layer, rows, timing: rng.random())
    for _ in range(3):
        operator, tensors = drawn_norm(rng)
        _check(operator, tensors, config)


def test_norms_between_other_layers(rng):
    """A norm takes part in a network: it reads what is before it when that is stored, and what follows waits for it."""
    config = norm_array("8x8")
    x = norm_rows(rng, (11, 24))
    constants = {"gamma": rng.normal(1, 1, 24).astype(np.float32), "gain": rng.normal(1, 1, 24).astype(np.float32)}
    scales = {"x_scale": 0.1, "y_scale": 0.02}
    graph = Graph(
        nodes=[Node("before", Relu(), {"x": "x"}, {"y": "x1"}),
               Node("layer", pe.LayerNorm(**scales), {"x": "x1", "gamma": "gamma"}, {"y": "x2"}),
               Node("rms", pe.RMSNorm(**scales, epsilon=0.3), {"x": "x2", "gamma": "gain"}, {"y": "x3"}),
               Node("after", Relu(), {"x": "x3"}, {"y": "y"})],
        tensors={"x": Tensor("x", x.shape, x.dtype)}, inputs=["x"], outputs=["y"], constants=constants)
    compiled = compile_graph(graph, config)
    machine = interpreter(config, compiled.memory_bytes)
    machine.write(compiled.segments + compiled.bind({"x": x}))
    machine.run(compiled.program_address)
    np.testing.assert_array_equal(compiled.extract("y", machine.read), compiled.graph.golden({"x": x})["y"])


def test_gains_that_stand_are_not_loaded_again(rng):
    """If every block of rows loaded the gains of all of them, long rows would wait for memory."""
    config = norm_array("8x8")
    # Gains of 64 columns stand at a time, of 96 in all.
    tensors = {"x": norm_rows(rng, (60, 96)), "gamma": np.ones(96, np.float32)}
    compiled = compile_graph(Graph.of(pe.RMSNorm(x_scale=0.1, y_scale=0.02), tensors), config)
    commands = compiled.program.commands
    loaded = sum(command.body["length"] for command in commands if command.body.get("destination") == Parameter.BIAS)
    blocks = sum(command.body.get("moments", 0) for command in commands)
    assert blocks > 10
    assert loaded <= 4 * (96 + blocks * 32)


@pytest.mark.parametrize(("change", "tensors", "message"), [
    ({"norms": 0}, {}, "^LayerNorm needs post.norms = 1 and array.operand_bits = 8, not 0 and 8$"),
    ({"bits": 16}, {}, "^LayerNorm needs post.norms = 1 and array.operand_bits = 8, not 0 and 16$"),
    ({}, {"x": np.zeros((2, 6), np.int16)}, "^x must be of an integer type of at most 8 bits for this accelerator"),
    ({"cols": 32, "channels": 16, "lanes": 4}, {},
     r"scratchpads.channels must be at least 32 to hold the gains of a row of sums, not 16$"),
])
def test_what_an_accelerator_lacks_is_named(change, tensors, message):
    """Whoever compiles for another accelerator is told what it needs."""
    config = configuration(**{"norms": 1} | change)
    given = {"x": np.zeros((2, 6), np.int8), "gamma": np.ones(6, np.float32)} | tensors
    with pytest.raises(PearrayError, match=message):
        compile_graph(Graph.of(pe.LayerNorm(x_scale=0.1, y_scale=0.1), given), config)


def test_inputs_of_four_dimensions(rng):
    """The host writes them row by row where only norms read them; what a layer makes is an image, and is refused."""
    config = norm_array("8x8")
    x, gamma = norm_rows(rng, (2, 3, 4, 6)), np.ones(6, np.float32)
    operator = pe.LayerNorm(x_scale=0.1, y_scale=0.02)
    _check(operator, {"x": x, "gamma": gamma}, config)
    graph = Graph(nodes=[Node("before", Relu(), {"x": "x"}, {"y": "x1"}),
                         Node("layer", operator, {"x": "x1", "gamma": "gamma"}, {"y": "y"})],
                  tensors={"x": Tensor("x", x.shape, x.dtype)}, inputs=["x"], outputs=["y"], constants={"gamma": gamma})
    with pytest.raises(PearrayError, match=r"^layer: x1 must stand row-major in memory, which images of shape"):
        compile_graph(graph, config)


def test_gains_must_be_known(rng):
    """Gains that come with a run would have to be quantised on the accelerator."""
    given = {"x": np.zeros((2, 6), np.int8), "gamma": np.ones(6, np.float32)}
    graph = Graph.of(pe.LayerNorm(x_scale=0.1, y_scale=0.1), given, constants=())
    with pytest.raises(PearrayError, match=r"^gamma must be of an integer type of at most 8 bits"):
        compile_graph(graph, norm_array("8x8"))


def _post(rows, body):
    """Check a command, and add up a row of three fives."""
    rows.check(body)
    rows.moments([np.array([[5, 5, 5]])], body)


@pytest.mark.parametrize(("fields", "message"), [
    ({"moments": 1, "bias": 1}, "bias must be zero with moments"),
    ({"moments": 1, "n_count": 2}, "n_count must be 1 where a row is not both opened and closed"),
    ({"normed": 1, "per_channel": 0}, "normed needs rounding ONNX, and per_channel"),
    ({"normed": 1, "table": 1}, "table must be zero with normed"),
    ({"moments": 1, "row_opens": 1, "row_closes": 1, "scale_nstep": 1}, "a row has more than scale_nstep = 1 elements"),
])
def test_the_interpreter_refuses_what_the_format_forbids(fields, message):
    """A program that the format forbids must not get an answer from the model that hardware would not give."""
    rows = NormRows()
    body = dict.fromkeys(("moments", "normed", "row_opens", "row_closes", "centred", "state_row", "bias", "per_channel",
                          "out_base", "out_nstep", "out_mstep", "low", "bias_nstep"), 0)
    body |= {"n_count": 1, "scale_nstep": 4, "rounding": Rounding.ONNX, "centred": 1} | fields
    with pytest.raises(ProgramError, match=message):
        _post(rows, body)


def test_fields_are_there_with_norms_only():
    """If it failed, configurations without norms would pay for it, or programs for them would be others."""
    fields = [name for name, _ in data.Layout.cast(configuration(norms=1).commands.post)]
    plain = [name for name, _ in data.Layout.cast(configuration().commands.post)]
    assert [name for name in fields if name in plain] == plain
    assert set(fields) - set(plain) == {*FUNCTIONS["norms"].fields}
