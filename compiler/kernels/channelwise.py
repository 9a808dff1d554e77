"""Pooling, tables, additions, and whatever else treats each channel by itself."""

from dataclasses import replace
from typing import Any

import numpy as np

from ...golden.quantised import first_is_spread
from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Rounding
from ..graph.graph import Node
from ..operators import Add, AvgPool2d, Lookup, MaxPool2d, Relu
from .addition import Addition
from .average import exact_steps, find_average, float_steps, float_terms, integer_average
from .context import Context, float_entry
from .kernel import PIXELS, Access, Chain, Finish, Index, Kernel, Scaled, windows
from .pairs import find_pair
from .residual import find_residual
from .views import Buffer, View

__all__ = ["add", "average_pool", "lookup", "max_pool", "relu"]

#: Indices of a row of pixels.
_ROW = {"w": Index({"q": 1}), "c": Index({"c": 1})}

#: Greatest windows for which a factor is searched where there is another way: the search takes as long as the square.
_SEARCHED = 64


def _clamped(low: int, high: int, *, point: int = 0, scale: Any = 1.0, bias: np.ndarray | None = None,
             table: np.ndarray | None = None) -> Finish:
    """Outputs that are scaled sums, clamped, and looked up where there is a table."""
    return Finish(Rounding.ONNX, point, low, high, float_entry(scale), bias, table)


def _whole(dtype: np.dtype, table: np.ndarray | None = None) -> Finish:
    """Outputs that are the sums, stored as operands."""
    info = np.iinfo(dtype)
    return _clamped(int(info.min), int(info.max), table=table)


def _window(node: Node, x: Access, y: View, taps: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int],
            padding: tuple[int, int], combine: str, finish: Finish) -> Kernel:
    """Chain over the windows of images; `x` has no indices yet."""
    channel = {"c": Index({"c": 1})}
    ranks = {"n": y.size("n"), "p": y.size("h"), "q": y.size("w"), "c": y.size("c"), "r": taps[0], "s": taps[1]}
    return Chain(name=node.name, ranks=ranks, y=Access(y, {**PIXELS, **channel}), combine=combine, finish=finish,
                 terms=(Scaled(replace(x, indices={**windows(stride, dilation, padding), **channel})),))


def max_pool(context: Context, node: Node[MaxPool2d]) -> list[Kernel]:
    """State MaxPool2d as the greatest of each window; padding is the least value."""
    operator = node.operator
    tensor = context.graph.tensors[node.inputs["x"]]
    dtype = tensor.dtype
    least = max(int(np.iinfo(dtype).min), context.config.arithmetic.operand_range(dtype.kind == "u")[0])
    x = Access(context.image(node, least), {}, is_unsigned=dtype.kind == "u")
    y = context.result_image(node)
    return [_window(node, x, y, *operator.window(tensor.shape), operator.dilation, operator.padding[:2], "max",
                    _whole(dtype))]


def _elementwise(context: Context, node: Node, roles: str, finish: Finish, factors: tuple[int, ...] = (1,),
                 zeros: tuple[int, ...] = (0,), combine: str = "sum") -> list[Kernel]:
    """Chain over the elements of tensors that stand alike in memory, in whatever order.

    Of pairs the stored bytes are read, whatever their types.
    """
    found = [context.operand(node, role) for role in roles]
    layout = found[0].layout
    if not all(layout.same_memory(each.layout) for each in found):
        raise PearrayError(f"{node.name}: {node.inputs['a']} and {node.inputs['b']} stand in memory in different "
                           "orders; reshape both or neither")
    columns = _columns(found[0].buffer, context.config.sum_columns) if combine == "pair" else 0
    y = context.result(node, layout, columns=columns)
    sizes = 1, 1, y.rows, y.columns
    terms = tuple(
        Scaled(Access(View.rows(each.buffer, "nhwc", sizes), _ROW, zero,
                      combine == "pair" or context.graph.tensors[node.inputs[role]].dtype.kind == "u"), factor)
        for role, each, factor, zero in zip(roles, found, factors, zeros, strict=True))
    return [Chain(name=node.name, ranks={"q": y.rows, "c": y.columns}, terms=terms, combine=combine, finish=finish,
                  y=Access(View.rows(y, "nhwc", sizes), _ROW))]


