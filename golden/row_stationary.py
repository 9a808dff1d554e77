"""Row-stationary mapping of a convolution onto a PE array, and what it costs in closed form.

Names and parameters are those of Eyeriss (JSSC 2017, section IV and tables II and III). A PE
convolves rows: it holds ``q`` channels of ``p`` filters' rows of S taps, slides over an ifmap row and
makes a psum row of each filter. R x ``e`` PEs are a PE set: filter row i meets ifmap row U j + i in PE
(i, j), and sums go up its columns to row j of the ofmap. ``r`` sets work on different channels, with their sums
added, and ``t`` sets on different filters. In one processing pass the array works on ``n`` ifmaps, ``q r``
channels and ``p t`` filters. The global buffer holds the psums of ``m`` ofmap channels, for ``n``
ifmaps and ``e`` rows, until all channels have been added.

Four parameters are our own: ``g`` groups of a convolution side by side; ``rows`` and ``columns`` of the filter in
a pass, where not all fit; and ``images`` of a pass, where the n ifmaps take several, which use the same filters.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import gcd

from .cost import ConvLayer
from .tensors import four_sides, pair

__all__ = [
    "Block", "Filters", "LayerMapping", "Mapping", "PEStorage", "Part", "Pass", "Strip", "check", "global_buffer_size",
]


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Parameters of a row-stationary mapping; see the module.

    Parameters
    ----------
    m : int
        Ofmap channels of a group whose psums the global buffer holds.
    n : int
        Ifmaps whose psums the global buffer holds, and of a pass.
    e : int
        Ofmap rows of a PE set.
    p, q : int
        Filters and channels of a PE.
    r, t : int
        PE sets on different channels, and on different filters.
    g : int
        Groups side by side. More than one only if a pass has all filters of each.
    rows, columns : int
        Filter rows of a PE set and filter columns of a PE; 0 for all.
    images : int
        Ifmaps of a pass; 0 for n.
    """

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int
    g: int = 1
    rows: int = 0
    columns: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name in ("rows", "columns", "images") else 1
            if type(value) is not int or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class PEStorage:
    """Words of the three scratchpads of a PE; by default those of the chip.

    Parameters
    ----------
    ifmap, filter, psum : int
        Words of each.
    """

    ifmap: int = 12
    filter: int = 224
    psum: int = 24


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


def _cut(total: int, size: int) -> list[tuple[int, int]]:
    """Cut a range into pieces: first and count of each."""
    return [(first, min(size, total - first)) for first in range(0, total, size)]


