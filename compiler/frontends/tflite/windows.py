"""Operators of windows over images: convolutions and poolings."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ....golden import litert
from ....golden.requantise import tflite_multiplier
from ....hdl.errors import PearrayError
from ...operators import AvgPool2d, Conv2d, ConvTranspose2d, Lookup, MaxPool2d, Requant, Reshape
from ...operators.channelwise import every_value
from ...operators.fields import check_scale
from ..building import same_padding
from .builder import BYTES, WORDS, Builder, Stored, handles
from .file import FileOperator

__all__ = ["WHOLE", "bounds_of", "clamped", "kept_weights", "requantisation", "rescale", "scaled", "with_bias"]

#: Types of weights by the bytes of an activation.
_WEIGHTS = {1: (*BYTES, "INT4"), 2: ("INT8",)}

#: Multiplier and shift that leave numbers as they are.
WHOLE = 1 << 30, 1

#: Padding by the schema's numbers.
_SAME, _VALID = 0, 1

#: Bounds of the fused activations that are clamps, by the schema's numbers.
_CLAMPS = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
_OTHERS = {4: "TANH", 5: "SIGN_BIT"}


def bounds_of(operator: FileOperator, graph: Builder, y: Stored) -> tuple[int, int]:
    """Bounds of the stored output of an operator, with its fused activation."""
    activation = graph.option(operator, "FusedActivationFunction")
    if activation not in _CLAMPS:
        raise PearrayError("fused activation must be NONE, RELU, RELU_N1_TO_1 or RELU6, not "
                           f"{_OTHERS.get(activation, activation)}")
    return litert.bounds(*_CLAMPS[activation], y.scale, int(y.zero_point), y.dtype)


def clamped(operator: FileOperator, graph: Builder, name: str, y: Stored) -> str:
    """Limit what has been appended to the bounds of an operator's fused activation, by a table if that is bytes."""
    low, high = bounds_of(operator, graph, y)
    info = np.iinfo(y.dtype)
    if (low, high) == (info.min, info.max):
        return name
    if y.dtype.itemsize > 1:
        return scaled(operator, graph, name, y, y, 1, WHOLE, (low, high))
    table = np.clip(every_value(y.dtype), low, high).astype(y.dtype)
    return graph.append(operator, Lookup(table), {"x": name}, "clamped")


def requantisation(operator: FileOperator, graph: Builder, x: Stored, weights: int, channels: int, axis: int,
                   rounding: str = "double") -> Requant:
    """How the sums of a contraction become outputs.

    Parameters
    ----------
    operator, graph
        The file's operator, and the graph under construction.
    x : Stored
        The activations.
    weights : int
        Number of the weights, of which each output channel may have a scale of its own.
    channels, axis : int
        Output channels, and the axis of the weights that holds them.
    rounding : str
        Rule of the kernel.
    """
    tensor, y = graph.entry(weights), graph.stored(operator.outputs[0], "y", *WORDS)
    allowed = _WEIGHTS[x.dtype.itemsize]
    if tensor.kind not in allowed:
        raise PearrayError(f"w must be {' or '.join(allowed).lower()} with x of {x.dtype}, not {tensor.kind.lower()}: "
                           "convert the model with weights of int8")
    if x.dtype.itemsize != y.dtype.itemsize:
        raise PearrayError(f"y must be as wide as x, {x.dtype}, not {y.dtype}")
    if tensor.scale.size not in (1, channels) or (tensor.scale.size > 1 and tensor.axis != axis):
        raise PearrayError(f"w must have one scale, or {channels} along its axis {axis}, not {tensor.scale.size} along "
                           f"axis {tensor.axis}")
    scales = np.atleast_1d(check_scale("scale of w", tensor.scale)).astype(np.float64)
    factors = np.float64(np.float32(x.scale)) * scales / np.float64(np.float32(y.scale))
    pairs = [tflite_multiplier(float(factor)) for factor in factors]
    multiplier, shift = zip(*pairs, strict=True) if len(pairs) > 1 else pairs[0]
    return Requant.tflite(multiplier, shift, int(x.zero_point), int(graph.zero_point(tensor, "w")), y.zero_point,
                          rounding, bounds_of(operator, graph, y))


