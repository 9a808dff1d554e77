"""Where everything stands in memory: program, packed constants, activations, profile records."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError

__all__ = ["Layout", "MemoryPlan", "Stored"]

#: Tensors start at multiples of this, so that no burst of a tensor's start is cut short.
ALIGNMENT = 64
_MEMORY = 1 << 32


@dataclass(frozen=True)
class Layout:
    """How a tensor in ONNX's order lies in memory.

    ``memory.reshape(physical).transpose(axes).reshape(shape)`` is the tensor.

    Parameters
    ----------
    physical : tuple of int
        Sizes in memory, slowest first.
    axes : tuple of int
        Permutation of them.
    shape : tuple of int
        Shape of the tensor.
    """

    physical: tuple[int, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> "Layout":
        """Layout of a fresh tensor: NHWC for images (N, C, H, W), else row-major."""
        if len(shape) == 4:
            n, c, h, w = shape
            return cls((n, h, w, c), (0, 3, 1, 2), shape)
        return cls(shape, tuple(range(len(shape))), shape)

    def reshaped(self, shape: tuple[int, ...]) -> "Layout":
        """Layout of the same bytes under another shape."""
        return Layout(self.physical, self.axes, shape)

    def positions(self) -> np.ndarray:
        """Element of memory that holds each element, of the tensor's shape."""
        count = int(np.prod(self.physical, dtype=np.int64))
        return np.arange(count).reshape(self.physical).transpose(self.axes).reshape(self.shape)

    def same_memory(self, other: "Layout") -> bool:
        """Whether both describe the same order of elements."""
        if self == other:
            return True
        return self.shape == other.shape and bool(np.array_equal(self.positions(), other.positions()))

    def to_memory(self, array: np.ndarray) -> np.ndarray:
        """Elements of a tensor in memory's order, flat."""
        axes = np.argsort(self.axes)
        permuted = [self.physical[axis] for axis in self.axes]
        return np.ascontiguousarray(array.reshape(permuted).transpose(axes)).reshape(-1)

    def from_memory(self, flat: np.ndarray) -> np.ndarray:
        """Tensor from its elements in memory's order."""
        return np.ascontiguousarray(flat.reshape(self.physical).transpose(self.axes)).reshape(self.shape)


@dataclass(eq=False)
class Stored:
    """A tensor in memory, seen as pixels of channels.

    Parameters
    ----------
    name : str
        Name.
    address : int
        First byte.
    pixels, channels, item : int
        Pixels, elements of each, bytes of an element.

    Members
    -------
    missing : ndarray of shape (pixels,)
        Channels of each pixel for which no STORE has been emitted yet.
    ordinal : ndarray of shape (pixels,)
        Latest STORE so far that writes a part of the pixel.
    """

    name: str
    address: int
    pixels: int
    channels: int
    item: int
    missing: np.ndarray = field(init=False)
    ordinal: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.missing = np.zeros(self.pixels, np.int32)
        self.ordinal = np.zeros(self.pixels, np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.pixels * self.channels * self.item

    def viewed(self, pixels: int, channels: int) -> "Stored":
        """Return the same bytes as other pixels, sharing what has been stored if the pixels agree."""
        if (pixels, channels) == (self.pixels, self.channels):
            return self
        return _View(self, pixels, channels)

    def expect_stores(self) -> None:
        """Declare that STOREs will write the whole tensor."""
        self.missing[:] = self.channels

    def note_store(self, pixels: slice | np.ndarray, channels: int, ordinal: int) -> None:
        """Record a STORE of `channels` elements of some pixels."""
        self.missing[pixels] -= channels
        self.ordinal[pixels] = ordinal

    def ready(self, start: int, end: int) -> int | None:
        """STORE to wait for before pixels start..end can be read, or None if one is not yet emitted."""
        if start >= end:
            return 0
        if self.missing[start:end].any():
            return None
        return int(self.ordinal[start:end].max())


class _View(Stored):
    """Another division of a stored tensor's bytes into pixels."""

    def __init__(self, base: Stored, pixels: int, channels: int):
        super().__init__(base.name, base.address, pixels, channels, base.item)
        self._base = base

    def ready(self, start: int, end: int) -> int | None:
        per = self._base.channels
        return self._base.ready(start * self.channels // per, -(-end * self.channels // per))

    def note_store(self, pixels: slice | np.ndarray, channels: int, ordinal: int) -> None:
        raise NotImplementedError("stores go to the tensor itself")


class MemoryPlan:
    """Allocation of memory, from address zero upwards, and the bytes of constants.

    Parameters
    ----------
    keep : bool
        Pack constants; otherwise only addresses are given out.
    """

    def __init__(self, keep: bool = True) -> None:
        self._next = 0
        self._keep = keep
        self._keyed: dict[object, int] = {}
        self.segments: list[tuple[int, bytes]] = []
        self.packed_bytes = 0

    @property
    def end(self) -> int:
        """First address beyond everything so far."""
        return self._next

    def reserve(self, name: str, length: int, alignment: int = ALIGNMENT) -> int:
        """Address of `length` fresh bytes.

        Raises
        ------
        PearrayError
            If 32-bit addresses do not reach.
        """
        address = -(-self._next // alignment) * alignment
        if address + length > _MEMORY:
            raise PearrayError(f"{name} needs {length} bytes beyond the {_MEMORY} that addresses reach")
        self._next = address + max(length, 1)
        return address

    def constant(self, name: str, length: int, make: Callable[[], bytes], key: object = None) -> int:
        """Address of packed constant bytes, which count as packed by the host.

        Parameters
        ----------
        name : str
            Layer, for messages.
        length : int
            Bytes.
        make : callable
            Packs them. A plan that only weighs a tiling does not call it.
        key : object, optional
            Constants of the same key are packed once.
        """
        if key is not None and key in self._keyed:
            return self._keyed[key]
        address = self.reserve(name, length)
        if self._keep:
            self.segments.append((address, make()))
        self.packed_bytes += length
        if key is not None:
            self._keyed[key] = address
        return address


def operand_array(values: np.ndarray, item: int) -> np.ndarray:
    """Values as `item`-byte little-endian integers, whatever their sign."""
    kinds: dict[int, Any] = {1: np.uint8, 2: "<u2", 4: "<u4", 8: "<u8"}
    return values.astype(np.int64).astype(kinds[item])
