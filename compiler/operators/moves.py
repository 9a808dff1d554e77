"""Operators that put elements in other places: parts of tensors, padding, repetition, other orders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError, check_choice
from .fields import (
    Flag,
    Index,
    Integers,
    Shape,
    Stored,
    array,
    check_size,
    check_stored,
)
from .moved import OUTSIDE, Moved, Picked, PickedAlong, checked_axis
from .operator import Spec, Typed

__all__ = ["Expand", "Gather", "Pad", "Slice", "Tile", "Transpose"]

#: Largest index: no axis has more elements than fit in the signed integers of 64 bits that NumPy counts with.
_LARGEST = (1 << 63) - 1


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
        return [Picked.ordered("x", tensors["x"].shape, self.order)]


@dataclass(frozen=True, eq=False)
class Slice(PickedAlong):
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


@dataclass(frozen=True, eq=False)
class Pad(PickedAlong):
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
        sides = {axis: (before, behind) for axis, before, behind in
                 zip(axes, self.pads[:len(axes)], self.pads[len(axes):], strict=True) if before or behind}
        for axis, (before, behind) in sides.items():
            if max(-before, 0) >= shape[axis] - max(-behind, 0):
                raise PearrayError(f"pads must leave an element of each axis, not cut {-min(before, 0)} and "
                                   f"{-min(behind, 0)} of {shape[axis]}")
        # Before there is an index of each element.
        check_size("y", tuple(size + sum(sides.get(axis, ())) for axis, size in enumerate(shape)))
        return {axis: self._along(shape[axis], before, behind) for axis, (before, behind) in sides.items()}

    def _along(self, size: int, before: int, behind: int) -> np.ndarray:
        """Indices along an axis: of what is left of it, and of what is added."""
        first, end = max(-before, 0), size - max(-behind, 0)
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

    @property
    def _outside(self) -> int:
        return self.value


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
        if min(self.shape, default=1) < 1:
            raise PearrayError(f"shape must be integers of at least 1, not {self.shape}")
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
        indices = array("indices", self.indices, "integers", "iu")
        check_size("indices", indices.shape)
        if indices.size and indices.max() > _LARGEST:
            raise PearrayError(f"indices must be integers of at most {_LARGEST}, not {indices.max()}")
        vars(self)["indices"] = indices.astype(np.int64)

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
