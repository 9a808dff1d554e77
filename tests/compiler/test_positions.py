"""Positions: what a host adds to a program for each run, against programs that are compiled for it."""

import json
from pathlib import Path

import numpy as np
import pytest
from attention_draws import UNIT, attention_array
from random_workloads import configuration, interpret, operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.encoding import add_to_field, field_limits
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import interpreter
from pearray.compiler.operators import Reshape, Transpose
from pearray.golden.rotary import rotary_tables
from pearray.hdl.shell.commands import COMMAND_BYTES, Opcode

#: A systolic array, and a row-stationary one.
CONFIGURATIONS = configuration(), pe.load_config(
    Path(__file__).parents[1] / "cocotb" / "row_stationary.toml").hardware


def _at(compiled, inputs):
    """Outputs of a run of a compiled program."""
    machine = interpreter(compiled.config, compiled.memory_bytes + 64)
    machine.write(compiled.segments + compiled.bind(inputs))
    machine.run(compiled.program_address)
    return {name: compiled.extract(name, machine.read) for name in compiled.output_names}


@pytest.mark.parametrize("name", ["4x6", "8x8"])
@pytest.mark.parametrize("number", range(4))
def test_attention_at_every_position(name, number, seed):
    """A bound that did not move, or moved too far, would show a key that is not there yet, or hide one that is."""
    rng, config = np.random.default_rng([seed, number]), attention_array(name)
    (heads, groups), p, e = [(4, 2), (2, 2), (3, 1)][rng.integers(3)], int(rng.integers(1, 6)), int(rng.integers(2, 20))
    keys = p + int(rng.integers(0, 40))
    window = [None, int(rng.integers(1, keys + 2))][number % 2]
    operator = pe.Attention(causal=True, q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 2, window=window,
                            two_bytes=number == 3)
    inputs = {"q": operands(rng, (heads, p, e)), "k": operands(rng, (groups, keys, e)),
              "v": operands(rng, (groups, keys, e)), "position": np.array(0)}
    compiled = compile_graph(Graph.of(operator, inputs), config)
    for position in {0, keys - p, *rng.integers(0, keys - p + 1, 4).tolist()}:
        inputs["position"] = np.array(position)
        np.testing.assert_array_equal(_at(compiled, inputs)["y"], compiled.graph.golden(inputs)["y"], f"{position}")


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: config.array.kind)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_rows_are_appended_at_every_position(config, dtype, rng):
    """A row that another's place got would overwrite a key, and all others must stay as they were."""
    past, x = operands(rng, (3, 11, 5), dtype), operands(rng, (3, 2, 5), dtype)
    inputs = {"past": past, "x": x, "position": np.array(0)}
    compiled = compile_graph(Graph.of(pe.Append(offset=1), inputs), config)
    for position in range(9):
        inputs["position"] = np.array(position)
        present = _at(compiled, inputs)["present"]
        wanted = past.copy()
        wanted[:, 1 + position:3 + position] = x
        np.testing.assert_array_equal(present, wanted)
    interpret(Graph.of(pe.Append(offset=4), {"past": past, "x": x}), {"past": past, "x": x}, config)


@pytest.mark.parametrize("config", CONFIGURATIONS, ids=lambda config: config.array.kind)
def test_rows_are_turned_by_every_position(config, rng):
    """Matrices of another position would turn by other angles."""
    cos, sin = rotary_tables(9, 6)
    inputs = {"x": operands(rng, (2, 3, 6)), "position": np.array(0)}
    graph = Graph.of(pe.RotaryEmbedding(0.1, 0, 0.1, 0, offset=1), inputs | {"cos": cos, "sin": sin})
    compiled = compile_graph(graph, config)
    for position in range(6):
        inputs["position"] = np.array(position)
        np.testing.assert_array_equal(_at(compiled, inputs)["y"], graph.golden(inputs)["y"])


@pytest.mark.parametrize("keep", ["outputs", "all"])
def test_tensors_on_chip_are_appended(keep, rng):
    """What MOVEs keep from memory must still be stored where it is appended, at every position."""
    (heads, rows, e), (cos, sin) = (3, 2, 8), rotary_tables(9, 8)
    inputs = {"x": operands(rng, (rows, 12)), "past": operands(rng, (heads, 9, e)), "position": np.array(0)}
    nodes = [Node("k", pe.Linear(requant=pe.Requant.onnx(0.1, 0, 0.01, 0, 0.1, 0)), {"x": "x", "w": "w"}, {"y": "k"}),
             Node("split", Reshape((rows, heads, e)), {"x": "k"}, {"y": "split"}),
             Node("heads", Transpose((1, 0, 2)), {"x": "split"}, {"y": "heads"}),
             Node("turn", pe.RotaryEmbedding(0.1, 0, 0.12, 0), {
                 "x": "heads", "cos": "cos", "sin": "sin", "position": "position"}, {"y": "turned"}),
             Node("append", pe.Append(), {"past": "past", "x": "turned", "position": "position"}, {"present": "y"})]
    graph = Graph(nodes, {name: Tensor(name, value.shape, value.dtype) for name, value in inputs.items()},
                  {"w": operands(rng, (heads * e, 12)), "cos": cos, "sin": sin}, list(inputs), ["y"])
    compiled = compile_graph(graph, configuration(moves=1), keep)
    assert any(command.opcode is Opcode.MOVE for command in compiled.program.commands)
    for position in range(8):
        inputs["position"] = np.array(position)
        np.testing.assert_array_equal(_at(compiled, inputs)["y"], graph.golden(inputs)["y"])