@dataclass(frozen=True, kw_only=True)
class LayerMapping:
    """A layer under a mapping: its passes, and what they count.

    Passes are nested groups, strips, ifmaps, blocks, parts of the contraction, filters, ifmaps of a pass, the last
    innermost. Groups and strips that differ in size from the others come last: the array is set up anew for them.

    Parameters
    ----------
    layer : ConvLayer
        The convolution.
    mapping : Mapping
        Its mapping.
    batch : int
        Images.
    filter_lanes, psum_lanes : int
        Words of a line of filters and of psums.
    """

    layer: ConvLayer
    mapping: Mapping
    batch: int = 1
    filter_lanes: int = 4
    psum_lanes: int = 4

    @cached_property
    def height(self) -> int:
        """Filter rows of a PE set."""
        return self.mapping.rows or self.layer.r

    @cached_property
    def per_group(self) -> tuple[int, int]:
        """Channels and filters of a group."""
        return self.layer.c // self.layer.groups, self.layer.m // self.layer.groups

    @cached_property
    def chain(self) -> int:
        """PEs whose sums are added in the array."""
        return self.height * self.mapping.r

    @cached_property
    def images(self) -> tuple[tuple[int, int], ...]:
        """Ifmaps whose psums are together: first and count."""
        return tuple(_cut(self.batch, self.mapping.n))

    def pass_images(self, images: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Ifmaps of each pass: first and count."""
        return tuple((images[0] + first, count) for first, count in _cut(images[1], self.mapping.images or images[1]))

    @cached_property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """Groups side by side: first and count."""
        return tuple(_cut(self.layer.groups, self.mapping.g))

    @cached_property
    def strips(self) -> tuple[Strip, ...]:
        """Strips: ``e`` rows each, and what is left for the last one."""
        return tuple(Strip(*piece) for piece in _cut(self.layer.output[1], self.mapping.e))

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks of m filters. The last pass of a block has fewer filters in each PE if fewer will do."""
        at_once = self.mapping.p * self.mapping.t
        blocks = []
        for start, count in _cut(self.per_group[1], self.mapping.m):
            filters, line = [], 0
            for first, some in _cut(count, at_once):
                p = self.mapping.p
                if some < at_once:
                    p = -(-some // self.mapping.t)
                    if self.mapping.t > 1:
                        p = min(self.mapping.p, -(-p // self.psum_lanes) * self.psum_lanes)
                filters.append(Filters(start + first, some, p, line))
                line += self.mapping.t * self.psum_beats(p)
            blocks.append(Block(start, count, tuple(filters), line))
        return tuple(blocks)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Parts of the contraction: channels, in them filter rows, in them filter columns."""
        mapping, layer = self.mapping, self.layer
        rows = [(min(first, layer.r - self.height), first) for first in range(0, layer.r, self.height)]
        parts = []
        for channel, channels in _cut(self.per_group[0], mapping.q * mapping.r):
            for row, wanted in rows:
                for column, columns in _cut(layer.s, mapping.columns or layer.s):
                    pitch, taps, stride = self._window(columns)
                    parts.append(Part(channel, channels, -(-channels // mapping.r), row, wanted - row, column, columns,
                                      pitch, taps, stride))
        return tuple(parts)

    def _window(self, columns: int) -> tuple[int, int, int]:
        """Pitch, taps and stride of a window of some filter columns."""
        step, dilation = pair("stride", self.layer.stride)[1], pair("dilation", self.layer.dilation)[1]
        windows = self.layer.output[2]
        pitch = gcd(step if windows > 1 else 0, dilation if columns > 1 else 0) or 1
        stride = step // pitch if windows > 1 else 1
        return pitch, max((columns - 1) * dilation // pitch + 1, stride), stride

    def ifmap_lines(self, strip: Strip) -> tuple[int, int]:
        """Ifmap rows that a pass reads for a strip, and their pitch: PE (i, j) has row ``(U j + D i) / pitch``."""
        step, dilation = pair("stride", self.layer.stride)[0], pair("dilation", self.layer.dilation)[0]
        pitch = gcd(step if strip.rows > 1 else 0, dilation if self.height > 1 else 0) or 1
        return (step * (strip.rows - 1) + dilation * (self.height - 1)) // pitch + 1, pitch

    def ifmap_columns(self, part: Part) -> int:
        """Ifmap columns that a pass reads."""
        return part.stride * (self.layer.output[2] - 1) + part.taps

    def tile_lines(self, strip: Strip) -> int:
        """Ifmap rows, padding included, from the first to the last that all parts of a strip read."""
        step, dilation = pair("stride", self.layer.stride)[0], pair("dilation", self.layer.dilation)[0]
        return step * (strip.rows - 1) + dilation * (self.layer.r - 1) + 1

    @cached_property
    def tile_columns(self) -> int:
        """Ifmap columns, padding included, from the first to the last that a pass reads."""
        dilation = pair("dilation", self.layer.dilation)[1]
        return max(part.column * dilation + (self.ifmap_columns(part) - 1) * part.pitch + 1 for part in self.parts)

    def psum_beats(self, p: int) -> int:
        """Lines of psums of a PE's filters at a pixel."""
        return -(-p // self.psum_lanes)

    def filter_beats(self, part: Part, filters: Filters) -> int:
        """Lines of filters of a PE."""
        return -(-filters.p * part.window // self.filter_lanes)

    def sets(self, groups: int) -> int:
        """PE sets with different filters."""
        return groups * self.mapping.t * self.mapping.r

    def passes(self) -> Iterator[Pass]:
        """Passes in order."""
        last = len(self.parts) - 1
        for groups, strip, together, block, parts in self.work():
            for index, part in enumerate(parts):
                for filters in block.filters:
                    for images in self.pass_images(together):
                        yield Pass(*images, *groups, strip, block, part, filters, index == 0, index == last)

    def work(self) -> Iterator[tuple[tuple[int, int], Strip, tuple[int, int], Block, tuple[Part, ...]]]:
        """Blocks of psums in order: groups, strip, ifmaps, block of filters, and the parts that are added up in it.

        Work goes to and fro: a block begins with the part with which the one before ended, and a region of
        ofmaps with the block, so that what is on chip is used once more.
        """
        regions = [(groups, strip, together) for groups in self.groups for strip in self.strips
                   for together in self.images]
        regions.sort(key=lambda region: (-region[0][1], -region[1].rows))
        blocks, parts = tuple(self.blocks), tuple(self.parts)
        for groups, strip, together in regions:
            for block in blocks:
                yield groups, strip, together, block, parts
                parts = parts[::-1]
            blocks = blocks[::-1]

    @cached_property
    def reloads(self) -> int:
        """Times that the array reads each filter of a block: once for each strip and the ifmaps of a pass."""
        return sum(len(self.pass_images(images)) for images in self.images) * len(self.strips)

    @cached_property
    def filter_passes(self) -> int:
        """Passes in which the array works through all filters of a group."""
        return sum(len(block.filters) for block in self.blocks)

    @cached_property
    def count(self) -> int:
        """Number of passes."""
        return self.reloads * len(self.groups) * len(self.parts) * self.filter_passes

    @cached_property
    def active_pes(self) -> int:
        """Most PEs that a pass uses: ``R e r t``, by as many groups as are side by side."""
        return self.chain * self.strips[0].rows * self.mapping.t * self.groups[0][1]

    def counts(self, bias: bool = True) -> dict[str, int]:
        """Count what all passes do.

        Each pass reads the psums of its outputs and writes them back, and reads its ifmap rows, padding included;
        rows that neighbouring strips share are read for each. The counts are products of sums, since the loops are
        independent.

        Parameters
        ----------
        bias : bool
            Whether the first passes of a block read biases from the global buffer; else they read no psums.

        Returns
        -------
        dict
            By name: ``products`` (with those of padding, ``macs`` and ``gated`` of a run together), ``passed`` (sums
            to the PE above), ``ifmap_reads``, ``psum_reads``, ``psum_writes`` (words between global buffer and
            array), ``filter_reads`` (lines), ``ifmap_spad_writes``, ``filter_spad_writes`` (words).
        """
        mapping, windows = self.mapping, self.layer.output[2]
        groups, rows = self.layer.groups, self.layer.output[1]
        filters = [some for block in self.blocks for some in block.filters]
        chains = groups * rows * mapping.t
        sums = self.batch * windows * chains * sum(some.p for some in filters)
        read = sum(part.q * self.ifmap_columns(part) for part in self.parts)
        window = sum(part.window for part in self.parts)
        beats = sum(self.filter_beats(part, some) for part in self.parts for some in filters)
        lines = sum(self.ifmap_lines(strip)[0] for strip in self.strips)
        return {
            "products": sums * self.chain * window,
            "passed": sums * len(self.parts) * (self.chain - 1),
            "ifmap_reads": self.batch * groups * mapping.r * lines * read * self.filter_passes,
            "psum_reads": sums * (len(self.parts) - (not bias)),
            "psum_writes": sums * len(self.parts),
            "filter_reads": self.reloads * self.sets(groups) * self.height * beats,
            "ifmap_spad_writes": self.batch * chains * self.chain * read * self.filter_passes,
            "filter_spad_writes": (self.reloads // len(self.strips) * chains * self.chain * window
                                   * sum(some.p for some in filters)),
        }


def check(mapped: LayerMapping, rows: int, cols: int, storage: PEStorage) -> None:
    """Raise an error unless a mapping fits an array.

    A chain of PEs, whose sums are added, stands in one column. Chains may stand anywhere: so a set that is wider than
    the array goes on in the rows above.

    Parameters
    ----------
    mapped : LayerMapping
        The layer and its mapping.
    rows, cols : int
        PEs of the array.
    storage : PEStorage
        Words of a PE.

    Raises
    ------
    ValueError
        Naming the parameter that does not fit.
    """
    layer, mapping = mapped.layer, mapped.mapping
    channels, filters = mapped.per_group
    limits = {
        "rows": (mapping.rows, layer.r, "rows of the filter"),
        "columns": (mapping.columns, layer.s, "columns of the filter"),
        "rows of a set": (mapped.height, rows, "array.rows"),
        "g": (mapping.g, layer.groups, "groups"),
        "images": (mapping.images, mapping.n, "n"),
        "e": (mapping.e, layer.output[1], "rows of the ofmap"),
        "q * r": (mapping.q * mapping.r, channels, "channels of a group"),
        "m": (mapping.m, filters, "filters of a group"),
    }
    for name, (value, limit, what) in limits.items():
        if value > limit:
            raise ValueError(f"{name} must be at most {limit} ({what}), not {value}")
    window = max(part.window for part in mapped.parts)
    limits = {
        "q * s": (window, storage.ifmap, "words of the ifmap scratchpad"),
        "p * q * s": (mapping.p * window, storage.filter, "words of the filter scratchpad"),
        "p": (mapping.p, storage.psum, "words of the psum scratchpad"),
    }
    for name, (value, limit, what) in limits.items():
        if value > limit:
            raise ValueError(f"{name} must be at most {limit} ({what}), not {value}")
    if mapping.p % mapped.psum_lanes and mapping.p < mapping.m:
        raise ValueError(f"p must be a multiple of {mapped.psum_lanes} (words of a line) or at least "
                         f"m = {mapping.m}, not {mapping.p}")
    if mapping.g > 1 and mapping.p * mapping.t < filters:
        raise ValueError(f"p * t must be at least {filters} (filters of a group) with g = {mapping.g}, "
                         f"not {mapping.p * mapping.t}")
    if mapping.g > 1 and mapping.r > 1 and mapping.q * mapping.r < channels:
        raise ValueError(f"q * r must be {channels} (channels of a group) with g = {mapping.g} and r > 1, "
                         f"not {mapping.q * mapping.r}")
    room = cols * (rows // mapped.chain)
    if mapping.g * mapping.e * mapping.t > room:
        raise ValueError(f"g * e * t must be at most {room} (chains of {mapped.chain} PEs in {rows} x {cols}), "
                         f"not {mapping.g * mapping.e * mapping.t}")


def global_buffer_size(layer: ConvLayer, mapping: Mapping) -> dict[str, int]:
    """Words that a mapping keeps in the global buffer: ``ifmap`` of one pass, ``psum`` of one block.

    Parameters
    ----------
    layer : ConvLayer
        The convolution.
    mapping : Mapping
        Its mapping.
    """
    left, right = four_sides(layer.padding)[1::2]
    rows = pair("stride", layer.stride)[0] * (mapping.e - 1) + layer.r
    return {"ifmap": mapping.n * mapping.q * mapping.r * rows * (layer.w + left + right),
            "psum": mapping.m * mapping.n * mapping.e * layer.output[2]}
