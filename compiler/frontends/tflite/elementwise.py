"""Operators of one or two tensors, element by element."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ....golden import litert
from ....golden.requantise import tflite_multiplier
from ....hdl.errors import PearrayError
from ...operators import Add, Logistic, Lookup, Max, Min, Mul, Softmax, Sub
from ...operators.binary import Binary
from ...operators.channelwise import every_value
from .builder import BYTES, WORDS, Builder, Stored, handles
from .file import FileOperator
from .windows import WHOLE, clamped, rescale, scaled

__all__: list[str] = []

_BINARY: dict[str, type[Binary]] = {"ADD": Add, "SUB": Sub, "MUL": Mul}


def _pair(graph: Builder, numbers: list[int]) -> tuple[list[str], tuple[int, ...]]:
    """Two tensors that are spread over each other, as images or as they are, and the shape of the result in the file.

    Only one of them may be known; it is a constant.
    """
    shapes = [graph.shape(number) for number in numbers]
    try:
        target = np.broadcast_shapes(*shapes)
    except ValueError:
        raise PearrayError(f"b must broadcast with a of shape {shapes[0]}, not have shape {shapes[1]}") from None
    if all(number in graph.values for number in numbers):
        raise PearrayError("a and b are both constants: convert the model so that they are folded")
    rank = len(target)
    if rank > 4 or (shapes[0] == shapes[1] and rank != 4):
        return [graph.rows(number) for number in numbers], target
    return [graph.image(number, (*(1,) * (4 - len(shape)), *shape))
            for number, shape in zip(numbers, shapes, strict=True)], target


def _combine(operator: FileOperator, graph: Builder, made: Binary, names: list[str], fixed: int | None,
             what: str = "result") -> str:
    """Append an operator of two tensors; a constant of one number, or one for each channel, makes it a table."""
    inputs = dict(zip("ab", names, strict=True))
    if fixed is not None:
        role = "ab"[fixed]
        value, other = graph.constants[names[fixed]], graph.tensor(names[1 - fixed])
        if made.is_tabled(value, other):
            table = made.constant_table(role, value, other)
            return graph.append(operator, Lookup(table), {"x": names[1 - fixed]}, what)
    return graph.append(operator, made, inputs, what)


def _finish(operator: FileOperator, graph: Builder, name: str, target: tuple[int, ...]) -> None:
    """Give what has been made of :func:`_pair` the name and shape of the operator's output."""
    (graph.finish_image if len(graph.tensor(name).shape) == 4 else graph.finish)(operator, name, target)


def _operands(operator: FileOperator, graph: Builder) -> tuple[list[int], list[Stored], int | None]:
    """Numbers of two operands, how they are stored, and which of them is a constant."""
    numbers = [graph.of(operator, place, role) for place, role in enumerate("ab")]
    stored = [graph.stored(number, role, *WORDS) for number, role in zip(numbers, "ab", strict=True)]
    return numbers, stored, next((place for place, number in enumerate(numbers) if number in graph.values), None)


def _shifted(operator: FileOperator, graph: Builder, names: list[str], operands: tuple[Stored, Stored],
             y: Stored) -> tuple[Stored, Stored]:
    """Operands as the rule for scales that are powers of two has them, if they are: in steps of the output.

    The operand of lesser steps is rounded to those, with halves away from zero, and takes the other's place in `names`.
    """
    exponents = [np.frexp(np.float32(each.scale)) for each in (*operands, y)]
    if any(mantissa != 0.5 for mantissa, _ in exponents):
        return operands
    below = [int(exponents[2][1] - exponent) for _, exponent in exponents[:2]]
    if min(below) < 0 or 0 not in below:
        raise PearrayError("of scales that are powers of two, one of a and b must be that of y, and the other at most "
                           f"that, not {operands[0].scale}, {operands[1].scale} and {y.scale}")
    for place, shift in enumerate(below):
        if shift:
            # Twice the number, so that only one of the two roundings leaves anything out.
            names[place] = scaled(operator, graph, names[place], operands[place], y, 2, (1 << 30, -shift))
    return y, y


@handles("ADD", "SUB", "MUL")
def _binary(operator: FileOperator, graph: Builder) -> None:
    numbers, (a, b), fixed = _operands(operator, graph)
    y = graph.stored(operator.outputs[0], "y", *WORDS)
    names, target = _pair(graph, numbers)
    if y.dtype.itemsize > 1 and operator.kind != "MUL" and graph.option(operator, "PotScaleInt16"):
        a, b = _shifted(operator, graph, names, (a, b), y)
    made = _BINARY[operator.kind](a.scale, a.zero_point, b.scale, b.zero_point, y.scale, y.zero_point, "tflite")
    result = _combine(operator, graph, made, names, fixed)
    _finish(operator, graph, clamped(operator, graph, result, y), target)


