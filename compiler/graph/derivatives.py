"""How each operator is differentiated: one table, from kinds of operator to rules.

A rule is given a node and the gradients of its outputs, adds nodes to a graph, and says which tensor is the gradient of
which input. An operator that is made of others (``parts``) needs no rule: these have theirs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...golden.activation_gradients import OF_OUTPUT
from .. import operators as op
from ..operators.operator import Operator
from .graph import Graph, Node, Tensor
from .names import Names

__all__ = ["DERIVATIVES", "Backward"]


@dataclass(frozen=True)
class Backward:
    """What a rule works with.

    Parameters
    ----------
    graph : Graph
        To which nodes are added.
    node : Node
        The node that is differentiated.
    dy : mapping of str to str
        Gradients of its outputs that there are, by role.
    names : Names
        Names of the graph.
    """

    graph: Graph
    node: Node[Any]
    dy: Mapping[str, str]
    names: Names

    @property
    def operator(self) -> Any:
        """The node's operator."""
        return self.node.operator

    def tensor(self, role: str) -> Tensor:
        """Type of an input or an output."""
        return self.graph.tensors[self[role]]

    def shape(self, role: str) -> tuple[int, ...]:
        """Shape of an input or an output."""
        return self.tensor(role).shape

    def __getitem__(self, role: str) -> str:
        return (self.node.inputs | self.node.outputs)[role]

    def add(self, what: str, operator: Operator, **inputs: str) -> tuple[str, ...]:
        """Add an operator and return what it makes; `what` is a part of its name."""
        name = self.names.free(f"{self.node.name}:{what}", *(f"_{role}" for role in operator.outputs))
        return self.graph.add_several(name, operator, **inputs)

    def total(self, first: str, second: str) -> str:
        """Sum of two gradients of one tensor."""
        return self.add("total", op.Add(), a=first, b=second)[0]

    def operand(self, gradient: str, role: str) -> str:
        """A gradient in the format of an operand of the node, rounded as that is, once for all products."""
        form, nodes = self.tensor(role).dtype.name, self.graph.nodes
        if form == "float32":
            return gradient
        known = [node for node in nodes if isinstance(node.operator, op.Rounded)]
        for node in known:
            if node.inputs["x"] == gradient and node.operator.format == form:
                return node.outputs["y"]
        inputs = {"x": gradient}
        for node in known:
            if node.outputs["y"] == self[role] and "key" in node.inputs:
                inputs["key"] = node.inputs["key"]
        number = max((node.operator.number for node in known), default=0) + 1
        return self.add(form, op.Rounded(form, number), **inputs)[0]

    def summed(self, gradient: str, role: str) -> str:
        """Gradient of an input that was broadcast, out of that of what it was broadcast to."""
        if self.graph.tensors[gradient].shape == self.shape(role):
            return gradient
        return self.add(f"sum of {role}", op.SumTo(self.shape(role)), x=gradient)[0]


Gradients = dict[str, str]


def _contraction(step: Backward) -> Gradients:
    kind = op.LinearGrad() if isinstance(step.operator, op.Linear) else op.Conv2dGrad(**step.operator.window)
    dx, dw, db = step.add("gradient", kind, x=step["x"], w=step["w"], dy=step.operand(step.dy["y"], "x"))
    return {"x": dx, "w": dw, "b": db}


def _gemm(step: Backward) -> Gradients:
    """Products of operands where they stand: a' (M, K), b' (K, N) and dy (M, N)."""
    a, b, dy, gemm = step["a"], step["b"], step.operand(step.dy["y"], "a"), step.operator
    turned = {"a": (b, dy, gemm.trans_b, True) if gemm.trans_a else (dy, b, False, not gemm.trans_b),
              "b": (dy, a, True, gemm.trans_a) if gemm.trans_b else (a, dy, not gemm.trans_a, False)}
    found = {role: step.add(f"gradient of {role}", op.Gemm(trans_a=trans_a, trans_b=trans_b, requant=gemm.requant),
                            a=left, b=right)[0]
             for role, (left, right, trans_a, trans_b) in turned.items()}
    return found | ({"c": step.summed(step.dy["y"], "c")} if "c" in step.node.inputs else {})


def _matmul(step: Backward) -> Gradients:
    """As of matrices, whose batches broadcast; an axis alone is a row or a column."""
    (a, a_shape), (b, b_shape) = ((step[role], step.shape(role)) for role in "ab")
    dy = step.operand(step.dy["y"], "a")
    if len(a_shape) == 1:
        [a] = step.add("row", op.Reshape((1, *a_shape)), x=a)
    if len(b_shape) == 1:
        [b] = step.add("column", op.Reshape((*b_shape, 1)), x=b)
    if 1 in (len(a_shape), len(b_shape)):
        matrices = [*step.shape("y"), *([1] if len(b_shape) == 1 else [])]
        if len(a_shape) == 1:
            matrices.insert(len(matrices) - 1, 1)
        [dy] = step.add("matrices", op.Reshape(tuple(matrices)), x=dy)

    def turned(name: str, what: str) -> str:
        rank = len(step.graph.tensors[name].shape)
        return step.add(f"turned {what}", op.Transpose((*range(rank - 2), rank - 1, rank - 2)), x=name)[0]

    found = {}
    for role, left, right, like in (("a", dy, turned(b, "b"), a), ("b", turned(a, "a"), dy, b)):
        [whole] = step.add(f"gradient of {role}", op.MatMul(requant=step.operator.requant), a=left, b=right)
        shape = step.graph.tensors[like].shape
        if step.graph.tensors[whole].shape != shape:
            [whole] = step.add(f"sum of {role}", op.SumTo(shape), x=whole)
        if shape != step.shape(role):
            [whole] = step.add(f"shape of {role}", op.Reshape(step.shape(role)), x=whole)
        found[role] = whole
    return found | ({"c": step.summed(step.dy["y"], "c")} if "c" in step.node.inputs else {})


