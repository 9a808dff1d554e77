"""What a processing pass works on: pieces of the ofmap, of the contraction and of the filters."""

from dataclasses import dataclass

__all__ = ["Block", "Filters", "Part", "Pass", "Strip"]


@dataclass(frozen=True)
class Strip:
    """Ofmap rows of a pass: `rows` from `first` on."""

    first: int
    rows: int


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
class Pass:
    """Processing pass: `images` from `image` on, `groups` from `group` on, and the rest of the loops.

    It is the `first` or the `last` of the passes that add to its psums.
    """

    image: int
    images: int
    group: int
    groups: int
    strip: Strip
    block: Block
    part: Part
    filters: Filters
    first: bool
    last: bool