def rescale(operator: FileOperator, graph: Builder, x: Stored, y: Stored, ratio: float,
            bounds: tuple[int, int]) -> None:
    """Make numbers times a factor, rounded twice and within bounds, the output of an operator: products with ones."""
    number = operator.inputs[0]
    shape = graph.shape(number)
    channels = shape[-1] if shape else 1
    name = graph.image(number, (prod(shape) // channels, 1, 1, channels))
    graph.finish_image(operator, scaled(operator, graph, name, x, y, 1, tflite_multiplier(ratio), bounds), shape)


def scaled(operator: FileOperator, graph: Builder, name: str, x: Stored, y: Stored, weight: int,
           factor: tuple[int, int], bounds: tuple[int, int] | None = None) -> str:
    """Append numbers that are those of another tensor times a weight and a factor, rounded twice and within bounds."""
    shape = graph.tensor(name).shape
    if len(shape) != 4:
        rows = graph.append(operator, Reshape((-1, *(shape[-1:] or (1,)), 1, 1)), {"x": name}, "rows")
        made = scaled(operator, graph, rows, x, y, weight, factor, bounds)
        return graph.append(operator, Reshape(shape), {"x": made}, "numbers")
    info, channels = np.iinfo(y.dtype), shape[1]
    low, high = bounds or (int(info.min), int(info.max))
    requant = Requant.tflite(*factor, int(x.zero_point), 0, y.zero_point, "int32", (low, high))
    weights = np.full((channels, 1, 1, 1), weight, np.int8 if x.dtype.itemsize == 1 else x.dtype)
    stored = graph.store(graph.inner(name, "weights"), weights)
    return graph.append(operator, Conv2d(groups=channels, requant=requant), {"x": name, "w": stored}, "scaled")


def kept_weights(graph: Builder, number: int, x: Stored, use: str, value: np.ndarray) -> str:
    """Name of constant weights, made of the file's and as wide as the activations."""
    return graph.keep(number, use, value.astype(x.dtype) if x.dtype.itemsize > 1 else value)


def with_bias(operator: FileOperator, graph: Builder, inputs: dict[str, str], role: str, x: Stored,
              place: int = 2) -> dict[str, str]:
    """Inputs of a contraction with the bias, if there is one, that an operator has at a place."""
    if place >= len(operator.inputs) or operator.inputs[place] < 0:
        return inputs
    value, dtype = graph.known(operator, place, "bias"), np.dtype(np.int32 if x.dtype.itemsize == 1 else np.int64)
    if value.dtype != dtype:
        raise PearrayError(f"bias must be {dtype} with x of {x.dtype}, not {value.dtype}")
    return inputs | {role: graph.keep(operator.inputs[place], "bias", value.reshape(-1))}


def _weights(operator: FileOperator, graph: Builder, order: tuple[int, ...], layout: str) -> tuple[int, np.ndarray]:
    """Number of the weights, and their values with the axes in our order."""
    value = graph.known(operator, 1, "w")
    if value.ndim != 4:
        raise PearrayError(f"w must have 4 dimensions ({layout}), not shape {value.shape}")
    return operator.inputs[1], value.transpose(order)


def _sides(operator: FileOperator, graph: Builder, sizes: Sequence[int], kernel: Sequence[int],
           stride: tuple[int, int], dilation: tuple[int, int] = (1, 1)) -> tuple[int, int, int, int]:
    """Padding on each side; of an odd number the greater half stands at the end."""
    padding = graph.option(operator, "Padding")
    if padding not in (_SAME, _VALID):
        raise PearrayError(f"padding must be SAME (0) or VALID (1), not {padding}")
    if padding == _VALID:
        return 0, 0, 0, 0
    high, wide = map(same_padding, sizes, kernel, stride, dilation)
    return high // 2, wide // 2, high - high // 2, wide - wide // 2


def _pair(operator: FileOperator, graph: Builder, high: str, wide: str) -> tuple[int, int]:
    found = graph.option(operator, high), graph.option(operator, wide)
    if min(found) < 1:
        raise PearrayError(f"{high} and {wide} must be at least 1, not {found[0]} and {found[1]}")
    return found


def _source(operator: FileOperator, graph: Builder, x: Stored) -> tuple[int, tuple[int, int, int, int]]:
    """Image that a convolution reads, and the padding with zeros that a PAD before it has left to it."""
    number = operator.inputs[0]
    found = graph.padded.get(number)
    if found is not None and found.value == int(x.zero_point) and not any((*found.sides[0], *found.sides[-1])):
        _, (top, bottom), (left, right), _ = found.sides
        return found.source, (top, left, bottom, right)
    return number, (0, 0, 0, 0)


def _convolve(operator: FileOperator, graph: Builder, weights: tuple[int, np.ndarray], axis: int, groups: int) -> None:
    number, value = weights
    x = graph.stored(graph.of(operator, 0, "x"), "x", *WORDS)
    size = graph.shape(operator.inputs[0])
    stride = _pair(operator, graph, "StrideH", "StrideW")
    dilation = _pair(operator, graph, "DilationHFactor", "DilationWFactor")
    sides = _sides(operator, graph, size[1:3], value.shape[2:], stride, dilation)
    source, more = _source(operator, graph, x)
    made = Conv2d(stride=stride, dilation=dilation, groups=groups,
                  padding=tuple(own + other for own, other in zip(sides, more, strict=True)),
                  requant=requantisation(operator, graph, x, number, value.shape[0], axis))
    use = "weights" if axis == 0 else "depthwise weights"
    inputs = {"x": graph.image(source), "w": kept_weights(graph, number, x, use, value)}
    graph.make_image(operator, made, with_bias(operator, graph, inputs, "b", x))


def _channels(operator: FileOperator, graph: Builder) -> int:
    """Channels of the first input, which must be images."""
    shape = graph.shape(graph.of(operator, 0, "x"))
    if len(shape) != 4:
        raise PearrayError(f"x must have 4 dimensions (N, H, W, C), not shape {shape}")
    return shape[3]


@handles("CONV_2D")
def _conv(operator: FileOperator, graph: Builder) -> None:
    channels, weights = _channels(operator, graph), _weights(operator, graph, (0, 3, 1, 2), "M, R, S, C")
    depth = weights[1].shape[1]
    if not depth or channels % depth:
        raise PearrayError(f"w must have a number of channels that divides the {channels} of x, not {depth}")
    _convolve(operator, graph, weights, 0, channels // depth)


@handles("DEPTHWISE_CONV_2D")
def _depthwise_conv(operator: FileOperator, graph: Builder) -> None:
    channels, weights = _channels(operator, graph), _weights(operator, graph, (3, 0, 1, 2), "1, R, S, M")
    if weights[1].shape[1] != 1 or weights[1].shape[0] % channels:
        raise PearrayError(f"w must have shape (1, R, S, a multiple of the {channels} channels of x), not "
                           f"{graph.shape(operator.inputs[1])}")
    _convolve(operator, graph, weights, 3, channels)


@handles("TRANSPOSE_CONV")
def _transposed_conv(operator: FileOperator, graph: Builder) -> None:
    number = graph.of(operator, 2, "x")
    x, (n, h, w, _) = graph.stored(number, "x", *WORDS), _image_shape(graph, number)
    weights, value = _weights(operator, graph, (3, 0, 1, 2), "M, R, S, C")
    wanted = graph.integers(operator, 0, "output_shape")
    stride = _pair(operator, graph, "StrideH", "StrideW")
    if len(wanted) != 4 or graph.target(tuple(wanted))[0] != n:
        raise PearrayError(f"output_shape must be ({n}, P, Q, M), not {wanted}")
    begins = _sides(operator, graph, wanted[1:3], value.shape[2:], stride)[:2]
    ends = [(size - 1) * step + taps - begin - out for size, step, taps, begin, out in
            zip((h, w), stride, value.shape[2:], begins, wanted[1:3], strict=True)]
    made = ConvTranspose2d(
        stride=stride, padding=(*begins, *(max(end, 0) for end in ends)),
        output_padding=tuple(max(-end, 0) for end in ends),
        requant=requantisation(operator, graph, x, weights, value.shape[1], 0))
    inputs = {"x": graph.image(number), "w": kept_weights(graph, weights, x, "transposed weights", value)}
    graph.make_image(operator, made, with_bias(operator, graph, inputs, "b", x, 3))


def _image_shape(graph: Builder, number: int) -> tuple[int, ...]:
    shape = graph.shape(number)
    if len(shape) != 4:
        raise PearrayError(f"x must have 4 dimensions (N, H, W, C), not shape {shape}")
    return shape


@handles("AVERAGE_POOL_2D", "MAX_POOL_2D")
def _pool(operator: FileOperator, graph: Builder) -> None:
    number = graph.of(operator, 0, "x")
    y = graph.stored(operator.outputs[0], "y", *WORDS)
    graph.check_same(number, operator.outputs[0])
    size = _image_shape(graph, number)[1:3]
    kernel, stride = (_pair(operator, graph, *names) for names in (("FilterHeight", "FilterWidth"),
                                                                   ("StrideH", "StrideW")))
    window: dict[str, Any] = {"kernel": kernel, "stride": stride,
                              "padding": _sides(operator, graph, size, kernel, stride)}
    made = MaxPool2d(**window) if operator.kind == "MAX_POOL_2D" else AvgPool2d(**window, rounding="tflite")
    pooled = graph.append(operator, made, {"x": graph.image(number)})
    graph.finish_image(operator, clamped(operator, graph, pooled, y))
