"""Operators of floats that do several things at once become several, each of which can be differentiated."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ....golden.tensors import is_float
from ....hdl.errors import PearrayError
from ... import operators as op
from ...operators.operator import Part
from ..derivatives import DERIVATIVES
from ..graph import Graph, Node
from ..names import Names
from .parts import nodes_of

__all__ = ["operators_apart"]


def operators_apart(graph: Graph) -> Graph:
    """Take activations off contractions and heads out of attention, and operators without a rule into their parts.

    Attention also gives the maximum and the sum of each row then, with which its gradients are computed.
    """
    made, names = graph.changed(nodes=[]), Names(graph)
    waiting = list(graph.nodes)
    while waiting:
        node = waiting.pop(0)
        parts = _parts(node, made)
        if parts is None:
            made.nodes.append(node)
            made.infer(node)
            continue
        waiting[:0] = nodes_of(node, parts, made, names)
    return made


def _parts(node: Node[Any], graph: Graph) -> list[Part] | None:
    """Parts of a node, or None if it stays."""
    rule = _APART.get(type(node.operator))
    if rule is not None and is_float(graph.tensors[next(iter(node.inputs.values()))].dtype):
        return rule(node, graph)
    if type(node.operator) in DERIVATIVES:
        return None
    return node.operator.parts(graph.typed(node.inputs)) or None


def _contraction(node: Node[Any], graph: Graph) -> list[Part] | None:
    activation = node.operator.activation
    if activation is None:
        return None
    plain = replace(node.operator, activation=None)
    return [Part("sums", plain, {role: role for role in node.inputs}),
            Part("y", op.Function(activation), {"x": "sums"})]


def _attention(node: Node[Any], graph: Graph) -> list[Part]:
    for name in ("mask", "window", "offset", "lengths"):
        if node.inputs.get(name) or getattr(node.operator, name, None):
            raise PearrayError(f"{graph.where(node)}{name} of Attention must be absent where it is differentiated")
    kept = op.AttentionKept(scale=node.operator.scale, causal=node.operator.causal)
    return [Part("y", kept, {role: role for role in node.inputs})]


def _heads(node: Node[Any], graph: Graph) -> list[Part]:
    """Each head's elements, side by side in the last axis, as a matrix; attention of these; and back."""
    operator, parts = node.operator, list[Part]()
    for role in operator.required:
        batch, length, width = graph.tensors[node.inputs[role]].shape
        parts += [Part(f"split {role}", op.Reshape((batch, length, operator.heads, width // operator.heads)),
                       {"x": role}),
                  Part(f"heads of {role}", op.Transpose((0, 2, 1, 3)), {"x": f"split {role}"})]
    attention = op.Attention(scale=operator.scale, causal=operator.causal)
    shape = graph.tensors[node.outputs["y"]].shape
    return [*parts, Part("av", attention, {role: f"heads of {role}" for role in operator.required}),
            Part("joined", op.Transpose((0, 2, 1, 3)), {"x": "av"}), Part("y", op.Reshape(shape), {"x": "joined"})]


#: What becomes of operators of floats.
_APART: dict[type[op.Operator], Callable[[Node[Any], Graph], list[Part] | None]] = {
    op.Attention: _attention,
    op.MultiHeadAttention: _heads,
    **dict.fromkeys((op.Conv2d, op.Gemm, op.Linear, op.MatMul), _contraction),
}
