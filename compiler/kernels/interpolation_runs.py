"""Interpolation of images run by run: outputs of the same shares, at equal distances, are one sum of scaled elements.

An output is ``(S + r) >> d``: S adds four elements, counted from the least number of their type, times the products of
the shares of their row and column, d is the bits of a whole, and r rounds. Shares beyond an operand are sums of several
weights. Where products of shares are small, that is one sum. Else rows are interpolated first. Such sums have more bits
than a byte, so they are kept as digits: integers, and what is behind the point in one byte or two. Each digit is the
sum once more, less what the digits above hold. Along columns those behind the point make carries, again of one byte or
two, which the sum of the integers takes.

Kernels are as many as pairs of runs, or some for each run, so that this is for few of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...golden.interpolation import Along
from .interpolation_stage import BITS, Side, Stage, byte
from .kernel import Access, Finish, Kernel
from .views import View

__all__ = ["Run", "at_once", "by_runs", "kernels_of", "runs_of"]

#: Greatest parts of a whole, and most kernels, with which an output is one sum.
_WHOLE, _KERNELS = 4096, 64

#: Outputs of both axes with the same shares.
_Runs = tuple[list["Run"], list["Run"]]


@dataclass(frozen=True)
class Run:
    """Outputs of an axis with the same shares, at equal distances: the first, how many, and how far they are apart.

    Parameters
    ----------
    first, count, step : int
        Outputs.
    lower, upper, apart : int
        Elements that the first lies between, and how far those of the next are from them.
    share, whole : int
        How much is of the upper one, in parts of a whole.
    """

    first: int
    count: int
    step: int
    lower: int
    upper: int
    apart: int
    share: int
    whole: int

    def made(self, view: View, axis: str) -> View:
        """These outputs of a view."""
        return view.part(axis, self.first, self.count, self.step)

    def seen(self, view: View, axis: str) -> Iterator[tuple[View, int]]:
        """Elements that they lie between, each with its share."""
        for element, share in ((self.lower, self.whole - self.share), (self.upper, self.share)):
            if share:
                yield view.part(axis, element, self.count, self.apart), share


def runs_of(along: Along) -> list[Run]:
    """All outputs of an axis, as few runs as a walk finds."""
    found = []
    for share in np.unique(along.share).tolist():
        outputs = np.flatnonzero(along.share == share)
        at = np.stack([outputs, along.lower[outputs], along.upper[outputs]])
        start = 0
        while start < len(outputs):
            first, steps = at[:, start], np.diff(at[:, start:])
            count, step, apart = 1, 1, 1
            if steps.size and steps[1, 0] == steps[2, 0]:
                same = (steps == steps[:, :1]).all(axis=0)
                count = 1 + (len(same) if same.all() else int(same.argmin()))
                step, apart = int(steps[0, 0]), int(steps[1, 0])
            found.append(Run(int(first[0]), count, step, int(first[1]), int(first[2]), apart, share, along.whole))
            start += count
    return found


def kernels_of(runs: _Runs, sides: int) -> int:
    """How many kernels runs are, with so many sides."""
    rows, columns = map(len, runs)
    carried = len(_carried(*_bits(runs)))
    in_turn = (1 + len(_digits(_bits(runs)[0]))) * rows + sides * (1 + carried) * columns
    return (sides * rows * columns if _is_one_sum(runs) else in_turn) + (sides > 1)


def _is_one_sum(runs: _Runs) -> bool:
    """Whether each output is one sum."""
    return runs[0][0].whole * runs[1][0].whole <= _WHOLE and len(runs[0]) * len(runs[1]) <= _KERNELS


def _bits(runs: _Runs) -> tuple[int, int]:
    """Bits of a whole of rows, and of columns."""
    return runs[0][0].whole.bit_length() - 1, runs[1][0].whole.bit_length() - 1


def _carried(down: int, beside: int) -> list[int]:
    """Lowest bits of the digits of the greatest carry of what is behind the point."""
    most = (((1 << down) - 1 << beside) + (1 << down) - 1) >> down
    return _digits(max(most.bit_length(), 1)) if down else []


def by_runs(stage: Stage, x: Access, y: View, sides: Sequence[Side], runs: _Runs) -> Iterator[Kernel]:
    """Make y of x, whose elements count from the least number of their type: for each side outputs, which are added."""
    targets = stage.targets(y, sides)
    if _is_one_sum(runs):
        bits = sum(_bits(runs))
        for side, target in zip(sides, targets, strict=True):
            yield from at_once(stage, x, target, runs, stage.cut(bits, side.addend, side, x.zero))
    else:
        yield from _in_turn(stage, x, targets, sides, runs)
    yield from stage.joined(y, targets, x.is_unsigned)


def at_once(stage: Stage, x: Access, y: View, runs: _Runs, finish: Finish) -> Iterator[Kernel]:
    """Each output as one sum."""
    for row in runs[0]:
        for column in runs[1]:
            terms = [(Access(view, {}, x.zero, x.is_unsigned), above * beside, row.whole * column.whole)
                     for part, above in row.seen(x.view, "h") for view, beside in column.seen(part, "w")]
            yield stage.kernel(column.made(row.made(y, "h"), "w"), terms, finish)


def _digits(bits: int) -> list[int]:
    """Lowest bit of each digit of so many bits, the highest first."""
    return [*range(bits - BITS, 0, -BITS), 0] if bits else []


def _in_turn(stage: Stage, x: Access, targets: Sequence[View], sides: Sequence[Side],
             runs: _Runs) -> Iterator[Kernel]:
    """Rows first, then columns; each plane is whole before another is made of it."""
    rows, columns = runs
    down, beside = _bits(runs)
    n, h, _, c = stage.sizes
    lowest = [down, *_digits(down)]
    planes = [stage.plane(f"digit{bit}", (n, h, x.view.size("w"), c)) for bit in lowest]
    for number, bit in enumerate(lowest):
        for row in rows:
            terms = [(Access(view, {}, x.zero, x.is_unsigned), share, row.whole)
                     for view, share in row.seen(x.view, "h")]
            terms += [byte(row.made(plane, "h"), -(1 << above))
                      for plane, above in zip(planes[:number], lowest, strict=False)]
            yield stage.kernel(row.made(planes[number], "h"), terms, stage.cut(bit))
    carried = _carried(down, beside)
    for side_number, (side, target) in enumerate(zip(sides, targets, strict=True)):
        carries = [stage.plane(f"carry{side_number}.{bit}") for bit in carried]
        for number, bit in enumerate(carried):
            for column in columns:
                terms = [byte(view, share << digit, column.whole << digit)
                         for plane, digit in zip(planes[1:], lowest[1:], strict=True)
                         for view, share in column.seen(plane, "w")]
                terms += [byte(column.made(plane, "w"), -(1 << down + above))
                          for plane, above in zip(carries[:number], carried, strict=False)]
                yield stage.kernel(column.made(carries[number], "w"), terms,
                                   stage.cut(down + bit, side.addend & (1 << down) - 1))
        for column in columns:
            terms = [byte(view, share, column.whole) for view, share in column.seen(planes[0], "w")]
            terms += [byte(column.made(plane, "w"), 1 << bit) for plane, bit in zip(carries, carried, strict=True)]
            yield stage.kernel(column.made(target, "w"), terms, stage.cut(beside, side.addend >> down, side, x.zero))
