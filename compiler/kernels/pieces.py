"""Elements that are moved, as nested loops in memory: what is picked along each axis, taken together.

A piece is a part of an output whose elements stand in loops, all of them the same way in the input: from one index of a
loop to the next, so many elements on in the output, and so many in the input.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise, product

import numpy as np

from ...hdl.errors import PearrayError
from ..operators.moved import OUTSIDE, Picked
from .layout import Layout

__all__ = ["Loop", "Piece", "Strip", "merged", "pieces"]


@dataclass(frozen=True)
class Loop:
    """A loop of a piece: how often, and elements of the output and of the input from one index to the next."""

    size: int
    y: int
    x: int


@dataclass(frozen=True, eq=False)
class Strip:
    """Elements of the output that follow one another in memory, and where each stands in the input.

    Parameters
    ----------
    places : ndarray of int
        Elements of the input behind the first of the piece; -1 for none.
    """

    places: np.ndarray

    @property
    def is_straight(self) -> bool:
        """Whether they follow one another in the input, too."""
        return bool((self.places == np.arange(len(self.places))).all())


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of an output.

    Parameters
    ----------
    y, x : int
        Elements at which it begins; the input's is -1 if it is filled.
    loops : tuple of Loop
        Loops, the outermost first.
    strip : Strip or None
        What each iteration moves; None for one element.
    """

    y: int
    x: int
    loops: tuple[Loop, ...]
    strip: Strip | None = None

    @property
    def is_fill(self) -> bool:
        """Whether it has no input."""
        return self.x == OUTSIDE


def merged(loops: tuple[Loop, ...]) -> tuple[Loop, ...]:
    """The same loops in the output's order, those that go on where others end as one."""
    left = sorted((loop for loop in loops if loop.size > 1), key=lambda loop: -loop.y)
    found: list[Loop] = []
    for loop in left:
        if found and (found[-1].y, found[-1].x) == (loop.size * loop.y, loop.size * loop.x):
            found[-1] = Loop(found[-1].size * loop.size, loop.y, loop.x)
        else:
            found.append(loop)
    return tuple(found)


def pieces(part: Picked, x: Layout, y: Layout) -> list[Piece]:
    """State a part of an output in memory.

    Parameters
    ----------
    part : Picked
        The part.
    x, y : Layout
        How input and output lie in memory.

    Raises
    ------
    PearrayError
        If an axis is made of parts of those in memory.
    """
    return [Piece(found.y, found.x, merged(found.loops), found.strip) for found in _product([*_along(part, x, y)])]


@dataclass(frozen=True, eq=False)
class _Segment:
    """Some indices of an axis; `x` is -1 for those that are filled."""

    y: int
    x: int
    loops: tuple[Loop, ...]
    strip: Strip | None = None


