"""How tensors lie in memory."""

from dataclasses import dataclass

import numpy as np

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
