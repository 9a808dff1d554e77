"""Convolutions: dense, grouped, channel by channel, and transposed."""

from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import Conv2d, Conv2dGrad, ConvTranspose2d, PooledConv2d
from .context import Context, finish_of
from .kernel import PIXELS, Access, Constant, Contraction, Finish, Index, Kernel, Product, windows
from .views import Axis, View

__all__ = ["conv", "conv_transpose", "pooled_conv", "spread", "weights_of"]


def conv(context: Context, node: Node[Conv2d]) -> list[Kernel]:
    """State Conv2d as ``y[n, p, q, g ng + m] = x[n, u p + dr r, v q + ds s, g cg + c] w[g, r, s, c, m]``."""
    return _convolution(context, node, (1, 1))


def pooled_conv(context: Context, node: Node[PooledConv2d]) -> list[Kernel]:
    """State PooledConv2d as Conv2d at ``kh p + i`` and ``kw q + j``, of which the greatest over i and j is made."""
    return _convolution(context, node, node.operator.kernel)


def _convolution(context: Context, node: Node[Conv2d], pool: tuple[int, int]) -> list[Kernel]:
    operator = node.operator
    w = weights_of(context, node)
    m, cg, r, s = context.graph.tensors[node.inputs["w"]].shape
    x, fields = context.image(node, operator.zero_points[0]), context.stored(node)
    is_unsigned = context.graph.tensors[node.outputs["y"]].dtype.kind == "u"
    finish = replace(finish_of(context, node, m), pool=pool, is_unsigned=is_unsigned)
    y, groups = context.result_image(node), operator.groups
    given = operator.stride, operator.dilation, operator.padding[:2]
    if isinstance(w, np.ndarray):
        # (M, C, R, S) to (G, R, S, C, N).
        weights = w.reshape(groups, m // groups, cg, r, s).transpose(0, 3, 4, 2, 1)
        return [_kernel(node, x, weights, y, finish, *given, fields)]
    size = m // groups
    return [_kernel(node, x.part("c", group * cg, cg), w.part("m", group * size, size),
                    y.part("c", group * size, size), _of_channels(finish, group * size, size), *given, fields)
            for group in range(groups)]


def _of_channels(finish: Finish, first: int, count: int) -> Finish:
    """Post-processing of some channels."""
    part, bias, entries, table = slice(first, first + count), finish.bias, finish.entries, finish.table
    if bias is not None:
        bias = bias.part("c", first, count) if isinstance(bias, View) else bias[part]
    return replace(finish, bias=bias, entries=entries if entries is None or len(entries) == 1 else entries[part],
                   table=table if table is None or table.ndim == 1 else table[part])


def weights_of(context: Context, node: Node) -> np.ndarray | View:
    """Weights of a convolution: checked, if they are constant, or a view with axes m, r, s and c.

    Raises
    ------
    PearrayError
        If no strides tell where they stand.
    """
    value = context.constant(node.inputs["w"])
    if value is not None:
        return context.fits(node.inputs["w"], value)
    found = context.operand(node, "w")
    strides = found.layout.strides()
    if strides is None:
        raise PearrayError(f"{node.name}: {context.graph.named(node.inputs['w'])} must stand in memory with each of "
                           "its axes at one distance")
    m, c, r, s = map(Axis, "mcrs", found.layout.shape, strides)
    return View(found.buffer, (m, r, s, c))


def constant_weights(context: Context, node: Node) -> np.ndarray:
    """Weights of a convolution that must be constant."""
    w = weights_of(context, node)
    if isinstance(w, View):
        raise PearrayError(f"{node.name}: w must be constant")
    return w


def _kernel(node: Node, x: View, weights: np.ndarray | View, y: View, finish: Finish, stride: tuple[int, int],
            dilation: tuple[int, int], padding: tuple[int, int], fields: list[dict[str, Any]]) -> Kernel:
    """Convolution of an image by weights (G, R, S, C, N), or by a view of those of a group with axes m, r, s and c."""
    groups, r, s, cg, ng = weights.shape if isinstance(weights, np.ndarray) else (1, *map(weights.size, "rscm"))
    same = finish.sums == 1 and all(x.size(axis) == y.size(axis) for axis in "hw") and x.is_whole and y.is_whole
    if (r, s, stride, padding) == (1, 1, (1, 1), (0, 0)) and same and not groups > cg == ng == 1:
        # A pointwise filter sees nothing but its pixel.
        x, y = x.as_row(), y.as_row()
    inputs = {**windows(stride, dilation, padding, finish.pool), "c": Index({"g": cg, "c": 1})}
    outputs = {**PIXELS, "c": Index({"g": ng, "m": 1})}
    ranks = {"n": y.size("n"), "p": y.size("h"), "q": y.size("w"), "g": groups, "m": ng, "r": r, "s": s, "c": cg}
    ranks |= {rank: size for rank, size in zip("ij", finish.pool, strict=True) if size > 1}
    w: Access | Constant
    if isinstance(weights, View):
        w = Access(weights, {rank: Index({rank: 1}) for rank in "mrsc"}, **fields[1])
    else:
        w = Constant(weights, **fields[1])
    product = Product(Access(x, inputs, **fields[0]), w)
    return Contraction(name=node.name, ranks=ranks, y=Access(y, outputs), terms=(product,), finish=finish)


def conv_transpose(context: Context, node: Node[ConvTranspose2d]) -> list[Kernel]:
    """State ConvTranspose2d: each input spreads over outputs."""
    operator = node.operator
    x, fields = context.image(node, operator.zero_points[0]), context.stored(node)
    w = constant_weights(context, node)
    finish = finish_of(context, node, w.shape[1] * operator.groups)
    return spread(node, x, w, context.result_image(node), finish, fields)


def spread(node: Node[ConvTranspose2d] | Node[Conv2dGrad], x: View, w: np.ndarray | View, y: View, finish: Finish,
           fields: list[dict[str, Any]]) -> list[Kernel]:
    """State a transposed convolution by w (C, N, R, S): outputs of one phase of the stride see some of the taps.

    Weights may be a view of those of one group, with axes c, m, r and s.

    Output row ``u * i + a`` gets tap r of input row ``i + (a + top - d * r) / u`` where that is whole.
    Such taps lie ``u / gcd(u, d)`` apart, and their input rows go down by ``d / gcd(u, d)`` from one to
    the next: turned round they are a convolution of stride 1 with that dilation.
    """
    c, ng, r, s = w.shape if isinstance(w, np.ndarray) else map(w.size, "cmrs")
    operator, groups = node.operator, node.operator.groups
    (u, v), (dr, ds), (top, left, _, _) = operator.stride, operator.dilation, operator.padding
    kernels = []
    for a in range(min(u, y.size("h"))):
        rows, above, down = _phase(a, u, dr, r, top)
        for b in range(min(v, y.size("w"))):
            columns, before, right = _phase(b, v, ds, s, left)
            taps: np.ndarray | View
            if not rows or not columns:
                # No tap reaches these outputs: one that weighs nothing leaves them their bias.
                count = groups if isinstance(w, np.ndarray) else 1
                taps = np.full((count, 1, 1, c // count, ng), fields[1]["zero"],
                               w.dtype if isinstance(w, np.ndarray) else np.float32)
            elif isinstance(w, View):
                taps = _some(_some(w, "r", rows), "s", columns)
            else:
                # (C, N, R, S) to (G, R, S, C / G, N).
                filters = w.reshape(groups, c // groups, ng, r, s).transpose(0, 3, 4, 1, 2)
                taps = filters[:, rows][:, :, columns]
            part = y.part("h", a, len(range(a, y.size("h"), u)), u).part("w", b, len(range(b, y.size("w"), v)), v)
            kernels.append(_kernel(node, x, taps, part, finish, (1, 1), (down, right), (above, before), fields))
    return kernels


def _some(view: View, axis: str, indices: list[int]) -> View:
    """Part of a view at indices that are equally far apart, up or down."""
    return view.part(axis, indices[0], len(indices), indices[1] - indices[0] if len(indices) > 1 else 1)


def _phase(start: int, stride: int, dilation: int, taps: int, padding: int) -> tuple[list[int], int, int]:
    """Taps of one phase in the order of their inputs, inputs before the first output's, and their distance."""
    reached = [tap for tap in range(taps) if (start + padding - dilation * tap) % stride == 0][::-1]
    if not reached:
        return [], 0, 1
    return reached, -((start + padding - dilation * reached[0]) // stride), dilation // gcd(stride, dilation)
