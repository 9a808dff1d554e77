"""Quantisation at a graph's edges with a scale for each index of an axis, or for each block along one, on the host."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...golden.quantise import dequantize_blocks, quantize_blocks
from ...hdl.errors import PearrayError
from .edges import Real
from .fields import Bounds, Count, Index
from .operator import Operator, Spec, Typed

__all__ = ["DequantizeBlocks", "QuantizeBlocks"]


@dataclass(frozen=True, eq=False)
class _Scales:
    """Scales along an axis.

    Parameters
    ----------
    scale : float32 array
        Of the shape of the tensor, but along `axis`, which has one for each block.
    zero_point : integer array of the same shape
        Zero points, whose type is that of the stored tensor.
    axis : int
        Axis along which there are blocks.
    block : int
        Elements of a block; the last one may have fewer.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: Index
    block: Count

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that the scales are those of a tensor of a shape."""
        if not -len(shape) <= self.axis < len(shape):
            raise PearrayError(f"axis must be in {-len(shape)}..{len(shape) - 1}, not {self.axis}")
        axis = self.axis % len(shape)
        wanted = (*shape[:axis], -(-shape[axis] // self.block), *shape[axis + 1:])
        for name, value in (("scale", self.scale), ("zero point", self.zero_point)):
            if value.shape != wanted:
                raise PearrayError(f"{name} must have shape {wanted}, one for each block of {self.block} along axis "
                                   f"{self.axis} of {shape}, not {value.shape}")


@dataclass(frozen=True, eq=False)
class QuantizeBlocks(_Scales, Operator):
    """ONNX QuantizeLinear of an input of the graph with several scales.

    Parameters
    ----------
    clamp : (int, int), optional
        Bounds of the output, if narrower than those of its type.
    """

    at_edge: ClassVar[bool] = True

    clamp: Bounds | None = None

    def _types(self, x: Typed) -> list[Spec]:
        self.check(tuple(x.shape))
        return [(tuple(x.shape), self.zero_point.dtype)]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        y = quantize_blocks(x, self.scale, self.zero_point, axis=self.axis, block=self.block)
        return [y if self.clamp is None else np.clip(y, *self.clamp)]


@dataclass(frozen=True, eq=False)
class DequantizeBlocks(_Scales, Real):
    """ONNX DequantizeLinear of a stored tensor with several scales to an output of the graph."""

    def _types(self, x: Typed) -> list[Spec]:
        self.check(tuple(x.shape))
        return [(tuple(x.shape), np.dtype(np.float32))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [dequantize_blocks(x, self.scale, self.zero_point, axis=self.axis, block=self.block)]