def _places(layout: Layout, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Elements of memory at which the indices of each axis of a tensor of another shape stand."""
    factors = layout.reshaped(shape).factors()
    if factors is None:
        raise PearrayError(f"a tensor of shape {layout.shape} whose elements stand in memory as {layout.physical} "
                           f"can't be read as {shape}: reshape it so that axes are split or joined whole")
    return [reduce(lambda far, near: np.add.outer(far, near).reshape(-1),
                   [np.arange(size) * step for size, step in parts], np.zeros(1, np.int64)) for parts in factors]


def _along(part: Picked, x: Layout, y: Layout) -> Iterator[tuple[list[_Segment], list[_Segment]]]:
    """Segments of each axis of a part's output, and what they are if all of it is filled."""
    sources, targets = _places(x, part.split), _places(y, part.into)
    for axis, target in enumerate(targets):
        picks, start = part.picks(axis), part.start.get(axis, 0)
        target = target[start:start + len(picks)]
        source = np.where(picks == OUTSIDE, OUTSIDE, sources[part.order[axis]][np.maximum(picks, 0)])
        yield _segments(target, source), _filled(target)


def _segments(target: np.ndarray, source: np.ndarray) -> list[_Segment]:
    """Indices of an axis as few loops; irregular ones that stand side by side in the output are one strip."""
    inside = source != OUTSIDE
    ends = [0, *(np.flatnonzero(np.diff(inside)) + 1).tolist(), len(target)]
    found: list[_Segment] = []
    for first, end in pairwise(ends):
        if inside[first]:
            found += _nested(target[first:end], source[first:end])
        else:
            found += _filled(target[first:end])
    if len(found) == 1 or (np.diff(target) != 1).any() or not inside.any() or np.ptp(source[inside]) >= _FARTHEST:
        return found
    least = int(source[inside].min())
    return [_Segment(int(target[0]), least, (), Strip(np.where(inside, source - least, OUTSIDE)))]


def _filled(target: np.ndarray) -> list[_Segment]:
    """Indices of an axis that have no input."""
    return [_Segment(segment.y, OUTSIDE, segment.loops) for segment in _nested(target, np.zeros_like(target))]


#: Elements of the input over which the elements of a strip may be spread.
_FARTHEST = 4096


def _nested(target: np.ndarray, source: np.ndarray) -> list[_Segment]:
    """Pairs of places as nested loops, as few as soon found."""
    # (output, input, loops of (size, output, input))
    rows: list[tuple[int, int, tuple[Loop, ...]]] = []
    steps = np.stack([np.diff(target), np.diff(source)], 1)
    changes = np.flatnonzero((np.diff(steps, axis=0) != 0).any(1)) + 1 if len(steps) else np.zeros(0, int)
    at, bounds = 0, [*changes.tolist(), len(steps)]
    for bound in bounds:
        # Places at..bound are in equal steps; the next run begins behind them.
        if bound <= at:
            continue
        size = bound - at + 1
        loops = (Loop(size, int(steps[at, 0]), int(steps[at, 1])),) if size > 1 else ()
        rows.append((int(target[at]), int(source[at]), loops))
        at = bound + 1
    if at < len(target):
        rows.append((int(target[at]), int(source[at]), ()))
    while True:
        joined = _joined(rows)
        if len(joined) == len(rows):
            return [_Segment(*row) for row in rows]
        rows = joined


def _joined(rows: list[tuple[int, int, tuple[Loop, ...]]]) -> list[tuple[int, int, tuple[Loop, ...]]]:
    """Join rows that are alike and go on in equal steps."""
    found = []
    at = 0
    while at < len(rows):
        y, x, loops = rows[at]
        count, step = 1, (0, 0)
        while at + count < len(rows) and rows[at + count][2] == loops:
            last, following = rows[at + count - 1], rows[at + count]
            this = following[0] - last[0], following[1] - last[1]
            if count > 1 and this != step:
                break
            count, step = count + 1, this
        found.append((y, x, (Loop(count, *step), *loops) if count > 1 else loops))
        at += count
    return found


def _product(axes: list[tuple[list[_Segment], list[_Segment]]]) -> Iterator[_Segment]:
    """Segments of all axes together; what is filled along one axis is so along all that follow."""
    if not axes:
        yield _Segment(0, 0, ())
        return
    (segments, _), *others = axes
    rest = list(_product(others))
    for segment in segments:
        if segment.x == OUTSIDE:
            for filled in product(*(every for _, every in others)):
                yield _Segment(segment.y + sum(each.y for each in filled), OUTSIDE,
                               segment.loops + tuple(loop for each in filled for loop in each.loops))
            continue
        for other in rest:
            if other.x != OUTSIDE:
                yield _Segment(segment.y + other.y, segment.x + other.x, segment.loops + other.loops,
                               segment.strip or other.strip)
            elif segment.strip is None:
                yield _Segment(segment.y + other.y, OUTSIDE, segment.loops + other.loops)
            else:
                # Of what is filled a strip is a row of the output.
                row = Loop(len(segment.strip.places), 1, 0)
                yield _Segment(segment.y + other.y, OUTSIDE, (row, *other.loops))
