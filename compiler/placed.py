"""Tensors that the host writes and reads: where in memory, in which order, as which type."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .kernels.layout import Layout, operand_array

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
    """

    name: str
    address: int
    layout: Layout
    dtype: np.dtype
    item: int

    def to_bytes(self, array: np.ndarray) -> bytes:
        """Bytes of a tensor as memory holds them."""
        return operand_array(self.layout.to_memory(array), self.item).tobytes()

    def from_bytes(self, data: bytes) -> np.ndarray:
        """Tensor from memory's bytes."""
        kind = {1: "1", 2: "2", 4: "4", 8: "8"}[self.item]
        sign = "u" if self.dtype.kind == "u" else "i"
        return self.layout.from_memory(np.frombuffer(data, f"<{sign}{kind}")).astype(self.dtype)

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
            "axes": list(self.layout.axes), "layout": "NHWC" if len(self.layout.physical) == 4 else "row-major",
        }
        if tuple(self.layout.physical[axis] for axis in self.layout.axes) == self.layout.shape:
            entry["strides"] = [int(strides[axis]) for axis in self.layout.axes]
        return entry
