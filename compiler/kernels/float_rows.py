"""Operators of floats over rows: sums, softmax and losses, and norms, as routines.

A unit is a row, whose elements are its steps, so that sums take them in order, in one lane. Sums begin with the zero
that has a sign, to which any number adds as it is.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...golden import float_functions
from ..graph.graph import Node
from ..operators.softmax import Softmax
from ..routines.values import Lane, Value
from .context import Context
from .float_tensors import FloatTensors
from .kernel import Kernel
from .routine import Elements, Phase, Routine

__all__ = [
    "cross_entropy", "cross_entropy_grad", "norm", "norm_grad", "reduced", "softmax", "softmax_grad", "summed_to",
]

#: What any number adds to as it is.
_NOTHING = -0.0


def _begin(**states: float) -> Phase:
    """Phase in which states become numbers."""
    def body(lane: Lane) -> None:
        for name, value in states.items():
            lane.become(name, value)

    return Phase(body, repeats=False)


def _each(body: Callable[[Lane], None]) -> Phase:
    return Phase(body)


def _once(body: Callable[[Lane], None]) -> Phase:
    return Phase(body, repeats=False)


def _add_to(lane: Lane, state: str, value: Value) -> None:
    lane.become(state, lane.state(state) + value)


def _take_greatest(lane: Lane) -> None:
    """Let the greatest element become that of the row; what is no number is greater than all."""
    x, greatest = lane.load("x"), lane.state("greatest")
    is_greater = lane.bit_or(lane.less(greatest, x), lane.bit_xor(lane.equal(x, x), lane.literal(1)))
    lane.become("greatest", lane.select(is_greater, x, greatest))


def _exponential(lane: Lane) -> Value:
    """Exponential of an element less the greatest one."""
    found: Value = float_functions.exp(lane, lane.load("x") - lane.state("greatest"))
    return found


def _total(node: str, name: str, source: Elements, result: Elements, count: int = 1) -> Routine:
    """Sum over the steps of units, in order, divided by a count."""
    def end(lane: Lane) -> None:
        total = lane.state("total")
        lane.store("y", total / float(count) if count > 1 else total)

    steps, units = source.places.shape
    return Routine.of(node, {name: source}, {"y": result},
                      [_begin(total=_NOTHING), _each(lambda lane: _add_to(lane, "total", lane.load(name))), _once(end)],
                      ("total",), steps=steps, units=units)


def summed_to(context: Context, node: Node[Any]) -> list[Kernel]:
    """State SumTo: a sum along the axes that were broadcast."""
    tensors = FloatTensors(context, node)
    whole, shape = tensors.shape("x"), node.operator.shape
    own = (1,) * (len(whole) - len(shape)) + shape
    axes = [axis for axis, size in enumerate(own) if size != whole[axis]]
    return _sums(tensors, axes, 1)


def reduced(context: Context, node: Node[Any]) -> list[Kernel]:
    """State a sum or a mean along axes."""
    tensors = FloatTensors(context, node)
    rank = len(tensors.shape("x"))
    axes = [*node.operator.over(rank)]
    return _sums(tensors, axes, node.operator.count(context.graph.tensors[node.inputs["x"]])
                 if node.operator.is_mean else 1)


def _sums(tensors: FloatTensors, axes: list[int], count: int) -> list[Kernel]:
    """Sums along axes of x; what is made has the other axes, in order."""
    places, _ = tensors.along(axes, "x")
    layout = tensors.layout("y")
    result = tensors.result("y", layout.positions().reshape(1, -1), layout)
    return [_total(tensors.node.name, "x", tensors.source("x", places), result, count)]


def softmax(context: Context, node: Node[Softmax]) -> list[Kernel]:
    """State a softmax: the greatest element, the sum of the exponentials, and their quotients."""
    tensors = FloatTensors(context, node)
    places, _ = tensors.along([node.operator.axis % len(tensors.shape("x"))], "x")
    layout = tensors.layout("y")
    made = np.moveaxis(layout.positions(), node.operator.axis, 0).reshape(places.shape)
    phases = [
        _begin(greatest=-math.inf, total=_NOTHING), _each(_take_greatest),
        _each(lambda lane: _add_to(lane, "total", _exponential(lane))),
        _each(lambda lane: lane.store("y", _exponential(lane) / lane.state("total")))]
    return [Routine.of(node.name, {"x": tensors.source("x", places)}, {"y": tensors.result("y", made, layout)}, phases,
                       ("greatest", "total"), steps=places.shape[0], units=places.shape[1])]


def softmax_grad(context: Context, node: Node[Any]) -> list[Kernel]:
    """State the gradient of a softmax, ``y * (dy - sum(dy * y))``."""
    tensors = FloatTensors(context, node)
    axis = node.operator.axis % len(tensors.shape("y"))
    sources = {role: tensors.source(role, tensors.along([axis], role)[0]) for role in ("y", "dy")}
    layout = tensors.layout("dx")
    steps, units = sources["y"].places.shape
    made = np.moveaxis(layout.positions(), axis, 0).reshape(steps, units)
    phases = [
        _begin(total=_NOTHING), _each(lambda lane: _add_to(lane, "total", lane.load("dy") * lane.load("y"))),
        _each(lambda lane: lane.store("dx", lane.load("y") * (lane.load("dy") - lane.state("total"))))]
    return [Routine.of(node.name, sources, {"dx": tensors.result("dx", made, layout)}, phases, ("total",), steps=steps,
                       units=units)]


def _scores(tensors: FloatTensors) -> dict[str, Elements]:
    """Scores with classes as steps and rows as units, and the label of each row."""
    return {"x": tensors.source("x", tensors.places("x").T),
            "labels": tensors.source("labels", tensors.places("labels").reshape(1, -1))}


def _is_other(lane: Lane) -> Value:
    """Whether the step is not that of the label; the next step then."""
    number = lane.state("number")
    lane.become("number", lane.integer_add(number, lane.literal(1)))
    return lane.bit_xor(number, lane.load("labels"))


def cross_entropy(context: Context, node: Node[Any]) -> list[Kernel]:
    """State the mean of the cross-entropy of softmax: a loss for each row, and their mean."""
    tensors = FloatTensors(context, node)
    rows, classes = tensors.shape("x")

    def pick(lane: Lane) -> None:
        _add_to(lane, "total", _exponential(lane))
        shifted = lane.load("x") - lane.state("greatest")
        lane.become("picked", lane.select(_is_other(lane), lane.state("picked"), shifted))

    def end(lane: Lane) -> None:
        lane.store("losses", float_functions.log(lane, lane.state("total")) - lane.state("picked"))

    losses = tensors.temporary("losses", rows)
    each = Routine.of(
        node.name, _scores(tensors), {"losses": Elements(losses, np.arange(rows)[None])},
        [_begin(greatest=-math.inf, total=_NOTHING, picked=0.0, number=0.0), _each(_take_greatest), _each(pick),
         _once(end)], ("greatest", "total", "picked", "number"), steps=classes, units=rows)
    mean = _total(node.name, "losses", Elements(losses, np.arange(rows)[:, None]), tensors.result("y"), rows)
    return [each, mean]


def cross_entropy_grad(context: Context, node: Node[Any]) -> list[Kernel]:
    """State the gradient of the cross-entropy, ``(softmax(x) - one at the label) * (dy / N)``."""
    tensors = FloatTensors(context, node)
    rows, classes = tensors.shape("x")
    sources = _scores(tensors) | {"dy": tensors.source("dy", tensors.places("dy").reshape(1, 1))}

    def make(lane: Lane) -> None:
        share = _exponential(lane) / lane.state("total")
        difference = lane.select(_is_other(lane), share, share - 1.0)
        lane.store("dx", difference * lane.state("factor"))

    def begin(lane: Lane) -> None:
        for name, value in (("greatest", -math.inf), ("total", _NOTHING), ("number", 0.0)):
            lane.become(name, value)
        lane.become("factor", lane.load("dy") / float(rows))

    layout = tensors.layout("dx")
    result = tensors.result("dx", layout.positions().T, layout)
    return [Routine.of(
        node.name, sources, {"dx": result},
        [_once(begin), _each(_take_greatest), _each(lambda lane: _add_to(lane, "total", _exponential(lane))),
         _each(make)], ("greatest", "total", "number", "factor"), steps=classes, units=rows)]


class _Norm:
    """Rows of a norm: elements as steps."""

    def __init__(self, tensors: FloatTensors, epsilon: float, centred: bool):
        self.tensors, self._epsilon, self._centred = tensors, epsilon, centred
        self.places, _ = tensors.along([len(tensors.shape("x")) - 1], "x")
        self.width = len(self.places)

    def sources(self) -> dict[str, Elements]:
        """x, and gains, alike for all rows."""
        gains = {role: self.tensors.source(role, self.tensors.places(role)[:, None]) for role in ("gamma", "beta")
                 if role in self.tensors.node.inputs}
        return {"x": self.tensors.source("x", self.places)} | gains

    def result(self, role: str) -> Elements:
        """An output of the shape of x."""
        layout = self.tensors.layout(role)
        return self.tensors.result(role, np.moveaxis(layout.positions(), -1, 0).reshape(self.places.shape), layout)

    def statistics(self) -> list[Phase]:
        """Phases behind which the states mean and root are those of the row."""
        def root(lane: Lane) -> None:
            mean = lane.state("root") / float(self.width)
            lane.become("root", 1.0 / lane.root(mean + self._epsilon))

        def square(lane: Lane) -> None:
            value = self.value(lane)
            _add_to(lane, "root", value * value)

        centre = [_each(lambda lane: _add_to(lane, "mean", lane.load("x"))),
                  _once(lambda lane: lane.become("mean", lane.state("mean") / float(self.width)))]
        return [_begin(root=_NOTHING, **{name: _NOTHING for name in self.states if name != "root"}),
                *(centre if self._centred else ()), _each(square), _once(root)]

    @property
    def states(self) -> tuple[str, ...]:
        """States of the statistics."""
        return ("mean", "root") if self._centred else ("root",)

    def value(self, lane: Lane) -> Value:
        """An element less the mean, where rows lose it."""
        return lane.load("x") - lane.state("mean") if self._centred else lane.load("x")

    def unit(self, lane: Lane) -> Value:
        """A normalised element."""
        return self.value(lane) * lane.state("root")


def norm(context: Context, node: Node[Any]) -> list[Kernel]:
    """State LayerNorm or RMSNorm of floats."""
    tensors, operator = FloatTensors(context, node), node.operator
    rows = _Norm(tensors, operator.epsilon, operator.centred)

    def make(lane: Lane) -> None:
        y = rows.unit(lane) * lane.load("gamma")
        lane.store("y", y + lane.load("beta") if "beta" in node.inputs else y)

    return [Routine.of(node.name, rows.sources(), {"y": rows.result("y")}, [*rows.statistics(), _each(make)],
                       rows.states, steps=rows.width, units=rows.places.shape[1])]


def norm_grad(context: Context, node: Node[Any]) -> list[Kernel]:
    """State the gradients of a norm: rows for that of x, then columns, with the rows' statistics, for the others."""
    tensors, operator = FloatTensors(context, node), node.operator
    rows = _Norm(tensors, operator.epsilon, operator.centred)
    units = rows.places.shape[1]
    dy, _ = tensors.along([len(tensors.shape("x")) - 1], "dy")
    kept = {name: tensors.temporary(name, units) for name in rows.states}
    more = ("scaled", "inner") if operator.centred else ("scaled",)

    def add(lane: Lane) -> None:
        inner = lane.load("dy") * lane.load("gamma")
        _add_to(lane, "scaled", inner * rows.unit(lane))
        if operator.centred:
            _add_to(lane, "inner", inner)

    def divide(lane: Lane) -> None:
        for name in more:
            lane.become(name, lane.state(name) / float(rows.width))
        for name in rows.states:
            lane.store(name, lane.state(name))

    def make(lane: Lane) -> None:
        dx = lane.load("dy") * lane.load("gamma") - rows.unit(lane) * lane.state("scaled")
        if operator.centred:
            dx = dx - lane.state("inner")
        lane.store("dx", lane.state("root") * dx)

    sources = rows.sources() | {"dy": tensors.source("dy", dy)}
    results = {"dx": rows.result("dx")} | {name: Elements(each, np.arange(units)[None]) for name, each in kept.items()}
    first = Routine.of(
        node.name, sources, results,
        [*rows.statistics(), _begin(**dict.fromkeys(more, _NOTHING)), _each(add), _once(divide), _each(make)],
        (*rows.states, *more), steps=rows.width, units=units)
    return [first, _columns(rows, dy, {name: Elements(each, np.arange(units)[:, None]) for name, each in kept.items()})]


def _columns(rows: _Norm, dy: np.ndarray, kept: dict[str, Elements]) -> Routine:
    """Sums over rows: gradients of gains, and of biases if there are any."""
    tensors = rows.tensors

    def add(lane: Lane) -> None:
        value = lane.load("x") - lane.load("mean") if "mean" in kept else lane.load("x")
        _add_to(lane, "gamma", lane.load("dy") * (value * lane.load("root")))
        if "mean" in kept:
            _add_to(lane, "beta", lane.load("dy"))

    states = ("gamma", "beta") if "mean" in kept else ("gamma",)

    def end(lane: Lane) -> None:
        for name in states:
            lane.store(f"d{name}", lane.state(name))

    sources = {"x": tensors.source("x", rows.places.T), "dy": tensors.source("dy", dy.T)} | kept
    return Routine.of(tensors.node.name, sources, {f"d{name}": tensors.result(f"d{name}") for name in states},
                      [_begin(**dict.fromkeys(states, _NOTHING)), _each(add), _once(end)], states,
                      steps=rows.places.shape[1], units=rows.width)
