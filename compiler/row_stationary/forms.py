"""Forms of a layer: every problem as a convolution of a rectangle of pixels, with its weights in one order."""

from dataclasses import dataclass, replace

import numpy as np

from ...golden.cost import ConvLayer
from ...hdl.row_stationary.config import RowStationaryConfig
from ..kernels.nest import Nest
from ..kernels.regions import Region
from ..kernels.views import View

__all__ = ["Operand", "folded", "is_folded", "merged", "operands", "region_of", "shape_of"]


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


def folded(problem: Nest, columns: int) -> Nest:
    """Fold a row of pixels into rows of at most `columns`, as even as can be.

    The tensors stay rows, and may end before the last row does. What is computed there is not stored.
    """
    rows = -(-problem.q // columns)
    columns = -(-problem.q // rows)
    return replace(problem, p=rows, q=columns, added=tuple(replace(each, p=rows, q=columns) for each in problem.added))


def is_folded(problem: Nest) -> bool:
    """Whether the tensors of a problem are rows of pixels that are worked on as several."""
    return problem.p > problem.y.size("h")


def region_of(problem: Nest, images: tuple[int, int], first: int, rows: int) -> Region:
    """Outputs of some images (first, count), and some rows from `first` on, as they lie in the output."""
    if not is_folded(problem):
        return Region(images[0], images[0] + images[1], first, first + rows, 0, problem.q)
    return Region(0, 1, 0, 1, first * problem.q, min((first + rows) * problem.q, problem.y.size("w")))


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