@handles("MAXIMUM", "MINIMUM")
def _extreme(operator: FileOperator, graph: Builder) -> None:
    """Greater or lesser of stored numbers, as LiteRT compares them whatever their scales."""
    numbers, (a, b), fixed = _operands(operator, graph)
    y = graph.stored(operator.outputs[0], "y", *WORDS)
    if len({a.dtype, b.dtype, y.dtype}) > 1:
        raise PearrayError(f"a, b and y must be of one type, not {a.dtype}, {b.dtype} and {y.dtype}")
    names, target = _pair(graph, numbers)
    is_greatest = operator.kind == "MAXIMUM"
    if fixed is not None:
        value = graph.constants[names[fixed]]
        other = graph.tensor(names[1 - fixed])
        if Binary.is_tabled(value, other):
            extreme = np.maximum if is_greatest else np.minimum
            table = extreme(every_value(a.dtype), value.reshape(-1, 1)).astype(a.dtype)
            limit = Lookup(table[0] if len(table) == 1 else table)
            _finish(operator, graph, graph.append(operator, limit, {"x": names[1 - fixed]}), target)
            return
    if y.dtype.itemsize > 1 and not is_greatest:
        # The least of words is what is below zero as far as the greatest of those turned round is above.
        turned = [_turned(operator, graph, name, y) for name in names]
        greatest = graph.append(operator, Max(), {"x0": turned[0], "x1": turned[1]}, "greatest")
        _finish(operator, graph, _turned(operator, graph, greatest, y), target)
        return
    made = Max() if is_greatest else Min()
    _finish(operator, graph, graph.append(operator, made, {"x0": names[0], "x1": names[1]}), target)


def _turned(operator: FileOperator, graph: Builder, name: str, y: Stored) -> str:
    """Append words ``-1 - x``, which are all words in the opposite order."""
    return scaled(operator, graph, name, Stored(y.scale, np.int16(0)), Stored(y.scale, np.int16(-1)), -1, WHOLE)


def _table(operator: FileOperator, graph: Builder, function: Callable[..., np.ndarray], *parameters: Any,
           **settings: Any) -> None:
    """Append a function of stored numbers as a table over all of them."""
    number = graph.of(operator, 0, "x")
    x, y = (graph.stored(each, role, *BYTES) for each, role in ((number, "x"), (operator.outputs[0], "y")))
    settings.setdefault("dtype", y.dtype)
    table = function(every_value(x.dtype), x.scale, int(x.zero_point), y.scale, int(y.zero_point), *parameters,
                     **settings)
    graph.make_natural(operator, Lookup(table), {"x": graph.natural(number)})


@handles("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1")
def _relu(operator: FileOperator, graph: Builder) -> None:
    low, high = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "RELU_0_TO_1": (0.0, 1.0)}[
        operator.kind]
    number = graph.of(operator, 0, "x")
    if graph.entry(number).kind != "INT16":
        _table(operator, graph, litert.relu, low, high)
        return
    x, y = graph.stored(number, "x", *WORDS), graph.stored(operator.outputs[0], "y", "INT16")
    rescale(operator, graph, x, y, float(np.float32(x.scale) / np.float32(y.scale)),
            litert.bounds(low, high, y.scale, int(y.zero_point), y.dtype))


@handles("LEAKY_RELU")
def _leaky_relu(operator: FileOperator, graph: Builder) -> None:
    alpha = graph.option(operator, "Alpha")
    if graph.entry(graph.of(operator, 0, "x")).kind != "INT16":
        _table(operator, graph, litert.leaky_relu, alpha)
        return
    if not 0 <= alpha < np.inf:
        raise PearrayError(f"alpha must be at least 0, not {alpha}")
    x, y = (np.float32(graph.stored(number, role, "INT16").scale) for number, role in
            ((operator.inputs[0], "x"), (operator.outputs[0], "y")))
    _halves(operator, graph, (1, float(x / y), True), (1, float(np.float32(x * np.float32(alpha)) / y), False))


