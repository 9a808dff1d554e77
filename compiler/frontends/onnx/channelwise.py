"""ONNX operators that never mix channels: pooling, addition, activations by table."""

from typing import Any

import numpy as np

from ....golden import activation as golden_activation
from ....golden import quantised
from ....hdl.errors import PearrayError
from ...operators import Add, AvgPool2d, Lookup, MaxPool2d, Relu
from .builder import (
    MICROSOFT,
    Builder,
    OnnxNode,
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


def _scaled(node: OnnxNode, graph: Builder, what: str, index: int) -> tuple[float, Any]:
    scale, zero_point = quantisation(node, graph, index, what)
    return one(f"{what}_scale", scale), zero_point


@handles("QLinearAveragePool", domain=MICROSOFT)
def _average_pool(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(**_WINDOW, count_include_pad=0, channels_last=0, dilations=None)
    if taken["channels_last"]:
        raise PearrayError("channels_last must be 0, not 1")
    if two("dilations", taken["dilations"], (1, 1)) != (1, 1):
        raise PearrayError(f"dilations must be 1 for an average, not {taken['dilations']}")
    window = _pooling(taken, image(graph, node.inputs[0]), (1, 1))
    (x_scale, x_zero), (y_scale, y_zero) = (_scaled(node, graph, what, at) for what, at in (("x", 1), ("y", 3)))
    graph.add(node, AvgPool2d(**window, x_scale=x_scale, x_zero_point=x_zero, y_scale=y_scale, y_zero_point=y_zero,
                              count_include_pad=bool(taken["count_include_pad"])), {"x": node.inputs[0]})


@handles("QLinearGlobalAveragePool", domain=MICROSOFT)
def _global_average_pool(node: OnnxNode, graph: Builder) -> None:
    if node.take(channels_last=0)["channels_last"]:
        raise PearrayError("channels_last must be 0, not 1")
    image(graph, node.inputs[0])
    (x_scale, x_zero), (y_scale, y_zero) = (_scaled(node, graph, what, at) for what, at in (("x", 1), ("y", 3)))
    graph.add(node, AvgPool2d(x_scale=x_scale, x_zero_point=x_zero, y_scale=y_scale, y_zero_point=y_zero),
              {"x": node.inputs[0]})


@handles("QLinearAdd", domain=MICROSOFT)
def _add(node: OnnxNode, graph: Builder) -> None:
    node.take()
    terms = [_scaled(node, graph, what, at) for what, at in (("A", 1), ("B", 4), ("C", 6))]
    fixed = [index for index in (0, 3) if node.inputs[index] in graph.constants]
    a, b = (graph.tensor(node.inputs[index]).shape for index in (0, 3))
    # A constant of many values is a tensor as any other.
    if not fixed or (a == b and int(np.prod(a, dtype=np.int64)) > max((1, *a[1:2]))):
        graph.add(node, Add(*(value for term in terms for value in term)),
                  {"a": node.inputs[0], "b": node.inputs[3]})
        return
    index, other = fixed[0], 3 - fixed[0]
    x, value = graph.tensor(node.inputs[other]), graph.constants[node.inputs[index]]
    table = _constant_table(x.shape, x.dtype, value, terms, constant_first=index == 0)
    graph.add(node, Lookup(table[0] if len(table) == 1 else table), {"x": x.name})


def _constant_table(shape: tuple[int, ...], dtype: np.dtype, value: np.ndarray, terms: list[tuple[float, Any]], *,
                    constant_first: bool) -> np.ndarray:
    """Tabulate the sum of a constant and every value of the other operand, for each channel of axis 1."""
    channels = shape[1] if len(shape) > 1 else 1
    padded = (1,) * (len(shape) - value.ndim) + value.shape
    if value.size not in (1, channels) or len(padded) != len(shape) or any(
            size != 1 and axis != 1 for axis, size in enumerate(padded)):
        raise PearrayError(f"the constant must be one value or one for each of the {channels} channels of an input "
                           f"of shape {shape}, not of shape {value.shape}")
    entries = np.broadcast_to(np.arange(256, dtype=np.uint8).view(dtype), (value.size, 256))
    constant = value.reshape(-1, 1)
    if value.size > 1 and int(np.prod(shape[2:], dtype=np.int64)) == 1:
        # The order of the runtime's additions depends on whether it meets a run of one number.
        constant = np.broadcast_to(constant, entries.shape)
    first, second = (constant, entries) if constant_first else (entries, constant)
    return quantised.add(first, *terms[0], second, *terms[1], *terms[2])


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
    x = graph.tensor(node.inputs[0])
    table = golden_activation.table(function, *_scaled(node, graph, "X", 1), *_scaled(node, graph, "Y", 3), x.dtype)
    graph.add(node, Lookup(table), {"x": x.name})


@handles("QLinearSigmoid", domain=MICROSOFT)
def _sigmoid(node: OnnxNode, graph: Builder) -> None:
    node.take()
    _tabulate(node, graph, "sigmoid")


@handles("QLinearLeakyRelu", domain=MICROSOFT)
def _leaky_relu(node: OnnxNode, graph: Builder) -> None:
    _tabulate(node, graph, ("leaky_relu", node.take(alpha=0.01)["alpha"]))
