"""Rows that are written into a tensor that stays in memory, as into the keys and values that a decoder has seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from ...hdl.errors import PearrayError
from .fields import whole
from .operator import Operator, Spec, Typed

__all__ = ["Append"]


@dataclass(frozen=True, eq=False)
class Append(Operator):
    """The tensor past (H, T, E) with rows x (H, P, E) in the place of its rows from ``offset + position`` on: present.

    A run may give the position, which is 0 otherwise. A program does it in place: past is an input of the graph that
    nothing else reads, and what is read of present is read behind the write.

    Parameters
    ----------
    offset : int
        Place of the first row.
    """

    offset: Annotated[int, whole(0)] = 0

    required: ClassVar[tuple[str, ...]] = ("past", "x")
    optional: ClassVar[tuple[str, ...]] = ("position",)
    outputs: ClassVar[tuple[str, ...]] = ("present",)
    positions: ClassVar[tuple[str, ...]] = ("position",)
    in_place: ClassVar[Mapping[str, str]] = {"past": "present"}

    def most_position(self, tensors: Mapping[str, Typed]) -> int:
        """Greatest position at which there is room for all rows."""
        return tensors["past"].shape[1] - self.offset - tensors["x"].shape[1]

    def _types(self, past: Typed, x: Typed, position: Typed | None = None) -> list[Spec]:
        shapes = tuple(past.shape), tuple(x.shape)
        if any(len(shape) != 3 or 0 in shape for shape in shapes) or shapes[0][::2] != shapes[1][::2]:
            raise PearrayError(f"past and x must have shapes (H, T, E) and (H, P, E), no axis of 0, not {shapes[0]} "
                               f"and {shapes[1]}")
        if np.dtype(past.dtype) != np.dtype(x.dtype):
            raise PearrayError(f"past and x must be of one type, not {past.dtype} and {x.dtype}")
        if self.offset + shapes[1][1] > shapes[0][1]:
            raise PearrayError(f"past must have room for {shapes[1][1]} rows from {self.offset} on, not {shapes[0][1]}")
        return [(shapes[0], np.dtype(past.dtype))]

    def _compute(self, past: np.ndarray, x: np.ndarray, position: np.ndarray | None = None) -> list[np.ndarray]:
        first, present = self.offset + (0 if position is None else int(position)), past.copy()
        present[:, first:first + x.shape[1]] = x
        return [present]