def test_map_says_what_a_host_writes(rng, tmp_path):
    """A host of somebody else's has the map alone: additions that it names must give the program of a position."""
    config = attention_array("8x8")
    shapes = {"q": (2, 1, 8), "k": (2, 40, 8), "v": (2, 40, 8)}
    inputs = {name: operands(rng, shape) for name, shape in shapes.items()} | {"position": np.array(17)}
    operator = pe.Attention(causal=True, q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT)
    compiled = compile_graph(Graph.of(operator, inputs), config)
    compiled.write(tmp_path)
    tensors = json.loads((tmp_path / "tensors.json").read_text())["tensors"]
    position = next(entry for entry in tensors if entry["role"] == "position")
    assert (position["name"], position["most"], len(position["fields"])) == ("position", 39, 10)
    program = int.from_bytes((tmp_path / "program.bin").read_bytes(), "little")
    for place in position["fields"]:
        shift, mask = place["byte"] * 8 + place["bit"], (1 << place["bits"]) - 1
        value = (program >> shift & mask) + 17 * place["step"] & mask
        program = program & ~(mask << shift) | value << shift
    compiled.write(tmp_path, inputs)
    assert int.from_bytes((tmp_path / "program.bin").read_bytes(), "little") == program
    image = (tmp_path / "memory.bin").read_bytes()[compiled.program_address:]
    assert image.startswith((tmp_path / "program.bin").read_bytes())


def test_fields_go_up_alone(rng):
    """A carry beyond a field would change the one beside it, in commands that are marked or in others."""
    format = configuration().commands
    commands = rng.integers(0, 256, (9, COMMAND_BYTES)).astype(np.uint8)
    for opcode, name in ((Opcode.LOAD, "dram"), (Opcode.STORE, "dram"), (Opcode.POST, "acc_nstep"),
                         (Opcode.POST, "low"), (Opcode.LOAD, "address")):
        first, width, _, _ = field_limits(format, opcode, name)
        places, amounts = np.array([1, 4, 8]), np.array([-3, 1 << width - 1, 12345])
        changed = commands.copy()
        add_to_field(changed, format, opcode, name, places, amounts)
        for row, (before, after) in enumerate(zip(commands, changed, strict=True)):
            a, b = (int.from_bytes(each.tobytes(), "little") for each in (before, after))
            mask = (1 << width) - 1 << first
            assert a & ~mask == b & ~mask
            amount = dict(zip(places.tolist(), amounts.tolist(), strict=True)).get(row, 0)
            assert (b & mask) >> first == ((a & mask) >> first) + amount & (1 << width) - 1


def _graph(nodes, outputs=("y",), **inputs):
    tensors = {name: Tensor(name, value.shape, value.dtype) for name, value in inputs.items()}
    return Graph(nodes, tensors, {}, list(inputs), list(outputs))


PAST, ROWS = np.zeros((1, 8, 4), np.int8), np.zeros((1, 2, 4), np.int8)
APPEND = Node("append", pe.Append(), {"past": "past", "x": "x"}, {"present": "y"})
ADD = pe.Add(A_scale=1.0, B_scale=1.0, C_scale=1.0)


@pytest.mark.parametrize(("nodes", "outputs", "message"), [
    ([APPEND, Node("add", ADD, {"a": "past", "b": "past"}, {"y": "z"})], ["y", "z"],
     "^append: past past must be an input of the graph that nothing else reads, not add$"),
    ([APPEND], ["y", "past"], "^append: past past must be .* reads, not the graph's outputs$"),
    ([APPEND, Node("add", ADD, {"a": "y", "b": "y"}, {"y": "z"})], ["z"],
     "^append: present y can be read by Attention alone, not by add$"),
    ([Node("add", ADD, {"a": "past", "b": "past"}, {"y": "z"}),
      Node("append", pe.Append(), {"past": "z", "x": "x"}, {"present": "y"})], ["y"],
     "^append: past z must be an input of the graph that nothing else reads, not made by a node$"),
])
def test_what_is_written_in_place_is_seen_by_no_other(nodes, outputs, message):
    """A reader of rows that are being written over would see some of the new and some of the old."""
    with pytest.raises(pe.PearrayError, match=message):
        compile_graph(_graph(nodes, outputs, past=PAST, x=ROWS), pe.load_config("systolic-8x8").hardware)


def test_wrong_positions_are_named(rng):
    """A position beyond the last would write behind a tensor; one that is no integer is no position."""
    inputs = {"past": PAST, "x": ROWS, "position": np.array(7)}
    handle = pe.compile(pe.Append(), inputs | {"position": 0}, on="systolic-8x8")
    for run in (handle.run, lambda given: pe.golden_run(pe.Append(), given)):
        with pytest.raises(pe.PearrayError, match=r"position'? must be in 0\.\.6, not 7$"):
            run(inputs)
    for wrong in (np.zeros(1, np.int64), np.float32(1)):
        with pytest.raises(pe.PearrayError, match=r"^position must be one integer, int64 of shape \(\), not "):
            pe.golden_run(pe.Append(), inputs | {"position": wrong})
    attention = {name: np.zeros((1, 4, 4), np.int8) for name in "qkv"} | {"position": np.array(0)}
    scales = dict.fromkeys(("q_scale", "k_scale", "v_scale", "y_scale"), 1.0)
    with pytest.raises(pe.PearrayError, match=r"^position needs causal = True, offset = 0, lengths = None and a key"):
        pe.golden_run(pe.Attention(**scales), attention)
    nodes = [Node("append", pe.Append(), {"past": "past", "x": "x", "position": "p"}, {"present": "y"}),
             Node("split", pe.Append(), {"past": "other", "x": "x", "position": "y"}, {"present": "z"})]
    with pytest.raises(pe.PearrayError, match=r"^split: position must be one integer, int64 of shape"):
        _graph(nodes, past=PAST, x=ROWS, other=PAST, p=np.array(0))
