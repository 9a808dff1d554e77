"""Checkpoints: whole at any moment, and refused where they are none."""

from pathlib import Path

import numpy as np
import pytest

import pearray as pe
from pearray import checkpoints
from pearray.checkpoints import NAME, Checkpoint, load, save
from pearray.training import Snapshot


def checkpoint(rng, steps=3):
    """Draw one."""
    tensors = {"w": rng.normal(size=(3, 2)).astype(np.float32), "w:m": np.zeros((3, 2), np.float32)}
    return Checkpoint(Snapshot(tensors, steps, 1, (1024.0, 2)), rng.random(steps).astype(np.float32),
                      {"workload": "any", "seed": 3}, {"checked": 10})


def same(one, other):
    """Compare two to the last bit."""
    assert (one.snapshot.steps, one.snapshot.lost, one.snapshot.scale, one.made_of, one.checks) == (
        other.snapshot.steps, other.snapshot.lost, other.snapshot.scale, other.made_of, other.checks)
    np.testing.assert_array_equal(one.losses, other.losses)
    assert {*one.snapshot.tensors} == {*other.snapshot.tensors}
    for name, value in one.snapshot.tensors.items():
        assert value.tobytes() == other.snapshot.tensors[name].tobytes()


def test_what_is_saved_is_loaded(rng, tmp_path):
    """If it failed, a training would go on from other weights, or not know how far it was."""
    folder, made = tmp_path / "new" / "folder", checkpoint(rng)
    assert load(folder) is None
    save(folder, made)
    same(load(folder), made)
    later = checkpoint(rng, 5)
    save(folder, later)
    same(load(folder), later)
    assert [path.name for path in folder.iterdir()] == [NAME]


@pytest.mark.parametrize("place", ["write", "replace"])
def test_a_process_that_ends_while_it_saves_leaves_the_checkpoint_before(rng, tmp_path, monkeypatch, place):
    """If it failed, a training killed at a bad moment would have nothing to go on from."""
    first = checkpoint(rng)
    save(tmp_path, first)

    def ends(*args, **kwargs):
        raise KeyboardInterrupt

    def half(file, **arrays):
        file.write(b"PK half of a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(*{"write": (checkpoints.np, "savez", half), "replace": (Path, "replace", ends)}[place])
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, checkpoint(rng, 4))
    same(load(tmp_path), first)
    monkeypatch.undo()
    second = checkpoint(rng, 5)
    save(tmp_path, second)
    same(load(tmp_path), second)


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04 half"])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    """If it failed, a damaged file would end in a traceback."""
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(pe.PearrayError, match=r"^checkpoint '.*checkpoint\.npz' is corrupt or none of pearray"):
        load(tmp_path)


def test_other_files_are_named(rng, tmp_path):
    """If it failed, arrays of somebody else, or a folder that cannot be written, would end in a traceback."""
    np.savez(tmp_path / NAME, w=np.zeros(3))
    with pytest.raises(pe.PearrayError, match=r"is corrupt or none of pearray"):
        load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(pe.PearrayError, match=r"^checkpoint '.*' cannot be written: "):
        save(tmp_path / "file", checkpoint(rng))
