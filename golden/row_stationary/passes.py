"""A layer under a mapping: its processing passes, and what they count in closed form."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import gcd

from ..cost import ConvLayer
from ..tensors import pair
from .mapping import Mapping
from .pieces import Block, Filters, Loop, Part, Span, Work

__all__ = ["LayerMapping"]


@dataclass(frozen=True, kw_only=True)
class LayerMapping:
    """A layer under a mapping: its passes, and what they count.

    Passes are nested groups, strips, ifmaps, blocks, parts of the contraction, filters, ifmaps of a pass, the last
    innermost. Groups and strips that differ in size from the others come last: the array is set up anew for them.

    What is counted needs no list of them: there are few kinds of each, which differ in size (:attr:`.Loop.kinds`), and
    properties named `..._kinds` give an example of each with its number.

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
    def stride(self) -> tuple[int, int]:
        """Rows and columns from a window to the next."""
        return pair("stride", self.layer.stride)

    @cached_property
    def dilation(self) -> tuple[int, int]:
        """Rows and columns from a tap to the next."""
        return pair("dilation", self.layer.dilation)

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
    def images(self) -> Loop:
        """Ifmaps whose psums are together."""
        return Loop(self.batch, self.mapping.n)

    def pass_images(self, together: Span) -> list[Span]:
        """Ifmaps of each pass."""
        passes = Loop(together.size, self.mapping.images or together.size)
        return [Span(together.first + first, count) for first, count in passes]

    @cached_property
    def image_kinds(self) -> tuple[tuple[int, int, int], ...]:
        """Ifmaps of a pass, the number of such passes, and of how many regions' ifmaps they are the last."""
        kinds = []
        for (_, together), number in self.images.kinds:
            passes = Loop(together, self.mapping.images or together).kinds
            kinds += [(count, number * some, number * (index == len(passes) - 1))
                      for index, ((_, count), some) in enumerate(passes)]
        return tuple(kinds)

    @cached_property
    def groups(self) -> Loop:
        """Groups side by side."""
        return Loop(self.layer.groups, self.mapping.g)

    @cached_property
    def strips(self) -> Loop:
        """Ofmap rows of a pass."""
        return Loop(self.layer.output[1], self.mapping.e)

    @cached_property
    def rows(self) -> int:
        """Most ofmap rows of a pass."""
        return self.strips.kinds[0][0].size

    @cached_property
    def filter_blocks(self) -> Loop:
        """Filters of a group whose psums are together."""
        return Loop(self.per_group[1], self.mapping.m)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks of m filters. The last pass of a block has fewer filters in each PE if fewer will do."""
        blocks = []
        for start, count in self.filter_blocks:
            filters = tuple(self._filters(start, *piece) for piece in Loop(count, self.mapping.p * self.mapping.t))
            blocks.append(Block(start, count, filters, self._end(filters[-1])))
        return tuple(blocks)

    def _filters(self, start: int, first: int, count: int) -> Filters:
        """Filters of the pass that begins with filter `first` of the block that begins with filter `start`."""
        mapping, p = self.mapping, self.mapping.p
        if count < p * mapping.t:
            p = -(-count // mapping.t)
            if mapping.t > 1:
                p = min(mapping.p, -(-p // self.psum_lanes) * self.psum_lanes)
        passes = first // (mapping.p * mapping.t)
        return Filters(start + first, count, p, passes * mapping.t * self.psum_beats(mapping.p))

    def _end(self, filters: Filters) -> int:
        """Line behind the psums of a pass."""
        return filters.line + self.mapping.t * self.psum_beats(filters.p)

    @cached_property
    def filter_kinds(self) -> tuple[tuple[Filters, int], ...]:
        """Kinds of the filters of a pass, over all blocks."""
        at_once = self.mapping.p * self.mapping.t
        return tuple((self._filters(start, *piece), blocks * number)
                     for (start, count), blocks in self.filter_blocks.kinds
                     for piece, number in Loop(count, at_once).kinds)

    @cached_property
    def block_lines(self) -> int:
        """Most lines that a pixel's psums take for each group in a block."""
        return max(self._end(filters) for filters, _ in self.filter_kinds)

    @cached_property
    def channels(self) -> Loop:
        """Channels of a pass."""
        return Loop(self.per_group[0], self.mapping.q * self.mapping.r)

    @cached_property
    def filter_rows(self) -> Loop:
        """Filter rows of a pass."""
        return Loop(self.layer.r, self.height)

    @cached_property
    def filter_columns(self) -> Loop:
        """Filter columns of a pass."""
        return Loop(self.layer.s, self.mapping.columns or self.layer.s)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Parts of the contraction: channels, in them filter rows, in them filter columns."""
        return tuple(self._part(channels, row, columns) for channels in self.channels
                     for row, _ in self.filter_rows for columns in self.filter_columns)

    @cached_property
    def part_kinds(self) -> tuple[tuple[Part, int], ...]:
        """Kinds of parts, which differ in channels or columns."""
        rows = self.filter_rows
        last = rows.kinds[-1][0].first
        return tuple((self._part(channels, last, columns), number * len(rows) * some)
                     for channels, number in self.channels.kinds for columns, some in self.filter_columns.kinds)

    def _part(self, channels: Span, row: int, columns: Span) -> Part:
        pitch, taps, stride = self._window(columns.size)
        first = min(row, self.layer.r - self.height)
        return Part(*channels, -(-channels.size // self.mapping.r), first, row - first, *columns, pitch, taps, stride)

    def _window(self, columns: int) -> tuple[int, int, int]:
        """Pitch, taps and stride of a window of some filter columns."""
        step, dilation, windows = self.stride[1], self.dilation[1], self.layer.output[2]
        pitch = gcd(step if windows > 1 else 0, dilation if columns > 1 else 0) or 1
        stride = step // pitch if windows > 1 else 1
        return pitch, max((columns - 1) * dilation // pitch + 1, stride), stride

    def ifmap_lines(self, rows: int) -> tuple[int, int]:
        """Ifmap rows that a pass reads for ofmap rows, and their pitch: PE (i, j) has row ``(U j + D i) / pitch``."""
        step, dilation = self.stride[0], self.dilation[0]
        pitch = gcd(step if rows > 1 else 0, dilation if self.height > 1 else 0) or 1
        return (step * (rows - 1) + dilation * (self.height - 1)) // pitch + 1, pitch

    def ifmap_columns(self, part: Part) -> int:
        """Ifmap columns that a pass reads."""
        return part.stride * (self.layer.output[2] - 1) + part.taps

    def tile_lines(self, rows: int) -> int:
        """Ifmap rows, padding included, from the first to the last that all parts read for some ofmap rows."""
        return self.stride[0] * (rows - 1) + self.dilation[0] * (self.layer.r - 1) + 1

    @cached_property
    def tile_columns(self) -> int:
        """Ifmap columns, padding included, from the first to the last that a pass reads."""
        return max(part.column * self.dilation[1] + (self.ifmap_columns(part) - 1) * part.pitch + 1
                   for part, _ in self.part_kinds)

    def psum_beats(self, p: int) -> int:
        """Lines of psums of a PE's filters at a pixel."""
        return -(-p // self.psum_lanes)

    def filter_beats(self, part: Part, filters: Filters) -> int:
        """Lines of filters of a PE."""
        return -(-filters.p * part.window // self.filter_lanes)

    @cached_property
    def filter_lines(self) -> int:
        """Lines of filters of a PE, of all parts and all filters of a group."""
        return sum(parts * passes * self.filter_beats(part, filters)
                   for part, parts in self.part_kinds for filters, passes in self.filter_kinds)

    def sets(self, groups: int) -> int:
        """PE sets with different filters."""
        return groups * self.mapping.t * self.mapping.r

    def work(self) -> Iterator[Work]:
        """Blocks of psums in order.

        Work goes to and fro: a block begins with the part with which the one before ended, and a region of
        ofmaps with the block, so that what is on chip is used once more.
        """
        regions = [(groups, strip, together) for groups in self.groups for strip in self.strips
                   for together in self.images]
        regions.sort(key=lambda region: (-region[0].size, -region[1].size))
        blocks, parts = self.blocks, self.parts
        for groups, strip, together in regions:
            for block in blocks:
                yield Work(groups, strip, together, block, parts)
                parts = parts[::-1]
            blocks = blocks[::-1]

    @cached_property
    def regions(self) -> int:
        """Regions of ofmaps, of some images and a strip each, for which filters are loaded."""
        return len(self.images) * len(self.strips)

    @cached_property
    def image_passes(self) -> int:
        """Passes in which the array works through all ifmaps."""
        return sum(number for _, number, _ in self.image_kinds)

    @cached_property
    def reloads(self) -> int:
        """Times that the array reads each filter of a block: once for each strip and the ifmaps of a pass."""
        return self.image_passes * len(self.strips)

    @cached_property
    def filter_passes(self) -> int:
        """Passes in which the array works through all filters of a group."""
        return sum(number for _, number in self.filter_kinds)

    @cached_property
    def part_count(self) -> int:
        """Parts of the contraction."""
        return len(self.channels) * len(self.filter_rows) * len(self.filter_columns)

    @cached_property
    def count(self) -> int:
        """Number of passes."""
        return self.reloads * len(self.groups) * self.part_count * self.filter_passes

    @cached_property
    def active_pes(self) -> int:
        """Most PEs that a pass uses: ``R e r t``, by as many groups as are side by side."""
        return self.chain * self.rows * self.mapping.t * self.groups.kinds[0][0].size

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
        chains = groups * rows * mapping.t
        filters = sum(number * some.p for some, number in self.filter_kinds)
        sums = self.batch * windows * chains * filters
        read = sum(number * part.q * self.ifmap_columns(part) for part, number in self.part_kinds)
        window = sum(number * part.window for part, number in self.part_kinds)
        lines = sum(number * self.ifmap_lines(strip.size)[0] for strip, number in self.strips.kinds)
        return {
            "products": sums * self.chain * window,
            "passed": sums * self.part_count * (self.chain - 1),
            "ifmap_reads": self.batch * groups * mapping.r * lines * read * self.filter_passes,
            "psum_reads": sums * (self.part_count - (not bias)),
            "psum_writes": sums * self.part_count,
            "filter_reads": self.reloads * self.sets(groups) * self.height * self.filter_lines,
            "ifmap_spad_writes": self.batch * chains * self.chain * read * self.filter_passes,
            "filter_spad_writes": self.image_passes * chains * self.chain * window * filters,
        }
