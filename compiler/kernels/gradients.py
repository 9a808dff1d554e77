"""Gradients of matrix products and convolutions, as contractions of operands where they stand."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..graph.graph import Node
from ..operators import Conv2dGrad, LinearGrad
from .context import Context
from .conv import spread, weights_of
from .float_layouts import packed_layout
from .gemm import matrix_product, row_major
from .kernel import PIXELS, Access, Chain, Constant, Contraction, Finish, Index, Kernel, Product, Scaled, windows
from .views import View

__all__ = ["conv_grad", "linear_grad"]


def _stored(context: Context, node: Node) -> dict[str, dict[str, Any]]:
    """How each operand is stored, by role."""
    return {role: context.checked_zero(node, f"zero point of {role}", 0, name) for role, name in node.inputs.items()}


def linear_grad(context: Context, node: Node[LinearGrad]) -> list[Kernel]:
    """State LinearGrad: ``dx[q, m] = dy[q, c] w[c, m]``, ``dw[q, m] = dy[c, q] x[c, m]``, ``db[c] = sum dy[s, c]``."""
    stored, kernels = _stored(context, node), list[Kernel]()
    index = {"c": Index({"c": 1}), "m": Index({"m": 1})}
    if "dx" in node.outputs:
        value = context.constant(node.inputs["w"])
        w: Access | Constant
        if value is None:
            w = Access(row_major(context, node, "w", "cm"), index, **stored["w"])
        else:
            weights = context.fits(node.inputs["w"], value)
            w = Constant(weights[None, None, None], **stored["w"])
        dy = Access(row_major(context, node, "dy", "wc"), {}, **stored["dy"])
        kernels.append(matrix_product(node, dy, w, context.result(node, role="dx"), Finish()))
    if "dw" in node.outputs:
        dy = Access(row_major(context, node, "dy", "cw"), {}, **stored["dy"])
        x = Access(row_major(context, node, "x", "cm"), index, **stored["x"])
        kernels.append(matrix_product(node, dy, x, context.result(node, role="dw"), Finish()))
    return kernels + _bias(context, node, row_major(context, node, "dy", "wc"), stored)


def _bias(context: Context, node: Node, dy: View, stored: dict[str, dict[str, Any]]) -> list[Kernel]:
    """State the gradient of a bias: sums over all rows of dy."""
    if "db" not in node.outputs:
        return []
    row, m = dy.as_row(), dy.size("c")
    x = Access(row, {"w": Index({"s": 1}), "c": Index({"c": 1})}, **stored["dy"])
    y = Access(View.rows(context.result(node, role="db"), "nhwc", (1, 1, 1, m)), {"c": Index({"c": 1})})
    return [Chain(name=node.name, ranks={"s": row.size("w"), "c": m}, y=y, terms=(Scaled(x),))]


def conv_grad(context: Context, node: Node[Conv2dGrad]) -> list[Kernel]:
    """State Conv2dGrad: dx is a transposed convolution of dy by w, and dw a contraction of x and dy over pixels."""
    stored, kernels = _stored(context, node), list[Kernel]()
    dy = context.image(node, role="dy")
    if "dx" in node.outputs:
        kernels += _spread(context, node, dy, context.result_image(node, "dx"), [stored["dy"], stored["w"]])
    if "dw" in node.outputs:
        kernels += _weights(context, node, Access(dy, {}, **stored["dy"]), stored["x"])
    return kernels + _bias(context, node, dy, stored)


def _spread(context: Context, node: Node[Conv2dGrad], dy: View, dx: View, fields: list[dict[str, Any]]) -> list[Kernel]:
    """State dx; weights that are no constants are a view for each group of channels."""
    w, groups = weights_of(context, node), node.operator.groups
    if not isinstance(w, View):
        return spread(node, dy, w, dx, Finish(), fields)
    m, channels = w.size("m") // groups, w.size("c")
    # What the convolution makes is what its gradient contracts.
    turned = replace(w, axes=tuple(replace(axis, name={"m": "c", "c": "m"}.get(axis.name, axis.name))
                                   for axis in w.axes))
    return [kernel for group in range(groups)
            for kernel in spread(node, dy.part("c", group * m, m), turned.part("c", group * m, m),
                                 dx.part("c", group * channels, channels), Finish(), fields)]


def _weights(context: Context, node: Node[Conv2dGrad], dy: Access, stored: dict[str, Any]) -> Iterator[Contraction]:
    """State ``dw[r, s, c, m] = sum x[n, u p + dr r - top, v q + ds s - left, c] dy[n, p, q, m]`` of each group.

    So it stands in memory as packed weights do: [group][row][column][channel][filter].
    """
    operator, shape = node.operator, context.graph.tensors[node.inputs["w"]].shape
    groups, (m, cg, r, s) = operator.groups, shape
    ng = m // groups
    layout = packed_layout(shape, groups)
    y = View.rows(context.result(node, layout, "dw"), "ghwnc", layout.physical)
    x, view = context.image(node), dy.view
    n, p, q = (view.size(axis) for axis in "nhw")
    padding = operator.padding[:2]
    if (r, s, *operator.stride) == (1, 1, 1, 1) and (p, q) == (x.size("h"), x.size("w")):
        # A pointwise filter sees nothing but its pixel.
        n, p, q, padding = 1, 1, n * p * q, (0, 0)
        x, view = x.as_row(), view.as_row()
    sees = {**windows(operator.stride, operator.dilation, padding), "c": Index({"c": 1})}
    meets = {**PIXELS, "c": Index({"m": 1})}
    makes = {"h": Index({"r": 1}), "w": Index({"s": 1}), "n": Index({"c": 1}), "c": Index({"m": 1})}
    for group in range(groups):
        product = Product(Access(x.part("c", group * cg, cg), sees, **stored),
                          replace(dy, view=view.part("c", group * ng, ng), indices=meets))
        part = y.part("g", group, 1)
        yield Contraction(
            name=node.name, ranks={"r": r, "s": s, "c": cg, "m": ng, "n": n, "p": p, "q": q}, terms=(product,),
            y=Access(replace(part, axes=part.axes[1:]), makes))
