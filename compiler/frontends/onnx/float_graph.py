"""ONNX networks on float32 as graphs of float operators, which can be differentiated; no accelerator is asked.

Nodes all of whose inputs are known are computed. Names of the file's tensors stay, so that weights are the constants
of their names.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ... import operators as op
from ...graph.graph import Graph
from .builder import NodeError, OnnxNode, attempt, spatial_padding, two
from .folding import computed
from .reading import inputs_of, opsets_of

__all__ = ["float_graph"]


class _Walk:
    """What is known of a network up to some node."""

    def __init__(self, model: Any, constants: Mapping[str, np.ndarray], batch: int | None):
        self.graph, self.known, self.alias = Graph(), dict(constants), dict[str, str]()
        self.opsets = opsets_of(model)
        for name, tensor in inputs_of(model, batch).items():
            if -1 in tensor.shape:
                raise PearrayError(f"input {name!r} of the ONNX file has no size for dimension "
                                   f"{tensor.shape.index(-1)}: export it with one to train it")
            self.graph.input(name, tensor.shape, tensor.dtype)

    def value(self, node: OnnxNode, index: int, what: str) -> np.ndarray:
        """Value of an input that must be known."""
        name = self.alias.get(node.input(index), node.input(index))
        if name not in self.known:
            raise PearrayError(f"{what} {name!r} must be constant")
        return self.known[name]

    def tensor(self, name: str) -> str:
        """Tensor of the graph of a name of the file, whose constants get into the graph when they are first read."""
        name = self.alias.get(name, name)
        if name in self.known and name not in self.graph.constants:
            self.graph.constant(name, self.known[name])
        if name not in self.graph.tensors:
            raise PearrayError(f"tensor {name!r} is made by no node before")
        return name

    def shape(self, node: OnnxNode, index: int = 0) -> tuple[int, ...]:
        """Shape of an input."""
        return self.graph.tensors[self.tensor(node.inputs[index])].shape

    def add(self, node: OnnxNode, operator: op.Operator, *roles: str) -> None:
        """Add an operator that takes the node's inputs, as far as they are there, in some roles."""
        given = {role: self.tensor(name) for role, name in zip(roles, node.inputs, strict=False) if name}
        self.graph.add(node.outputs[0], operator, **given)


def float_graph(model: Any, constants: Mapping[str, np.ndarray], batch: int | None = None) -> Graph:
    """Graph of a network on float32.

    Parameters
    ----------
    model : onnx.ModelProto
        The network, as :func:`.reading.read` returns it.
    constants : mapping of str to ndarray
        Its initialisers.
    batch : int, optional
        First dimension of its inputs, if it is not the file's.

    Raises
    ------
    PearrayError
        If a node is none of those that have a derivative here; the message names it.
    """
    walk = _Walk(model, constants, batch)
    for proto in model.graph.node:
        node = OnnxNode.of(proto)
        names = [walk.alias.get(name, name) for name in node.inputs if name]
        if node.op_type == "Identity":
            walk.alias[node.outputs[0]] = names[0]
        elif all(name in walk.known for name in names):
            walk.known |= computed(node, walk.known | {name: walk.known[walk.alias.get(name, name)]
                                                       for name in node.inputs if name}, walk.opsets)
        else:
            handler = _HANDLERS.get(node.op_type) if node.domain == "" else None
            if handler is None:
                raise NodeError(node, f"operator must be one of {', '.join(sorted(_HANDLERS))} to be trained")
            attempt(node, handler, node, walk)
    for item in model.graph.output:
        walk.graph.output(walk.alias.get(item.name, item.name))
    return walk.graph


def _window(node: OnnxNode, walk: _Walk, kernel: tuple[int, int], taken: Mapping[str, Any]) -> dict[str, Any]:
    """Stride, padding and dilation of a window over an image."""
    shape = walk.shape(node)
    if len(shape) != 4:
        raise PearrayError(f"input {node.inputs[0]!r} must have 4 dimensions, not shape {shape}")
    stride, dilation = (two(name, taken.get(name), (1, 1)) for name in ("strides", "dilations"))
    sizes = shape[2], shape[3]
    return {"stride": stride, "dilation": dilation,
            "padding": spatial_padding(taken["auto_pad"], taken["pads"], sizes, kernel, stride, dilation)}


