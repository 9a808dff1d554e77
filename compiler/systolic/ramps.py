"""How a layer begins and ends.

Between its ramps a layer keeps the array busy whatever its tiling. At the beginning it waits for its first operands, so
these come in small pieces; at the end for post-processing and stores, so the last groups shrink, at first by the rates
of the hardware. Then small changes are tried, each timed as the hardware would run it: sizes that suit one another
follow from no simple rule, but a try takes only milliseconds.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise, product

from ..kernels.regions import Region, split_region, step_of
from ..placement import MemoryPlan
from .candidates import LONG, Chooser
from .endings import Ending, Work, last_groups
from .layer import Layer, Tiles, Tiling
from .tiles import TileMaker

__all__ = ["ending", "improve", "improve_all", "last_parts", "openings", "split_at"]

#: Tries without success after which the search ends.
_PATIENCE = 80

#: Pixels of a first group, those of them that lead, and those that are loaded before weights, over rows of the array.
_LEADS = (2.6, 1.1, 0.6), (2.5, 1, 0.6), (2.25, 1, 0.5), (2, 1, 0.4)

#: How fast the first groups grow, and whether they have whole rows, of which pixels.
_OPENINGS = (2, True, _LEADS), (1.4, True, ((1.6, 0, -1), (1, 0, -1))), (1.4, False, ((1, 0, -1), (1.6, 1, -1)))

#: Last groups that may be cut together.
_TAILS = 1, 2, 3, 4

#: Tries from which on there is time for a longer search.
_MANY = 100

#: Changes of all of a layer after which one must be no worse than what there was before them, and how many times as
#: many cycles as at first that may take.
_LATE, _WORSE = 50, 1.015

#: Shares of changes of all of a layer that are of one sort.
_SORTS = ("middle",) * 3 + ("beginning",) * 4 + ("end",) * 3

#: POSTs of the last group, unless something is known of it.
_POSTS = 2


def ending(layer: Layer, maker: TileMaker, tiling: Tiling, *, long: bool = False) -> Ending:
    """The groups into which the last one of a layer is cut, and POSTs of the last: those given, else by rates.

    A `long` search takes some tenths of a second.
    """
    if tiling.ends:
        return Ending(tiling.ends, tiling.posts or _POSTS)
    problem, config = layer.problem, layer.config
    (pixels, before), (region, block) = tiling.last_parts(layer)
    boxes, reload = [box for group in tiling.w_boxes for box in group], 0.0
    if sum(maker.w_size(block, box) for box in boxes) > config.scratchpads.weight_bytes:
        reload = sum(maker.w_cycles(block, box) for box in boxes)
    depth = problem.r * problem.s if problem.channelwise else -(-problem.k // config.array.rows)
    tiles = block[1] - block[0]
    work = Work(depth, len(boxes), layer.reach * problem.finish.item(config),
                tiles * layer.reach == problem.y.size("c") or layer.packs(block), round(reload), layer.sums,
                layer.depth)
    found = last_groups(config, layer.timing, work, (pixels, before[1] - before[0]), (region.pixels, tiles),
                        step_of(region), long)
    return found._replace(posts=tiling.posts or found.posts)


def split_at(region: Region, pixels: int) -> list[Region]:
    """Cut a region in two, the first of about `pixels` pixels; in one if its shape does not allow it."""
    at = round(pixels / step_of(region))
    name, first, count = ("image", region.image0, region.images) if region.images > 1 else (
        ("p", region.p0, region.rows) if region.rows > 1 else ("q", region.q0, region.columns))
    if not 0 < at < count:
        return [region]
    return [replace(region, **{f"{name}1": first + at}), replace(region, **{f"{name}0": first + at})]


def last_parts(layer: Layer, maker: TileMaker, tiling: Tiling, parts: Sequence[Region],
               tiles: Tiles) -> tuple[list[tuple[Region, Tiles]], int]:
    """Groups of the last visit, of `parts` and all these tiles, the last ones cut anew, and POSTs of the last."""
    others, region = tiling.cut_anew(layer, parts, tiles)
    found, (groups, posts) = [(part, tiles) for part in others], ending(layer, maker, tiling)
    for pixels, count in groups:
        if pixels < region.pixels:
            part, region = split_at(region, pixels)
            found.append((part, tiles))
        else:
            found.append((region, (tiles[0], tiles[0] + count)))
            tiles = (tiles[0] + count, tiles[1])
    if tiles[0] != tiles[1]:
        raise AssertionError(f"groups {groups} are no cut of the last one")
    return found, posts


def openings(layer: Layer, tiling: Tiling) -> Iterator[Tiling]:
    """Beginnings that suit many layers: few pixels meet the first weights, half of them loaded before these."""
    if not layer.can_lead:
        return
    rows, channels = layer.config.array.rows, tiling.a_boxes[0].channels
    slices = ((2, 5), (2, 4, 6), ()) if layer.can_slice else ((),)
    orders = [tiling]
    if (other := replace(tiling, rest_first=True)).unit(layer) < rows:
        orders.append(other)
    for growth, by_row, leads in _OPENINGS:
        for (first, lead, ahead), larger, cuts, order in product(leads, (1.2, 1.0), slices, orders):
            ends = (order.unit(layer) + (cut - 1) * rows for cut in cuts)
            yield replace(order, first_pixels=round(first * rows), lead=round(lead * rows),
                          ahead=max(-1, round(ahead * rows)), growth=growth, by_row=by_row, meets_rows=growth < 2,
                          k_cuts=order.pieces(layer, larger), a_cuts=tuple(end for end in ends if end < channels))


def improve(layer: Layer, best: tuple[float, Tiling], time: Callable[[Tiling, float], float],
            tries: int, seed: int = 0, *, is_alone: bool = True) -> tuple[float, Tiling]:
    """Improve the ramps of a layer.

    Parameters
    ----------
    best : float, Tiling
        Where to begin, and the cycles that it takes.
    time : callable
        ``time(tiling, most)`` gives the cycles of a tiling, infinitely many if there are more than `most`.
    tries : int
        Tilings to time at most.
    seed : int
        Of the changes: another search goes on from what one has found.
    is_alone : bool
        Whether nothing is computed before the layer: only then its first operands are waited for.

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
        changes = _Changes(layer, random.Random(seed), is_alone)
        led = openings(layer, tiling) if tiling.lead and not tiling.ends else iter(())
        firsts = islice(led, tries // 4) if change == "beginning" else changes.endings(tiling, tries)
        idle = 0
        for _ in range(tries // 2):
            if idle == _PATIENCE:
                break
            idle += 1
            changed = next(firsts, None) or getattr(changes, change)(tiling)
            if changed is None or changed == tiling:
                continue
            if changed.ends == tiling.ends and changed.last_parts(layer) != tiling.last_parts(layer):
                # They are of another group.
                changed = replace(changed, ends=(), posts=0)
            if changed not in known:
                known[changed] = time(changed, cycles)
            found = known[changed]
            if found < cycles:
                idle = 0
            if found <= cycles:
                cycles, tiling = found, changed
    return cycles, tiling


def improve_all(layer: Layer, best: tuple[float, Tiling], time: Callable[[Tiling, float], float],
                tries: int) -> tuple[float, Tiling]:
    """Improve a short layer that is computed alone: how it begins and ends, and what lies between, all at once.

    What suits one of them best may not suit the others, so a change may take more cycles for a while: no more than
    there were some changes before. Parameters and what it returns are those of :func:`improve`.
    """
    changes, (cycles, tiling) = _Changes(layer, random.Random(0), is_alone=True), best
    late, known = [_WORSE * cycles] * _LATE, {tiling: cycles}
    for number in range(tries):
        changed = changes.any(tiling)
        if changed is not None:
            most = max(late[number % _LATE], cycles)
            if changed not in known:
                known[changed] = time(changed, most + 1)
            if known[changed] <= most:
                cycles, tiling = known[changed], changed
                best = min(best, (cycles, tiling), key=lambda found: found[0])
        late[number % _LATE] = min(late[number % _LATE], cycles)
    return best


class _Changes:
    """Random small changes of a tiling's ramps."""

    def __init__(self, layer: Layer, choice: random.Random, is_alone: bool):
        self._is_alone = is_alone
        self._layer, self._rows, self._choice = layer, layer.config.array.rows, choice
        self._maker, self._chooser = TileMaker(layer, MemoryPlan(keep=False)), Chooser(layer)

    def endings(self, tiling: Tiling, tries: int) -> Iterator[Tiling]:
        """Endings by rates, of one last group or of several, that were searched for longer where there is time."""
        if not tiling.shrink or (tries <= _MANY and not self._is_alone):
            return
        known = set()
        for tail in _TAILS if self._is_alone else _TAILS[:1]:
            plain = replace(tiling, ends=(), posts=0, tail=tail)
            if (last := plain.last_parts(self._layer)) not in known:
                known.add(last)
                groups, posts = ending(self._layer, self._maker, plain, long=tries > _MANY)
                yield replace(plain, ends=groups, posts=posts)

    def any(self, tiling: Tiling) -> Tiling | None:
        """Change something; None if that does not go."""
        changed: Tiling | None = getattr(self, self._choice.choice(_SORTS))(tiling)
        if changed is None or changed.ends != tiling.ends or not changed.ends:
            return changed
        # Groups at the end are of another one, perhaps.
        is_same = changed.blocks == tiling.blocks and changed.last_parts(self._layer) == tiling.last_parts(self._layer)
        return changed if is_same else replace(changed, ends=(), posts=0)

    def middle(self, tiling: Tiling) -> Tiling | None:
        """Change how large groups are, which have their inputs together, or how channels are cut."""
        layer, choice, drawn = self._layer, self._choice, self._choice.random()
        problem, tiles, blocks = layer.problem, layer.tiles, tiling.blocks
        pixels, step = tiling.pixels, max(1, self._rows // 4)
        if drawn < 0.35:
            pixels += choice.choice((-4 * step, -2 * step, -step, -1, 1, step, 2 * step, 4 * step))
        elif drawn < 0.6:
            whole = Region(0, problem.images, 0, problem.p, 0, problem.q)
            count = choice.choice((0, 0, 1, 2, 3, 4))
            tiling = replace(tiling, regions=tuple(split_region(whole, count * pixels)) if count else (whole,))
        elif drawn < 0.7:
            tiling = replace(tiling, n_outer=not tiling.n_outer)
        elif drawn < 0.8:
            tiling = replace(tiling, is_level=not tiling.is_level)
        else:
            cuts = choice.sample(range(1, tiles), min(tiles - 1, choice.choice((0, 1, 1, 2, 3))))
            blocks = (*pairwise((0, *sorted(cuts), tiles)),)
        widest = max(end - start for start, end in blocks)
        tiling = replace(tiling, blocks=blocks, pixels=max(1, min(pixels, layer.depth // widest)), ends=(), posts=0)
        is_short = len(tiling.regions) * len(blocks) * problem.groups <= LONG
        return tiling if is_short and widest <= layer.most_block and self._chooser.has_room(tiling) else None

    def beginning(self, tiling: Tiling) -> Tiling:
        """Change the first pixels, or where the first operands are cut."""
        rows = self._rows
        for _ in range(self._choice.choice((1, 1, 2, 3))):
            drawn = self._choice.random()
            if drawn < 0.3:
                step = self._choice.choice((-rows, -rows // 4, -1, 1, rows // 4, rows))
                tiling = replace(tiling, first_pixels=max(self._layer.least(rows), tiling.first_pixels + step))
            elif drawn < 0.36 and self._is_alone and self._layer.can_lead:
                tiling = replace(tiling, lead=self._choice.choice((
                    0, max(1, tiling.lead - 1), tiling.lead + 1, rows - rows // 4, rows)))
            elif drawn < 0.6:
                if places := tiling.places(self._layer):
                    toggled = {*tiling.k_cuts[:-1]} ^ {self._choice.choice(places)}
                    tiling = replace(tiling, k_cuts=tiling.cut_at(self._layer, toggled))
            elif drawn < 0.65 and self._is_alone and (turned := self._turned(tiling)) != tiling:
                tiling = turned
            elif drawn < 0.86 and self._layer.can_slice:
                tiling = replace(tiling, a_cuts=self._toggled(tiling))
            elif drawn < 0.9 and self._is_alone:
                tiling = replace(tiling, growth=self._choice.choice((1.25, 1.4, 1.6, 2)),
                                 by_row=self._choice.random() < 0.7, meets_rows=self._choice.random() < 0.7)
            elif self._is_alone:
                tiling = replace(tiling, ahead=self._choice.choice((
                    -1, 0, max(1, tiling.ahead - 1), tiling.ahead + 1, rows // 4, rows // 2)))
            else:
                tiling = replace(tiling, ahead=0 if tiling.ahead else -1)
        return tiling

    def end(self, tiling: Tiling) -> Tiling | None:
        """Change the last groups, or how many POSTs the last one takes; None if that does not go."""
        for _ in range(self._choice.choice((1, 1, 2))):
            drawn = self._choice.random()
            if drawn < 0.1 or not tiling.shrink:
                tiling = replace(tiling, posts=self._choice.randint(1, 3))
            elif drawn < 0.16 and self._is_alone:
                tiling = replace(tiling, tail=self._choice.choice(_TAILS), ends=(), posts=0)
            elif (ends := self._ends(tiling)) is None:
                return None
            else:
                tiling = replace(tiling, ends=ends)
        return tiling

    def _toggled(self, tiling: Tiling) -> tuple[int, ...]:
        """Make or drop one cut of the first pixels' channels, where weights can be cut, too."""
        size, first = tiling.a_boxes[0].channels, tiling.unit(self._layer)
        if first >= size:
            return tiling.a_cuts
        cut = first + self._rows * self._choice.randint(0, (size - 1 - first) // self._rows)
        return tuple(sorted({*tiling.a_cuts} ^ {cut}))

    def _turned(self, tiling: Tiling) -> Tiling:
        """Let what is left over of the array's rows come first instead of last, or last instead of first."""
        layer, size = self._layer, tiling.a_boxes[0].channels
        turned = replace(tiling, rest_first=not tiling.rest_first)
        moved, places = turned.unit(layer) - tiling.unit(layer), turned.places(layer)
        if not moved:
            return tiling
        k_cuts = [cut if cut in places else cut + moved for cut in tiling.k_cuts[:-1]]
        a_cuts = (cut + moved for cut in tiling.a_cuts)
        return replace(turned, k_cuts=turned.cut_at(layer, [cut for cut in k_cuts if cut in places]),
                       a_cuts=tuple(cut for cut in a_cuts if cut < size))

    def _ends(self, tiling: Tiling) -> tuple[tuple[int, int], ...] | None:
        """Change the last groups: move, make or drop a cut between pixels or between tiles."""
        choice, groups = self._choice, ending(self._layer, self._maker, tiling).groups
        _, (region, block) = tiling.last_parts(self._layer)
        pixels, step, tiles = region.pixels, step_of(region), block[1] - block[0]
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
        made.append((pixels, tiles))
        return tuple(made) if all(size * count <= self._layer.depth for size, count in made) else None
