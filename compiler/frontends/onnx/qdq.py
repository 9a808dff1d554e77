"""Networks in QDQ form: float operators between DequantizeLinear and QuantizeLinear become quantised ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import numpy as np

from ....golden.quantise import dequantize_linear, quantize_linear
from ....hdl.errors import PearrayError
from ...graph.graph import Tensor
from ...operators import Lookup, Reshape
from ...operators.channelwise import every_value
from ...operators.fields import whole
from .attention import OPERATORS as ATTENTION
from .attention import is_attention, stored_attention
from .builder import HANDLERS, MICROSOFT, OWN, Builder, OnnxNode, Quantisation, attempt, one, two
from .floats import Floats, Stored
from .functions import FUSED, UNARY, is_function, unary
from .fusion import SPELLED
from .moves import Joined, stored_inputs
from .norm_fusion import SUMS
from .norms import NORMS, is_norm, stored_norm
from .quantisation import operand, result, steps_of_sums
from .rotary import is_rotary, stored_rotary

__all__ = ["FLOAT_OPERATORS", "FloatNodes"]

#: Operators that move values without computing with them, so that they may as well move stored ones.
_MOVING = ("DepthToSpace", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "Pad", "ReduceMax",
           "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze")

#: Operators that limit a tensor, alone or behind another operator.
_LIMITING = ("Relu", "Clip")

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Stored:
    """A float tensor as its stored integers: names of the tensor, its scale and its zero point, and what these say."""

    name: str
    scale: str
    zero_point: str
    quantisation: Quantisation


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
        self._floats = Floats(self._names, self._value)

    def take(self, node: OnnxNode) -> bool:
        """Take a node if it belongs to the float form; emit quantised nodes where it ends.

        Raises
        ------
        PearrayError
            If a float tensor reaches an operator that cannot be computed with stored integers.
        """
        if is_attention(node):
            self._attend(node)
            return True
        if is_norm(node) or is_rotary(node):
            stored = stored_norm if is_norm(node) else stored_rotary
            made = stored(node, self._graph, self._floats)
            self._known[node.outputs[0]] = _Pending(node, _ends(made))
            return True
        if not node.domain and node.op_type in SUMS.values():
            self._known[node.outputs[0]] = self._pending(node)
            return True
        if node.domain and not is_function(node):
            return False
        if node.op_type == "DequantizeLinear":
            found = operand(node, self._graph)
            names = node.inputs[0], node.inputs[1], self._zero_point(node, found)
            self._known[node.outputs[0]] = _Stored(*names, found)
            # A tensor for the user is made on the host; stored ones go on in any case.
            return node.outputs[0] not in self._outputs
        operands = [self._known[name] for name in node.inputs if name in self._known]
        if not operands:
            return False
        if node.op_type == "QuantizeLinear":
            self._quantise(node, operands[0])
        elif node.op_type in _MOVING and isinstance(operands[0], _Stored):
            self._move(node, operands[0], stored_inputs(node, self._graph, operands[0].quantisation))
        elif node.op_type == "Concat" and self._are_alike(node, operands):
            first, *others = (cast(_Stored, each) for each in operands)
            self._move(node, first, [each.name for each in others])
        elif node.op_type in _LIMITING and isinstance(operands[0], _Pending):
            self._activate(node, operands[0])
        elif (node.op_type in _LIMITING or is_function(node)) and isinstance(operands[0], _Stored):
            self._map(node, operands[0])
        elif node.op_type in _QUANTISED and all(isinstance(operand, _Stored) for operand in operands):
            self._known[node.outputs[0]] = self._pending(node)
        elif is_function(node) and isinstance(operands[0], _Pending):
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
        # Whoever calls has seen that all are stored.
        form, operands = _FORMS[node.op_type], [cast(_Stored, self._known[name]) for name in node.inputs if name]
        return _Pending(node, lambda end: form.make(self._graph, node, operands, end))

    def _zero_point(self, node: OnnxNode, found: Quantisation) -> str:
        """Name of the zero point of a node that quantises or dequantises; one is made for an absent one."""
        return node.input(2) or self._graph.store(f"{node.outputs[0]}:zero_point", np.asarray(found.zero_point),
                                                  found.clamp)

    def _check_axis(self, node: OnnxNode) -> None:
        """Check that scales of weights belong to output channels."""
        axes = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1 - node.attributes.get("transB", 0)}
        weights = self._known[node.inputs[1]] if node.op_type in axes else None
        if isinstance(weights, _Stored) and weights.quantisation.scale.ndim:
            rank, wanted = len(self._graph.tensor(weights.name).shape), axes[node.op_type]
            if (axis := weights.quantisation.axis) % rank != wanted:
                raise PearrayError(f"axis of the scales of {node.inputs[1]!r} must be {wanted}, not {axis}")

    def _emit(self, node: OnnxNode) -> None:
        HANDLERS[node.domain, node.op_type](node, self._graph)

    def _are_alike(self, node: OnnxNode, operands: Sequence[object]) -> bool:
        """Whether all inputs of a node are stored, and in the same way."""
        stored = [each for each in operands if isinstance(each, _Stored)]
        if len(stored) < len(node.inputs):
            return False
        first, dtypes = stored[0].quantisation, {self._graph.tensor(each.name).dtype for each in stored}
        return len(dtypes) == 1 and all(np.array_equal(each.quantisation.scale, first.scale)
                                        and each.quantisation.zero_point == first.zero_point for each in stored)

    def _move(self, node: OnnxNode, source: _Stored, others: Sequence[str]) -> None:
        if source.quantisation.scale.ndim and node.op_type != "Identity":
            raise PearrayError(f"scale of {node.inputs[0]!r} must be one value in front of {node.op_type}, not "
                               f"{source.quantisation.scale.size}")
        names = [self._graph.inner(output, "stored") if output else "" for output in node.outputs]
        self._emit(node.standing_for(node.op_type, [source.name, *others], names, node.attributes))
        for output, name in zip(node.outputs, names, strict=True):
            if source.name in self._graph.ranges and node.op_type != "Concat":
                self._graph.ranges[name] = self._graph.ranges[source.name]
            self._known[output] = replace(source, name=name)

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
        self._known[node.outputs[0]] = _Mapped(source, unary(node, self._bias(node, source)))

    def _bias(self, node: OnnxNode, source: _Stored) -> np.ndarray | None:
        """Bias that a function adds before, float32, or None."""
        name, size = node.input(1), self._graph.tensor(source.name).shape[-1:]
        value = self._value(name) if name else None
        if name and (value is None or value.shape != size):
            raise PearrayError(f"bias {name!r} must be a constant of shape {size}")
        return value

    def _value(self, name: str) -> np.ndarray | None:
        """Value of a constant, as real numbers where it is stored; None if it is none."""
        stored = self._known.get(name)
        if not isinstance(stored, _Stored):
            return self._graph.constants.get(name)
        value, found = self._graph.constants.get(stored.name), stored.quantisation
        axis = found.axis if found.scale.ndim else 0
        return None if value is None else dequantize_linear(value.reshape(value.shape or 1), found.scale,
                                                            found.zero_point, axis=axis).reshape(value.shape)

    def _names(self, name: str) -> Stored | None:
        """Names of the stored form of a float tensor, if it has one."""
        found = self._known.get(name)
        return (found.name, found.scale, found.zero_point) if isinstance(found, _Stored) else None

    def _attend(self, node: OnnxNode) -> None:
        """Take a node of attention, whose result a QuantizeLinear stores, unless a product on stored integers does."""
        made = stored_attention(node, self._graph, self._floats)

        av = node.attributes["av"] if (node.domain, node.op_type) == SPELLED else node
        if av.op_type == "QLinearMatMul":
            self._emit(_finished(made, av.inputs[6:8], node.outputs))
        else:
            self._known[node.outputs[0]] = _Pending(node, _ends(made))

    def _quantise(self, node: OnnxNode, found: _Stored | _Pending | _Mapped) -> None:
        target = result(node, self._graph)
        if isinstance(found, _Pending):
            end = replace(node, inputs=[*node.inputs[:2], self._zero_point(node, target)])
            attempt(found.node, self._finish, found, end)
            return
        source = found if isinstance(found, _Stored) else found.source
        x = self._graph.tensor(source.name)
        if isinstance(found, _Stored) and self._same(source, x.dtype, target):
            self._emit(node.standing_for("Identity", [source.name], node.outputs))
        else:
            self._tabulate(node, found, x, target)
        if target.clamp is not None:
            self._graph.ranges[node.outputs[0]] = target.clamp

    def _tabulate(self, node: OnnxNode, found: _Stored | _Mapped, x: Tensor, target: Quantisation) -> None:
        """Emit a table of quantised results over a stored tensor, or one for each index of its last axis."""
        if x.dtype not in (np.int8, np.uint8) or target.zero_point.dtype not in (np.int8, np.uint8):
            raise PearrayError(f"what is tabulated must be int8 or uint8, not {x.dtype} that becomes "
                               f"{target.zero_point.dtype}")
        source = found if isinstance(found, _Stored) else found.source
        real = dequantize_linear(every_value(x.dtype), one("x_scale", source.quantisation.scale),
                                 source.quantisation.zero_point)
        if isinstance(found, _Mapped):
            real = found.function(real)
        table = quantize_linear(real, one("y_scale", target.scale), target.zero_point, dtype=target.zero_point.dtype)
        table = table if target.clamp is None else np.clip(table, *target.clamp)
        if table.ndim == 1 or len(x.shape) == 2:
            self._graph.add(node, Lookup(table), {"x": x.name})
            return
        rows, result = self._graph.inner(x.name, "rows"), self._graph.inner(node.outputs[0], "mapped")
        self._graph.add(node, Reshape((-1, x.shape[-1])), {"x": x.name}, rows)
        self._graph.add(node, Lookup(table), {"x": rows}, result)
        self._graph.add(node, Reshape(x.shape), {"x": result})

    def _finish(self, pending: _Pending, end: OnnxNode) -> None:
        made = pending.make(end)
        made.attributes |= pending.activation
        self._emit(made)

    def _same(self, source: _Stored, dtype: np.dtype, target: Quantisation) -> bool:
        """Whether stored values are what a QuantizeLinear makes of them."""
        stored, clamp = source.quantisation, target.clamp
        low, high = self._graph.ranges.get(source.name, (np.iinfo(dtype).min, np.iinfo(dtype).max))
        return bool(dtype == target.zero_point.dtype and np.array_equal(stored.scale, target.scale)
                    and np.array_equal(stored.zero_point, target.zero_point)
                    and (clamp is None or (clamp[0] <= low and high <= clamp[1])))


def _finished(node: OnnxNode, end: Sequence[str], outputs: list[str]) -> OnnxNode:
    """Operator on stored integers with the scale and the zero point of its result."""
    return replace(node, inputs=[*node.inputs, *end], outputs=outputs, attributes=dict(node.attributes))


def _ends(node: OnnxNode) -> Callable[[OnnxNode], OnnxNode]:
    """Function that gives an operator on stored integers the result of a QuantizeLinear."""
    return lambda end: _finished(node, end.inputs[1:], end.outputs)


def _bias(graph: Builder, node: OnnxNode, operands: Sequence[_Stored], end: OnnxNode) -> str:
    """Name of the third operand in steps of the sums of products of the first two, or nothing if there is none."""
    alpha, beta = (np.float64(np.float32(node.attributes.get(name, 1.0))) for name in ("alpha", "beta"))
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not np.isfinite(value) or (name == "alpha" and value <= 0):
            raise PearrayError(f"{name} must be finite{' and above 0' if name == 'alpha' else ''}, not {value}")
    if len(operands) < 3 or not beta:
        return ""
    x, w, bias = (operand.quantisation for operand in operands)
    # The product of the scales, exact, for each output channel if there are several.
    step = np.asarray(np.float64(one("x_scale", x.scale)) * w.scale.astype(np.float64) * alpha / beta)
    if node.op_type == "ConvTranspose" and step.ndim:
        # Scales of weights are those of each group's outputs.
        step = np.tile(step, whole(1)("group", node.attributes.get("group", 1)))
    return steps_of_sums(graph, end, operands[2].name, bias, step)


def _check_average(graph: Builder, node: OnnxNode, operands: Sequence[_Stored]) -> None:
    taken = node.attributes
    if taken.get("ceil_mode") and taken.get("count_include_pad") and taken.get("auto_pad", b"NOTSET") == b"NOTSET":
        sizes, kernel = graph.image(operands[0].name), two("kernel_shape", taken.get("kernel_shape"), (1, 1))
        strides, pads = two("strides", taken.get("strides"), (1, 1)), taken.get("pads") or (0, 0, 0, 0)
        for axis, size in enumerate(sizes):
            span = size + pads[axis] + pads[axis + 2] - kernel[axis]
            if span % strides[axis] and (span // strides[axis] + 1) * strides[axis] < size + pads[axis]:
                # The float operator counts the padding in such a window, the quantised one all of the window.
                raise PearrayError("count_include_pad must be 0 where ceil_mode lets a window hang over the padding, "
                                   "not 1")


def _check_sum(graph: Builder, node: OnnxNode, operands: Sequence[_Stored]) -> None:
    """Check shapes of what is added before a normalisation, which the runtime broadcasts over batches only."""
    x, skip = (tuple(graph.tensor(operand.name).shape) for operand in operands)
    if len(x) not in (2, 3):
        raise PearrayError(f"input must have 2 or 3 dimensions, not shape {x}")
    allowed = [x] if len(x) == 2 else [x, (1, *x[1:]), x[1:]]
    if skip not in allowed:
        raise PearrayError(f"skip must have shape {' or '.join(map(str, dict.fromkeys(allowed)))}, not {skip}")


class _Form(NamedTuple):
    """Quantised form of a float operator.

    Members
    -------
    op_type, domain : str
        Operator. It takes each operand with its scale and zero point, then those of the result.
    bias_at : int or None
        Place of a bias among these.
    check : callable or None
        Refuses a node whose form would not compute the same.
    """

    op_type: str
    domain: str = ""
    bias_at: int | None = None
    check: Callable[[Builder, OnnxNode, Sequence[_Stored]], None] | None = None

    def make(self, graph: Builder, node: OnnxNode, operands: Sequence[_Stored], end: OnnxNode) -> OnnxNode:
        """Quantised operator of a float one, whose result `end` quantises."""
        if self.check is not None:
            self.check(graph, node, operands)
        inputs = [name for operand in operands[:2] for name in (operand.name, operand.scale, operand.zero_point)]
        inputs += end.inputs[1:]
        if self.bias_at is not None:
            inputs.insert(self.bias_at, _bias(graph, node, operands, end))
        # The bias is in steps of the product already.
        attributes = {name: value for name, value in node.attributes.items() if name != "beta"}
        return node.standing_for(self.op_type, inputs, end.outputs, attributes, self.domain)


#: Operators with a quantised form that a node of a file may have.
_QUANTISED: dict[str, _Form | Joined] = {
    "Add": _Form("QLinearAdd", MICROSOFT),
    "AveragePool": _Form("QLinearAveragePool", MICROSOFT, check=_check_average),
    "Concat": Joined(),
    "Conv": _Form("QLinearConv", bias_at=8),
    "ConvTranspose": _Form("ConvTranspose", OWN, bias_at=8),
    "Gemm": _Form("QGemm", MICROSOFT, bias_at=6),
    "GlobalAveragePool": _Form("QLinearGlobalAveragePool", MICROSOFT),
    "MatMul": _Form("QLinearMatMul"),
    "Mul": _Form("QLinearMul", MICROSOFT),
    "Softmax": _Form("QLinearSoftmax", MICROSOFT),
    "Sub": _Form("Sub", OWN),
}

#: Operators with one, and those that stand for a part of a node.
_FORMS = _QUANTISED | {SUMS[True]: _Form("Add", OWN, check=_check_sum),
                       SUMS[False]: _Form("QLinearAdd", MICROSOFT, check=_check_sum)}

#: Float operators that may stand between DequantizeLinear and QuantizeLinear.
FLOAT_OPERATORS = tuple(sorted({*_MOVING, *_LIMITING, *UNARY, *FUSED, *ATTENTION, *NORMS, "RotaryEmbedding",
                                *_QUANTISED}))