_WINDOW: dict[str, Any] = {"auto_pad": "NOTSET", "pads": None, "strides": None, "kernel_shape": None}


def _conv(node: OnnxNode, walk: _Walk) -> None:
    taken, shape = node.take(**_WINDOW, dilations=None, group=1), walk.shape(node, 1)
    if len(shape) != 4:
        raise PearrayError(f"w must have 4 dimensions, not shape {shape}")
    window = _window(node, walk, (shape[2], shape[3]), taken)
    walk.add(node, op.Conv2d(**window, groups=taken["group"]), "x", "w", "b")


def _max_pool(node: OnnxNode, walk: _Walk) -> None:
    taken = node.take(**_WINDOW, dilations=None, ceil_mode=0, storage_order=0)
    kernel = two("kernel_shape", taken["kernel_shape"], (0, 0))
    walk.add(node, op.MaxPool2d(kernel, **_window(node, walk, kernel, taken), ceil_mode=bool(taken["ceil_mode"])), "x")


def _average_pool(node: OnnxNode, walk: _Walk) -> None:
    taken = node.take(**_WINDOW, ceil_mode=0, count_include_pad=0)
    kernel = two("kernel_shape", taken["kernel_shape"], (0, 0))
    window = _window(node, walk, kernel, taken)
    walk.add(node, op.AvgPool2d(kernel, window["stride"], window["padding"], ceil_mode=bool(taken["ceil_mode"]),
                                count_include_pad=bool(taken["count_include_pad"])), "x")


def _gemm(node: OnnxNode, walk: _Walk) -> None:
    taken = node.take(alpha=1.0, beta=1.0, transA=0, transB=0)
    for name in ("alpha", "beta"):
        if taken[name] != 1 and (name == "alpha" or node.input(2)):
            raise PearrayError(f"{name} must be 1 to be trained, not {taken[name]}")
    walk.add(node, op.Gemm(trans_a=bool(taken["transA"]), trans_b=bool(taken["transB"])), "a", "b", "c")


def _reshaped(node: OnnxNode, walk: _Walk, shape: Sequence[int]) -> None:
    walk.add(node, op.Reshape(tuple(shape)), "x")


