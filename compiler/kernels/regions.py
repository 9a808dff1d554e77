"""Parts of an output: ranges of pixels, and how they are cut."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from .views import View

__all__ = ["Region", "even", "joined", "split_region", "step_of"]


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
    def images(self) -> int:
        """Number of images."""
        return self.image1 - self.image0

    @property
    def rows(self) -> int:
        """Number of rows of an image."""
        return self.p1 - self.p0

    @property
    def columns(self) -> int:
        """Number of columns."""
        return self.q1 - self.q0

    @property
    def pixels(self) -> int:
        """Number of output pixels."""
        return self.images * self.rows * self.columns

    def is_run(self, p: int, q: int) -> bool:
        """Whether its pixels follow one another among images of p rows and q columns."""
        return (self.columns == q or self.images * self.rows == 1) and (self.rows == p or self.images == 1)

    def first(self, y: View) -> int:
        """Element of the buffer at which the first pixel begins, of an output view with axes ``n, h, w``."""
        return y.element(n=self.image0, h=self.p0, w=self.q0)

    def numbers(self, y: View) -> slice | np.ndarray:
        """Rows of the output's buffer in which the pixels lie."""
        columns, step = y.buffer.columns, y.stride("w")
        if self.pixels == 1 or (self.images == 1 and step == columns and (self.rows == 1 or y.is_dense("h", "w"))):
            first = self.first(y) // columns
            return slice(first, first + self.pixels)
        images = np.arange(self.images)[:, None, None] * y.stride("n")
        rows = np.arange(self.rows)[:, None] * y.stride("h")
        return ((self.first(y) + images + rows + np.arange(self.columns) * step) // columns).reshape(-1)


def even(total: int, parts: int) -> list[tuple[int, int]]:
    """Cut `total` into as many parts as even as can be: first and end of each."""
    return list(pairwise(total * index // parts for index in range(parts + 1)))


def _sizes(total: int, most: int, first: int, growth: float) -> list[int]:
    """Cut `total` into even parts of at most `most`, after growing ones that begin with `first`."""
    sizes = []
    if first:
        part = float(first)
        while part < most and total > 2 * int(part):
            sizes.append(int(part))
            total -= int(part)
            part *= growth
    parts = -(-total // most)
    return sizes + [total // parts + (index < total % parts) for index in range(parts)]


def joined(parts: Sequence[Region]) -> Region | None:
    """The region that parts make which follow one another; None if it has another form."""
    first, last = parts[0], parts[-1]
    whole = Region(first.image0, last.image1, min(part.p0 for part in parts), max(part.p1 for part in parts),
                   min(part.q0 for part in parts), max(part.q1 for part in parts))
    return whole if whole.pixels == sum(part.pixels for part in parts) else None


def step_of(region: Region) -> int:
    """Pixels of which the parts of a region are multiples."""
    return region.rows * region.columns if region.images > 1 else region.columns if region.rows > 1 else 1


def split_region(region: Region, most: int, first: int = 0, growth: float = 2, *,
                 by_row: bool = True) -> list[Region]:
    """Cut a region into contiguous ones of at most `most` pixels.

    The first has about `first` if given, at least a row if it goes `by_row`, and each behind it `growth` times as many.
    """
    rows, columns = region.rows, region.columns
    parts: list[Region] = []
    if region.images > 1:
        per_image = rows * columns
        if per_image <= most:
            at = region.image0
            for size in _sizes(region.image1 - at, most // per_image, -(-first // per_image), growth):
                parts.append(Region(at, at + size, region.p0, region.p1, region.q0, region.q1))
                at += size
            return parts
        for image in range(region.image0, region.image1):
            parts += split_region(Region(image, image + 1, region.p0, region.p1, region.q0, region.q1), most,
                                  first if image == region.image0 else 0, growth, by_row=by_row)
        return parts
    if columns <= most and rows > 1:
        at = region.p0
        if not by_row and 0 < first < columns:
            # The rest of the row makes a group of its own.
            row, middle = replace(region, p1=at + 1), region.q0 + first
            parts += [replace(row, q1=middle), replace(row, q0=middle)]
            at, first = at + 1, columns
        for size in _sizes(region.p1 - at, most // columns, -(-first // columns), growth):
            parts.append(Region(region.image0, region.image1, at, at + size, region.q0, region.q1))
            at += size
        return parts
    for p in range(region.p0, region.p1):
        at = region.q0
        for size in _sizes(columns, most, first if p == region.p0 else 0, growth):
            parts.append(Region(region.image0, region.image1, p, p + 1, at, at + size))
            at += size
    return parts
