"""Fused attention as commands: equal to its golden model in the interpreter, which also finds races."""


import numpy as np
import pytest
from attention_draws import (
    ARRAYS,
    UNIT,
    attention_array,
    check_tiles,
    drawn_attention,
    drawn_masks,
    masked_runs,
)
from random_workloads import configuration, operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import interpreter
from pearray.compiler.operators import Relu
from pearray.compiler.segments import segments
from pearray.compiler.systolic import attention
from pearray.compiler.systolic.attention_emit import Emission
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.systolic.commands import Destination


def _interpreted(operator, tensors, config):
    """Outputs of a program, and those of the golden model."""
    graph = Graph.of(operator, tensors)
    compiled = compile_graph(graph, config)
    found, wanted = _run(compiled, {name: tensors[name] for name in graph.inputs})
    check_tiles(config, compiled.program)
    return found, wanted, compiled


def _run(compiled, inputs):
    """Outputs of a compiled program in the interpreter, and those of the golden model."""
    machine = interpreter(compiled.config, compiled.memory_bytes)
    machine.write(compiled.segments + compiled.bind(inputs))
    machine.run(compiled.program_address)
    return compiled.extract("y", machine.read), compiled.graph.golden(inputs)["y"]


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("number", range(8))
def test_drawn_attention_equals_golden(array, number, seed):
    """Every shape, mask and array gives golden's bytes, and no command reads what another has yet to write."""
    config = attention_array(array)
    rng = np.random.default_rng([seed, number, config.array.rows, config.array.cols])
    operator, tensors = drawn_attention(rng, config)
    found, wanted, _ = _interpreted(operator, tensors, config)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", [(), (1,), (9,), (5, 1)])
def test_constant_masks_of_few_dimensions(rng, shape):
    """A mask broadcasts, be it one number for all scores: exporters add such ones, too."""
    operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT)
    tensors = {name: operands(rng, (2, 5 if name == "q" else 9, 6)) for name in "qkv"}
    tensors["mask"] = np.asarray(rng.normal(size=shape), np.float32)
    found, wanted, _ = _interpreted(operator, tensors, attention_array("4x6"))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("array", ARRAYS)
def test_masks_of_runs_equal_golden(array, rng):
    """A mask is another at each run of one program: a row of it that stood from the last would hide other keys."""
    config = attention_array(array)
    for _ in range(4):
        graph, runs = masked_runs(rng, config, 3)
        compiled = compile_graph(graph, config)
        for inputs in runs:
            found, wanted = _run(compiled, inputs)
            np.testing.assert_array_equal(found, wanted)


def test_positions_and_masks_of_runs(rng):
    """A decoder's step of sequences that are filled up at their beginning: keys are hidden by mask and position."""
    config = attention_array("4x6")
    operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT, causal=True)
    for queries in (1, 3):
        tensors = {name: operands(rng, (4, queries if name == "q" else 20, 6)) for name in "qkv"}
        masks = [*drawn_masks(rng, 4, queries, 20, 4)]
        graph = Graph.of(operator, {**tensors, "mask": masks[0], "position": np.array(0)}, constants=())
        compiled = compile_graph(graph, config)
        for mask in masks:
            position = np.array(rng.integers(0, 20 - queries + 1))
            found, wanted = _run(compiled, {**tensors, "mask": mask, "position": position})
            np.testing.assert_array_equal(found, wanted)


def test_a_row_of_a_mask_is_loaded_once_a_block(rng):
    """Rows that all queries share cost four bytes a key for each block of queries, and not for each score."""
    config, loaded = attention_array("8x8"), {}
    tensors = {name: operands(rng, (2, 40, 16)) for name in "qkv"}
    for rows in (1, 40):
        mask = rng.integers(0, 2, (rows, 40)) > 0
        operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT)
        compiled = compile_graph(Graph.of(operator, {**tensors, "mask": mask}, constants=()), config)
        found, wanted = _run(compiled, {**tensors, "mask": mask})
        np.testing.assert_array_equal(found, wanted)
        bodies = [command.body for command in compiled.program.commands if command.opcode is Opcode.LOAD]
        loaded[rows] = sum(body["length"] * body["count1"] * body["count2"] for body in bodies
                           if body["destination"] == Destination.BIAS.value)
    assert loaded == {1: loaded[40] // 40, 40: 2 * 40 * 40 * 4}


@pytest.mark.parametrize(("options", "mask", "message"), [
    ({}, np.zeros((9, 1), bool), "mask must have a number for each of 13 keys where a run gives it, not shape (9, 1)"),
    ({"causal": True}, np.zeros((1, 13), np.float32),
     "mask must be of bool, or have a row for each query and head that sees other keys, where a run gives it, not "
     "float32 of shape (1, 13)"),
])
def test_masks_of_runs_that_are_refused(options, mask, message, rng):
    """What a host could only give by copying rows, as they depend on what each query sees, is told when compiled."""
    operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT, **options)
    tensors = {name: operands(rng, (2, 9 if name == "q" else 13, 8)) for name in "qkv"}
    with pytest.raises(PearrayError) as error:
        compile_graph(Graph.of(operator, {**tensors, "mask": mask}, constants=()), attention_array("4x6"))
    assert str(error.value) == message


