"""Operators that contract rows: matrix products."""

from math import prod

import numpy as np

from ....golden import litert
from ....hdl.errors import PearrayError
from ...operators import Gemm, Linear, Requant
from .builder import WORDS, Builder, handles
from .file import FileOperator
from .moves import matrices, stacked
from .windows import kept_weights, requantisation, with_bias

__all__: list[str] = []


@handles("FULLY_CONNECTED")
def _fully_connected(operator: FileOperator, graph: Builder) -> None:
    number, weights = graph.of(operator, 0, "x"), graph.of(operator, 1, "w")
    x, shape, size = graph.stored(number, "x", *WORDS), graph.shape(number), graph.shape(weights)
    if graph.option(operator, "WeightsFormat"):
        raise PearrayError("weights_format must be DEFAULT, not SHUFFLED4x16INT8")
    if len(size) != 2 or not prod(size) or prod(shape) % size[1]:
        raise PearrayError(f"w must have shape (M, a divisor of the {prod(shape)} elements of x), not {size}")
    rows = graph.rows(number, (prod(shape) // size[1], size[1]))
    requant = requantisation(operator, graph, x, weights, size[0], 0, "single")
    target = (*shape[:-1], size[0]) if graph.option(operator, "KeepNumDims") else (prod(shape) // size[1], size[0])
    if weights in graph.values:
        inputs = {"x": rows, "w": kept_weights(graph, weights, x, "rows", graph.values[weights])}
        graph.make(operator, Linear(requant=requant), with_bias(operator, graph, inputs, "b", x), target)
        return
    if x.dtype.itemsize > 1:
        raise PearrayError(f"w must be a constant with x of {x.dtype}, not computed")
    inputs = {"a": rows, "b": graph.rows(weights)}
    graph.make(operator, Gemm(trans_b=True, requant=requant), with_bias(operator, graph, inputs, "c", x), target)


@handles("BATCH_MATMUL")
def _batch_matmul(operator: FileOperator, graph: Builder) -> None:
    numbers = [graph.of(operator, place, role) for place, role in enumerate("xy")]
    x, y = (graph.stored(number, role, "INT8", "INT16") for number, role in zip(numbers, "xy", strict=True))
    left, right = map(graph.shape, numbers)
    if min(len(left), len(right)) < 2:
        raise PearrayError(f"x and y must have 2 or more dimensions, not shapes {left} and {right}")
    adj_x, adj_y = graph.option(operator, "AdjX"), graph.option(operator, "AdjY")
    batches = np.broadcast_shapes(left[:-2], right[:-2])
    result = graph.stored(operator.outputs[0], "the result", "INT8", "INT16")
    info = np.iinfo(result.dtype)
    requant = Requant.tflite(*litert.factor(x.scale, y.scale, result.scale), int(x.zero_point), int(y.zero_point),
                             result.zero_point, clamp=(int(info.min), int(info.max)))
    made = Gemm(trans_a=adj_x, trans_b=adj_y, requant=requant)
    target = (*batches, left[-1 if adj_x else -2], right[-2 if adj_y else -1])
    if prod(right[:-2]) == 1 and not adj_x:
        # Rows of all matrices meet the same columns.
        graph.make(operator, made, {"a": graph.rows(numbers[0], (prod(left[:-1]), left[-1])),
                                    "b": graph.rows(numbers[1], right[-2:])}, target)
        return
    sides = []
    for number, shape in zip(numbers, (left, right), strict=True):
        found = matrices(operator, graph, number)
        order = np.broadcast_to(np.arange(len(found)).reshape(shape[:-2]), batches).reshape(-1)
        sides.append([found[index] for index in order])
    stacked(operator, graph, [graph.append(operator, made, {"a": a, "b": b}, "product")
                              for a, b in zip(*sides, strict=True)], target)
