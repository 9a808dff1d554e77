"""ONNX operators that never mix channels: pooling, addition, activations by table."""

from typing import Any

import numpy as np

from ....golden import activation as golden_activation
from ....golden import quantised
from ....hdl.errors import PearrayError
from ...operators import Add, AvgPool2d, Lookup, MaxPool2d, Relu
from ...operators.operator import Operator
from .builder import (
    MICROSOFT,
    Builder,
    OnnxNode,
    Quantisation,
    handles,
    image,
    one,
    one_output,
    optional,
    quantisation,
    spatial_padding,
    two,
)

__all__: list[str] = []

_WINDOW = {"auto_pad": "NOTSET", "ceil_mode": 0, "kernel_shape": None, "pads": None, "strides": None}


def _pooling(taken: dict[str, Any], size: tuple[int, int], dilations: tuple[int, int]) -> dict[str, Any]:
    """Window of a pooling operator, as its parameters."""
    kernel, strides = (two(name, taken[name], (1, 1)) for name in ("kernel_shape", "strides"))
    if taken["ceil_mode"] and taken["auto_pad"] == "VALID" and any(
            (size[axis] - dilations[axis] * (kernel[axis] - 1) - 1) % strides[axis] for axis in range(2)):
        # The standard's formula leaves such a window out, its runtimes don't.
        raise PearrayError("ceil_mode must be 0 with auto_pad = VALID where a window would hang over the end, not 1: "
                           "give pads instead")
    padding = spatial_padding(taken["auto_pad"], taken["pads"], size, kernel, strides, dilations)
    return {"kernel": kernel, "stride": strides, "padding": padding,
            "ceil_mode": bool(taken["ceil_mode"]) and taken["auto_pad"] == "NOTSET"}


@handles("MaxPool")
def _max_pool(node: OnnxNode, graph: Builder) -> None:
    one_output(node)
    taken = node.take(**_WINDOW, dilations=None, storage_order=0)
    dilations = two("dilations", taken["dilations"], (1, 1))
    window = _pooling(taken, image(graph, node.inputs[0]), dilations)
    graph.add(node, MaxPool2d(**window, dilation=dilations), {"x": node.inputs[0]})


def _input(node: OnnxNode, graph: Builder, what: str, tensor: int) -> tuple[float, Any]:
    """Scale and zero point of the operand that stands before them; an absent zero point is 0."""
    dtype = graph.tensor(node.inputs[tensor]).dtype
    scale, zero_point, _ = quantisation(node, graph, tensor + 1, what, dtype, dtype)
    return one(f"{what}_scale", scale), zero_point


def _output(node: OnnxNode, graph: Builder, what: str, index: int, activation: Any = None) -> Quantisation:
    """Scale, zero point and range of the output; without a zero point it has the type of the first operand."""
    found = quantisation(node, graph, index, what, absent=graph.tensor(node.inputs[0]).dtype)
    scale, zero_point, clamp = one(f"{what}_scale", found.scale), found.zero_point, found.clamp
    if activation is not None:
        least, most = (0.0, np.inf) if activation == "relu" else activation[1:]
        bounds = golden_activation.quantised_bounds(least, most, scale, zero_point, zero_point.dtype)
        low, high = (int(value) for value in (bounds if clamp is None else np.clip(bounds, *clamp)))
        info = np.iinfo(zero_point.dtype)
        clamp = None if (low, high) == (info.min, info.max) else (low, high)
    return Quantisation(np.asarray(scale, np.float32), zero_point, clamp)


def _narrowed(table: np.ndarray, clamp: tuple[int, int] | None) -> np.ndarray:
    return table if clamp is None else np.clip(table, *clamp).astype(table.dtype)


def _add_node(node: OnnxNode, graph: Builder, operator: Operator, inputs: dict[str, str],
              clamp: tuple[int, int] | None) -> None:
    """Append an operator, and a table that cuts its outputs off at a range narrower than that of 8 bits."""
    if clamp is None:
        graph.add(node, operator, inputs)
        return
    whole = f"{node.outputs[0]}:whole"
    graph.add(node, operator, inputs, whole)
    entries = np.arange(256, dtype=np.uint8).view(graph.tensor(whole).dtype)
    graph.add(node, Lookup(_narrowed(entries, clamp)), {"x": whole})
    graph.ranges[node.outputs[0]] = clamp


