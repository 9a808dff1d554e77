"""Choice of a tiling: candidates that fit, weighed by a closed-form estimate."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from ...hdl.errors import PearrayError
from ...hdl.systolic.config import SystolicConfig
from ..kernels.nest import Nest
from ..kernels.regions import Region, split_region
from ..placement import MemoryPlan
from .cost import contraction_tiles, estimate, row_beats
from .geometry import Box, Geometry, reach_of, tiles_of
from .lower import Tiling, lower
from .ramps import improve
from .schedule import schedule
from .tiles import TileMaker
from .timing import UnendingError

__all__ = ["Chooser", "choose_tiling"]


@dataclass(frozen=True)
class _Candidate:
    """Sizes from which a tiling follows."""

    region: int
    channels: int
    block: int
    k: int
    n_outer: bool = False


class Chooser:
    """Candidates of a layer and what they cost."""

    def __init__(self, problem: Nest, config: SystolicConfig):
        self._problem = problem
        self._config = config
        self._maker = TileMaker(problem, config, MemoryPlan(keep=False))
        pads = config.scratchpads
        self._a_room, self._w_room, self._o_room = pads.activation_bytes, pads.weight_bytes, pads.output_bytes
        self._depth = min(config.accumulators.depth, 1 << 15)
        self._tiles = tiles_of(problem, config)
        self._reach = reach_of(problem, config)
        self._banks = config.banks
        self._splits: dict[object, list[Region]] = {}
        self._a_sizes: dict[object, int] = {}
        self._geometries: dict[object, Geometry] = {}
        self._regions: dict[int, tuple[Region, ...]] = {}

    def regions(self, pixels: int) -> tuple[Region, ...]:
        """The output in regions of at most `pixels`."""
        problem = self._problem
        if pixels not in self._regions:
            whole = Region(0, problem.images, 0, problem.p, 0, problem.q)
            self._regions[pixels] = tuple(split_region(whole, pixels))
        return self._regions[pixels]

    def a_boxes(self, channels: int, taps: str = "all") -> tuple[Box, ...]:
        """Boxes of at most `channels` channels, with all taps or one filter row or tap each."""
        problem = self._problem
        rows = [(0, problem.r)] if taps == "all" else [(r, r + 1) for r in range(problem.r)]
        columns = [(0, problem.s)] if taps != "tap" else [(s, s + 1) for s in range(problem.s)]
        return tuple(Box(*r, *s, c, min(c + channels, problem.cg)) for c in range(0, problem.cg, channels)
                     for r in rows for s in columns)

    def w_boxes(self, box: Box, most: int) -> tuple[Box, ...]:
        """Parts of a box of at most `most` elements that the array walks well."""
        channels, columns, rows = box.c1 - box.c0, box.s1 - box.s0, box.r1 - box.r0
        if self._problem.channelwise:
            channels = 1
        if box.size <= most or (self._problem.channelwise and rows * columns <= most):
            return (box,)
        if columns * channels <= most:
            count = -(-rows // (most // (columns * channels)))
            cuts = _even(rows, count)
            return tuple(replace(box, r0=box.r0 + a, r1=box.r0 + b) for a, b in cuts)
        single = [replace(box, r0=r, r1=r + 1) for r in range(box.r0, box.r1)]
        if channels <= most:
            cuts = _even(columns, -(-columns // (most // channels)))
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

    def tiling(self, candidate: _Candidate, taps: str = "all") -> Tiling:
        """Tiling of a candidate."""
        problem = self._problem
        block = min(candidate.block, self._tiles)
        blocks = tuple(_even(self._tiles, -(-self._tiles // block)))
        a_boxes = self.a_boxes(problem.cg if problem.channelwise else candidate.channels, taps)
        return Tiling(self.regions(candidate.region), a_boxes,
                      tuple(self.w_boxes(box, candidate.k) for box in a_boxes), blocks,
                      min(self._depth // max(b - a for a, b in blocks), 1 << 15), candidate.n_outer,
                      split_channels=problem.channelwise and candidate.channels < problem.cg)

    def cost(self, tiling: Tiling) -> float | None:
        """Estimated cycles, or None if a tile has no room.

        Regions of the same size cost the same; those at the edges of the image are taken as whole.
        """
        problem, config = self._problem, self._config
        kinds = Counter((part.image1 - part.image0, part.p1 - part.p0, part.q1 - part.q0)
                        for part in tiling.regions)
        sizes = {kind: Region(0, kind[0], 0, kind[1], 0, kind[2]) for kind in kinds}
        region = max(sizes.values(), key=lambda part: part.pixels)
        block = max(tiling.blocks, key=lambda part: part[1] - part[0])
        a_boxes = tiling.boxes(problem, config, block)
        a_sizes = [self._a_size(region, box) for box in a_boxes]
        boxes = [box for group in tiling.w_boxes for box in group]
        w_sizes = [self._maker.w_size(block, box) for box in boxes]
        if max(a_sizes) > self._a_room or max(w_sizes) > self._w_room:
            return None
        blocks, regions, groups = len(tiling.blocks), len(tiling.regions), problem.groups
        # What is replaced while nothing else can be used costs its time in full.
        a_serial = len(a_boxes) * regions * groups > 1 and 2 * max(a_sizes) > self._a_room
        w_serial = len(boxes) * blocks * groups > 1 and 2 * max(w_sizes) > self._w_room
        tiles_k = sum(self._k_tiles(region, a_box, w_box) for a_box, w_group in
                      zip(a_boxes, tiling.w_boxes, strict=True) for w_box in w_group)
        compute = parts = 0.0
        rows = config.array.rows
        for kind, count in kinds.items():
            pixels = [part.pixels for part in self._split(sizes[kind], tiling.pixels)]
            compute += count * sum(max(size, rows) for size in pixels) * tiles_k * self._tiles
            parts += count * len(pixels)
        visits = parts * blocks * groups
        compute = compute * groups + 6.0 * len(boxes) * visits
        outputs = problem.images * problem.p * problem.q
        post = outputs * self._tiles * groups * (config.array.cols // config.post.lanes)
        # Traffic, with what stays in the scratchpads counted once.
        a_all = groups * sum(count * sum(self._a_cycles(sizes[kind], box) for box in a_boxes)
                             for kind, count in kinds.items())
        a_fits = sum(a_sizes) <= self._a_room * (1 if regions * groups == 1 else 0.5)
        if tiling.split_channels:
            a_all *= blocks
        elif tiling.n_outer and not (regions == 1 and a_fits):
            a_all *= blocks
        elif not a_fits:
            a_all *= blocks * parts / regions
        w_block = sum(self._maker.w_cycles(block, box) for box in boxes)
        w_all = w_block * blocks * groups
        if sum(w_sizes) * blocks * groups > self._w_room:
            if sum(w_sizes) > self._w_room * (1 if blocks * groups == 1 else 0.67):
                w_all *= parts
            elif not tiling.n_outer:
                w_all *= regions
        channels = min((block[1] - block[0]) * self._reach, problem.ng)
        row = channels * problem.finish.item(config)
        if channels == problem.y.size("c") and channels % self._reach == 0:
            store = row_beats(config, row * outputs)
        else:
            store = row_beats(config, row, outputs) * blocks * groups
        commands = visits * (len(boxes) * 2 + 3) * 64 / config.beat_bytes
        serial = (a_all if a_serial else 0.0) + (w_all if w_serial else 0.0)
        # Commands have their own price; ramps at both ends are shaped later.
        read = a_all + w_all + commands
        return max(compute, read, post, store) + serial + 8.0 * visits * len(boxes) + 0.05 * (read + store)

    def _split(self, region: Region, most: int) -> list[Region]:
        key = (region, most)
        if key not in self._splits:
            self._splits[key] = split_region(region, most)
        return self._splits[key]

    def _a_size(self, region: Region, box: Box) -> int:
        key = (region, box)
        if key not in self._a_sizes:
            self._a_sizes[key] = self._maker.a_size(region, box)
        return self._a_sizes[key]

    def _geometry(self, region: Region, box: Box) -> Geometry:
        key = (region, box)
        if key not in self._geometries:
            self._geometries[key] = Geometry.of(self._problem, region, box, self._banks)
        return self._geometries[key]

    def _k_tiles(self, region: Region, a_box: Box, w_box: Box) -> int:
        if self._problem.channelwise:
            repeats = self._problem.repeat + sum(each.repeat for each in self._problem.added)
            return repeats or (w_box.r1 - w_box.r0) * (w_box.s1 - w_box.s0)
        _, walk = self._geometry(region, a_box).walk(self._problem, a_box, w_box, self._banks)
        return contraction_tiles(self._config.array.rows, walk["k_total"], walk["run"], walk["fold"])

    def _a_cycles(self, region: Region, box: Box) -> float:
        problem, config, geometry = self._problem, self._config, self._geometry(region, box)
        images, item = region.image1 - region.image0, config.operand_bytes
        channels = box.c1 - box.c0
        if channels == problem.x.stride("w") and geometry.pixel == channels and geometry.column_step == 1:
            if geometry.line == geometry.columns * geometry.pixel and geometry.row_step == 1:
                return row_beats(config, geometry.rows * geometry.line * item * images)
            return row_beats(config, geometry.columns * channels * item, geometry.rows * images)
        return row_beats(config, channels * item, geometry.rows * geometry.columns * images)

    def best(self, count: int) -> list[Tiling]:
        """Tilings of least estimated cycles, the best first."""
        found: dict[Tiling, float] = {}
        fewest = 1 << 30
        for candidate in dict.fromkeys(self._candidates()):
            # Pieces of a small part of what fits have no merit of their own.
            parts = -(-self._problem.k // candidate.k) + -(-self._problem.cg // candidate.channels)
            if found and parts > 64 and parts > 4 * fewest:
                continue
            tiling = self.tiling(candidate)
            if tiling in found or len(tiling.regions) > 1 << 14:
                continue
            cost = self.cost(tiling)
            if cost is not None:
                found[tiling] = cost
                fewest = min(fewest, parts)
        if not found:
            return [self._smallest()]
        return sorted(found, key=lambda tiling: found[tiling])[:count]

    def _smallest(self) -> Tiling:
        """Tiling of the smallest tiles, for scratchpads that hold no more."""
        problem, config = self._problem, self._config
        for taps in ("row", "tap"):
            for channels in (problem.cg, config.array.rows, 1):
                for region in (problem.p * problem.q, problem.q, max(1, problem.q // 4), 1):
                    for k in (problem.k, config.array.rows, 1):
                        tiling = self.tiling(_Candidate(region, channels, 1, k), taps)
                        cost = self.cost(tiling)
                        if cost is not None:
                            return tiling
        raise PearrayError(f"{problem.name}: the scratchpads can't hold the smallest tile of this layer; "
                           "make scratchpads.activation_bytes or scratchpads.weight_bytes larger")


def _even(total: int, parts: int) -> list[tuple[int, int]]:
    cuts = [total * index // parts for index in range(parts + 1)]
    return list(pairwise(cuts))


def _k_cuts(problem: Nest, config: SystolicConfig, tiling: Tiling, first: int, growth: float) -> tuple[int, ...]:
    """Growing pieces of the first tile of weights, each a whole number of runs or inside one."""
    rows, box = config.array.rows, tiling.w_boxes[0][0]
    if problem.channelwise or box.size <= rows:
        return ()
    unit = rows
    if (box.r1 - box.r0) * (box.s1 - box.s0) > 1:
        unit = (box.s1 - box.s0) * (box.c1 - box.c0)
        # A piece that is no whole number of tiles of the array wastes some.
        if unit % rows:
            return ()
    part, at = float(first), 0
    ends: list[int] = []
    while at + unit * round(part) + unit <= box.size and len(ends) < 12:
        at += unit * round(part)
        ends.append(at)
        part *= growth
    return (*ends, box.size)


def _usual(problem: Nest, config: SystolicConfig, tiling: Tiling) -> list[dict[str, Any]]:
    rows = config.array.rows
    begin = {"first_pixels": rows + rows // 2, "k_cuts": _k_cuts(problem, config, tiling, 1, 1.5)}
    plain: dict[str, Any] = {"first_pixels": 0, "k_cuts": ()}
    usual = [begin, plain | {"shrink": False}, plain, begin | {"shrink": False}]
    # Where post-processing takes about as long as the array, small groups let each follow the other sooner.
    for pixels in (6 * rows, 3 * rows, rows + rows // 2):
        if pixels < tiling.pixels and _posts(problem, config) > 0.25 * _work(problem, config):
            usual += [plain | {"pixels": pixels}, begin | {"shrink": False, "pixels": pixels}]
    return usual


#: Layers of fewer cycles are not worth the search for the best ramps.
_SHORT = 1500

#: Steps of programs that are timed for a layer, which bounds the time a compilation takes: to choose a tiling,
#: and to improve its ramps.
_MOST_STEPS, _RAMP_STEPS = 3000, 6000

#: Cycles over those of the array itself at which a layer needs no further look.
_ENOUGH = 1.005

#: Tilings of least closed-form cost whose programs are timed.
_FINALISTS = 4


def _work(problem: Nest, config: SystolicConfig) -> int:
    """Cycles of the array for a layer, tiles of full rows and columns, without an idle one."""
    array, pixels = config.array, problem.images * problem.p * problem.q
    return problem.groups * -(-problem.k // array.rows) * tiles_of(problem, config) * max(pixels, array.rows)


def _posts(problem: Nest, config: SystolicConfig) -> int:
    """Cycles of post-processing for a layer, without an idle one."""
    pixels = problem.images * problem.p * problem.q
    return problem.groups * tiles_of(problem, config) * pixels * (config.array.cols // config.post.lanes)


def choose_tiling(problem: Nest, config: SystolicConfig) -> Tiling:
    """Choose how to cut a layer.

    Parameters
    ----------
    problem : Nest
        The layer.
    config : SystolicConfig
        Configuration.

    Returns
    -------
    Tiling
        The tiling whose estimated cycles are least.

    Raises
    ------
    PearrayError
        If the scratchpads can't hold even the smallest tiles.
    """
    tilings = Chooser(problem, config).best(_FINALISTS)
    # Only short layers feel how they begin and end.
    if len(tilings[0].regions) * len(tilings[0].blocks) * problem.groups > 64:
        return replace(tilings[0], first_pixels=2 * config.array.rows)
    timing = _Timing(problem, config)
    enough = _ENOUGH * _work(problem, config)
    cycles, best = float("inf"), tilings[0]
    for tiling in tilings:
        cycles, best = min((cycles, best), timing.least(tiling, _usual(problem, config, tiling), enough),
                           key=lambda cost: cost[0])
        if cycles <= enough:
            return best
    if not _SHORT <= cycles < float("inf") or timing.steps == 0:
        return best
    return improve(problem, config, best, cycles, timing.cycles, _RAMP_STEPS // timing.steps)


class _Timing:
    """Times programs of one layer until the steps it may time are used up."""

    def __init__(self, problem: Nest, config: SystolicConfig):
        self._problem = problem
        self._config = config
        self._left = _MOST_STEPS
        #: Of the program timed last.
        self.steps = 0

    def least(self, tiling: Tiling, choices: list[dict[str, Any]], enough: float) -> tuple[float, Tiling]:
        """The tiling with the choice of least cycles, infinitely many if there is no time to look.

        The first choice of no more than `enough` cycles does.
        """
        found = float("inf"), replace(tiling, **choices[0])
        for option in dict.fromkeys(replace(tiling, **choice) for choice in choices):
            if self._left > 0 and found[0] > enough:
                found = min(found, (self.cycles(option), option), key=lambda cost: cost[0])
        return found

    def cycles(self, tiling: Tiling) -> float:
        """Cycles of the layer alone, infinitely many if it would never end."""
        steps = lower(self._problem.alone(), self._config, MemoryPlan(keep=False), tiling)
        self._left -= len(steps)
        self.steps = len(steps)
        program = schedule(self._config, steps)
        try:
            return float(estimate(self._config, program))
        except UnendingError:
            return float("inf")
