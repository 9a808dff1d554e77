"""What is shared by readers of files: graphs under construction, windows that keep an image's size, tables of words."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node, Tensor
from ..operators import Given

__all__ = ["GraphBuilder", "looked_up", "same_padding"]


@dataclass
class GraphBuilder:
    """Graph under construction.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Tensors made so far, and the graph's inputs.
    constants : dict of str to ndarray
        Tensors known at compile time.
    """

    tensors: dict[str, Tensor]
    constants: dict[str, np.ndarray]
    nodes: list[Node] = field(default_factory=list)
    #: All names of tensors in the file, which others must not have.
    names: set[str] = field(default_factory=set)
    #: Tensors that the file does not have, with those on the way to which, or behind which, they are.
    aliases: dict[str, str] = field(default_factory=dict)

    def inner(self, name: str, what: str) -> str:
        """Name of a tensor that the file does not have, on the way to the one of a name."""
        inner = f"{name}:{what}"
        while inner in self.names or inner in self.constants or inner in self.tensors:
            inner += "'"
        self.names.add(inner)
        self.aliases[inner] = name
        return inner

    def tensor(self, name: str) -> Tensor:
        """Shape and type of a tensor, constant or not."""
        if name in self.constants:
            value = self.constants[name]
            return Tensor(name, value.shape, value.dtype)
        if name not in self.tensors:
            raise PearrayError(f"tensor {name!r} is made by no node before this one")
        return self.tensors[name]

    def store(self, name: str, value: np.ndarray) -> str:
        """Add a constant that the file does not have, under a name like `name`, and return its name."""
        while name in self.names or name in self.constants or name in self.tensors:
            name += "'"
        self.constants[name] = value
        return name


def same_padding(size: int, taps: int, stride: int, dilation: int) -> int:
    """Elements added to an axis so that a window has ``ceil(size / stride)`` outputs along it."""
    return max((-(-size // stride) - 1) * stride + dilation * (taps - 1) + 1 - size, 0)


def looked_up(table: np.ndarray, axis: int, indices: Tensor) -> Given:
    """What the host looks up in a table along an axis by an input of the network, before the run.

    Raises
    ------
    PearrayError
        If the table has no such axis.
    """
    if not -table.ndim <= axis < table.ndim:
        raise PearrayError(f"axis must be in {-table.ndim}..{table.ndim - 1}, not {axis}")
    axis %= table.ndim
    shape = (*table.shape[:axis], *indices.shape, *table.shape[axis + 1:])
    return Given(partial(_taken, table, axis), ("indices",), shape, table.dtype)


def _taken(table: np.ndarray, axis: int, indices: np.ndarray) -> np.ndarray:
    """Entries of a table, counted from its end if an index is less than zero."""
    size = table.shape[axis]
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        raise PearrayError(f"indices must be in {-size}..{size - 1}, not {indices.min()}..{indices.max()}")
    return np.ascontiguousarray(np.take(table, indices, axis))
