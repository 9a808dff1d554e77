"""ONNX operators that make one element of several: along axes of a tensor, or of several tensors."""

from typing import Any

import numpy as np

from ....golden.activation import apply_table
from ....golden.quantise import dequantize_linear, quantize_linear
from ....hdl.errors import PearrayError
from ...operators import Lookup, Max, Min, ReduceMax, ReduceMean, ReduceMin, ReduceSum, Reshape, Where
from ...operators.channelwise import every_value
from ...operators.extremes import Extreme
from .builder import MICROSOFT, OWN, Builder, OnnxNode, Quantisation, handles
from .channelwise import add_limited, output_of, stored_input
from .moves import whole_numbers

__all__: list[str] = []

_EXTREMES: dict[str, type[Extreme]] = {"Max": Max, "Min": Min}

_ENDS: dict[str, type[ReduceMax] | type[ReduceMin]] = {"ReduceMax": ReduceMax, "ReduceMin": ReduceMin}

_TOTALS: dict[str, type[ReduceMean] | type[ReduceSum]] = {"ReduceMean": ReduceMean, "ReduceSum": ReduceSum}


def _axes(node: OnnxNode, graph: Builder, taken: dict[str, Any], place: int,
          shape: tuple[int, ...]) -> list[int] | None:
    """Axes of a reduction, None for all of them; `place` is that of the input that names them."""
    if 0 in shape:
        raise PearrayError(f"data must have at least one element, not shape {shape}: nothing follows from none")
    given = whole_numbers(node, graph, place, "axes") if node.input(place) else taken["axes"]
    if not given:
        return [] if taken["noop_with_empty_axes"] else None
    # One may come twice, from either end.
    return sorted({axis % len(shape) if -len(shape) <= axis < len(shape) else axis for axis in given})


@handles("ReduceMax", "ReduceMin")
def _reduce_extreme(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(axes=None, keepdims=1, noop_with_empty_axes=0)
    x = graph.tensor(node.inputs[0])
    axes = _axes(node, graph, taken, 1, x.shape)
    if axes == []:
        graph.add(node, Reshape(x.shape), {"x": x.name})
        return
    graph.add(node, _ENDS[node.op_type](axes, bool(taken["keepdims"])), {"x": x.name},
              bounds=graph.ranges.get(x.name))


@handles("ReduceMean", "ReduceSum", domain=OWN)
def _reduce_sum(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(axes=None, keepdims=1, noop_with_empty_axes=0, activation=None, is_float=False)
    # Axes that are an input stand behind scale and zero point of the result.
    axes = _axes(node, graph, taken, 5, graph.tensor(node.inputs[0]).shape)
    x, y = stored_input(node, graph, "x", 0), output_of(node, graph, "y", 3, taken["activation"])
    operator = _TOTALS[node.op_type](
        axes, bool(taken["keepdims"]), x_scale=float(x.scale), x_zero_point=x.zero_point, y_scale=float(y.scale),
        y_zero_point=y.zero_point)
    tensor = graph.tensor(node.inputs[0])
    ((shape, dtype),) = operator.infer({"x": tensor}).values()
    if operator.count(tensor) == 1:
        found = graph.inner(node.outputs[0], "restored")
        table = quantize_linear(dequantize_linear(every_value(tensor.dtype), x.scale, x.zero_point), y.scale,
                                y.zero_point, dtype=dtype)
        graph.add(node, Lookup(table if y.clamp is None else np.clip(table, *y.clamp)), {"x": tensor.name}, found)
        graph.add(node, Reshape(shape), {"x": found}, bounds=y.clamp)
        return
    if not operator.is_certain(tensor):
        raise PearrayError(
            f"scales must be such that float32 additions can't give another output, not {operator.x_scale} and "
            f"{operator.y_scale}: some of the sums of {operator.count(tensor)} elements lie so near half-way between "
            "two outputs that the order in which onnxruntime adds, which depends on shape and processor, decides; "
            "powers of two do, or for means of images GlobalAveragePool")
    add_limited(node, graph, operator, {"x": node.inputs[0]}, y.clamp)


@handles("Max", "Min")
def _extreme(node: OnnxNode, graph: Builder) -> None:
    """The greatest or the least of tensors that are stored alike; of one and a number a table."""
    node.take()
    tensors = [graph.tensor(name) for name in node.inputs]
    kind = _EXTREMES[node.op_type]
    operator, roles = kind(), {f"x{index}": tensor.name for index, tensor in enumerate(tensors)}
    operator.infer({f"x{index}": tensor for index, tensor in enumerate(tensors)})
    if len(tensors) == 2:
        for name, other in (node.inputs, node.inputs[::-1]):
            value, dtype = graph.constants.get(other), graph.tensor(name).dtype
            if value is not None and value.size == 1 and value.ndim <= len(graph.tensor(name).shape) and (
                    dtype in (np.int8, np.uint8)):
                graph.add(node, Lookup(kind.choice(every_value(dtype), value.reshape(()))), {"x": name})
                return
    graph.add(node, operator, roles)


def _mask(node: OnnxNode, graph: Builder) -> np.ndarray:
    """The condition of Where."""
    value = graph.constants.get(node.inputs[0])
    if value is None:
        raise PearrayError(f"condition must be a constant, not {node.inputs[0]!r}: what follows from values within a "
                           "run is no mask of a program, unless it is a function of the one tensor that it chooses of")
    if value.dtype != np.bool_:
        raise PearrayError(f"condition must be of type bool, not {value.dtype}")
    return value


@handles("Where")
def _where(node: OnnxNode, graph: Builder) -> None:
    node.take()
    graph.add(node, Where(_mask(node, graph)), {"a": node.inputs[1], "b": node.inputs[2]})


@handles("QLinearWhere", domain=MICROSOFT)
def _scaled_where(node: OnnxNode, graph: Builder) -> None:
    """Bring both tensors to the scale of the result by tables, as the runtime does, and choose."""
    node.take()
    condition = _mask(node, graph)
    given = [stored_input(node, graph, what, place) for what, place in (("X", 1), ("Y", 4))]
    dtype = graph.tensor(node.inputs[1]).dtype
    z = graph.quantisation(node, 7, "z", dtype, dtype)
    chosen = [_restored(node, graph, node.inputs[place], found, z)
              for place, found in zip((1, 4), given, strict=True)]
    graph.add(node, Where(condition), {"a": chosen[0], "b": chosen[1]}, bounds=z.clamp)


def _restored(node: OnnxNode, graph: Builder, name: str, x: Quantisation, z: Quantisation) -> str:
    """Name of a tensor stored with another scale and zero point."""
    if x.scale == z.scale and x.zero_point == z.zero_point:
        return name
    dtype = graph.tensor(name).dtype
    real = dequantize_linear(every_value(dtype), x.scale, x.zero_point)
    table = quantize_linear(real, z.scale, z.zero_point, dtype=dtype)
    if name in graph.constants:
        return graph.store(f"{name}:{node.outputs[0]}", apply_table(graph.constants[name], table))
    made = graph.inner(name, "restored")
    graph.add(node, Lookup(table), {"x": name}, made)
    return made
