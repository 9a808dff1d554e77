"""Pooling and clamps, which treat each channel by itself."""

from dataclasses import replace

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Rounding
from ..graph.graph import Node
from ..operators import AvgPool2d, MaxPool2d, Relu
from .average import exact_steps, find_average, float_steps, float_terms, integer_average
from .context import Context
from .elementwise import clamped as _clamped
from .elementwise import elementwise
from .elementwise import whole as _whole
from .kernel import PIXELS, Access, Chain, Finish, Index, Kernel, Scaled, windows
from .views import View

__all__ = ["average_pool", "max_pool", "relu"]

#: Greatest windows for which a factor is searched where there is another way: the search takes as long as the square.
_SEARCHED = 64


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


def relu(context: Context, node: Node[Relu]) -> list[Kernel]:
    """State Relu as a clamp at the zero point."""
    info = np.iinfo(context.graph.tensors[node.inputs["x"]].dtype)
    return elementwise(context, node, "x", _clamped(max(node.operator.zero_point, int(info.min)), int(info.max)))


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
    least, greatest, elements = int(x_info.min) - zero, int(x_info.max) - zero, count
    if not operator.divides:
        # The mean of one element, which is the sum.
        least, greatest, count = count * least, count * greatest, 1
    if operator.is_global and is_fused:
        # QLinearGlobalAveragePool adds integers, as the array does.
        return _clamped(*bounds, point=point, scale=x / (y * np.float32(count)))
    can_step, exact = context.config.has_averages, operator.is_global
    if exact or not can_step or count <= _SEARCHED:
        found = find_average(float(x), (least, greatest), float(y), point, bounds, count, fused=is_fused,
                             exact=exact)
        if found is not None:
            bias = np.full(channels, found.bias) if found.bias else None
            return _clamped(*bounds, point=found.point, scale=found.scale, bias=bias)
    if not can_step:
        raise PearrayError(
            f"{node.name}: a mean over {elements} elements with x_scale {x} and y_scale {y} can't be computed exactly "
            "by this accelerator: some sums lie so near half-way between two outputs that the runtime's float32 "
            "additions decide; use post.averages = 1, scales that are powers of two, or rounding='tflite'")
    outputs = _clamped(*bounds, point=bounds[0])
    if exact:
        return replace(outputs, steps=exact_steps(float(x), float(y), point, bounds, count))
    return replace(outputs, terms=float_terms(float(x), zero, x_dtype),
                   steps=float_steps(float(y), point, bounds, count, fused=is_fused))
