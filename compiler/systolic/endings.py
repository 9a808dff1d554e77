"""How the last groups of a layer are cut, so that little is left to post-process and store when the array is done."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from ...hdl.shell.block_walk import BlockWalker
from ...hdl.shell.queues import CommandQueues
from ...hdl.shell.tokens import TokenGates
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.regions import Region
from .layer import Layer, Tiling
from .tiles import TileMaker
from .timing import Latencies

__all__ = ["ending", "pixel_step", "split_at"]

#: Pixels and tiles of groups, in order.
_Groups = tuple[tuple[int, int], ...]


def _clock(config: SystolicConfig, timing: MemoryTiming, depth: int, row: int, whole: bool,
           reload: float) -> Callable[[_Groups], float]:
    """What gives the cycle in which the last of some groups is in memory, counted from the first operand.

    Parameters
    ----------
    depth : int
        Tiles of the contraction.
    row : int
        Bytes of a tile's row of outputs.
    whole : bool
        Whether rows of all tiles follow one another in memory.
    reload : float
        Cycles to load weights again for each group, if the scratchpad can't keep them; else 0.
    """
    c, gate = Latencies.of(config), TokenGates.DONE_LATENCY
    # From the last operand of a group to the start of post-processing; from when a bank is free to the first operand
    # of the group that fills it next; from the last group of lanes to the start of a store.
    through, refill, posting = c.through + gate, gate + c.prepare + c.slots_top, c.post + 1 + gate
    # A POST is given back, the next one chosen, read and let go.
    gap = c.beats + c.needed[2] + CommandQueues.LATENCY + 2 + TokenGates.SLOT_LATENCY
    storing = c.store_data + BlockWalker.LATENCY + timing.write_latency
    # Each of many short bursts.
    burst = (timing.write_latency + 10) / timing.outstanding

    def end(groups: _Groups) -> float:
        done = posted = stored = 0.0
        free = [0.0, 0.0]
        for index, (pixels, tiles) in enumerate(groups):
            start = max(done, free[index % 2])
            # Few pixels do not hide the loading of weights.
            done = start + max(depth * tiles * max(pixels, config.array.rows), reload)
            begun = max(done + through, posted + gap)
            posts = c.groups * pixels * tiles
            posted = begun + max(posts, c.settings)
            free[index % 2] = posted + refill
            written = begun + posts + posting
            if whole and tiles == groups[0][1]:
                moved = pixels * tiles * row / config.beat_bytes
            else:
                beats = -(-tiles * row // config.beat_bytes)
                # Bursts in flight bound the rate of short ones, but not the first of them.
                moved = max(pixels * beats, pixels * burst - (timing.write_latency if written > stored else 0))
            stored = max(written, stored) + moved
        return stored + storing

    return end


def _cuts(size: int, step: int) -> set[int]:
    """Where to cut `size` in two: at each multiple of `step`, or, if there are many, at some of them."""
    units = size // step
    if units <= 32:
        return {step * unit for unit in range(1, units)}
    return {step * max(1, round(units * part / 32)) for part in range(1, 32)}


@cache
def _last_groups(config: SystolicConfig, timing: MemoryTiming, depth: int, row: int, whole: bool, reload: float,
                 pixels: int, step: int, tiles: int) -> _Groups:
    """Cut `pixels` of `tiles` tiles into groups that end soonest; all but single rows are multiples of `step`."""
    end, least = _clock(config, timing, depth, row, whole, reload), config.array.rows
    best: tuple[float, _Groups] = (end(((pixels, tiles),)), ((pixels, tiles),))
    beam = [best]
    for _ in range(9):
        grown = []
        for _, groups in beam:
            rows, count = groups[-1]
            for cut in _cuts(rows, step):
                if rows - cut >= least or rows >= least > cut:
                    grown.append((*groups[:-1], (rows - cut, count), (cut, count)))
            grown += [(*groups[:-1], (rows, count - cut), (rows, cut)) for cut in _cuts(count, 1)]
        # Each group has commands of its own.
        timed = sorted(((end(groups) + 2 * len(groups), groups) for groups in grown), key=lambda found: found[0])
        beam = timed[:24]
        if beam and beam[0][0] < best[0]:
            best = beam[0]
    return best[1]


def ending(layer: Layer, maker: TileMaker, tiling: Tiling) -> _Groups:
    """Pixels and tiles of the groups into which the last one of a layer is cut: those given, else by rates."""
    if tiling.ends:
        return tiling.ends
    problem, config = layer.problem, layer.config
    region, block = tiling.last_part(problem.groups)
    boxes, reload = [box for group in tiling.w_boxes for box in group], 0.0
    if sum(maker.w_size(block, box) for box in boxes) > config.scratchpads.weight_bytes:
        reload = sum(maker.w_cycles(block, box) for box in boxes)
    depth = problem.r * problem.s if problem.channelwise else -(-problem.k // config.array.rows)
    tiles = block[1] - block[0]
    return _last_groups(config, layer.timing, depth, layer.reach * problem.finish.item(config),
                        tiles * layer.reach == problem.y.size("c"), reload, region.pixels, pixel_step(region), tiles)


def pixel_step(region: Region) -> int:
    """Pixels of which the parts of a region are multiples."""
    return region.rows * region.columns if region.images > 1 else region.columns if region.rows > 1 else 1


def split_at(region: Region, pixels: int) -> list[Region]:
    """Cut a region in two, the first of about `pixels` pixels; in one if its shape does not allow it."""
    at = round(pixels / pixel_step(region))
    name, first, count = ("image", region.image0, region.images) if region.images > 1 else (
        ("p", region.p0, region.rows) if region.rows > 1 else ("q", region.q0, region.columns))
    if not 0 < at < count:
        return [region]
    return [replace(region, **{f"{name}1": first + at}), replace(region, **{f"{name}0": first + at})]
