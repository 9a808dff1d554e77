"""Operators that never mix channels: pooling and tables."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...golden import activation, pool, quantised
from ...hdl.errors import PearrayError
from .activation import float_activation
from .fields import Flag, Pair, Scale, Sides, Stored, ZeroPoint, array, check_size, check_stored
from .operator import Operator, Spec, Typed, sum_dtype
from .scaled import Scaled

__all__ = ["AvgPool2d", "Lookup", "MaxPool2d", "Relu", "every_value", "integer_type", "look_up"]


def integer_type(role: str, tensor: Typed) -> np.dtype:
    """Type of a tensor, which must be of integers that an array takes."""
    dtype = np.dtype(tensor.dtype)
    if dtype.name not in ("int8", "uint8", "int16", "uint16"):
        raise PearrayError(f"{role} must be of type int8, uint8, int16 or uint16, not {dtype}")
    return dtype


@dataclass(frozen=True, eq=False)
class _Pool(Operator):
    """Window of a pooling operator over x (N, C, H, W).

    Parameters
    ----------
    kernel : int, (int, int) or None
        Window, kept as (int, int); None for the whole of H and W.
    stride : int, (int, int) or None
        Steps of the window, kept as (int, int); None for the window itself.
    padding : int, (h, w) or (top, left, bottom, right)
        Elements added on each side, fewer than what a window reaches over; kept in the last form.
    """

    kernel: Pair = None
    stride: Pair = None
    padding: Sides = 0

    def window(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Kernel and stride for an input of `shape`."""
        kernel = (shape[2], shape[3]) if self.kernel is None else self.kernel
        return kernel, kernel if self.stride is None else self.stride

    def _pooled(self, x: Typed, dilation: tuple[int, int], ceil_mode: bool) -> tuple[int, ...]:
        """Shape of the output."""
        shape = tuple(x.shape)
        if len(shape) != 4:
            raise PearrayError(f"x must have 4 dimensions, not shape {shape}")
        top, left, bottom, right = self.padding
        check_size("padded x", (*shape[:2], shape[2] + top + bottom, shape[3] + left + right))
        try:
            sizes = pool.pooled_size(shape[2], shape[3], *self.window(shape), self.padding, dilation, ceil_mode)
        except ValueError as error:
            raise PearrayError(str(error)) from None
        return (*shape[:2], *sizes)


