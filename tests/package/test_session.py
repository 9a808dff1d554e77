"""Sessions: what a program appends stays in memory for its next run."""

import numpy as np
import pytest

import pearray as pe


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


def test_wrong_states_are_named():
    """A state under a wrong name would be lost without a word."""
    handle = _handle()
    with pytest.raises(pe.PearrayError, match=r"^unknown tensor that stays in memory 'x'"):
        handle.session({"x": np.zeros((2, 1, 4), np.int8)})
    with pytest.raises(pe.PearrayError, match=r"^past stays in memory, and is no input of a run of a session; begin"):
        handle.session().run({"past": np.zeros((2, 6, 4), np.int8), "x": np.zeros((2, 1, 4), np.int8), "position": 0})
    with pytest.raises(pe.PearrayError, match=r"^tensors must be a dict of arrays by name, not NoneType"):
        handle.session().run(None)
    with pytest.raises(pe.PearrayError, match=r"^present must be an output of the graph, so that what stands"):
        _handle([]).session()
