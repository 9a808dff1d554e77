"""Tensors that the host writes and reads: where in memory, in which order, as which type."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..hdl.arithmetic.arithmetic import Arithmetic
from .kernels.layout import Layout

__all__ = ["Placed"]


@dataclass(frozen=True, eq=False)
class Placed:
    """A tensor in memory: where, in which order, as which type.

    A kind of array may have tensors that stand otherwise, as codes for instance: it derives a class of its own.

    Parameters
    ----------
    name : str
        Name.
    address : int
        First byte.
    layout : Layout
        Order of the elements.
    dtype : numpy.dtype
        Type of the tensor.
    item : int
        Bytes of an element in memory.
    arithmetic : Arithmetic
        Numbers of the accelerator, which say how elements stand in memory.
    """

    name: str
    address: int
    layout: Layout
    dtype: np.dtype
    item: int
    arithmetic: Arithmetic

    def to_bytes(self, array: np.ndarray) -> bytes:
        """Bytes of a tensor as memory holds them."""
        return self.arithmetic.to_memory(self.layout.to_memory(array), self.item).tobytes()

    def from_bytes(self, data: bytes) -> np.ndarray:
        """Tensor from memory's bytes."""
        return self.layout.from_memory(self.arithmetic.from_memory(data, self.item, self.dtype))

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(np.prod(self.layout.physical, dtype=np.int64)) * self.item

    def describe(self) -> dict[str, Any]:
        """Entry of the tensor map: strides are in bytes, in the order of the tensor's own axes."""
        strides = np.cumprod([self.item, *self.layout.physical[:0:-1]])[::-1]
        entry: dict[str, Any] = {
            "name": self.name, "address": self.address, "bytes": self.nbytes, "shape": list(self.layout.shape),
            "dtype": str(self.dtype), "item_bytes": self.item, "physical_shape": list(self.layout.physical),
            "axes": list(self.layout.axes), "layout": "NHWC" if self.layout.axes == (0, 3, 1, 2) else "row-major",
        }
        if tuple(self.layout.physical[axis] for axis in self.layout.axes) == self.layout.shape:
            entry["strides"] = [int(strides[axis]) for axis in self.layout.axes]
        return entry
