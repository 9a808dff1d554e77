"""Operators that never mix channels: pooling, addition, tables, and changes of shape or type."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...hdl.errors import PearrayError
from . import reference
from .operator import Operator, Spec, Typed, padding4, pair
from .requant import check_quantised, check_scale, check_stored, check_zero_point, storage_dtype

__all__ = ["Add", "AvgPool2d", "Dequantize", "Lookup", "MaxPool2d", "Quantize", "Relu", "Reshape"]


def _integer(role: str, tensor: Typed, rank: int | None = None) -> np.dtype:
    dtype = np.dtype(tensor.dtype)
    if dtype.name not in ("int8", "uint8", "int16", "uint16"):
        raise PearrayError(f"{role} must be of type int8, uint8, int16 or uint16, not {dtype}")
    if rank is not None and len(tensor.shape) != rank:
        raise PearrayError(f"{role} must have {rank} dimensions, not shape {tuple(tensor.shape)}")
    return dtype


@dataclass(frozen=True, eq=False)
class _Pool(Operator):
    """Window of a pooling operator over x (N, C, H, W).

    Parameters
    ----------
    kernel : int, (int, int) or None
        Window; None for the whole of H and W.
    stride : int, (int, int) or None
        Steps of the window; None for the window itself.
    padding : int, (h, w) or (top, left, bottom, right)
        Elements added on each side, which no window may lie wholly in.
    """

    kernel: Any = None
    stride: Any = None
    padding: Any = 0

    def __post_init__(self) -> None:
        if self.kernel is not None:
            pair("kernel", self.kernel)
        if self.stride is not None:
            pair("stride", self.stride)
        padding4(self.padding)

    def window(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
        """Kernel and stride for an input of `shape`."""
        kernel = (shape[2], shape[3]) if self.kernel is None else pair("kernel", self.kernel)
        return kernel, kernel if self.stride is None else pair("stride", self.stride)

    def _dilation(self) -> tuple[int, int]:
        return 1, 1

    @property
    def _ceil_mode(self) -> bool:
        return False

    def _pooled(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        kernel, stride = self.window(shape)
        padding, dilation = padding4(self.padding), self._dilation()
        sizes = []
        for axis in range(2):
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            if max(padding[axis], padding[axis + 2]) >= reach:
                raise PearrayError(f"padding must be smaller than the window {kernel}, not {padding}")
            span = shape[2 + axis] + padding[axis] + padding[axis + 2] - reach
            if span < 0:
                raise PearrayError(f"kernel must fit padded x of shape {tuple(shape)}, not be {kernel}")
            size = span // stride[axis] + 1
            # A window that hangs over the end counts only if it begins before it.
            hanging = span % stride[axis] and size * stride[axis] < shape[2 + axis] + padding[axis]
            sizes.append(size + (1 if self._ceil_mode and hanging else 0))
        return (*shape[:2], *sizes)


@dataclass(frozen=True, eq=False)
class MaxPool2d(_Pool):
    """Greatest element of each window of x (N, C, H, W); padding never wins.

    Parameters
    ----------
    kernel, stride, padding
        See :class:`_Pool`.
    dilation : int or (int, int)
        Distance of the window's elements.
    ceil_mode : bool
        Also make an output of a last window that hangs over the end.
    """

    dilation: Any = 1
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        pair("dilation", self.dilation)

    def _dilation(self) -> tuple[int, int]:
        return pair("dilation", self.dilation)

    @property
    def _ceil_mode(self) -> bool:
        return bool(self.ceil_mode)

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        x = tensors["x"]
        if len(x.shape) != 4:
            raise PearrayError(f"x must have 4 dimensions, not shape {tuple(x.shape)}")
        return {"y": (self._pooled(tuple(x.shape)), np.dtype(x.dtype))}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        x = tensors["x"]
        kernel, stride = self.window(x.shape)
        return {"y": reference.max_pool(x, kernel, stride, padding4(self.padding), self._dilation(),
                                        self._ceil_mode)}


@dataclass(frozen=True, eq=False)
class AvgPool2d(_Pool):
    """Mean of each window of x (N, C, H, W), requantised as onnxruntime's QLinearAveragePool.

    Parameters
    ----------
    kernel, stride, padding
        See :class:`_Pool`. Without `kernel` the mean is that of QLinearGlobalAveragePool.
    x_scale, x_zero_point, y_scale, y_zero_point
        How input and output are stored; the output has the type of `y_zero_point` if that is a NumPy integer, else
        that of x. Without scales the sums of the windows are the output.
    count_include_pad : bool
        Divide by the whole window, not by its elements inside x.
    ceil_mode : bool
        Also make an output of a last window that hangs over the end.
    rounding : {"onnx", "tflite"}
        ``tflite`` is the mean of the stored integers, halves away from zero, as TensorFlow Lite's
        AVERAGE_POOL_2D: input and output are stored alike, so it takes no scales.
    """

    stated: ClassVar = {"x": ("x_scale", "x_zero_point"), "y": ("y_scale", "y_zero_point")}

    x_scale: Any = None
    x_zero_point: Any = 0
    y_scale: Any = None
    y_zero_point: Any = 0
    count_include_pad: bool = False
    ceil_mode: bool = False
    rounding: str = "onnx"

    @property
    def _ceil_mode(self) -> bool:
        return bool(self.ceil_mode)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounding not in ("onnx", "tflite"):
            raise PearrayError(f"rounding must be 'onnx' or 'tflite', not {self.rounding!r}")
        if self.rounding == "tflite" and (self.x_scale is not None or self.y_scale is not None
                                          or self.count_include_pad):
            raise PearrayError("rounding 'tflite' takes no scales and never counts padding")
        if (self.x_scale is None) != (self.y_scale is None):
            raise PearrayError("x_scale and y_scale must both be given or neither")
        for name in ("x_scale", "y_scale"):
            if getattr(self, name) is not None and check_scale(name, getattr(self, name)).ndim:
                raise PearrayError(f"{name} must be one number, not {getattr(self, name)!r}")
        for name in ("x_zero_point", "y_zero_point"):
            check_zero_point(name, getattr(self, name))

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        x = tensors["x"]
        if len(x.shape) != 4:
            raise PearrayError(f"x must have 4 dimensions, not shape {tuple(x.shape)}")
        shape = self._pooled(tuple(x.shape))
        if self.x_scale is not None:
            check_quantised("x", x.dtype, "x_zero_point", self.x_zero_point)
            dtype = storage_dtype(self.y_zero_point) or np.dtype(x.dtype)
            check_quantised("y", dtype, "y_zero_point", self.y_zero_point)
            return {"y": (shape, dtype)}
        if np.dtype(x.dtype).kind == "f":
            return {"y": (shape, np.dtype(x.dtype))}
        dtype = _integer("x", x)
        if self.rounding == "tflite":
            return {"y": (shape, dtype)}
        check_stored("x_zero_point", self.x_zero_point, dtype)
        return {"y": (shape, np.dtype(np.int32 if dtype.itemsize == 1 else np.int64))}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        (_, dtype) = self.infer(tensors)["y"]
        x = tensors["x"]
        kernel, stride = self.window(x.shape)
        return {"y": reference.average_pool(self, x, kernel, stride, padding4(self.padding), dtype)}


@dataclass(frozen=True, eq=False)
class Add(Operator):
    """Sum of two quantised tensors, as onnxruntime's QLinearAdd: a and b broadcast to y.

    Parameters
    ----------
    A_scale, A_zero_point, B_scale, B_zero_point, C_scale, C_zero_point
        How a, b and y are stored; y has the type of `C_zero_point` if that is a NumPy integer, else that of a.
        Without scales a and b are added as they are.
    """

    stated: ClassVar = {"a": ("A_scale", "A_zero_point"), "b": ("B_scale", "B_zero_point"),
                        "y": ("C_scale", "C_zero_point")}

    A_scale: Any = None
    A_zero_point: Any = 0
    B_scale: Any = None
    B_zero_point: Any = 0
    C_scale: Any = None
    C_zero_point: Any = 0

    required = ("a", "b")

    def __post_init__(self) -> None:
        scales = ("A_scale", "B_scale", "C_scale")
        given = [getattr(self, name) is not None for name in scales]
        if any(given) != all(given):
            raise PearrayError("A_scale, B_scale and C_scale must all be given or none")
        for name in scales:
            if getattr(self, name) is not None and check_scale(name, getattr(self, name)).ndim:
                raise PearrayError(f"{name} must be one number, not {getattr(self, name)!r}")
        for name in ("A_zero_point", "B_zero_point", "C_zero_point"):
            check_zero_point(name, getattr(self, name))

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        a, b = tensors["a"], tensors["b"]
        try:
            shape = np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
        except ValueError:
            raise PearrayError(f"b must broadcast with a of shape {tuple(a.shape)}, "
                               f"not have shape {tuple(b.shape)}") from None
        if self.A_scale is not None:
            dtype = storage_dtype(self.C_zero_point) or np.dtype(a.dtype)
            check_quantised("a", a.dtype, "A_zero_point", self.A_zero_point)
            check_quantised("b", b.dtype, "B_zero_point", self.B_zero_point)
            check_quantised("y", dtype, "C_zero_point", self.C_zero_point)
            return {"y": (shape, dtype)}
        if np.dtype(a.dtype).kind == "f" and np.dtype(b.dtype).kind == "f":
            return {"y": (shape, np.dtype(a.dtype))}
        dtype, other = _integer("a", a), _integer("b", b)
        check_stored("A_zero_point", self.A_zero_point, dtype)
        check_stored("B_zero_point", self.B_zero_point, other)
        wide = max(dtype.itemsize, other.itemsize) > 1
        return {"y": (shape, np.dtype(np.int64 if wide else np.int32))}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        (_, dtype) = self.infer(tensors)["y"]
        return {"y": reference.add(self, tensors["a"], tensors["b"], dtype)}


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
        table = self.table
        if table.ndim not in (1, 2) or table.shape[-1] != 256 or table.dtype not in (np.int8, np.uint8):
            raise PearrayError("table must be int8 or uint8 of shape (256,) or (channels, 256), "
                               f"not {table.dtype} of shape {table.shape}")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        x = tensors["x"]
        if np.dtype(x.dtype) not in (np.int8, np.uint8):
            raise PearrayError(f"x must be of type int8 or uint8, not {x.dtype}")
        if self.table.ndim == 2 and (len(x.shape) < 2 or x.shape[1] != self.table.shape[0]):
            raise PearrayError(f"table must have one row for each channel of x of shape {tuple(x.shape)}, "
                               f"not {self.table.shape[0]}")
        return {"y": (tuple(x.shape), self.table.dtype)}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        return {"y": reference.look_up(tensors["x"], self.table)}


@dataclass(frozen=True, eq=False)
class Relu(Operator):
    """``max(x, zero_point)`` of a quantised tensor of any shape."""

    zero_point: int = 0

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        x = tensors["x"]
        check_stored("zero_point", self.zero_point, _integer("x", x))
        return {"y": (tuple(x.shape), np.dtype(x.dtype))}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        x = tensors["x"]
        return {"y": np.maximum(x, x.dtype.type(self.zero_point))}


@dataclass(frozen=True, eq=False)
class Reshape(Operator):
    """The same elements in ONNX's order under another shape.

    Parameters
    ----------
    shape : tuple of int
        New shape; one entry may be -1.
    """

    shape: tuple[int, ...]

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        x = tensors["x"]
        count = int(np.prod(x.shape, dtype=np.int64))
        shape = [int(size) for size in self.shape]
        if shape.count(-1) == 1:
            known = int(np.prod([size for size in shape if size != -1], dtype=np.int64))
            shape[shape.index(-1)] = count // known if known and count % known == 0 else -1
        if any(size < 0 for size in shape) or int(np.prod(shape, dtype=np.int64)) != count:
            raise PearrayError(f"shape must hold the {count} elements of x of shape {tuple(x.shape)}, "
                               f"not be {self.shape}")
        return {"y": (tuple(shape), np.dtype(x.dtype))}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        return {"y": tensors["x"].reshape(self.infer(tensors)["y"][0])}


@dataclass(frozen=True, eq=False)
class Quantize(Operator):
    """ONNX QuantizeLinear of one scale, at a graph's edge, on the host.

    Parameters
    ----------
    scale : float
        Scale of the output.
    zero_point : NumPy integer
        Zero point, whose type is the output's.
    clamp : (int, int), optional
        Bounds of the output, if narrower than those of its type.
    """

    stated: ClassVar = {"y": ("scale", "zero_point")}

    scale: Any
    zero_point: Any
    clamp: tuple[int, int] | None = None

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        return {"y": (tuple(tensors["x"].shape), storage_dtype(self.zero_point) or np.dtype(np.int8))}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        _, dtype = self.infer(tensors)["y"]
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if self.clamp is None else self.clamp
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.rint(tensors["x"].astype(np.float32) / check_scale("scale", self.scale))
        return {"y": np.clip(scaled + int(self.zero_point), low, high).astype(dtype)}


@dataclass(frozen=True, eq=False)
class Dequantize(Operator):
    """ONNX DequantizeLinear to float32 of one scale, at a graph's edge, on the host."""

    stated: ClassVar = {"x": ("scale", "zero_point")}

    scale: Any
    zero_point: Any = 0

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        return {"y": (tuple(tensors["x"].shape), np.dtype(np.float32))}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        difference = tensors["x"].astype(np.int32) - int(self.zero_point)
        return {"y": difference.astype(np.float32) * check_scale("scale", self.scale)}
