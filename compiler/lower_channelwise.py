"""Pooling, tables and whatever else treats each channel by itself: the array's diagonal."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..golden import quantised
from ..golden.quantised import first_is_spread
from ..hdl.commands import Rounding
from ..hdl.config import Config, SystolicConfig
from ..hdl.errors import PearrayError
from .average import find_average, find_integer_average
from .context import Context, check_stored_zero, float_entry, image_of, steps_of
from .graph import Node, Tensor
from .operator import padding4, pair
from .operators import Add, AvgPool2d, Lookup, MaxPool2d, Relu
from .plan import Layout, Stored, operand_array
from .problem import Finish, Matrix, Problem
from .requant import check_scale
from .residual import Residual, find_residual
from .schedule import LayerStep

__all__ = ["lower_add", "lower_average_pool", "lower_lookup", "lower_max_pool", "lower_relu"]


def _pool(context: Context, node: Node, **fields: Any) -> Sequence[LayerStep]:
    operator = node.operator
    assert isinstance(operator, (MaxPool2d, AvgPool2d))
    tensor = context.graph.tensors[node.inputs["x"]]
    images, c, height, width = tensor.shape
    x = image_of(context, node)
    y = context.result(node)
    _, _, p, q = context.graph.tensors[node.outputs["y"]].shape
    (r, s), stride = operator.window(tensor.shape)
    top, left, _, _ = padding4(operator.padding)
    dilation = pair("dilation", operator.dilation) if isinstance(operator, MaxPool2d) else (1, 1)
    return steps_of(context, Problem(
        name=node.name, x=x, y=y, images=images, height=height, width=width, p=p, q=q, cg=c, ng=c, r=r, s=s,
        stride=stride, dilation=dilation, top=top, left=left, a_unsigned=tensor.dtype.kind == "u", diagonal=True,
        **fields))


def _identity(dtype: np.dtype, config: Config, **fields: Any) -> Finish:
    """Outputs that are the sums, stored as operands."""
    info = np.iinfo(dtype)
    return Finish(Rounding.ONNX, 0, int(info.min), int(info.max), float_entry(1.0), **fields)


def lower_max_pool(context: Context, node: Node) -> Sequence[LayerStep]:
    """Lower MaxPool2d: the diagonal multiplies by one and the accumulators compare."""
    dtype = context.graph.tensors[node.inputs["x"]].dtype
    bits = context.config.array.operand_bits
    least = 0 if dtype.kind == "u" else max(int(np.iinfo(dtype).min), -(1 << bits - 1))
    return _pool(context, node, maximum=True, fill=least, finish=_identity(dtype, context.config))


def _elementwise(context: Context, node: Node, finish: Finish, by_channel: bool,
                 role: str = "x") -> Sequence[LayerStep]:
    name = node.inputs[role]
    tensor = context.graph.tensors[name]
    x = context.operand(node, role)
    layout: Layout = context.placed[name].layout
    if by_channel:
        if not layout.same_memory(Layout.of(layout.shape)):
            raise PearrayError(f"{node.name}: {name} must stand in memory with its channels last")
    y = context.result(node)
    target = next(iter(node.outputs.values()))
    placed = context.placed[target]
    context.placed[target] = type(placed)(placed.name, placed.address, layout, placed.dtype, placed.item)
    channels = layout.physical[-1] if layout.physical else 1
    count = x.pixels * x.channels
    x, y_view = x.viewed(count // channels, channels), y
    if (y.pixels, y.channels) != (count // channels, channels):
        context.stored[target] = y_view = Stored(y.name, y.address, count // channels, channels, y.item)
        y_view.expect_stores()
    return steps_of(context, Problem(
        name=node.name, x=x, y=y_view, width=x.pixels, q=x.pixels, cg=channels, ng=channels, diagonal=True,
        a_unsigned=tensor.dtype.kind == "u", finish=finish))


def lower_relu(context: Context, node: Node) -> Sequence[LayerStep]:
    """Lower Relu: the identity, clamped at the zero point."""
    operator = node.operator
    assert isinstance(operator, Relu)
    info = np.iinfo(context.graph.tensors[node.inputs["x"]].dtype)
    return _elementwise(context, node, Finish(Rounding.ONNX, 0, max(operator.zero_point, int(info.min)),
                                              int(info.max), float_entry(1.0)), False)


def lower_lookup(context: Context, node: Node) -> Sequence[LayerStep]:
    """Lower Lookup: the identity, then the table."""
    operator = node.operator
    assert isinstance(operator, Lookup)
    info = np.iinfo(context.graph.tensors[node.inputs["x"]].dtype)
    return _elementwise(context, node, Finish(Rounding.ONNX, 0, int(info.min), int(info.max), float_entry(1.0),
                                              table=operator.table), operator.table.ndim == 2)


def lower_add(context: Context, node: Node) -> Sequence[LayerStep]:
    """Lower Add: a table if one operand is constant over each channel, else an integer sum that is exact."""
    for role in ("a", "b"):
        value = context.constant(node.inputs[role])
        if value is not None and value.size <= max((1, *value.shape[1:2])):
            return _add_constant(context, node, role)
    return _add_tensors(context, node)


def _add_tensors(context: Context, node: Node) -> Sequence[LayerStep]:
    """Add two tensors of one shape: see :mod:`.residual`."""
    operator = node.operator
    assert isinstance(operator, Add)
    a, b = (context.graph.tensors[node.inputs[role]] for role in ("a", "b"))
    if a.shape != b.shape:
        raise PearrayError(f"{node.name}: Add takes two tensors of one shape, or a constant for each channel, on this "
                           f"accelerator, not shapes {a.shape} and {b.shape}")
    zeros = [int(getattr(operator, name)) for name in ("A_zero_point", "B_zero_point", "C_zero_point")]
    for name, zero, tensor in (("A_zero_point", zeros[0], a), ("B_zero_point", zeros[1], b)):
        check_stored_zero(context, node, name, zero, tensor.dtype.kind == "u")
    # Weights are unsigned, so that there are fewer of them.
    greatest = (1 << context.config.array.operand_bits) - 1
    found = None
    if operator.A_scale is not None:
        found = _residual(node, operator, a, b, context.graph.tensors[node.outputs["y"]].dtype, greatest)
    stored = [context.operand(node, role) for role in ("a", "b")]
    layouts: list[Layout] = [context.placed[node.inputs[role]].layout for role in ("a", "b")]
    if not layouts[0].same_memory(layouts[1]):
        raise PearrayError(f"{node.name}: {node.inputs['a']} and {node.inputs['b']} stand in memory in different "
                           "orders; reshape both or neither")
    y = context.result(node)
    (target,) = node.outputs.values()
    context.placed[target] = replace(context.placed[target], layout=layouts[0])
    channels = layouts[0].physical[-1] if layouts[0].physical else 1
    pixels = stored[0].pixels * stored[0].channels // channels
    if (y.pixels, y.channels) != (pixels, channels):
        context.stored[target] = y = Stored(y.name, y.address, pixels, channels, y.item)
        y.expect_stores()
    finish, factors = Finish(), (1, 1)
    if found is not None:
        info = np.iinfo(context.graph.tensors[target].dtype)
        bias = np.full(channels, found.bias) if found.bias else None
        finish = Finish(Rounding.ONNX, found.point, int(info.min), int(info.max), float_entry(found.scale), bias)
        factors = found.m, found.n
    problems = []
    for index, factor in enumerate(factors):
        weights = np.array([greatest] * (factor // greatest) + [factor % greatest] * (factor % greatest > 0))
        problems.append(Problem(
            name=node.name, x=stored[index].viewed(pixels, channels), y=y, width=pixels, q=pixels, cg=channels,
            ng=channels, diagonal=True, repeat=len(weights), weights=weights, finish=finish, a_zero=zeros[index],
            a_unsigned=(a, b)[index].dtype.kind == "u", w_unsigned=True))
    # The tiling makes room for the first, so that is the one with more weights.
    problems.sort(key=lambda problem: -problem.repeat)
    return steps_of(context, replace(problems[0], also=problems[1]))


def _residual(node: Node, operator: Add, a: Tensor, b: Tensor, y_dtype: np.dtype, greatest: int) -> Residual:
    """Integer weights that add two tensors as their scales say."""
    scales = [float(check_scale(name, getattr(operator, name))) for name in ("A_scale", "B_scale", "C_scale")]
    zeros = [int(getattr(operator, name)) for name in ("A_zero_point", "B_zero_point", "C_zero_point")]
    found = find_residual(scales[0], zeros[0], str(a.dtype), scales[1], zeros[1], str(b.dtype), scales[2], zeros[2],
                          str(y_dtype), greatest, first_is_spread(a.shape, b.shape))
    if found is None:
        raise PearrayError(
            f"{node.name}: Add can't be computed exactly by this accelerator for scales {scales}: too many sums lie "
            "half-way between two outputs, where the runtime's float32 additions decide; use a scale that is no "
            "simple multiple of the others, or powers of two")
    return found


def _add_constant(context: Context, node: Node, fixed: str) -> Sequence[LayerStep]:
    """Lower Add of a constant that is one number or one for each channel: a table over the other operand."""
    operator = node.operator
    assert isinstance(operator, Add)
    other = "b" if fixed == "a" else "a"
    value = context.constant(node.inputs[fixed])
    assert value is not None
    tensor = context.graph.tensors[node.inputs[other]]
    shape = tensor.shape
    per_channel = np.broadcast_to(value, (1,) * (len(shape) - value.ndim) + value.shape) if value.ndim <= len(shape) \
        else value
    sizes = [size for axis, size in enumerate(per_channel.shape) if axis != 1 and size > 1]
    if context.graph.tensors[node.outputs["y"]].shape != shape or sizes or tensor.dtype.itemsize != 1:
        raise PearrayError(f"{node.name}: {node.inputs[fixed]} must be one 8-bit number or one for each channel of "
                           f"{node.inputs[other]} of shape {shape}, not of shape {value.shape}")
    entries = np.arange(256, dtype=np.uint8).view(tensor.dtype)
    (_, dtype) = operator.infer(context.graph.typed(node.inputs))["y"]
    if dtype.itemsize != 1:
        raise PearrayError(f"{node.name}: Add needs C_scale on this accelerator")
    # The order of the golden model's additions follows from the shapes.
    spread = first_is_spread(*(context.graph.tensors[node.inputs[role]].shape for role in ("a", "b")))
    operands = {other: entries, fixed: per_channel.reshape(-1, 1)}
    table = quantised.add(
        operands["a"], operator.A_scale, int(operator.A_zero_point), operands["b"], operator.B_scale,
        int(operator.B_zero_point), operator.C_scale, int(operator.C_zero_point), dtype=dtype, spread=spread)
    table = table[0] if table.shape[0] == 1 else table
    info = np.iinfo(tensor.dtype)
    return _elementwise(context, node, Finish(Rounding.ONNX, 0, int(info.min), int(info.max), float_entry(1.0),
                                              table=table), table.ndim == 2, other)


def lower_average_pool(context: Context, node: Node) -> Sequence[LayerStep]:
    """Lower AvgPool2d: sums of windows on the diagonal, divided by requantisation.

    Windows that reach into padding may have fewer elements: outputs fall into rectangles of one count each.
    Without scales the sums are the outputs.
    """
    operator = node.operator
    assert isinstance(operator, AvgPool2d)
    tensor = context.graph.tensors[node.inputs["x"]]
    images, c, height, width = tensor.shape
    x, y = image_of(context, node), context.result(node)
    _, _, p, q = context.graph.tensors[node.outputs["y"]].shape
    (r, s), stride = operator.window(tensor.shape)
    top, left, _, _ = padding4(operator.padding)
    plain = operator.rounding == "onnx" and operator.x_scale is None
    zero = 0 if operator.rounding == "tflite" else int(operator.x_zero_point)
    check_stored_zero(context, node, "x_zero_point", zero, tensor.dtype.kind == "u")
    whole = operator.count_include_pad or plain
    systolic = isinstance(context.config, SystolicConfig)
    if systolic and (p, q, top, left) == (1, 1, 0, 0) and (r, s) == (height, width):
        finish = Finish() if plain else _average(context, node, r * s, c)
        return _whole_images(context, node, x, y, zero, finish)
    steps: list[LayerStep] = []
    for p0, p1, rows in _counts(p, stride[0], r, top, height, whole):
        for q0, q1, columns in _counts(q, stride[1], s, left, width, whole):
            finish = Finish() if plain else _average(context, node, rows * columns, c)
            steps += steps_of(context, Problem(
                name=node.name, x=x, y=y, images=images, height=height, width=width, p=p1 - p0, q=q1 - q0, cg=c,
                ng=c, r=r, s=s, stride=stride, top=top - p0 * stride[0], left=left - q0 * stride[1],
                a_unsigned=tensor.dtype.kind == "u", a_zero=zero, fill=zero, diagonal=True, finish=finish,
                y_size=None if (p1 - p0, q1 - q0) == (p, q) else (p, q), origin=(p0, q0)))
    return steps


class _Image(Stored):
    """Some pixels of a stored tensor."""

    def __init__(self, base: Stored, first: int, pixels: int):
        super().__init__(base.name, base.address + first * base.channels * base.item, pixels, base.channels, base.item)
        self._base, self._first = base, first

    def ready(self, start: int, end: int) -> int | None:
        return self._base.ready(self._first + start, self._first + end)


def _whole_images(context: Context, node: Node, x: Stored, y: Stored, zero: int, finish: Finish) -> Sequence[LayerStep]:
    """Sums of whole images: ones times the matrix of an image's pixels and channels, which fills the array."""
    tensor = context.graph.tensors[node.inputs["x"]]
    images, c, height, width = tensor.shape
    count, item = height * width, context.config.operand_bytes
    address = context.plan.constant(node.name, count * item, lambda: operand_array(np.ones(count, int), item).tobytes(),
                                    key=("ones", count, item))
    ones = Stored(f"{node.name}:ones", address, 1, count, item)
    steps: list[LayerStep] = []
    for image in range(images):
        steps += steps_of(context, Problem(
            name=node.name, x=ones, y=y, cg=count, ng=c, weights=Matrix(_Image(x, image * count, count)), w_zero=zero,
            w_unsigned=tensor.dtype.kind == "u", finish=finish, y_size=(images, 1), origin=(image, 0)))
    return steps


