"""Nodes of an ONNX file, the graph made of them, and the register of the operators that are known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ....hdl.errors import PearrayError
from ...graph.graph import Node, Tensor
from ...operators import Given, Reshape, Transpose
from ...operators.fields import check_scale
from ...operators.operator import Operator
from ..building import GraphBuilder, same_padding

__all__ = [
    "HANDLERS", "MICROSOFT", "OWN", "Builder", "Handler", "NodeError", "OnnxNode", "Quantisation", "attempt", "handles",
    "one", "spatial_padding", "two",
]

MICROSOFT = "com.microsoft"

#: Domain of quantised operators that no runtime has under a name of its own.
OWN = "pearray"


#: Attributes of nodes that stand for several of a file: limits behind them, and whether they are no kernel on integers.
_INNER = ("activation", "is_float")


@dataclass
class OnnxNode:
    """A node of an ONNX file, with its attributes decoded.

    Parameters
    ----------
    op_type, domain : str
        Operator; the standard's domain is empty.
    name : str
        Name of the node, or of its output if it has none.
    inputs, outputs : list of str
        Tensors; an absent one is empty.
    attributes : dict
        Attributes by name.
    proto : onnx.NodeProto or None
        The node in the file; None for one that stands for several.
    shown : str
        Operator that messages name, if it is not that of the node.
    """

    op_type: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    proto: Any = None
    shown: str = ""

    @classmethod
    def of(cls, proto: Any) -> "OnnxNode":
        """Decode a node of the file."""
        from onnx import helper

        outputs = list(proto.output)
        return cls(
            proto.op_type, "" if proto.domain == "ai.onnx" else proto.domain,
            proto.name or next((name for name in outputs if name), proto.op_type), list(proto.input), outputs,
            {item.name: helper.get_attribute_value(item) for item in proto.attribute}, proto)

    def input(self, index: int) -> str:
        """Name of an input that may be absent, then empty."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def standing_for(self, op_type: str, inputs: list[str], outputs: list[str],
                     attributes: dict[str, Any] | None = None, domain: str = "") -> "OnnxNode":
        """Return another operator under this node's name."""
        return OnnxNode(op_type, domain, self.name, inputs, outputs, dict(attributes or {}))

    @property
    def label(self) -> str:
        """Operator with its domain."""
        return self.shown or (f"{self.domain}.{self.op_type}" if self.domain else self.op_type)

    def take(self, **defaults: Any) -> dict[str, Any]:
        """Attributes by name, with their defaults, after checking that there are no others.

        Each has the type of its default; None stands for a list of integers.
        """
        for name in self.attributes:
            # What stands for several nodes may have what no node of a file has.
            if name not in defaults or (name in _INNER and self.proto is not None):
                known = ", ".join(known for known in defaults if known not in _INNER) or "none"
                raise PearrayError(f"attribute {name} = {self.attributes[name]!r} is not supported; known: {known}")
        values = {name: self.attributes.get(name, default) for name, default in defaults.items()}
        values = {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
        for name, value in values.items():
            default = defaults[name]
            if name in self.attributes and name not in _INNER and not (
                    isinstance(value, type(default)) if default is not None else
                    isinstance(value, list) and all(isinstance(item, int) for item in value)):
                kind = "a list of integers" if default is None else f"of type {type(default).__name__}"
                raise PearrayError(f"attribute {name} must be {kind}, not {value!r}")
        return values


class NodeError(PearrayError):
    """A mistake in a node, which its message names.

    Parameters
    ----------
    node : OnnxNode
        The node.
    reason : str
        The message without the node.
    """

    def __init__(self, node: OnnxNode, reason: str):
        super().__init__(f"node {node.name!r} ({node.label}): {reason}")
        self.node, self.reason = node, reason


def attempt(node: OnnxNode, action: Callable[..., Any], *arguments: Any) -> Any:
    """Do something with a node; an error names the node, unless it names one already.

    Raises
    ------
    PearrayError
        If the node cannot be taken; golden models raise ValueError for values that they don't define.
    """
    try:
        return action(*arguments)
    except NodeError:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split())
    except IndexError:
        reason = f"inputs must be more than {len(node.inputs)}"
    raise NodeError(node, reason)


