"""What a processing pass works on: pieces of loops, and of the contraction and the filters."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

__all__ = ["Block", "Filters", "Loop", "Part", "Span", "Work"]


class Span(NamedTuple):
    """Part of a loop: `size` from `first` on."""

    first: int
    size: int


@dataclass(frozen=True)
class Loop:
    """Loop over `total`, `size` at a time, and in its last piece what is left."""

    total: int
    size: int

    def __iter__(self) -> Iterator[Span]:
        return (Span(first, min(self.size, self.total - first)) for first in range(0, self.total, self.size))

    def __len__(self) -> int:
        return (self.total + self.size - 1) // self.size

    @cached_property
    def kinds(self) -> tuple[tuple[Span, int], ...]:
        """Pieces that differ in size, the larger first: the last of each, and how many there are of it."""
        whole, rest = divmod(self.total, self.size)
        kinds = (Span((whole - 1) * self.size, self.size), whole), (Span(whole * self.size, rest), 1)
        return tuple((piece, number) for piece, number in kinds if piece.size * number)


@dataclass(frozen=True)
class Part:
    """What of a contraction a pass works on.

    Parameters
    ----------
    channel, channels : int
        First channel of the group, and how many. Channels that the PEs hold beyond them meet zero filters.
    q : int
        Channels of a PE: set r has those from ``channel + r * q`` on.
    row, skipped : int
        Filter row of the sets' first row, and how many rows from there on meet zero filters, since an earlier
        part has them.
    column, columns : int
        First filter column, and how many.
    pitch : int
        Distance of the ifmap columns that are read.
    taps, stride : int
        Columns of a window, and from a window to the next, of those that are read. Filter column ``column + i``
        is tap ``i * dilation / pitch``; others meet zero filters.
    """

    channel: int
    channels: int
    q: int
    row: int
    skipped: int
    column: int
    columns: int
    pitch: int
    taps: int
    stride: int

    @property
    def window(self) -> int:
        """Words of a window in a PE."""
        return self.taps * self.q


@dataclass(frozen=True)
class Filters:
    """Filters of a pass: `count` from `first` of the group on, `p` in each of t sets; the rest are zero.

    Their psums begin at `line` of the lines of a pixel.
    """

    first: int
    count: int
    p: int
    line: int


@dataclass(frozen=True)
class Block:
    """Filters whose psums are together in the global buffer: `count` from `first` of each group on.

    A pixel's psums take `lines` lines for each group.
    """

    first: int
    count: int
    filters: tuple[Filters, ...]
    lines: int


@dataclass(frozen=True)
class Work:
    """A block of psums: the block of filters, the parts of the contraction that are added up in it, and where it lies.

    Parameters
    ----------
    groups, strip, images : Span
        Groups side by side, ofmap rows, and ifmaps.
    block : Block
        Filters.
    parts : tuple of Part
        Parts, in order.
    """

    groups: Span
    strip: Span
    images: Span
    block: Block
    parts: tuple[Part, ...]
