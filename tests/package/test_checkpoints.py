"""Checkpoints: whole at any moment, and refused where they are none."""

import json
from pathlib import Path

import numpy as np
import pytest

import pearray as pe
from pearray import checkpoints
from pearray.checkpoints import NAME, Checkpoint, load, prepare, save
from pearray.training import Snapshot


def checkpoint(rng, steps=3):
    """Draw one."""
    tensors = {"w": rng.normal(size=(3, 2)).astype(np.float32), "w:m": np.zeros((3, 2), np.float32)}
    return Checkpoint(Snapshot(tensors, steps, 1, (1024.0, 2)), rng.random(steps).astype(np.float32),
                      {"workload": "any", "seed": 3},
                      {"checked_steps": 1, "checked": 10, "mismatches": 0, "first_difference": None})


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
    with pytest.raises(pe.PearrayError, match=r"^checkpoint '.*' cannot be written: "):
        prepare(tmp_path / "file")
    prepare(tmp_path / "new")
    assert not [*(tmp_path / "new").iterdir()]


@pytest.mark.parametrize("changes", [
    {"steps": "a"}, {"steps": -3}, {"steps": 4}, {"steps": None}, {"lost": 9}, {"lost": "x"}, {"scale": []},
    {"scale": ["a", 0]}, {"scale": [3.0, 0]}, {"made_of": []}, {"checks": []}, {"checks": {"step": 1}},
    {"checks": {"checked_steps": 0, "checked": "x", "mismatches": 0, "first_difference": None}}], ids=str)
def test_records_that_make_no_sense_are_named(rng, tmp_path, changes):
    """If it failed, a record of wrong values would end in a traceback, or change any member of a training."""
    save(tmp_path, checkpoint(rng))
    with np.load(tmp_path / NAME) as file:
        arrays = {name: file[name] for name in file.files}
    record = json.loads(str(arrays[" record"])) | changes
    np.savez(tmp_path / NAME, **arrays | {" record": np.array(json.dumps(record))})
    with pytest.raises(pe.PearrayError, match=r"is corrupt or none of pearray"):
        load(tmp_path)


def test_no_wrong_byte_is_taken_for_a_weight(rng, tmp_path):
    """If it failed, a byte that a disk got wrong would end in a traceback or be learned from."""
    made = checkpoint(rng)
    save(tmp_path, made)
    whole = (tmp_path / NAME).read_bytes()
    refused = 0
    places = range(int(rng.integers(7)), len(whole), 7)
    for place in places:
        wrong = bytearray(whole)
        wrong[place] ^= int(rng.integers(1, 256))
        (tmp_path / NAME).write_bytes(wrong)
        try:
            found = load(tmp_path)
        except pe.PearrayError:
            refused += 1
        else:
            # Some bytes say nothing; another name of a tensor is refused where a training goes on.
            assert all(value.tobytes() == made.snapshot.tensors.get(name, value).tobytes()
                       for name, value in found.snapshot.tensors.items())
    assert refused > len(places) / 2
