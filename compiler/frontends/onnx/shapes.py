"""ONNX operators that change shape or type only."""

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Dequantize, Quantize, Reshape, Transpose
from .builder import Builder, OnnxNode, handles, one
from .quantisation import operand, result

__all__: list[str] = []


@handles("Reshape")
def _reshape(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(allowzero=0)
    x = graph.tensor(node.inputs[0])
    target = graph.integers(node, 1, "shape")
    if not taken["allowzero"]:
        target = [x.shape[axis] if size == 0 and axis < len(x.shape) else size
                  for axis, size in enumerate(target)]
    if graph.batches and target and target[0] == graph.batches[0] and x.shape[0] == graph.batches[1]:
        target[0] = graph.batches[1]
    graph.add(node, Reshape(tuple(target)), {"x": x.name})


@handles("Flatten")
def _flatten(node: OnnxNode, graph: Builder) -> None:
    taken = node.take(axis=1)
    x = graph.tensor(node.inputs[0])
    rank, axis = len(x.shape), taken["axis"]
    if not -rank <= axis <= rank:
        raise PearrayError(f"axis must be in {-rank}..{rank}, not {axis}")
    axis += rank if axis < 0 else 0
    outer = int(np.prod(x.shape[:axis], dtype=np.int64))
    graph.add(node, Reshape((outer, int(np.prod(x.shape[axis:], dtype=np.int64)))), {"x": x.name})


def _axes(given: list[int], rank: int) -> list[int]:
    """Axes counted from the first, after checking that a tensor of some rank has each, and that none comes twice."""
    axes = [axis + rank if axis < 0 else axis for axis in given]
    if len({*axes}) != len(axes) or not all(0 <= axis < rank for axis in axes):
        raise PearrayError(f"axes must be in {-rank}..{rank - 1} and none twice, not {given}")
    return axes


@handles("Squeeze", "Unsqueeze")
def _squeeze(node: OnnxNode, graph: Builder) -> None:
    node.take()
    x = graph.tensor(node.inputs[0])
    shape = list(x.shape)
    given = graph.integers(node, 1, "axes") if node.input(1) or node.op_type == "Unsqueeze" else None
    if node.op_type == "Squeeze":
        if given == []:
            # None at all for the standard, all of size 1 for its runtimes.
            raise PearrayError("axes must be absent or at least one, not []")
        axes = [axis for axis, size in enumerate(shape) if size == 1] if given is None else _axes(given, len(shape))
        shape = [size for axis, size in enumerate(shape) if axis not in axes]
    else:
        for axis in sorted(_axes(given or [], len(shape) + len(given or []))):
            shape.insert(axis, 1)
    graph.add(node, Reshape(tuple(shape)), {"x": x.name})


@handles("Transpose")
def _transpose(node: OnnxNode, graph: Builder) -> None:
    x, perm = graph.tensor(node.inputs[0]), node.take(perm=None)["perm"]
    graph.add(node, Transpose(tuple(range(len(x.shape)))[::-1] if perm is None else tuple(perm)), {"x": x.name})


@handles("Identity")
def _identity(node: OnnxNode, graph: Builder) -> None:
    graph.add(node, Reshape(graph.tensor(node.inputs[0]).shape), {"x": node.inputs[0]})


@handles("QuantizeLinear")
def _quantise(node: OnnxNode, graph: Builder) -> None:
    y = result(node, graph)
    x = graph.tensor(node.inputs[0])
    if x.dtype != np.float32:
        raise PearrayError(f"input {x.name!r} must be float32, not {x.dtype}")
    graph.add(node, Quantize(one("y_scale", y.scale), y.zero_point, y.clamp), {"x": x.name}, bounds=y.clamp)


@handles("DequantizeLinear")
def _dequantise(node: OnnxNode, graph: Builder) -> None:
    x = operand(node, graph)
    graph.add(node, Dequantize(one("x_scale", x.scale), x.zero_point), {"x": node.inputs[0]})
