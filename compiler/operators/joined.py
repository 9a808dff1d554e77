"""Tensors side by side along an axis, and what stands side by side taken apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...golden import activation
from ...golden.quantise import dequantize_linear, quantize_linear
from ...hdl.errors import PearrayError
from .channelwise import every_value
from .fields import Index, Integers, Scale, Scales, ZeroPoint, ZeroPoints, check_stored, storage_dtype
from .moved import Moved, Picked, checked_axis
from .moves import Slice
from .operator import Operator, Part, Quantisation, Spec, Typed
from .several import Several

__all__ = ["Concat", "Split"]


@dataclass(frozen=True, eq=False)
class Concat(Several, Moved):
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.x_scale is None) != (self.y_scale is None):
            raise PearrayError("x_scale and y_scale must both be given or neither")

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
