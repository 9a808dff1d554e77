"""Networks in QDQ form: float operators between DequantizeLinear and QuantizeLinear become quantised ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....golden import activation as golden_activation
from ....golden.quantise import dequantize_linear, quantize_linear
from ....hdl.errors import PearrayError
from ...operators import Lookup
from .builder import HANDLERS, MICROSOFT, OWN, Builder, OnnxNode

__all__ = ["FLOAT_OPERATORS", "FloatNodes"]

#: Operators that move values without computing with them, so that they may as well move stored ones.
_MOVING = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Unsqueeze")

#: Operators of one operand, each by the float32 function of an array that it applies.
_UNARY: dict[str, Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]] = {
    "Relu": lambda x, _: np.maximum(x, np.float32(0)),
    "LeakyRelu": lambda x, taken: golden_activation.leaky_relu(x, taken["alpha"]),
    "Sigmoid": lambda x, _: golden_activation.sigmoid(x),
    "Tanh": lambda x, _: golden_activation.tanh(x),
    "Gelu": lambda x, _: golden_activation.gelu(x),
    "Clip": lambda x, taken: np.clip(x, np.float32(taken["low"]), np.float32(taken["high"])),
}


#: Attributes of those that have any, with their defaults.
_ATTRIBUTES: dict[str, dict[str, Any]] = {"LeakyRelu": {"alpha": 0.01}, "Gelu": {"approximate": "none"}}

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Stored:
    """A float tensor as its stored integers: names of the tensor, its scale and its zero point, axis of the scales."""

    name: str
    scale: str
    zero_point: str
    axis: int = 1


@dataclass(frozen=True)
class _Pending:
    """A float tensor of which only the quantised form will ever exist."""

    make: Callable[[OnnxNode], OnnxNode]
    activation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Mapped:
    """A function of a stored tensor, element by element."""

    source: _Stored
    function: Callable[[np.ndarray], np.ndarray]


class FloatNodes:
    """Float operators seen so far in a network.

    Parameters
    ----------
    graph : Builder
        Graph under construction.
    outputs : collection of str
        Outputs of the network, which may be float.
    """

    def __init__(self, graph: Builder, outputs: list[str]):
        self._graph = graph
        self._outputs = outputs
        self._known: dict[str, _Stored | _Pending | _Mapped] = {}

    def take(self, node: OnnxNode) -> bool:
        """Take a node if it belongs to the float form; emit quantised nodes where it ends.

        Raises
        ------
        PearrayError
            If a float tensor reaches an operator that cannot be computed with stored integers.
        """
        if node.domain:
            return False
        if node.op_type == "DequantizeLinear":
            name, scale, zero_point = [*node.inputs, ""][:3]
            taken = node.take(axis=1, block_size=0)
            if taken["block_size"]:
                raise PearrayError(f"block_size must be 0, not {taken['block_size']}")
            self._known[node.outputs[0]] = _Stored(name, scale, zero_point, taken["axis"])
            # A tensor for the user is made on the host; stored ones go on in any case.
            return node.outputs[0] not in self._outputs
        operands = [self._known[name] for name in node.inputs if name in self._known]
        if not operands:
            return False
        if node.op_type == "QuantizeLinear":
            self._quantise(node, operands[0])
        elif node.op_type in _MOVING and isinstance(operands[0], _Stored):
            self._move(node, operands[0])
        elif node.op_type in ("Relu", "Clip") and isinstance(operands[0], _Pending):
            self._activate(node, operands[0])
        elif node.op_type in _UNARY and isinstance(operands[0], _Stored):
            self._map(node, operands[0])
        elif node.op_type in _QUANTISED and all(isinstance(operand, _Stored) for operand in operands):
            self._known[node.outputs[0]] = self._pending(node)
        elif node.op_type in _UNARY and isinstance(operands[0], _Pending):
            raise PearrayError(f"only Relu and Clip may follow a float operator directly, not {node.op_type}: put "
                               "QuantizeLinear and DequantizeLinear between")
        else:
            raise PearrayError("a float operator must stand between DequantizeLinear and QuantizeLinear and be one "
                               f"of {', '.join(FLOAT_OPERATORS)}")
        return True

    def _pending(self, node: OnnxNode) -> _Pending:
        for name in node.inputs:
            if name and name not in self._known:
                raise PearrayError(f"input {name!r} must come from DequantizeLinear")
        self._check_axis(node)
        make, operands = _QUANTISED[node.op_type], [self._known.get(name) for name in node.inputs]
        return _Pending(lambda end: make(node, operands, end))

    def _check_axis(self, node: OnnxNode) -> None:
        """Check that scales of weights belong to output channels."""
        axes = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1 - node.attributes.get("transB", 0)}
        weights = self._known[node.inputs[1]] if node.op_type in axes else None
        if isinstance(weights, _Stored) and np.size(self._graph.constants.get(weights.scale, 0)) > 1:
            rank, wanted = len(self._graph.tensor(weights.name).shape), axes[node.op_type]
            if weights.axis % rank != wanted:
                raise PearrayError(f"axis of the scales of {node.inputs[1]!r} must be {wanted}, not {weights.axis}")

    def _emit(self, node: OnnxNode) -> None:
        HANDLERS[node.domain, node.op_type](node, self._graph)

    def _move(self, node: OnnxNode, source: _Stored) -> None:
        name = f"{node.outputs[0]}:stored"
        self._emit(node.standing_for(node.op_type, [source.name, *node.inputs[1:]], [name], node.attributes))
        self._known[node.outputs[0]] = _Stored(name, source.scale, source.zero_point)

    def _activate(self, node: OnnxNode, pending: _Pending) -> None:
        if pending.activation:
            raise PearrayError("only one activation may follow an operator")
        activation: Any = "relu"
        if node.op_type == "Clip":
            activation = "clip", *self._limits(node)
        self._known[node.outputs[0]] = _Pending(pending.make, {"activation": activation})

    def _limits(self, node: OnnxNode) -> tuple[float, float]:
        low, high = (float(self._graph.constant(node, index, role)) if any(node.inputs[index:index + 1])
                     else bound for index, role, bound in ((1, "min", -_LARGEST), (2, "max", _LARGEST)))
        return low, high

    def _map(self, node: OnnxNode, source: _Stored) -> None:
        function, taken = _UNARY[node.op_type], node.take(**_ATTRIBUTES.get(node.op_type, {}))
        if node.op_type == "Clip":
            taken["low"], taken["high"] = self._limits(node)
        if taken.get("approximate", "none") != "none":
            raise PearrayError(f"approximate must be 'none', not {taken['approximate']!r}")
        self._known[node.outputs[0]] = _Mapped(source, lambda x: function(x, taken))

    def _quantise(self, node: OnnxNode, operand: _Stored | _Pending | _Mapped) -> None:
        if isinstance(operand, _Pending):
            made = operand.make(node)
            made.attributes |= operand.activation
            self._emit(made)
            return
        source = operand if isinstance(operand, _Stored) else operand.source
        if isinstance(operand, _Stored) and self._same(operand, node):
            self._emit(node.standing_for("Identity", [source.name], node.outputs))
            return
        x = self._graph.tensor(source.name)
        entries = np.arange(256, dtype=np.uint8).view(x.dtype)
        real = dequantize_linear(entries, self._value(source.scale), self._value(source.zero_point))
        if isinstance(operand, _Mapped):
            real = operand.function(real)
        zero_point = self._graph.constants[node.inputs[2]] if len(node.inputs) > 2 else np.uint8(0)
        table = quantize_linear(real, self._value(node.inputs[1]), int(zero_point), dtype=zero_point.dtype)
        self._graph.add(node, Lookup(table), {"x": source.name})

    def _value(self, name: str) -> Any:
        if not name:
            return 0
        value = self._graph.constants.get(name)
        if value is None or value.size != 1:
            raise PearrayError(f"{name!r} must be a constant of one value")
        return value.item()

    def _same(self, source: _Stored, node: OnnxNode) -> bool:
        scale, zero_point = [*node.inputs, ""][1:3]
        return (self._value(source.scale) == self._value(scale)
                and self._value(source.zero_point) == self._value(zero_point))


_Operands = list[Any]


def _triple(operand: _Stored) -> list[str]:
    return [operand.name, operand.scale, operand.zero_point]


def _end(node: OnnxNode) -> list[str]:
    return [*node.inputs[1:], ""][:2]


def _convolution(node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    x, w, b = [*operands, None][:3]
    inputs = [*_triple(x), *_triple(w), *_end(end), *([b.name] if b else [])]
    return node.standing_for("QLinearConv", inputs, end.outputs, node.attributes)


def _transposed(node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    quantised = _convolution(node, operands, end)
    return node.standing_for("ConvTranspose", quantised.inputs, end.outputs, node.attributes, OWN)


def _gemm(node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    a, b, c = [*operands, None][:3]
    taken = {key: value for key, value in node.attributes.items() if key != "beta"}
    if node.attributes.get("beta", 1.0) != 1.0:
        raise PearrayError(f"beta must be 1, not {node.attributes['beta']}")
    inputs = [*_triple(a), *_triple(b), c.name if c else "", *_end(end)]
    return node.standing_for("QGemm", inputs, end.outputs, taken, MICROSOFT)


def _product(node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    a, b = operands
    return node.standing_for("QLinearMatMul", [*_triple(a), *_triple(b), *_end(end)], end.outputs)


def _add(node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    a, b = operands
    return node.standing_for("QLinearAdd", [*_triple(a), *_triple(b), *_end(end)], end.outputs, {}, MICROSOFT)


def _average(node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    kind = "QLinearGlobalAveragePool" if node.op_type.startswith("Global") else "QLinearAveragePool"
    return node.standing_for(kind, [*_triple(operands[0]), *_end(end)], end.outputs, node.attributes, MICROSOFT)


#: Operators with a quantised form: how to make it from the node, its operands and the node that quantises.
_QUANTISED: dict[str, Callable[[OnnxNode, _Operands, OnnxNode], OnnxNode]] = {
    "Add": _add,
    "AveragePool": _average,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "GlobalAveragePool": _average,
    "MatMul": _product,
}

#: Float operators that may stand between DequantizeLinear and QuantizeLinear.
FLOAT_OPERATORS = tuple(sorted({*_MOVING, *_UNARY, *_QUANTISED}))
