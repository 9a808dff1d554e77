"""Sessions: what a program appends stays in memory for its next run."""

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor


def _handle(outputs=None):
    tensors = {"past": np.zeros((2, 6, 4), np.int8), "x": np.zeros((2, 1, 4), np.int8), "position": 0}
    handle = pe.compile(pe.Append(), tensors, on="systolic-8x8")
    if outputs is not None:
        handle.graph.outputs = outputs
    return handle


def test_rows_of_runs_stay(rng):
    """A run that began with what the first one found would lose the rows of those between."""
    rows = rng.integers(-128, 128, (4, 2, 1, 4)).astype(np.int8)
    begun = rng.integers(-128, 128, (2, 6, 4)).astype(np.int8)
    handle = _handle()
    for session, wanted in ((handle.session(), np.zeros_like(begun)), (handle.session({"past": begun}), begun.copy())):
        for position, x in enumerate(rows):
            result = session.run({"x": x, "position": position})
            wanted[:, position] = x[:, 0]
        np.testing.assert_array_equal(session.state["past"], wanted)
        np.testing.assert_array_equal(result.outputs["present"], wanted)


def test_memory_is_no_array_of_the_caller(rng):
    """Who writes into an array that went in, or came out, would change what the accelerator has in memory."""
    begun = rng.integers(-128, 128, (2, 6, 4)).astype(np.int8)
    rows = rng.integers(-128, 128, (2, 2, 1, 4)).astype(np.int8)
    wanted, session = begun.copy(), _handle().session({"past": begun})
    for position, x in enumerate(rows):
        begun[:] = position
        result = session.run({"x": x, "position": position})
        wanted[:, position] = x[:, 0]
        np.testing.assert_array_equal(result.outputs["present"], wanted)
        result.outputs["present"][:] = 9


def _decoder(rng):
    """Attention over keys and values that stay in memory, and a token."""
    shapes = {"q": (1, 1, 8), "k": (1, 1, 8), "v": (1, 1, 8), "keys": (1, 64, 8), "values": (1, 64, 8)}
    given = {name: rng.integers(-128, 128, shape).astype(np.int8) for name, shape in shapes.items()}
    scales = dict.fromkeys(("q_scale", "k_scale", "v_scale", "y_scale"), 1 / 64)
    nodes = [Node("append k", pe.Append(), {"past": "keys", "x": "k", "position": "at"}, {"present": "all keys"}),
             Node("append v", pe.Append(), {"past": "values", "x": "v", "position": "at"}, {"present": "all values"}),
             Node("attend", pe.Attention(**scales, causal=True),
                  {"q": "q", "k": "all keys", "v": "all values", "position": "at"}, {"y": "y"})]
    tensors = {name: Tensor(name, value.shape, value.dtype) for name, value in given.items()}
    graph = Graph(nodes, {**tensors, "at": Tensor("at", (), np.dtype(np.int64))},
                  inputs=[*given, "at"], outputs=["y", "all keys", "all values"])
    return graph, given


def test_a_run_takes_the_shortest_program(rng):
    """Steps at the beginning of a context would cost what the last one does; all programs have one memory."""
    graph, given = _decoder(rng)
    handle = pe.compile(graph, {**given, "at": 0}, on="systolic-8x8")
    session = handle.session({"keys": given["keys"], "values": given["values"]})
    token, cycles = {name: given[name] for name in "qkv"}, {}
    for position in (0, 15, 31, 32, 63):
        expected = pe.golden_run(graph, {**token, **session.state, "at": np.array(position)}, on="systolic-8x8")
        result = session.run({**token, "at": position})
        for name, value in expected.items():
            np.testing.assert_array_equal(result.outputs[name], value, f"{name} at {position}")
        cycles[position] = result.cycles
    assert cycles[0] <= cycles[15] <= cycles[31] < cycles[32] == cycles[63]
    whole, lengths = handle.compiled(), []
    for most in (7, 15, 31, None):
        short = handle.compiled(most_position=most)
        lengths.append(short.program.length)
        assert {name: placed.address for name, placed in (short.inputs | short.outputs).items()} == {
            name: placed.address for name, placed in (whole.inputs | whole.outputs).items()}
    assert lengths == sorted({*lengths})
    with pytest.raises(pe.PearrayError, match=r"^input 'at' must be in 0\.\.63, not 64"):
        session.run({**token, "at": 64})


def test_wrong_states_are_named():
    """A state under a wrong name would be lost without a word."""
    handle = _handle()
    with pytest.raises(pe.PearrayError, match=r"^unknown tensor that stays in memory 'x'"):
        handle.session({"x": np.zeros((2, 1, 4), np.int8)})
    for wrong in (np.zeros((2, 5, 4), np.int8), np.zeros((2, 6, 4), np.uint8)):
        with pytest.raises(pe.PearrayError, match=r"^tensor 'past', which stays in memory, must be int8 of shape \(2"):
            handle.session({"past": wrong})
    with pytest.raises(pe.PearrayError, match=r"^progress must be None or a function of the cycles so far, not 7$"):
        handle.session().run({"x": np.zeros((2, 1, 4), np.int8), "position": 0}, "amaranth", 7)
    with pytest.raises(pe.PearrayError, match=r"^past stays in memory, and is no input of a run of a session; begin"):
        handle.session().run({"past": np.zeros((2, 6, 4), np.int8), "x": np.zeros((2, 1, 4), np.int8), "position": 0})
    with pytest.raises(pe.PearrayError, match=r"^tensors must be a dict of arrays by name, not NoneType"):
        handle.session().run(None)
    with pytest.raises(pe.PearrayError, match=r"^present must be an output of the graph, so that what stands"):
        _handle([]).session()