def _reshape(node: OnnxNode, walk: _Walk) -> None:
    taken, shape = node.take(allowzero=0), walk.shape(node)
    sizes = walk.value(node, 1, "shape").reshape(-1).tolist()
    if not taken["allowzero"]:
        sizes = [shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    if -1 not in sizes and prod(sizes) != prod(shape):
        raise PearrayError(f"shape must be one of {prod(shape)} elements, as its input has, not {sizes}: the file "
                           "fixes another batch; export it with a free one")
    _reshaped(node, walk, sizes)


def _flatten(node: OnnxNode, walk: _Walk) -> None:
    shape = walk.shape(node)
    axis = node.take(axis=1)["axis"]
    axis += len(shape) if axis < 0 else 0
    _reshaped(node, walk, (prod(shape[:axis]), prod(shape[axis:])))


def _axes(node: OnnxNode, walk: _Walk, rank: int) -> list[int]:
    """Axes of an input or, before operator set 13, of an attribute; of reductions till 18."""
    taken = node.take(axes=None, **({"keepdims": 1, "noop_with_empty_axes": 0} if "Reduce" in node.op_type else {}))
    given = walk.value(node, 1, "axes").reshape(-1).tolist() if node.input(1) else taken["axes"] or []
    return sorted(axis % rank for axis in given)


def _squeeze(node: OnnxNode, walk: _Walk) -> None:
    shape = walk.shape(node)
    axes = _axes(node, walk, len(shape)) or [axis for axis, size in enumerate(shape) if size == 1]
    _reshaped(node, walk, [size for axis, size in enumerate(shape) if axis not in axes])


def _unsqueeze(node: OnnxNode, walk: _Walk) -> None:
    shape = walk.shape(node)
    rank = len(shape) + walk.value(node, 1, "axes").size
    axes, sizes = _axes(node, walk, rank), iter(shape)
    _reshaped(node, walk, [1 if axis in axes else next(sizes) for axis in range(rank)])


def _transpose(node: OnnxNode, walk: _Walk) -> None:
    order = node.take(perm=None)["perm"] or range(len(walk.shape(node)))[::-1]
    walk.add(node, op.Transpose(tuple(order)), "x")


def _softmax(node: OnnxNode, walk: _Walk) -> None:
    walk.add(node, op.Softmax(node.take(axis=-1)["axis"]), "x")


def _layer_norm(node: OnnxNode, walk: _Walk) -> None:
    taken, rank = node.take(axis=-1, epsilon=1e-5, stash_type=1), len(walk.shape(node))
    if taken["axis"] % rank != rank - 1 or any(node.outputs[1:]):
        raise PearrayError("axis must be the last one, and Y the only output, to be trained")
    walk.add(node, op.LayerNorm(epsilon=taken["epsilon"]), "x", "gamma", "beta")


def _reduced(kind: type[op.ReduceMean] | type[op.ReduceSum]) -> Callable[[OnnxNode, _Walk], None]:
    def handler(node: OnnxNode, walk: _Walk) -> None:
        rank = len(walk.shape(node))
        axes, keep = _axes(node, walk, rank), bool(node.attributes.get("keepdims", 1))
        walk.graph.add(node.outputs[0], kind(axes=tuple(axes) or tuple(range(rank)), keepdims=keep),
                       x=walk.tensor(node.inputs[0]))

    return handler


def _global_average(node: OnnxNode, walk: _Walk) -> None:
    node.take()
    walk.add(node, op.AvgPool2d(), "x")


def _clip(node: OnnxNode, walk: _Walk) -> None:
    node.take()
    low, high = (float(walk.value(node, place, name)) if node.input(place) else end
                 for place, name, end in ((1, "min", -np.inf), (2, "max", np.inf)))
    if (low, high) == (0, np.inf):
        walk.add(node, op.Relu(), "x")
    else:
        walk.add(node, op.Function(("clip", low, high)), "x")


def _function(name: str, **attributes: float) -> Callable[[OnnxNode, _Walk], None]:
    def handler(node: OnnxNode, walk: _Walk) -> None:
        values = node.take(**attributes)
        walk.add(node, op.Function((name, *values.values()) if values else name), "x")

    return handler


def _gelu(node: OnnxNode, walk: _Walk) -> None:
    walk.add(node, op.Gelu(approximate=node.take(approximate="none")["approximate"]), "x")


def _of_two(kind: type[op.Operator]) -> Callable[[OnnxNode, _Walk], None]:
    def handler(node: OnnxNode, walk: _Walk) -> None:
        node.take()
        walk.add(node, kind(), "a", "b")

    return handler


def _divide(node: OnnxNode, walk: _Walk) -> None:
    """Division by what is known, as a product with one over it."""
    node.take()
    divisor = f"{node.outputs[0]}:factor"
    walk.known[divisor] = np.asarray(1 / walk.value(node, 1, "divisor"), np.float32)
    walk.graph.add(node.outputs[0], op.Mul(), a=walk.tensor(node.inputs[0]), b=walk.tensor(divisor))


def _concat(node: OnnxNode, walk: _Walk) -> None:
    walk.add(node, op.Concat(node.take(axis=0)["axis"]), *(f"x{place}" for place in range(len(node.inputs))))


_HANDLERS: dict[str, Callable[[OnnxNode, _Walk], None]] = {
    "Add": _of_two(op.Add), "AveragePool": _average_pool, "Clip": _clip, "Concat": _concat, "Conv": _conv,
    "Div": _divide, "Flatten": _flatten, "Gelu": _gelu, "Gemm": _gemm, "GlobalAveragePool": _global_average,
    "HardSigmoid": _function("hard_sigmoid", alpha=0.2, beta=0.5), "HardSwish": _function("hard_swish"),
    "LayerNormalization": _layer_norm, "LeakyRelu": _function("leaky_relu", alpha=0.01), "MatMul": _of_two(op.MatMul),
    "MaxPool": _max_pool, "Mul": _of_two(op.Mul), "ReduceMean": _reduced(op.ReduceMean),
    "ReduceSum": _reduced(op.ReduceSum), "Relu": _function("relu"), "Reshape": _reshape,
    "Sigmoid": _function("sigmoid"), "Softmax": _softmax, "Squeeze": _squeeze, "Sub": _of_two(op.Sub),
    "Tanh": _function("tanh"), "Transpose": _transpose, "Unsqueeze": _unsqueeze,
}
