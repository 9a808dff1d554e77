"""Pooling of floats, its gradients, and moves, as routines.

A unit is an element of what is made, and what is made of each element of it is a step: elements of its window, or, of
gradients, windows that it is in. So nothing is scattered, and sums take windows in the order of the golden models.
"""

import math
from math import prod
from typing import Any

import numpy as np

from ...golden.pool import padded_for, real_window_counts
from ...golden.tensors import patch
from ..graph.graph import Node
from ..operators.channelwise import AvgPool2d, MaxPool2d
from ..operators.moved import OUTSIDE, Moved, Picked
from ..operators.reductions import SumPool2d
from ..routines.values import Lane, Value
from .context import Context, Located
from .float_tensors import FloatTensors
from .kernel import Kernel
from .layout import Layout
from .routine import Elements, Phase, Routine

__all__ = ["average_pool", "in_plain_order", "max_pool", "moved", "moved_grad", "pool_grad"]


class _Windows:
    """Windows of a pooling.

    Parameters
    ----------
    pool : MaxPool2d or AvgPool2d
        The pooling.
    shape : tuple of int
        Shape of its input.
    made : tuple of int
        Shape of its output.
    """

    def __init__(self, pool: MaxPool2d | AvgPool2d, shape: tuple[int, ...], made: tuple[int, ...]):
        self._pool, self._shape, self._made = pool, shape, made
        self.kernel, self.stride = pool.window(shape)
        self._dilation = pool.dilation if isinstance(pool, MaxPool2d) else (1, 1)

    def elements(self, numbers: np.ndarray) -> np.ndarray:
        """Of numbers of the elements of x, those in each window: (taps, N, C, P, Q)."""
        padded, *_ = padded_for(numbers, self.kernel, self.stride, self._pool.padding, self._dilation,
                                self._pool.ceil_mode, OUTSIDE)
        p, q = self._made[2:]
        taps = [patch(padded, i * self._dilation[0], j * self._dilation[1], p, q, self.stride)
                for i in range(self.kernel[0]) for j in range(self.kernel[1])]
        return np.stack(taps)

    def counts(self) -> np.ndarray:
        """What the sum of each window is divided by: (N, C, P, Q) float32."""
        assert isinstance(self._pool, AvgPool2d)
        if isinstance(self._pool, SumPool2d):
            return np.ones(self._made, np.float32)
        height, width = self._shape[2:]
        found = real_window_counts(height, width, self.kernel, stride=self.stride, padding=self._pool.padding,
                                   count_include_pad=self._pool.count_include_pad, ceil_mode=self._pool.ceil_mode)
        return np.broadcast_to(found.astype(np.float32), self._made)


def _windows(tensors: FloatTensors, pool: Any, made: str) -> _Windows:
    return _Windows(pool, tensors.shape("x"), tensors.shape(made))