@dataclass(frozen=True, eq=False)
class MaxPool2d(_Pool):
    """Greatest element of each window of x (N, C, H, W); padding never wins.

    Parameters
    ----------
    kernel, stride, padding
        See :class:`_Pool`.
    dilation : int or (int, int)
        Distance of the window's elements, kept as (int, int).
    ceil_mode : bool
        Also make an output of a last window that hangs over the end.
    """

    dilation: Pair = 1
    ceil_mode: Flag = False

    def _types(self, x: Typed) -> list[Spec]:
        return [(self._pooled(x, self.dilation, self.ceil_mode), np.dtype(x.dtype))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        kernel, stride = self.window(x.shape)
        return [pool.max_pool2d(x, kernel, stride=stride, padding=self.padding, dilation=self.dilation,
                                ceil_mode=self.ceil_mode)]


@dataclass(frozen=True, eq=False)
class AvgPool2d(_Pool, Scaled):
    """Mean of each window of x (N, C, H, W), as onnxruntime computes it between DequantizeLinear and QuantizeLinear.

    Parameters
    ----------
    kernel, stride, padding
        See :class:`_Pool`. Without `kernel` the mean is that of GlobalAveragePool.
    x_scale, x_zero_point, y_scale, y_zero_point
        How input and output are stored; see :class:`Scaled`. Without scales the sums of the windows are the output.
    count_include_pad : bool
        Divide by the whole window, not by its elements inside x.
    ceil_mode : bool
        Also make an output of a last window that hangs over the end.
    rounding : {"onnx", "float", "tflite"}
        ``onnx`` and ``float`` are those of :class:`Scaled`, with QLinearAveragePool and QLinearGlobalAveragePool as
        fused kernels. ``tflite`` is the mean of the stored integers, halves away from zero, as TensorFlow Lite's
        AVERAGE_POOL_2D: input and output are stored alike, so it takes no scales.
    """

    stated: ClassVar = {"x": ("x_scale", "x_zero_point"), "y": ("y_scale", "y_zero_point")}
    roundings: ClassVar = ("onnx", "float", "tflite")

    #: Whether sums are divided by how many elements a window has.
    divides: ClassVar[bool] = True

    x_scale: Scale = None
    x_zero_point: ZeroPoint = 0
    y_scale: Scale = None
    y_zero_point: ZeroPoint = 0
    count_include_pad: Flag = False
    ceil_mode: Flag = False
    rounding: str = "onnx"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounding == "tflite" and (self.is_scaled or self.count_include_pad):
            raise PearrayError("rounding 'tflite' takes no scales and never counts padding")

    @property
    def is_global(self) -> bool:
        """Whether it is the mean of whole images."""
        return self.kernel is None and not any(self.padding)

    def _types(self, x: Typed) -> list[Spec]:
        shape, dtype = self._pooled(x, (1, 1), self.ceil_mode), np.dtype(x.dtype)
        if self.is_scaled:
            dtype = self._output_dtype(x=x)
        elif dtype.kind != "f":
            dtype = integer_type("x", x)
            if self.rounding != "tflite":
                check_stored("x_zero_point", self.x_zero_point, dtype)
                dtype = sum_dtype(dtype)
        return [(shape, dtype)]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        kernel, stride = self.window(x.shape)
        [(_, dtype)] = self._types(x)
        geometry: dict[str, Any] = {"stride": stride, "padding": self.padding, "ceil_mode": self.ceil_mode}
        if x.dtype.kind == "f":
            counts = pool.real_window_counts(x.shape[2], x.shape[3], kernel, **geometry,
                                             count_include_pad=self.count_include_pad)
            return [(pool.sequential_sums(x, kernel, **geometry) / counts.astype(np.float32)).astype(dtype)]
        if self.rounding == "tflite":
            return [quantised.integer_average_pool2d(x, kernel, **geometry)]
        if not self.is_scaled:
            sums = pool.window_sums(x, kernel, **geometry, x_zero_point=int(self.x_zero_point))
            return [sums.astype(dtype)]
        scales = *self.stored("x"), *self.stored("y")
        fused = self.is_fused(x=x)
        if self.is_global:
            return [quantised.global_average_pool2d(x, *scales, dtype=dtype, fused=fused)]
        return [quantised.average_pool2d(x, *scales, kernel, **geometry, count_include_pad=self.count_include_pad,
                                         dtype=dtype, fused=fused)]


def every_value(dtype: Any) -> np.ndarray:
    """All values of an 8-bit type in the order of a table's entries."""
    return np.arange(256, dtype=np.uint8).view(dtype)


def look_up(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Entries of a table (256,), or of one (C, 256) for each channel along axis 1."""
    if table.ndim == 1:
        return activation.apply_table(values, table)
    channel = np.arange(table.shape[0]).reshape((1, -1) + (1,) * (values.ndim - 2))
    return table[channel, values.astype(np.int64) & 255]


@dataclass(frozen=True, eq=False)
class Lookup(Operator):
    """Replace each stored 8-bit value by a table's entry: quantised activations, addition of a constant.

    Parameters
    ----------
    table : array of shape (256,) or (C, 256), 8-bit integer
        Entry i belongs to the stored value whose low 8 bits are i; with (C, 256) each channel
        (axis 1 of x) has its own table.
    """

    table: np.ndarray

    def __post_init__(self) -> None:
        # Whoever gave it may change it.
        table = vars(self)["table"] = array("table", self.table, "an array of 8-bit integers", "iu").copy()
        if table.ndim not in (1, 2) or table.shape[-1] != 256 or table.dtype not in (np.int8, np.uint8):
            raise PearrayError("table must be int8 or uint8 of shape (256,) or (channels, 256), "
                               f"not {table.dtype} of shape {table.shape}")

    def _types(self, x: Typed) -> list[Spec]:
        if np.dtype(x.dtype) not in (np.int8, np.uint8):
            raise PearrayError(f"x must be of type int8 or uint8, not {x.dtype}")
        if self.table.ndim == 2 and (len(x.shape) < 2 or x.shape[1] != self.table.shape[0]):
            raise PearrayError(f"table must have one row for each channel of x of shape {tuple(x.shape)}, "
                               f"not {self.table.shape[0]}")
        return [(tuple(x.shape), self.table.dtype)]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [look_up(x, self.table)]


@dataclass(frozen=True, eq=False)
class Relu(Operator):
    """``max(x, zero_point)`` of a quantised tensor of any shape, or of one of floats, whose zero is 0."""

    zero_point: Stored = 0

    def _types(self, x: Typed) -> list[Spec]:
        if np.dtype(x.dtype).kind != "f":
            check_stored("zero_point", self.zero_point, integer_type("x", x))
        elif self.zero_point:
            raise PearrayError(f"zero_point must be 0 for x of type {x.dtype}, not {self.zero_point}")
        return [(tuple(x.shape), np.dtype(x.dtype))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        if x.dtype.kind == "f":
            return [float_activation("relu", x)]
        return [np.maximum(x, x.dtype.type(self.zero_point))]
