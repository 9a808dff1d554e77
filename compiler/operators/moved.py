"""What operators have in common that move elements: each says which element of an input every output is.

An output is made of parts. In each the axes of an input are split, brought into another order, and along each of them
indices are picked. That is all that a compiler needs to know of any of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...hdl.errors import PearrayError
from .operator import Operator, Typed

__all__ = ["OUTSIDE", "Moved", "Picked", "PickedAlong", "checked_axis"]

#: Index of what is no element of the input.
OUTSIDE = -1


@dataclass(frozen=True, eq=False)
class Picked:
    """A part of an output, of picked elements of an input.

    Parameters
    ----------
    role : str
        The input.
    split : tuple of int
        Its shape, with axes split.
    into : tuple of int
        Shape of the output, with axes split.
    order : tuple of int
        Axis of the split input that each axis of the split output is.
    indices : mapping of int to ndarray
        By axis of the split output, indices of the input from `start` on; :data:`OUTSIDE` for what is none. Axes that
        are left out have all indices of the input, in order.
    start : mapping of int to int
        First index of the part along axes of the split output; 0 for those that are left out.
    outside : int
        What stands where an index is :data:`OUTSIDE`.
    table : ndarray of shape (256,) or None
        What elements become.
    """

    role: str
    split: tuple[int, ...]
    into: tuple[int, ...]
    order: tuple[int, ...]
    indices: Mapping[int, np.ndarray] = field(default_factory=dict)
    start: Mapping[int, int] = field(default_factory=dict)
    outside: int = 0
    table: np.ndarray | None = None

    @classmethod
    def along(cls, role: str, shape: Sequence[int], indices: Mapping[int, np.ndarray], outside: int = 0) -> "Picked":
        """Indices along some axes of a tensor, and all of the others: a whole output."""
        into = tuple(len(indices[axis]) if axis in indices else size for axis, size in enumerate(shape))
        return cls(role, tuple(shape), into, tuple(range(len(shape))), indices, outside=outside)

    @classmethod
    def ordered(cls, role: str, split: Sequence[int], order: Sequence[int]) -> "Picked":
        """All elements of a tensor, with its axes, perhaps split, in another order: a whole output."""
        return cls(role, tuple(split), tuple(split[axis] for axis in order), tuple(order))

    def picks(self, axis: int) -> np.ndarray:
        """Indices of the input along an axis of the split output."""
        found = self.indices.get(axis)
        return np.arange(self.split[self.order[axis]]) if found is None else found


@dataclass(frozen=True, eq=False)
class Moved(Operator):
    """Base of operators whose outputs are elements of their inputs, or one value besides."""

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """Parts of the output, which cover it, each element once."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class PickedAlong(Moved):
    """Base of operators that pick indices along axes of one tensor, x, along each whatever the others."""

    def _indices(self, shape: Sequence[int]) -> dict[int, np.ndarray]:
        """Indices by axis, of axes that do not stay as they are, for x of a shape."""
        raise NotImplementedError

    @property
    def _outside(self) -> int:
        """What stands where an index is :data:`OUTSIDE`."""
        return 0

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        for axis, indices in self._indices(x.shape).items():
            x = x.take(indices, axis)
        return [np.ascontiguousarray(x)]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """Indices along the axes."""
        shape = tuple(tensors["x"].shape)
        return [Picked.along("x", shape, self._indices(shape), self._outside)]


def checked_axis(name: str, axis: int, rank: int) -> int:
    """Return an axis counted from the first, of a tensor that must have it."""
    if not -rank <= axis < rank:
        raise PearrayError(f"{name} must be in {-rank}..{rank - 1}, not {axis}")
    return axis % rank