def _numbers(shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of elements in C order."""
    return np.arange(prod(shape)).reshape(shape)


def _memory_order(layout: Layout) -> np.ndarray:
    """Numbers of elements in the order in which they stand in memory."""
    return np.argsort(layout.positions().reshape(-1), kind="stable")


def _taps(tensors: FloatTensors, windows: _Windows, order: np.ndarray) -> dict[str, Elements]:
    """Elements of x in the windows of outputs in an order, and, if some lie outside, which do."""
    found = windows.elements(_numbers(tensors.shape("x")))
    found = found.reshape(len(found), -1)[:, order]
    sources = {"x": tensors.source("x", tensors.inside(tensors.places("x"), found))}
    if (found == OUTSIDE).any():
        flags = tensors.constants("inside", np.array([0, 1], np.int32))
        sources["inside"] = Elements(flags, (found != OUTSIDE).astype(np.int64))
    return sources


def _if_inside(lane: Lane, sources: dict[str, Elements], condition: Value) -> Value:
    return lane.bit_and(condition, lane.load("inside")) if "inside" in sources else condition


def _is_none(lane: Lane, x: Value) -> Value:
    """Whether it is no number."""
    return lane.bit_xor(lane.equal(x, x), lane.literal(1))


def max_pool(context: Context, node: Node[MaxPool2d]) -> list[Kernel]:
    """State the greatest element of each window; of equal ones the first stays, and what is no number."""
    tensors = FloatTensors(context, node)
    layout = tensors.layout("y") if len(tensors.shape("y")) != 4 else Layout.of(tensors.shape("y"))
    sources = _taps(tensors, _windows(tensors, node.operator, "y"), _memory_order(layout))
    steps, units = sources["x"].places.shape

    def take(lane: Lane) -> None:
        x, best = lane.load("x"), lane.state("best")
        is_better = _if_inside(lane, sources, lane.bit_or(lane.less(best, x), _is_none(lane, x)))
        lane.become("best", lane.select(is_better, x, best))

    phases = [Phase(lambda lane: lane.become("best", -math.inf), repeats=False), Phase(take),
              Phase(lambda lane: tensors.stored(lane, "y", lane.state("best")), repeats=False)]
    return [Routine.of(node.name, sources, {"y": tensors.result("y", layout=layout)}, phases, ("best",), steps=steps,
                       units=units)]


def average_pool(context: Context, node: Node[AvgPool2d]) -> list[Kernel]:
    """State the mean of each window."""
    tensors = FloatTensors(context, node)
    windows, layout = _windows(tensors, node.operator, "y"), Layout.of(tensors.shape("y"))
    order = _memory_order(layout)
    found = windows.elements(_numbers(tensors.shape("x"))).reshape(prod(windows.kernel), -1)[:, order]
    sources = {"x": tensors.source("x", tensors.inside(tensors.places("x"), found))}
    count = _counts(tensors, windows.counts().reshape(-1)[order], np.arange(order.size)[None], sources)

    def add(lane: Lane) -> None:
        lane.become("total", lane.state("total") + lane.load("x"))

    phases = [Phase(lambda lane: lane.become("total", 0.0), repeats=False), Phase(add),
              Phase(lambda lane: lane.store("y", _divided(lane, lane.state("total"), count)), repeats=False)]
    return [Routine.of(node.name, sources, {"y": tensors.result("y", layout=layout)}, phases, ("total",),
                       steps=len(found), units=order.size)]


def _counts(tensors: FloatTensors, counts: np.ndarray, places: np.ndarray,
            sources: dict[str, Elements]) -> float | None:
    """The count by which all windows divide, or None and a source of counts, at places among them."""
    if (counts == counts[0]).all():
        return float(counts[0])
    # What is in no window is nothing, divided by one.
    buffer = tensors.constants("counts", np.append(counts, np.float32(1)))
    sources["counts"] = Elements(buffer, np.where(places == OUTSIDE, counts.size, places))
    return None


def _divided(lane: Lane, value: Value, count: float | None) -> Value:
    if count == 1:
        return value
    return value / (lane.load("counts") if count is None else count)


def _gathered(targets: np.ndarray, size: int) -> np.ndarray:
    """Where each of `size` targets stands in a list of them, in order: (most times, size), OUTSIDE for no more."""
    order = np.flatnonzero(targets != OUTSIDE)
    order = order[np.argsort(targets[order], kind="stable")]
    counts = np.bincount(targets[order], minlength=size)
    times = np.arange(order.size) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.full((max(int(counts.max(initial=0)), 1), size), OUTSIDE)
    found[times, targets[order]] = order
    return found


def pool_grad(context: Context, node: Node[Any]) -> list[Kernel]:
    """State the gradient of a pooling."""
    tensors, pool = FloatTensors(context, node), node.operator.pool
    windows, layout = _windows(tensors, pool, "dy"), tensors.layout("dx")
    order = _memory_order(layout)
    targets = windows.elements(_numbers(tensors.shape("x")))
    found = _gathered(targets.reshape(-1), order.size)[:, order]
    count = prod(tensors.shape("dy"))
    outputs, taps = np.where(found == OUTSIDE, OUTSIDE, found % count), np.maximum(found, 0) // count
    sources = {"dy": tensors.source("dy", tensors.inside(tensors.places("dy"), outputs))}
    before = list[Kernel]()
    if isinstance(pool, MaxPool2d):
        # Windows side by side in memory see elements that are.
        winners, standing = tensors.temporary("winners", count), Layout.of(tensors.shape("dy"))
        before.append(_winners(tensors, windows, Elements(winners, np.arange(count)[None]), _memory_order(standing)))
        sources["winner"] = Elements(winners, tensors.inside(standing.positions(), outputs))
        sources["tap"] = Elements(tensors.constants("taps", taps.astype(np.int32)),
                                  np.arange(taps.size).reshape(taps.shape))

        def given(lane: Lane) -> Value:
            return lane.select(lane.bit_xor(lane.load("winner"), lane.load("tap")), 0.0, lane.load("dy"))
    else:
        divisor = _counts(tensors, windows.counts().reshape(-1), outputs, sources)

        def given(lane: Lane) -> Value:
            return _divided(lane, lane.load("dy"), divisor)

    return [*before, _gather(tensors, sources, given, found.shape, layout)]


def _gather(tensors: FloatTensors, sources: dict[str, Elements], given: Any, shape: tuple[int, int],
            layout: Layout) -> Routine:
    """Sum of what steps give to each unit, from zero on."""
    def add(lane: Lane) -> None:
        lane.become("total", lane.state("total") + given(lane))

    phases = [Phase(lambda lane: lane.become("total", 0.0), repeats=False), Phase(add),
              Phase(lambda lane: lane.store("dx", lane.state("total")), repeats=False)]
    return Routine.of(tensors.node.name, sources, {"dx": tensors.result("dx", layout=layout)}, phases, ("total",),
                      steps=shape[0], units=shape[1])


def _winners(tensors: FloatTensors, windows: _Windows, result: Elements, order: np.ndarray) -> Routine:
    """Number of the first greatest element of each window, or of the first that is no number; windows in an order."""
    sources = _taps(tensors, windows, order)
    steps, units = sources["x"].places.shape

    def take(lane: Lane) -> None:
        x, best, winner, number = lane.load("x"), lane.state("best"), lane.state("winner"), lane.state("number")
        is_better = lane.bit_or(lane.less(best, x), lane.bit_and(_is_none(lane, x), lane.equal(best, best)))
        is_better = lane.bit_or(is_better, lane.integer_less(winner, lane.literal(0)))
        is_better = _if_inside(lane, sources, is_better)
        lane.become("best", lane.select(is_better, x, best))
        lane.become("winner", lane.select(is_better, number, winner))
        lane.become("number", lane.integer_add(number, lane.literal(1)))

    def begin(lane: Lane) -> None:
        lane.become("best", -math.inf)
        lane.become("winner", lane.literal(-1))
        lane.become("number", lane.literal(0))

    return Routine.of(tensors.node.name, sources, {"winners": result},
                      [Phase(begin, repeats=False), Phase(take),
                       Phase(lambda lane: lane.store("winners", lane.state("winner")), repeats=False)],
                      ("best", "winner", "number"), steps=steps, units=units)


def _picked(part: Picked) -> np.ndarray:
    """Number of the element of the input that each element of a part is, or OUTSIDE; in the split output's shape."""
    places = np.arange(prod(part.split)).reshape(part.split).transpose(part.order)
    for axis in part.indices:
        picks = part.picks(axis)
        outside = (picks == OUTSIDE).reshape((-1,) + (1,) * (places.ndim - 1 - axis))
        places = np.where(outside, OUTSIDE, places.take(np.maximum(picks, 0), axis))
    return places


def moved(context: Context, node: Node[Moved]) -> list[Kernel]:
    """State an operator that moves elements: each part of the output by itself."""
    tensors, kernels = FloatTensors(context, node), list[Kernel]()
    layout = Layout.of(tensors.shape("y"))
    result = tensors.result("y", layout=layout)
    for number, part in enumerate(node.operator.picked(context.graph.typed(node.inputs))):
        found = _picked(part)
        where = layout.positions().reshape(part.into)[tuple(
            slice(part.start.get(axis, 0), part.start.get(axis, 0) + size) for axis, size in enumerate(found.shape))]
        order = np.argsort(where.reshape(-1), kind="stable")
        found, where = found.reshape(-1)[order], where.reshape(-1)[order]
        inside = found != OUTSIDE
        name = node.name if not number else f"{node.name}:{number}"
        if inside.any():
            made = Elements(result.buffer, where[inside][None])
            kernels.append(_copied(tensors, name, part.role, found[inside], made))
        if not inside.all():
            kernels.append(_filled(tensors, f"{name}:outside", float(part.outside),
                                   Elements(result.buffer, where[~inside][None])))
    return kernels


def _filled(tensors: FloatTensors, name: str, value: float, result: Elements) -> Routine:
    return Routine.of(name, {}, {"y": result}, [Phase(lambda lane: tensors.stored(lane, "y", value))],
                      units=result.places.size)


def _copied(tensors: FloatTensors, name: str, role: str, numbers: np.ndarray, result: Elements) -> Routine:
    source = tensors.source(role, tensors.inside(tensors.places(role), numbers)[None])
    return Routine.of(name, {role: source}, {"y": result},
                      [Phase(lambda lane: tensors.stored(lane, "y", lane.load(role)))], units=numbers.size)


def in_plain_order(context: Context, name: str) -> tuple[Located, list[Kernel]]:
    """Copy a tensor so that images stand with their channels last, and all else row-major."""
    tensor, before = context.graph.tensors[name], context.located[name]
    layout = Layout.of(tensor.shape)
    found = context.locate(name, layout=layout)
    found.buffer.expect_stores()
    order = _memory_order(layout)
    places = before.layout.positions().reshape(-1)[order]

    def copy(lane: Lane) -> None:
        value = lane.load("x")
        lane.store("y", lane.narrow(value) if found.buffer.item < 4 else value)

    return found, [Routine.of(f"{name}:copy", {"x": Elements(before.buffer, places[None])},
                              {"y": Elements(found.buffer, np.arange(order.size)[None])}, [Phase(copy)],
                              units=order.size)]


def moved_grad(context: Context, node: Node[Any]) -> list[Kernel]:
    """State the gradient of what moves elements: each adds up what came from it, in C order of the outputs."""
    tensors, layout = FloatTensors(context, node), Layout.of(node.operator.shape)
    order = _memory_order(layout)
    [part] = node.operator.moved.picked({"x": np.broadcast_to(np.float32(0), node.operator.shape)})
    found = _gathered(_picked(part).reshape(-1), order.size)[:, order]
    sources = {"dy": tensors.source("dy", tensors.inside(tensors.places("dy"), found))}
    return [_gather(tensors, sources, lambda lane: lane.load("dy"), found.shape, layout)]
