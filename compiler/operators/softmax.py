"""Softmax along an axis, and the logistic function of LiteRT."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...golden import attention, litert, quantised
from ...hdl.errors import PearrayError
from .channelwise import every_value, look_up
from .fields import Index, Number, Scale, ZeroPoint, check_stored
from .operator import Operator, Quantisation, Spec, Typed
from .scaled import Scaled

__all__ = ["Logistic", "Softmax"]

#: Scale of LiteRT's outputs.
_STEP = 1 / 256


@dataclass(frozen=True, eq=False)
class Softmax(Scaled):
    """Softmax of x along `axis`: in float32, or, if scales are given, of 8-bit integers as a runtime computes it.

    Parameters
    ----------
    axis : int
        Axis along which outputs add up to one.
    X_scale, x_zero_point, y_scale, y_zero_point
        How input and output are stored, by the names of onnxruntime's QLinearSoftmax; see :class:`Scaled`.
    rounding : {"onnx", "float", "tflite"}
        ``onnx`` and ``float`` are the rule of QLinearSoftmax. ``tflite`` is that of LiteRT's SOFTMAX, which is in
        integers: input and output have one type, `y_scale` is 1 / 256, and `y_zero_point` the least number of the type.
    beta : float
        Factor of x, with ``tflite``.
    """

    stated: ClassVar = {"x": ("X_scale", "x_zero_point"), "y": ("y_scale", "y_zero_point")}
    roundings: ClassVar = ("onnx", "float", "tflite")

    axis: Index = -1
    X_scale: Scale = None
    x_zero_point: ZeroPoint = 0
    y_scale: Scale = None
    y_zero_point: ZeroPoint = 0
    rounding: str = "onnx"
    beta: Number = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounding != "tflite":
            if self.beta != 1:
                raise PearrayError(f"beta must be 1 without rounding 'tflite', not {self.beta}")
            return
        if self.y_scale != _STEP:
            raise PearrayError(f"y_scale must be 1 / 256 with rounding 'tflite', not {self.y_scale}")
        try:
            litert.softmax_terms(self.X_scale, self.beta)
        except ValueError as error:
            raise PearrayError(f"X_scale * beta: {error}") from None

    def terms(self, width: int) -> np.ndarray:
        """Exponentials of scores 0 to 255 below the greatest of `width`: (256,) float32, or int64 by LiteRT's rule."""
        if self.rounding == "tflite":
            return litert.softmax_terms(self.X_scale, self.beta)
        return quantised.softmax_terms(self.X_scale, width)

    @property
    def inverse(self) -> int:
        """Steps of an output in one, by onnxruntime's rule."""
        return int(np.floor(np.float32(1) / np.float32(self.y_scale)))

    def _types(self, x: Typed) -> list[Spec]:
        shape = tuple(x.shape)
        if not -len(shape) <= self.axis < len(shape):
            raise PearrayError(f"axis must be in {-len(shape)}..{len(shape) - 1}, not {self.axis}")
        dtype = self._output_dtype(x=x) if self.is_scaled else np.dtype(x.dtype)
        if self.rounding == "tflite":
            least = int(np.iinfo(x.dtype).min)
            if dtype != x.dtype or int(self.y_zero_point) != least:
                raise PearrayError(f"y must be {x.dtype} and y_zero_point {least} with rounding 'tflite', not {dtype} "
                                   f"and {int(self.y_zero_point)}")
            if shape[self.axis] > litert.MOST_SCORES:
                raise PearrayError(f"x must have at most {litert.MOST_SCORES} elements along axis {self.axis} with "
                                   f"rounding 'tflite', not {shape[self.axis]}")
        return [(shape, dtype)]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        if not self.is_scaled:
            return [attention.softmax(x, self.axis)]
        rows = np.moveaxis(x, self.axis, -1)
        if self.rounding == "tflite":
            y = litert.softmax(rows, self.X_scale, self.beta)
        else:
            y = quantised.softmax(rows, *self.stored("x"), *self.stored("y"), dtype=self._types(x)[0][1])
        return [np.moveaxis(y, -1, self.axis)]


@dataclass(frozen=True, eq=False)
class Logistic(Operator):
    """Logistic function ``1 / (1 + exp(-x))`` of an int8 tensor in integers, as LiteRT's LOGISTIC.

    The output has the scale 1 / 256 and the zero point -128.

    Parameters
    ----------
    x_scale, x_zero_point
        How the input is stored.
    """

    stated: ClassVar = {"x": ("x_scale", "x_zero_point")}

    x_scale: Scale
    x_zero_point: ZeroPoint = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_stored("x_zero_point", self.x_zero_point, np.int8)
        vars(self)["_table"] = litert.logistic(every_value(np.int8), self.x_scale, int(self.x_zero_point))

    @property
    def table(self) -> np.ndarray:
        """Output for each stored value, in the order of a table's entries: (256,) int8."""
        found: np.ndarray = vars(self)["_table"]
        return found

    def quantisation(self, role: str) -> Quantisation | None:
        """How a tensor is stored."""
        return Quantisation(_STEP, -128) if role == "y" else super().quantisation(role)

    def _types(self, x: Typed) -> list[Spec]:
        if np.dtype(x.dtype) != np.int8:
            raise PearrayError(f"x must be of type int8, not {x.dtype}")
        return [(tuple(x.shape), np.dtype(np.int8))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [look_up(x, self.table)]
