"""Operators of floats that compute each element by itself, as routines."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ...golden import float_functions
from ..graph.graph import Node
from ..operators.optimisers import SGD, Adam, Optimiser
from ..operators.rounded import Rounded
from ..routines.values import Lane, Number, Value
from .context import Context
from .float_tensors import FloatTensors
from .kernel import Kernel
from .routine import Elements, Phase, Routine

__all__ = [
    "activated",
    "adam",
    "added",
    "derived",
    "gated",
    "mean_spread",
    "multiplied",
    "rectified",
    "rounded",
    "sgd",
    "subtracted",
]

#: What a lane makes of elements of the inputs, by role: elements of the outputs, in their order.
Body = Callable[[Lane, Mapping[str, Any]], Sequence[Number]]


def _order(tensors: FloatTensors, role: str) -> np.ndarray:
    """Numbers of the elements of an output in the order in which they stand in memory."""
    return np.argsort(tensors.layout(role).positions().reshape(-1), kind="stable")


def _elements(context: Context, node: Node[Any], body: Body) -> list[Kernel]:
    """State an operator whose outputs have one shape, to which inputs broadcast, as a body for each element."""
    tensors = FloatTensors(context, node)
    roles, outputs = [*node.inputs], [*node.outputs]
    layout, shape = tensors.layout(outputs[0]), tensors.shape(outputs[0])
    sources = tensors.spread(roles, shape, _order(tensors, outputs[0]))

    def phase(lane: Lane) -> None:
        made = body(lane, {role: tensors.loaded(lane, role) for role in roles})
        for role, value in zip(outputs, made, strict=True):
            tensors.stored(lane, role, value)

    results = {role: tensors.result(role, layout=layout) for role in outputs}
    return [Routine.of(node.name, sources, results, [Phase(phase)], units=max(prod(shape), 1))]


def _value(lane: Lane, number: Any) -> Value:
    return number if isinstance(number, Value) else lane.number(number)


def _function(table: Mapping[str, Callable[..., Any]], activation: Any, lane: Lane, x: Any) -> Value:
    """Function of a table of :mod:`.golden.float_functions`, by an activation."""
    name, *parameters = activation if isinstance(activation, tuple) else (activation,)
    found: Value = table[name](lane, _value(lane, x), *parameters)
    return found


def activated(context: Context, node: Node[Any]) -> list[Kernel]:
    """State an activation by itself."""
    return _elements(context, node, lambda lane, given: [
        _function(float_functions.FUNCTIONS, node.operator.activation, lane, given["x"])])


def gated(context: Context, node: Node[Any]) -> list[Kernel]:
    """State GELU or SiLU."""
    return _elements(context, node, lambda lane, given: [
        _function(float_functions.FUNCTIONS, node.operator.function, lane, given["x"])])


def rectified(context: Context, node: Node[Any]) -> list[Kernel]:
    """State ReLU."""
    return _elements(context, node, lambda lane, given: [
        _function(float_functions.FUNCTIONS, "relu", lane, given["x"])])


def derived(context: Context, node: Node[Any]) -> list[Kernel]:
    """State the gradient of an activation, ``dy * f'(x)``."""
    return _elements(context, node, lambda lane, given: [
        given["dy"] * _function(float_functions.DERIVATIVES, node.operator.activation, lane, given["x"])])


def added(context: Context, node: Node[Any]) -> list[Kernel]:
    """State ``a + b``."""
    return _elements(context, node, lambda lane, given: [lane.add(given["a"], given["b"])])


def subtracted(context: Context, node: Node[Any]) -> list[Kernel]:
    """State ``a - b``."""
    return _elements(context, node, lambda lane, given: [lane.subtract(given["a"], given["b"])])


def multiplied(context: Context, node: Node[Any]) -> list[Kernel]:
    """State ``a * b``."""
    return _elements(context, node, lambda lane, given: [lane.multiply(given["a"], given["b"])])


def rounded(context: Context, node: Node[Rounded]) -> list[Kernel]:
    """State Rounded: random bits follow from a key, the tensor's number, and an element's number in C order."""
    tensors, operator = FloatTensors(context, node), node.operator
    order = _order(tensors, "y")
    sources = dict(tensors.spread([*node.inputs], tensors.shape("y"), order))
    is_ordered = bool((order == np.arange(order.size)).all())
    is_random = "key" in node.inputs
    if is_random and not is_ordered:
        sources["number"] = Elements(tensors.constants("number", order.astype(np.int32)), np.arange(order.size)[None])

    def phase(lane: Lane) -> None:
        x = _value(lane, tensors.loaded(lane, "x"))
        if not is_random:
            lane.store("y", lane.narrow(x))
            return
        key = lane.mix(lane.bit_xor(lane.mix(lane.load("key")), lane.literal(operator.number)))
        number = lane.index() if is_ordered else lane.load("number")
        random = lane.shift_right(lane.mix(lane.bit_xor(key, number)), lane.literal(16))
        lane.store("y", lane.narrow_random(x, random))

    results = {"y": tensors.result("y")}
    return [Routine.of(node.name, sources, results, [Phase(phase)], units=max(order.size, 1))]


def _gradient(lane: Lane, operator: Optimiser, given: Mapping[str, Any]) -> Any:
    """Gradient of a weight, with what is taken of the weight."""
    gradient = given["dw"]
    if "unscaled" in given:
        gradient = gradient * given["unscaled"]
    return gradient + lane.multiply(operator.weight_decay, given["w"]) if operator.weight_decay else gradient


def sgd(context: Context, node: Node[SGD]) -> list[Kernel]:
    """State a step of gradient descent."""
    operator = node.operator

    def body(lane: Lane, given: Mapping[str, Any]) -> Sequence[Number]:
        step = _gradient(lane, operator, given)
        if operator.momentum and "v" in given:
            step = lane.multiply(operator.momentum, given["v"]) + step
        return given["w"] - lane.multiply(given.get("rate", operator.lr), step), step

    return _elements(context, node, body)


def adam(context: Context, node: Node[Adam]) -> list[Kernel]:
    """State a step of Adam by the factors of the step."""
    operator = node.operator

    def body(lane: Lane, given: Mapping[str, Any]) -> Sequence[Number]:
        gradient = _gradient(lane, operator, given)
        mean = lane.multiply(operator.beta1, given["m"]) + lane.multiply(1 - operator.beta1, gradient)
        square = lane.multiply(operator.beta2, given["v"]) + lane.multiply(1 - operator.beta2, gradient * gradient)
        divisor = lane.root(square) * given["root"] + operator.epsilon
        return given["w"] - given["size"] * (mean / divisor), mean, square

    return _elements(context, node, body)


def mean_spread(context: Context, node: Node[Any]) -> list[Kernel]:
    """State ReduceGrad: dy at each element, divided by their number for a mean."""
    tensors, operator = FloatTensors(context, node), node.operator
    shape = tensors.shape("x")
    own = tuple(1 if axis in operator.axes else size for axis, size in enumerate(shape))
    order = _order(tensors, "dx")
    count = prod(shape[axis] for axis in operator.axes) if operator.is_mean else 1
    places = np.broadcast_to(tensors.places("dy").reshape(own), shape).reshape(-1)[order]

    def phase(lane: Lane) -> None:
        dy = lane.load("dy")
        lane.store("dx", dy / float(count) if count > 1 else dy)

    sources = {"dy": tensors.source("dy", places[None])}
    return [Routine.of(node.name, sources, {"dx": tensors.result("dx")}, [Phase(phase)], units=max(order.size, 1))]
