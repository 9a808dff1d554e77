"""Operands of products are brought to the format that an array multiplies."""

from ....hdl.errors import PearrayError
from ... import operators as op
from ..graph import Graph, Node

__all__ = ["operands_are_narrow"]

#: Operators of one product, or of those of a gradient, whose operands are their required inputs.
_PRODUCTS = op.Contraction, op.Conv2dGrad, op.LinearGrad, op.MatMul

#: Those whose inner products no format has yet.
_FUSED = op.Attention, op.AttentionGrad, op.AttentionKept, op.MultiHeadAttention


def operands_are_narrow(graph: Graph, format: str, key: str | None = None) -> Graph:
    """Round every operand of a product of floats once, whoever reads it; sums and all else stay float32.

    It is done before a graph is differentiated, so that gradients are taken of what is multiplied, and again behind,
    for the products of the backward pass: operands that are rounded already stay.

    Parameters
    ----------
    graph : Graph
        Of operators on float32.
    format : str
        Name of :data:`.golden.rounding.FORMATS`.
    key : str, optional
        Input of the graph, made where there is none, by whose random bits operands are rounded; to the nearest without.

    Raises
    ------
    PearrayError
        If an operator multiplies in itself what it has made.
    """
    made = graph.changed(nodes=[])
    known = [node for node in graph.nodes if isinstance(node.operator, op.Rounded)]
    rounded, narrow = dict[str, str](), {node.outputs["y"] for node in known}
    # What is computed again has the numbers that it had.
    number = max((node.operator.number for node in known), default=0)
    taken = graph.tensors.keys() | {node.name for node in graph.nodes}
    for node in graph.nodes:
        if isinstance(node.operator, _FUSED):
            raise PearrayError(f"{node.name}: operator must be one whose operands are all inputs, to be rounded to "
                               f"{format}, not {node.operator.kind}")
        inputs = dict(node.inputs)
        for role in node.operator.required if isinstance(node.operator, _PRODUCTS) else ():
            name = inputs[role]
            if name in narrow or graph.tensors[name].dtype.kind != "f":
                continue
            if name not in rounded:
                if key is not None and key not in made.inputs:
                    made.input(key, (), "uint32")
                number += 1
                rounded[name] = f"{name}:{format}"
                while rounded[name] in taken:
                    rounded[name] += "'"
                made.nodes.append(Node(rounded[name], op.Rounded(format, number),
                                       {"x": name} | ({} if key is None else {"key": key}), {"y": rounded[name]}))
                made.infer(made.nodes[-1])
            inputs[role] = rounded[name]
        made.nodes.append(Node(node.name, node.operator, inputs, node.outputs, node.on_host))
    return made
