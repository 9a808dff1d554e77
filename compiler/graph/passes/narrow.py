"""Operands of products are brought to the format that an array multiplies."""

from dataclasses import replace

import numpy as np

from ....hdl.errors import PearrayError
from ... import operators as op
from ..graph import Graph, Node
from ..names import Names

__all__ = ["operands_are_narrow"]

#: Operators of one product, or of those of a gradient, whose operands are their required inputs.
_PRODUCTS = op.Contraction, op.Conv2dGrad, op.LinearGrad, op.MatMul

#: Those whose sums would be rounded to the format, too.
_SUMS = op.Contraction, op.MatMul

#: Those whose inner products no format has yet.
_FUSED = op.Attention, op.AttentionGrad, op.AttentionKept, op.MultiHeadAttention


def operands_are_narrow(graph: Graph, format: str, key: str | None = None) -> Graph:
    """Round every operand of a product of float32 once, whoever reads it; sums and all else stay float32.

    It is done before a graph is differentiated, so that gradients are taken of what is multiplied; what the backward
    pass multiplies is rounded in the same way then.

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
    rounded, names = dict[str, str](), Names(graph)
    for node in graph.nodes:
        if isinstance(node.operator, _FUSED):
            raise PearrayError(f"{node.name}: operator must be one whose operands are all inputs, to be rounded to "
                               f"{format}, not {node.operator.kind}")
        inputs, operator = dict(node.inputs), node.operator
        roles = operator.required if isinstance(operator, _PRODUCTS) else ()
        if any(graph.tensors[inputs[role]].dtype != np.float32 for role in roles):
            roles = ()
        for role in roles:
            name = inputs[role]
            if name not in rounded:
                if key is not None and key not in made.inputs:
                    made.input(key, (), "uint32")
                rounded[name] = names.free(f"{name}:{format}")
                made.nodes.append(Node(rounded[name], op.Rounded(format, len(rounded)),
                                       {"x": name} | ({} if key is None else {"key": key}), {"y": rounded[name]}))
                made.infer(made.nodes[-1])
            inputs[role] = rounded[name]
        if roles and isinstance(operator, _SUMS):
            operator = replace(operator, requant=op.Sums())
        made.nodes.append(Node(node.name, operator, inputs, node.outputs, node.on_host))
    return made
