"""Tilings of a layer that fit the scratchpads, weighed in closed form.

Thousands of candidates are combined of few parts: cuts of the output, cuts of the contraction, blocks of channels. What
a part costs is found once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from ...hdl.shell.block_walk import burst_beats
from ...memory import DEFAULT_MEMORY
from ..kernels.regions import Region, even, split_region
from ..kernels.views import View
from ..placement import MemoryPlan
from .cost import contraction_tiles
from .geometry import Box
from .layer import Layer, Tiles, Tiling
from .order import order_of, preferred, stated
from .tiles import TileMaker

__all__ = ["LONG", "Chooser", "halves"]

#: Parts of a layer from which on it hardly feels how it begins and ends.
LONG = 64

#: Regions at most: a layer cut finer than that is all commands.
_MOST_REGIONS = 1 << 14


def halves(size: int) -> list[int]:
    """A size, half of it rounded up, and so on to 1."""
    found = [size]
    while found[-1] > 1:
        found.append(-(-found[-1] // 2))
    return found


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
        # Of thousands of regions only few shapes: these are counted as plain numbers.
        shapes = Counter((part.image1 - part.image0, part.p1 - part.p0, part.q1 - part.q0) for part in parts)
        self.kinds = {Region(0, images, 0, rows, 0, columns): count
                      for (images, rows, columns), count in shapes.items()}
        self.largest = max(self.kinds, key=lambda part: part.pixels)


class _Boxes:
    """A cut of the contraction: what tiles of activations hold, and for each what tiles of weights hold."""

    def __init__(self, boxes: tuple[tuple[Box, ...], tuple[tuple[Box, ...], ...]]):
        self.a_boxes, self.w_boxes = boxes
        self.flat = [box for group in self.w_boxes for box in group]


def _most_and_sum(sizes: Iterable[int]) -> tuple[int, int]:
    found = [*sizes]
    return max(found), sum(found)


class Chooser:
    """Candidates of a layer and what they cost; with a `cut`, only those of these regions."""

    def __init__(self, layer: Layer, cut: tuple[Region, ...] = ()):
        self._cut = _Regions(cut) if cut else None
        self._layer, self._problem, self._config = layer, layer.problem, layer.config
        self._maker = TileMaker(layer, MemoryPlan(keep=False))
        self._a_room, self._w_room = layer.config.scratchpads.activation_bytes, layer.config.scratchpads.weight_bytes
        self._known: dict[object, Any] = {}

    def _once(self, key: object, make: Callable[[], Any]) -> Any:
        """What was found before for a key, else what `make` makes."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = make()
        return found

    def _regions(self, pixels: int) -> _Regions:
        """The output in regions of at most `pixels`, or as it is to be cut; equal cuts are one object."""
        if self._cut is not None:
            return self._cut

        def make() -> _Regions:
            problem = self._problem
            parts = tuple(split_region(Region(0, problem.images, 0, problem.p, 0, problem.q), pixels))
            # As many parts of the same shape in front are the same parts.
            return self._once(("cut", len(parts), parts[0]), lambda: _Regions(parts))

        return self._once(("regions", pixels), make)

    def _boxes(self, channels: int, k: int, taps: str) -> _Boxes:
        """Boxes of at most `channels` channels, and weights of at most `k` elements; equal cuts are one object."""
        def make() -> _Boxes:
            a_boxes = self._a_boxes(self._problem.cg if self._problem.channelwise else channels, taps)
            boxes = a_boxes, tuple(self._w_boxes(box, k) for box in a_boxes)
            return self._once(boxes, lambda: _Boxes(boxes))

        return self._once(("boxes", channels, k, taps), make)

    def _blocks(self, most: int) -> tuple[Tiles, ...]:
        """Blocks of at most `most` tiles of channels."""
        tiles = self._layer.tiles
        count = -(-tiles // min(most, tiles))
        return self._once(("blocks", count), lambda: tuple(even(tiles, count)))

    def _a_boxes(self, channels: int, taps: str) -> tuple[Box, ...]:
        """Boxes of at most `channels` channels, with all taps or one filter row or tap each."""
        problem = self._problem
        rows = [(0, problem.r)] if taps == "all" else [(r, r + 1) for r in range(problem.r)]
        columns = [(0, problem.s)] if taps != "tap" else [(s, s + 1) for s in range(problem.s)]
        return tuple(Box(*r, *s, c, min(c + channels, problem.cg)) for c in range(0, problem.cg, channels)
                     for r in rows for s in columns)

    def _w_boxes(self, box: Box, most: int) -> tuple[Box, ...]:
        """Parts of a box of at most `most` elements that the array walks well."""
        rows, columns, channels = box.rows, box.columns, 1 if self._problem.channelwise else box.channels
        if rows * columns * channels <= most:
            return (box,)
        if columns * channels <= most:
            cuts = even(rows, -(-rows // (most // (columns * channels))))
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

    def _sizes(self, blocks: list[int]) -> Iterator[tuple[int, int, int]]:
        """Pixels of regions, channels, and tiles of blocks."""
        problem, layer, rows = self._problem, self._layer, self._config.array.rows
        channels = [problem.cg]
        if problem.channelwise:
            channels += [layer.reach * size for size in blocks if layer.reach * size < problem.cg]
        else:
            while (size := channels[-1]) > rows:
                channels.append(-(-size // 2 // rows) * rows if size // 2 > rows else rows)
        total = problem.images * problem.p * problem.q
        pixels = set(halves(total))
        if problem.p * problem.q > 1:
            pixels |= {problem.q * count for count in (1, 2, 3, 4, 6) if problem.q * count < total}
        pixels |= {layer.depth // block for block in blocks if layer.depth // block < total}
        pixels = pixels if self._cut is None else {total}
        yield from product(sorted(pixels), channels, blocks)

    def _candidates(self) -> Iterator[_Candidate]:
        problem, tiles, most = self._problem, self._layer.tiles, self._layer.most_block
        width = self._config.array.cols * self._config.operand_bytes
        blocks = sorted({min(size, most) for size in (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 256)}
                        | {-(-tiles // count) for count in (1, 2, 3, 4, 6, 8) if -(-tiles // count) <= most})
        for pixels, channels, block in self._sizes(blocks):
            ks = {self._w_room // parts // (block * width) for parts in (1, 2, 3, 4)}
            if problem.channelwise:
                ks = {problem.r * problem.s}
            for k in {self._round(k) for k in ks if k}:
                yield _Candidate(pixels, channels, block, k)
                if block != tiles and not problem.channelwise:
                    yield _Candidate(pixels, channels, block, k, True)

    def _tiling(self, candidate: _Candidate, taps: str = "all") -> Tiling:
        """Tiling of a candidate."""
        boxes, blocks = self._boxes(candidate.channels, candidate.k, taps), self._blocks(candidate.block)
        return Tiling(self._regions(candidate.region).parts, boxes.a_boxes, boxes.w_boxes, blocks,
                      self._pixels(blocks), candidate.n_outer, split_channels=self._splits(candidate))

    def _pixels(self, blocks: tuple[Tiles, ...]) -> int:
        """Pixels of a group for which the accumulators have rows."""
        return self._layer.depth // max(b - a for a, b in blocks)

    def _splits(self, candidate: _Candidate) -> bool:
        return self._problem.channelwise and candidate.channels < self._problem.cg

    def _cost(self, candidate: _Candidate, taps: str = "all") -> float | None:
        """Estimated cycles, or None if a tile has no room."""
        layer, problem, array = self._layer, self._problem, self._config.array
        regions, blocks = self._regions(candidate.region), self._blocks(candidate.block)
        boxes, splits = self._boxes(candidate.channels, candidate.k, taps), self._splits(candidate)
        block = max(blocks, key=lambda part: part[1] - part[0])
        a_boxes = self._tiling(candidate, taps).boxes(layer, block) if splits else boxes.a_boxes
        a_most, a_sum = self._once(("a", regions.largest, a_boxes), lambda: _most_and_sum(
            self._maker.a_size(regions.largest, box) for box in a_boxes))
        w_most, w_sum = self._once(("w", block[1] - block[0], boxes), lambda: _most_and_sum(
            self._maker.w_size(block, box) for box in boxes.flat))
        if a_most > self._a_room or w_most > self._w_room:
            return None
        groups, steps, count = problem.groups, len(boxes.flat), len(regions.parts)
        # What is replaced while nothing else can be used costs its time in full.
        a_serial = len(a_boxes) * count * groups > 1 and 2 * a_most > self._a_room
        w_serial = steps * len(blocks) * groups > 1 and 2 * w_most > self._w_room
        parts, executes, work = self._work(regions, self._pixels(blocks))
        visits, executed = float(parts * len(blocks) * groups), float(executes * len(blocks) * groups)
        tiles_k = self._once(("k", regions.largest, boxes), lambda: self._k_tiles(regions.largest, boxes))
        compute = float(work * tiles_k * layer.tiles) * groups + 6.0 * steps * executed
        # Traffic, with what stays in the scratchpads counted once.
        a_all = groups * sum(number * self._a_cycles(kind, a_boxes) for kind, number in regions.kinds.items())
        a_fits = a_sum <= self._a_room * (1 if count * groups == 1 else 0.5)
        if splits or (candidate.n_outer and not (count == 1 and a_fits)):
            a_all *= len(blocks)
        elif not candidate.n_outer and not a_fits:
            a_all *= len(blocks) * float(parts) / count
        w_block = self._once(("w cycles", blocks, boxes), lambda: self._w_cycles(blocks, boxes))
        w_all = w_block * len(blocks) * groups
        if w_sum * len(blocks) * groups > self._w_room:
            if w_sum > self._w_room * (1 if len(blocks) * groups == 1 else 0.67):
                w_all *= parts
            elif not candidate.n_outer:
                w_all *= count
        store = self._store_cycles(block, len(blocks))
        commands = (visits * (steps + 3) + executed * steps) * 64 / self._config.beat_bytes
        serial = (a_all if a_serial else 0.0) + (w_all if w_serial else 0.0)
        # Commands have their own price; ramps at both ends are shaped later.
        read = a_all + w_all + commands
        # Few pixels do not hide how long weights take: a tile is asked for when the array has done with the one in its
        # place: as many as there is room for take no less than one on the port, one in the array, and both latencies.
        loads, room, turns = w_all / w_block * steps, self._w_room // w_most, 0.0
        if loads > LONG and room > 1 and problem.images * problem.p * problem.q * layer.sums <= array.rows:
            latency = layer.timing.read_latency + array.rows + array.cols + 8
            turns = (compute + read + loads * latency) / room
        return (max(compute, read, turns, layer.posts, store) + serial + 8.0 * executed * steps
                + 0.05 * (read + store))

    def _work(self, regions: _Regions, most: int) -> tuple[int, int, int]:
        """Groups of at most `most` pixels, their EXECUTEs, and cycles of the array for one tile of each."""
        def make() -> tuple[int, int, int]:
            parts = executes = work = 0
            for kind, count in regions.kinds.items():
                geometry = self._maker.geometry(kind, self._boxes(self._problem.cg, self._problem.k, "all").a_boxes[0])
                cut = split_region(kind, most)
                walks = [geometry.pixels(part, self._problem.finish.pool) for part in cut]
                parts += count * len(cut)
                executes += count * sum(len(walk.starts) for walk in walks)
                work += count * sum(len(walk.starts) * max(walk.vectors, self._config.array.rows) for walk in walks)
            return parts, executes, work

        return self._once(("work", regions, most), make)

    def _store_cycles(self, block: Tiles, blocks: int) -> float:
        """Cycles of the port to store all outputs."""
        problem, channels = self._problem, self._layer.span((0, block[1] - block[0]))[1]
        outputs, row = problem.images * problem.p * problem.q, channels * problem.finish.item(self._config)
        if channels == problem.y.size("c") and (channels % self._layer.reach == 0 or self._layer.packs(block)):
            return self._layer.row_beats(row * outputs)
        return self._layer.row_beats(row, outputs) * blocks * problem.groups

    def _w_cycles(self, blocks: tuple[Tiles, ...], boxes: _Boxes) -> float:
        """Cycles to load the weights of a block, on the average."""
        config, sizes = self._config, {box.size: box for box in boxes.flat}
        many = Counter(box.size for box in boxes.flat)

        def cycles(block: Tiles) -> float:
            return sum(count * self._maker.w_cycles(block, sizes[size]) for size, count in many.items())

        if not isinstance(self._problem.weights, View):
            return cycles(max(blocks, key=lambda part: part[1] - part[0]))
        # Blocks are alike if they are as wide, and rows in memory stand alike to the ends of bursts.
        tile, burst = config.array.cols * config.operand_bytes, burst_beats(config) * config.beat_bytes
        kinds: dict[tuple[int, int], list[Tiles]] = {}
        for start, end in blocks:
            kinds.setdefault((end - start, start * tile % burst), []).append((start, end))
        return sum(len(alike) * cycles(alike[0]) for alike in kinds.values()) / len(blocks)

    def _k_tiles(self, region: Region, boxes: _Boxes) -> int:
        """Tiles of the contraction for a group."""
        problem, total = self._problem, 0
        if problem.channelwise:
            repeats = problem.repeat + sum(each.repeat for each in problem.added)
            return sum(repeats or box.taps for box in boxes.flat)
        for a_box, w_boxes in zip(boxes.a_boxes, boxes.w_boxes, strict=True):
            geometry = self._maker.geometry(region, a_box)
            for box in w_boxes:
                _, walk = geometry.walk(problem, a_box, box, self._layer.banks)
                total += contraction_tiles(self._config.array.rows, walk["k_total"], walk["run"], walk["fold"])
        return total

    def _a_cycles(self, region: Region, boxes: tuple[Box, ...]) -> float:
        """Cycles of the port to load a region's activations."""
        return self._once(("cycles", region, boxes), lambda: sum(self._box_cycles(region, box) for box in boxes))

    def _box_cycles(self, region: Region, box: Box) -> float:
        geometry, images, channels = self._maker.geometry(region, box), region.images, box.channels
        row, rows = channels * self._config.operand_bytes, geometry.rows * geometry.columns * images
        if channels == self._problem.x.stride("w") and geometry.pixel == channels and geometry.column_step == 1:
            row, rows = row * geometry.columns, geometry.rows * images
            if geometry.line == geometry.columns * geometry.pixel and geometry.row_step == 1:
                row, rows = row * rows, 1
        return self._layer.row_beats(row, rows)

    def has_room(self, tiling: Tiling) -> bool:
        """Whether every tile of a tiling fits the scratchpads."""
        shapes = {(part.images, part.rows, part.columns): part for part in tiling.regions}.values()
        return all(
            all(self._maker.a_size(part, box) <= self._a_room
                for part in shapes for box in tiling.boxes(self._layer, block))
            and all(self._maker.w_size(block, box) <= self._w_room for boxes in tiling.w_boxes for box in boxes)
            for block in tiling.blocks)

    def best(self, count: int) -> list[tuple[float, Tiling]]:
        """Tilings of least estimated cycles, and these, the best first; of one order where that matters."""
        found = self._costed()
        if self._layer.is_ordered:
            order = self._in_order(found.values())
            found = {key: each for key, each in found.items() if self._order(each[1]) == order}
        if not found:
            return [self._smallest()]
        return [(cost, self._tiling(candidate))
                for cost, candidate in sorted(found.values(), key=lambda cost: cost[0])[:count]]

    def _order(self, candidate: _Candidate) -> bytes:
        """What tells the order of sums of a candidate from those of others."""
        boxes = self._boxes(candidate.channels, candidate.k, "all")

        return self._once(("order", boxes), lambda: stated(order_of(self._layer, self._tiling(candidate))))

    def _in_order(self, found: Iterable[tuple[float, _Candidate]]) -> bytes | None:
        """The order of sums that a layer has on this hardware, whatever the memory behind it; None if none has room."""
        if self._layer.timing != DEFAULT_MEMORY:
            usual = Chooser(replace(self._layer, timing=DEFAULT_MEMORY))
            return usual._in_order(usual._costed().values())
        costs: dict[bytes, float] = {}
        for cost, candidate in found:
            order = self._order(candidate)
            costs[order] = min(cost, costs.get(order, cost))
        return preferred(costs) if costs else None

    def _costed(self) -> dict[object, tuple[float, _Candidate]]:
        """Candidates that have room, and what they cost."""
        found: dict[object, tuple[float, _Candidate]] = {}
        fewest: dict[int, int] = {}
        whole_k, whole_channels = self._problem.k, self._problem.cg
        for candidate in dict.fromkeys(self._candidates()):
            # Pieces of a small part of what fits have no merit of their own.
            parts = -(-whole_k // candidate.k) + -(-whole_channels // candidate.channels)
            if found and parts > 64 and parts > 4 * fewest.get(candidate.block, 1 << 30):
                continue
            regions = self._regions(candidate.region)
            # Of one region it makes no difference what is walked inside.
            key = (regions, self._boxes(candidate.channels, candidate.k, "all"), self._blocks(candidate.block),
                   candidate.n_outer and len(regions.parts) > 1, self._splits(candidate))
            if key in found or len(regions.parts) > _MOST_REGIONS:
                continue
            cost = self._cost(candidate)
            if cost is not None:
                found[key] = cost, candidate
                fewest[candidate.block] = min(fewest.get(candidate.block, parts), parts)
        return found

    def _smallest(self) -> tuple[float, Tiling]:
        """Tiling of the smallest tiles, for scratchpads that hold no more."""
        problem, rows = self._problem, self._config.array.rows
        for taps, channels, region, k in product(
                ("row", "tap"), (problem.cg, rows, 1), (problem.p * problem.q, problem.q, max(1, problem.q // 4), 1),
                (problem.k, rows, 1)):
            candidate = _Candidate(region, channels, 1, k)
            cost = self._cost(candidate, taps)
            if cost is not None:
                return cost, self._tiling(candidate, taps)
        raise self._layer.no_room()
