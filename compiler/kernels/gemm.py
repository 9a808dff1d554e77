"""Gemm and Linear: products of matrices, either of which may stand transposed, and the second may be an activation."""

from dataclasses import replace

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import MatrixProduct
from .context import Context, finish_of
from .kernel import Access, Constant, Contraction, Finish, Index, Kernel, Product
from .layout import Layout
from .views import Buffer, View

__all__ = ["gemm", "matrix_product", "row_major"]


def gemm(context: Context, node: Node[MatrixProduct]) -> list[Kernel]:
    """State Gemm and Linear as ``y[q, m] = a[q, c] w[c, m]``: one row of M pixels, a 1 x 1 filter."""
    operator = node.operator
    a_role, b_role, _ = operator.roles
    name = node.inputs[b_role]
    a, order = matrix(context, node, a_role, "cw" if operator.trans_a else "wc")
    value, fields = context.constant(name), context.stored(node)
    w: Access | Constant
    if value is not None and (order is None or not operator.trans_a):
        weights = context.fits(name, value)
        weights = weights.T if operator.trans_b else weights
        weights = weights if order is None else weights[order]
        w = Constant(weights[None, None, None], **fields[1])
        n = weights.shape[1]
    else:
        if order is not None:
            raise PearrayError(f"{node.name}: {context.graph.named(node.inputs[a_role])} must stand row-major in "
                               f"memory where {name} is no constant or trans_a is True")
        b = row_major(context, node, b_role, "mc" if operator.trans_b else "cm")
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
        raise PearrayError(f"{node.name}: {context.graph.named(node.inputs[role])} has a layout in memory that mixes "
                           "its rows; reshape keeping the first axis")
    return view, np.argsort(positions[0])


def row_major(context: Context, node: Node, role: str, names: str) -> View:
    """A two-dimensional operand whose rows must stand in memory as they are."""
    view, order = matrix(context, node, role, names)
    if order is not None:
        raise PearrayError(f"{node.name}: {context.graph.named(node.inputs[role])} must stand row-major in memory")
    return view
