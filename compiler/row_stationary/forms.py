"""Forms of a layer: every problem as convolutions of rectangles of pixels, with their weights in one order."""

from dataclasses import dataclass, replace

import numpy as np

from ...golden.cost import ConvLayer
from ...hdl.row_stationary.config import RowStationaryConfig
from ..kernels.nest import Nest
from ..kernels.views import Axis, View

__all__ = ["Operand", "merged", "operands", "rectangles", "shape_of"]


@dataclass(frozen=True, eq=False)
class Operand:
    """What adds to the sums of a layer: a tensor and its weights.

    Parameters
    ----------
    problem : Nest
        Where the tensor stands, and its zero points.
    weights : tuple of ndarray or View
        (G, R, S, C, N) for groups G of C input and N output channels each. Several meet the same tensor one after
        another. Channels that the tensor does not have meet zeros.
    groups, cg, ng : int
        Groups, and channels of each.
    """

    problem: Nest
    weights: "tuple[np.ndarray | View, ...]"
    groups: int
    cg: int
    ng: int


def rectangles(problem: Nest, columns: int) -> list[Nest]:
    """Cut a row of pixels into a rectangle of `columns`, and a row of what is left."""
    rows, rest = divmod(problem.q, columns)

    def view(whole: View, first: int, rows: int, columns: int) -> View:
        part = whole.part("w", first, rows * columns)
        step = part.stride("w")
        return replace(part, axes=(part.axis("n"), Axis("h", rows, columns * step), Axis("w", columns, step),
                                   part.axis("c")))

    def cut(part: Nest, first: int, rows: int, columns: int) -> Nest:
        return replace(part, x=view(part.x, first, rows, columns), y=view(part.y, first, rows, columns), p=rows,
                       q=columns, added=tuple(cut(each, first, rows, columns) for each in part.added))

    return (([cut(problem, 0, rows, columns)] if rows else [])
            + ([cut(problem, rows * columns, 1, rest)] if rest else []))


def shape_of(problem: Nest, groups: int, cg: int, ng: int) -> ConvLayer:
    """Shape of a layer, its padding counted to the ifmap."""
    (u, v), (dr, ds) = problem.stride, problem.dilation
    return ConvLayer(name=problem.name, c=groups * cg, h=(problem.p - 1) * u + dr * (problem.r - 1) + 1,
                     w=(problem.q - 1) * v + ds * (problem.s - 1) + 1, m=groups * ng, r=problem.r, s=problem.s,
                     stride=problem.stride, dilation=problem.dilation, groups=groups)


def operands(problem: Nest, config: RowStationaryConfig) -> list[Operand]:
    """Operands of a layer.

    Channel by channel, as many channels as a line has sums are one group, with zeros between them.
    """
    return [_channelwise(part, config) if part.channelwise else _dense(part) for part in (problem, *problem.added)]


def merged(operand: Operand, count: int) -> Operand:
    """Make one group of each `count` groups, with zeros between them."""
    if count == 1:
        return operand
    groups, cg, ng = operand.groups // count, operand.cg, operand.ng
    weights = []
    for values in operand.weights:
        assert isinstance(values, np.ndarray)
        r, s = values.shape[1:3]
        full = np.full((groups, r, s, count, cg, count, ng), operand.problem.w_zero, np.int64)
        for index in range(count):
            full[:, :, :, index, :, index] = values.reshape(groups, count, r, s, cg, ng)[:, index]
        weights.append(full.reshape(groups, r, s, count * cg, count * ng))
    return Operand(operand.problem, tuple(weights), groups, count * cg, count * ng)


def _dense(problem: Nest) -> Operand:
    weights = problem.weights
    if not isinstance(weights, View):
        weights = weights.reshape(problem.groups, problem.r, problem.s, problem.cg, problem.ng)
    return Operand(problem, (weights,), problem.groups, problem.cg, problem.ng)


def _channelwise(problem: Nest, config: RowStationaryConfig) -> Operand:
    values = problem.weights
    assert isinstance(values, np.ndarray)
    channels, taps = problem.ng, problem.r * problem.s
    joined = min(config.psum_lanes, channels)
    groups = -(-channels // joined)
    several = values if problem.repeat else [None]
    weights = []
    for factor in several:
        each = np.full((taps, groups * joined), problem.w_zero, np.int64)
        each[:, :channels] = values if factor is None else factor
        full = np.full((groups, taps, joined, joined), problem.w_zero, np.int64)
        for lane in range(joined):
            full[:, :, lane, lane] = each.reshape(taps, groups, joined)[:, :, lane].T
        weights.append(full.reshape(groups, problem.r, problem.s, joined, joined))
    return Operand(problem, tuple(weights), groups, joined, joined)