class Quantisation(NamedTuple):
    """How a tensor is stored.

    Members
    -------
    scale : float32 array of shape () or (channels,)
        Scale, or one for each channel.
    zero_point : integer or array of them
        Zero point, in the type of the stored tensor.
    clamp : (int, int) or None
        Range of the stored values, if narrower than that of their type.
    axis : int
        Axis of the scales.
    """

    scale: np.ndarray
    zero_point: Any
    clamp: tuple[int, int] | None = None
    axis: int = 1


@dataclass
class Builder(GraphBuilder):
    """Graph under construction."""

    #: Range of the values of tensors that the file stores in fewer bits than the type that holds them here.
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: Versions of the operator sets and of the format of the file.
    opsets: dict[str, int] = field(default_factory=dict)
    ir_version: int = 10
    #: First dimension that the file gives to its inputs, and the one wanted instead.
    batches: tuple[int, int] | None = None
    #: Tensors of the file that a run gives, or that the host makes of these for masks, with their names in the graph.
    given: dict[str, str] = field(default_factory=dict)
    #: Values of inputs of the network, which become constants where operators take nothing else.
    offered: Mapping[str, np.ndarray] = field(default_factory=dict)
    #: Names of the graph's nodes that compute.
    _labels: set[str] = field(default_factory=set)

    def store(self, name: str, value: np.ndarray, bounds: tuple[int, int] | None = None) -> str:
        """Add a constant that the file does not have, under a name like `name`, and return its name."""
        name = super().store(name, value)
        if bounds is not None:
            self.ranges[name] = bounds
        return name

    def constant(self, node: OnnxNode, index: int, role: str) -> np.ndarray:
        """Value of an input that must be known at compile time."""
        name = node.input(index)
        if name in self.offered and name not in self.constants:
            self.constants[name] = self.offered[name].copy()
        if name not in self.constants:
            raise PearrayError(f"{role} must be a constant, not {name!r}")
        return self.constants[name]

    def integers(self, node: OnnxNode, index: int, role: str) -> list[int]:
        """Values of a vector of integers that must be known at compile time."""
        value = self.constant(node, index, role)
        if value.dtype != np.int64 or value.ndim != 1:
            raise PearrayError(f"{role} must be a vector of int64, not {value.dtype} of shape {value.shape}")
        return [int(item) for item in value]

    def image(self, name: str) -> tuple[int, int]:
        """Return height and width of a tensor that must be an image."""
        shape = self.tensor(name).shape
        if len(shape) != 4:
            raise PearrayError(f"input {name!r} must have 4 dimensions (N, C, H, W), or 3 (N, C, L), not shape {shape}")
        return shape[2], shape[3]

    def quantisation(self, node: OnnxNode, index: int, what: str, dtype: Any = None,
                     absent: Any = None) -> Quantisation:
        """Scale and zero point of a tensor, which messages call `what`: the inputs at `index` and the one after it.

        The zero point must be of type `dtype`, if that is given. An absent one is 0 of type `absent`; without that
        there must be one.

        Raises
        ------
        PearrayError
            If a scale is not constant, float32, finite and positive, or a zero point is missing, has another type, or
            not as many values as the scale.
        """
        scale = self.constant(node, index, f"{what}_scale")
        if scale.dtype != np.float32:
            raise PearrayError(f"{what}_scale must be float32, not {scale.dtype}")
        scale = check_scale(f"{what}_scale", _vector(scale))
        if not node.input(index + 1):
            if absent is None:
                raise PearrayError(f"{what}_zero_point is missing; give one of the type that {what} is stored in")
            return Quantisation(scale, np.dtype(absent).type(0))
        point = _vector(self.constant(node, index + 1, f"{what}_zero_point"))
        # Sums, of int32, have a zero point only where their own type is asked for.
        stored = "int8", "uint8", "int16", "uint16", "int32"
        if point.dtype.name not in stored[:4 if dtype is None else 5] or (dtype is not None and point.dtype != dtype):
            allowed = "int8, uint8, int16 or uint16" if dtype is None else f"{np.dtype(dtype)}, as {what} is"
            raise PearrayError(f"{what}_zero_point must be {allowed}, not {point.dtype}")
        if point.size not in (1, scale.size):
            raise PearrayError(f"{what}_zero_point must have one value or as many as {what}_scale ({scale.size}), "
                               f"not {point.size}")
        return Quantisation(scale, point[()], self.ranges.get(node.inputs[index + 1]))

    def add(self, node: OnnxNode, operator: Operator, inputs: dict[str, str], output: str | None = None,
            bounds: tuple[int, int] | None = None) -> None:
        """Append a node that makes the first output of an ONNX node, or a named one on the way to it.

        `bounds` are those of its values, if narrower than those of their type.
        """
        shape, dtype = operator.infer({role: self.tensor(name) for role, name in inputs.items()})["y"]
        name = node.outputs[0] if output is None else output
        self.tensors[name] = Tensor(name, shape, dtype)
        self.nodes.append(Node(self._label(node, operator, name), operator, inputs, {"y": name}))
        if bounds is not None:
            self.ranges[name] = bounds

    def append(self, node: OnnxNode, operator: Operator, inputs: dict[str, str]) -> None:
        """Append a node that makes all outputs of an ONNX node that somebody reads."""
        specs = operator.infer({role: self.tensor(name) for role, name in inputs.items()})
        outputs = {role: name for role, name in zip(operator.outputs, node.outputs, strict=False) if name}
        self.tensors |= {name: Tensor(name, *specs[role]) for role, name in outputs.items()}
        self.nodes.append(Node(self._label(node, operator, next(iter(outputs.values()))), operator, inputs, outputs))

    def _label(self, node: OnnxNode, operator: Operator, name: str) -> str:
        """Name of a node of the graph that makes a tensor: that of the file's node, if it alone computes for it."""
        if isinstance(operator, (Given, Reshape, Transpose)):
            return name
        label = node.name
        while label in self._labels:
            label = name if label == node.name != name else f"{label}'"
        self._labels.add(label)
        return label


