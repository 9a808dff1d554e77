"""Forms of a layer: every problem as a convolution of a rectangle of pixels, with its weights in one order."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ...golden.cost import ConvLayer
from ...golden.row_stationary import Span
from ...hdl.row_stationary.config import RowStationaryConfig
from ..kernels.nest import Nest
from ..kernels.regions import Region
from ..kernels.views import View

__all__ = ["Operand", "folded", "is_folded", "merged", "operands", "pieces", "region_of", "shape_of"]


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


def region_of(problem: Nest, images: Span, rows: Span) -> Region:
    """Outputs of some images and rows, as they lie in the output."""
    first, end = rows.first, rows.first + rows.size
    if not is_folded(problem):
        return Region(images.first, images.first + images.size, first, end, 0, problem.q)
    return Region(0, 1, 0, 1, first * problem.q, min(end * problem.q, problem.y.size("w")))


def pieces(problem: Nest, count: int) -> list[Nest]:
    """Cut the columns of the output into pieces, as even as can be, the widest first."""
    narrow, wider = divmod(problem.q, count)
    found, at = [], 0
    for index in range(count):
        size = narrow + (index < wider)

        def piece(nest: Nest, at: int = at, size: int = size) -> Nest:
            return replace(nest, y=nest.y.part("w", at, size), q=size, left=nest.left - at * nest.stride[1])

        found.append(replace(piece(problem), added=tuple(map(piece, problem.added))))
        at += size
    return found


def _groups(problem: Nest, config: RowStationaryConfig) -> tuple[int, int, int]:
    """Groups, and input and output channels of each: channel by channel, as many as a line has sums are one group."""
    if not problem.channelwise:
        return problem.groups, problem.cg, problem.ng
    joined = min(config.psum_lanes, problem.ng)
    return -(-problem.ng // joined), joined, joined


def shape_of(problem: Nest, config: RowStationaryConfig, filters: tuple[int, int]) -> ConvLayer:
    """Shape of a layer with some rows and columns of the filter, its padding counted to the ifmap."""
    (u, v), (dr, ds), (r, s) = problem.stride, problem.dilation, filters
    groups, cg, ng = _groups(problem, config)
    return ConvLayer(name=problem.name, c=groups * cg, h=(problem.p - 1) * u + dr * (r - 1) + 1,
                     w=(problem.q - 1) * v + ds * (s - 1) + 1, m=groups * ng, r=r, s=s, stride=problem.stride,
                     dilation=problem.dilation, groups=groups)


def operands(problem: Nest, config: RowStationaryConfig, filters: tuple[int, int]) -> list[Operand]:
    """Operands of a layer, whose filters are cut into parts of some rows and columns; zeros fill the last ones up."""
    return [part for each in (problem, *problem.added) for part in _parts(_whole(each, config), *filters)]


def _parts(operand: Operand, rows: int, columns: int) -> Iterator[Operand]:
    problem, (down, right) = operand.problem, operand.problem.dilation
    if (rows, columns) == (problem.r, problem.s):
        yield operand
        return
    for row, column in product(range(0, problem.r, rows), range(0, problem.s, columns)):
        weights = []
        for values in operand.weights:
            assert isinstance(values, np.ndarray)
            part = values[:, row:row + rows, column:column + columns]
            rest = rows - part.shape[1], columns - part.shape[2]
            weights.append(np.pad(part, ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0), (0, 0)),
                                  constant_values=problem.w_zero))
        yield replace(operand, weights=tuple(weights), problem=replace(
            problem, r=rows, s=columns, top=problem.top - row * down, left=problem.left - column * right))


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


def _whole(problem: Nest, config: RowStationaryConfig) -> Operand:
    groups, cg, ng = _groups(problem, config)
    given, channels, taps = problem.weights, groups * cg, (problem.r, problem.s)
    if isinstance(given, View):
        return Operand(problem, (given,), groups, cg, ng)
    if not problem.channelwise:
        return Operand(problem, (given.reshape(groups, *taps, cg, ng),), groups, cg, ng)
    weights = []
    for factor in given if problem.repeat else [given]:
        full = np.full((problem.r * problem.s, channels), problem.w_zero, np.int64)
        full[:, :problem.ng] = factor
        weights.append(full.T.reshape(channels, *taps, 1, 1))
    return merged(Operand(problem, tuple(weights), channels, 1, 1), cg)