def _columns(buffer: Buffer, width: int) -> int:
    """Elements of a row that waste the fewest of the sums of which rows have `width`, where all channels are alike."""
    if buffer.columns % width == 0:
        return buffer.columns
    divisors = [each for each in range(1, min(buffer.size, 32 * width) + 1) if buffer.size % each == 0]
    return min(divisors, key=lambda each: (-(-each // width) * width / each, each))


def relu(context: Context, node: Node[Relu]) -> list[Kernel]:
    """State Relu as a clamp at the zero point."""
    info = np.iinfo(context.graph.tensors[node.inputs["x"]].dtype)
    return _elementwise(context, node, "x", _clamped(max(node.operator.zero_point, int(info.min)), int(info.max)))


def lookup(context: Context, node: Node[Lookup]) -> list[Kernel]:
    """State Lookup as a table."""
    return _table(context, node, "x", node.operator.table)


def _table(context: Context, node: Node, role: str, table: np.ndarray) -> list[Kernel]:
    """Chain that looks each element up, perhaps in a table of its channel."""
    name = node.inputs[role]
    if table.ndim == 2 and not context.operand(node, role).is_plain():
        raise PearrayError(f"{node.name}: {name} must stand in memory with its channels last")
    return _elementwise(context, node, role, _whole(context.graph.tensors[name].dtype, table))


def add(context: Context, node: Node[Add]) -> list[Kernel]:
    """State Add as a table if one operand is constant over each channel, else as a sum of pairs, or of integers."""
    for role in ("a", "b"):
        value = context.constant(node.inputs[role])
        if value is not None and value.size <= max((1, *value.shape[1:2])):
            return _add_constant(context, node, role)
    return _add_tensors(context, node)


def _add_tensors(context: Context, node: Node[Add]) -> list[Kernel]:
    """Add two tensors of one shape: see :mod:`.pairs`, and :mod:`.residual` for accelerators without them."""
    operator = node.operator
    a, b = (context.graph.tensors[node.inputs[role]] for role in ("a", "b"))
    if a.shape != b.shape:
        raise PearrayError(f"{node.name}: Add takes two tensors of one shape, or a constant for each channel, on this "
                           f"accelerator, not shapes {a.shape} and {b.shape}")
    zeros = int(operator.A_zero_point), int(operator.B_zero_point)
    for role, zero in zip("ab", zeros, strict=True):
        context.checked_zero(node, f"{role.upper()}_zero_point", zero, node.inputs[role])
    if not operator.is_scaled:
        return _elementwise(context, node, "ab", Finish(), (1, 1), zeros)
    addition = _addition(context, node)
    if context.config.has_pairs:
        tables = find_pair(addition)
        if tables is not None:
            finish = _clamped(*addition.bounds, point=tables.point, scale=tables.scale)
            return _elementwise(context, node, "ab", replace(finish, pair=tables.tables), (1, 1), (0, 0), "pair")
    # Weights are unsigned, so that there are fewer of them.
    _, greatest = context.config.arithmetic.operand_range(is_unsigned=True)
    found = find_residual(addition, greatest)
    if found is None:
        scales = [addition.a_scale, addition.b_scale, addition.y_scale]
        raise PearrayError(
            f"{node.name}: a sum with scales {scales} can't be computed exactly by this accelerator: too many sums lie "
            "half-way between two outputs, where the runtime's float32 additions decide; use a scale that is no "
            "simple multiple of the others, powers of two, or tensors of one type and post.pairs = 1")
    # The bias of each channel as it stands in memory.
    layout = context.operand(node, "a").layout
    bias = np.full(layout.physical[-1] if layout.physical else 1, found.bias) if found.bias else None
    finish = _clamped(*addition.bounds, point=found.point, scale=found.scale, bias=bias)
    return _elementwise(context, node, "ab", finish, (found.m, found.n), zeros)


def _addition(context: Context, node: Node[Add]) -> Addition:
    """The addition that an operator's scales and zero points, and the types of its tensors, say."""
    tensors = {role: context.graph.tensors[name] for role, name in (*node.inputs.items(), *node.outputs.items())}
    (a_scale, a_zero), (b_scale, b_zero), (y_scale, y_zero) = (node.operator.stored(role) for role in "aby")
    a_dtype, b_dtype, y_dtype = (str(tensors[role].dtype) for role in "aby")
    a, b = tensors["a"], tensors["b"]
    return Addition(float(a_scale), a_zero, a_dtype, float(b_scale), b_zero, b_dtype, float(y_scale), y_zero, y_dtype,
                    spread=first_is_spread(a.shape, b.shape), fused=node.operator.is_fused(a=a, b=b))


def _add_constant(context: Context, node: Node[Add], fixed: str) -> list[Kernel]:
    """State Add of a constant that is one number or one for each channel as a table over the other operand."""
    other, value = "b" if fixed == "a" else "a", context.graph.constants[node.inputs[fixed]]
    try:
        table = node.operator.constant_table(fixed, value, context.graph.tensors[node.inputs[other]])
    except PearrayError as error:
        raise PearrayError(f"{node.name}: {error}") from None
    return _table(context, node, other, table)


def average_pool(context: Context, node: Node[AvgPool2d]) -> list[Kernel]:
    """State AvgPool2d as sums of windows, divided by requantisation.

    Windows that reach into padding may have fewer elements: outputs fall into rectangles of one count each.
    Without scales the sums are the outputs.
    """
    operator = node.operator
    tensor = context.graph.tensors[node.inputs["x"]]
    _, c, height, width = tensor.shape
    zero = 0 if operator.rounding == "tflite" else int(operator.x_zero_point)
    context.checked_zero(node, "x_zero_point", zero, node.inputs["x"])
    x = Access(context.image(node, zero), {}, zero, tensor.dtype.kind == "u")
    # Of terms the stored bytes are read, whatever their type.
    stored = replace(x, zero=0, is_unsigned=True)
    y = context.result_image(node)
    taps, stride = operator.window(tensor.shape)
    top, left, _, _ = operator.padding
    plain = operator.rounding != "tflite" and not operator.is_scaled
    whole = operator.count_include_pad or plain
    kernels = []
    for p0, p1, rows in _counts(y.size("h"), stride[0], taps[0], top, height, whole):
        for q0, q1, columns in _counts(y.size("w"), stride[1], taps[1], left, width, whole):
            finish = Finish() if plain else _average(context, node, rows * columns, c)
            added, combine = (x, "sum") if finish.terms is None else (stored, "terms")
            kernels.append(_window(node, added, y.part("h", p0, p1 - p0).part("w", q0, q1 - q0), taps, stride, (1, 1),
                                   (top - p0 * stride[0], left - q0 * stride[1]), combine, finish))
    return kernels


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


def _average(context: Context, node: Node[AvgPool2d], count: int, channels: int) -> Finish:
    """Requantisation that divides sums of windows of `count` elements; see :mod:`.average`."""
    operator = node.operator
    x_dtype, y_dtype = (context.graph.tensors[name].dtype for name in (node.inputs["x"], node.outputs["y"]))
    x_info, y_info = np.iinfo(x_dtype), np.iinfo(y_dtype)
    bounds = int(y_info.min), int(y_info.max)
    if operator.rounding == "tflite":
        try:
            multiplier, shift = integer_average(count, max(-int(x_info.min), int(x_info.max)))
        except ValueError as error:
            raise PearrayError(f"{node.name}: kernel is too large for rounding 'tflite': {error}") from None
        entry = np.array([multiplier | (shift & 63) << 32], np.uint64)
        return Finish(Rounding.TFLITE_SINGLE, 0, *bounds, entry)
    (x, zero), (y, point) = operator.stored("x"), operator.stored("y")
    is_fused = operator.is_fused(x=context.graph.tensors[node.inputs["x"]])
    if operator.is_global and is_fused:
        # QLinearGlobalAveragePool adds integers, as the array does.
        return _clamped(*bounds, point=point, scale=x / (y * np.float32(count)))
    can_step, exact = context.config.has_averages, operator.is_global
    if exact or not can_step or count <= _SEARCHED:
        found = find_average(float(x), (int(x_info.min) - zero, int(x_info.max) - zero), float(y), point, bounds, count,
                             fused=is_fused, exact=exact)
        if found is not None:
            bias = np.full(channels, found.bias) if found.bias else None
            return _clamped(*bounds, point=found.point, scale=found.scale, bias=bias)
    if not can_step:
        raise PearrayError(
            f"{node.name}: a mean over {count} elements with x_scale {x} and y_scale {y} can't be computed exactly by "
            "this accelerator: some sums lie so near half-way between two outputs that the runtime's float32 "
            "additions decide; use post.averages = 1, scales that are powers of two, or rounding='tflite'")
    outputs = _clamped(*bounds, point=bounds[0])
    if exact:
        return replace(outputs, steps=exact_steps(float(x), float(y), point, bounds, count))
    return replace(outputs, terms=float_terms(float(x), zero, x_dtype),
                   steps=float_steps(float(y), point, bounds, count, fused=is_fused))
