"""How a layer begins and ends.

Between its ramps a layer keeps the array busy whatever its tiling. At the beginning it waits for its first operands, so
these come in small pieces; at the end for post-processing and stores, so the last groups shrink, at first by the rates
of the hardware. Then small changes are tried, each timed as the hardware would run it: sizes that suit one another
follow from no simple rule, but a try takes only milliseconds.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from ...hdl.shell.block_walk import BlockWalker
from ...hdl.shell.tokens import TokenGates
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.regions import Region
from ..placement import MemoryPlan
from .layer import Layer, Tiling
from .tiles import TileMaker
from .timing import Latencies, posting

__all__ = ["ending", "improve", "split_at"]

#: Tries without success after which the search ends.
_PATIENCE = 80

#: Pixels and tiles of groups, in order.
_Groups = tuple[tuple[int, int], ...]


def _clock(config: SystolicConfig, timing: MemoryTiming, depth: int, row: int, whole: bool,
           reload: float, sums: int) -> Callable[[_Groups], float]:
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
    sums : int
        Sums of which each pixel is made.
    """
    c, gate = Latencies.of(config), TokenGates.DONE_LATENCY
    # From the last operand of a group to the start of post-processing; from when a bank is free to the first operand
    # of the group that fills it next.
    through, refill = c.through + gate, gate + c.prepare + c.slots_top
    storing = c.store_data + BlockWalker.LATENCY + timing.write_latency
    # Each of many short bursts.
    burst = (timing.write_latency + 10) / timing.outstanding

    def end(groups: _Groups) -> float:
        done = ready = stored = 0.0
        free = [0.0, 0.0]
        for index, (pixels, tiles) in enumerate(groups):
            start = max(done, free[index % 2])
            # Few pixels do not hide the loading of weights.
            done = start + max(depth * tiles * max(pixels * sums, config.array.rows), reload)
            begun = max(done + through, ready)
            found = posting(config, {"n_count": tiles, "m_count": pixels * sums})
            ready = begun + found.ready
            free[index % 2] = begun + found.released + refill
            written = begun + found.done + gate
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
                 sums: int, pixels: int, step: int, tiles: int) -> _Groups:
    """Cut `pixels` of `tiles` tiles into groups that end soonest; all but single rows are multiples of `step`."""
    end, least = _clock(config, timing, depth, row, whole, reload, sums), -(-config.array.rows // sums)
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
                        tiles * layer.reach == problem.y.size("c"), reload, layer.sums, region.pixels, _step(region),
                        tiles)


def _step(region: Region) -> int:
    """Pixels of which the parts of a region are multiples."""
    return region.rows * region.columns if region.images > 1 else region.columns if region.rows > 1 else 1


def split_at(region: Region, pixels: int) -> list[Region]:
    """Cut a region in two, the first of about `pixels` pixels; in one if its shape does not allow it."""
    at = round(pixels / _step(region))
    name, first, count = ("image", region.image0, region.images) if region.images > 1 else (
        ("p", region.p0, region.rows) if region.rows > 1 else ("q", region.q0, region.columns))
    if not 0 < at < count:
        return [region]
    return [replace(region, **{f"{name}1": first + at}), replace(region, **{f"{name}0": first + at})]


