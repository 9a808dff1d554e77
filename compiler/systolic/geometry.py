"""How the input of a part of a layer stands in the activation scratchpad."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import NamedTuple

from ..kernels.nest import Nest
from ..kernels.regions import Region

__all__ = ["Box", "Geometry", "Walks", "congruent"]


class Walks(NamedTuple):
    """How the pixels of a part of a region are walked: alike from each of several places, one after the other."""

    #: (Count, step) of three loops, the innermost first.
    loops: tuple[tuple[int, int], ...]
    #: Where each walk begins.
    starts: tuple[int, ...]

    @property
    def vectors(self) -> int:
        """Pixels of a walk."""
        return prod(count for count, _ in self.loops)


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
    def rows(self) -> int:
        """Filter rows."""
        return self.r1 - self.r0

    @property
    def columns(self) -> int:
        """Filter columns."""
        return self.s1 - self.s0

    @property
    def channels(self) -> int:
        """Channels."""
        return self.c1 - self.c0

    def up_to(self, part: "Box", end: int) -> "Box":
        """Filter rows up to the last that the first `end` elements of a part of the box have."""
        return replace(self, r1=part.r0 + -(-end // (part.columns * part.channels))) if part.rows > 1 else self

    @property
    def taps(self) -> int:
        """Taps."""
        return self.rows * self.columns

    @property
    def size(self) -> int:
        """Elements."""
        return self.taps * self.channels

    def tap_rows(self, most: int) -> "Iterator[Box]":
        """Its taps in order, row by row, at most so many at a time."""
        for r, s in product(range(self.r0, self.r1), range(self.s0, self.s1, most)):
            yield replace(self, r0=r, r1=r + 1, s0=s, s1=min(s + most, self.s1))


@dataclass(frozen=True)
class Geometry:
    """How the input of a region stands in the activation scratchpad, in operands."""

    #: First input row (negative above the image), rows that stand, input rows from one to the next.
    row0: int
    rows: int
    row_step: int
    #: The same for columns.
    column0: int
    columns: int
    column_step: int
    #: Distance between columns, rows and images in the scratchpad.
    pixel: int
    line: int
    image: int
    #: Distance between output columns and rows.
    pixel_m: int
    line_m: int

    @classmethod
    def of(cls, problem: Nest, region: Region, box: Box, banks: int) -> "Geometry":
        """Choose pitches so that tiles of the contraction fold, if there are such pitches."""
        (u, v), (dr, ds) = problem.stride, problem.dilation
        channels, (down, right) = box.channels, problem.finish.pool
        # With one filter row only each stride-th input row matters.
        row_step = u if box.rows == 1 else 1
        column_step = v if box.columns == 1 else 1
        rows = (region.rows * down - 1) * u // row_step + dr * (box.rows - 1) + 1
        columns = (region.columns * right - 1) * v // column_step + ds * (box.columns - 1) + 1
        pixel = channels
        if not problem.channelwise and box.columns > 1 and ds > 1:
            pixel = congruent(channels, ds, channels, banks)
        line = columns * pixel
        if not problem.channelwise and box.rows > 1:
            line = congruent(line, dr, box.columns * channels, banks)
        return cls(region.p0 * down * u - problem.top + dr * box.r0, rows, row_step,
                   region.q0 * right * v - problem.left + ds * box.s0, columns, column_step, pixel, line, rows * line,
                   pixel * (v // column_step), line * (u // row_step))

    def rows_of(self, whole: "Geometry") -> int:
        """Rows that this one reaches over where those of `whole` stand, between which it may skip some."""
        return (self.rows - 1) * self.row_step // whole.row_step + 1

    def columns_of(self, whole: "Geometry") -> int:
        """The same for columns."""
        return (self.columns - 1) * self.column_step // whole.column_step + 1

    def pixels(self, part: Region, pool: tuple[int, int]) -> Walks:
        """Walks over a part's pixels, window by window where each output is made of a window of `pool`."""
        down, right = pool
        loops = [(part.columns, right * self.pixel_m), (part.rows, down * self.line_m), (part.images, self.image)]
        if down * right == 1:
            return Walks(tuple(loops), (0,))
        left = [loop for loop in [(right, self.pixel_m), (down, self.line_m), *loops] if loop[0] > 1]
        at = 1
        while at < len(left):
            (count, step), (further, stride) = left[at - 1:at + 1]
            if stride == count * step:
                left[at - 1:at + 1] = [(count * further, step)]
            else:
                at += 1
        starts = [0]
        for count, step in left[3:]:
            starts = [index * step + start for index in range(count) for start in starts]
        return Walks((*left[:3], *[(1, 0)] * (3 - len(left))), tuple(starts))

    def walk(self, problem: Nest, box: Box, inner: Box, banks: int) -> tuple[int, dict[str, int]]:
        """Offset of the first element of `inner`, and the fields that walk its elements.

        `box` is what the tile holds, `inner` the part to contract.
        """
        (dr, ds) = problem.dilation
        offset = ((inner.r0 - box.r0) * dr * self.line + (inner.s0 - box.s0) * ds * self.pixel
                  + inner.c0 - box.c0)
        rows, columns, channels = inner.rows, inner.columns, inner.channels
        if columns == 1:
            run, jump1, run_count, jump2 = channels, dr * self.line - channels, rows, 0
        elif ds * self.pixel == channels and not problem.channelwise:
            run, run_count, jump2 = columns * channels, rows, 0
            jump1 = dr * self.line - run
        else:
            run, run_count = channels, columns
            jump1 = ds * self.pixel - channels
            jump2 = dr * self.line - columns * ds * self.pixel
        folds = not problem.channelwise and (
            inner.size <= run or (jump1 % banks == 0 and (inner.size <= run * run_count or jump2 % banks == 0)))
        modulus = 1 << 20
        return offset, {"k_total": inner.size, "run": run, "run_count": run_count, "jump1": jump1 % modulus,
                        "jump2": jump2 % modulus, "fold": int(folds)}


def congruent(least: int, factor: int, target: int, banks: int) -> int:
    """Least pitch of at least `least` with ``pitch * factor == target`` modulo `banks`, else `least`."""
    for pitch in range(least, least + banks):
        if (pitch * factor - target) % banks == 0:
            return pitch
    return least
