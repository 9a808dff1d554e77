"""Gemm and Linear: products of matrices, either of which may stand transposed, and the second may be an activation."""

from dataclasses import replace

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import Gemm, Linear
from .context import Context, finish_of
from .kernel import Access, Constant, Contraction, Finish, Index, Kernel, Product
from .layout import Layout
from .views import Buffer, View

__all__ = ["gemm", "matrix", "matrix_product"]


def gemm(context: Context, node: Node) -> list[Kernel]:
    """State Gemm and Linear as ``y[q, m] = a[q, c] w[c, m]``: one row of M pixels, a 1 x 1 filter."""
    operator = node.operator
    assert isinstance(operator, (Gemm, Linear))
    a_role, b_role, _ = operator.roles
    trans_a = isinstance(operator, Gemm) and operator.trans_a
    trans_b = isinstance(operator, Linear) or operator.trans_b
    a, order = matrix(context, node, a_role, "cw" if trans_a else "wc")
    if trans_a and order is not None:
        raise PearrayError(f"{node.name}: {node.inputs[a_role]} must stand row-major in memory")
    value = context.constant(node.inputs[b_role])
    w: Access | Constant
    fields = [context.checked_zero(node, f"{name}_zero_point", zero, node.inputs[role])
              for name, zero, role in zip("xw", operator.zero_points, operator.roles[:2], strict=True)]
    if value is not None:
        weights = context.fits(node.inputs[b_role], value)
        weights = weights.T if trans_b else weights
        weights = weights if order is None else weights[order]
        w = Constant(weights[None, None, None], ("g", "r", "s", "c", "m"), **fields[1])
        n = weights.shape[1]
    else:
        if order is not None:
            raise PearrayError(f"{node.name}: {node.inputs[b_role]} must be constant, since "
                               f"{node.inputs[a_role]} does not stand row-major in memory")
        b, b_order = matrix(context, node, b_role, "mc" if trans_b else "cm")
        if b_order is not None:
            raise PearrayError(f"{node.name}: {node.inputs[b_role]} must stand row-major in memory")
        w, n = Access(b, {"c": Index({"c": 1}), "m": Index({"m": 1})}, **fields[1]), b.size("m")
    finish, a = finish_of(context, node, n), replace(a, outside=operator.zero_points[0])
    return [matrix_product(node, Access(a, {}, **fields[0]), w, context.result(node), finish)]


def matrix_product(node: Node, a: Access, w: Access | Constant, result: Buffer, finish: Finish) -> Contraction:
    """State the product of a view with axes ``w`` and ``c`` and weights of ranks c and m."""
    view = a.view
    m, n = view.size("w"), result.size // view.size("w")
    x = replace(a, view=view.renamed("n", "h", *(axis.name for axis in view.axes)),
                indices={"w": Index({"q": 1}), "c": Index({"c": 1})})
    y = Access(View.rows(result, "nhwc", (1, 1, m, n)), {"w": Index({"q": 1}), "c": Index({"m": 1})})
    return Contraction(name=node.name, ranks={"q": m, "m": n, "c": view.size("c")}, y=y, terms=(Product(x, w),),
                       finish=finish)


def matrix(context: Context, node: Node, role: str, names: str) -> tuple[View, np.ndarray | None]:
    """A two-dimensional operand as rows in memory, and the order in which a row's elements stand there."""
    found = context.operand(node, role)
    layout = found.layout
    rows, columns = layout.shape
    view = View.rows(found.buffer, names, (rows, columns))
    if layout.same_memory(Layout((rows, columns), (0, 1), (rows, columns))):
        return view, None
    positions = layout.positions()
    if not np.array_equal(positions, np.arange(rows)[:, None] * columns + positions[0]):
        raise PearrayError(f"{node.name}: {node.inputs[role]} has a layout in memory that mixes its rows; "
                           "reshape keeping the first axis")
    return view, np.argsort(positions[0])
