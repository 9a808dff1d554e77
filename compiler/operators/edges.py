"""Operators that take no array: other shapes of tensors, and quantisation at a graph's edges."""

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from ...hdl.errors import PearrayError, check_choice
from .fields import Bounds, Scale, Shape, ZeroPoint, storage_dtype
from .operator import Operator, Spec, Typed

__all__ = ["Dequantize", "Quantize", "Reshape"]


@dataclass(frozen=True, eq=False)
class Reshape(Operator):
    """The same elements in ONNX's order under another shape.

    Parameters
    ----------
    shape : tuple of int
        New shape; one entry may be -1.
    """

    shape: Shape

    def _types(self, x: Typed) -> list[Spec]:
        count, shape = prod(x.shape), list(self.shape)
        if shape.count(-1) == 1:
            known = prod(size for size in shape if size != -1)
            shape[shape.index(-1)] = count // known if known and count % known == 0 else -1
        if any(size < 0 for size in shape) or prod(shape) != count:
            raise PearrayError(f"shape must hold the {count} elements of x of shape {tuple(x.shape)}, "
                               f"not be {self.shape}")
        return [(tuple(shape), np.dtype(x.dtype))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [x.reshape(self._types(x)[0][0])]


@dataclass(frozen=True, eq=False)
class Quantize(Operator):
    """ONNX QuantizeLinear of one scale, or TensorFlow Lite's QUANTIZE, at a graph's edge, on the host.

    Parameters
    ----------
    scale : float
        Scale of the output.
    zero_point : NumPy integer
        Zero point, whose type is the output's.
    clamp : (int, int), optional
        Bounds of the output, if narrower than those of its type.
    rounding : {"onnx", "tflite"}
        Halves go to the even integer, or away from zero.
    """

    stated: ClassVar = {"y": ("scale", "zero_point")}
    at_edge: ClassVar[bool] = True

    scale: Scale
    zero_point: ZeroPoint
    clamp: Bounds | None = None
    rounding: str = "onnx"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("rounding", self.rounding, ("onnx", "tflite"))

    def _types(self, x: Typed) -> list[Spec]:
        return [(tuple(x.shape), storage_dtype(self.zero_point) or np.dtype(np.int8))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        [(_, dtype)] = self._types(x)
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if self.clamp is None else self.clamp
        with np.errstate(over="ignore", under="ignore"):
            scaled = x.astype(np.float32) / np.float32(self.scale)
        # Half of a step added in float64, where it is exact.
        whole = np.rint(scaled) if self.rounding == "onnx" else np.copysign(
            np.floor(np.abs(scaled.astype(np.float64)) + 0.5), scaled)
        return [np.clip(whole + int(self.zero_point), low, high).astype(dtype)]


@dataclass(frozen=True, eq=False)
class Dequantize(Operator):
    """ONNX DequantizeLinear to float32 of one scale, at a graph's edge, on the host."""

    stated: ClassVar = {"x": ("scale", "zero_point")}

    scale: Scale
    zero_point: ZeroPoint = 0

    def _types(self, x: Typed) -> list[Spec]:
        return [(tuple(x.shape), np.dtype(np.float32))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        difference = x.astype(np.int32) - int(self.zero_point)
        return [difference.astype(np.float32) * np.float32(self.scale)]
