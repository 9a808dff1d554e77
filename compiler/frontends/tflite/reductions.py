"""Operators that leave axes out: sums, means, and the greatest and the least elements."""

from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import NamedTuple

import numpy as np

from ....golden import litert
from ....hdl.errors import PearrayError
from ...operators import ReduceMax, ReduceMin, Requant, Reshape, Transpose, WindowSum
from .builder import BYTES, WORDS, Builder, handles, image_axis
from .file import FileOperator
from .moves import moved

__all__: list[str] = []

#: Dimensions of images: batch, rows, columns and channels.
_IMAGE = 4


class _Reduced(NamedTuple):
    """Axes that are left out of a tensor, and the shape of what is left."""

    axes: set[int]
    target: tuple[int, ...]


def _reduced(operator: FileOperator, graph: Builder, shape: tuple[int, ...]) -> _Reduced:
    given, rank = graph.integers(operator, 1, "axes"), len(shape)
    if not given or not all(-rank <= axis < rank for axis in given):
        raise PearrayError(f"axes must be some in {-rank}..{rank - 1}, not {given}")
    axes, keep = {axis % rank for axis in given}, graph.option(operator, "KeepDims")
    return _Reduced(axes, tuple(1 if axis in axes else size for axis, size in enumerate(shape)
                                if keep or axis not in axes))


def _merged(shape: Sequence[int], axes: set[int]) -> tuple[tuple[int, ...], set[int]]:
    """The same elements where axes side by side that are all kept, or all left out, are one; the first is kept."""
    sizes: list[int] = []
    left_out: set[int] = set()
    for is_reduced, group in groupby(range(len(shape)), lambda axis: axis in axes):
        if is_reduced:
            if not sizes:
                sizes.append(1)
            left_out.add(len(sizes))
        sizes.append(prod(shape[axis] for axis in group))
    return tuple(sizes), left_out


def _as_image(operator: FileOperator, graph: Builder, number: int, axes: set[int]) -> tuple[str, set[int]]:
    """A tensor as images, and which of rows, columns and channels (2, 3 and 1) are left out of these."""
    shape = graph.shape(number)
    rank = len(shape)
    if 2 <= rank <= _IMAGE and 0 not in axes:
        # Images whose first axis is the batch and whose last are channels; absent axes have one element.
        sizes, places = (*shape[:-1], *(1,) * (_IMAGE - rank), shape[-1]), axes
    else:
        sizes, places = _merged(shape, axes)
        rank = len(sizes)
        if rank > _IMAGE:
            # What is left out comes last.
            order = sorted(range(len(shape)), key=lambda axis: axis in axes)
            name = graph.append(operator, Transpose(tuple(order)), {"x": graph.rows(number)}, "transposed")
            count = prod(shape[axis] for axis in axes)
            image = Reshape((prod(shape) // count, count, 1, 1))
            return graph.append(operator, image, {"x": name}, "channels"), {1}
        sizes = (*sizes[:-1], *(1,) * (_IMAGE - rank), sizes[-1])
    return graph.image(number, sizes), {image_axis(axis if axis < rank - 1 else _IMAGE - 1) for axis in places}


@handles("MEAN", "SUM")
def _total(operator: FileOperator, graph: Builder) -> None:
    """Sums over axes as products with ones; of a mean the divisor is in the multiplier."""
    number = graph.of(operator, 0, "x")
    allowed = WORDS if operator.kind == "MEAN" else BYTES
    x, y = graph.stored(number, "x", *allowed), graph.stored(operator.outputs[0], "y", *allowed)
    shape = graph.shape(number)
    axes, target = _reduced(operator, graph, shape)
    name, places = _as_image(operator, graph, number, axes)
    image = graph.tensor(name).shape
    count = prod(shape[axis] for axis in axes) if operator.kind == "MEAN" else 1
    multiplier, shift = litert.mean_factor(x.scale, y.scale, count)
    info = np.iinfo(y.dtype)
    requant = Requant.tflite(multiplier, shift, int(x.zero_point), 0, y.zero_point, "int32",
                             (int(info.min), int(info.max)))
    kernel, channels = tuple(image[axis] if axis in places else 1 for axis in (2, 3)), image[1]
    ones = np.ones((1, channels, *kernel) if 1 in places else (channels, 1, *kernel),
                   np.int8 if x.dtype.itemsize == 1 else x.dtype)
    made = WindowSum(groups=1 if 1 in places else channels, requant=requant, shown=operator.kind.title())
    stored = graph.store(f"{graph.file.tensors[operator.outputs[0]].name}:ones", ones)
    graph.make_image(operator, made, {"x": name, "w": stored}, target)


@handles("REDUCE_MAX", "REDUCE_MIN")
def _extreme(operator: FileOperator, graph: Builder) -> None:
    """The greatest or least of stored numbers, which keep their scale."""
    number, shape = moved(operator, graph)
    axes, target = _reduced(operator, graph, shape)
    own = sorted(image_axis(axis) if len(shape) == _IMAGE else axis for axis in axes)
    made = (ReduceMax if operator.kind == "REDUCE_MAX" else ReduceMin)(tuple(own), keepdims=True)
    graph.make_natural(operator, made, {"x": graph.natural(number)}, target)
