"""How the last groups of a layer are cut, so that little is left to post-process and store when the array is done."""

from dataclasses import dataclass, replace
from functools import cache

from ..kernels.regions import Region

__all__ = ["Rates", "last_groups", "pixel_step", "split_at"]


@dataclass(frozen=True)
class Rates:
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


def _end(groups: list[tuple[int, int]], rates: Rates, whole: bool) -> float:
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
def last_groups(pixels: int, step: int, tiles: int, rates: Rates, whole: bool) -> tuple[tuple[int, int], ...]:
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
