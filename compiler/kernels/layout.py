"""How tensors lie in memory."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...hdl.errors import PearrayError

__all__ = ["Layout", "operand_array"]


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

    def transposed(self, order: Sequence[int]) -> "Layout":
        """Layout of the same bytes with the axes of the tensor in another order, as ``numpy.transpose`` takes it.

        Raises
        ------
        PearrayError
            If an axis of the tensor is made of parts of those in memory.
        """
        groups = self.factors()
        shape = tuple(self.shape[axis] for axis in order)
        if groups is None:
            raise PearrayError(f"a tensor of shape {self.shape} whose elements stand in memory as {self.physical} "
                               "can't be transposed without a copy: reshape it so that axes are split or joined whole")
        permuted = [part for axis in order for part in groups[axis]]
        inside = sorted(permuted, key=lambda part: -part[1])
        return Layout(tuple(size for size, _ in inside), tuple(inside.index(part) for part in permuted), shape)

    def strides(self) -> tuple[int, ...] | None:
        """Elements of memory from one index of each axis to the next, 0 for axes of one; None if they differ."""
        groups = self.factors()
        if groups is None:
            return None
        for parts in groups:
            if any(far != size * near for (_, far), (size, near) in pairwise(parts)):
                return None
        return tuple(parts[-1][1] if parts else 0 for parts in groups)

    def factors(self) -> list[list[tuple[int, int]]] | None:
        """For each axis of the tensor the axes in memory that make it, or parts of them, as sizes and strides.

        None if an axis is not made of whole factors of those in memory.
        """
        steps = [int(np.prod(self.physical[axis + 1:], dtype=np.int64)) for axis in range(len(self.physical))]
        left = deque((self.physical[axis], steps[axis]) for axis in self.axes if self.physical[axis] > 1)
        groups = []
        for size in self.shape:
            parts: list[tuple[int, int]] = []
            while size > 1:
                whole, step = left.popleft()
                if max(whole, size) % min(whole, size):
                    return None
                if whole > size:
                    left.appendleft((whole // size, step))
                    step *= whole // size
                parts.append((min(whole, size), step))
                size //= min(whole, size)
            groups.append(parts)
        return groups

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


def operand_array(values: np.ndarray, item: int) -> np.ndarray:
    """Values as `item`-byte little-endian integers, whatever their sign."""
    return values.astype(np.int64).astype(f"<u{item}")
