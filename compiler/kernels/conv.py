"""Convolutions: dense, grouped, channel by channel, and transposed."""

from collections.abc import Sequence
from math import gcd
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.shell.config import Config
from ...hdl.systolic.config import SystolicConfig
from ..graph.graph import Node
from ..operators import Conv2d, ConvTranspose2d
from ..operators.operator import padding4, pair
from ..systolic.schedule import LayerStep
from .context import Context, finish_of, image_of, operand_fields, steps_of
from .problem import Problem

__all__ = ["lower_conv", "lower_conv_transpose"]


def lower_conv(context: Context, node: Node) -> Sequence[LayerStep]:
    """Lower Conv2d: dense, grouped with groups joined to fill the array, or channel by channel."""
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
        return steps_of(context, Problem(cg=c, ng=c, diagonal=True, weights=w.reshape(m, r * s).T, **common))
    ng = m // groups
    joined = _joined(groups, cg, ng, context.config)
    # (M, C, R, S) to (G, R, S, C, N).
    packed = _block_diagonal(w.reshape(groups, ng, cg, r, s).transpose(0, 3, 4, 2, 1), joined,
                             operator.zero_points[1])
    if (r, s, common["stride"]) == (1, 1, (1, 1)) and (p, q) == (height, width):
        # A pointwise filter sees one long row of pixels.
        common |= {"images": 1, "height": 1, "width": images * p * q, "p": 1, "q": images * p * q, "top": 0, "left": 0}
    return steps_of(context, Problem(groups=groups // joined, cg=cg * joined, ng=ng * joined, weights=packed, **common))


def _joined(groups: int, cg: int, ng: int, config: Config) -> int:
    """Groups to compute together as one block-diagonal matrix: as many as the array has columns and rows for.

    A row-stationary array has sets of PEs for several groups, and its mapping joins what it likes.
    """
    best = 1
    if not isinstance(config, SystolicConfig):
        return best
    for joined in range(1, groups + 1):
        if groups % joined == 0 and joined * ng <= config.array.cols and joined * cg <= max(config.array.rows, cg):
            best = joined
    return best


def lower_conv_transpose(context: Context, node: Node) -> Sequence[LayerStep]:
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
    joined = _joined(groups, c // groups, ng, context.config)
    steps: list[LayerStep] = []
    for a in range(min(u, p)):
        rows, above, down = _phase(a, u, dr, r, top)
        for b in range(min(v, q)):
            columns, before, right = _phase(b, v, ds, s, left)
            taps = filters[:, rows][:, :, columns]
            if not taps.size:
                # No tap reaches these outputs: one that weighs nothing leaves them their bias.
                taps = np.full((groups, 1, 1, c // groups, ng), operator.zero_points[1], np.int64)
            steps += steps_of(context, Problem(
                name=node.name, x=x, y=y, images=images, height=height, width=width, p=len(range(a, p, u)),
                q=len(range(b, q, v)), groups=groups // joined, cg=c // groups * joined, ng=ng * joined,
                r=taps.shape[1], s=taps.shape[2], dilation=(down, right), top=above, left=before,
                weights=_block_diagonal(taps, joined, operator.zero_points[1]), finish=finish, y_size=(p, q),
                origin=(a, b), step=(u, v), **operand_fields(context, node)))
    return steps


def _phase(start: int, stride: int, dilation: int, taps: int, padding: int) -> tuple[list[int], int, int]:
    """Taps of one phase in the order of their inputs, inputs before the first output's, and their distance."""
    reached = [tap for tap in range(taps) if (start + padding - dilation * tap) % stride == 0][::-1]
    if not reached:
        return [], 0, 1
    return reached, -((start + padding - dilation * reached[0]) // stride), dilation // gcd(stride, dilation)


def _block_diagonal(taps: np.ndarray, joined: int, zero: int) -> np.ndarray:
    """Weights (G, R, S, C, N) of groups as (G / joined, R * S * joined * C, joined * N)."""
    groups, r, s, c, n = taps.shape
    full = np.full((groups // joined, r, s, joined, c, joined, n), zero, np.int64)
    parts = taps.reshape(groups // joined, joined, r, s, c, n)
    for index in range(joined):
        full[:, :, :, index, :, index, :] = parts[:, index]
    return full.reshape(groups // joined, r * s * joined * c, joined * n)
