"""Convolutions: dense, grouped, channel by channel, and transposed."""

from math import gcd
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import Conv2d, ConvTranspose2d
from ..operators.operator import padding4, pair
from .context import Context, finish_of, image_of, operand_fields
from .problem import Problem

__all__ = ["lower_conv", "lower_conv_transpose"]


def lower_conv(context: Context, node: Node) -> list[Problem]:
    """Lower Conv2d: dense, grouped, or channel by channel."""
    operator = node.operator
    assert isinstance(operator, Conv2d)
    images, c, height, width = context.graph.tensors[node.inputs["x"]].shape
    value = context.constant(node.inputs["w"])
    if value is None:
        raise PearrayError(f"{node.name}: w must be constant")
    x = image_of(context, node)
    w = context.fits(node.inputs["w"], value).astype(np.int64)
    m, cg, r, s = w.shape
    groups = operator.groups
    finish = finish_of(context, node, m)
    y = context.result(node)
    _, _, p, q = context.graph.tensors[node.outputs["y"]].shape
    top, left, _, _ = padding4(operator.padding)
    common: dict[str, Any] = {
        "name": node.name, "x": x, "y": y, "images": images, "height": height, "width": width, "p": p, "q": q,
        "r": r, "s": s, "stride": pair("stride", operator.stride), "dilation": pair("dilation", operator.dilation),
        "top": top, "left": left, "finish": finish} | operand_fields(context, node)
    if groups == m == c and groups > 1:
        # (M, 1, R, S) to (R * S, M).
        return [Problem(cg=c, ng=c, diagonal=True, weights=w.reshape(m, r * s).T, **common)]
    ng = m // groups
    # (M, C, R, S) to (G, R, S, C, N).
    packed = w.reshape(groups, ng, cg, r, s).transpose(0, 3, 4, 2, 1).reshape(groups, r * s * cg, ng)
    if (r, s, common["stride"]) == (1, 1, (1, 1)) and (p, q) == (height, width):
        # A pointwise filter sees one long row of pixels.
        common |= {"images": 1, "height": 1, "width": images * p * q, "p": 1, "q": images * p * q, "top": 0, "left": 0}
    return [Problem(groups=groups, cg=cg, ng=ng, weights=packed, **common)]


def lower_conv_transpose(context: Context, node: Node) -> list[Problem]:
    """Lower ConvTranspose2d: outputs of one phase of the stride are a convolution by some of the taps.

    Output row ``u * i + a`` gets tap r of input row ``i + (a + top - d * r) / u`` where that is whole.
    Such taps lie ``u / gcd(u, d)`` apart, and their input rows go down by ``d / gcd(u, d)`` from one to
    the next: turned round they are a convolution of stride 1 with that dilation.
    """
    operator = node.operator
    assert isinstance(operator, ConvTranspose2d)
    images, _, height, width = context.graph.tensors[node.inputs["x"]].shape
    value = context.constant(node.inputs["w"])
    if value is None:
        raise PearrayError(f"{node.name}: w must be constant")
    x = image_of(context, node)
    w = context.fits(node.inputs["w"], value).astype(np.int64)
    c, ng, r, s = w.shape
    groups = operator.groups
    finish = finish_of(context, node, ng * groups)
    y = context.result(node)
    _, _, p, q = context.graph.tensors[node.outputs["y"]].shape
    top, left, _, _ = padding4(operator.padding)
    (u, v), (dr, ds) = pair("stride", operator.stride), pair("dilation", operator.dilation)
    # (C, N, R, S) to (G, R, S, C / G, N).
    filters = w.reshape(groups, c // groups, ng, r, s).transpose(0, 3, 4, 1, 2)
    problems: list[Problem] = []
    for a in range(min(u, p)):
        rows, above, down = _phase(a, u, dr, r, top)
        for b in range(min(v, q)):
            columns, before, right = _phase(b, v, ds, s, left)
            taps = filters[:, rows][:, :, columns]
            if not taps.size:
                # No tap reaches these outputs: one that weighs nothing leaves them their bias.
                taps = np.full((groups, 1, 1, c // groups, ng), operator.zero_points[1], np.int64)
            problems.append(Problem(
                name=node.name, x=x, y=y, images=images, height=height, width=width, p=len(range(a, p, u)),
                q=len(range(b, q, v)), groups=groups, cg=c // groups, ng=ng,
                r=taps.shape[1], s=taps.shape[2], dilation=(down, right), top=above, left=before,
                weights=taps.reshape(groups, -1, ng), finish=finish, y_size=(p, q),
                origin=(a, b), step=(u, v), **operand_fields(context, node)))
    return problems


def _phase(start: int, stride: int, dilation: int, taps: int, padding: int) -> tuple[list[int], int, int]:
    """Taps of one phase in the order of their inputs, inputs before the first output's, and their distance."""
    reached = [tap for tap in range(taps) if (start + padding - dilation * tap) % stride == 0][::-1]
    if not reached:
        return [], 0, 1
    return reached, -((start + padding - dilation * reached[0]) // stride), dilation // gcd(stride, dilation)
