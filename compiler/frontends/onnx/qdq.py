"""Networks in QDQ form: float operators between DequantizeLinear and QuantizeLinear become quantised ones."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ....golden import activation as golden_activation
from ....golden.quantise import dequantize_linear, quantize_linear
from ....hdl.errors import PearrayError
from ...operators import Lookup
from .builder import HANDLERS, MICROSOFT, OWN, Builder, OnnxNode, Quantisation, attempt, image, one, two
from .quantisation import operand, result, steps_of_sums

__all__ = ["FLOAT_OPERATORS", "FloatNodes"]

#: Operators that move values without computing with them, so that they may as well move stored ones.
_MOVING = ("Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Unsqueeze")

#: Operators of one operand, each by the name of the function that it applies: those of the golden models.
_UNARY = {"".join(map(str.capitalize, name.split("_"))): name for name in golden_activation.FUNCTIONS}

#: Operators that limit a tensor, alone or behind another operator.
_LIMITING = ("Relu", "Clip")

#: Attributes of which one value is supported.
_FIXED = {"Gelu": {"approximate": "none"}}

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Stored:
    """A float tensor as its stored integers: names of the tensor, its scale and its zero point, axis of the scales."""

    name: str
    scale: str
    zero_point: str
    quantisation: Quantisation
    axis: int = 1


@dataclass(frozen=True)
class _Pending:
    """A float tensor of which only the quantised form will ever exist."""

    node: OnnxNode
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
            found, axis = operand(node, self._graph)
            names = node.inputs[0], node.inputs[1], self._zero_point(node, found)
            self._known[node.outputs[0]] = _Stored(*names, found, axis)
            # A tensor for the user is made on the host; stored ones go on in any case.
            return node.outputs[0] not in self._outputs
        operands = [self._known[name] for name in node.inputs if name in self._known]
        if not operands:
            return False
        if node.op_type == "QuantizeLinear":
            self._quantise(node, operands[0])
        elif node.op_type in _MOVING and isinstance(operands[0], _Stored):
            self._move(node, operands[0])
        elif node.op_type in _LIMITING and isinstance(operands[0], _Pending):
            self._activate(node, operands[0])
        elif node.op_type in (*_LIMITING, *_UNARY) and isinstance(operands[0], _Stored):
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
        return _Pending(node, lambda end: make(self._graph, node, operands, end))

    def _zero_point(self, node: OnnxNode, found: Quantisation) -> str:
        """Name of the zero point of a node that quantises or dequantises; one is made for an absent one."""
        name = [*node.inputs, ""][2]
        return name or self._graph.store(f"{node.outputs[0]}:zero_point", np.asarray(found.zero_point), found.clamp)

    def _check_axis(self, node: OnnxNode) -> None:
        """Check that scales of weights belong to output channels."""
        axes = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1 - node.attributes.get("transB", 0)}
        weights = self._known[node.inputs[1]] if node.op_type in axes else None
        if isinstance(weights, _Stored) and weights.quantisation.scale.ndim:
            rank, wanted = len(self._graph.tensor(weights.name).shape), axes[node.op_type]
            if weights.axis % rank != wanted:
                raise PearrayError(f"axis of the scales of {node.inputs[1]!r} must be {wanted}, not {weights.axis}")

    def _emit(self, node: OnnxNode) -> None:
        HANDLERS[node.domain, node.op_type](node, self._graph)

    def _move(self, node: OnnxNode, source: _Stored) -> None:
        if source.quantisation.scale.ndim and node.op_type != "Identity":
            raise PearrayError(f"scale of {node.inputs[0]!r} must be one value in front of {node.op_type}, not "
                               f"{source.quantisation.scale.size}")
        name = f"{node.outputs[0]}:stored"
        self._emit(node.standing_for(node.op_type, [source.name, *node.inputs[1:]], [name], node.attributes))
        if source.name in self._graph.ranges:
            self._graph.ranges[name] = self._graph.ranges[source.name]
        self._known[node.outputs[0]] = replace(source, name=name)

    def _activate(self, node: OnnxNode, pending: _Pending) -> None:
        if pending.activation:
            raise PearrayError("only one activation may follow an operator")
        activation: Any = "relu"
        if node.op_type == "Clip":
            activation = "clip", *self._limits(node)
        self._known[node.outputs[0]] = replace(pending, activation={"activation": activation})

    def _limits(self, node: OnnxNode) -> tuple[float, float]:
        """Bounds of Clip. A lower one above the upper gives way to it."""
        limits = []
        for index, role, bound in ((1, "min", -_LARGEST), (2, "max", _LARGEST)):
            if any(node.inputs[index:index + 1]):
                value = self._graph.constant(node, index, role)
                if value.size != 1 or np.isnan(value).any():
                    raise PearrayError(f"{role} must be one number, not {value.tolist()}")
                bound = min(max(float(value.item()), -_LARGEST), _LARGEST)
            limits.append(bound)
        return min(limits), limits[1]

    def _map(self, node: OnnxNode, source: _Stored) -> None:
        if node.op_type in _LIMITING:
            node.take()
            low, high = map(np.float32, self._limits(node) if node.op_type == "Clip" else (0, np.inf))
            self._known[node.outputs[0]] = _Mapped(source, lambda x: np.clip(x, low, high))
            return
        name, fixed = _UNARY[node.op_type], _FIXED.get(node.op_type, {})
        taken = node.take(**golden_activation.FUNCTIONS[name].parameters, **fixed)
        for attribute, value in fixed.items():
            if (given := taken.pop(attribute)) != value:
                raise PearrayError(f"{attribute} must be {value!r}, not {given!r}")
        self._known[node.outputs[0]] = _Mapped(source, golden_activation.function_of((name, *taken.values())))

    def _quantise(self, node: OnnxNode, found: _Stored | _Pending | _Mapped) -> None:
        target, _ = result(node, self._graph)
        if isinstance(found, _Pending):
            end = replace(node, inputs=[*node.inputs[:2], self._zero_point(node, target)])
            attempt(found.node, self._finish, found, end)
            return
        source = found if isinstance(found, _Stored) else found.source
        x = self._graph.tensor(source.name)
        if isinstance(found, _Stored) and self._same(source, x.dtype, target):
            self._emit(node.standing_for("Identity", [source.name], node.outputs))
        else:
            if x.dtype not in (np.int8, np.uint8) or target.zero_point.dtype not in (np.int8, np.uint8):
                raise PearrayError(f"what is tabulated must be int8 or uint8, not {x.dtype} that becomes "
                                   f"{target.zero_point.dtype}")
            entries = np.arange(256, dtype=np.uint8).view(x.dtype)
            real = dequantize_linear(entries, one("x_scale", source.quantisation.scale),
                                     source.quantisation.zero_point)
            if isinstance(found, _Mapped):
                real = found.function(real)
            table = quantize_linear(real, one("y_scale", target.scale), target.zero_point,
                                    dtype=target.zero_point.dtype)
            table = table if target.clamp is None else np.clip(table, *target.clamp)
            self._graph.add(node, Lookup(table), {"x": source.name})
        if target.clamp is not None:
            self._graph.ranges[node.outputs[0]] = target.clamp

    def _finish(self, pending: _Pending, end: OnnxNode) -> None:
        made = pending.make(end)
        made.attributes |= pending.activation
        self._emit(made)

    def _same(self, source: _Stored, dtype: np.dtype, target: Quantisation) -> bool:
        """Whether stored values are what a QuantizeLinear makes of them."""
        scale, zero_point, clamp = target
        low, high = self._graph.ranges.get(source.name, (np.iinfo(dtype).min, np.iinfo(dtype).max))
        return bool(dtype == zero_point.dtype and np.array_equal(source.quantisation.scale, scale)
                    and np.array_equal(source.quantisation.zero_point, zero_point)
                    and (clamp is None or (clamp[0] <= low and high <= clamp[1])))


_Operands = list[Any]


def _triple(operand: _Stored) -> list[str]:
    return [operand.name, operand.scale, operand.zero_point]


def _end(node: OnnxNode) -> list[str]:
    return node.inputs[1:]


def _bias(graph: Builder, end: OnnxNode, bias: _Stored, step: np.ndarray) -> str:
    """Name of a bias in steps of the sums that it is added to."""
    found = bias.quantisation
    return steps_of_sums(graph, end, bias.name, found.scale, bias.axis, found.zero_point, step)


def _step(x: _Stored, w: _Stored) -> np.ndarray:
    """Product of the operands' scales, exact, for each output channel if there are several."""
    return np.asarray(np.float64(one("x_scale", x.quantisation.scale)) * w.quantisation.scale.astype(np.float64))


