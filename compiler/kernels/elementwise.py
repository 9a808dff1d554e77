"""Chains over the elements of tensors, and how tensors of other shapes are spread over them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Rounding
from ..graph.graph import Node
from .context import Context, Located, float_entry
from .kernel import PIXELS, Access, Chain, Constant, Contraction, Finish, Index, Kernel, Product, Scaled
from .layout import Layout
from .views import Axis, Buffer, View

__all__ = ["clamped", "columns_for", "columns_of", "elementwise", "whole"]

#: Indices of a row of pixels.
_ROW = {"w": Index({"q": 1}), "c": Index({"c": 1})}


def clamped(low: int, high: int, *, point: int = 0, scale: Any = 1.0, bias: np.ndarray | None = None,
            table: np.ndarray | None = None) -> Finish:
    """Outputs that are scaled sums, clamped, and looked up where there is a table."""
    return Finish(Rounding.ONNX, point, low, high, float_entry(scale), bias, table)


def whole(dtype: np.dtype, table: np.ndarray | None = None) -> Finish:
    """Outputs that are the sums, stored as operands."""
    info = np.iinfo(dtype)
    return clamped(int(info.min), int(info.max), table=table)


def elementwise(context: Context, node: Node, roles: Sequence[str], finish: Finish, factors: tuple[int, ...] = (1,),
                zeros: tuple[int, ...] = (0,), combine: str = "sum", columns: int = 0) -> list[Kernel]:
    """Chain over the elements of tensors that stand alike in memory, in whatever order, or that broadcast.

    Of pairs the stored bytes are read, whatever their types; of products what `zeros` leave of the stored values.
    A row has `columns` elements, each of which may be finished in another way; without that it is as long as the last
    axis in memory, or what wastes the fewest sums.
    """
    shapes = [tuple(context.graph.tensors[node.inputs[role]].shape) for role in roles]
    if len(set(shapes)) > 1:
        return _broadcast(context, node, roles, finish, factors, zeros, combine)
    found = [context.operand(node, role) for role in roles]
    layout = found[0].layout
    if not all(layout.same_memory(each.layout) for each in found):
        first, second = (context.graph.named(node.inputs[role]) for role in roles[:2])
        raise PearrayError(f"{node.name}: {first} and {second} stand in memory in different orders; reshape both or "
                           "neither")
    if not columns and combine in ("pair", "product"):
        columns = columns_for(found[0].buffer, context.config.sum_columns)
    y = context.result(node, layout, columns=columns)
    sizes = 1, 1, y.rows, y.columns
    terms = tuple(
        Scaled(Access(View.rows(each.buffer, "nhwc", sizes), _ROW, zero, _is_unsigned(context, node, role, combine)),
               factor)
        for role, each, factor, zero in zip(roles, found, factors, zeros, strict=True))
    return [Chain(name=node.name, ranks={"q": y.rows, "c": y.columns}, terms=terms, combine=combine, finish=finish,
                  y=Access(View.rows(y, "nhwc", sizes), _ROW))]


def _is_unsigned(context: Context, node: Node, role: str, combine: str) -> bool:
    return combine == "pair" or context.graph.tensors[node.inputs[role]].dtype.kind == "u"


def columns_for(buffer: Buffer, width: int) -> int:
    """Elements of a row that waste the fewest of the sums of which rows have `width`, where all channels are alike."""
    return buffer.columns if buffer.columns % width == 0 else columns_of(buffer.size, width)


def columns_of(size: int, width: int) -> int:
    """Of so many elements those of a row, of which each has as many, that waste the fewest of `width` sums at once."""
    divisors = [each for each in range(1, min(size, 32 * width) + 1) if size % each == 0]
    return min(divisors, key=lambda each: (-(-each // width) * width / each, each))


@dataclass(frozen=True)
class _Spread:
    """A tensor over the pixels of a greater one: elements from one image, row, pixel and channel to the next."""

    buffer: Buffer
    strides: tuple[int, ...]


def _broadcast(context: Context, node: Node, roles: Sequence[str], finish: Finish, factors: tuple[int, ...],
               zeros: tuple[int, ...], combine: str) -> list[Kernel]:
    """Chain over the elements of tensors whose shapes broadcast; where channels do, a kernel writes them out first."""
    shape = tuple(context.graph.tensors[node.outputs["y"]].shape)
    sizes = _pixels(shape)
    spread = [_spread(context, node, role, shape) for role in roles]
    merged, strides = _merged(sizes, [each.strides for each in spread])
    if len(merged) > 4:
        raise PearrayError(f"{node.name}: tensors of different shapes must have at most 4 axes, those that broadcast "
                           f"alike side by side as one, not {len(merged)}; reshape them")
    kernels: list[Kernel] = []
    terms: list[Scaled] = []
    for role, each, steps, factor, zero in zip(roles, spread, strides, factors, zeros, strict=True):
        found = _Spread(each.buffer, steps)
        if not steps[-1] and merged[-1] > 1:
            found, kernel = _written_out(context, node, node.inputs[role], found, merged)
            kernels.append(kernel)
        terms.append(Scaled(Access(_view(found.buffer, merged, found.strides), {**PIXELS, "c": Index({"c": 1})}, zero,
                                   _is_unsigned(context, node, role, combine)), factor))
    y = context.result(node, Layout.of(shape))
    ranks = dict(zip("npqc", merged, strict=True))
    out = Access(View.rows(y, "nhwc", merged), {**PIXELS, "c": Index({"c": 1})})
    return [*kernels, Chain(name=node.name, ranks=ranks, terms=tuple(terms), combine=combine, finish=finish, y=out)]


def _pixels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of a fresh tensor in memory, padded to four."""
    physical = Layout.of(shape).physical
    return (1,) * (4 - len(physical)) + tuple(physical)


