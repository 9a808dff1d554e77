"""Steps of a layer under a given tiling."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...hdl.shell.block_walk import BlockWalker
from ...hdl.shell.queues import CommandQueues
from ...hdl.shell.tokens import TokenGates
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.nest import Nest
from ..kernels.regions import Region, split_region
from ..kernels.views import View
from ..placement import MemoryPlan
from ..steps import Group, Tile, Use
from .endings import Rates, last_groups, pixel_step, split_at
from .geometry import Box, reach_of
from .outputs import OutputMaker
from .steps import ContractionStep
from .tiles import TileMaker
from .timing import Latencies

__all__ = ["Tiling", "can_slice", "last_part", "lower"]


@dataclass(frozen=True)
class Tiling:
    """How a layer is cut.

    Parameters
    ----------
    regions : tuple of Region
        Output pixels whose input stands in the activation scratchpad as one tile (for each of `a_boxes`).
    a_boxes : tuple of Box
        Parts of the contraction that a tile of activations holds.
    w_boxes : tuple of tuple of Box
        For each of them, the parts that a tile of weights holds.
    blocks : tuple of (int, int)
        Ranges of tiles of output channels that one group computes.
    pixels : int
        Most output pixels of a group.
    n_outer : bool
        Walk blocks of channels outside of regions.
    first_pixels : int
        Pixels of the very first group, so that computing starts early; 0 for no smaller than others.
    k_cuts : tuple of int
        Pieces in which the first tile of weights comes.
    a_cuts : tuple of int
        Channels at whose ends the first pixels' activations are cut into pieces, where :func:`can_slice`.
    w_first : bool
        Load the first weights before the first activations.
    ends : tuple of (int, int)
        Pixels and tiles of the last groups, which take the place of the last one; () for a choice by rates.
    posts : int
        POSTs of the last group.
    shrink : bool
        Cut the last group into ever smaller ones, so that little is left when the array is done.
    split_channels : bool
        With the diagonal, let a tile of activations hold only the channels of the block it is for.
    """

    regions: tuple[Region, ...]
    a_boxes: tuple[Box, ...]
    w_boxes: tuple[tuple[Box, ...], ...]
    blocks: tuple[tuple[int, int], ...]
    pixels: int
    n_outer: bool = False
    first_pixels: int = 0
    k_cuts: tuple[int, ...] = ()
    shrink: bool = True
    split_channels: bool = False
    a_cuts: tuple[int, ...] = ()
    w_first: bool = False
    ends: tuple[tuple[int, int], ...] = ()
    posts: int = 2

    def boxes(self, problem: Nest, config: SystolicConfig, block_: tuple[int, int]) -> tuple[Box, ...]:
        """Parts of the contraction that tiles of activations hold for a block of channels."""
        if not self.split_channels:
            return self.a_boxes
        reach = reach_of(problem, config)
        return tuple(replace(box, c0=block_[0] * reach, c1=min(block_[1] * reach, problem.ng))
                     for box in self.a_boxes)


def can_slice(problem: Nest) -> bool:
    """Whether channels are all there is to cut of a contraction, and no padding stands among them."""
    (u, v), padded = problem.stride, problem.top or problem.left
    return (not problem.channelwise and not problem.added and problem.r * problem.s == 1 and not padded
            and (problem.p - 1) * u < problem.height and (problem.q - 1) * v < problem.width)


#: A region, a group, a block of channels, and the parts of the region with the tiles of channels that each computes.
_Visit = tuple[Region, int, tuple[int, int], list[tuple[Region, tuple[int, int]]]]


class _Lowering:
    def __init__(self, problem: Nest, config: SystolicConfig, timing: MemoryTiming, plan: MemoryPlan, tiling: Tiling):
        self._problem = problem
        self._config, self._timing = config, timing
        self._tiling = tiling
        self._maker = TileMaker(problem, config, plan)
        self._outputs = OutputMaker(problem, config, self._maker)
        self._operands = [(problem, self._maker)]
        self._operands += [(each, TileMaker(each, config, plan)) for each in problem.added]
        #: Lines at which activation tiles are cut into pieces; EXECUTEs of a group of some shape; tiles. Keys name
        #: regions by their identity, and boxes by their places.
        self._cuts: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._shapes: dict[tuple[object, ...], list[tuple[int, int, int, int, dict[str, int]]]] = {}
        self._a_tiles: dict[tuple[int, ...], Tile] = {}
        self._w_uses: dict[tuple[int, ...], Use] = {}

    def _loops(self) -> Iterator[tuple[Region, int, tuple[int, int]]]:
        tiling = self._tiling
        for group in range(self._problem.groups):
            if tiling.n_outer:
                for tiles in tiling.blocks:
                    for region in tiling.regions:
                        yield region, group, tiles
            else:
                for region in tiling.regions:
                    for tiles in tiling.blocks:
                        yield region, group, tiles

    def _visits(self) -> list[_Visit]:
        tiling, loops = self._tiling, list(self._loops())
        visits: list[_Visit] = []
        for index, (region, group, tiles) in enumerate(loops):
            parts = split_region(region, tiling.pixels, tiling.first_pixels if index == 0 else 0)
            work = [(part, tiles) for part in parts]
            if index == len(loops) - 1 and tiling.shrink:
                work[-1:] = self._shrinking()
            visits.append((region, group, tiles, work))
        return visits

    def steps(self) -> Iterator[ContractionStep]:
        visits = self._visits()
        # Lines of an activation tile are loaded in the pieces in which the region's first visit uses them.
        for region, group, block_, work in visits:
            for place, box in enumerate(self._boxes(block_)):
                key = self._a_key(region, group, block_, place)
                if key in self._cuts:
                    continue
                lines = self._maker.lines(region, box)
                ends = sorted({min(self._line(region, part, box), lines) for part, _ in work} | {lines})
                self._cuts[key] = tuple(ends if len(ends) <= 6 else [*ends[:3], *ends[3:-1:-(-len(ends) // 4)], lines])
        first, left = True, sum(len(work) for _, _, _, work in visits)
        for region, group, block_, work in visits:
            for part, tiles in work:
                left -= 1
                sums = Group(self._outputs.outputs(part, group, tiles, 1 if left else self._tiling.posts))
                if first or (region is self._tiling.regions[0] and len(self._tiling.a_cuts) > 0):
                    yield from self._first_group(sums, region, part, group, tiles, block_, first)
                else:
                    yield from self._group(sums, region, part, group, tiles, block_)
                first = False

    def last_part(self) -> tuple[Region, tuple[int, int]]:
        """The last group, before it is cut into smaller ones: its pixels and its tiles of channels."""
        tiling = self._tiling
        *before, (region, _, tiles) = self._loops()
        return split_region(region, tiling.pixels, 0 if before else tiling.first_pixels)[-1], tiles

    def last_groups(self) -> tuple[tuple[int, int], ...]:
        """Pixels and tiles of the groups into which the last one is cut, by the rates of the hardware."""
        problem, config = self._problem, self._config
        region, tiles = self.last_part()
        array, latencies, timing = config.array, Latencies.of(config), self._timing
        depth = problem.r * problem.s if problem.channelwise else -(-problem.k // array.rows)
        gate = TokenGates.DONE_LATENCY
        # A POST is given back, the next one chosen, read and let go.
        refill = latencies.beats + latencies.needed[2] + CommandQueues.LATENCY + 2 + TokenGates.SLOT_LATENCY
        rates = Rates(
            depth, array.cols // config.post.lanes, latencies.through + gate,
            gate + latencies.prepare + latencies.slots_top, latencies.post + 1 + gate, latencies.settings, refill,
            latencies.store_data + BlockWalker.LATENCY, config.beat_bytes,
            reach_of(problem, config) * problem.finish.item(config), timing.write_latency,
            (timing.write_latency + 10) / timing.outstanding, array.rows, self._reload(tiles))
        whole = (tiles[1] - tiles[0]) * reach_of(problem, config) == problem.y.size("c")
        return last_groups(region.pixels, pixel_step(region), tiles[1] - tiles[0], rates, whole)

    def _shrinking(self) -> list[tuple[Region, tuple[int, int]]]:
        region, tiles = self.last_part()
        parts = []
        for pixels, count in self._tiling.ends or self.last_groups():
            if pixels < region.pixels:
                part, region = split_at(region, pixels)
                parts.append((part, tiles))
            else:
                parts.append((region, (tiles[0], tiles[0] + count)))
                tiles = (tiles[0] + count, tiles[1])
        return parts

    def _reload(self, tiles: tuple[int, int]) -> float:
        """Cycles to load a block's weights again, if the scratchpad can't keep them all."""
        boxes = [box for group in self._tiling.w_boxes for box in group]
        size = sum(self._maker.w_size(tiles, box) for box in boxes)
        if size <= self._config.scratchpads.weight_bytes:
            return 0.0
        return sum(self._maker.w_cycles(self._timing, tiles, box) for box in boxes)

    def _line(self, region: Region, part: Region, box: Box) -> int:
        """Lines of the region's tile that a part of it needs."""
        geometry = self._maker.geometry(region, box)
        if region.image1 - region.image0 > 1:
            return part.image1 - region.image0
        inner = self._maker.geometry(part, box)
        if geometry.rows > 1:
            return (inner.row0 - geometry.row0) // geometry.row_step + inner.rows
        return (inner.column0 - geometry.column0) // geometry.column_step + inner.columns

    def _boxes(self, block_: tuple[int, int]) -> tuple[Box, ...]:
        return self._tiling.boxes(self._problem, self._config, block_)

    def _a_key(self, region: Region, group: int, block_: tuple[int, int], place: int) -> tuple[int, ...]:
        return (id(region), group, place, *(block_ if self._tiling.split_channels else ()))

    def _group(self, sums: Group, region: Region, part: Region, group: int, tiles: tuple[int, int],
               block_: tuple[int, int]) -> Iterator[ContractionStep]:
        """Steps of a group, which are like those of any other of its shape but for their tiles."""
        a_uses: dict[tuple[int, int], Use] = {}
        for term, place, inner, lines, body in self._shape(region, part, tiles, block_):
            a_use = a_uses.get((term, place))
            if a_use is None:
                cuts = self._cuts[self._a_key(region, group, block_, place)]
                whole = next(index for index, cut in enumerate(cuts) if cut >= lines) + 1
                a_use = a_uses[term, place] = Use(self._a_tile(term, region, group, block_, place), whole)
            key = term, group, *block_, place, inner
            w_use = self._w_uses.get(key)
            if w_use is None:
                tile = self._w_tile(term, group, block_, self._tiling.w_boxes[place][inner])
                w_use = self._w_uses[key] = Use(tile, len(tile.pieces))
            yield ContractionStep(sums, a_use, w_use, body)

    def _a_tile(self, term: int, region: Region, group: int, block_: tuple[int, int], place: int) -> Tile:
        key = self._a_key(region, group, block_, place)
        tile = self._a_tiles.get((term, *key))
        if tile is None:
            box = self._boxes(block_)[place]
            tile = self._operands[term][1].activations(region, group, box, self._cuts[key],
                                                       self._slices(region, group, place, box))
            self._a_tiles[term, *key] = tile
        return tile

    def _w_tile(self, term: int, group: int, block_: tuple[int, int], box: Box) -> Tile:
        at_first = (group, block_) == (0, self._tiling.blocks[0])
        return self._operands[term][1].weights(group, block_, box, self._k_cuts(box) if at_first else (box.size,))

    def _shape(self, region: Region, part: Region, tiles: tuple[int, int], block_: tuple[int, int],
               ) -> list[tuple[int, int, int, int, dict[str, int]]]:
        """EXECUTEs of a group: operand, boxes of activations and weights, lines of activations, and body."""
        tile0 = 0 if self._problem.channelwise else block_[0]
        key = (region.image1 - region.image0, region.p1 - region.p0, region.q1 - region.q0,
               part.image0 - region.image0, part.image1 - region.image0, part.p0 - region.p0, part.p1 - region.p0,
               part.q0 - region.q0, part.q1 - region.q0, tiles[0] - tile0, tiles[1] - tile0, block_[0] - tile0,
               block_[1] - tile0)
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = []
            for term, (problem, maker) in enumerate(self._operands):
                for place, a_box in enumerate(self._boxes(block_)):
                    lines = self._line(region, part, a_box)
                    for inner, w_box in enumerate(self._tiling.w_boxes[place]):
                        bodies = self._bodies(problem, maker, region, part, a_box, w_box, 0, w_box.size, tiles, block_)
                        first = int(not found)
                        found += [(term, place, inner, lines, body | {"first": first}) for body in bodies]
        return found

    def _first_group(self, sums: Group, region: Region, part: Region, group: int, tiles: tuple[int, int],
                     block_: tuple[int, int], first_of_layer: bool) -> Iterator[ContractionStep]:
        """Steps of a group whose tiles may come in pieces."""
        tiling, first = self._tiling, True
        for term, (problem, maker) in enumerate(self._operands):
            for place, (a_box, w_boxes) in enumerate(zip(self._boxes(block_), tiling.w_boxes, strict=True)):
                cuts = self._cuts[self._a_key(region, group, block_, place)]
                slices = self._slices(region, group, place, a_box)
                a_tile = self._a_tile(term, region, group, block_, place)
                lines = self._line(region, part, a_box)
                whole = next(index for index, cut in enumerate(cuts) if cut >= lines) + len(slices)
                for w_box in w_boxes:
                    w_tile = self._w_tile(term, group, block_, w_box)
                    count = len(w_tile.pieces)
                    ends = self._k_cuts(w_box) if first_of_layer and count > 1 else (w_box.size,)
                    start = 0
                    for index, end in enumerate(ends, 1 if len(ends) > 1 else count):
                        a_pieces = whole
                        if len(slices) > 1 and whole == len(slices):
                            a_pieces = next(at for at, cut in enumerate(slices) if cut >= w_box.c0 - a_box.c0 + end) + 1
                        for body in self._bodies(problem, maker, region, part, a_box, w_box, start, end, tiles, block_):
                            yield ContractionStep(sums, Use(a_tile, a_pieces), Use(w_tile, index),
                                                  body | {"first": int(first)},
                                                  tiling.w_first and first_of_layer and first)
                        first = False
                        start = end

    def _slices(self, region: Region, group: int, place: int, box: Box) -> tuple[int, ...]:
        """Channels at whose ends the first lines of a tile of activations are cut: (all,) but for the first tile."""
        size = box.c1 - box.c0
        if region is not self._tiling.regions[0] or group or place:
            return (size,)
        return (*(cut for cut in self._tiling.a_cuts if cut < size), size)

    def _k_cuts(self, box: Box) -> tuple[int, ...]:
        """Pieces of a tile of weights that the layer's first group uses."""
        cuts = self._tiling.k_cuts
        if not cuts or box == self._tiling.w_boxes[0][0]:
            return cuts or (box.size,)
        step = max(end - start for start, end in zip((0, *cuts[:-1]), cuts, strict=True))
        if (box.r1 - box.r0) * (box.s1 - box.s0) > 1 and step % ((box.s1 - box.s0) * (box.c1 - box.c0)):
            return (box.size,)
        return (*range(step, box.size, step), box.size)

    def _bodies(self, problem: Nest, maker: TileMaker, region: Region, part: Region, a_box: Box, w_box: Box,
                start: int, end: int, tiles: tuple[int, int],
                block_: tuple[int, int]) -> Iterator[dict[str, int]]:
        config = self._config
        geometry = maker.geometry(region, a_box)
        base = ((part.image0 - region.image0) * geometry.image + (part.p0 - region.p0) * geometry.line_m
                + (part.q0 - region.q0) * geometry.pixel_m)
        w_pitch, w_nstep = maker.w_pitches(block_, w_box)
        common = {
            "m_count0": part.q1 - part.q0, "m_count1": part.p1 - part.p0, "m_count2": part.image1 - part.image0,
            "m_step0": geometry.pixel_m, "m_step1": geometry.line_m, "m_step2": geometry.image,
            "w_pitch": w_pitch, "w_nstep": w_nstep, "acc_nstep": part.pixels,
            "a_zero_point": problem.a_zero, "w_zero_point": problem.w_zero,
            "a_unsigned": int(problem.a_unsigned), "w_unsigned": int(problem.w_unsigned),
        }
        common |= {name: value % (1 << 20) for name, value in common.items() if name.startswith("m_step")}
        if problem.channelwise:
            reach = reach_of(problem, config)
            whole = min(tiles[1], problem.ng // reach)
            for low, high in ((tiles[0], whole), (max(whole, tiles[0]), tiles[1])):
                if low >= high:
                    continue
                channels = min(reach, problem.ng - low * reach)
                inner = Box(w_box.r0, w_box.r1, w_box.s0, w_box.s1, low * reach, low * reach + channels)
                offset, walk = geometry.walk(problem, a_box, inner, config.banks)
                if problem.repeat:
                    # Each run goes back to where it began.
                    walk |= {"k_total": problem.repeat * channels, "run_count": problem.repeat,
                             "jump1": -channels % (1 << 20)}
                yield common | walk | {
                    "diagonal": 1, "maximum": int(problem.maximum), "a_base": base + offset, "a_nstep": reach,
                    "n_count": high - low, "w_base": (low - block_[0]) * w_nstep,
                    "acc_base": (low - tiles[0]) * part.pixels}
            return
        offset, walk = geometry.walk(problem, a_box, w_box, config.banks)
        if (start, end) != (0, w_box.size):
            # A piece lies in one run, or is made of whole runs.
            run, jumps = walk["run"], [walk[name] - (walk[name] >> 19 << 20) for name in ("jump1", "jump2")]
            offset += start + start // run * jumps[0] + start // (run * walk["run_count"]) * jumps[1]
            walk["k_total"] = end - start
        transposed = isinstance(problem.weights, View) and problem.weights.stride("m") != 1
        yield common | walk | {
            "a_base": base + offset, "n_count": tiles[1] - tiles[0], "left": int(transposed),
            "w_base": (tiles[0] - block_[0]) * w_nstep + start * (1 if transposed else w_pitch)}


def last_part(
    problem: Nest, config: SystolicConfig, timing: MemoryTiming, tiling: Tiling,
) -> tuple[int, int, int, tuple[tuple[int, int], ...]]:
    """The last group of a layer: its pixels, what parts of them are multiples of, its tiles, and how it is cut."""
    lowering = _Lowering(problem, config, timing, MemoryPlan(keep=False), tiling)
    region, tiles = lowering.last_part()
    return region.pixels, pixel_step(region), tiles[1] - tiles[0], tiling.ends or lowering.last_groups()


def lower(config: SystolicConfig, timing: MemoryTiming, tiling: Tiling, problem: Nest,
          plan: MemoryPlan) -> list[ContractionStep]:
    """Steps of a layer, in order."""
    return list(_Lowering(problem, config, timing, plan, tiling).steps())
