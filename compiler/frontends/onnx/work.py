"""Multiply-accumulates of a file's nodes, whoever computes them."""

from collections.abc import Callable
from math import prod

from .builder import OnnxNode

__all__ = ["products_of"]

#: Gates of a recurrence, each of which has products of its own.
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}

#: Inputs that are operands, by operator: of those on stored integers each has a scale and a zero point behind it.
_OPERANDS = {"QLinearConv": (0, 3), "QLinearMatMul": (0, 3), "QGemm": (0, 3)}


def products_of(node: OnnxNode, shape_of: Callable[[str], tuple[int, ...] | None]) -> int:
    """Multiply-accumulates of a convolution, a matrix product or a recurrence without its padding, else 0.

    Parameters
    ----------
    node : OnnxNode
        The node.
    shape_of : callable
        Shape of a tensor by name; None if it is not known, which makes 0.
    """
    first, second = _OPERANDS.get(node.op_type, (0, 1))
    x, w, y = (shape_of(name) for name in (node.input(first), node.input(second), node.outputs[0]))
    if x is None or w is None or (y is None and node.op_type not in _GATES):
        return 0
    if node.op_type in _GATES:
        steps, batch, _ = x
        hidden = w[1] // _GATES[node.op_type]
        return steps * batch * w[0] * w[1] * (w[2] + hidden)
    if node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
        return prod(y or ()) * prod(w[1:])
    if node.op_type == "ConvTranspose":
        return prod(x) * prod(w[1:])
    if node.op_type in ("Gemm", "QGemm"):
        return prod(y or ()) * x[0 if node.attributes.get("transA", 0) else 1]
    if node.op_type in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        return prod(y or ()) * x[-1]
    return 0
