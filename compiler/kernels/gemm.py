"""Gemm and Linear: products of matrices, either of which may stand transposed, and the second may be an activation."""

from dataclasses import replace

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import MatrixProduct, Products
from .context import Context, Located, finish_of
from .kernel import Access, Constant, Contraction, Finish, Index, Kernel, Product
from .layout import Layout
from .views import Axis, Buffer, View

__all__ = ["gemm", "matrix_product", "row_major", "stacked"]


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
    return [replace(matrix_product(node, Access(a, {}, **fields[0]), w, context.result(node), finish), numbers=order)]


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


def stacked(context: Context, node: Node[Products]) -> list[Kernel]:
    """State products of the matrices of two stacks: one of all rows where there is one second matrix, else one each."""
    operator, fields = node.operator, context.stored(node)
    (left, m, k), (right, _, n) = (context.graph.tensors[node.inputs[role]].shape for role in "ab")
    found, value = context.operand(node, "a"), context.constant(node.inputs["b"])
    finish, result = finish_of(context, node, n), context.result(node)
    pairs, stride = operator.pairs, m * n
    if right == 1 and len(pairs) == left:
        found, m, pairs = Located(found.buffer, found.layout.reshaped((1, left * m, k))), left * m, ((0, 0),)
    second = None if value is not None else context.operand(node, "b")
    weights = None if value is None else context.fits(node.inputs["b"], value)
    kernels: list[Kernel] = []
    for number, (first, other) in enumerate(pairs):
        a = _of_stack(context, node, "a", found, first, "wc")
        w: Access | Constant
        if second is None:
            assert weights is not None
            w = Constant(weights[other][None, None, None], **fields[1])
        else:
            w = Access(_of_stack(context, node, "b", second, other, "cm"),
                       {"c": Index({"c": 1}), "m": Index({"m": 1})}, **fields[1])
        x = Access(replace(a, outside=operator.zero_points[0]).renamed("n", "h", *(axis.name for axis in a.axes)),
                   {"w": Index({"q": 1}), "c": Index({"c": 1})}, **fields[0])
        y = View(result, tuple(map(Axis, "nhwc", (1, 1, m, n), (0, 0, n, 1))), number * stride)
        kernels.append(Contraction(
            name=node.name, ranks={"q": m, "m": n, "c": k}, terms=(Product(x, w),), finish=finish,
            y=Access(y, {"w": Index({"q": 1}), "c": Index({"m": 1})})))
    return kernels


def _of_stack(context: Context, node: Node, role: str, found: Located, number: int, names: str) -> View:
    """A matrix of a stack whose rows, or columns, stand side by side in memory, perhaps apart from one another."""
    strides, (_, rows, columns) = found.layout.strides(), found.layout.shape
    if strides is None or not (strides[2] == 1 or columns == 1 or strides[1] == 1):
        raise PearrayError(f"{node.name}: {context.graph.named(node.inputs[role])} must have the elements of a row, or "
                           "of a column, side by side in memory")
    axes = Axis(names[0], rows, strides[1]), Axis(names[1], columns, strides[2])
    # Axes stand in memory's order.
    axes = axes if strides[2] <= strides[1] or rows == 1 else axes[::-1]
    return View(found.buffer, axes, number * strides[0])
