"""Choice of a tiling: the best candidates are timed, and the ramps of the best of them improved."""

from dataclasses import replace
from typing import Any

from ..placement import MemoryPlan
from .bounds import Bounds
from .candidates import LONG, Chooser
from .layer import Layer, Tiling
from .lower import lower
from .ramps import improve
from .schedule import cycles_of

__all__ = ["BEAT", "choose_tiling"]


def _k_cuts(layer: Layer, tiling: Tiling, first: int, growth: float) -> tuple[int, ...]:
    """Growing pieces of the first tile of weights, each a whole number of runs or inside one."""
    box, unit = tiling.w_boxes[0][0], tiling.unit(layer)
    if not unit or box.size <= layer.config.array.rows:
        return ()
    part, at = float(first), 0
    ends: list[int] = []
    while at + unit * round(part) + unit <= box.size and len(ends) < 12:
        at += unit * round(part)
        ends.append(at)
        part *= growth
    return (*ends, box.size)


def _usual(layer: Layer, tiling: Tiling) -> list[dict[str, Any]]:
    """Ramps that are good for many layers, as changes of a tiling."""
    rows = layer.config.array.rows
    begin = {"first_pixels": layer.least(rows + rows // 2), "k_cuts": _k_cuts(layer, tiling, 1, 1.5)}
    plain: dict[str, Any] = {"first_pixels": 0, "k_cuts": ()}
    usual = [begin, plain | {"shrink": False}, plain, begin | {"shrink": False}]
    # Where post-processing takes about as long as the array, small groups let each follow the other sooner.
    sizes = (6 * rows, 3 * rows, rows + rows // 2)
    # Groups of a large region follow one another as sooner those of small ones, whose inputs overlap.
    for pixels in map(layer.least, (12 * rows, *sizes) if layer.config.has_moves else sizes):
        if pixels < tiling.pixels and layer.posts > 0.25 * _work(layer):
            usual += [plain | {"pixels": pixels}, begin | {"shrink": False, "pixels": pixels}]
    return usual


#: Layers of fewer cycles are not worth the search for the best ramps.
_SHORT = 1500

#: Steps of programs that are timed for a layer, which bounds the time a compilation takes: to choose a tiling,
#: and to improve its ramps.
_MOST_STEPS, _RAMP_STEPS = 3000, 6000

#: Cycles over those of the array itself at which a layer needs no further look.
_ENOUGH = 1.005

#: Tilings of least closed-form cost whose programs are timed: where there is time, and at least.
_FINALISTS, _FEWEST = 8, 4

#: Cycles that a beat of memory is worth which is not loaded.
BEAT = 0.25

#: Of those timed, how many have their ramps improved where there is time: the second best may come to be the best.
_IMPROVED = 2


def _work(layer: Layer) -> int:
    """Cycles of the array for a layer, tiles of full rows and columns, without an idle one."""
    problem, rows = layer.problem, layer.config.array.rows
    vectors = problem.images * problem.p * problem.q * layer.sums
    return problem.groups * -(-problem.k // rows) * layer.tiles * max(vectors, rows)


def choose_tiling(layer: Layer, effort: float = 1) -> tuple[float, Tiling]:
    """Choose how to cut a layer.

    Parameters
    ----------
    effort : float
        How many times as long as usual to search for its ramps; below 1, fewer candidates are timed, too.

    Returns
    -------
    float, Tiling
        The tiling whose cycles are least, as far as was looked, and these: estimated in closed form if it has too many
        steps to be timed.
    """
    tilings = Chooser(layer).best(max(_FEWEST, round(min(effort, 1) * _FINALISTS)))
    cost, first = tilings[0]
    # Only short layers feel how they begin and end.
    if len(first.regions) * len(first.blocks) * layer.problem.groups > LONG:
        return cost, replace(first, first_pixels=layer.least(2 * layer.config.array.rows))
    timer, enough = _Timer(layer, effort), _ENOUGH * _work(layer)
    best, ever_best = (float("inf"), first), []
    for _, tiling in tilings:
        found = timer.least(tiling, _usual(layer, tiling), enough, best)
        if found[0] <= enough:
            return found
        if found[0] < best[0]:
            best = found
            ever_best.append(found)
    if not ever_best:
        return cost, first
    if best[0] < _SHORT:
        return best
    tries = int(effort * _RAMP_STEPS / timer.steps)
    return min((improve(layer, each, timer.cycles, tries) for each in ever_best[-_IMPROVED if effort >= 1 else -1:]),
               key=lambda improved: improved[0])


class _Timer:
    """Times programs of one layer until the steps it may time are used up."""

    def __init__(self, layer: Layer, effort: float):
        self._layer = layer.alone()
        self._bounds = Bounds(layer.config, layer.timing)
        self._left = max(1.0, min(effort, 1) * _MOST_STEPS)
        #: Of the program timed last.
        self.steps = 0

    def least(self, tiling: Tiling, choices: list[dict[str, Any]], enough: float,
              best: tuple[float, Tiling]) -> tuple[float, Tiling]:
        """The tiling with the choice of least cycles, if these are fewer than the `best` so far has.

        The first choice of no more than `enough` cycles does; without time to look no choice does.
        """
        found = float("inf")
        for option in dict.fromkeys(replace(tiling, **choice) for choice in choices):
            if self._left > 0 and found > enough:
                cycles = self.cycles(option, min(found, best[0]) - 1)
                found = min(found, cycles)
                best = min(best, (cycles, option), key=lambda cost: cost[0])
        return best

    def cycles(self, tiling: Tiling, most: float) -> float:
        """Cycles of the layer alone, infinitely many if there are more than `most`, or it would never end.

        Where tensors may stay on chip, what is loaded twice has a price of its own: memory is spared for a reason.
        """
        layer = self._layer
        steps = lower(tiling, layer, MemoryPlan(keep=False))
        self.steps = len(steps)
        self._left -= len(steps)
        if self._bounds.least_cycles(steps) > most:
            return float("inf")
        cycles = cycles_of(layer.config, layer.timing, steps)
        return cycles + BEAT * self._bounds.load_beats(steps) if layer.config.has_moves else cycles