def _filtered(graph: Builder, node: OnnxNode, operands: _Operands, end: OnnxNode, groups: int = 1) -> list[str]:
    """Inputs of a convolution, whose scales of weights are those of one of `groups` groups."""
    x, w, b = [*operands, None][:3]
    inputs = [*_triple(x), *_triple(w), *_end(end)]
    if b:
        step = _step(x, w)
        inputs.append(_bias(graph, end, b, np.tile(step, groups) if step.ndim else step))
    return inputs


def _convolution(graph: Builder, node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    return node.standing_for("QLinearConv", _filtered(graph, node, operands, end), end.outputs, node.attributes)


def _transposed(graph: Builder, node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    inputs = _filtered(graph, node, operands, end, node.attributes.get("group", 1))
    return node.standing_for("ConvTranspose", inputs, end.outputs, node.attributes, OWN)


def _gemm(graph: Builder, node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    a, b, c = [*operands, None][:3]
    taken = {key: value for key, value in node.attributes.items() if key != "beta"}
    alpha, beta = (np.float32(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not np.isfinite(value) or (name == "alpha" and value <= 0):
            raise PearrayError(f"{name} must be finite{' and above 0' if name == 'alpha' else ''}, not {value}")
    addend = ""
    if c and beta:
        addend = _bias(graph, end, c, _step(a, b) * np.float64(alpha) / np.float64(beta))
    inputs = [*_triple(a), *_triple(b), addend, *_end(end)]
    return node.standing_for("QGemm", inputs, end.outputs, taken, MICROSOFT)


def _product(graph: Builder, node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    a, b = operands
    return node.standing_for("QLinearMatMul", [*_triple(a), *_triple(b), *_end(end)], end.outputs)


def _add(graph: Builder, node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    a, b = operands
    return node.standing_for("QLinearAdd", [*_triple(a), *_triple(b), *_end(end)], end.outputs, {}, MICROSOFT)


def _average(graph: Builder, node: OnnxNode, operands: _Operands, end: OnnxNode) -> OnnxNode:
    kind = "QLinearGlobalAveragePool" if node.op_type.startswith("Global") else "QLinearAveragePool"
    taken = node.attributes
    if taken.get("ceil_mode") and taken.get("count_include_pad") and taken.get("auto_pad", b"NOTSET") == b"NOTSET":
        sizes, kernel = image(graph, operands[0].name), two("kernel_shape", taken.get("kernel_shape"), (1, 1))
        strides, pads = two("strides", taken.get("strides"), (1, 1)), taken.get("pads") or (0, 0, 0, 0)
        for axis, size in enumerate(sizes):
            span = size + pads[axis] + pads[axis + 2] - kernel[axis]
            if span % strides[axis] and (span // strides[axis] + 1) * strides[axis] < size + pads[axis]:
                # The float operator counts the padding in such a window, the quantised one all of the window.
                raise PearrayError("count_include_pad must be 0 where ceil_mode lets a window hang over the padding, "
                                   "not 1")
    return node.standing_for(kind, [*_triple(operands[0]), *_end(end)], end.outputs, node.attributes, MICROSOFT)


#: Operators with a quantised form: how to make it from the graph, the node, its operands and the node that quantises.
_QUANTISED: dict[str, Callable[[Builder, OnnxNode, _Operands, OnnxNode], OnnxNode]] = {
    "Add": _add,
    "AveragePool": _average,
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _gemm,
    "GlobalAveragePool": _average,
    "MatMul": _product,
}

#: Float operators that may stand between DequantizeLinear and QuantizeLinear.
FLOAT_OPERATORS = tuple(sorted({*_MOVING, *_LIMITING, *_UNARY, *_QUANTISED}))