@handles("QLinearAveragePool", domain=MICROSOFT)
def _average_pool(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(**_WINDOW, count_include_pad=0, channels_last=0, dilations=None, activation=None)
    if taken["channels_last"]:
        raise PearrayError("channels_last must be 0, not 1")
    if two("dilations", taken["dilations"], (1, 1)) != (1, 1):
        raise PearrayError(f"dilations must be 1 for an average, not {taken['dilations']}")
    window = _pooling(taken, image(graph, node.inputs[0]), (1, 1))
    x_scale, x_zero = _input(node, graph, "x", 0)
    y_scale, y_zero, clamp = _output(node, graph, "y", 3, taken["activation"])
    operator = AvgPool2d(**window, x_scale=x_scale, x_zero_point=x_zero, y_scale=float(y_scale), y_zero_point=y_zero,
                         count_include_pad=bool(taken["count_include_pad"]))
    _add_node(node, graph, operator, {"x": node.inputs[0]}, clamp)


@handles("QLinearGlobalAveragePool", domain=MICROSOFT)
def _global_average_pool(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(channels_last=0, activation=None)
    if taken["channels_last"]:
        raise PearrayError("channels_last must be 0, not 1")
    image(graph, node.inputs[0])
    x_scale, x_zero = _input(node, graph, "x", 0)
    y_scale, y_zero, clamp = _output(node, graph, "y", 3, taken["activation"])
    operator = AvgPool2d(x_scale=x_scale, x_zero_point=x_zero, y_scale=float(y_scale), y_zero_point=y_zero)
    _add_node(node, graph, operator, {"x": node.inputs[0]}, clamp)


@handles("QLinearAdd", domain=MICROSOFT)
def _add(node: OnnxNode, graph: Builder) -> None:
    activation = node.take(activation=None)["activation"]
    c_scale, c_zero, clamp = _output(node, graph, "C", 6, activation)
    terms = [_input(node, graph, "A", 0), _input(node, graph, "B", 3), (float(c_scale), c_zero)]
    fixed = [index for index in (0, 3) if node.inputs[index] in graph.constants]
    a, b = (graph.tensor(node.inputs[index]).shape for index in (0, 3))
    # A constant of many values is a tensor as any other.
    if not fixed or (a == b and int(np.prod(a, dtype=np.int64)) > max((1, *a[1:2]))):
        operator = Add(*(value for term in terms for value in term))
        _add_node(node, graph, operator, {"a": node.inputs[0], "b": node.inputs[3]}, clamp)
        return
    index, other = fixed[0], 3 - fixed[0]
    x, value = graph.tensor(node.inputs[other]), graph.constants[node.inputs[index]]
    table = _narrowed(_constant_table(x.shape, x.dtype, value, terms, constant_first=index == 0), clamp)
    graph.add(node, Lookup(table[0] if len(table) == 1 else table), {"x": x.name})
    if clamp is not None:
        graph.ranges[node.outputs[0]] = clamp


def _constant_table(shape: tuple[int, ...], dtype: np.dtype, value: np.ndarray, terms: list[tuple[float, Any]], *,
                    constant_first: bool) -> np.ndarray:
    """Tabulate the sum of a constant and every value of the other operand, for each channel of axis 1."""
    channels = shape[1] if len(shape) > 1 else 1
    padded = (1,) * (len(shape) - value.ndim) + value.shape
    if value.size not in (1, channels) or len(padded) != len(shape) or any(
            size != 1 and axis != 1 for axis, size in enumerate(padded)):
        raise PearrayError(f"the constant must be one value or one for each of the {channels} channels of an input "
                           f"of shape {shape}, not of shape {value.shape}")
    if dtype not in (np.int8, np.uint8):
        raise PearrayError(f"a and b must be int8 or uint8, not {dtype}")
    entries, constant = np.arange(256, dtype=np.uint8).view(dtype), value.reshape(-1, 1)
    first, second = (constant, entries) if constant_first else (entries, constant)
    # The order of the runtime's additions depends on whether it meets a run of one number.
    spread = quantised.first_is_spread(*((value.shape, shape) if constant_first else (shape, value.shape)))
    return quantised.add(first, *terms[0], second, *terms[1], *terms[2], dtype=terms[2][1].dtype, spread=spread)


@handles("Relu")
def _relu(node: OnnxNode, graph: Builder) -> None:
    node.take()
    x = graph.tensor(node.inputs[0])
    if x.dtype.kind not in "iu":
        raise PearrayError(f"input {x.name!r} must be quantised, not {x.dtype}")
    graph.add(node, Relu(), {"x": x.name})


@handles("Clip")
def _clip(node: OnnxNode, graph: Builder) -> None:
    node.take()
    x = graph.tensor(node.inputs[0])
    if x.dtype not in (np.int8, np.uint8):
        raise PearrayError(f"input {x.name!r} must be int8 or uint8, not {x.dtype}")
    info = np.iinfo(x.dtype)
    low, high = (int(graph.constant(node, index, role)) if optional(node, index) else int(bound)
                 for index, role, bound in ((1, "min", info.min), (2, "max", info.max)))
    entries = np.arange(256, dtype=np.uint8).view(x.dtype)
    graph.add(node, Lookup(np.minimum(np.maximum(entries, low), high).astype(x.dtype)), {"x": x.name})


def _tabulate(node: OnnxNode, graph: Builder, function: Any) -> None:
    x, (y_scale, y_zero, clamp) = graph.tensor(node.inputs[0]), _output(node, graph, "Y", 3)
    if y_zero.dtype != x.dtype:
        raise PearrayError(f"Y_zero_point must be {x.dtype}, as X is, not {y_zero.dtype}")
    table = golden_activation.table(function, *_input(node, graph, "X", 0), float(y_scale), y_zero, x.dtype)
    graph.add(node, Lookup(_narrowed(table, clamp)), {"x": x.name})


@handles("QLinearSigmoid", domain=MICROSOFT)
def _sigmoid(node: OnnxNode, graph: Builder) -> None:
    node.take()
    _tabulate(node, graph, "sigmoid")


@handles("QLinearLeakyRelu", domain=MICROSOFT)
def _leaky_relu(node: OnnxNode, graph: Builder) -> None:
    _tabulate(node, graph, ("leaky_relu", node.take(alpha=0.01)["alpha"]))
