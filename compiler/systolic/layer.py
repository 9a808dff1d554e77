"""A layer on a configuration of the array, and how it is cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import NamedTuple

from ...hdl.errors import PearrayError
from ...hdl.post.average import SEARCH
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.nest import Nest
from ..kernels.regions import Region, joined, split_region, step_of
from ..kernels.views import View
from .cost import row_beats
from .geometry import Box

__all__ = ["Layer", "Tiles", "Tiling", "Visit"]

#: A range of tiles of output channels of a group: the first, and that behind the last.
Tiles = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer, the configuration that computes it, and the memory behind that: what all its tilings have in common."""

    problem: Nest
    config: SystolicConfig
    timing: MemoryTiming

    @cached_property
    def reach(self) -> int:
        """Output channels of a tile: C, or as many as the diagonal has."""
        array, lanes = self.config.array, self.config.post.lanes
        if not self.problem.channelwise:
            return array.cols
        reach = min(array.rows, array.cols)
        return reach if reach < lanes else reach // lanes * lanes

    @cached_property
    def tiles(self) -> int:
        """Tiles of output channels in a group."""
        return -(-self.problem.ng // self.reach)

    @cached_property
    def banks(self) -> int:
        """Banks of the activation scratchpad."""
        return self.config.banks

    @cached_property
    def sums(self) -> int:
        """Rows of sums of an output pixel."""
        return self.problem.finish.sums

    @cached_property
    def depth(self) -> int:
        """Output pixels of a tile for whose sums the accumulators have rows; one if those of a pixel come in turns."""
        return max(1, self.rows // (self.problem.apart * self.sums))

    @cached_property
    def rows(self) -> int:
        """Rows of the accumulators that a group may fill."""
        return min(self.config.accumulators.depth, 1 << 15)

    def least(self, vectors: int) -> int:
        """Fewest output pixels with as many sums."""
        return -(-vectors // self.sums)

    @property
    def is_ordered(self) -> bool:
        """Whether sums depend on the order of additions, which then is the same for all outputs."""
        return self.config.has_floats

    @cached_property
    def left(self) -> bool:
        """Whether weights of an output channel stand side by side in memory, and enter the array from the left."""
        weights = self.problem.weights
        return isinstance(weights, View) and weights.stride("m") != 1

    @cached_property
    def can_slice(self) -> bool:
        """Whether channels are all there is to cut of a contraction, and no padding stands among them."""
        problem = self.problem
        (u, v), padded, (down, right) = problem.stride, problem.top or problem.left, problem.finish.pool
        return (not problem.channelwise and not problem.added and problem.r * problem.s == 1 and not padded
                and (problem.p * down - 1) * u < problem.height and (problem.q * right - 1) * v < problem.width)

    @cached_property
    def can_lead(self) -> bool:
        """Whether an EXECUTE may have some pixels of a group, of which each has one sum."""
        problem = self.problem
        return not problem.channelwise and problem.finish.terms is None and self.sums == problem.apart == 1

    @cached_property
    def posts(self) -> int:
        """Cycles of post-processing, without an idle one."""
        problem, config = self.problem, self.config
        pixels = problem.images * problem.p * problem.q * self.sums * self.walks
        return pixels * self.tiles * problem.groups * (config.array.cols // config.post.lanes)

    @property
    def walks(self) -> int:
        """Groups of post-processing for each group of outputs."""
        return self.problem.apart + SEARCH * (self.problem.finish.steps is not None)

    @cached_property
    def wide(self) -> int:
        """Output channels from a tile to the next in the output scratchpad."""
        lanes = self.config.post.lanes
        return -(-self.reach // lanes) * lanes

    @cached_property
    def most_block(self) -> int:
        """Most tiles of channels of a group that output, biases and scales have room for.

        Raises
        ------
        PearrayError
            If there is none for one.
        """
        finish, config, cols = self.problem.finish, self.config, self.config.array.cols
        item, room, channels = finish.item(config), config.scratchpads.output_bytes, config.scratchpads.channels
        if cols * item > room:
            raise PearrayError(f"{self.problem.name}: scratchpads.output_bytes must be at least {cols * item} to hold "
                               f"a row of {cols} outputs, not {room}")
        most = (room // item - cols) // self.wide + 1
        if most > 1 and room // 2 // item >= cols:
            most = (room // 2 // item - cols) // self.wide + 1
        if finish.bias is not None or (finish.entries is not None and finish.entries.size > 1):
            if cols > channels:
                raise PearrayError(f"{self.problem.name}: scratchpads.channels must be at least array.cols = {cols}, "
                                   f"not {channels}")
            most = min(most, max(1, channels // 2 // cols))
        return max(1, min(most, self.tiles, self.depth))

    def packs(self, tiles: Tiles) -> bool:
        """Whether rows of outputs of some tiles adjoin in the scratchpad as in memory, though the last is not full.

        A tile is written before the one in front of it, which must not spill: it has a channel for each column.
        """
        problem, finish, (_, valid) = self.problem, self.problem.finish, self.span(tiles)
        return (tiles[1] - tiles[0] > 1 and valid % self.reach != 0 and valid % self.config.post.lanes == 0
                and valid == problem.y.size("c") and self.wide == self.reach == self.config.array.cols
                and self.sums == problem.apart == 1 and finish.bias_rows is None and finish.product is None
                and finish.steps is None and (finish.table is None or finish.table.ndim == 1))

    def no_room(self, kind: str = "tile") -> PearrayError:
        """What to raise if not even the smallest tiles fit."""
        return PearrayError(f"{self.problem.name}: the scratchpads can't hold the smallest {kind} of this layer; "
                            "make scratchpads.activation_bytes or scratchpads.weight_bytes larger")

    def span(self, tiles: Tiles) -> tuple[int, int]:
        """First output channel of some tiles, and how many they have."""
        first = tiles[0] * self.reach
        return first, min(tiles[1] * self.reach, self.problem.ng) - first

    def row_beats(self, length: int, rows: int = 1) -> float:
        """See :func:`~.cost.row_beats`."""
        return row_beats(self.config, self.timing, length, rows)

    def alone(self) -> "Layer":
        """The same layer with all that it reads in memory from the beginning."""
        return replace(self, problem=self.problem.alone())


class Visit(NamedTuple):
    """A region of outputs, a group of channels, and a block of its tiles: what they need stands together."""

    region: Region
    group: int
    block: Tiles


@dataclass(frozen=True)
class Tiling:
    """How a layer is cut."""

    #: Output pixels whose input stands in the activation scratchpad as one tile (for each of `a_boxes`).
    regions: tuple[Region, ...]
    #: Parts of the contraction that a tile of activations holds.
    a_boxes: tuple[Box, ...]
    #: For each of them, the parts that a tile of weights holds.
    w_boxes: tuple[tuple[Box, ...], ...]
    #: Ranges of tiles of output channels that one group computes.
    blocks: tuple[Tiles, ...]
    #: Most output pixels of a group of the widest block.
    pixels: int
    #: Walk blocks of channels outside of regions.
    n_outer: bool = False
    #: Pixels of the very first group, so that computing starts early; 0 for no smaller than others.
    first_pixels: int = 0
    #: How many times as many pixels each group has as the one before it, from the first on, until they have all.
    growth: float = 2
    #: Whether the very first group has whole rows of an image.
    by_row: bool = True
    #: Whether its first weights wait only for the rows of the image that they meet.
    meets_rows: bool = False
    #: Pieces in which the first tile of weights comes.
    k_cuts: tuple[int, ...] = ()
    #: Cut these where what is left over of the array's rows comes first, rather than last: fewer weights to wait for.
    rest_first: bool = False
    #: Cut the last group into ever smaller ones, so that little is left when the array is done.
    shrink: bool = True
    #: With the diagonal, let a tile of activations hold only the channels of the block it is for.
    split_channels: bool = False
    #: Channels at whose ends the first pixels' activations are cut into pieces, where :attr:`Layer.can_slice`.
    a_cuts: tuple[int, ...] = ()
    #: Pixels of the first group that meet its first weights before the others of them do, which come later; 0 for all.
    lead: int = 0
    #: Pixels of the first group whose activations are loaded before its first weights; -1 for all that meet these.
    ahead: int = -1
    #: Pixels and tiles of the last groups, which take the place of the last one; () for a choice by rates.
    ends: tuple[tuple[int, int], ...] = ()
    #: POSTs of the last group; 0 for a choice by rates.
    posts: int = 0
    #: Groups of the last visit that are cut into smaller ones, as if they were one.
    tail: int = 1
    #: Groups of fewer tiles have more pixels: those that follow one another take as long, so that neither array nor
    #: post-processing waits for the other.
    is_level: bool = False

    def finer(self, share: float) -> "Tiling":
        """The same with groups of a share of the pixels, alike from the first to the last."""
        return replace(self, pixels=max(1, round(share * self.pixels)), first_pixels=0, meets_rows=False, k_cuts=(),
                       rest_first=False, shrink=False, a_cuts=(), lead=0, ahead=-1, ends=(), posts=0, tail=1)

    def boxes(self, layer: Layer, block: Tiles) -> tuple[Box, ...]:
        """Parts of the contraction that tiles of activations hold for a block of channels."""
        if not self.split_channels:
            return self.a_boxes
        first, count = layer.span(block)
        return tuple(replace(box, c0=first, c1=first + count) for box in self.a_boxes)

    def places(self, layer: Layer) -> tuple[int, ...]:
        """Elements at which the first tile of weights can be cut, but for its end.

        A piece lies in one run of elements that stand side by side, or is made of whole runs. One that is no whole
        number of the array's tiles wastes some.
        """
        box, rows, run = self.w_boxes[0][0], layer.config.array.rows, self._run(layer)
        if layer.problem.channelwise:
            return ()
        line = box.columns * box.channels
        if run < line < box.size:
            # Runs of a row of the filter are counted from where an EXECUTE begins.
            return self._kept(layer, range(line, box.size, line))
        return self._kept(layer, (*range(self.unit(layer), run, rows), *range(run, box.size, run)))

    def _kept(self, layer: Layer, places: Sequence[int]) -> tuple[int, ...]:
        """Places at which the order of sums stays what it is, where that matters: between tiles of the array.

        Pieces that lie in a run are no pieces of the next one, too.
        """
        if not layer.is_ordered:
            return tuple(places)
        rows, run = layer.config.array.rows, self._run(layer)
        least = run if run % rows and run < self.w_boxes[0][0].size else 0
        return tuple(place for place in places if place % rows == 0 and place > least)

    def unit(self, layer: Layer) -> int:
        """Elements of the contraction in front of the first of its :meth:`places` that lies within a run."""
        rows = layer.config.array.rows
        return self._run(layer) % rows or rows if self.rest_first and not layer.is_ordered else rows

    def _run(self, layer: Layer) -> int:
        """Elements of the first tile of weights whose activations stand side by side."""
        box = self.w_boxes[0][0]
        is_dense = box.channels == self.a_boxes[0].channels and layer.problem.dilation[1] == 1
        return box.channels * (box.columns if is_dense else 1)

    def cut_at(self, layer: Layer, places: Iterable[int]) -> tuple[int, ...]:
        """Pieces of the first tile of weights that end at these of its :meth:`places`; () for one."""
        found, size, run = {*places}, self.w_boxes[0][0].size, self._run(layer)
        if found and min(found) < run < size:
            found.add(run)
        return (*sorted(found), size) if found else ()

    def pieces(self, layer: Layer, growth: float) -> tuple[int, ...]:
        """Growing pieces of the first tile of weights; () for one."""
        rows, size = layer.config.array.rows, self.w_boxes[0][0].size
        part, at = 1.0, self.unit(layer) - rows
        ends: list[int] = []
        for place in self.places(layer):
            if at + rows * round(part) <= place <= size - rows and len(ends) < 12:
                at = place
                ends.append(at)
                part *= growth
        return self.cut_at(layer, ends)

    def visits(self, groups: int) -> list[Visit]:
        """Regions and blocks of all groups, in order."""
        pairs = ([(region, block) for block in self.blocks for region in self.regions] if self.n_outer
                 else [*product(self.regions, self.blocks)])
        return [Visit(region, group, block) for group in range(groups) for region, block in pairs]

    def parts(self, region: Region, block: Tiles, is_first: bool) -> list[Region]:
        """Pixels of the groups of a region and a block of channels."""
        pixels = self.pixels
        if self.is_level:
            pixels = pixels * max(end - start for start, end in self.blocks) // (block[1] - block[0])
        first = self.first_pixels if is_first else 0
        return split_region(region, pixels, first, self.growth, by_row=self.by_row)

    def cut_anew(self, layer: Layer, parts: Sequence[Region], block: Tiles) -> tuple[list[Region], Region]:
        """Parts of the last visit, of a block of channels, that stay, and what is cut into smaller ones."""
        most = layer.depth // (block[1] - block[0])
        for count in range(min(self.tail, len(parts)), 1, -1):
            whole = joined(parts[-count:])
            # Parts of a row that is too long for the accumulators are not put together to be cut between rows.
            if whole is not None and step_of(whole) <= most:
                return [*parts[:-count]], whole
        return [*parts[:-1]], parts[-1]

    def last_parts(self, layer: Layer) -> tuple[tuple[int, Tiles], tuple[Region, Tiles]]:
        """What is cut into smaller groups, and before it the group before: pixels, none if there is none, and tiles."""
        visits = self.visits(layer.problem.groups)
        block = visits[-1].block
        others, last = self.cut_anew(layer, self.parts(visits[-1].region, block, len(visits) == 1), block)
        if others:
            return (others[-1].pixels, block), (last, block)
        if len(visits) == 1:
            return (0, block), (last, block)
        before = visits[-2]
        return (self.parts(before.region, before.block, len(visits) == 2)[-1].pixels, before.block), (last, block)