@pytest.mark.parametrize("options", [{"causal": True}, {"lengths": (4, 11)}, {"causal": True, "window": 3}])
def test_great_masks_are_counted_from_keys_that_are_seen(rng, options):
    """The compiler has the golden model's limits for it; masks of all heads may become ones for each."""
    tensors = {name: operands(rng, (2, 13 if name != "q" else 9, 8)) for name in "qkv"}
    tensors["mask"] = np.where(np.arange(13) < 11, np.float32(-1e6), 0) + rng.normal(size=(1, 13)).astype(np.float32)
    operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT, **options)
    found, wanted, compiled = _interpreted(operator, tensors, attention_array("4x6"))
    np.testing.assert_array_equal(found, wanted)
    node = compiled.graph.nodes[0]
    low, high = operator.bounds(2, 9, 13)
    # Beyond the masked keys others alone count.
    seen = np.where(high > 11, np.minimum(high - 11, high - low), high - low)
    assert compiled.graph.macs(node) == np.maximum(seen, 0).sum() * 16


@pytest.mark.parametrize("number", range(12))
def test_no_order_changes_a_byte(number, seed, monkeypatch):
    """Rows of blocks, and the order of commands, are a matter of cycles: any choice is free of races, and exact."""
    rng = np.random.default_rng([seed, number, 7])
    config = attention_array(str(rng.choice(["4x6", "8x8", "16x16"])))

    def choose(layer, timing):
        rows = int(rng.integers(1, layer.most_rows + 1))
        return attention._Way(rows, int(rng.integers(0, min(rows, layer.queries - 1) + 1)), Emission(
            lead=int(rng.choice([0, 1, 2, 4])), strip=int(rng.choice([0, 3, 8])), parts=int(rng.integers(1, 5)),
            ahead=int(rng.integers(1, 5)), spreads=bool(rng.integers(2))))

    monkeypatch.setattr(attention, "_choose", choose)
    for _ in range(3):
        operator, tensors = drawn_attention(rng, config)
        found, wanted, _ = _interpreted(operator, tensors, config)
        np.testing.assert_array_equal(found, wanted)


def test_long_attention_goes_round_all_buffers(rng):
    """Places of every memory are taken again and again: a wait that is left out would be a race."""
    config = configuration(moves=1, softmax=1, activation=2048, weight=1024, output=512, depth=64)
    tensors = {"q": operands(rng, (3, 150, 20)), "k": operands(rng, (1, 130, 20)), "v": operands(rng, (1, 130, 18))}
    operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 4, causal=True)
    found, wanted, _ = _interpreted(operator, tensors, config)
    np.testing.assert_array_equal(found, wanted)


def test_attention_between_other_layers(rng):
    """Attention takes part in a network: what is before it is stored before it reads, and what follows waits for it."""
    config = configuration(moves=1, softmax=1)
    q, kv = operands(rng, (2, 20, 16)), operands(rng, (2, 24, 16))
    operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 4)
    names = {"q": q, "k": kv, "v": kv.copy()}
    graph = Graph(
        nodes=[Node("before", Relu(), {"x": "q"}, {"y": "q2"}),
               Node("attention", operator, {"q": "q2", "k": "k", "v": "v"}, {"y": "y2"}),
               Node("after", Relu(), {"x": "y2"}, {"y": "y"})],
        tensors={name: Tensor(name, value.shape, value.dtype) for name, value in names.items()},
        inputs=[*names], outputs=["y"])
    compiled = compile_graph(graph, config)
    machine = interpreter(config, compiled.memory_bytes)
    machine.write(compiled.segments + compiled.bind(names))
    machine.run(compiled.program_address)
    np.testing.assert_array_equal(compiled.extract("y", machine.read), compiled.graph.golden(names)["y"])
    assert [layer.name for layer in compiled.layers if layer.profile is not None] == ["before", "attention"]


