"""Tilings of a layer that fit the scratchpads, weighed in closed form.

Thousands of candidates are combined of few parts: cuts of the output, cuts of the contraction, blocks of channels. What
a part costs is found once.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from ...hdl.errors import PearrayError
from ...hdl.shell.block_walk import burst_beats
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.nest import Nest
from ..kernels.regions import Region, even, split_region
from ..kernels.views import View
from ..placement import MemoryPlan
from .cost import contraction_tiles, row_beats
from .geometry import Box, Geometry, reach_of, tiles_of
from .lower import Tiling
from .tiles import TileMaker

__all__ = ["LONG", "Chooser"]

_Part = TypeVar("_Part")

#: Parts of a layer from which on it hardly feels how it begins and ends.
LONG = 64

#: Regions at most: a layer cut finer than that is all commands.
_MOST_REGIONS = 1 << 14


class _Candidate(NamedTuple):
    """Sizes from which a tiling follows."""

    region: int
    channels: int
    block: int
    k: int
    n_outer: bool = False


class _Regions:
    """A cut of the output. Regions of the same size cost the same; those at the image's edges count as whole."""

    def __init__(self, parts: tuple[Region, ...]):
        self.parts = parts
        kinds = Counter((part.image1 - part.image0, part.p1 - part.p0, part.q1 - part.q0) for part in parts)
        self.kinds = [(Region(0, kind[0], 0, kind[1], 0, kind[2]), count) for kind, count in kinds.items()]
        self.largest = max((kind for kind, _ in self.kinds), key=lambda part: part.pixels)
        self._pixels: dict[int, list[tuple[int, list[int]]]] = {}

    def pixels(self, most: int) -> list[tuple[int, list[int]]]:
        """How many regions of each kind there are, and the pixels of the groups into which one is cut."""
        if most not in self._pixels:
            self._pixels[most] = [(count, [part.pixels for part in split_region(kind, most)])
                                  for kind, count in self.kinds]
        return self._pixels[most]


class _Boxes:
    """A cut of the contraction: what tiles of activations hold, and for each what tiles of weights hold."""

    def __init__(self, a_boxes: tuple[Box, ...], w_boxes: tuple[tuple[Box, ...], ...]):
        self.a_boxes, self.w_boxes = a_boxes, w_boxes
        self.flat = [box for group in w_boxes for box in group]