Handler = Callable[[OnnxNode, Builder], None]
HANDLERS: dict[tuple[str, str], Handler] = {}


def handles(*op_types: str, domain: str = "") -> Callable[[Handler], Handler]:
    """Register a function for ONNX operators of a domain."""
    def register(handler: Handler) -> Handler:
        HANDLERS.update({(domain, op_type): handler for op_type in op_types})
        return handler

    return register


def _vector(value: np.ndarray) -> np.ndarray:
    # One value may be a scalar or a vector; one for each column of a matrix may have the matrix's rank.
    if value.size == 1:
        return value.reshape(())
    return value.reshape(-1) if value.ndim and value.size == value.shape[-1] else value


def spatial_padding(auto_pad: str, pads: Any, sizes: tuple[int, int], kernel: tuple[int, int],
                    strides: tuple[int, int], dilations: tuple[int, int]) -> tuple[int, int, int, int]:
    """Find the padding (top, left, bottom, right) of an ONNX window.

    Parameters
    ----------
    auto_pad : str
        ``NOTSET``, ``VALID``, ``SAME_UPPER`` or ``SAME_LOWER``; the last two give
        ``ceil(size / stride)`` outputs, the odd element going to the end or to the beginning.
    pads : sequence of 4 int, or None
        Explicit padding, begins before ends.
    sizes, kernel, strides, dilations : (int, int)
        Vertical and horizontal.

    Raises
    ------
    PearrayError
        If `auto_pad` is none of these, a pad is negative, or both are given.
    """
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise PearrayError(f"auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {auto_pad!r}")
    if auto_pad != "NOTSET" and any(pads or ()):
        raise PearrayError(f"pads must be absent where auto_pad is {auto_pad}, not {pads}")
    if auto_pad == "VALID":
        return 0, 0, 0, 0
    if auto_pad == "NOTSET":
        values = list(pads or (0, 0, 0, 0))
        if len(values) != 4 or min(values) < 0:
            raise PearrayError(f"pads must be four integers of at least 0, not {values}")
        return values[0], values[1], values[2], values[3]
    begins, ends = [], []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = same_padding(size, taps, stride, dilation)
        small, large = total // 2, total - total // 2
        begins.append(small if auto_pad == "SAME_UPPER" else large)
        ends.append(large if auto_pad == "SAME_UPPER" else small)
    return begins[0], begins[1], ends[0], ends[1]


def two(name: str, value: Any, default: tuple[int, int]) -> tuple[int, int]:
    """Return an attribute of two integers, vertical and horizontal."""
    values = tuple(default if value is None else value)
    if len(values) != 2 or min(values) < 1:
        raise PearrayError(f"{name} must be two integers of at least 1, not {list(values)}: only two spatial "
                           f"dimensions are supported")
    return values[0], values[1]


def one(name: str, scale: np.ndarray) -> float:
    """Return a scale that must be one value."""
    if check_scale(name, scale).ndim:
        raise PearrayError(f"{name} must be one value, not {scale.size}")
    return float(scale)
