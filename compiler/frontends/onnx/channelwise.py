"""ONNX operators that never mix channels: pooling, those of two tensors, activations by table."""

from typing import Any

import numpy as np

from ....golden import activation as golden_activation
from ....hdl.errors import PearrayError
from ...operators import Add, AvgPool2d, Lookup, MaxPool2d, Mul, Relu, Sub
from ...operators.binary import Binary
from ...operators.channelwise import every_value
from ...operators.operator import Operator
from .builder import MICROSOFT, OWN, Builder, OnnxNode, Quantisation, handles, one, spatial_padding, two
from .rows import of_images, of_whole_images

__all__ = ["add_limited", "output_of", "stored_input"]

_WINDOW = {"auto_pad": "NOTSET", "ceil_mode": 0, "kernel_shape": None, "pads": None, "strides": None}


def _pooling(taken: dict[str, Any], size: tuple[int, int], dilations: tuple[int, int]) -> dict[str, Any]:
    """Window of a pooling operator, as its parameters."""
    kernel, strides = (two(name, taken[name], (1, 1)) for name in ("kernel_shape", "strides"))
    if taken["ceil_mode"] and taken["auto_pad"] == "VALID" and any(
            (size[axis] - dilations[axis] * (kernel[axis] - 1) - 1) % strides[axis] for axis in range(2)):
        # The standard's formula leaves such a window out, its runtimes don't.
        raise PearrayError("ceil_mode must be 0 with auto_pad = VALID where a window would hang over the end, not 1: "
                           "give pads instead")
    # The standard's padding is negative there, of which runtimes make different things if the first window feels it.
    most = {"SAME_UPPER": 1, "SAME_LOWER": 2}.get(taken["auto_pad"])
    for axis in range(2):
        if most is not None and _gap(size[axis], kernel[axis], strides[axis], dilations[axis]) > most:
            raise PearrayError(f"auto_pad must not be {taken['auto_pad']} where windows of {list(kernel)} in steps of "
                               f"{list(strides)} need not reach the end: give pads instead")
    padding = spatial_padding(taken["auto_pad"], taken["pads"], size, kernel, strides, dilations)
    return {"kernel": kernel, "stride": strides, "padding": padding,
            "ceil_mode": bool(taken["ceil_mode"]) and taken["auto_pad"] == "NOTSET"}


