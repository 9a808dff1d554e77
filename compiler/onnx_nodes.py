"""Each supported ONNX operator as nodes of a graph."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..hdl.errors import PearrayError
from .graph import Node, Tensor
from .operator import Operator
from .operators import (
    Conv2d,
    Dequantize,
    Gemm,
    Lookup,
    MaxPool2d,
    Quantize,
    Relu,
    Requant,
    Reshape,
)
from .requant import check_scale, check_zero_point

__all__ = ["HANDLERS", "Builder", "OnnxNode", "add_constant_table", "spatial_padding"]

MICROSOFT = "com.microsoft"


class OnnxNode:
    """A node of an ONNX file, with its attributes decoded.

    Parameters
    ----------
    proto : onnx.NodeProto
        The node.
    """

    def __init__(self, proto: Any):
        from onnx import helper

        self.proto = proto
        self.op_type: str = proto.op_type
        self.domain: str = "" if proto.domain == "ai.onnx" else proto.domain
        self.inputs: list[str] = list(proto.input)
        self.outputs: list[str] = list(proto.output)
        self.name: str = proto.name or next((name for name in self.outputs if name), proto.op_type)
        self.attributes: dict[str, Any] = {
            item.name: helper.get_attribute_value(item) for item in proto.attribute}

    @property
    def label(self) -> str:
        """Operator with its domain."""
        return f"{self.domain}.{self.op_type}" if self.domain else self.op_type

    def take(self, **defaults: Any) -> dict[str, Any]:
        """Attributes by name, with their defaults, after checking that there are no others.

        Raises
        ------
        PearrayError
            If the node has an attribute that is not named here.
        """
        for name in self.attributes:
            if name not in defaults:
                raise PearrayError(f"attribute {name} = {self.attributes[name]!r} is not supported")
        values = {name: self.attributes.get(name, default) for name, default in defaults.items()}
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


@dataclass
class Builder:
    """Graph under construction.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Tensors made so far, and the graph's inputs.
    constants : dict of str to ndarray
        Tensors known at compile time.
    """

    tensors: dict[str, Tensor]
    constants: dict[str, np.ndarray]
    nodes: list[Node] = field(default_factory=list)
    #: First dimension that the file gives to its inputs, and the one wanted instead.
    batches: tuple[int, int] | None = None

    def tensor(self, name: str) -> Tensor:
        """Shape and type of a tensor, constant or not."""
        if name in self.constants:
            value = self.constants[name]
            return Tensor(name, value.shape, value.dtype)
        if name not in self.tensors:
            raise PearrayError(f"tensor {name!r} is made by no node before this one")
        return self.tensors[name]

    def constant(self, node: OnnxNode, index: int, role: str) -> np.ndarray:
        """Value of an input that must be known at compile time."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        if name not in self.constants:
            raise PearrayError(f"{role} must be a constant, not {name!r}")
        return self.constants[name]

    def add(self, node: OnnxNode, operator: Operator, inputs: dict[str, str],
            output: str | None = None) -> None:
        """Append a node that makes the first output of an ONNX node, or a named one on the way to it."""
        specs = operator.infer({role: self.tensor(name) for role, name in inputs.items()})
        name = node.outputs[0] if output is None else output
        label = node.name if output is None else output
        shape, dtype = specs["y"]
        self.tensors[name] = Tensor(name, shape, dtype)
        self.nodes.append(Node(label, operator, inputs, {"y": name}))


Handler = Callable[[OnnxNode, Builder], None]
HANDLERS: dict[tuple[str, str], Handler] = {}


def _handles(*op_types: str, domain: str = "") -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        HANDLERS.update({(domain, op_type): handler for op_type in op_types})
        return handler

    return register


def _optional(node: OnnxNode, index: int) -> str:
    return node.inputs[index] if index < len(node.inputs) else ""


def _scalar(value: np.ndarray) -> np.ndarray:
    # Scales and zero points of one value may be scalars or vectors of one.
    return value.reshape(()) if value.size == 1 else value


def _quantisation(node: OnnxNode, graph: Builder, index: int, what: str) -> tuple[np.ndarray, Any]:
    """Scale and zero point that stand at `index` and the one after it."""
    scale = _scalar(graph.constant(node, index, f"{what}_scale"))
    if not _optional(node, index + 1):
        return scale, np.uint8(0) if node.domain == "" else np.int8(0)
    return scale, _scalar(graph.constant(node, index + 1, f"{what}_zero_point"))[()]


