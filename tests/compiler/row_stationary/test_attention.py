"""Fused attention on row-stationary arrays: equal to its golden model in the interpreter, which also finds races."""


import numpy as np
import pytest
from attention_draws import ROW_ARRAYS, UNIT, drawn_attention, masked_runs, row_array
from fixed_layers import configuration
from random_workloads import interpret, operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import interpreter
from pearray.compiler.operators import Relu
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.commands import Opcode

SCALES = {"q_scale": UNIT, "k_scale": UNIT, "v_scale": UNIT, "y_scale": UNIT / 4}


def _interpreted(operator, tensors, config):
    graph = Graph.of(operator, tensors)
    return interpret(graph, {name: tensors[name] for name in graph.inputs}, config)


@pytest.mark.parametrize("array", ROW_ARRAYS)
@pytest.mark.parametrize("number", range(8))
def test_drawn_attention_equals_golden(array, number, seed):
    """Every shape, mask and array gives golden's bytes, and no command reads what another has yet to write."""
    config = row_array(array)
    rng = np.random.default_rng([seed, number, config.array.rows, 12])
    operator, tensors = drawn_attention(rng, config)
    if "mask" in tensors and config.scratchpads.channels < config.score_columns:
        del tensors["mask"]
    _interpreted(operator, tensors, config)


@pytest.mark.parametrize("array", [name for name in ROW_ARRAYS if name != "1x3"])
def test_masks_of_runs_equal_golden(array, rng):
    """A mask is another at each run of one program: a row of it that stood from the last would hide other keys."""
    config = row_array(array)
    for _ in range(3):
        graph, runs = masked_runs(rng, config, 3)
        compiled = compile_graph(graph, config)
        for inputs in runs:
            machine = interpreter(config, compiled.memory_bytes)
            machine.write(compiled.segments + compiled.bind(inputs))
            machine.run(compiled.program_address)
            np.testing.assert_array_equal(compiled.extract("y", machine.read), compiled.graph.golden(inputs)["y"])


@pytest.mark.parametrize("options", [{}, {"window": 7}])
def test_positions_and_what_stays_in_memory(rng, options):
    """Keys and values that runs append to, and queries that see those so far: of one program, whatever the position."""
    config, keys = row_array("3x4"), 50
    operator = pe.Attention(**SCALES, causal=True, **options)
    values = {"q": operands(rng, (2, 1, 8)), "new_k": operands(rng, (2, 1, 8)), "new_v": operands(rng, (2, 1, 8)),
              "k": operands(rng, (2, keys, 8)), "v": operands(rng, (2, keys, 8)), "at": np.array(0)}
    nodes = [Node(f"append {name}", pe.Append(), {"past": name, "x": f"new_{name}", "position": "at"},
                  {"present": f"all_{name}"}) for name in "kv"]
    nodes.append(Node("attention", operator, {"q": "q", "k": "all_k", "v": "all_v", "position": "at"}, {"y": "y"}))
    graph = Graph(nodes, {name: Tensor(name, value.shape, value.dtype) for name, value in values.items()},
                  inputs=[*values], outputs=["y", "all_k", "all_v"])
    compiled = compile_graph(graph, config)
    for position in (0, 3, 24, keys - 1):
        values["at"] = np.array(position)
        machine = interpreter(config, compiled.memory_bytes)
        machine.write(compiled.segments + compiled.bind(values))
        machine.run(compiled.program_address)
        golden = compiled.graph.golden(values)
        for name in graph.outputs:
            np.testing.assert_array_equal(compiled.extract(name, machine.read), golden[name], f"{name} at {position}")
        values |= {name: golden[f"all_{name}"] for name in "kv"}


def test_long_attention_goes_round_all_buffers(rng):
    """Places of every memory are taken again and again: a wait that is left out would be a race."""
    config = row_array("3x4")
    tensors = {"q": operands(rng, (3, 150, 20)), "k": operands(rng, (1, 130, 20)), "v": operands(rng, (1, 130, 18))}
    _interpreted(pe.Attention(**SCALES, causal=True), tensors, config)