def _counts(outputs: int, stride: int, window: int, before: int, size: int,
            whole: bool) -> list[tuple[int, int, int]]:
    """Ranges of outputs along one axis whose windows hold the same number of elements, and that number."""
    ranges: list[tuple[int, int, int]] = []
    for output in range(outputs):
        first = output * stride - before
        count = window if whole else min(first + window, size) - max(first, 0)
        if ranges and ranges[-1][2] == count:
            ranges[-1] = (ranges[-1][0], output + 1, count)
        else:
            ranges.append((output, output + 1, count))
    return ranges


def _average(context: Context, node: Node, count: int, channels: int) -> Finish:
    """Requantisation that divides sums of windows of `count` elements; see :mod:`.average`."""
    operator = node.operator
    assert isinstance(operator, AvgPool2d)
    x_dtype, y_dtype = (context.graph.tensors[name].dtype for name in (node.inputs["x"], node.outputs["y"]))
    x_info, y_info = np.iinfo(x_dtype), np.iinfo(y_dtype)
    bounds = int(y_info.min), int(y_info.max)
    if operator.rounding == "tflite":
        found = find_integer_average((int(x_info.min), int(x_info.max)), count)
        if found is None:
            raise PearrayError(f"{node.name}: kernel must be smaller for rounding 'tflite' on this accelerator, "
                               f"not {count} elements")
        return Finish(Rounding.ONNX, 0, *bounds, float_entry(found.scale))
    zero, point = int(operator.x_zero_point), int(operator.y_zero_point)
    x, y = (check_scale(name, getattr(operator, name)) for name in ("x_scale", "y_scale"))
    if operator.kernel is None and not any(padding4(operator.padding)):
        # QLinearGlobalAveragePool adds integers, as the array does.
        return Finish(Rounding.ONNX, point, *bounds, float_entry(x / (y * np.float32(count))))
    found = find_average(float(x), (int(x_info.min) - zero, int(x_info.max) - zero), float(y), point, bounds, count)
    if found is None:
        raise PearrayError(
            f"{node.name}: AvgPool2d can't be computed exactly by this accelerator: with x_scale {x}, y_scale {y} and "
            f"{count} elements many means lie half-way between two outputs, where the runtime's float32 additions "
            "decide; use scales that are powers of two, or rounding='tflite'")
    bias = np.full(channels, found.bias) if found.bias else None
    return Finish(Rounding.ONNX, found.point, *bounds, float_entry(found.scale), bias)
