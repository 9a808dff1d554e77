"""What the array is asked to do, for every operator alike: a convolution of pixels, or a channel-wise walk.

A matrix product is a convolution of one row of M pixels by a 1 x 1 filter.
"""

from dataclasses import dataclass, field

import numpy as np

from ...hdl.shell.commands import Rounding
from ...hdl.shell.config import Config
from .plan import Stored

__all__ = ["Box", "Finish", "Geometry", "Matrix", "Problem", "Region", "split_region"]


@dataclass
class Finish:
    """Post-processing of a layer.

    Parameters
    ----------
    rounding : Rounding
        Rule; with ``Rounding.NONE`` the other fields but `bias` and `relu` are ignored.
    zero_point, low, high : int
        Of the output.
    entries : ndarray of shape (1,) or (channels,), uint64, or None
        Entries of the scale memory.
    bias : ndarray of shape (channels,), Stored, or None
        Constant biases; or a tensor of one pixel (N,) or of M pixels (M, N).
    table : ndarray of shape (256,) or (channels, 256), or None
        Table.
    relu : bool
        Whether negative sums become zero, with ``Rounding.NONE``.
    shift : int
        Lowest bit of the window of a product, in fixed point.
    """

    rounding: Rounding = Rounding.NONE
    zero_point: int = 0
    low: int = 0
    high: int = 0
    entries: np.ndarray | None = None
    bias: np.ndarray | Stored | None = None
    table: np.ndarray | None = None
    relu: bool = False
    shift: int = 0


@dataclass
class Matrix:
    """Weights that are an activation: a row-major matrix in memory, (K, N), or (N, K) with `transposed`."""

    stored: Stored
    transposed: bool = False


