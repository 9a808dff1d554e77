"""Checks of nodes that fused attention leaves out: each must be one that would be taken alone."""

from collections.abc import Sequence

import numpy as np

from ....hdl.errors import PearrayError
from ...graph.graph import Tensor
from .builder import Builder, OnnxNode, attempt, one
from .quantisation import operand, result

__all__ = ["check_between"]

#: Attributes of operators between the products, with their defaults.
_ATTRIBUTES = {"Softmax": {"axis": -1}, "QLinearSoftmax": {"axis": -1, "opset": 13}}


def check_between(nodes: Sequence[OnnxNode], graph: Builder) -> None:
    """Check attributes, scales, zero points and types of nodes that follow one another.

    Parameters
    ----------
    nodes : sequence of OnnxNode
        From the product that makes scores to the one that reads numerators, in order.
    graph : Builder
        Graph under construction, which has constants and what the first product reads.

    Raises
    ------
    PearrayError
        At the first node that no runtime takes.
    """
    stored: np.dtype | None = None
    before = ""
    for node in nodes:
        stored = attempt(node, _check, node, graph, before, stored)
        before = node.outputs[0]


def _check(node: OnnxNode, graph: Builder, before: str, stored: np.dtype | None) -> np.dtype | None:
    """Check a node that reads a tensor, of some type if that is stored, and return that of its result, if stored."""
    if node.op_type == "QuantizeLinear":
        found = result(node, graph)
        one("y_scale", found.scale)
        return found.zero_point.dtype
    if node.op_type == "DequantizeLinear":
        one("x_scale", operand(node, graph, None if stored is None else Tensor(before, (), stored)).scale)
        return None
    node.take(**_ATTRIBUTES.get(node.op_type, {}))
    if not node.op_type.startswith("QLinear"):
        return None
    is_softmax = node.op_type == "QLinearSoftmax"
    types = []
    for place in range(0, 3 if is_softmax else 6, 3):
        name = node.inputs[place]
        dtype = stored if name == before and stored is not None else graph.tensor(name).dtype
        what = "AB"[place // 3] if not is_softmax else "X"
        one(f"{what}_scale", graph.quantisation(node, place + 1, what, dtype, dtype).scale)
        types.append(dtype)
    made = graph.quantisation(node, 3 if is_softmax else 6, "Y", absent=types[0])
    one("Y_scale", made.scale)
    if node.op_type != "QLinearMatMul" and len({*types, made.zero_point.dtype}) > 1:
        raise PearrayError(f"operands and result must be of one type, not {' and '.join(map(str, types))} and "
                           f"{made.zero_point.dtype}")
    return made.zero_point.dtype