def _view(buffer: Buffer, sizes: tuple[int, ...], strides: tuple[int, ...]) -> View:
    return View(buffer, tuple(map(Axis, "nhwc", sizes, strides)))


def _spread(context: Context, node: Node, role: str, shape: tuple[int, ...]) -> _Spread:
    """An operand over the elements of an output of `shape`; where it has one channel for several, its stride is 0."""
    name, sizes = node.inputs[role], _pixels(shape)
    value = context.constant(name)
    if value is not None:
        # Written out when the program is made.
        layout = Layout.of(shape)
        flat = layout.to_memory(np.broadcast_to(context.fits(name, value), shape))
        buffer = Buffer(name, flat.size // sizes[-1], sizes[-1], context.config.operand_bytes, flat)
        context.made.append(buffer)
        return _Spread(buffer, _dense(sizes))
    found = context.operand(node, role)
    strides = _strides(found, shape)
    if not found.is_plain() or strides[-1] > 1:
        raise PearrayError(f"{node.name}: {name} of shape {found.layout.shape} does not stand in memory in the order "
                           f"of an output of shape {shape}; give both the same number of dimensions")
    return _Spread(found.buffer, strides)


def _dense(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of axes that follow one another."""
    return tuple(prod(sizes[axis + 1:]) for axis in range(len(sizes)))


def _strides(found: Located, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a plain tensor along the axes in memory of an output of `shape`, 0 along those that it has not."""
    own = tuple(found.layout.shape)
    # In ONNX's order, right-aligned.
    sizes = (1,) * (max(4, len(shape)) - len(own)) + own
    steps = _dense(sizes)
    if len(own) == 4:
        steps = tuple(_dense(_pixels(own))[axis] for axis in (0, 3, 1, 2))
    steps = tuple(step if size > 1 else 0 for step, size in zip(steps, sizes, strict=True))
    return tuple(steps[axis] for axis in (0, 2, 3, 1)) if len(shape) == 4 else steps


def _merged(sizes: tuple[int, ...], strides: list[tuple[int, ...]]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """The same pixels with axes that follow one another in every tensor as one: sizes, and strides of each."""
    kept = [(sizes[0], [steps[0] for steps in strides])]
    for axis in range(1, len(sizes) - 1):
        size, steps = sizes[axis], [each[axis] for each in strides]
        outer, far = kept[-1]
        if outer == 1 or size == 1 or all(step * size == each for step, each in zip(steps, far, strict=True)):
            kept[-1] = outer * size, far if size == 1 else steps
        else:
            kept.append((size, steps))
    kept = [(1, [0] * len(strides))] * (3 - len(kept)) + kept
    return ((*(size for size, _ in kept), sizes[-1]),
            [(*(steps[index] for _, steps in kept), each[-1]) for index, each in enumerate(strides)])


def _written_out(context: Context, node: Node, name: str, found: _Spread,
                 sizes: tuple[int, ...]) -> tuple[_Spread, Kernel]:
    """A tensor with one number for each pixel, with as many as there are channels: a product with ones."""
    channels, strides = sizes[3], found.strides
    own = tuple(size if step else 1 for size, step in zip(sizes[:3], strides, strict=False))
    dtype = context.graph.tensors[name].dtype
    buffer = Buffer(f"{node.name}:{name}", prod(own), channels, context.config.operand_bytes)
    buffer.expect_stores()
    context.made.append(buffer)
    source = View(found.buffer, (*map(Axis, "nhw", own, strides[:3]), Axis("c", 1, 1)))
    ranks = dict(zip(("n", "p", "q", "g", "c", "m"), (*own, 1, 1, channels), strict=True))
    kernel = Contraction(
        name=f"{node.name}:{name}", ranks=ranks, finish=whole(dtype),
        y=Access(View.rows(buffer, "nhwc", (*own, channels)), {**PIXELS, "c": Index({"g": channels, "m": 1})}),
        terms=(Product(Access(source, {**PIXELS, "c": Index({"g": 1, "c": 1})}, is_unsigned=dtype.kind == "u"),
                       Constant(np.ones((1, 1, 1, 1, channels), np.int8))),))
    steps = _dense((*own, channels))
    return _Spread(buffer, (*(step if size > 1 else 0 for step, size in zip(steps[:3], own, strict=True)), 1)), kernel
