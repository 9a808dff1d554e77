"""Operators that change shape or type only, those at a network's ends, and those of shapes that are known."""

import numpy as np

from ....golden import litert
from ....hdl.errors import PearrayError
from ...operators import Dequantize, Lookup, Quantize, Reshape, Transpose
from ...operators.channelwise import every_value
from .builder import WORDS, Builder, handles, image_axis, natural_order
from .file import FileOperator
from .windows import rescale

__all__: list[str] = []


def _reshape(operator: FileOperator, graph: Builder, target: list[int]) -> None:
    """Give a tensor another shape, or compute that of one that is known."""
    number = graph.of(operator, 0, "x")
    if number in graph.values:
        graph.values[operator.outputs[0]] = graph.values[number].reshape(target)
        return
    graph.check_same(number, operator.outputs[0])
    graph.make(operator, Reshape(tuple(target)), {"x": graph.rows(number)})


@handles("RESHAPE")
def _reshape_to(operator: FileOperator, graph: Builder) -> None:
    """Give a tensor the shape that the file says, with the batch that is wanted where the file's stands in it."""
    if len(operator.inputs) > 1 and operator.inputs[1] >= 0:
        target = graph.integers(operator, 1, "shape")
    else:
        target = list(graph.option(operator, "NewShapeAsNumpy") or [])
    shape = graph.shape(graph.of(operator, 0, "x"))
    if graph.batches and shape and target and shape[0] == graph.batches[1]:
        target[0] = graph.target(tuple(target))[0]
    _reshape(operator, graph, target)


@handles("SQUEEZE")
def _squeeze(operator: FileOperator, graph: Builder) -> None:
    shape = graph.shape(graph.of(operator, 0, "x"))
    rank, given = len(shape), list(graph.option(operator, "SqueezeDimsAsNumpy") or [])
    axes = {axis % rank for axis in given if -rank <= axis < rank}
    if len(axes) != len(given) or any(shape[axis] != 1 for axis in axes):
        raise PearrayError(f"squeeze_dims must be axes of one element of shape {shape}, not {given}")
    _reshape(operator, graph, [size for axis, size in enumerate(shape)
                               if not (axis in axes if given else size == 1)])


@handles("EXPAND_DIMS")
def _expand_dims(operator: FileOperator, graph: Builder) -> None:
    target, given = list(graph.shape(graph.of(operator, 0, "x"))), graph.integers(operator, 1, "axis")
    rank = len(target) + 1
    if len(given) != 1 or not -rank <= given[0] < rank:
        raise PearrayError(f"axis must be one integer in {-rank}..{rank - 1}, not {given}")
    target.insert(given[0] % rank, 1)
    _reshape(operator, graph, target)


@handles("TRANSPOSE")
def _transpose(operator: FileOperator, graph: Builder) -> None:
    number, order = graph.of(operator, 0, "x"), graph.integers(operator, 1, "perm")
    shape = graph.shape(number)
    if sorted(axis % len(shape) for axis in order) != [*range(len(shape))]:
        raise PearrayError(f"perm must hold each of the {len(shape)} axes once, not {order}")
    order = [axis % len(shape) for axis in order]
    graph.check_same(number, operator.outputs[0])
    kept = [axis for axis in order if shape[axis] > 1]
    if kept == sorted(kept):
        # Only axes of one element change places.
        graph.make(operator, Reshape(tuple(shape[axis] for axis in order)), {"x": graph.rows(number)})
        return
    if len(shape) == 4:
        order = [image_axis(axis) for axis in natural_order(shape, order)]
    graph.make_natural(operator, Transpose(tuple(order)), {"x": graph.natural(number)})


@handles("QUANTIZE")
def _quantise(operator: FileOperator, graph: Builder) -> None:
    number = graph.of(operator, 0, "x")
    source = graph.entry(number)
    y = graph.stored(operator.outputs[0], "y", *WORDS)
    if source.kind == "FLOAT32":
        if number not in graph.file.inputs:
            raise PearrayError(f"its operand {source.name!r} is computed in float32, and must be an input of the model")
        graph.make(operator, Quantize(y.scale, y.zero_point, rounding="tflite"), {"x": graph.rows(number)})
        return
    x = graph.stored(number, "x", *WORDS)
    if max(x.dtype.itemsize, y.dtype.itemsize) > 1:
        info = np.iinfo(y.dtype)
        rescale(operator, graph, x, y, float(np.float32(x.scale)) / float(np.float32(y.scale)),
                (int(info.min), int(info.max)))
        return
    table = litert.requantise(every_value(x.dtype), x.scale, int(x.zero_point), y.scale, int(y.zero_point),
                              dtype=y.dtype)
    graph.make_natural(operator, Lookup(table), {"x": graph.natural(number)})


@handles("DEQUANTIZE")
def _dequantise(operator: FileOperator, graph: Builder) -> None:
    number, made = graph.of(operator, 0, "x"), operator.outputs[0]
    x = graph.stored(number, "x", *WORDS)
    if made not in graph.file.outputs or any(made in other.inputs for other in graph.file.operators):
        raise PearrayError(f"its result {graph.file.tensors[made].name!r} must be an output of the model, and nothing "
                           "else, as the accelerator computes with integers")
    graph.make(operator, Dequantize(x.scale, x.zero_point), {"x": graph.rows(number)})


@handles("SHAPE")
def _shape(operator: FileOperator, graph: Builder) -> None:
    dtype = graph.entry(operator.outputs[0]).dtype
    graph.values[operator.outputs[0]] = np.array(graph.shape(graph.of(operator, 0, "x")), dtype)