def test_what_stands_on_chip_does_not_grow_with_keys(rng):
    """No score goes to memory: what is stored is the outputs alone, and longer rows change no place."""
    config, places = row_array("4x6"), []
    for keys in (64, 640):
        tensors = {"q": operands(rng, (1, 20, 16)), "k": operands(rng, (1, keys, 16)),
                   "v": operands(rng, (1, keys, 16))}
        program = _interpreted(pe.Attention(**SCALES), tensors, config).program
        stores = [command.body for command in program.commands if command.opcode is Opcode.STORE]
        stored = sum(body["length"] * body["count1"] * body["count2"] for body in stores if not body.get("profile"))
        assert stored == 20 * 16
        places.append({(command.opcode, command.body.get("psum_write"), command.body.get("target"))
                       for command in program.commands})
    assert places[0] == places[1]


def test_causal_blocks_above_the_diagonal_cost_nothing(rng):
    """Blocks of keys that no query of a block sees are neither loaded nor multiplied."""
    config, work = row_array("3x4"), {}
    tensors = {name: operands(rng, (1, 96, 12)) for name in "qkv"}
    for causal in (False, True):
        compiled = _interpreted(pe.Attention(**SCALES, causal=causal), tensors, config)
        rows = max(command.body["windows"] + 1 for command in compiled.program.commands
                   if command.opcode is Opcode.EXECUTE and not command.body.get("setup"))
        work[causal] = compiled.layers[0].work
    assert work[True] <= work[False] * (96 + rows + config.score_columns) / 2 / 96


def test_attention_between_other_layers(rng):
    """What is before it is stored before it reads, and what follows waits for it and sets the array up again."""
    config = row_array("4x6")
    q, kv = operands(rng, (2, 20, 16)), operands(rng, (2, 24, 16))
    names = {"q": q, "k": kv, "v": kv.copy()}
    graph = Graph(
        nodes=[Node("before", Relu(), {"x": "q"}, {"y": "q2"}),
               Node("attention", pe.Attention(**SCALES), {"q": "q2", "k": "k", "v": "v"}, {"y": "y2"}),
               Node("after", Relu(), {"x": "y2"}, {"y": "y"})],
        tensors={name: Tensor(name, value.shape, value.dtype) for name, value in names.items()},
        inputs=[*names], outputs=["y"])
    compiled = interpret(graph, names, config)
    assert [layer.name for layer in compiled.layers if layer.profile is not None] == ["before", "attention", "after"]


@pytest.mark.parametrize(("changes", "options", "mask", "message"), [
    ({"filter_banks": 1, "bank_lines": 32, "banks": 25}, {}, None,
     "Attention: global_buffer.filter_banks must be more than 1 to hold a block of keys and one of values"),
    ({"channels": 16}, {}, True, "Attention: scratchpads.channels must be at least 48 to hold a row of masks, not 16"),
    ({"output": 64}, {"v": 65}, None,
     "Attention: scratchpads.output_bytes must be at least 132 to hold two rows of numerators or of outputs, not 64"),
    ({"banks": 1, "bank_lines": 32, "filter_banks": 32}, {}, None,
     "Attention: global_buffer.banks . global_buffer.bank_lines must be at least [0-9]+ to hold a query with its "
     "scores, numerators and outputs, not 32"),
])
def test_what_does_not_fit_is_refused(rng, changes, options, mask, message):
    """A program that no memory holds would be wrong, or an error would not say which key to change."""
    options = dict(options)
    shapes = {"q": (1, 9, 16), "k": (1, 40, 16), "v": (1, 40, options.pop("v", 16))}
    tensors = {name: operands(rng, shape) for name, shape in shapes.items()}
    if mask:
        tensors["mask"] = rng.normal(size=(9, 40)).astype(np.float32)
    config = configuration(**{"rows": 4, "cols": 6, "bits": 8, "ifmap": 12, "filters": 64, "psums": 8, "moves": 1,
                              "softmax": 1, **changes})
    with pytest.raises(PearrayError, match=f"^{message}"):
        _interpreted(pe.Attention(**SCALES, **options), tensors, config)


@pytest.mark.parametrize(("keys", "message"), [
    ({"moves": 1, "bits": 16},
     "scratchpads.moves and post.softmax must be 0 with array.operand_bits = 16, not 1 and 0"),
    ({"softmax": 1, "rows": 1, "ifmap": 1},
     "post.softmax must be 0 in an array whose column contracts less than 2 keys, not 1"),
])
def test_configurations_that_contradict_themselves(keys, message):
    """A key without effect would make a program that no hardware runs."""
    with pytest.raises(PearrayError, match=f"^{message}$"):
        configuration(**{"rows": 4, "cols": 6, "bits": 8, **keys})
