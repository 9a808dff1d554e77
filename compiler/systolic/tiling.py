"""Choice of a tiling: the best candidates are timed, and the ramps of the best of them improved."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any

from ..kernels.regions import Region, even, split_region
from ..placement import MemoryPlan
from ..steps import Group, Use
from .bounds import Bounds
from .candidates import LONG, Chooser
from .layer import Layer, Tiling
from .lower import lower
from .ramps import improve, improve_all, openings
from .schedule import cycles_of
from .steps import ContractionStep

__all__ = ["BEAT", "choose_tiling", "stated"]


def _usual(layer: Layer, tiling: Tiling) -> list[Tiling]:
    """A tiling with ramps that are good for many layers."""
    rows = layer.config.array.rows
    begin = {"first_pixels": layer.least(rows + rows // 2), "k_cuts": tiling.pieces(layer, 1.5)}
    plain: dict[str, Any] = {"first_pixels": 0, "k_cuts": ()}
    usual = [begin, plain | {"shrink": False}, plain, begin | {"shrink": False}]
    # Where post-processing takes about as long as the array, small groups let each follow the other sooner.
    sizes = (6 * rows, 3 * rows, rows + rows // 2)
    # Groups of a large region follow one another as sooner those of small ones, whose inputs overlap.
    for pixels in map(layer.least, (12 * rows, *sizes) if layer.config.has_moves else sizes):
        if pixels < tiling.pixels and layer.posts > 0.25 * _work(layer):
            usual += [plain | {"pixels": pixels}, begin | {"shrink": False, "pixels": pixels}]
            if len({end - start for start, end in tiling.blocks}) > 1:
                usual += [each | {"pixels": pixels, "is_level": True} for each in (plain, begin | {"first_pixels": 0})]
    return [replace(tiling, **choice) for choice in usual]


def _small_groups(layer: Layer, tiling: Tiling) -> Iterator[Tiling]:
    """Tilings of small groups, for layers whose post-processing takes about as long as the array.

    Lanes wait for the first group, and array or lanes for one another at each group that is larger than the one before.
    So groups of a layer had better be as small as lets the array prepare the next meanwhile, and stores keep up, which
    want long rows: as many as there are cuts of the channels. Inputs come region by region.
    """
    problem, rows, chooser = layer.problem, layer.config.array.rows, Chooser(layer)
    whole = Region(0, problem.images, 0, problem.p, 0, problem.q)
    blocks = {len(cut): cut for cut in (tuple(even(layer.tiles, -(-layer.tiles // most))) for most in _MOST_TILES)}
    for cut, share in product(blocks.values(), _GROUP_PIXELS):
        # Only groups of few tiles are small.
        pixels = layer.least(round(share * rows))
        widest = max(end - start for start, end in cut)
        if widest > layer.most_block or widest * pixels > _SMALL * rows * rows:
            continue
        for count in (1, 2, 4, 0):
            regions = tuple(split_region(whole, count * pixels)) if count else tiling.regions
            small = replace(tiling, regions=regions, blocks=cut, pixels=min(pixels, layer.depth // widest),
                            first_pixels=0, k_cuts=tiling.pieces(layer, 1.5))
            if len(regions) * len(cut) <= LONG and chooser.has_room(small):
                yield small


#: Layers of fewer cycles are not worth the search for the best ramps.
_SHORT = 1500

#: Steps of programs that are timed for a layer, which bounds the time a compilation takes: to choose a tiling, one of
#: small groups, and to improve its ramps.
_MOST_STEPS, _SMALL_STEPS, _RAMP_STEPS = 3000, 6000, 6000

#: Cycles over those of the array itself at which a layer needs no further look.
_ENOUGH = 1.005

#: Tilings of least closed-form cost whose programs are timed: where there is time, at least, and of a layer alone.
_FINALISTS, _FEWEST, _MANY = 8, 4, 14

#: Of those weighed, how many times as many are looked through where post-processing takes nearly as long as the array,
#: and from what share of it on: then groups are small, and how channels are cut into blocks matters.
_LOOKED, _BALANCED = 4, 0.8

#: Share of the array's cycles from which on post-processing makes it worth to look at small groups, which let lanes
#: begin soon and leave them little at the end.
_WORTH = 0.3

#: Cycles of layers whose ramps are searched for again, at most so many times, as long as that finds something.
_BRIEF, _AGAIN = 10_000, 3

#: Cycles of layers of which all is changed at once, and how often at most.
_SMALL_ALL, _ALL = 7_000, 400

#: Most tiles of a small group; its pixels over rows of the array; and its rows of sums at most, over the array's PEs.
_MOST_TILES, _GROUP_PIXELS, _SMALL = (1, 2, 3, 4), (1, 1.25, 1.625, 2, 3), 1

#: Cycles that a beat of memory is worth which is not loaded, where other layers may use the time.
BEAT = 0.25

#: Of those timed with each sort of beginning, how many have their ramps improved where there is time, at first by a
#: share of the tries: what is behind, but not by more than this, may come to be the best.
_IMPROVED, _SHARE, _BEHIND = 2, 3, 1.02


def _work(layer: Layer) -> int:
    """Cycles of the array for a layer, tiles of full rows and columns, without an idle one."""
    problem, rows = layer.problem, layer.config.array.rows
    vectors = problem.images * problem.p * problem.q * layer.sums
    return problem.groups * -(-problem.k // rows) * layer.tiles * max(vectors, rows)


def choose_tiling(layer: Layer, effort: float = 1, *, is_alone: bool = True) -> tuple[float, Tiling]:
    """Choose how to cut a layer.

    Parameters
    ----------
    effort : float
        How many times as long as usual to search for its ramps; below 1, fewer candidates are timed, too.
    is_alone : bool
        Whether nothing is computed before it, while its first operands come.

    Returns
    -------
    float, Tiling
        The tiling whose cycles are least, as far as was looked, and these: estimated in closed form if it has too many
        steps to be timed.
    """
    is_long = is_alone and effort >= 1
    is_balanced = is_long and layer.posts >= _BALANCED * _work(layer)
    tilings = _finalists(layer, _MANY if is_long else max(_FEWEST, round(min(effort, 1) * _FINALISTS)), is_long)
    cost, first = tilings[0]
    # Only short layers feel how they begin and end.
    if len(first.regions) * len(first.blocks) * layer.problem.groups > LONG:
        return cost, replace(first, first_pixels=layer.least(2 * layer.config.array.rows))
    timer, enough = _Timer(layer, effort, is_alone), _ENOUGH * _work(layer)
    timed: dict[bool, list[tuple[float, Tiling]]] = {False: [], True: []}
    behind = _BEHIND if effort >= 1 else 1.0
    for _, tiling in tilings:
        for led, choices in ((False, _usual(layer, tiling)), (True, [*islice(openings(layer, tiling), is_alone)])):
            most = behind * min((found[0] for found in timed[led]), default=float("inf"))
            found = timer.least(choices, enough, most)
            if found is not None and found[0] <= enough:
                return found
            # What takes as long as another is another order of the same.
            if found is not None and all(found[0] != other[0] for other in timed[led]):
                timed[led].append(found)
    if is_long and layer.posts >= _WORTH * _work(layer):
        timed[False] += timer.several(_small_groups(layer, first), enough)
    several = [found for each in timed.values() for found in sorted(each, key=_cycles)[:_IMPROVED]]
    if not several:
        return cost, first
    best = min(several, key=_cycles)
    if best[0] < _SHORT:
        return best
    tries = int(effort * _RAMP_STEPS * (1 + is_balanced) / timer.steps_of(best[1]))
    if effort < 1:
        return improve(layer, best, timer.cycles, tries, is_alone=is_alone)
    best = min((improve(layer, each, timer.cycles, tries // _SHARE, is_alone=is_alone) for each in several),
               key=_cycles)
    for seed in range(1, 1 + (_AGAIN if is_long and best[0] < _BRIEF else 1)):
        before, best = best, improve(layer, best, timer.cycles, tries // 2, seed, is_alone=is_alone)
        if best[0] == before[0]:
            break
    if is_long and best[0] < _SMALL_ALL and not layer.problem.channelwise:
        best = improve_all(layer, best, timer.cycles, min(_ALL, 2 * tries))
    return best


def _finalists(layer: Layer, count: int, is_long: bool) -> list[tuple[float, Tiling]]:
    """Tilings of least closed-form cost, and these; of each way to cut the channels the best, where that matters.

    It does where post-processing takes nearly as long as the array, and, as weights that stay let the last groups be
    small, where there is time for a long search.
    """
    if not is_long and layer.posts < _BALANCED * _work(layer):
        return Chooser(layer).best(count)
    found = Chooser(layer).best(_LOOKED * count)
    firsts = {tiling.blocks: (cost, tiling) for cost, tiling in reversed(found)}
    several = sorted(firsts.values(), key=_cycles)[:max(1, count // 2)]
    chosen = several + [each for each in found if all(each[1] is not other[1] for other in several)]
    return sorted(chosen[:count], key=_cycles)


def _cycles(found: tuple[float, Tiling]) -> float:
    return found[0]


def stated(steps: Sequence[ContractionStep]) -> tuple[object, ...]:
    """All of steps that their program depends on: if two state the same, so do their programs.

    Bodies of EXECUTEs and outputs are told by their identity, so they must be kept.
    """
    numbers: dict[int, int] = {}
    said: list[object] = []
    group: Group | None = None

    def tell(use: Use) -> None:
        number = numbers.get(id(use.tile))
        if number is None:
            number = numbers[id(use.tile)] = len(numbers)
            said.append((use.tile.memory, use.tile.size,
                         *(tuple(tuple(load.items()) for load in piece.loads) for piece in use.tile.pieces)))
        said.extend((number, use.pieces))

    for step in steps:
        if step.group is not group:
            group = step.group
            for output in group.outputs:
                said.extend((id(output.body), output.size, *(tuple(store.items()) for store in output.stores), None))
                for use in output.constants:
                    tell(use)
            said.append(None)
        said.extend((id(step.body), step.ahead))
        tell(step.a)
        tell(step.w)
    return tuple(said)


class _Timer:
    """Times programs of one layer until the steps it may time are used up."""

    def __init__(self, layer: Layer, effort: float, is_alone: bool):
        self._layer = layer.alone()
        self._spares = layer.config.has_moves and not is_alone
        # Groups so small that rows must be handed over have not paid in networks: mnist takes 0.5 % more with them.
        self._bounds = Bounds(layer.config, layer.timing, hands_over=is_alone)
        self._left = max(1.0, min(effort, 1) * _MOST_STEPS)
        #: What the programs have in common.
        self._known: dict[object, Any] = {}
        #: Of what steps state the cycles, and the limit beyond which these were not followed; and the steps, lest
        #: another body takes the identity of one of theirs.
        self._times: dict[object, tuple[float, float, list[ContractionStep]]] = {}

    def steps_of(self, tiling: Tiling) -> int:
        """Steps of its program."""
        return len(lower(tiling, self._layer, MemoryPlan(keep=False), self._known))

    def least(self, choices: list[Tiling], enough: float, most: float) -> tuple[float, Tiling] | None:
        """The choice of least cycles, if these are fewer than `most`.

        The first choice of no more than `enough` cycles does; without time to look no choice does.
        """
        best = None
        for option in dict.fromkeys(choices):
            if self._left > 0 and (best is None or best[0] > enough):
                cycles = self.cycles(option, most)
                if cycles < most:
                    most, best = cycles, (cycles, option)
        return best

    def several(self, choices: Iterable[Tiling], enough: float) -> list[tuple[float, Tiling]]:
        """Some choices of least cycles, no two of which take as many."""
        found: dict[float, Tiling] = {}
        self._left += _SMALL_STEPS
        for option in choices:
            if self._left > 0 and (not found or min(found) > enough):
                most = _BEHIND * min(found, default=float("inf"))
                found.setdefault(self.cycles(option, most, follow=True), option)
        return [(cycles, found[cycles]) for cycles in sorted(found)[:_IMPROVED] if cycles < float("inf")]

    def cycles(self, tiling: Tiling, most: float, *, follow: bool = False) -> float:
        """Cycles of the layer alone, infinitely many if there are more than `most`, or it would never end.

        Where tensors may stay on chip for other layers, what is loaded twice has a price of its own: memory is spared
        for a reason. Those that `follow` are told of more than `most` cycles, too, unless a bound shows them at once.
        """
        layer = self._layer
        steps = lower(tiling, layer, MemoryPlan(keep=False), self._known)
        self._left -= len(steps)
        if self._bounds.least_cycles(steps) > most:
            return float("inf")
        spared = BEAT * self._bounds.load_beats(steps) if self._spares else 0.0
        return self._timed(steps, float("inf") if follow else most - spared) + spared

    def _timed(self, steps: list[ContractionStep], most: float) -> float:
        """Cycles of a program, infinitely many if there are more than `most`; of equal ones it is found once."""
        key = stated(steps)
        cycles, limit, _ = self._times.get(key, (float("inf"), -float("inf"), steps))
        if cycles == float("inf") and limit < most:
            within = None if most == float("inf") else self._bounds.limit(steps, most)
            cycles = cycles_of(self._layer.config, self._layer.timing, steps, within)
            self._times[key] = cycles, most, steps
        return cycles