def test_causal_blocks_above_the_diagonal_cost_nothing(rng):
    """Blocks of keys that no query sees are neither loaded nor multiplied."""
    config = configuration(moves=1, softmax=1)
    tensors = {name: operands(rng, (1, 96, 16)) for name in "qkv"}
    work = {}
    for causal in (False, True):
        operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 4, causal=causal)
        *_, compiled = _interpreted(operator, tensors, config)
        work[causal] = compiled.layers[0].work
    # Rows of a diagonal block are walked from the first that sees a key on: half of them, but for half a block a row.
    assert work[True] <= work[False] * (96 + 8) / 2 / 96 + 96 * 4 / 2


def test_rows_do_not_come_too_soon(rng):
    """Where the last rows of a causal block are the first of the next, they would be added to before they stand."""
    config = attention_array("4x6")
    tensors = {"q": operands(rng, (1, 59, 6)), "k": operands(rng, (1, 39, 6)), "v": operands(rng, (1, 39, 6))}
    operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 4, causal=True)
    found, wanted, _ = _interpreted(operator, tensors, config)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("number", range(12))
def test_the_smallest_scratchpads_hold_a_query_and_its_numerators(number, seed):
    """Where two blocks of queries find no room, one must do: waiting for room for both would never end."""
    rng = np.random.default_rng([seed, number])
    elements, queries = int(rng.integers(1, 33)), int(rng.integers(2, 7))
    beat, cols = int(rng.choice([4, 8, 16])), int(rng.integers(1, 9))
    two_bytes = bool(rng.integers(2))
    needed = -(-elements // beat) * beat + 2 * (-(-cols * (1 + two_bytes) // beat) * beat)
    config = configuration(rows=4, cols=cols, lanes=1, data_width=8 * beat, moves=1, softmax=1,
                           activation=max(1 << (needed - 1).bit_length(), 64), weight=4096, output=256, depth=64)
    keys = int(rng.integers(1, 3 * cols))
    tensors = {"q": operands(rng, (2, queries, elements)), "k": operands(rng, (2, keys, elements)),
               "v": operands(rng, (2, keys, int(rng.integers(1, 13))))}
    operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 4, two_bytes=two_bytes)
    found, wanted, _ = _interpreted(operator, tensors, config)
    np.testing.assert_array_equal(found, wanted)


def test_segments_are_bounds_of_each_row(rng):
    """What POSTs hide by a base and a slope is what each row does not see."""
    for _ in range(200):
        rows, cols = int(rng.integers(1, 30)), int(rng.integers(1, 12))
        low, high = (np.clip(rng.integers(-20, 20) + rng.integers(0, 2) * np.arange(rows), 0, rng.integers(1, cols + 1))
                     for _ in range(2))
        seen = np.zeros((rows, cols), bool)
        for part in segments(low, high, cols):
            m, j = np.arange(part.end - part.first)[:, None], np.arange(cols)
            seen[part.first:part.end] = (j >= part.low + part.slope * m) & (j < part.high + part.slope * m)
        j = np.arange(cols)
        np.testing.assert_array_equal(seen, (j >= low[:, None]) & (j < high[:, None]))


@pytest.mark.parametrize(("change", "message"), [
    ({"softmax": 0}, "Attention needs post.softmax = 1 and scratchpads.moves = 1, not 0 and 1"),
    ({"moves": 0}, "Attention needs post.softmax = 1 and scratchpads.moves = 1, not 1 and 0"),
    ({"weight": 64, "rows": 4, "cols": 4}, "Attention: scratchpads.weight_bytes must be at least 256 to hold a block "
     "of keys and one of values, not 64"),
])
def test_what_cannot_hold_attention_is_refused(change, message, rng):
    """An accelerator without what attention needs says which key to change."""
    config = configuration(**{"moves": 1, "softmax": 1} | change)
    tensors = {name: operands(rng, (1, 20, 32)) for name in "qkv"}
    operator = pe.Attention(q_scale=UNIT, k_scale=UNIT, v_scale=UNIT, y_scale=UNIT / 4)
    with pytest.raises(PearrayError) as error:
        compile_graph(Graph.of(operator, tensors), config)
    assert str(error.value) == message
