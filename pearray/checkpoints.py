"""Checkpoints of a training: one file, which is replaced whole or not at all."""

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .hdl.errors import PearrayError
from .training import Snapshot

__all__ = ["NAME", "Checkpoint", "load", "save"]

#: Name of the file.
NAME = "checkpoint.npz"

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
        What has been compared so far.
    """

    snapshot: Snapshot
    losses: np.ndarray
    made_of: Mapping[str, Any]
    checks: Mapping[str, Any]


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
        raise PearrayError(f"checkpoint {str(folder / NAME)!r} cannot be written: {error.strerror}") from None


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
        record = json.loads(str(tensors.pop(_RECORD)))
        losses, scale = tensors.pop(_LOSSES), record["scale"]
        snapshot = Snapshot(tensors, record["steps"], record["lost"], None if scale is None else (scale[0], scale[1]))
        return Checkpoint(snapshot, losses, record["made_of"], record["checks"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PearrayError(f"checkpoint {str(path)!r} cannot be read: {error.strerror or error}") from None
    except (AttributeError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        raise PearrayError(f"checkpoint {str(path)!r} is corrupt or none of pearray: begin again in another "
                           "folder") from None