def _function(activation: Any) -> Callable[[Backward], Gradients]:
    def rule(step: Backward) -> Gradients:
        found = activation(step.operator)
        name = found if isinstance(found, str) else found[0]
        # What the next layer reads is kept anyway.
        argument = step["y"] if name in OF_OUTPUT else step["x"]
        return {"x": step.add("gradient", op.FunctionGrad(found), x=argument, dy=step.dy["y"])[0]}

    return rule


def _pool(step: Backward) -> Gradients:
    return {"x": step.add("gradient", op.PoolGrad(step.operator), x=step["x"], dy=step.dy["y"])[0]}


def _reduce(step: Backward) -> Gradients:
    axes = step.operator.over(len(step.shape("x")))
    kind = op.ReduceGrad(axes, isinstance(step.operator, op.ReduceMean))
    return {"x": step.add("gradient", kind, x=step["x"], dy=step.dy["y"])[0]}


def _add(step: Backward) -> Gradients:
    return {role: step.summed(step.dy["y"], role) for role in "ab"}


def _subtract(step: Backward) -> Gradients:
    zero = step.graph.constant(step.names.free(f"{step.node.name}:zero"), np.float32(0))
    [negative] = step.add("negative", op.Sub(), a=zero, b=step.dy["y"])
    return {"a": step.summed(step.dy["y"], "a"), "b": step.summed(negative, "b")}


def _multiply(step: Backward) -> Gradients:
    found = {}
    for role, other in ("ab", "ba"):
        [product] = step.add(f"gradient of {role}", op.Mul(), a=step.dy["y"], b=step[other])
        found[role] = step.summed(product, role)
    return found


def _norm(step: Backward) -> Gradients:
    norm = op.NormGrad(isinstance(step.operator, op.LayerNorm), step.operator.epsilon)
    made = step.add("gradient", norm, x=step["x"], gamma=step["gamma"], dy=step.dy["y"])
    return dict(zip(("x", "gamma", "beta"), made, strict=False))


def _softmax(step: Backward) -> Gradients:
    kind = op.SoftmaxGrad(step.operator.axis)
    return {"x": step.add("gradient", kind, y=step["y"], dy=step.dy["y"])[0]}


def _attention(step: Backward) -> Gradients:
    kind = op.AttentionGrad(scale=step.operator.scale, causal=step.operator.causal)
    given = {role: step[role] for role in ("q", "k", "v", "y", "maximum", "total")}
    return dict(zip("qkv", step.add("gradient", kind, **given, dy=step.dy["y"]), strict=True))


def _loss(step: Backward) -> Gradients:
    return {"x": step.add("gradient", op.SoftmaxCrossEntropyGrad(), x=step["x"], labels=step["labels"],
                          dy=step.dy["y"])[0]}


def _embedding(step: Backward) -> Gradients:
    rows = op.EmbeddingGrad(step.shape("w")[0])
    return {"w": step.add("gradient", rows, indices=step["indices"], dy=step.dy["y"])[0]}


def _reshape(step: Backward) -> Gradients:
    return {"x": step.add("gradient", op.Reshape(step.shape("x")), x=step.dy["y"])[0]}


def _transpose(step: Backward) -> Gradients:
    order = step.operator.order
    back = tuple(order.index(axis) for axis in range(len(order)))
    return {"x": step.add("gradient", op.Transpose(back), x=step.dy["y"])[0]}


def _concat(step: Backward) -> Gradients:
    axis, at, found = step.operator.axis % len(step.shape("y")), 0, {}
    for role in step.node.inputs:
        end = at + step.shape(role)[axis]
        found[role] = step.add(f"gradient of {role}", op.Slice((at,), (end,), (axis,)), x=step.dy["y"])[0]
        at = end
    return found


def _moved(step: Backward) -> Gradients:
    return {"x": step.add("gradient", op.MovedGrad(step.operator, step.shape("x")), dy=step.dy["y"])[0]}


def _passed(step: Backward) -> Gradients:
    return {"x": step.dy["y"]}


#: Rules by kind of operator.
DERIVATIVES: dict[type[Operator], Callable[[Backward], Gradients]] = {
    op.Add: _add,
    op.AttentionKept: _attention,
    op.AvgPool2d: _pool,
    op.Concat: _concat,
    op.Conv2d: _contraction,
    op.Embedding: _embedding,
    op.Function: _function(lambda operator: operator.activation),
    op.Gelu: _function(lambda operator: operator.function),
    op.Gemm: _gemm,
    op.LayerNorm: _norm,
    op.Linear: _contraction,
    op.MatMul: _matmul,
    op.MaxPool2d: _pool,
    op.Mul: _multiply,
    op.RMSNorm: _norm,
    op.ReduceMean: _reduce,
    op.ReduceSum: _reduce,
    op.Relu: _function(lambda operator: "relu"),
    op.Reshape: _reshape,
    op.Rounded: _passed,
    op.Silu: _function(lambda operator: operator.function),
    op.Softmax: _softmax,
    op.SoftmaxCrossEntropy: _loss,
    op.Sub: _subtract,
    op.Transpose: _transpose,
    **dict.fromkeys((op.DepthToSpace, op.Expand, op.Gather, op.Pad, op.Resize, op.Slice, op.SpaceToDepth, op.Tile),
                    _moved),
}
