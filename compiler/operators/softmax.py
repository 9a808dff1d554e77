"""Softmax along an axis."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...golden import attention, litert, quantised
from ...hdl.errors import PearrayError
from .fields import Index, Number, Scale, ZeroPoint
from .operator import Spec, Typed
from .scaled import Scaled

__all__ = ["Softmax"]

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

    def terms(self) -> np.ndarray:
        """Exponentials of scores that are 0 to 255 below the greatest, by LiteRT's rule: (256,) int64."""
        return litert.softmax_terms(self.X_scale, self.beta)

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
