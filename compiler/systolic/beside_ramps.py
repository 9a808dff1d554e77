"""Strips and groups of a layer whose outputs lie side by side, of sizes of their own.

A layer of few pixels is hardly more than its ramps: the first strip must be small to begin soon, its first groups to
give post-processing work, the last ones to end soon. From a cut into equal parts on, small changes are tried, each
timed as the hardware would run it.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

from ..kernels.regions import even
from .beside_plan import Cut, Plan, Strip, Way
from .layer import Layer

__all__ = ["improve_strips"]

#: Strips of an image at most, to begin with; parts of the channels of the groups of the first one, and of others.
_MOST_STRIPS = 5
_FIRST, _OTHERS = ((8, 2, 1), (4, 1), (2, 1), (1,)), ((2, 1), (1,))

#: Cuts to improve, and tries without success after which the search ends.
_STARTS, _PATIENCE = 2, 100

#: Channels by which groups change.
_STEPS = (1, 2, 4, 8, 16)

_Strips = tuple[Strip, ...]


def improve_strips(layer: Layer, way: Way, time: Callable[[Cut, float], float], best: float,
                   tries: int) -> tuple[float, Cut] | None:
    """Cut a layer into strips and groups that suit one another.

    Parameters
    ----------
    way : Way
        How outputs lie side by side.
    time : callable
        ``time(cut, most)`` gives the cycles of a cut that fits, infinitely many if there are more than `most`.
    best : float
        Cycles of the best other cut.
    tries : int
        Cuts to time at most.

    Returns
    -------
    (float, Cut) or None
        The best that was found, and its cycles; None if none fits. The search is the same each time.
    """
    known: dict[Cut, float] = {}
    for cut in _starts(layer, way):
        if Plan(layer, cut).fits and len(known) < tries:
            known[cut] = time(cut, 1.2 * best)
    found = sorted(((cycles, cut) for cut, cycles in known.items()), key=lambda each: each[0])[:_STARTS]
    # Some tries for each, all others for the best.
    for start in found:
        found = sorted([*found, _climb(layer, start, time, tries // 4, known)], key=lambda each: each[0])
    return _climb(layer, found[0], time, tries - len(known), known) if found else None


def _starts(layer: Layer, way: Way) -> Iterator[Cut]:
    """Yield cuts into strips of about as many rows, the smallest first, and with a row less in that."""
    problem = layer.problem
    for count, less in product(range(1, min(_MOST_STRIPS, problem.p) + 1), range(2)):
        rows = sorted(end - first for first, end in even(problem.p, count))
        if less and (count == 1 or rows[0] == 1):
            continue
        rows[0], rows[-1] = rows[0] - less, rows[-1] + less
        for first, others in product(_FIRST, _OTHERS):
            groups = [_shared(problem.cg, first)] + [_shared(problem.cg, others)] * (count - 1)
            yield _with(Cut(way, 0, 0, 0, True, True, problem.cg), tuple(zip(rows, groups, strict=True)))


def _shared(channels: int, parts: tuple[int, ...]) -> tuple[int, ...]:
    """Channels in parts: each takes so large a share of what is left, the last one all."""
    sizes = []
    for part in parts:
        sizes.append(channels if part == 1 else channels // part)
        channels -= sizes[-1]
    return tuple(size for size in (*sizes[:-1], sizes[-1] + channels) if size)


def _climb(layer: Layer, start: tuple[float, Cut], time: Callable[[Cut, float], float], tries: int,
           known: dict[Cut, float]) -> tuple[float, Cut]:
    """Go on to what takes no more cycles, until nothing has been won for long, or all tries are spent."""
    cycles, cut = start
    strips = cut.strips
    # Not for secrets: a search that finds the same each time.
    choice, idle = random.Random(0), 0
    while tries > 0 and idle < _PATIENCE:
        idle += 1
        changed = _with(cut, _changed(strips, choice))
        if changed not in known:
            known[changed] = time(changed, cycles + 1) if Plan(layer, changed).fits else float("inf")
            tries -= 1
        if known[changed] > cycles:
            continue
        if known[changed] < cycles:
            idle = 0
        cycles, strips, cut = known[changed], changed.strips, changed
    return cycles, cut


def _with(cut: Cut, strips: _Strips) -> Cut:
    """A cut with other strips."""
    rows = max(rows for rows, _ in strips)
    return replace(cut, channels=max(max(groups) for _, groups in strips), rows=rows, strip=rows, whole=True,
                   joined=True, strips=strips)


def _changed(strips: _Strips, choice: random.Random) -> _Strips:
    """Make a change or two, each of rows or of channels."""
    for _ in range(choice.choice((1, 1, 2))):
        if choice.random() < 0.3:
            sizes = _resized([rows for rows, _ in strips], (1, 2, 3), choice)
            # A strip that is new has the groups of the last one.
            groups = [groups for _, groups in strips]
            strips = tuple(zip(sizes, (groups + [groups[-1]] * len(sizes))[:len(sizes)], strict=True))
        else:
            at = choice.randrange(len(strips))
            rows, parts = strips[at]
            strips = (*strips[:at], (rows, tuple(_resized(list(parts), _STEPS, choice))), *strips[at + 1:])
    return strips


def _resized(sizes: list[int], steps: tuple[int, ...], choice: random.Random) -> list[int]:
    """Move a part of one size to its neighbour, or of its own, or join two."""
    at, step, drawn = choice.randrange(len(sizes)), choice.choice(steps), choice.random()
    if drawn < 0.2:
        if step < sizes[at]:
            return [*sizes[:at], step, sizes[at] - step, *sizes[at + 1:]] if choice.random() < 0.5 else [
                *sizes[:at], sizes[at] - step, step, *sizes[at + 1:]]
    elif len(sizes) > 1:
        other = at - 1 if at and (choice.random() < 0.5 or at == len(sizes) - 1) else at + 1
        if drawn < 0.35 or step >= sizes[at]:
            step = sizes[at]
        sizes = list(sizes)
        sizes[at] -= step
        sizes[other] += step
        return [size for size in sizes if size]
    return sizes
