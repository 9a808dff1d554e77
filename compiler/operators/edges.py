"""Operators that take no array: other shapes of tensors, quantisation at a graph's edges, and what hosts make there."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from ...golden.quantise import dynamic_quantize_linear
from ...hdl.errors import PearrayError, check_choice
from .fields import Bounds, Index, Scale, Shape, ZeroPoint, storage_dtype
from .operator import Operator, Spec, Typed

__all__ = [
    "AtEnd", "Dequantize", "DynamicQuantize", "Given", "Quantize", "Real", "RealSums", "RealTable", "Reshape",
    "ZeroPoints",
]


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
        return [x.reshape(self._types(x)[0][0]).copy()]


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
class DynamicQuantize(Operator):
    """ONNX DynamicQuantizeLinear of an input of the graph, on the host; see :func:`.dynamic_quantize_linear`.

    Parameters
    ----------
    low, high : float
        Limits of the input, before all else.
    """

    outputs: ClassVar[tuple[str, ...]] = ("y", "scale", "zero_point")
    at_edge: ClassVar[bool] = True

    low: float = -np.inf
    high: float = np.inf

    def _types(self, x: Typed) -> list[Spec]:
        if np.dtype(x.dtype) != np.float32:
            raise PearrayError(f"x must be float32, not {x.dtype}")
        return [(tuple(x.shape), np.dtype(np.uint8)), ((), np.dtype(np.float32)), ((), np.dtype(np.uint8))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [*dynamic_quantize_linear(np.clip(x, np.float32(self.low), np.float32(self.high)))]


class AtEnd(Operator):
    """Base of what the host makes of what a program has left in memory, and of what it knows itself."""


@dataclass(frozen=True, eq=False)
class ZeroPoints(AtEnd):
    """Sums of products of numbers less their zero points, out of sums of products of the stored ones.

    For zero points that each run gives, or that rows and columns have for themselves; arrays subtract one number from
    all that they load. Sums wrap at 32 bits.

    Tensors: x (..., M, N) or (N, M, P, Q), the sums, int32; `more`, others to be added; `a_zero_point`, a number, (M,)
    or (..., M, 1); `b_zero_point`, a number, (N,) or (..., 1, N), with the operands `a` (..., M, K) and `b`
    (..., K, N).

    Parameters
    ----------
    columns : int64 array, optional
        By how much sums are greater where all of a is greater by one. `b` says it if it is absent.
    """

    optional: ClassVar[tuple[str, ...]] = ("more", "a", "b", "a_zero_point", "b_zero_point")

    columns: np.ndarray | None = None

    def _types(self, x: Typed, **others: Typed) -> list[Spec]:
        return [(tuple(x.shape), np.dtype(np.int32))]

    def _compute(self, x: np.ndarray, more: Any = 0, a: Any = None, b: Any = None, a_zero_point: Any = 0,
                 b_zero_point: Any = 0) -> list[np.ndarray]:
        x, more, a_zero, b_zero = (np.asarray(value).astype(np.int64) for value in (x, more, a_zero_point,
                                                                                    b_zero_point))
        a_zero = a_zero[:, None] if a_zero.ndim == 1 else a_zero
        sums, columns = x + more, self.columns
        if columns is None:
            columns = b.sum(-2, np.int64, keepdims=True) - b.shape[-2] * b_zero
        if b_zero.any():
            sums -= a.sum(-1, np.int64, keepdims=True) * b_zero
        # NumPy wraps integers that are cut off.
        return [(sums - a_zero * columns).astype(np.int32)]


class Real(AtEnd):
    """Base of what the host makes of a graph's outputs: real numbers, float32, of the shape of x."""

    def _types(self, x: Typed) -> list[Spec]:
        return [(tuple(x.shape), np.dtype(np.float32))]


@dataclass(frozen=True, eq=False)
class Dequantize(Real):
    """ONNX DequantizeLinear to float32 of one scale, at a graph's edge, on the host."""

    stated: ClassVar = {"x": ("scale", "zero_point")}

    scale: Scale
    zero_point: ZeroPoint = 0

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        difference = x.astype(np.int32) - int(self.zero_point)
        return [difference.astype(np.float32) * np.float32(self.scale)]


@dataclass(frozen=True, eq=False)
class Given(Operator):
    """What the host makes of inputs of a graph before a run, as a mask of the numbers of words.

    Parameters
    ----------
    function : callable
        Takes the inputs by name.
    names : tuple of str
        Names of them, which are the roles.
    shape : tuple of int
        Shape of what it makes.
    dtype : numpy.dtype
        Its type.
    """

    at_edge: ClassVar[bool] = True

    function: Callable[..., np.ndarray]
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    of_masks: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self).update(required=self.names, masks=self.names if self.of_masks else ())

    def _types(self, **inputs: Typed) -> list[Spec]:
        return [(self.shape, self.dtype)]

    def _compute(self, **inputs: Any) -> list[np.ndarray]:
        return [self.function(**inputs)]


@dataclass(frozen=True, eq=False)
class RealSums(Real):
    """Sums as real numbers, ``float32(x) * scale + bias``, each operation rounded, limited to low..high.

    Parameters
    ----------
    scale : float32 array of shape () or (channels,)
        What a sum is multiplied by.
    bias : float32 array of shape () or (channels,)
        What is added to it.
    axis : int
        Axis of the channels.
    low, high : float
        Limits.
    """

    scale: np.ndarray
    bias: np.ndarray
    axis: Index = 0
    low: float = -np.inf
    high: float = np.inf

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        scale, bias = (_along(np.asarray(part, np.float32), self.axis, x.ndim) for part in (self.scale, self.bias))
        with np.errstate(over="ignore", under="ignore"):
            real = x.astype(np.float32) * scale + bias
        return [np.clip(real, np.float32(self.low), np.float32(self.high))]


@dataclass(frozen=True, eq=False)
class RealTable(Real):
    """Real number for each stored 8-bit value: a function of a tensor that nobody quantises.

    Parameters
    ----------
    table : float32 array of shape (256,) or (channels, 256)
        Entry i belongs to the stored value whose low 8 bits are i.
    axis : int
        Axis of the channels.
    """

    table: np.ndarray
    axis: Index = 0

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        places = x.astype(np.int64) & 255
        if self.table.ndim == 1:
            return [self.table[places]]
        channel = _along(np.arange(len(self.table)), self.axis, x.ndim)
        return [self.table[channel, places]]


def _along(values: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Numbers of an axis so that they broadcast to a tensor of some dimensions."""
    return values.reshape([-1 if place == axis % rank else 1 for place in range(rank)]) if values.ndim else values
