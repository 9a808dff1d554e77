"""Tensors that stand in memory as run-length codes: a code for each tile of ifmaps, and for each STORE of ofmaps.

Codes have different lengths, so each has the room of the longest that its words can have: a code word for three words.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...golden import run_length
from ...hdl.row_stationary.config import RowStationaryConfig
from ..kernels.layout import Layout
from ..kernels.views import Buffer
from ..placed import Placed
from ..placement import MemoryPlan

__all__ = ["CodedTensor", "Codes", "Unit"]

_ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class Unit:
    """One code.

    Parameters
    ----------
    offset : int
        Bytes from the tensor's address to the code.
    elements : ndarray of int64
        Element of the tensor, in memory's order (N, H, W, C), of each word; -1 for padding, which is zero, and for
        words that are no output.
    note : dict
        What the unit holds, for the tensor map.
    """

    offset: int
    elements: np.ndarray
    note: dict[str, Any]


@dataclass(frozen=True, eq=False)
class CodedTensor(Placed):
    """A tensor of 16-bit words in memory as codes.

    Parameters
    ----------
    units : list of Unit
        The codes; their elements are counted in the order of the layout.
    size : int
        Bytes of all codes with their room.
    """

    units: list[Unit]
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self.size

    def to_bytes(self, array: np.ndarray) -> bytes:
        """Bytes of a tensor as memory holds them."""
        flat = np.append(self.layout.to_memory(array).astype(np.int16), np.int16(0))
        data = bytearray(self.nbytes)
        for unit in self.units:
            code = run_length.encode(flat[unit.elements]).tobytes()
            data[unit.offset:unit.offset + len(code)] = code
        return bytes(data)

    def from_bytes(self, data: bytes) -> np.ndarray:
        """Tensor from memory's bytes."""
        flat = np.zeros(int(np.prod(self.layout.physical, dtype=np.int64)) + 1, np.int16)
        for unit in self.units:
            code = np.frombuffer(data, "<u8", -(-len(unit.elements) // 3), unit.offset)
            marks = np.flatnonzero(code >> np.uint64(63))
            code = code[:marks[0] + 1] if marks.size else code
            flat[unit.elements] = run_length.decode(code, len(unit.elements)).view(np.int16)
        return self.layout.from_memory(flat[:-1]).astype(self.dtype)

    def describe(self) -> dict[str, Any]:
        """Entry of the tensor map."""
        return {
            "name": self.name, "address": self.address, "bytes": self.nbytes, "shape": list(self.layout.shape),
            "dtype": str(self.dtype), "item_bytes": self.item, "layout": "run-length",
            "codes": [{"offset": unit.offset, "words": len(unit.elements)} | unit.note for unit in self.units],
        }


class Codes:
    """Codes of a layer's input or output, with the LOADs or STOREs that move them.

    Parameters
    ----------
    buffer : Buffer
        The tensor.
    """

    def __init__(self, buffer: Buffer):
        self._buffer = buffer
        self._units: list[Unit] = []
        self._bodies: list[dict[str, int]] = []
        self._size = 0

    def add(self, elements: np.ndarray, note: dict[str, Any], body: dict[str, int]) -> dict[str, int]:
        """Add a :class:`Unit`, and return the body of what moves it, whose address follows when all are known."""
        body["dram"] = self._size
        self._units.append(Unit(self._size, elements, note))
        self._bodies.append(body)
        self._size += -(-8 * -(-len(elements) // 3) // _ALIGNMENT) * _ALIGNMENT
        return body

    def place(self, memory: MemoryPlan, config: RowStationaryConfig) -> CodedTensor | None:
        """Give the codes their place in memory, if there are any."""
        if not self._units:
            return None
        address = memory.reserve(self._buffer.name, self._size)
        for body in self._bodies:
            body["dram"] += address
        shape = self._buffer.rows, self._buffer.columns
        return CodedTensor(self._buffer.name, address, Layout(shape, (0, 1), shape), np.dtype(np.int16),
                           config.operand_bytes, config.arithmetic, self._units, self._size)