@dataclass(kw_only=True)
class Problem:
    """A layer.

    Parameters
    ----------
    x, y : Stored
        Input of ``images * height * width`` pixels, output of ``images * p * q`` pixels.
    groups, cg, ng : int
        Groups of channels, input and output channels of each. With `diagonal` there is one group and
        ``cg == ng``: channel c of the output meets channel c of the input only.
    r, s : int
        Filter.
    stride, dilation : (int, int)
        Vertical and horizontal.
    top, left : int
        Padding; the other sides follow from p and q.
    weights : ndarray or Matrix
        (groups, r * s * cg, ng) integers; (r * s, channels) with `diagonal`, or (1, 1) for the same weight
        everywhere.
    fill : int
        What padding reads as, in memory.
    """

    name: str
    x: Stored
    y: Stored
    images: int = 1
    height: int = 1
    width: int = 1
    p: int = 1
    q: int = 1
    groups: int = 1
    cg: int = 1
    ng: int = 1
    r: int = 1
    s: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    top: int = 0
    left: int = 0
    a_zero: int = 0
    w_zero: int = 0
    a_unsigned: bool = False
    w_unsigned: bool = False
    fill: int = 0
    diagonal: bool = False
    maximum: bool = False
    #: The tensor stands transposed: `x` has a pixel for each channel, and a channel for each pixel.
    columns: bool = False
    #: Where the p * q outputs lie in images of `y_size` pixels: at ``origin + step * index``.
    y_size: tuple[int, int] | None = None
    origin: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)
    #: With `diagonal`, weights (repeat,) that all meet the same element, whatever its channel: large factors.
    repeat: int = 0
    #: A second operand of the same shape, whose products are added to the same sums.
    also: "Problem | None" = None
    weights: np.ndarray | Matrix = field(default_factory=lambda: np.ones((1, 1), np.int64))
    finish: Finish = field(default_factory=Finish)

    @property
    def k(self) -> int:
        """Elements contracted for each output."""
        return self.r * self.s * (1 if self.diagonal else self.cg)

    def tile_channels(self, config: Config) -> int:
        """Output channels of a tile: C, or as many as the diagonal has."""
        if not self.diagonal:
            return config.array.cols
        reach = min(config.array.rows, config.array.cols)
        lanes = config.post.lanes
        return reach if reach < lanes else reach // lanes * lanes

    def tiles(self, config: Config) -> int:
        """Tiles of output channels in a group."""
        return -(-self.ng // self.tile_channels(config))

    def item(self, config: Config) -> int:
        """Bytes of an output."""
        return config.sum_bytes if self.finish.rounding is Rounding.NONE else config.operand_bytes


@dataclass(frozen=True)
class Region:
    """A contiguous range of output pixels: whole images, or whole rows of one, or a part of one row."""

    image0: int
    image1: int
    p0: int
    p1: int
    q0: int
    q1: int

    @property
    def pixels(self) -> int:
        """Number of output pixels."""
        return (self.image1 - self.image0) * (self.p1 - self.p0) * (self.q1 - self.q0)

    def first(self, problem: Problem) -> int:
        """Number of the first pixel in the output tensor."""
        height, width = problem.y_size or (problem.p, problem.q)
        return ((self.image0 * height + problem.origin[0] + self.p0 * problem.step[0]) * width
                + problem.origin[1] + self.q0 * problem.step[1])

    def numbers(self, problem: Problem) -> np.ndarray:
        """Numbers of all pixels in the output tensor."""
        height, width = problem.y_size or (problem.p, problem.q)
        images = np.arange(self.image1 - self.image0)[:, None, None] * height * width
        rows = np.arange(self.p1 - self.p0)[:, None] * problem.step[0] * width
        columns = np.arange(self.q1 - self.q0) * problem.step[1]
        return (self.first(problem) + images + rows + columns).reshape(-1)


def _sizes(total: int, most: int, first: int) -> list[int]:
    """Cut `total` into even parts of at most `most`, after growing ones that begin with `first`."""
    sizes = []
    if first:
        part = first
        while part < most and total > 2 * part:
            sizes.append(part)
            total -= part
            part *= 2
    parts = -(-total // most)
    return sizes + [total // parts + (index < total % parts) for index in range(parts)]


def split_region(region: Region, most: int, first: int = 0) -> list[Region]:
    """Cut a region into contiguous ones of at most `most` pixels, the first of about `first` if given."""
    rows, columns = region.p1 - region.p0, region.q1 - region.q0
    parts: list[Region] = []
    if region.image1 - region.image0 > 1:
        per_image = rows * columns
        if per_image <= most:
            at = region.image0
            for size in _sizes(region.image1 - at, most // per_image, -(-first // per_image)):
                parts.append(Region(at, at + size, region.p0, region.p1, region.q0, region.q1))
                at += size
            return parts
        for image in range(region.image0, region.image1):
            parts += split_region(Region(image, image + 1, region.p0, region.p1, region.q0, region.q1), most,
                                  first if image == region.image0 else 0)
        return parts
    if columns <= most and rows > 1:
        at = region.p0
        for size in _sizes(rows, most // columns, -(-first // columns)):
            parts.append(Region(region.image0, region.image1, at, at + size, region.q0, region.q1))
            at += size
        return parts
    for p in range(region.p0, region.p1):
        at = region.q0
        for size in _sizes(columns, most, first if p == region.p0 else 0):
            parts.append(Region(region.image0, region.image1, p, p + 1, at, at + size))
            at += size
    return parts


@dataclass(frozen=True)
class Box:
    """Filter rows r0..r1, columns s0..s1, channels c0..c1 of a group: a part of the contraction."""

    r0: int
    r1: int
    s0: int
    s1: int
    c0: int
    c1: int

    @property
    def size(self) -> int:
        """Elements."""
        return (self.r1 - self.r0) * (self.s1 - self.s0) * (self.c1 - self.c0)


@dataclass(frozen=True)
class Geometry:
    """How the input of a region stands in the activation scratchpad, in operands.

    Parameters
    ----------
    row0, rows, row_step : int
        First input row (negative above the image), rows that stand, input rows from one to the next.
    column0, columns, column_step : int
        The same for columns.
    pixel, line, image : int
        Distance between columns, rows and images in the scratchpad.
    pixel_m, line_m : int
        Distance between output columns and rows.
    """

    row0: int
    rows: int
    row_step: int
    column0: int
    columns: int
    column_step: int
    pixel: int
    line: int
    image: int
    pixel_m: int
    line_m: int

    @classmethod
    def of(cls, problem: Problem, region: Region, box: Box, banks: int) -> "Geometry":
        """Choose pitches so that tiles of the contraction fold, if there are such pitches."""
        (u, v), (dr, ds) = problem.stride, problem.dilation
        rows_f, columns_f, channels = box.r1 - box.r0, box.s1 - box.s0, box.c1 - box.c0
        # With one filter row only each stride-th input row matters.
        row_step = u if rows_f == 1 else 1
        column_step = v if columns_f == 1 else 1
        rows = (region.p1 - region.p0 - 1) * u // row_step + dr * (rows_f - 1) + 1
        columns = (region.q1 - region.q0 - 1) * v // column_step + ds * (columns_f - 1) + 1
        pixel = channels
        if not problem.diagonal and columns_f > 1 and ds > 1:
            pixel = _congruent(channels, ds, channels, banks)
        line = columns * pixel
        if not problem.diagonal and rows_f > 1:
            line = _congruent(line, dr, columns_f * (channels if columns_f > 1 and ds > 1 else pixel), banks)
        return cls(region.p0 * u - problem.top + dr * box.r0, rows, row_step,
                   region.q0 * v - problem.left + ds * box.s0, columns, column_step, pixel, line, rows * line,
                   pixel * (v // column_step if column_step > 1 else v),
                   line * (u // row_step if row_step > 1 else u))

    def walk(self, problem: Problem, box: Box, inner: Box, banks: int) -> tuple[int, dict[str, int]]:
        """Offset of the first element of `inner`, and the fields that walk its elements.

        `box` is what the tile holds, `inner` the part to contract.
        """
        (dr, ds) = problem.dilation
        offset = ((inner.r0 - box.r0) * dr * self.line + (inner.s0 - box.s0) * ds * self.pixel
                  + inner.c0 - box.c0)
        rows, columns, channels = inner.r1 - inner.r0, inner.s1 - inner.s0, inner.c1 - inner.c0
        if columns == 1:
            run, jump1, run_count, jump2 = channels, dr * self.line - channels, rows, 0
        elif ds * self.pixel == channels and not problem.diagonal:
            run, run_count, jump2 = columns * channels, rows, 0
            jump1 = dr * self.line - run
        else:
            run, run_count = channels, columns
            jump1 = ds * self.pixel - channels
            jump2 = dr * self.line - columns * ds * self.pixel
        folds = not problem.diagonal and (
            inner.size <= run or (jump1 % banks == 0 and (inner.size <= run * run_count or jump2 % banks == 0)))
        modulus = 1 << 20
        return offset, {"k_total": inner.size, "run": run, "run_count": run_count, "jump1": jump1 % modulus,
                        "jump2": jump2 % modulus, "fold": int(folds)}


def _congruent(least: int, factor: int, target: int, banks: int) -> int:
    """Least pitch of at least `least` with ``pitch * factor == target`` modulo `banks`, else `least`."""
    for pitch in range(least, least + banks):
        if (pitch * factor - target) % banks == 0:
            return pitch
    return least
