"""Convolutions: dense, grouped, channel by channel, and transposed."""

from dataclasses import replace
from itertools import product
from math import gcd
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import Conv2d, Conv2dGrad, ConvTranspose2d, PooledConv2d
from .context import Context, finish_of
from .kernel import PIXELS, Access, Constant, Contraction, Finish, Index, Kernel, Product, windows
from .views import Axis, View

__all__ = ["constant_weights", "conv", "conv_transpose", "given_weights", "pooled_conv", "spread", "spread_by_view"]


def conv(context: Context, node: Node[Conv2d]) -> list[Kernel]:
    """State Conv2d as ``y[n, p, q, g ng + m] = x[n, u p + dr r, v q + ds s, g cg + c] w[g, r, s, c, m]``."""
    if context.config.has_routines and context.constant(node.inputs["w"]) is None:
        return _by_given_weights(context, node)
    return [_convolution(context, node, (1, 1))]


def pooled_conv(context: Context, node: Node[PooledConv2d]) -> list[Kernel]:
    """State PooledConv2d as Conv2d at ``kh p + i`` and ``kw q + j``, of which the greatest over i and j is made."""
    return [_convolution(context, node, node.operator.kernel)]


def _convolution(context: Context, node: Node[Conv2d], pool: tuple[int, int]) -> Kernel:
    operator = node.operator
    w = constant_weights(context, node)
    m, cg, r, s = w.shape
    x, fields = context.image(node, operator.zero_points[0]), context.stored(node)
    is_unsigned = context.graph.tensors[node.outputs["y"]].dtype.kind == "u"
    finish = replace(finish_of(context, node, m), pool=pool, is_unsigned=is_unsigned)
    y, groups = context.result_image(node), operator.groups
    # (M, C, R, S) to (G, R, S, C, N).
    weights = w.reshape(groups, m // groups, cg, r, s).transpose(0, 3, 4, 2, 1)
    return _kernel(node, x, weights, y, finish, operator.stride, operator.dilation, operator.padding[:2], fields)


def _by_given_weights(context: Context, node: Node[Conv2d]) -> list[Kernel]:
    """State Conv2d by weights that a run gives, or makes: a kernel for each group."""
    operator, w = node.operator, given_weights(context, node)
    x, y, fields = context.image(node), context.result_image(node), context.stored(node)
    finish, kernels = finish_of(context, node, y.size("c")), list[Kernel]()
    for group in range(operator.groups):
        part = w.part("m", group * (w.size("m") // operator.groups), w.size("m") // operator.groups)
        kernels.append(_viewed(node, x, part, y, _of_group(finish, group, part.size("m")), group, fields,
                               stride=operator.stride, dilation=operator.dilation, padding=operator.padding[:2]))
    return kernels


def given_weights(context: Context, node: Node) -> View:
    """Weights (M, C, R, S) of a convolution that stand in memory, with axes ``m``, ``c``, ``r`` and ``s``.

    Raises
    ------
    PearrayError
        If no strides tell where they stand.
    """
    found = context.operand(node, "w")
    strides = found.layout.strides()
    if strides is None:
        raise PearrayError(f"{node.name}: {context.graph.named(node.inputs['w'])} must stand in memory with each of its "
                           "axes at one distance")
    return View(found.buffer, tuple(map(Axis, "mcrs", found.layout.shape, strides)))


def _of_group(finish: Finish, group: int, size: int) -> Finish:
    """Post-processing of a group of so many channels."""
    bias = finish.bias
    if isinstance(bias, View):
        return replace(finish, bias=bias.part("c", group * size, size))
    return finish if bias is None else replace(finish, bias=bias[group * size:(group + 1) * size])


def _viewed(node: Node, x: View, w: View, y: View, finish: Finish, group: int, fields: list[dict[str, Any]], *,
            stride: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, int]) -> Kernel:
    """Convolution of a group of channels of an image by a view of weights, with axes ``m``, ``c``, ``r`` and ``s``."""
    sizes = {axis.name: axis.size for axis in w.axes}
    x, y = x.part("c", group * sizes["c"], sizes["c"]), y.part("c", group * sizes["m"], sizes["m"])
    inputs = {**windows(stride, dilation, padding), "c": Index({"c": 1})}
    weights = Access(w, {name: Index({name: 1}) for name in "mcrs"}, **fields[1])
    return Contraction(
        name=node.name, ranks={"n": y.size("n"), "p": y.size("h"), "q": y.size("w"), **sizes}, finish=finish,
        y=Access(y, {**PIXELS, "c": Index({"m": 1})}), terms=(Product(Access(x, inputs, **fields[0]), weights),))


def constant_weights(context: Context, node: Node) -> np.ndarray:
    """Weights of a convolution, checked, which may be packed."""
    value = context.constant(node.inputs["w"])
    if value is None:
        raise PearrayError(f"{node.name}: w must be constant")
    return context.fits(node.inputs["w"], value)


def _kernel(node: Node, x: View, weights: np.ndarray, y: View, finish: Finish, stride: tuple[int, int],
            dilation: tuple[int, int], padding: tuple[int, int], fields: list[dict[str, Any]]) -> Kernel:
    """Convolution of an image by weights (G, R, S, C, N)."""
    groups, r, s, cg, ng = weights.shape
    same = finish.sums == 1 and all(x.size(axis) == y.size(axis) for axis in "hw") and x.is_whole and y.is_whole
    if (r, s, stride, padding) == (1, 1, (1, 1), (0, 0)) and same and not groups > cg == ng == 1:
        # A pointwise filter sees nothing but its pixel.
        x, y = x.as_row(), y.as_row()
    inputs = {**windows(stride, dilation, padding, finish.pool), "c": Index({"g": cg, "c": 1})}
    outputs = {**PIXELS, "c": Index({"g": ng, "m": 1})}
    ranks = {"n": y.size("n"), "p": y.size("h"), "q": y.size("w"), "g": groups, "m": ng, "r": r, "s": s, "c": cg}
    ranks |= {rank: size for rank, size in zip("ij", finish.pool, strict=True) if size > 1}
    product = Product(Access(x, inputs, **fields[0]), Constant(weights, **fields[1]))
    return Contraction(name=node.name, ranks=ranks, y=Access(y, outputs), terms=(product,), finish=finish)


def conv_transpose(context: Context, node: Node[ConvTranspose2d]) -> list[Kernel]:
    """State ConvTranspose2d: each input spreads over outputs."""
    operator = node.operator
    x, fields = context.image(node, operator.zero_points[0]), context.stored(node)
    w = constant_weights(context, node)
    finish = finish_of(context, node, w.shape[1] * operator.groups)
    return spread(node, x, w, context.result_image(node), finish, fields)


def spread(node: Node[ConvTranspose2d] | Node[Conv2dGrad], x: View, w: np.ndarray, y: View, finish: Finish,
           fields: list[dict[str, Any]]) -> list[Kernel]:
    """State a transposed convolution by w (C, N, R, S): outputs of one phase of the stride see some of the taps.

    Output row ``u * i + a`` gets tap r of input row ``i + (a + top - d * r) / u`` where that is whole.
    Such taps lie ``u / gcd(u, d)`` apart, and their input rows go down by ``d / gcd(u, d)`` from one to
    the next: turned round they are a convolution of stride 1 with that dilation.
    """
    c, ng, r, s = w.shape
    operator, groups = node.operator, node.operator.groups
    (u, v), (dr, ds), (top, left, _, _) = operator.stride, operator.dilation, operator.padding
    # (C, N, R, S) to (G, R, S, C / G, N).
    filters = w.reshape(groups, c // groups, ng, r, s).transpose(0, 3, 4, 1, 2)
    kernels = []
    for a in range(min(u, y.size("h"))):
        rows, above, down = _phase(a, u, dr, r, top)
        for b in range(min(v, y.size("w"))):
            columns, before, right = _phase(b, v, ds, s, left)
            taps = filters[:, rows][:, :, columns]
            if not taps.size:
                # No tap reaches these outputs: one that weighs nothing leaves them their bias.
                taps = np.full((groups, 1, 1, c // groups, ng), fields[1]["zero"], w.dtype)
            part = y.part("h", a, len(range(a, y.size("h"), u)), u).part("w", b, len(range(b, y.size("w"), v)), v)
            kernels.append(_kernel(node, x, taps, part, finish, (1, 1), (down, right), (above, before), fields))
    return kernels


def spread_by_view(node: Node[Conv2dGrad], x: View, w: View, y: View, fields: list[dict[str, Any]]) -> list[Kernel]:
    """State a transposed convolution as :func:`spread`, by a view of weights: a kernel for each group and phase."""
    operator, kernels = node.operator, list[Kernel]()
    (u, v), (dr, ds), (top, left, _, _) = operator.stride, operator.dilation, operator.padding
    # What the forward pass contracts are the channels that are made, and the other way round.
    each, turned = w.size("m") // operator.groups, w.renamed("c", "m", "r", "s")
    for group, a, b in product(range(operator.groups), range(min(u, y.size("h"))), range(min(v, y.size("w")))):
        (rows, above, down), (columns, before, right) = (
            _phase(start, step, apart, w.size(name), padded)
            for start, step, apart, name, padded in ((a, u, dr, "r", top), (b, v, ds, "s", left)))
        part = y.part("h", a, len(range(a, y.size("h"), u)), u).part("w", b, len(range(b, y.size("w"), v)), v)
        if not rows or not columns:
            # No tap reaches these outputs: one that weighs nothing leaves them zero.
            nothing = np.zeros((1, 1, 1, each, w.size("c")), np.int8)
            kernels.append(_kernel(node, x.part("c", group * each, each), nothing,
                                   part.part("c", group * w.size("c"), w.size("c")), Finish(), (1, 1), (1, 1),
                                   (above, before), fields))
            continue
        taps = turned.part("c", group * each, each)
        for name, reached in (("r", rows), ("s", columns)):
            taps = taps.part(name, reached[0], len(reached), reached[1] - reached[0] if len(reached) > 1 else 1)
        kernels.append(_viewed(node, x, taps, part, Finish(), group, fields, stride=(1, 1), dilation=(down, right),
                               padding=(above, before)))
    return kernels


def _phase(start: int, stride: int, dilation: int, taps: int, padding: int) -> tuple[list[int], int, int]:
    """Taps of one phase in the order of their inputs, inputs before the first output's, and their distance."""
    reached = [tap for tap in range(taps) if (start + padding - dilation * tap) % stride == 0][::-1]
    if not reached:
        return [], 0, 1
    return reached, -((start + padding - dilation * reached[0]) // stride), dilation // gcd(stride, dilation)