def _halves(operator: FileOperator, graph: Builder, *halves: tuple[int, float, bool]) -> None:
    """Append a function of words that is one factor above zero and another below.

    Each half is a weight, a factor, and whether its results are those above zero; those of the other sign are none.
    """
    number = operator.inputs[0]
    x, y = (graph.stored(each, role, "INT16") for each, role in ((number, "x"), (operator.outputs[0], "y")))
    info, name = np.iinfo(np.int16), graph.natural(number)
    parts = [scaled(operator, graph, name, x, y, weight, tflite_multiplier(ratio) if ratio else (0, 0),
                    (0, int(info.max)) if is_above else (int(info.min), 0)) for weight, ratio, is_above in halves]
    made = Add(y.scale, y.zero_point, y.scale, y.zero_point, y.scale, y.zero_point, "tflite")
    graph.make_natural(operator, made, dict(zip("ab", parts, strict=True)))


@handles("HARD_SWISH")
def _hard_swish(operator: FileOperator, graph: Builder) -> None:
    _table(operator, graph, litert.hard_swish)


@handles("ABS")
def _absolute(operator: FileOperator, graph: Builder) -> None:
    x = graph.stored(graph.of(operator, 0, "x"), "x", "INT8", "INT16")
    if x.dtype == np.int8:
        _table(operator, graph, litert.absolute)
        return
    ratio = float(np.float32(x.scale) / np.float32(graph.stored(operator.outputs[0], "y", "INT16").scale))
    _halves(operator, graph, (1, ratio, True), (-1, ratio, True))


@handles("GELU")
def _gelu(operator: FileOperator, graph: Builder) -> None:
    _table(operator, graph, litert.gelu, graph.option(operator, "Approximate"))


@handles("PRELU")
def _prelu(operator: FileOperator, graph: Builder) -> None:
    number, alpha = graph.of(operator, 0, "x"), graph.known(operator, 1, "alpha")
    slope, x = graph.stored(operator.inputs[1], "alpha", *BYTES), graph.stored(number, "x", *BYTES)
    y, shape = graph.stored(operator.outputs[0], "y", *BYTES), graph.shape(number)
    if alpha.size != 1 and (alpha.size != shape[-1] or alpha.shape[-1] != alpha.size):
        raise PearrayError(f"alpha must be one number, or one for each of the {shape[-1]} channels of x, not of shape "
                           f"{alpha.shape}")
    table = litert.prelu(every_value(x.dtype), x.scale, int(x.zero_point), y.scale, int(y.zero_point),
                         alpha.reshape(-1, 1), slope.scale, int(slope.zero_point))
    made = Lookup(table[0] if len(table) == 1 else table)
    if len(shape) in (2, 4):
        graph.make_natural(operator, made, {"x": graph.natural(number)})
    else:
        graph.make(operator, made, {"x": graph.rows(number, (-1, shape[-1]))}, shape)


def _check_result(graph: Builder, operator: FileOperator, scale: float, zero_point: int) -> None:
    y = graph.stored(operator.outputs[0], "y", *BYTES)
    if (y.scale, int(y.zero_point)) != (scale, zero_point):
        raise PearrayError(f"y must have scale 1 / {round(1 / scale)} and zero point {zero_point}, not {y.scale} and "
                           f"{y.zero_point}")


@handles("TANH", "LOGISTIC")
def _squashed(operator: FileOperator, graph: Builder) -> None:
    number = graph.of(operator, 0, "x")
    x = graph.stored(number, "x", *BYTES)
    least, is_tangent = int(np.iinfo(x.dtype).min), operator.kind == "TANH"
    _check_result(graph, operator, 1 / 128 if is_tangent else 1 / 256, least + 128 if is_tangent else least)
    function = litert.tanh if is_tangent else litert.logistic
    table = function(every_value(x.dtype), x.scale, int(x.zero_point))
    made = Logistic(x.scale, x.zero_point) if not is_tangent and x.dtype == np.int8 else Lookup(table)
    graph.make_natural(operator, made, {"x": graph.natural(number)})


@handles("SOFTMAX")
def _softmax(operator: FileOperator, graph: Builder) -> None:
    number = graph.of(operator, 0, "x")
    x, shape = graph.stored(number, "x", *BYTES), graph.shape(number)
    _check_result(graph, operator, 1 / 256, int(np.iinfo(x.dtype).min))
    made = Softmax(1 if len(shape) == 4 else -1, x.scale, x.zero_point, 1 / 256,
                   x.dtype.type(np.iinfo(x.dtype).min), "tflite", graph.option(operator, "Beta"))
    graph.make_natural(operator, made, {"x": graph.natural(number)})