def _one_output(node: OnnxNode) -> None:
    if any(node.outputs[1:]):
        raise PearrayError(f"output {node.outputs[1]!r} is not supported; only the first one is")


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
        If `auto_pad` is none of these, or a pad is negative.
    """
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise PearrayError(f"auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {auto_pad!r}")
    if auto_pad == "VALID":
        return 0, 0, 0, 0
    if auto_pad == "NOTSET":
        values = [int(value) for value in pads or (0, 0, 0, 0)]
        if len(values) != 4 or min(values) < 0:
            raise PearrayError(f"pads must be four integers of at least 0, not {values}")
        return values[0], values[1], values[2], values[3]
    begins, ends = [], []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begins.append(small if auto_pad == "SAME_UPPER" else large)
        ends.append(large if auto_pad == "SAME_UPPER" else small)
    return begins[0], begins[1], ends[0], ends[1]


def _two(name: str, value: Any, default: tuple[int, int]) -> tuple[int, int]:
    values = tuple(int(item) for item in (default if value is None else value))
    if len(values) != 2 or min(values) < 1:
        raise PearrayError(f"{name} must be two integers of at least 1, not {list(values)}: only two spatial "
                           f"dimensions are supported")
    return values[0], values[1]


def _image(graph: Builder, name: str) -> tuple[int, int]:
    shape = graph.tensor(name).shape
    if len(shape) != 4:
        raise PearrayError(f"input {name!r} must have 4 dimensions (N, C, H, W), not shape {shape}")
    return shape[2], shape[3]


@_handles("QLinearConv")
def _convolution(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None)
    weights = graph.constant(node, 3, "w")
    x, w, y = (_quantisation(node, graph, index, name) for index, name in ((1, "x"), (4, "w"), (6, "y")))
    size = _image(graph, node.inputs[0])
    if weights.ndim != 4:
        raise PearrayError(f"w must have 4 dimensions (M, C, R, S), not shape {weights.shape}")
    kernel = _two("kernel_shape", taken["kernel_shape"], weights.shape[2:])
    if kernel != weights.shape[2:]:
        raise PearrayError(f"kernel_shape must be that of w, {weights.shape[2:]}, not {kernel}")
    strides, dilations = (_two(name, taken[name], (1, 1)) for name in ("strides", "dilations"))
    padding = spatial_padding(taken["auto_pad"], taken["pads"], size, kernel, strides, dilations)
    inputs = {"x": node.inputs[0], "w": node.inputs[3]}
    if _optional(node, 8):
        graph.constant(node, 8, "B")
        inputs["b"] = node.inputs[8]
    requant = Requant.onnx(*x, *w, *y)
    graph.add(node, Conv2d(stride=strides, padding=padding, dilation=dilations, groups=taken["group"],
                           requant=requant), inputs)


@_handles("QGemm", domain=MICROSOFT)
def _gemm(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(alpha=1.0, transA=0, transB=0)
    if not _optional(node, 7):
        raise PearrayError("y_scale is missing: a float output is not supported")
    a, b, y = (_quantisation(node, graph, index, name) for index, name in ((1, "a"), (4, "b"), (7, "y")))
    # The runtime's order: alpha meets a's scale first.
    scale = np.float32(taken["alpha"]) * a[0].astype(np.float32)
    left, right = graph.tensor(node.inputs[0]).shape, graph.tensor(node.inputs[3]).shape
    if len(left) != 2 or len(right) != 2:
        raise PearrayError(f"a and b must have 2 dimensions, not shapes {left} and {right}")
    m, n = left[bool(taken["transA"])], right[not taken["transB"]]
    inputs = {"a": node.inputs[0], "b": node.inputs[3]}
    if _optional(node, 6):
        inputs["c"] = _addend(graph, node, graph.constant(node, 6, "C"), m, n)
    graph.add(node, Gemm(trans_a=bool(taken["transA"]), trans_b=bool(taken["transB"]),
                         requant=Requant.onnx(scale, a[1], *b, *y)), inputs)


def _addend(graph: Builder, node: OnnxNode, value: np.ndarray, m: int, n: int) -> str:
    """Name of a constant with the shape that Gemm takes: (n,) or (m, n)."""
    name = node.inputs[6]
    if value.shape in ((n,), (m, n)) and m > 1:
        return name
    try:
        value = np.broadcast_to(value, (m, n) if value.ndim == 2 and value.shape[0] > 1 else (1, n))
    except ValueError:
        raise PearrayError(f"C must broadcast to shape ({m}, {n}), not have shape {value.shape}") from None
    name = f"{name}:{node.name}"
    graph.constants[name] = np.ascontiguousarray(value if value.shape[0] > 1 else value[0])
    return name


@_handles("QLinearMatMul")
def _matrix_product(node: OnnxNode, graph: Builder) -> None:
    node.take()
    a, b, y = (_quantisation(node, graph, index, name) for index, name in ((1, "a"), (4, "b"), (6, "y")))
    left, right = graph.tensor(node.inputs[0]).shape, graph.tensor(node.inputs[3]).shape
    if len(right) != 2 or len(left) < 2:
        raise PearrayError(f"a must have 2 or more dimensions and b 2, not shapes {left} and {right}")
    operator = Gemm(requant=Requant.onnx(a[0], a[1], b[0].reshape(-1), b[1], *y))
    if len(left) == 2:
        graph.add(node, operator, {"a": node.inputs[0], "b": node.inputs[3]})
        return
    rows, result = f"{node.outputs[0]}:rows", f"{node.outputs[0]}:product"
    graph.add(node, Reshape((-1, left[-1])), {"x": node.inputs[0]}, rows)
    graph.add(node, operator, {"a": rows, "b": node.inputs[3]}, result)
    graph.add(node, Reshape((*left[:-1], right[1])), {"x": result})


def add_constant_table(a: tuple[Any, Any], b: tuple[Any, Any], y: tuple[Any, Any], constant: np.ndarray,
                       dtype: np.dtype, *, constant_first: bool) -> np.ndarray:
    """Table of onnxruntime's QLinearAdd of a constant, over every value of the other operand.

    The runtime computes, with one rounding for each fused multiply-add,
    ``rint(ra * a + (rb * b + (zy - (ra * za + rb * zb))))`` where ``ra = sa / sy``, ``rb = sb / sy``;
    the roles of a and b decide the last bit (measured on every value of some thousand operand pairs).

    Parameters
    ----------
    a, b, y : (scale, zero point)
        Quantisation of the variable operand, the constant and the output.
    constant : array of shape (C,), 8-bit integer
        The constant, one value for each channel.
    dtype : dtype
        Type of the variable operand.
    constant_first : bool
        The constant has the runtime's role a.

    Returns
    -------
    array of shape (C, 256) of the type of the output's zero point
        Entry i belongs to the stored value whose low 8 bits are i.
    """
    variable = np.arange(256, dtype=np.uint8).view(dtype)[None, :]
    (sy, zy), info = y, np.iinfo(y[1].dtype)
    first, second = ((a, variable), (b, constant[:, None]))[::-1 if constant_first else 1]
    ra, rb = (np.float32(check_scale("scale", operand[0][0]) / check_scale("C_scale", sy))
              for operand in (first, second))
    za, zb = (check_zero_point("zero_point", operand[0][1]) for operand in (first, second))

    def fused(factor: np.float32, values: Any, addend: Any) -> Any:
        # The product is exact in float64, so that one rounding to float32 remains.
        return (np.float64(factor) * values + np.asarray(addend, np.float64)).astype(np.float32)

    offset = np.float32(zy) - fused(ra, np.float64(za), rb * np.float32(zb))
    total = fused(ra, first[1].astype(np.float64), fused(rb, second[1].astype(np.float64), offset))
    table: np.ndarray = np.clip(np.rint(total), info.min, info.max).astype(info.dtype)
    return table


@_handles("QLinearAdd", domain=MICROSOFT)
def _add_constant(node: OnnxNode, graph: Builder) -> None:
    node.take()
    fixed = [index for index in (0, 3) if node.inputs[index] in graph.constants]
    if len(fixed) != 1:
        raise PearrayError("one of A and B must be a constant: a sum of two activations is not supported")
    index, other = fixed[0], 3 - fixed[0]
    x = graph.tensor(node.inputs[other])
    value = graph.constants[node.inputs[index]]
    shape = (1,) * (len(x.shape) - value.ndim) + value.shape
    channels = x.shape[1] if len(x.shape) > 1 else 1
    if len(shape) != len(x.shape) or any(size != 1 and axis != 1 for axis, size in enumerate(shape)) or (
            value.size not in (1, channels)):
        raise PearrayError(f"the constant must be one value or one for each of the {channels} channels of an "
                           f"input of shape {x.shape}, not of shape {value.shape}")
    variable, constant, y = (_quantisation(node, graph, at, what)
                             for at, what in ((other + 1, "A"), (index + 1, "B"), (6, "C")))
    # Where one operand is a scalar over the innermost dimensions, the runtime gives it role b.
    spread = value.size == 1 or int(np.prod(x.shape[2:], dtype=np.int64)) > 1
    table = add_constant_table(variable, constant, y, value.reshape(-1), x.dtype,
                               constant_first=index == 0 and not spread)
    graph.add(node, Lookup(table[0] if len(table) == 1 else table), {"x": x.name})


@_handles("MaxPool")
def _max_pool(node: OnnxNode, graph: Builder) -> None:
    _one_output(node)
    taken = node.take(auto_pad="NOTSET", ceil_mode=0, dilations=None, kernel_shape=None, pads=None,
                      storage_order=0, strides=None)
    size = _image(graph, node.inputs[0])
    kernel, strides, dilations = (_two(name, taken[name], (1, 1))
                                  for name in ("kernel_shape", "strides", "dilations"))
    top, left, bottom, right = spatial_padding(taken["auto_pad"], taken["pads"], size, kernel, strides,
                                               dilations)
    if taken["ceil_mode"] and taken["auto_pad"] == "NOTSET":
        # Padding never wins, so a window cut off by the end is a whole one over more padding.
        bottom, right = (_ceiling(size[axis], pads, kernel[axis], strides[axis], dilations[axis])
                         for axis, pads in enumerate(((top, bottom), (left, right))))
    padding = (top, left, bottom, right)
    graph.add(node, MaxPool2d(kernel=kernel, stride=strides, padding=padding, dilation=dilations),
              {"x": node.inputs[0]})


def _ceiling(size: int, pads: tuple[int, int], taps: int, stride: int, dilation: int) -> int:
    """Find the padding at the end with which the last, partial window becomes whole."""
    reach = dilation * (taps - 1) + 1
    count = -(-(size + sum(pads) - reach) // stride) + 1
    # A window must begin inside the input or the padding before it.
    if (count - 1) * stride >= size + pads[0]:
        count -= 1
    return max((count - 1) * stride + reach - size - pads[0], 0)


@_handles("Relu")
def _relu(node: OnnxNode, graph: Builder) -> None:
    node.take()
    x = graph.tensor(node.inputs[0])
    if x.dtype.kind not in "iu":
        raise PearrayError(f"input {x.name!r} must be quantised, not {x.dtype}")
    graph.add(node, Relu(), {"x": x.name})


@_handles("Reshape")
def _reshape(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(allowzero=0)
    x = graph.tensor(node.inputs[0])
    target = [int(size) for size in graph.constant(node, 1, "shape")]
    if not taken["allowzero"]:
        target = [x.shape[axis] if size == 0 and axis < len(x.shape) else size
                  for axis, size in enumerate(target)]
    if graph.batches and target and target[0] == graph.batches[0] and x.shape[0] == graph.batches[1]:
        target[0] = graph.batches[1]
    graph.add(node, Reshape(tuple(target)), {"x": x.name})


@_handles("Flatten")
def _flatten(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(axis=1)
    x = graph.tensor(node.inputs[0])
    axis = taken["axis"] + (len(x.shape) if taken["axis"] < 0 else 0)
    outer = int(np.prod(x.shape[:axis], dtype=np.int64))
    graph.add(node, Reshape((outer, int(np.prod(x.shape[axis:], dtype=np.int64)))), {"x": x.name})


@_handles("Squeeze", "Unsqueeze")
def _squeeze(node: OnnxNode, graph: Builder) -> None:
    node.take()
    x = graph.tensor(node.inputs[0])
    shape = list(x.shape)
    if node.op_type == "Squeeze":
        axes = ([axis for axis, size in enumerate(shape) if size == 1] if not _optional(node, 1)
                else [int(axis) % len(shape) for axis in graph.constant(node, 1, "axes")])
        shape = [size for axis, size in enumerate(shape) if axis not in axes]
    else:
        given = [int(axis) for axis in graph.constant(node, 1, "axes")]
        for axis in sorted(axis % (len(shape) + len(given)) for axis in given):
            shape.insert(axis, 1)
    graph.add(node, Reshape(tuple(shape)), {"x": x.name})


@_handles("Identity")
def _identity(node: OnnxNode, graph: Builder) -> None:
    graph.add(node, Reshape(graph.tensor(node.inputs[0]).shape), {"x": node.inputs[0]})


@_handles("QuantizeLinear")
def _quantise(node: OnnxNode, graph: Builder) -> None:
    node.take(axis=1, saturate=1)
    x = graph.tensor(node.inputs[0])
    if x.dtype != np.float32:
        raise PearrayError(f"input {x.name!r} must be float32, not {x.dtype}")
    scale, zero_point = _quantisation(node, graph, 1, "y")
    graph.add(node, Quantize(_one("y_scale", scale), zero_point), {"x": x.name})


@_handles("DequantizeLinear")
def _dequantise(node: OnnxNode, graph: Builder) -> None:
    node.take(axis=1)
    x = graph.tensor(node.inputs[0])
    scale, zero_point = _quantisation(node, graph, 1, "x")
    graph.add(node, Dequantize(_one("x_scale", scale), zero_point), {"x": x.name})


def _one(name: str, scale: np.ndarray) -> float:
    if check_scale(name, scale).ndim:
        raise PearrayError(f"{name} must be one value, not {scale.size}")
    return float(scale)
