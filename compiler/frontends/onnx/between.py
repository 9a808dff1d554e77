"""Checks of nodes that fused attention leaves out: each must be one that would be taken alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....hdl.errors import PearrayError
from ...graph.graph import Tensor
from .builder import Builder, OnnxNode, attempt, one
from .quantisation import operand, result

__all__ = ["check_between"]

#: Attributes of operators between the products, with their defaults.
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "Cast": {"to": 0, "saturate": 1, "round_mode": "up"}, "Dropout": {"seed": 0},
    "QLinearSoftmax": {"axis": -1, "opset": 13}, "Softmax": {"axis": -1}}


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


def _is_endless(node: OnnxNode, graph: Builder, place: int) -> bool:
    """Whether a scale is infinite, as quantisers write where minus infinity has been added to scores.

    Scores are not stored in such steps here, nor in any.
    """
    scale = graph.constants.get(node.input(place))
    return scale is not None and scale.dtype == np.float32 and scale.size == 1 and bool(np.isposinf(scale).all())


def _check(node: OnnxNode, graph: Builder, before: str, stored: np.dtype | None) -> np.dtype | None:
    """Check a node that reads a tensor, of some type if that is stored, and return that of its result, if stored."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and _is_endless(node, graph, 1):
        zero = graph.constants.get(node.input(2), np.zeros((), np.uint8))
        return zero.dtype if node.op_type == "QuantizeLinear" else None
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
    return _check_kernel(node, graph, before, stored)


def _check_kernel(node: OnnxNode, graph: Builder, before: str, stored: np.dtype | None) -> np.dtype:
    """Check a node on stored integers, and return the type of its result."""
    is_softmax = node.op_type == "QLinearSoftmax"
    types = []
    for place in range(0, 3 if is_softmax else 6, 3):
        name = node.inputs[place]
        is_met = name == before and stored is not None
        if is_met or name in graph.given:
            # What a run gives is no tensor of its own: the host makes the mask that it stores.
            dtype = stored if is_met else graph.constants.get(node.input(place + 2), np.zeros((), np.int8)).dtype
        else:
            dtype = graph.tensor(name).dtype
        types.append(dtype)
        if (is_met or name in graph.given) and _is_endless(node, graph, place + 1):
            continue
        what = "AB"[place // 3] if not is_softmax else "X"
        one(f"{what}_scale", graph.quantisation(node, place + 1, what, dtype, dtype).scale)
    at = 3 if is_softmax else 6
    if _is_endless(node, graph, at):
        made = graph.constants.get(node.input(at + 1), np.zeros((), types[0])).dtype
    else:
        found = graph.quantisation(node, at, "Y", absent=types[0])
        one("Y_scale", found.scale)
        made = found.zero_point.dtype
    if node.op_type != "QLinearMatMul" and len({*types, made}) > 1:
        raise PearrayError(f"operands and result must be of one type, not {' and '.join(map(str, types))} and {made}")
    return made
