"""How float tensors become stored ones, where a QuantizeLinear or the network's end asks for them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ....golden.activation import quantised_bounds
from ....golden.quantise import quantize_linear
from ....hdl.errors import PearrayError
from ...operators import Dequantize, Quantize, RealSums, RealTable
from .builder import HANDLERS, Builder, OnnxNode, Quantisation, attempt, one
from .chains import chain_of, real_table, tabulate
from .floats import check_no_activation
from .values import Chain, Given, Limits, Moved, RealScaling, Result, Scaling, Stored, Value, limited

__all__ = ["BEFORE", "VIEWS", "End", "Stores", "emit", "same_storage", "stored_axis"]

#: Operators before which onnxruntime quantises, so that an operator before them is a kernel on integers.
BEFORE = ("MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")

#: Kernels on integers of onnxruntime whose rounding is not that of the float operator.
_FUSED = ("QLinearAdd", "QLinearAveragePool", "QLinearMul")

#: Operators that neither leave out an element, nor repeat one or add others.
VIEWS = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


@dataclass(frozen=True)
class End:
    """Who stores a float tensor.

    Parameters
    ----------
    node : OnnxNode
        The QuantizeLinear.
    zero_point : str
        Name of the zero point, which has the limits of the stored values if these are narrower than their type's.
    target : Quantisation
        How the result is stored.
    """

    node: OnnxNode
    zero_point: str
    target: Quantisation

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for those that store alike."""
        zero = np.asarray(self.target.zero_point)
        return self.target.scale.tobytes(), zero.tobytes(), zero.dtype, self.target.clamp

    def limited(self, graph: Builder, limits: Limits) -> "End":
        """Store what is cut to limits, which rounding to steps commutes with."""
        if limits == Limits():
            return self
        zero, clamp = self.target.zero_point, self.target.clamp
        info = np.iinfo(zero.dtype)
        bounds = quantised_bounds(*limits, one("y_scale", self.target.scale), zero, zero.dtype)
        low, high = (int(bound) for bound in np.clip(bounds, *(clamp or (info.min, info.max))))
        if (low, high) == (clamp or (info.min, info.max)):
            return self
        name = graph.store(f"{self.node.outputs[0]}:zero_point", np.asarray(zero), (low, high))
        return End(self.node, name, self.target._replace(clamp=(low, high)))


def emit(node: OnnxNode, graph: Builder) -> None:
    """Add a node on stored integers to the graph.

    Raises
    ------
    PearrayError
        If there is no such operator.
    """
    handler = HANDLERS.get((node.domain, node.op_type))
    if handler is None:
        raise PearrayError(f"operator {node.label} is not supported on stored integers")
    handler(node, graph)


def same_storage(a: Quantisation, b: Quantisation) -> bool:
    """Whether two tensors have the same type, scales and zero points."""
    return bool(np.asarray(a.zero_point).dtype == np.asarray(b.zero_point).dtype and np.array_equal(a.scale, b.scale)
                and np.array_equal(a.zero_point, b.zero_point) and (not a.scale.ndim or a.axis == b.axis))