class Chooser:
    """Candidates of a layer and what they cost."""

    def __init__(self, problem: Nest, config: SystolicConfig, timing: MemoryTiming):
        self._problem = problem
        self._config, self._timing = config, timing
        self._maker = TileMaker(problem, config, MemoryPlan(keep=False))
        pads = config.scratchpads
        self._a_room, self._w_room, self._o_room = pads.activation_bytes, pads.weight_bytes, pads.output_bytes
        self._depth = min(config.accumulators.depth, 1 << 15)
        self._tiles = tiles_of(problem, config)
        self._reach = reach_of(problem, config)
        self._banks = config.banks
        #: Parts by the sizes from which they follow, and by what they are: equal ones are one object.
        self._parts: dict[object, Any] = {}
        self._known: dict[object, Any] = {}

    def _once(self, key: object, make: Any) -> Any:
        """What was found before for a key, else what `make` makes."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def _same(self, part: Any, make: Any) -> Any:
        """The one object of all that are made of the same part."""
        if part not in self._parts:
            self._parts[part] = make(part)
        return self._parts[part]

    def _regions(self, pixels: int) -> _Regions:
        """The output in regions of at most `pixels`."""
        problem = self._problem
        whole = Region(0, problem.images, 0, problem.p, 0, problem.q)
        return self._once(("regions", pixels), lambda: self._same(tuple(split_region(whole, pixels)), _Regions))

    def _boxes(self, channels: int, k: int, taps: str) -> _Boxes:
        """Boxes of at most `channels` channels, and weights of at most `k` elements."""
        def make() -> _Boxes:
            a_boxes = self._a_boxes(self._problem.cg if self._problem.channelwise else channels, taps)
            w_boxes = tuple(self._w_boxes(box, k) for box in a_boxes)
            return self._same((a_boxes, w_boxes), lambda part: _Boxes(*part))

        return self._once(("boxes", channels, k, taps), make)

    def _blocks(self, most: int) -> tuple[tuple[int, int], ...]:
        """Blocks of at most `most` tiles of channels."""
        count = -(-self._tiles // min(most, self._tiles))
        return self._once(("blocks", count), lambda: tuple(even(self._tiles, count)))

    def _a_boxes(self, channels: int, taps: str = "all") -> tuple[Box, ...]:
        """Boxes of at most `channels` channels, with all taps or one filter row or tap each."""
        problem = self._problem
        rows = [(0, problem.r)] if taps == "all" else [(r, r + 1) for r in range(problem.r)]
        columns = [(0, problem.s)] if taps != "tap" else [(s, s + 1) for s in range(problem.s)]
        return tuple(Box(*r, *s, c, min(c + channels, problem.cg)) for c in range(0, problem.cg, channels)
                     for r in rows for s in columns)

    def _w_boxes(self, box: Box, most: int) -> tuple[Box, ...]:
        """Parts of a box of at most `most` elements that the array walks well."""
        channels, columns, rows = box.c1 - box.c0, box.s1 - box.s0, box.r1 - box.r0
        if self._problem.channelwise:
            channels = 1
        if box.size <= most or (self._problem.channelwise and rows * columns <= most):
            return (box,)
        if columns * channels <= most:
            count = -(-rows // (most // (columns * channels)))
            cuts = even(rows, count)
            return tuple(replace(box, r0=box.r0 + a, r1=box.r0 + b) for a, b in cuts)
        single = [replace(box, r0=r, r1=r + 1) for r in range(box.r0, box.r1)]
        if channels <= most:
            cuts = even(columns, -(-columns // (most // channels)))
            return tuple(replace(row, s0=box.s0 + a, s1=box.s0 + b) for row in single for a, b in cuts)
        step = self._round(most)
        return tuple(replace(row, s0=s, s1=s + 1, c0=c, c1=min(c + step, box.c1))
                     for row in single for s in range(box.s0, box.s1) for c in range(box.c0, box.c1, step))

    def _round(self, size: int) -> int:
        rows = self._config.array.rows
        return size // rows * rows if size > rows else max(size, 1)

    @cached_property
    def most_block(self) -> int:
        """Most tiles of channels of a group that output, biases and scales have room for."""
        problem, config = self._problem, self._config
        item, lanes, cols = problem.finish.item(config), config.post.lanes, config.array.cols
        wide = -(-self._reach // lanes) * lanes
        if cols * item > self._o_room:
            raise PearrayError(f"{problem.name}: scratchpads.output_bytes must be at least {cols * item} to hold "
                               f"a row of {cols} outputs, not {self._o_room}")
        most = (self._o_room // item - cols) // wide + 1
        if most > 1 and (self._o_room // 2 // item - cols) // wide >= 0:
            most = (self._o_room // 2 // item - cols) // wide + 1
        finish = problem.finish
        if finish.bias is not None or (finish.entries is not None and finish.entries.size > 1):
            room = config.scratchpads.channels
            if cols > room:
                raise PearrayError(f"{problem.name}: scratchpads.channels must be at least array.cols = {cols}, "
                                   f"not {room}")
            most = min(most, max(1, room // 2 // cols))
        return max(1, min(most, self._tiles, self._depth))

    def _candidates(self) -> Iterator[_Candidate]:
        problem, config = self._problem, self._config
        rows = config.array.rows
        total = problem.images * problem.p * problem.q
        blocks = sorted({min(size, self.most_block) for size in (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 256)}
                        | {-(-self._tiles // count) for count in (1, 2, 3, 4, 6, 8)
                           if -(-self._tiles // count) <= self.most_block})
        channel_sizes = [problem.cg]
        if problem.channelwise:
            channel_sizes += [self._reach * size for size in blocks if self._reach * size < problem.cg]
        else:
            size = problem.cg
            while size > rows:
                size = -(-size // 2 // rows) * rows if size // 2 > rows else rows
                channel_sizes.append(size)
        pixels, sizes = total, []
        while pixels >= 1:
            sizes.append(pixels)
            if pixels == 1:
                break
            pixels = -(-pixels // 2)
        if problem.p * problem.q > 1:
            sizes += [problem.q * count for count in (1, 2, 3, 4, 6) if problem.q * count < total]
        sizes += [self._depth // block for block in blocks if self._depth // block < total]
        item, cols = config.operand_bytes, config.array.cols
        for size in sorted(set(sizes)):
            for channels in channel_sizes:
                for block in blocks:
                    ks = {self._w_room // parts // (block * cols * item) for parts in (1, 2, 3, 4)}
                    if problem.channelwise:
                        ks = {problem.r * problem.s}
                    for k in {self._round(k) for k in ks if k}:
                        for n_outer in (False, True):
                            if n_outer and (block == self._tiles or problem.channelwise):
                                continue
                            yield _Candidate(size, channels, block, k, n_outer)

    def _tiling(self, candidate: _Candidate, taps: str = "all") -> Tiling:
        """Tiling of a candidate."""
        boxes, blocks = self._boxes(candidate.channels, candidate.k, taps), self._blocks(candidate.block)
        return Tiling(self._regions(candidate.region).parts, boxes.a_boxes, boxes.w_boxes, blocks,
                      self._pixels(blocks), candidate.n_outer, split_channels=self._splits(candidate))

    def _pixels(self, blocks: tuple[tuple[int, int], ...]) -> int:
        """Pixels of a group for which the accumulators have rows."""
        return min(self._depth // max(b - a for a, b in blocks), 1 << 15)

    def _splits(self, candidate: _Candidate) -> bool:
        return self._problem.channelwise and candidate.channels < self._problem.cg

    def _cost(self, candidate: _Candidate, taps: str = "all") -> float | None:
        """Estimated cycles, or None if a tile has no room."""
        problem, config = self._problem, self._config
        regions, blocks = self._regions(candidate.region), self._blocks(candidate.block)
        boxes, splits = self._boxes(candidate.channels, candidate.k, taps), self._splits(candidate)
        block = max(blocks, key=lambda part: part[1] - part[0])
        a_boxes = boxes.a_boxes
        if splits:
            a_boxes = self._tiling(candidate, taps).boxes(problem, config, block)
        a_most, a_sum = self._a_sizes(regions.largest, a_boxes)
        w_most, w_sum = self._w_sizes(block, boxes)
        if a_most > self._a_room or w_most > self._w_room:
            return None
        groups, steps = problem.groups, len(boxes.flat)
        # What is replaced while nothing else can be used costs its time in full.
        a_serial = len(a_boxes) * len(regions.parts) * groups > 1 and 2 * a_most > self._a_room
        w_serial = steps * len(blocks) * groups > 1 and 2 * w_most > self._w_room
        pixels = regions.pixels(self._pixels(blocks))
        parts = sum(count * len(each) for count, each in pixels)
        visits = float(parts * len(blocks) * groups)
        work = sum(count * sum(max(size, config.array.rows) for size in each) for count, each in pixels)
        tiles_k = self._once(("k", regions.largest, boxes), lambda: self._k_tiles(regions.largest, boxes))
        compute = float(work * tiles_k * self._tiles) * groups + 6.0 * steps * visits
        outputs = problem.images * problem.p * problem.q
        post = outputs * self._tiles * groups * (config.array.cols // config.post.lanes)
        # Traffic, with what stays in the scratchpads counted once.
        a_all = groups * sum(count * self._a_cycles(kind, a_boxes) for kind, count in regions.kinds)
        a_fits = a_sum <= self._a_room * (1 if len(regions.parts) * groups == 1 else 0.5)
        if splits or (candidate.n_outer and not (len(regions.parts) == 1 and a_fits)):
            a_all *= len(blocks)
        elif not candidate.n_outer and not a_fits:
            a_all *= len(blocks) * float(parts) / len(regions.parts)
        w_block = self._once(("w cycles", blocks, boxes), lambda: self._w_cycles(blocks, boxes))
        w_all = w_block * len(blocks) * groups
        if w_sum * len(blocks) * groups > self._w_room:
            if w_sum > self._w_room * (1 if len(blocks) * groups == 1 else 0.67):
                w_all *= parts
            elif not candidate.n_outer:
                w_all *= len(regions.parts)
        store = self._store_cycles(block, len(blocks))
        commands = visits * (steps * 2 + 3) * 64 / config.beat_bytes
        serial = (a_all if a_serial else 0.0) + (w_all if w_serial else 0.0)
        # Commands have their own price; ramps at both ends are shaped later.
        read = a_all + w_all + commands
        # Few pixels do not hide how long weights take: a tile is asked for when the array has done with the one in its
        # place: as many as there is room for take no less than one on the port, one in the array, and both latencies.
        loads, room, turns = w_all / w_block * steps, self._w_room // w_most, 0.0
        if loads > LONG and room > 1 and outputs <= config.array.rows:
            latency = self._timing.read_latency + config.array.rows + config.array.cols + 8
            turns = (compute + read + loads * latency) / room
        return max(compute, read, turns, post, store) + serial + 8.0 * visits * steps + 0.05 * (read + store)

    def _store_cycles(self, block: tuple[int, int], blocks: int) -> float:
        """Cycles of the port to store all outputs."""
        problem, config = self._problem, self._config
        outputs, channels = problem.images * problem.p * problem.q, min((block[1] - block[0]) * self._reach, problem.ng)
        row = channels * problem.finish.item(config)
        if channels == problem.y.size("c") and channels % self._reach == 0:
            return row_beats(config, self._timing, row * outputs)
        return row_beats(config, self._timing, row, outputs) * blocks * problem.groups

    def _a_sizes(self, region: Region, boxes: tuple[Box, ...]) -> tuple[int, int]:
        """Bytes of the largest tile of activations, and of all."""
        def make() -> tuple[int, int]:
            sizes = [self._maker.a_size(region, box) for box in boxes]
            return max(sizes), sum(sizes)

        return self._once(("a", region, boxes), make)

    def _w_cycles(self, blocks: tuple[tuple[int, int], ...], boxes: _Boxes) -> float:
        """Cycles to load the weights of a block, on the average."""
        config, sizes = self._config, {box.size: box for box in boxes.flat}
        many = Counter(box.size for box in boxes.flat)

        def cycles(block: tuple[int, int]) -> float:
            return sum(count * self._maker.w_cycles(self._timing, block, sizes[size]) for size, count in many.items())

        if not isinstance(self._problem.weights, View):
            return cycles(max(blocks, key=lambda part: part[1] - part[0]))
        # Blocks are alike if they are as wide, and rows in memory stand alike to the ends of bursts.
        tile, burst = config.array.cols * config.operand_bytes, burst_beats(config) * config.beat_bytes
        kinds: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for start, end in blocks:
            kinds.setdefault((end - start, start * tile % burst), []).append((start, end))
        return sum(len(alike) * cycles(alike[0]) for alike in kinds.values()) / len(blocks)

    def _w_sizes(self, block: tuple[int, int], boxes: _Boxes) -> tuple[int, int]:
        """Bytes of the largest tile of weights, and of all."""
        def make() -> tuple[int, int]:
            sizes = [self._maker.w_size(block, box) for box in boxes.flat]
            return max(sizes), sum(sizes)

        return self._once(("w", block[1] - block[0], boxes), make)

    def _k_tiles(self, region: Region, boxes: _Boxes) -> int:
        """Tiles of the contraction for a group."""
        problem, config, total = self._problem, self._config, 0
        for a_box, w_boxes in zip(boxes.a_boxes, boxes.w_boxes, strict=True):
            geometry = Geometry.of(problem, region, a_box, self._banks)
            for box in w_boxes:
                if problem.channelwise:
                    repeats = problem.repeat + sum(each.repeat for each in problem.added)
                    total += repeats or (box.r1 - box.r0) * (box.s1 - box.s0)
                else:
                    _, walk = geometry.walk(problem, a_box, box, self._banks)
                    total += contraction_tiles(config.array.rows, walk["k_total"], walk["run"], walk["fold"])
        return total

    def _a_cycles(self, region: Region, boxes: tuple[Box, ...]) -> float:
        """Cycles of the port to load a region's activations."""
        return self._once(("cycles", region, boxes), lambda: sum(self._box_cycles(region, box) for box in boxes))

    def _box_cycles(self, region: Region, box: Box) -> float:
        problem, config = self._problem, self._config
        geometry = Geometry.of(problem, region, box, self._banks)
        images, item = region.image1 - region.image0, config.operand_bytes
        channels = box.c1 - box.c0
        if channels == problem.x.stride("w") and geometry.pixel == channels and geometry.column_step == 1:
            if geometry.line == geometry.columns * geometry.pixel and geometry.row_step == 1:
                return row_beats(config, self._timing, geometry.rows * geometry.line * item * images)
            return row_beats(config, self._timing, geometry.columns * channels * item, geometry.rows * images)
        return row_beats(config, self._timing, channels * item, geometry.rows * geometry.columns * images)

    def best(self, count: int) -> list[tuple[float, Tiling]]:
        """Tilings of least estimated cycles, and these, the best first."""
        found: dict[object, tuple[float, _Candidate]] = {}
        fewest: dict[int, int] = {}
        for candidate in dict.fromkeys(self._candidates()):
            # Pieces of a small part of what fits have no merit of their own.
            parts = -(-self._problem.k // candidate.k) + -(-self._problem.cg // candidate.channels)
            if found and parts > 64 and parts > 4 * fewest.get(candidate.block, 1 << 30):
                continue
            regions = self._regions(candidate.region)
            key = (regions, self._boxes(candidate.channels, candidate.k, "all"), self._blocks(candidate.block),
                   candidate.n_outer, self._splits(candidate))
            if key in found or len(regions.parts) > _MOST_REGIONS:
                continue
            cost = self._cost(candidate)
            if cost is not None:
                found[key] = cost, candidate
                fewest[candidate.block] = min(fewest.get(candidate.block, parts), parts)
        if not found:
            return [self._smallest()]
        return [(cost, self._tiling(candidate))
                for cost, candidate in sorted(found.values(), key=lambda cost: cost[0])[:count]]

    def _smallest(self) -> tuple[float, Tiling]:
        """Tiling of the smallest tiles, for scratchpads that hold no more."""
        problem, config = self._problem, self._config
        for taps in ("row", "tap"):
            for channels in (problem.cg, config.array.rows, 1):
                for region in (problem.p * problem.q, problem.q, max(1, problem.q // 4), 1):
                    for k in (problem.k, config.array.rows, 1):
                        candidate = _Candidate(region, channels, 1, k)
                        cost = self._cost(candidate, taps)
                        if cost is not None:
                            return cost, self._tiling(candidate, taps)
        raise PearrayError(f"{problem.name}: the scratchpads can't hold the smallest tile of this layer; "
                           "make scratchpads.activation_bytes or scratchpads.weight_bytes larger")
