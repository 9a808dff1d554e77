"""Operators that put elements in other places: parts of tensors, tensors side by side, padding, repetition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...golden import activation
from ...golden.quantise import dequantize_linear, quantize_linear
from ...hdl.errors import PearrayError, check_choice
from .channelwise import every_value
from .fields import (
    Flag,
    Index,
    Integers,
    Scale,
    Scales,
    Shape,
    Stored,
    ZeroPoint,
    ZeroPoints,
    array,
    check_stored,
    storage_dtype,
)
from .moved import OUTSIDE, Moved, Picked, checked_axis
from .operator import Operator, Part, Quantisation, Spec, Typed

__all__ = ["Concat", "Expand", "Gather", "Pad", "Slice", "Split", "Tile", "Transpose"]

#: Inputs that Concat may have.
_MOST = 1024


@dataclass(frozen=True, eq=False)
class Transpose(Moved):
    """The same elements with the axes in another order, as ``numpy.transpose`` takes it.

    Parameters
    ----------
    order : tuple of int
        Axis of x that each axis of y is.
    is_view : bool
        Whether y is x in another order also where it is an output of a graph: who reads it takes it from where x
        stands.
    """

    order: Shape
    is_view: Flag = False

    def _types(self, x: Typed) -> list[Spec]:
        if sorted(self.order) != [*range(len(x.shape))]:
            raise PearrayError(f"order must hold each of the {len(x.shape)} axes of x once, not be {self.order}")
        return [(tuple(x.shape[axis] for axis in self.order), np.dtype(x.dtype))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [np.ascontiguousarray(x.transpose(self.order))]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """All of x."""
        shape = tuple(tensors["x"].shape)
        return [Picked("x", shape, tuple(shape[axis] for axis in self.order), self.order)]


@dataclass(frozen=True, eq=False)
class Concat(Moved):
    """Tensors x0, x1, ... one behind the other along an axis.

    With scales each input is brought to the scale and the zero point of the output, as onnxruntime's QLinearConcat
    does: by a table of ``quantise(dequantise(x))`` over the stored values.

    Parameters
    ----------
    axis : int
        The axis.
    x_scale : tuple of float, optional
        Scale of each input.
    x_zero_point : tuple of int
        Zero point of each input, or one for all.
    y_scale, y_zero_point
        How the output is stored; its type is that of the zero point if that is a NumPy integer, else that of x0.
    """

    axis: Index = 0
    x_scale: Scales = None
    x_zero_point: ZeroPoints = (0,)
    y_scale: Scale = None
    y_zero_point: ZeroPoint = 0

    required: ClassVar[tuple[str, ...]] = ("x0",)
    optional: ClassVar[tuple[str, ...]] = tuple(f"x{index}" for index in range(1, _MOST))

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.x_scale is None) != (self.y_scale is None):
            raise PearrayError("x_scale and y_scale must both be given or neither")

    def check_roles(self, tensors: Mapping[str, Any]) -> None:
        """Check that the inputs are x0 to the last without a gap."""
        wanted = [f"x{index}" for index in range(len(tensors))]
        if not tensors or set(tensors) != set(wanted) or len(tensors) > _MOST:
            raise PearrayError(f"{self.kind} takes tensors x0, x1 and so on, one to {_MOST} of them, got "
                               f"{sorted(tensors)}")

    def _stored(self, index: int) -> tuple[np.float32, Any]:
        """Scale and zero point of an input."""
        assert self.x_scale is not None
        points = self.x_zero_point
        return np.float32(self.x_scale[index]), points[index if len(points) > 1 else 0]

    def quantisation(self, role: str) -> Quantisation | None:
        """How a tensor is stored, if scales are given."""
        if self.x_scale is None or self.y_scale is None:
            return None
        scale, point = (self.y_scale, self.y_zero_point) if role == "y" else self._stored(int(role[1:]))
        return Quantisation(float(np.float32(scale)), int(point))

    def table(self, index: int, dtype: Any) -> np.ndarray | None:
        """Table over the stored values of an input, or None if these stay as they are."""
        if self.y_scale is None:
            return None
        (scale, point), y_dtype = self._stored(index), storage_dtype(self.y_zero_point) or np.dtype(dtype)
        if (scale, int(point)) == (np.float32(self.y_scale), int(self.y_zero_point)) and np.dtype(dtype) == y_dtype:
            return None
        real = dequantize_linear(every_value(dtype), scale, point)
        return quantize_linear(real, np.float32(self.y_scale), self.y_zero_point, dtype=y_dtype)

    def _types(self, **tensors: Typed) -> list[Spec]:
        found = [tensors[f"x{index}"] for index in range(len(tensors))]
        first = tuple(found[0].shape)
        axis = checked_axis("axis", self.axis, len(first))
        for index, tensor in enumerate(found):
            shape = tuple(tensor.shape)
            if len(shape) != len(first) or (*shape[:axis], *shape[axis + 1:]) != (*first[:axis], *first[axis + 1:]):
                raise PearrayError(f"x{index} must have the shape of x0, {first}, but for axis {axis}, not {shape}")
        dtypes = [np.dtype(tensor.dtype) for tensor in found]
        made = dtypes[0]
        if self.x_scale is None:
            if len({*dtypes}) > 1:
                raise PearrayError(f"x0 to x{len(found) - 1} must be of one type, not "
                                   f"{', '.join(sorted({str(dtype) for dtype in dtypes}))}")
        else:
            made = self._checked_scales(dtypes)
        size = sum(tensor.shape[axis] for tensor in found)
        return [((*first[:axis], size, *first[axis + 1:]), made)]

    def _checked_scales(self, dtypes: Sequence[np.dtype]) -> np.dtype:
        """Type of the output where scales are given."""
        assert self.x_scale is not None
        count = len(dtypes)
        if len(self.x_scale) != count or len(self.x_zero_point) not in (1, count):
            raise PearrayError(f"x_scale must have {count} values, one for each input, and x_zero_point as many or "
                               f"one, not {len(self.x_scale)} and {len(self.x_zero_point)}")
        for index, dtype in enumerate(dtypes):
            if dtype not in (np.int8, np.uint8):
                raise PearrayError(f"x{index} must be of type int8 or uint8 where scales are given, not {dtype}")
            check_stored("x_zero_point", self._stored(index)[1], dtype)
        made = storage_dtype(self.y_zero_point) or dtypes[0]
        if made not in (np.int8, np.uint8):
            raise PearrayError(f"y must be of type int8 or uint8 where scales are given, not {made}")
        check_stored("y_zero_point", self.y_zero_point, made)
        return made

    def _compute(self, **tensors: np.ndarray) -> list[np.ndarray]:
        found = []
        for index in range(len(tensors)):
            x = tensors[f"x{index}"]
            table = self.table(index, x.dtype)
            found.append(x if table is None else activation.apply_table(x, table))
        return [np.concatenate(found, self.axis)]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """Each input, from where the one before ends."""
        [(shape, _)] = self._types(**tensors)
        axis, at, parts = self.axis % len(shape), 0, []
        for index in range(len(tensors)):
            x = tensors[f"x{index}"]
            parts.append(Picked(f"x{index}", tuple(x.shape), shape, tuple(range(len(shape))), start={axis: at},
                                table=self.table(index, x.dtype)))
            at += x.shape[axis]
        return parts


@dataclass(frozen=True, eq=False)
class Slice(Moved):
    """Indices ``starts`` up to ``ends`` in ``steps`` along some axes, as NumPy's slices count them.

    Parameters
    ----------
    starts, ends : integers
        For each of the axes; from the end if negative, and cut off at the ends of the axis.
    axes : integers, optional
        Axes, all from the first on by default.
    steps : integers, optional
        Steps, 1 by default; a negative one goes back, from ``starts`` down to the index behind ``ends``.
    """

    starts: Integers
    ends: Integers
    axes: Integers = None
    steps: Integers = None

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {len(value) for value in (self.starts, self.ends, self.axes, self.steps) if value is not None}
        if len(sizes) > 1:
            raise PearrayError("starts, ends, axes and steps must be of one length, not "
                               f"{', '.join(map(str, sorted(sizes)))}")
        if self.steps is not None and 0 in self.steps:
            raise PearrayError("steps must not be 0")

    def _indices(self, shape: Sequence[int]) -> dict[int, np.ndarray]:
        rank = len(shape)
        axes = [checked_axis("axes", axis, rank) for axis in (range(len(self.starts)) if self.axes is None
                                                              else self.axes)]
        if len({*axes}) != len(axes):
            raise PearrayError(f"axes must name each axis once, not be {self.axes}")
        steps = self.steps or (1,) * len(axes)
        return {axis: np.arange(*slice(start, end, step).indices(shape[axis]))
                for axis, start, end, step in zip(axes, self.starts, self.ends, steps, strict=True)}

    def _types(self, x: Typed) -> list[Spec]:
        shape = Picked.along("x", x.shape, self._indices(x.shape)).into
        if 0 in shape:
            raise PearrayError(f"starts and ends must leave an element of each axis of x of shape {tuple(x.shape)}, "
                               f"not be {self.starts} and {self.ends}")
        return [(shape, np.dtype(x.dtype))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        for axis, indices in self._indices(x.shape).items():
            x = x.take(indices, axis)
        return [np.ascontiguousarray(x)]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """Indices along the axes."""
        shape = tuple(tensors["x"].shape)
        return [Picked.along("x", shape, self._indices(shape))]


@dataclass(frozen=True, eq=False)
class Split(Operator):
    """Parts y0, y1, ... of x along an axis, which are one operator each.

    Parameters
    ----------
    axis : int
        The axis.
    sizes : integers
        Elements of each part along it.
    """

    axis: Index = 0
    sizes: Integers = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sizes or min(self.sizes) < 1:
            raise PearrayError(f"sizes must be at least one integer of at least 1, not {self.sizes}")
        vars(self)["outputs"] = tuple(f"y{index}" for index in range(len(self.sizes)))

    def _types(self, x: Typed) -> list[Spec]:
        axis = checked_axis("axis", self.axis, len(x.shape))
        if sum(self.sizes) != x.shape[axis]:
            raise PearrayError(f"sizes must add up to the {x.shape[axis]} elements of axis {axis} of x, not to "
                               f"{sum(self.sizes)}")
        return [((*x.shape[:axis], size, *x.shape[axis + 1:]), np.dtype(x.dtype)) for size in self.sizes]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum(self.sizes)
        return [np.ascontiguousarray(part) for part in np.split(x, ends[:-1], self.axis)]

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """A Slice for each output."""
        ends = np.cumsum(self.sizes).tolist()
        return [Part(name, Slice((end - size,), (end,), (self.axis,)), {"x": "x"})
                for name, size, end in zip(self.outputs, self.sizes, ends, strict=True)]


@dataclass(frozen=True, eq=False)
class Pad(Moved):
    """Elements before and behind x along some axes.

    Parameters
    ----------
    pads : integers
        Elements before the first index of each axis, then behind the last of each; negative ones cut x off.
    mode : {"constant", "reflect", "edge", "wrap"}
        What they are: `value`, x mirrored without its edge, its edge, or x from its other end.
    value : int
        Stored value with `mode` "constant".
    axes : integers, optional
        Axes, all by default.
    """

    pads: Integers
    mode: str = "constant"
    value: Stored = 0
    axes: Integers = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("mode", self.mode, ("constant", "reflect", "edge", "wrap"))
        if len(self.pads) % 2 or (self.axes is not None and len(self.pads) != 2 * len(self.axes)):
            raise PearrayError(f"pads must have two integers for each axis, not {len(self.pads)}")

    def _indices(self, shape: Sequence[int]) -> dict[int, np.ndarray]:
        rank = len(shape)
        axes = [*range(rank)] if self.axes is None else [checked_axis("axes", axis, rank) for axis in self.axes]
        if len({*axes}) != len(axes) or len(self.pads) != 2 * len(axes):
            raise PearrayError(f"pads must have two integers for each axis of x of shape {tuple(shape)}, not "
                               f"{len(self.pads)}, and axes name each once")
        befores, behinds = self.pads[:len(axes)], self.pads[len(axes):]
        return {axis: self._along(shape[axis], before, behind)
                for axis, before, behind in zip(axes, befores, behinds, strict=True) if before or behind}

    def _along(self, size: int, before: int, behind: int) -> np.ndarray:
        """Indices along an axis: of what is left of it, and of what is added."""
        first, end = max(-before, 0), size - max(-behind, 0)
        if first >= end:
            raise PearrayError(f"pads must leave an element of each axis, not cut {-min(before, 0)} and "
                               f"{-min(behind, 0)} of {size}")
        count, places = end - first, np.arange(-max(before, 0), end - first + max(behind, 0))
        if self.mode == "constant":
            return np.where((places < 0) | (places >= count), OUTSIDE, first + places)
        if self.mode == "edge":
            return first + np.clip(places, 0, count - 1)
        if self.mode == "wrap":
            return first + places % count
        if max(before, behind) >= count:
            raise PearrayError(f"pads must be less than the {count} elements of an axis with mode 'reflect', not "
                               f"{max(before, behind)}")
        return first + (count - 1 - np.abs(count - 1 - np.abs(places)))

    def _types(self, x: Typed) -> list[Spec]:
        dtype = np.dtype(x.dtype)
        if dtype.kind in "iu":
            check_stored("value", self.value, dtype)
        return [(Picked.along("x", x.shape, self._indices(x.shape)).into, dtype)]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        for axis, indices in self._indices(x.shape).items():
            outside = (indices == OUTSIDE).reshape((-1,) + (1,) * (x.ndim - 1 - axis))
            x = np.where(outside, x.dtype.type(self.value), x.take(np.maximum(indices, 0), axis))
        return [np.ascontiguousarray(x)]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """Indices along the axes."""
        shape = tuple(tensors["x"].shape)
        return [Picked.along("x", shape, self._indices(shape), self.value)]


@dataclass(frozen=True, eq=False)
class Tile(Moved):
    """x again and again, `repeats` times along each axis.

    Parameters
    ----------
    repeats : integers
        For each axis.
    """

    repeats: Integers

    def _types(self, x: Typed) -> list[Spec]:
        if len(self.repeats) != len(x.shape) or min(self.repeats, default=1) < 1:
            raise PearrayError(f"repeats must have an integer of at least 1 for each of the {len(x.shape)} axes of x, "
                               f"not be {self.repeats}")
        return [(tuple(size * count for size, count in zip(x.shape, self.repeats, strict=True)), np.dtype(x.dtype))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        return [np.tile(x, self.repeats)]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """Indices along the axes."""
        shape = tuple(tensors["x"].shape)
        return [Picked.along("x", shape, {axis: np.tile(np.arange(size), count) for axis, (size, count) in enumerate(
            zip(shape, self.repeats, strict=True)) if count > 1})]


@dataclass(frozen=True, eq=False)
class Expand(Moved):
    """x spread over a shape with which it broadcasts.

    Parameters
    ----------
    shape : tuple of int
        The shape; where it has 1, and axes that it has not, x keeps its own.
    """

    shape: Shape

    def _types(self, x: Typed) -> list[Spec]:
        try:
            return [(np.broadcast_shapes(tuple(x.shape), self.shape), np.dtype(x.dtype))]
        except ValueError:
            raise PearrayError(f"shape must be one with which x of shape {tuple(x.shape)} broadcasts, not "
                               f"{self.shape}") from None

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        [(shape, _)] = self._types(x)
        return [np.ascontiguousarray(np.broadcast_to(x, shape))]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """The first index again and again along axes of one."""
        [(shape, _)] = self._types(tensors["x"])
        own = tuple(tensors["x"].shape)
        own = (1,) * (len(shape) - len(own)) + own
        return [Picked.along("x", own, {axis: np.zeros(size, np.int64) for axis, size in enumerate(shape)
                                        if size != own[axis]})]


@dataclass(frozen=True, eq=False)
class Gather(Moved):
    """Indices of an axis that are known: ``numpy.take``.

    Parameters
    ----------
    indices : int or array of int
        Of any shape, which takes the place of the axis; from the end if negative.
    axis : int
        The axis.
    """

    indices: Any
    axis: Index = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self)["indices"] = array("indices", self.indices, "integers", "iu").astype(np.int64)

    def _picks(self, shape: Sequence[int]) -> tuple[int, np.ndarray]:
        axis = checked_axis("axis", self.axis, len(shape))
        size = shape[axis]
        if self.indices.size and not -size <= self.indices.min() <= self.indices.max() < size:
            wrong = self.indices.min() if self.indices.min() < -size else self.indices.max()
            raise PearrayError(f"indices must be in {-size}..{size - 1}, not {wrong}")
        return axis, self.indices % size

    def _types(self, x: Typed) -> list[Spec]:
        axis, picks = self._picks(x.shape)
        shape = *x.shape[:axis], *picks.shape, *x.shape[axis + 1:]
        if 0 in shape:
            raise PearrayError(f"indices must be at least one, not of shape {picks.shape}")
        return [(shape, np.dtype(x.dtype))]

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        axis, picks = self._picks(x.shape)
        return [np.asarray(x.take(picks, axis))]

    def picked(self, tensors: Mapping[str, Typed]) -> list[Picked]:
        """Indices along the axis."""
        shape = tuple(tensors["x"].shape)
        axis, picks = self._picks(shape)
        return [Picked.along("x", shape, {axis: picks.reshape(-1)})]
