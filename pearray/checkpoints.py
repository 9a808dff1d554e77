"""Checkpoints of a training: one file, which is replaced whole or not at all."""

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .hdl.errors import PearrayError, check_count
from .training import Snapshot

__all__ = ["CHECKS", "NAME", "Checkpoint", "load", "prepare", "save"]

#: Name of the file.
NAME = "checkpoint.npz"

#: What is kept of comparisons with the RTL: members of :class:`.training.Training`.
CHECKS = "checked_steps", "checked", "mismatches", "first_difference"

#: Array of the file that holds all but tensors; its name is none of a tensor, which has no space at its ends.
_RECORD, _LOSSES = " record", " losses"


@dataclass(frozen=True)
class Checkpoint:
    """A training behind some step.

    Parameters
    ----------
    snapshot : Snapshot
        Weights, state and counts.
    losses : (steps,) float32 ndarray
        The loss before each step.
    made_of : mapping
        What decides its bits, as JSON has it: a training of anything else must not go on from it.
    checks : mapping
        What has been compared so far, by the names of :data:`CHECKS`.
    """

    snapshot: Snapshot
    losses: np.ndarray
    made_of: Mapping[str, Any]
    checks: Mapping[str, Any]


def prepare(folder: Path) -> None:
    """Make a folder, if there is none, and see that checkpoints can be written to it.

    Raises
    ------
    PearrayError
        If they cannot.
    """
    partial = folder / f"{NAME}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> PearrayError:
    return PearrayError(f"checkpoint {str(folder / NAME)!r} cannot be written: {error.strerror}")


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in the place of the one before, so that whenever the process ends there is a whole one.

    Raises
    ------
    PearrayError
        If the folder cannot be written.
    """
    snapshot = checkpoint.snapshot
    record = {"steps": snapshot.steps, "lost": snapshot.lost, "scale": snapshot.scale,
              "made_of": checkpoint.made_of, "checks": checkpoint.checks}
    partial = folder / f"{NAME}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_RECORD: np.array(json.dumps(record)), _LOSSES: checkpoint.losses,
                                                  **snapshot.tensors})
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / NAME)
        # What a folder names is on the disk only when the folder is.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise _unwritable(folder, error) from None


def load(folder: Path) -> Checkpoint | None:
    """Read the checkpoint of a folder; None if there is none.

    Raises
    ------
    PearrayError
        If it cannot be read, or is none.
    """
    path = folder / NAME
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            tensors = {name: found[name] for name in found.files}
        return _checkpoint(tensors)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PearrayError(f"checkpoint {str(path)!r} cannot be read: {error.strerror or error}") from None
    # The last are what zipfile and NumPy raise of a header with wrong bits, the first what the record lacks.
    except (PearrayError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, MemoryError,
            OverflowError, struct.error, zlib.error, zipfile.BadZipFile):
        raise PearrayError(f"checkpoint {str(path)!r} is corrupt or none of pearray: begin again in another "
                           "folder") from None


def _checkpoint(tensors: dict[str, np.ndarray]) -> Checkpoint:
    """Checkpoint of the arrays of a file; some error if they are none."""
    record, losses = json.loads(str(tensors.pop(_RECORD))), tensors.pop(_LOSSES)
    steps, scale, made_of, checks = (record[name] for name in ("steps", "scale", "made_of", "checks"))
    first = checks["first_difference"]
    for name in CHECKS[:3]:
        check_count(name, checks[name])
    if ({*checks} != {*CHECKS} or not isinstance(made_of, dict) or not (first is None or isinstance(first, str))
            or (losses.shape, losses.dtype) != ((steps,), np.float32)):
        raise ValueError
    return Checkpoint(Snapshot(tensors, steps, record["lost"], None if scale is None else (scale[0], scale[1])),
                      losses, made_of, checks)