def improve(layer: Layer, best: tuple[float, Tiling], time: Callable[[Tiling, float], float],
            tries: int) -> tuple[float, Tiling]:
    """Improve the ramps of a layer.

    Parameters
    ----------
    best : float, Tiling
        Where to begin, and the cycles that it takes.
    time : callable
        ``time(tiling, most)`` gives the cycles of a tiling, infinitely many if there are more than `most`.
    tries : int
        Tilings to time at most.

    Returns
    -------
    float, Tiling
        The best that was found, and its cycles. The search is the same each time.
    """
    # Random changes come back to what has been timed.
    cycles, tiling = best
    known = {tiling: cycles}
    # Beginning and end hardly know of each other.
    for change in ("beginning", "end"):
        # Not for secrets: a search that finds the same each time.
        changes = _Changes(layer, random.Random(0))
        idle = 0
        for _ in range(tries // 2):
            if idle == _PATIENCE:
                break
            idle += 1
            changed = changes.beginning(tiling) if change == "beginning" else changes.end(tiling)
            if changed is None or changed == tiling:
                continue
            if changed not in known:
                known[changed] = time(changed, cycles)
            found = known[changed]
            if found < cycles:
                idle = 0
            if found <= cycles:
                cycles, tiling = found, changed
    return cycles, tiling


class _Changes:
    """Random small changes of a tiling's ramps."""

    def __init__(self, layer: Layer, choice: random.Random):
        self._layer, self._rows, self._choice = layer, layer.config.array.rows, choice
        self._maker = TileMaker(layer, MemoryPlan(keep=False))

    def beginning(self, tiling: Tiling) -> Tiling:
        """Change the first pixels, or where the first operands are cut."""
        rows, first = self._rows, tiling.w_boxes[0][0]
        for _ in range(self._choice.choice((1, 1, 2, 3))):
            drawn = self._choice.random()
            if drawn < 0.3:
                step = self._choice.choice((-rows // 4, -1, 1, rows // 4))
                tiling = replace(tiling, first_pixels=max(self._layer.least(rows), tiling.first_pixels + step))
            elif drawn < 0.6:
                tiling = replace(tiling, k_cuts=self._toggled(
                    tiling.k_cuts, first.size, tiling.unit(self._layer), (first.size,)))
            elif drawn < 0.9 and self._layer.can_slice:
                tiling = replace(tiling, a_cuts=self._toggled(tiling.a_cuts, tiling.a_boxes[0].channels, rows))
            else:
                tiling = replace(tiling, w_first=not tiling.w_first)
        return tiling

    def end(self, tiling: Tiling) -> Tiling | None:
        """Change the last groups, or how many POSTs the last one takes; None if that does not go."""
        for _ in range(self._choice.choice((1, 1, 2))):
            if self._choice.random() < 0.1 or not tiling.shrink:
                tiling = replace(tiling, posts=self._choice.randint(1, 3))
            elif (ends := self._ends(tiling)) is None:
                return None
            else:
                tiling = replace(tiling, ends=ends)
        return tiling

    def _toggled(self, cuts: tuple[int, ...], size: int, unit: int, end: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Make or drop one cut, a multiple of `unit` below `size`; behind those that are left stands `end`."""
        if not 0 < unit < size:
            return cuts
        kept = {cut for cut in cuts if cut < size} ^ {unit * self._choice.randint(1, (size - 1) // unit)}
        return (*sorted(kept), *end) if kept else ()

    def _ends(self, tiling: Tiling) -> tuple[tuple[int, int], ...] | None:
        """Change the last groups: move, make or drop a cut between pixels or between tiles."""
        choice, groups = self._choice, ending(self._layer, self._maker, tiling)
        region, block = tiling.last_part(self._layer.problem.groups)
        pixels, step, tiles = region.pixels, _step(region), block[1] - block[0]
        cuts: list[tuple[bool, int]] = []
        left, span = pixels, tiles
        for rows, count in groups[:-1]:
            by_pixels = rows < left
            cuts.append((by_pixels, rows // step if by_pixels else count))
            left, span = (left - rows, span) if by_pixels else (left, span - count)
        drawn = choice.random()
        if cuts and drawn < 0.5:
            at = choice.randrange(len(cuts))
            cuts[at] = cuts[at][0], cuts[at][1] + choice.choice((-3, -2, -1, 1, 2, 3))
        elif cuts and drawn < 0.65:
            cuts.pop(choice.randrange(len(cuts)))
        elif drawn < 0.85:
            cuts.insert(choice.randint(0, len(cuts)),
                        (choice.random() < 0.5, choice.randint(1, 2 * self._rows)))
        elif len(cuts) > 1:
            at = choice.randrange(len(cuts) - 1)
            cuts[at], cuts[at + 1] = cuts[at + 1], cuts[at]
        made: list[tuple[int, int]] = []
        for by_pixels, size in cuts:
            size *= step if by_pixels else 1
            if not 0 < size < (pixels if by_pixels else tiles):
                return None
            made.append((size, tiles) if by_pixels else (pixels, size))
            pixels, tiles = (pixels - size, tiles) if by_pixels else (pixels, tiles - size)
        return (*made, (pixels, tiles))
