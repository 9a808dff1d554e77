"""The greatest and the least element, sum and mean over any axes of a tensor."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from ...golden import gradients, reduction
from ...hdl.errors import PearrayError
from .channelwise import AvgPool2d, Lookup, MaxPool2d, every_value, integer_type
from .edges import Reshape
from .fields import Flag, Integers, Scale, ZeroPoint, check_stored
from .moved import checked_axis
from .moves import Transpose
from .operator import Operator, Part, Spec, Typed, sum_dtype
from .scaled import Scaled

__all__ = ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Reduction", "SumPool2d"]


@dataclass(frozen=True, eq=False)
class Reduction(Operator):
    """Base of what makes one element of those along some axes of x.

    Parameters
    ----------
    axes : integers, optional
        The axes, all of them by default; none at all for x as it is.
    keepdims : bool
        Whether y has the axes, with one element each.
    """

    axes: Integers = None
    keepdims: Flag = True

    def over(self, rank: int) -> tuple[int, ...]:
        """Axes of a tensor of some dimensions, counted from the first, in order."""
        if self.axes is None:
            return tuple(range(rank))
        axes = [checked_axis("axes", axis, rank) for axis in self.axes]
        if len({*axes}) != len(axes):
            raise PearrayError(f"axes must name each axis once, not be {self.axes}")
        return tuple(sorted(axes))

    def _shape(self, x: Typed) -> tuple[int, ...]:
        """Shape of y."""
        shape, axes = tuple(x.shape), self.over(len(x.shape))
        if 0 in shape:
            raise PearrayError(f"x must have at least one element, not shape {shape}")
        return tuple(1 if axis in axes else size for axis, size in enumerate(shape)
                     if self.keepdims or axis not in axes)

    def count(self, x: Typed) -> int:
        """Elements of which one is made."""
        return prod(x.shape[axis] for axis in self.over(len(x.shape)))

    def _types(self, x: Typed) -> list[Spec]:
        return [(self._shape(x), integer_type("x", x) if np.dtype(x.dtype).kind != "f" else np.dtype(x.dtype))]

    def _images(self, x: Typed, name: str) -> tuple[list[Part], str]:
        """Parts that turn x into images whose pixels are what is reduced, and the name of the last: `name` of x.

        What stands behind the reduced axes becomes channels, and what stands before them images, as they lie in
        memory. With nothing behind, channels are what stands before: they are computed side by side.
        """
        rank, axes = len(x.shape), self.over(len(x.shape))
        if rank == 4 and axes == (2, 3):
            return [], name
        kept = [axis for axis in range(rank) if axis not in axes]
        before = [axis for axis in kept if all(axis < other for other in axes)]
        behind = kept[len(before):]
        if prod(x.shape[axis] for axis in behind) == 1:
            before, behind = [], kept
        order = (*before, *behind, *axes)
        images, channels = (prod(x.shape[axis] for axis in group) for group in (before, behind))
        *rest, last = (x.shape[axis] for axis in axes) if axes else (1,)
        parts = [Part("turned", Transpose(order), {"x": name})] if order != tuple(range(rank)) else []
        found = "turned" if parts else name
        return [*parts, Part("image", Reshape((images, channels, prod(rest), last)), {"x": found})], "image"

    def _in_parts(self, x: Typed, operator: Operator, name: str = "x", result: str = "y") -> list[Part]:
        """Parts that reduce what is called `name`, of the shape of x, by an operator on whole images."""
        parts, image = self._images(x, name)
        return [*parts, Part("reduced", operator, {"x": image}),
                Part(result, Reshape(self._shape(x)), {"x": "reduced"})]


@dataclass(frozen=True, eq=False)
class ReduceMax(Reduction):
    """The greatest element along some axes of x; see :class:`Reduction`."""

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(x.max(axis=self.over(x.ndim), keepdims=self.keepdims))]

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """The greatest of each image."""
        return self._in_parts(tensors["x"], MaxPool2d())


@dataclass(frozen=True, eq=False)
class ReduceMin(Reduction):
    """The least element along some axes of x; see :class:`Reduction`."""

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(x.min(axis=self.over(x.ndim), keepdims=self.keepdims))]

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """The greatest of each image between two tables that turn the order of values round."""
        x = tensors["x"]
        if np.dtype(x.dtype) not in (np.int8, np.uint8):
            raise PearrayError(f"x must be of type int8 or uint8 to be reduced to its least elements by an "
                               f"accelerator, not {x.dtype}")
        turned = Lookup(~every_value(x.dtype))
        return [Part("negative", turned, {"x": "x"}), *self._in_parts(x, MaxPool2d(), "negative", "greatest"),
                Part("y", turned, {"x": "greatest"})]


@dataclass(frozen=True, eq=False)
class _Totalled(Reduction, Scaled):
    """Base of sums and means, which are exact and rounded once; see :mod:`.golden.reduction`."""

    stated: ClassVar = {"x": ("x_scale", "x_zero_point"), "y": ("y_scale", "y_zero_point")}
    roundings: ClassVar = ("float",)

    x_scale: Scale = None
    x_zero_point: ZeroPoint = 0
    y_scale: Scale = None
    y_zero_point: ZeroPoint = 0
    rounding: str = "float"

    is_mean: ClassVar[bool]

    def is_certain(self, x: Typed) -> bool:
        """Whether onnxruntime's additions of float32 numbers, in whatever order, can't give another output."""
        (x_scale, x_zero), (y_scale, y_zero) = self.stored("x"), self.stored("y")
        return reduction.is_certain(x_scale, x_zero, x.dtype, self.count(x), self.is_mean, y_scale, y_zero,
                                    self._output_dtype(x=x))

    def _types(self, x: Typed) -> list[Spec]:
        [(shape, dtype)] = super()._types(x)
        if self.is_scaled:
            return [(shape, self._output_dtype(x=x))]
        if dtype.kind == "f":
            return [(shape, dtype)]
        if self.is_mean:
            raise PearrayError("x_scale and y_scale must be given for a mean of integers, not None")
        check_stored("x_zero_point", self.x_zero_point, dtype)
        return [(shape, sum_dtype(dtype))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        [(_, dtype)] = self._types(x)
        axes = self.over(x.ndim)
        if x.dtype.kind == "f":
            sums = gradients.sum_along(x, axes).reshape(self._shape(x))
            return [(sums / np.float32(self.count(x) if self.is_mean else 1)).astype(dtype)]
        sums = reduction.zeroed_sums(x, axes, self.keepdims, int(self.x_zero_point))
        if not self.is_scaled:
            return [sums.astype(dtype)]
        (x_scale, _), (y_scale, y_zero) = self.stored("x"), self.stored("y")
        return [reduction.rounded(sums, x_scale, self.count(x) if self.is_mean else 1, y_scale, y_zero, dtype)]

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """Mean or sum of each image; of floats there are none, whose sums are in another order."""
        if np.dtype(tensors["x"].dtype).kind == "f":
            return []
        kind = AvgPool2d if self.is_mean else SumPool2d
        return self._in_parts(tensors["x"], kind(
            x_scale=self.x_scale, x_zero_point=self.x_zero_point, y_scale=self.y_scale,
            y_zero_point=self.y_zero_point, rounding="float" if self.is_scaled else "onnx"))


@dataclass(frozen=True, eq=False)
class SumPool2d(AvgPool2d):
    """Sum of each whole image of x (N, C, H, W), exact and rounded once; only sums along axes are made of it."""

    divides = False

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        if not self.is_scaled:
            return super()._compute(x)
        [(_, dtype)] = self._types(x)
        (x_scale, x_zero), (y_scale, y_zero) = self.stored("x"), self.stored("y")
        return [reduction.rounded(reduction.zeroed_sums(x, (2, 3), True, x_zero), x_scale, 1, y_scale, y_zero, dtype)]


@dataclass(frozen=True, eq=False)
class ReduceMean(_Totalled):
    """Mean along some axes of x; see :class:`Reduction`.

    Parameters
    ----------
    x_scale, x_zero_point, y_scale, y_zero_point
        How x and y are stored; see :class:`.scaled.Scaled`.
    """

    is_mean = True


@dataclass(frozen=True, eq=False)
class ReduceSum(_Totalled):
    """Sum along some axes of x; see :class:`Reduction`. Without scales sums are int32, or int64 of wider operands.

    Parameters
    ----------
    x_scale, x_zero_point, y_scale, y_zero_point
        How x and y are stored; see :class:`.scaled.Scaled`.
    """

    is_mean = False
