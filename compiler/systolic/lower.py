"""Steps of a layer under a given tiling."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise, product

from ...hdl.shell.block_walk import BlockWalker
from ...hdl.shell.commands import Rounding
from ...hdl.shell.queues import CommandQueues
from ...hdl.shell.tokens import TokenGates
from ...hdl.systolic.config import SystolicConfig
from ..kernels.nest import Nest
from ..kernels.regions import Region, split_region
from ..kernels.views import Axis, View
from ..placement import MemoryPlan
from ..steps import Group, Output, Use
from ..transfers import blocks, pixel_dims
from .geometry import Box, reach_of, tiles_of
from .schedule import ContractionStep
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


@dataclass(frozen=True)
class _Rates:
    """What decides when the last groups are done, in cycles."""

    #: For each row of the accumulators: tiles of the contraction, and groups of lanes.
    execute: int
    post: int
    #: From the last operand of a group to the start of post-processing.
    through: int
    #: From when a bank is free to the first operand of the group that fills it next.
    refill: int
    #: From the last group of lanes to the start of a store; the shortest POST; between two POSTs.
    post_latency: int
    least_post: int
    post_gap: int
    #: From the start of a store to its first beat; bytes of a beat, and of a tile's row of outputs.
    store_data: int
    beat: int
    row: int
    #: Latency of writes, and cycles for each of many short bursts.
    latency: int
    burst: float
    #: Fewest pixels that hide the loading of weights.
    least: int
    #: To load weights again for each group, if the scratchpad can't keep them; else 0.
    reload: float


def _end(groups: list[tuple[int, int]], rates: _Rates, whole: bool) -> float:
    """Cycle in which the last of groups of (pixels, tiles) is in memory, counted from the first operand."""
    done = posted = stored = 0.0
    free = [0.0, 0.0]
    for index, (pixels, tiles) in enumerate(groups):
        start = max(done, free[index % 2])
        done = start + max(rates.execute * tiles * max(pixels, rates.least), rates.reload)
        begun = max(done + rates.through, posted + rates.post_gap)
        posted = begun + max(rates.post * pixels * tiles, rates.least_post)
        free[index % 2] = posted + rates.refill
        written = begun + rates.post * pixels * tiles + rates.post_latency
        if whole and tiles == groups[0][1]:
            moved = pixels * tiles * rates.row / rates.beat
        else:
            beats = -(-tiles * rates.row // rates.beat)
            # Bursts in flight bound the rate of short ones, but not the first of them.
            moved = max(pixels * beats, pixels * rates.burst - (rates.latency if written > stored else 0))
        stored = max(written, stored) + moved
    return stored + rates.store_data + rates.latency


def _cuts(size: int, step: int) -> set[int]:
    """Where to cut `size` in two: at each multiple of `step`, or, if there are many, at some of them."""
    units = size // step
    if units <= 32:
        return {step * unit for unit in range(1, units)}
    return {step * max(1, round(units * part / 32)) for part in range(1, 32)}


@cache
def _last_groups(pixels: int, step: int, tiles: int, rates: _Rates, whole: bool) -> tuple[tuple[int, int], ...]:
    """Cut `pixels` of `tiles` tiles into groups that end soonest; all but single rows are multiples of `step`."""
    best: tuple[float, list[tuple[int, int]]] = (_end([(pixels, tiles)], rates, whole), [(pixels, tiles)])
    beam = [best]
    for _ in range(9):
        grown = []
        for _, groups in beam:
            rows, count = groups[-1]
            for cut in _cuts(rows, step):
                if rows - cut >= rates.least or rows >= rates.least > cut:
                    grown.append(groups[:-1] + [(rows - cut, count), (cut, count)])
            for cut in _cuts(count, 1):
                grown.append(groups[:-1] + [(rows, count - cut), (rows, cut)])
        # Each group has commands of its own.
        timed = sorted(((_end(groups, rates, whole) + 2 * len(groups), groups) for groups in grown),
                       key=lambda found: found[0])
        beam = timed[:24]
        if beam and beam[0][0] < best[0]:
            best = beam[0]
    return tuple(best[1])


def pixel_step(region: Region) -> int:
    """Pixels of which the parts of a region are multiples."""
    rows, columns = region.p1 - region.p0, region.q1 - region.q0
    return rows * columns if region.image1 - region.image0 > 1 else columns if rows > 1 else 1


def split_at(region: Region, pixels: int) -> list[Region]:
    """Cut a region in two, the first of about `pixels` pixels; in one if its shape does not allow it."""
    rows, columns = region.p1 - region.p0, region.q1 - region.q0
    if region.image1 - region.image0 > 1:
        at = region.image0 + round(pixels / (rows * columns))
        if region.image0 < at < region.image1:
            return [replace(region, image1=at), replace(region, image0=at)]
    elif rows > 1:
        at = region.p0 + round(pixels / columns)
        if region.p0 < at < region.p1:
            return [replace(region, p1=at), replace(region, p0=at)]
    elif 0 < pixels < columns:
        return [replace(region, q1=region.q0 + pixels), replace(region, q0=region.q0 + pixels)]
    return [region]


class _Lowering:
    def __init__(self, problem: Nest, config: SystolicConfig, plan: MemoryPlan, tiling: Tiling):
        self._problem = problem
        self._config = config
        self._tiling = tiling
        self._maker = TileMaker(problem, config, plan)
        self._operands = [(problem, self._maker)]
        self._operands += [(each, TileMaker(each, config, plan)) for each in problem.added]

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

    def steps(self) -> Iterator[ContractionStep]:
        tiling = self._tiling
        loops = list(self._loops())
        plan: list[tuple[Region, int, list[tuple[Region, tuple[int, int]]]]] = []
        for index, (region, group, tiles) in enumerate(loops):
            parts = split_region(region, tiling.pixels, tiling.first_pixels if index == 0 else 0)
            work = [(part, tiles) for part in parts]
            if index == len(loops) - 1 and tiling.shrink:
                work[-1:] = self._shrinking()
            plan.append((region, group, work))
        # Lines of an activation tile are loaded in the pieces in which the region's first visit uses them.
        self._cuts: dict[object, tuple[int, ...]] = {}
        for (region, group, work), (_, _, block_) in zip(plan, loops, strict=True):
            for box in tiling.boxes(self._problem, self._config, block_):
                key = (region, group, box)
                if key in self._cuts:
                    continue
                lines = self._maker.lines(region, box)
                ends = sorted({min(self._line(region, part, box), lines) for part, _ in work} | {lines})
                self._cuts[key] = tuple(ends if len(ends) <= 6 else [*ends[:3], *ends[3:-1:-(-len(ends) // 4)], lines])
        first = True
        for index, (region, group, work) in enumerate(plan):
            for number, (part, tiles) in enumerate(work):
                last_of_all = index == len(plan) - 1 and number == len(work) - 1
                yield from self._group(region, part, group, tiles, loops[index][2], first, last_of_all)
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
        array, latencies, memory = config.array, Latencies.of(config), config.memory
        depth = problem.r * problem.s if problem.channelwise else -(-problem.k // array.rows)
        gate = TokenGates.DONE_LATENCY
        # A POST is given back, the next one chosen, read and let go.
        refill = latencies.beats + latencies.needed[2] + CommandQueues.LATENCY + 2 + TokenGates.SLOT_LATENCY
        rates = _Rates(
            depth, array.cols // config.post.lanes, latencies.through + gate,
            gate + latencies.prepare + latencies.slots_top, latencies.post + 1 + gate, latencies.settings, refill,
            latencies.store_data + BlockWalker.LATENCY, config.beat_bytes,
            reach_of(problem, config) * problem.finish.item(config), memory.write_latency,
            (memory.write_latency + 10) / memory.outstanding, array.rows, self._reload(tiles))
        whole = (tiles[1] - tiles[0]) * reach_of(problem, config) == problem.y.size("c")
        return _last_groups(region.pixels, pixel_step(region), tiles[1] - tiles[0], rates, whole)

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
        return sum(self._maker.w_cycles(tiles, box) for box in boxes)

    def _line(self, region: Region, part: Region, box: Box) -> int:
        """Lines of the region's tile that a part of it needs."""
        geometry = self._maker.geometry(region, box)
        if region.image1 - region.image0 > 1:
            return part.image1 - region.image0
        inner = self._maker.geometry(part, box)
        if geometry.rows > 1:
            return (inner.row0 - geometry.row0) // geometry.row_step + inner.rows
        return (inner.column0 - geometry.column0) // geometry.column_step + inner.columns

    def _group(self, region: Region, part: Region, group: int, tiles: tuple[int, int], block_: tuple[int, int],
               first_of_layer: bool, last_of_layer: bool) -> Iterator[ContractionStep]:
        tiling = self._tiling
        sums = Group(self._outputs(part, group, tiles, tiling.posts if last_of_layer else 1))
        first = True
        boxes = tiling.boxes(self._problem, self._config, block_)
        for (problem, maker), (a_box, w_boxes) in product(
                self._operands, zip(boxes, tiling.w_boxes, strict=True)):
            cuts = self._cuts[(region, group, a_box)]
            slices = self._slices(region, group, a_box)
            a_tile = maker.activations(region, group, a_box, cuts, slices)
            lines = self._line(region, part, a_box)
            whole = next(index for index, cut in enumerate(cuts) if cut >= lines) + len(slices)
            for w_box in w_boxes:
                k_cuts = self._k_cuts(w_box) if (group, block_) == (0, tiling.blocks[0]) else (w_box.size,)
                w_tile = maker.weights(group, block_, w_box, k_cuts)
                pieces = list(enumerate(k_cuts)) if first_of_layer and len(w_tile.pieces) > 1 \
                    else [(len(k_cuts) - 1, w_box.size)]
                start = 0
                for index, end in pieces:
                    a_pieces = whole
                    if len(slices) > 1 and whole == len(slices):
                        a_pieces = next(at for at, cut in enumerate(slices) if cut >= w_box.c0 - a_box.c0 + end) + 1
                    for body in self._bodies(problem, maker, region, part, a_box, w_box, start, end, tiles, block_):
                        w_use = Use(w_tile, min(index + 1, len(w_tile.pieces)))
                        yield ContractionStep(sums, Use(a_tile, a_pieces), w_use, body | {"first": int(first)},
                                              tiling.w_first and first_of_layer and first)
                    first = False
                    start = end

    def _slices(self, region: Region, group: int, a_box: Box) -> tuple[int, ...]:
        """Channels at whose ends the first lines of a tile of activations are cut: (all,) but for the first tile."""
        size = a_box.c1 - a_box.c0
        if (region, group, a_box) != (self._tiling.regions[0], 0, self._tiling.a_boxes[0]):
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

    def _outputs(self, part: Region, group: int, tiles: tuple[int, int], pieces: int = 1) -> list[Output]:
        finish = self._problem.finish
        if finish.table is not None and finish.table.ndim == 2:
            return [output for tile in range(*tiles)
                    for output in self._output_rows(part, group, (tile, tile + 1), tile - tiles[0], pieces)]
        return list(self._output_rows(part, group, tiles, 0, pieces))

    def _output_rows(self, part: Region, group: int, tiles: tuple[int, int], tile0: int,
                     pieces: int) -> Iterator[Output]:
        problem, config = self._problem, self._config
        finish, cols, lanes = problem.finish, config.array.cols, config.post.lanes
        item, reach, count = problem.finish.item(config), reach_of(problem, config), tiles[1] - tiles[0]
        wide = -(-reach // lanes) * lanes
        valid = min(problem.ng - tiles[0] * reach, count * reach)
        # Columns without a channel of their own may spill over what is written later: the next tile, the next row.
        pitch = (count - 1) * wide + cols
        if count == 1 and valid % lanes == 0:
            pitch = valid

        def size(rows: int) -> int:
            return ((rows - 1) * pitch + (count - 1) * wide + cols) * item

        capacity = config.scratchpads.output_bytes
        most = max(1, (capacity // 2 // item - (count - 1) * wide - cols) // pitch + 1)
        if finish.bias_rows is not None:
            most = min(most, max(1, config.scratchpads.channels // 2 // (count * cols)))
        pixels, start = part.pixels, 0
        y, cut = self._pieces(part, most, pieces)
        for piece in cut:
            rows = piece.pixels
            body = {"rounding": finish.rounding.value, "zero_point": finish.zero_point, "low": finish.low,
                    "high": finish.high, "n_count": count, "m_count": rows,
                    "acc_base": tile0 * pixels + start, "acc_nstep": pixels, "out_nstep": wide * item,
                    "out_mstep": pitch * item}
            output = Output(body, size(rows), [], (y.buffer, piece.numbers(y), valid))
            if finish.bias is not None:
                if finish.bias_rows is not None:
                    tile = self._maker.bias_rows(tiles, piece.q0, piece.q0 + rows)
                    body |= {"bias_mstep": count * cols // lanes}
                else:
                    tile = self._maker.bias(group, self._const_span(tiles))
                    body |= {"bias_base": (tiles[0] - self._const_span(tiles)[0]) * cols // lanes}
                output.bias = Use(tile, 1)
                body |= {"bias": 1, "bias_nstep": cols // lanes}
            if finish.rounding is not Rounding.NONE:
                assert finish.entries is not None
                output.scale = Use(self._maker.scale(group, self._const_span(tiles)), 1)
                if finish.entries.size > 1:
                    body |= {"per_channel": 1, "scale_nstep": cols // lanes,
                             "scale_base": (tiles[0] - self._const_span(tiles)[0]) * cols // lanes}
                if finish.table is not None:
                    body["table"] = 1
                    output.table = Use(self._maker.table(tiles[0]), 1)
            elif finish.relu:
                body["table"] = 1
            output.stores = self._stores(y, piece, group, tiles, item, pitch, wide)
            yield output
            start += rows

    def _pieces(self, part: Region, most: int, pieces: int) -> tuple[View, list[Region]]:
        """Cut a group's pixels into what POSTs write at once, at most `most` pixels, at least `pieces` parts.

        Returns
        -------
        View, list of Region
            The output, and the parts of it.
        """
        most, problem, y = max(1, min(most, -(-part.pixels // pieces))), self._problem, self._problem.y
        if most >= part.pixels or not y.is_whole or not y.is_dense("n", "h", "w"):
            return y, split_region(part, most)
        # Pixels follow one another in memory, wherever rows end: as one row they cut evenly.
        row = Axis("w", problem.images * problem.p * problem.q, y.stride("w"))
        first, parts = (part.image0 * problem.p + part.p0) * problem.q + part.q0, -(-part.pixels // most)
        cuts = [first + part.pixels * index // parts for index in range(parts + 1)]
        return (replace(y, axes=(Axis("n", 1, 0), Axis("h", 1, 0), row, y.axis("c"))),
                [Region(0, 1, 0, 1, start, end) for start, end in pairwise(cuts)])

    def _const_span(self, tiles: tuple[int, int]) -> tuple[int, int]:
        """Tiles whose constants are loaded together: all of the group if they take at most half the room."""
        per_group = tiles_of(self._problem, self._config)
        if per_group * self._config.array.cols * 2 <= self._config.scratchpads.channels:
            return 0, per_group
        return tiles

    def _stores(self, y: View, piece: Region, group: int, tiles: tuple[int, int], item: int, pitch: int,
                wide: int) -> list[dict[str, int]]:
        problem = self._problem
        reach, count = reach_of(problem, self._config), tiles[1] - tiles[0]
        dram = y.buffer.address + (piece.first(y) + group * problem.ng + tiles[0] * reach) * item
        valid = min(problem.ng - tiles[0] * reach, count * reach)
        dims = pixel_dims(y, piece, pitch * item)
        if wide == reach or count == 1:
            return blocks(dram, 0, valid * item, dims)
        whole, ragged = divmod(valid, reach)
        stores = [body for tile in range(whole)
                  for body in blocks(dram + tile * reach * item, tile * wide * item, reach * item, dims)]
        if ragged:
            stores += blocks(dram + whole * reach * item, whole * wide * item, ragged * item, dims)
        return stores


def last_part(
    problem: Nest, config: SystolicConfig, tiling: Tiling,
) -> tuple[int, int, int, tuple[tuple[int, int], ...]]:
    """The last group of a layer: its pixels, what parts of them are multiples of, its tiles, and how it is cut."""
    lowering = _Lowering(problem, config, MemoryPlan(keep=False), tiling)
    region, tiles = lowering.last_part()
    return region.pixels, pixel_step(region), tiles[1] - tiles[0], tiling.ends or lowering.last_groups()


def lower(problem: Nest, config: SystolicConfig, plan: MemoryPlan, tiling: Tiling) -> list[ContractionStep]:
    """Steps of a layer, in order."""
    return list(_Lowering(problem, config, plan, tiling).steps())
