"""How a layer begins and ends: a search over small changes, each timed as the hardware would run it.

Between its ramps a layer keeps the array busy whatever its tiling. At the beginning it waits for its first
operands, so these come in small pieces; at the end for post-processing and stores, so the last groups shrink.
Sizes that suit one another follow from no simple rule, but a try takes only milliseconds.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from ..placement import MemoryPlan
from .endings import ending, pixel_step
from .layer import Layer, Tiling
from .tiles import TileMaker

__all__ = ["improve"]

#: Tries without success after which the search ends.
_PATIENCE = 80


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
                tiling = replace(tiling, first_pixels=max(rows, tiling.first_pixels + step))
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
        pixels, step, tiles = region.pixels, pixel_step(region), block[1] - block[0]
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