def _gap(size: int, taps: int, stride: int, dilation: int) -> int:
    """Elements behind the last of ``ceil(size / stride)`` windows."""
    return size - (-(-size // stride) - 1) * stride - dilation * (taps - 1) - 1


@handles("MaxPool")
@of_images()
def _max_pool(node: OnnxNode, graph: Builder) -> None:
    if any(node.outputs[1:]):
        raise PearrayError(f"output {node.outputs[1]!r} is not supported; only the first one is")
    taken = node.take(**_WINDOW, dilations=None, storage_order=0)
    dilations = two("dilations", taken["dilations"], (1, 1))
    window = _pooling(taken, graph.image(node.inputs[0]), dilations)
    graph.add(node, MaxPool2d(**window, dilation=dilations), {"x": node.inputs[0]})


def stored_input(node: OnnxNode, graph: Builder, what: str, tensor: int) -> Quantisation:
    """Scale, zero point and range of the operand that stands before them; an absent zero point is 0."""
    dtype = graph.tensor(node.inputs[tensor]).dtype
    found = graph.quantisation(node, tensor + 1, what, dtype, dtype)
    return found._replace(scale=np.asarray(one(f"{what}_scale", found.scale), np.float32))


def _rounding(is_float: bool, *tensors: Quantisation) -> str:
    """Rounding of an operator between tensors; the runtime fuses none that has 4 bits or is limited behind it.

    `is_float` says that it does not for another reason.
    """
    return "onnx" if not is_float and all(found.clamp is None for found in tensors) else "float"


def output_of(node: OnnxNode, graph: Builder, what: str, index: int, activation: Any = None) -> Quantisation:
    """Scale, zero point and range of the output; without a zero point it has the type of the first operand."""
    found = graph.quantisation(node, index, what, absent=graph.tensor(node.inputs[0]).dtype)
    scale, zero_point, clamp = one(f"{what}_scale", found.scale), found.zero_point, found.clamp
    if activation is not None:
        least, most = (0.0, np.inf) if activation == "relu" else activation[1:]
        bounds = golden_activation.quantised_bounds(least, most, scale, zero_point, zero_point.dtype)
        low, high = (int(value) for value in (bounds if clamp is None else np.clip(bounds, *clamp)))
        info = np.iinfo(zero_point.dtype)
        clamp = None if (low, high) == (info.min, info.max) else (low, high)
    return Quantisation(np.asarray(scale, np.float32), zero_point, clamp)


def _check_types(node: OnnxNode, **types: np.dtype) -> None:
    """Check that tensors of an operator on integers have one type; float ones stand for any."""
    if node.proto is not None and len({*types.values()}) > 1:
        raise PearrayError(f"{' and '.join(types)} must be of one type, not {' and '.join(map(str, types.values()))}")


def _narrowed(table: np.ndarray, clamp: tuple[int, int] | None) -> np.ndarray:
    return table if clamp is None else np.clip(table, *clamp).astype(table.dtype)


def add_limited(node: OnnxNode, graph: Builder, operator: Operator, inputs: dict[str, str],
              clamp: tuple[int, int] | None) -> None:
    """Append an operator, and a table that cuts its outputs off at a range narrower than that of 8 bits."""
    if clamp is None:
        graph.add(node, operator, inputs)
        return
    whole = graph.inner(node.outputs[0], "whole")
    graph.add(node, operator, inputs, whole)
    graph.add(node, Lookup(_narrowed(every_value(graph.tensor(whole).dtype), clamp)), {"x": whole}, bounds=clamp)


@handles("QLinearAveragePool", domain=MICROSOFT)
@of_images()
def _windowed_average(node: OnnxNode, graph: Builder) -> None:
    _average_pool(node, graph)


@handles("QLinearGlobalAveragePool", domain=MICROSOFT)
@of_whole_images
def _global_average(node: OnnxNode, graph: Builder) -> None:
    _average_pool(node, graph)


@handles("GlobalMaxPool")
@of_whole_images
def _global_max_pool(node: OnnxNode, graph: Builder) -> None:
    node.take()
    graph.image(node.inputs[0])
    graph.add(node, MaxPool2d(), {"x": node.inputs[0]})


def _average_pool(node: OnnxNode, graph: Builder) -> None:
    is_global = node.op_type == "QLinearGlobalAveragePool"
    own = {} if is_global else _WINDOW | {"count_include_pad": 0, "dilations": None}
    taken, size = node.take(**own, channels_last=0, activation=None, is_float=False), graph.image(node.inputs[0])
    if taken["channels_last"]:
        raise PearrayError("channels_last must be 0, not 1")
    window: dict[str, Any] = {}
    if not is_global:
        if two("dilations", taken["dilations"], (1, 1)) != (1, 1):
            raise PearrayError(f"dilations must be 1 for an average, not {taken['dilations']}")
        window = _pooling(taken, size, (1, 1)) | {"count_include_pad": bool(taken["count_include_pad"])}
    x, y = stored_input(node, graph, "x", 0), output_of(node, graph, "y", 3, taken["activation"])
    dtype = graph.tensor(node.inputs[0]).dtype
    _check_types(node, x=dtype, y=y.zero_point.dtype)
    rounding = _rounding(taken["is_float"], x, y)
    if rounding == "onnx" and dtype == y.zero_point.dtype and window.get("kernel") == size and not any(
            window["padding"]):
        # The runtime's kernel on integers takes a window that is the image for QLinearGlobalAveragePool.
        window = {}
    operator = AvgPool2d(**window, x_scale=float(x.scale), x_zero_point=x.zero_point, y_scale=float(y.scale),
                         y_zero_point=y.zero_point, rounding=rounding)
    add_limited(node, graph, operator, {"x": node.inputs[0]}, y.clamp)


@handles("QLinearAdd", "QLinearMul", domain=MICROSOFT)
@handles("Add", "Sub", domain=OWN)
def _binary(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(activation=None, is_float=False)
    y = output_of(node, graph, "C", 6, taken["activation"])
    first, second = stored_input(node, graph, "A", 0), stored_input(node, graph, "B", 3)
    _check_types(node, A=graph.tensor(node.inputs[0]).dtype, B=graph.tensor(node.inputs[3]).dtype,
                 C=y.zero_point.dtype)
    kind, rounding = _BINARY[node.domain, node.op_type]
    operator = kind(
        float(first.scale), first.zero_point, float(second.scale), second.zero_point, float(y.scale), y.zero_point,
        rounding or _rounding(taken["is_float"], first, second, y))
    inputs = {"a": node.inputs[0], "b": node.inputs[3]}
    fixed = next((role for role, name in inputs.items() if name in graph.constants), None)
    x = graph.tensor(inputs["b" if fixed == "a" else "a"])
    # A constant of many values is a tensor as any other.
    if fixed is None or not operator.is_tabled(graph.constants[inputs[fixed]], x):
        add_limited(node, graph, operator, inputs, y.clamp)
        return
    table = operator.constant_table(fixed, graph.constants[inputs[fixed]], x)
    graph.add(node, Lookup(_narrowed(table, y.clamp)), {"x": x.name}, bounds=y.clamp)


#: Operators of two tensors, and their rounding if it does not depend on how tensors are stored; there is no quantised
#: form of Sub but ours, and our Add is the sum of floats that a runtime stores afterwards.
_BINARY: dict[tuple[str, str], tuple[type[Binary], str]] = {
    (MICROSOFT, "QLinearAdd"): (Add, ""), (MICROSOFT, "QLinearMul"): (Mul, ""), (OWN, "Sub"): (Sub, ""),
    (OWN, "Add"): (Add, "float")}


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
    limits = [int(info.min), int(info.max)]
    for index, role in ((1, "min"), (2, "max")):
        if node.input(index):
            given = graph.constant(node, index, role)
            if given.dtype != x.dtype or given.shape not in ((), (1,)):
                raise PearrayError(f"{role} must be one {x.dtype}, not {given.dtype} {given.tolist()}")
            limits[index - 1] = int(given.item())
    low, high = limits
    table = np.minimum(np.maximum(every_value(x.dtype), low), high).astype(x.dtype)
    graph.add(node, Lookup(table), {"x": x.name})


@handles("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT)
def _function(node: OnnxNode, graph: Builder) -> None:
    name = {"QLinearSigmoid": "sigmoid", "QLinearLeakyRelu": "leaky_relu"}[node.op_type]
    parameters = node.take(**golden_activation.FUNCTIONS[name].parameters)
    x, y = graph.tensor(node.inputs[0]), output_of(node, graph, "Y", 3)
    if y.zero_point.dtype != x.dtype:
        raise PearrayError(f"Y_zero_point must be {x.dtype}, as X is, not {y.zero_point.dtype}")
    source = stored_input(node, graph, "X", 0)
    table = golden_activation.table((name, *parameters.values()), float(source.scale), source.zero_point,
                                    float(y.scale), y.zero_point, x.dtype)
    graph.add(node, Lookup(_narrowed(table, y.clamp)), {"x": x.name})
