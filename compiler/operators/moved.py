"""What operators have in common that move elements: each says which element of an input every output is.

An output is made of parts. In each the axes of an input are split, brought into another order, and along each of them
indices are picked. That is all that a compiler needs to know of any of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...hdl.errors import PearrayError
from .operator import Operator, Typed

__all__ = ["OUTSIDE", "Moved", "Picked", "checked_axis"]

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


def checked_axis(name: str, axis: int, rank: int) -> int:
    """Return an axis counted from the first, of a tensor that must have it."""
    if not -rank <= axis < rank:
        raise PearrayError(f"{name} must be in {-rank}..{rank - 1}, not {axis}")
    return axis % rank
