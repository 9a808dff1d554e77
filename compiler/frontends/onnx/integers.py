"""ConvInteger and MatMulInteger: products of stored integers, whose sums of 32 bits are the result.

An array takes one zero point for each operand. Constants lose theirs when the network is read: what is left of weights
is stored in bytes again, with one zero point for all, or as the sum of two tensors of bytes where it does not fit. Zero
points that a run gives, or that rows or columns have for themselves, the host takes away from the sums.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ....hdl.errors import PearrayError
from ...operators import Conv2d, ZeroPoints
from .builder import HANDLERS, Builder, OnnxNode, handles

__all__: list[str] = []


@dataclass(frozen=True)
class _Zero:
    """A zero point: its tensor, and its value if that is known."""

    name: str
    value: np.ndarray | None

    @property
    def single(self) -> int | None:
        """The number, if it is known and the only one."""
        return int(self.value.item()) if self.value is not None and self.value.size == 1 else None


def _zero(node: OnnxNode, graph: Builder, place: int) -> _Zero:
    """Zero point of an operand, 0 if it is absent."""
    name, of = node.input(2 + place), graph.tensor(node.inputs[place])
    if of.dtype not in (np.int8, np.uint8):
        raise PearrayError(f"input {of.name!r} must be int8 or uint8, not {of.dtype}")
    if not name:
        name = graph.store(f"{of.name}:zero_point", np.zeros((), of.dtype))
    if graph.tensor(name).dtype != of.dtype:
        raise PearrayError(f"zero point {name!r} must be {of.dtype}, as {of.name!r} is, not {graph.tensor(name).dtype}")
    return _Zero(name, graph.constants.get(name))


def in_bytes(values: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Integers in -255..255 as int8 with a zero point, or as the sum of two such tensors if their range is too wide."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if high - low < 1 << 8:
        zero = min(max(0, -128 - low), 127 - high)
        return [((values + zero).astype(np.int8), zero)]
    first = np.clip(values, -128, 127)
    return [(first.astype(np.int8), 0), *in_bytes(values - first)]


def _multiply(node: OnnxNode, graph: Builder, a_zero: int, b: str, b_zero: int, output: str) -> None:
    """Append products of operands with one zero point each."""
    inputs = []
    for name, zero in ((node.inputs[0], a_zero), (b, b_zero)):
        # Sums have no scale.
        inputs += [name, graph.store(f"{name}:scale", np.ones((), np.float32)),
                   graph.store(f"{name}:zero_point", np.array(zero, graph.tensor(name).dtype))]
    kind = {"ConvInteger": "QLinearConv", "MatMulInteger": "QLinearMatMul"}[node.op_type]
    HANDLERS["", kind](node.standing_for(node.op_type, [*inputs, "", ""], [output], node.attributes), graph)


def _with_weights(node: OnnxNode, graph: Builder, a: _Zero, b: _Zero, centred: np.ndarray,
                  columns: Callable[[], np.ndarray]) -> None:
    """Append products with weights that are known.

    Parameters
    ----------
    node, graph
        Node, and the graph under construction.
    a, b : _Zero
        Zero points.
    centred : int64 array
        Weights less their zero points.
    columns : callable
        Tells, behind the products, by how much they are greater where all of a is greater by one.
    """
    name, zero = node.inputs[1], a.single or 0
    parts = [(name, b.single)] if b.single is not None else [
        (graph.store(f"{name}:less zero points", stored), zero) for stored, zero in in_bytes(centred)]
    if len(parts) == 1 and a.single is not None:
        _multiply(node, graph, zero, *parts[0], node.outputs[0])
        return
    made = [graph.inner(node.outputs[0], "products") for _ in parts]
    for (weights, point), products in zip(parts, made, strict=True):
        _multiply(node, graph, zero, weights, point, products)
    inputs = dict(zip(("x", "more"), made, strict=False)) | ({"a_zero_point": a.name} if a.single is None else {})
    graph.add(node, ZeroPoints(columns() if a.single is None else np.zeros((), np.int64)), inputs)


def _check_zeros(graph: Builder, zero: _Zero, what: str, size: int, whole: tuple[int, ...]) -> None:
    """Check that zero points are one for all, or one for each of the rows or columns of an operand."""
    own = graph.tensor(zero.name).shape
    if np.prod(own, dtype=np.int64) != 1 and own not in ((size,), whole):
        raise PearrayError(f"zero point {zero.name!r} must be one number or one for each of {size} {what}, not of "
                           f"shape {own}")


@handles("MatMulInteger")
def _matrix_product(node: OnnxNode, graph: Builder) -> None:
    a, b = (_zero(node, graph, place) for place in range(2))
    left, right = (graph.tensor(name).shape for name in node.inputs[:2])
    if a.single is not None and b.single is not None:
        _multiply(node, graph, a.single, node.inputs[1], b.single, node.outputs[0])
        return
    if len(left) < 2 or len(right) < 2:
        raise PearrayError(f"a and b must have 2 or more dimensions, not shapes {left} and {right}")
    _check_zeros(graph, a, "rows", left[-2], (*left[:-1], 1))
    _check_zeros(graph, b, "columns", right[-1], (*right[:-2], 1, right[-1]))
    weights = graph.constants.get(node.inputs[1])
    if weights is not None and b.value is not None:
        centred = weights.astype(np.int64) - b.value
        _with_weights(node, graph, a, b, centred, lambda: centred.sum(-2, keepdims=True))
        return
    products = graph.inner(node.outputs[0], "products")
    _multiply(node, graph, 0, node.inputs[1], 0, products)
    graph.add(node, ZeroPoints(), {"x": products, "a": node.inputs[0], "b": node.inputs[1], "a_zero_point": a.name,
                                   "b_zero_point": b.name})


@handles("ConvInteger")
def _convolution(node: OnnxNode, graph: Builder) -> None:
    weights = graph.constant(node, 1, "w")
    if node.input(3):
        graph.constant(node, 3, "w_zero_point")
    a, b = (_zero(node, graph, place) for place in range(2))
    if (shape := graph.tensor(a.name).shape) not in ((), (1,)):
        raise PearrayError(f"x_zero_point must be one number, not of shape {shape}")
    assert b.value is not None
    if b.value.size not in (1, len(weights)):
        raise PearrayError(f"w_zero_point must be one number or {len(weights)}, one for each output channel, not "
                           f"{b.value.size}")
    centred = weights.astype(np.int64) - b.value.reshape(-1, *[1] * (weights.ndim - 1))
    _with_weights(node, graph, a, b, centred, lambda: _seen(graph, centred))


def _seen(graph: Builder, weights: np.ndarray) -> np.ndarray:
    """Sum of the weights that each output of the convolution just appended sees within the image, (1, M, P, Q).

    Of sequences, which are images for it, the shape is (1, M, Q).
    """
    node = next(node for node in reversed(graph.nodes) if isinstance(node.operator, Conv2d))
    operator, (_, _, *sizes) = node.operator, graph.tensor(node.inputs["x"]).shape
    (_, _, *outputs), taps = graph.tensor(node.outputs["y"]).shape, graph.tensor(node.inputs["w"]).shape[2:]
    inside = []
    for axis in range(2):
        at = (np.arange(outputs[axis])[:, None] * operator.stride[axis]
              + np.arange(taps[axis]) * operator.dilation[axis] - operator.padding[axis])
        inside.append(((at >= 0) & (at < sizes[axis])).astype(np.int64))
    filters = weights.reshape(weights.shape[0], weights.shape[1], *taps).sum(1)
    seen: np.ndarray = np.einsum("pr,qs,mrs->mpq", *inside, filters, optimize=True)[None]
    return seen if weights.ndim == 4 else seen.reshape(1, len(weights), -1)