def stored_axis(node: OnnxNode, axis: int, before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Where an axis of a tensor stands behind a node that reorders axes or changes the shape.

    Raises
    ------
    PearrayError
        If it is no axis any more.
    """
    axis %= len(before)
    if node.op_type == "Transpose":
        order = node.attributes.get("perm") or [*range(len(before))][::-1]
        return list(order).index(axis)
    for place, size in enumerate(after):
        if size == before[axis] and np.prod(after[:place]) == np.prod(before[:axis]):
            return place
    raise PearrayError(f"axis {axis} of shape {before}, which has a scale for each index, must still be an axis of "
                       f"shape {after}")


class Stores:
    """Float tensors that have been stored.

    Parameters
    ----------
    graph : Builder
        Graph under construction.
    """

    def __init__(self, graph: Builder):
        self._graph = graph
        #: What has been stored, with what keeps the objects alive whose identities are keys.
        self._made: dict[tuple[object, ...], tuple[Any, list[str]]] = {}

    def store(self, value: Value, end: End, output: str = "", is_float: bool = False) -> str:
        """Store a float tensor as a QuantizeLinear says, under a name if that is given, and return its name.

        `is_float` says that onnxruntime computes with real numbers on the way, whatever computes before.

        Raises
        ------
        PearrayError
            If that takes more than one rounding; the message names the node.
        """
        is_float |= isinstance(value, (Moved, Result)) and value.is_shared
        is_float |= isinstance(value, Chain) and value.is_float
        key = id(value), is_float, *end.key
        if key in self._made:
            [name] = self._made[key][1]
            return self._renamed(end, name, output) if output else name
        if isinstance(value, Stored) and self._is_stored(value, end.target):
            return self._renamed(end, value.name, output) if output else value.name
        name = output or self._graph.inner(end.node.outputs[0], "operand")
        if isinstance(value, Moved):
            name = self._move(value, end, name, is_float)
        elif isinstance(value, Result):
            self._finish(value, end, name, is_float)
        elif isinstance(value, Chain):
            self._tabulate(replace(value, is_float=is_float), end, name)
        else:
            kinds: dict[type, Callable[..., None]] = {
                Stored: self._restore, Given: self._quantise}
            kinds[type(value)](value, end, name)
        if end.target.clamp is not None:
            self._graph.ranges[name] = end.target.clamp
        self._made[key] = value, [name]
        return self._renamed(end, name, output) if output and name != output else name

    def _renamed(self, end: End, name: str, output: str) -> str:
        emit(end.node.standing_for("Identity", [name], [output]), self._graph)
        if name in self._graph.ranges:
            self._graph.ranges[output] = self._graph.ranges[name]
        return output

    def _is_stored(self, source: Stored, target: Quantisation) -> bool:
        """Whether stored values are what a QuantizeLinear makes of them."""
        if not same_storage(source.quantisation, target):
            return False
        info = np.iinfo(target.zero_point.dtype)
        low, high = self._graph.ranges.get(source.name, (info.min, info.max))
        return target.clamp is None or (target.clamp[0] <= low and high <= target.clamp[1])

    def _restore(self, value: Stored, end: End, name: str) -> None:
        self._tabulate(chain_of(value, f"{value.name}:real", self._graph), end, name)

    def _quantise(self, value: Given, end: End, name: str) -> None:
        target = end.limited(self._graph, value.limits).target
        if self._graph.tensor(value.name).dtype != np.float32:
            raise PearrayError(f"input {value.name!r} must be float32, not {self._graph.tensor(value.name).dtype}")
        self._graph.add(end.node, Quantize(one("y_scale", target.scale), target.zero_point, target.clamp),
                        {"x": value.name}, name, bounds=target.clamp)

    def _tabulate(self, value: Chain, end: End, name: str) -> None:
        if value.direct is not None:
            self._finish(value.direct, end, name, value.is_float)
            return
        attempt(value.nodes[-1], tabulate, end.node, value, self._graph, end.target, end.zero_point, name)

    def _finish(self, value: Result, end: End, name: str, is_float: bool) -> None:
        attempt(value.node, self._make, value, end, name, is_float)

    def _make(self, value: Result, end: End, name: str, is_float: bool) -> None:
        ending = replace(end.node, inputs=[*end.node.inputs[:2], end.zero_point], outputs=[name])
        made = value.make(ending, value.scaling or Scaling())
        if value.scaling is not None or end.limited(self._graph, value.limits) is not end:
            made.attributes |= {} if value.activation is None else {"activation": value.activation}
        if is_float and made.op_type in _FUSED:
            made.attributes["is_float"] = True
        if made.op_type == "QLinearSoftmax":
            check_no_activation(made, "Softmax")
            if is_float:
                raise PearrayError(
                    "its result must be read by one QuantizeLinear alone, with nothing between or one of "
                    f"{', '.join(BEFORE)}: of others onnxruntime computes Softmax with real numbers, which rounds "
                    "otherwise than with the stored ones that programs have")
        emit(made, self._graph)

    def _move(self, value: Moved, end: End, name: str, is_float: bool) -> str:
        """Store what is moved, then move it."""
        is_float |= value.node.op_type not in BEFORE
        key = id(value.node), value.limits, is_float, *end.key
        if key not in self._made:
            graph, inner = self._graph, end.limited(self._graph, value.limits)
            inputs = [*value.node.inputs, *[""] * (len(value.operands) - len(value.node.inputs))]
            for place, operand in enumerate(value.operands):
                if isinstance(operand, np.ndarray):
                    inputs[place] = graph.store(f"{name}:constant", self._stored_constant(operand, inner.target))
                elif isinstance(operand, (Given, Result, Moved)):
                    inputs[place] = self.store(limited(operand, *value.limits), end, "", is_float)
                elif operand is not None:
                    inputs[place] = self.store(operand, inner, "", is_float)
            outputs = [name if place == value.place else output and graph.inner(output, "stored")
                       for place, output in enumerate(value.node.outputs)]
            attempt(value.node, emit, value.node.standing_for(value.node.op_type, inputs, outputs,
                                                              value.node.attributes), graph)
            self._made[key] = value, outputs
        return self._made[key][1][value.place]

    @staticmethod
    def _stored_constant(value: np.ndarray, target: Quantisation) -> np.ndarray:
        if np.isnan(value).any():
            raise PearrayError("a constant that is put beside a stored tensor must be numbers, not nan")
        stored = quantize_linear(value, one("y_scale", target.scale), target.zero_point, dtype=target.zero_point.dtype)
        return stored if target.clamp is None else np.clip(stored, *target.clamp)

    def give(self, value: Value, name: str) -> None:
        """Make a float output of the network, on the host.

        Raises
        ------
        PearrayError
            If it is neither dequantised, a function of one stored tensor, nor sums of products.
        """
        node = OnnxNode("DequantizeLinear", "", name, [], [name], {})
        if isinstance(value, Stored):
            self._graph.add(node, Dequantize(one("x_scale", value.quantisation.scale), value.quantisation.zero_point),
                            {"x": value.name})
        elif isinstance(value, Chain) and value.direct is None:
            table, axis = real_table(value, self._graph)
            self._graph.add(node, RealTable(table, axis), {"x": value.source})
        else:
            sums, found, limits = self._sums(value, name)
            self._graph.add(node, RealSums(found.scale, found.bias, found.axis, *limits), {"x": sums})

    def _sums(self, value: Value, name: str) -> tuple[str, RealScaling, Limits]:
        """Sums of products behind a float output, which may have been moved: their name, and what makes them real."""
        graph = self._graph
        if isinstance(value, Result) and value.real is not None:
            sums = graph.inner(name, "sums")
            node, found = attempt(value.node, value.real, value.scaling, sums)
            attempt(value.node, emit, node, graph)
            return sums, found, value.limits
        if not isinstance(value, Moved) or isinstance(value.operands[0], np.ndarray) or value.operands[0] is None or (
                value.node.op_type not in VIEWS):
            kind = value.node.label if isinstance(value, (Moved, Result)) else "an input"
            raise PearrayError(f"output {name!r} is what {kind} gives as real numbers: put QuantizeLinear behind it")
        before, found, limits = self._sums(value.operands[0], name)
        sums, shape = graph.inner(name, "moved"), graph.tensor(before).shape
        attempt(value.node, emit, value.node.standing_for(
            value.node.op_type, [before, *value.node.inputs[1:]], [sums], value.node.attributes), graph)
        if found.scale.ndim or found.bias.ndim:
            found = found._replace(axis=stored_axis(value.node, found.axis, shape, graph.tensor(sums).shape))
        return sums, found, limits.then(*value.limits)
