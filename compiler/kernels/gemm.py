"""Gemm and Linear: a row of M pixels and a 1 x 1 filter, or outer products if A stands transposed."""


import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import Gemm, Linear
from .context import Context, finish_of, matrix_rows, operand_fields
from .problem import Matrix, Problem

__all__ = ["lower_gemm"]


def lower_gemm(context: Context, node: Node) -> list[Problem]:
    """Lower Gemm and Linear: one row of M pixels, a 1 x 1 filter."""
    operator = node.operator
    assert isinstance(operator, (Gemm, Linear))
    a_role, b_role, _ = operator.roles
    trans_a = isinstance(operator, Gemm) and operator.trans_a
    trans_b = isinstance(operator, Linear) or operator.trans_b
    a, b = (context.graph.tensors[node.inputs[role]].shape for role in (a_role, b_role))
    m, k = (a[1], a[0]) if trans_a else (a[0], a[1])
    n = b[0] if trans_b else b[1]
    stored, order = matrix_rows(context, node, a_role)
    if trans_a and order is not None:
        raise PearrayError(f"{node.name}: {node.inputs[a_role]} must stand row-major in memory")
    value = context.constant(node.inputs[b_role])
    weights: np.ndarray | Matrix
    if value is not None:
        weights = context.fits(node.inputs[b_role], value).astype(np.int64)
        weights = weights.T if trans_b else weights
        weights = (weights if order is None else weights[order])[None]
    else:
        if order is not None:
            raise PearrayError(f"{node.name}: {node.inputs[b_role]} must be constant, since "
                               f"{node.inputs[a_role]} does not stand row-major in memory")
        matrix, b_order = matrix_rows(context, node, b_role)
        if b_order is not None:
            raise PearrayError(f"{node.name}: {node.inputs[b_role]} must stand row-major in memory")
        weights = Matrix(matrix, trans_b)
    finish = finish_of(context, node, n)
    y = context.result(node)
    return [Problem(
        name=node.name, x=stored, y=y, width=m, q=m, cg=k, ng=n, columns=trans_a, weights=weights, finish=finish,
        **operand_fields(context, node))]
