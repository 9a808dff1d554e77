"""Interpolation of images as sums of elements with integer shares, exact to the last bit.

An output is ``(S + r) >> d``: S adds four elements, counted from the least number of their type, times the products of
the shares of their row and column, d is the bits of a whole, and r rounds. Shares beyond an operand are sums of several
weights. Where products of shares are small, that is one sum. Else rows are interpolated first. Such sums have more bits
than a byte, so they are kept as digits: integers, and what is behind the point in one byte or two. Each digit is the
sum once more, less what the digits above hold. Along columns those behind the point make carries, again of one byte or
two, which the sum of the integers takes.

Rounding that is not the same below zero as above is made of two outputs, one for each side, cut off at zero, and added.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...golden.interpolation import Along
from ...hdl.errors import PearrayError
from ..graph.graph import Node
from ..operators import Interpolate
from .context import Context
from .elementwise import clamped, whole
from .interpolation_matrices import by_matrices
from .interpolation_stage import Side, Stage, byte, sides_of
from .kernel import Access, Finish, Kernel
from .views import View

__all__ = ["interpolate"]

#: Greatest parts of a whole, and most kernels, with which an output is one sum.
_WHOLE, _KERNELS = 4096, 64

#: Bits of a digit.
_BITS = 8


@dataclass(frozen=True)
class _Run:
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


def _runs(along: Along) -> list[_Run]:
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
            found.append(_Run(int(first[0]), count, step, int(first[1]), int(first[2]), apart, share, along.whole))
            start += count
    return found


def interpolate(context: Context, node: Node[Interpolate]) -> list[Kernel]:
    """State Interpolate."""
    if context.config.array.operand_bits != _BITS or context.is_fixed_point:
        raise PearrayError(f"{context.graph.where(node)}Interpolate needs an array of integers of array.operand_bits = "
                           f"{_BITS}, not {context.config.array.operand_bits}")
    tensor, operator = context.graph.tensors[node.inputs["x"]], node.operator
    is_unsigned = tensor.dtype.kind == "u"
    rows, columns = operator.along(tensor)
    parts = rows.whole * columns.whole
    image = context.image(node)
    y = context.result_image(node)
    stage = Stage(context, node, (y.size("n"), y.size("h"), y.size("w"), y.size("c")))
    import os
    if os.environ.get("NEWWAY") == "1":
        zero = -128 if not is_unsigned else 0
        x = Access(image, {}, zero, is_unsigned)
        parity = None
        sides = sides_of(operator.round_to, is_unsigned, parts) if operator.round_to != "even" else None
        if sides is None:
            info = np.iinfo(tensor.dtype)
            if parts > 1:
                parity = int(operator.zero_point) & 1
            sides = [Side(parts // 2 - 1 + parity if parts > 1 else 0, int(info.min), int(info.max))]
        kernels = [*by_matrices(stage, x, y, sides, (rows, columns), parity)]
        return [replace(kernel, many=len(kernels)) for kernel in kernels]
    if operator.round_to == "even":
        zero, info = int(operator.zero_point), np.iinfo(tensor.dtype)
        finish = clamped(int(info.min), int(info.max), point=zero, scale=1 / parts)
        return [*_at_once(stage, Access(image, {}, zero, is_unsigned), y, (rows, columns), finish)]
    x = Access(image, {}, 0 if is_unsigned else -128, is_unsigned)
    sides = sides_of(operator.round_to, is_unsigned, parts)
    targets = [y] if len(sides) == 1 else [stage.plane(f"side{number}") for number in range(len(sides))]
    runs = _runs(rows), _runs(columns)
    if parts <= _WHOLE and len(runs[0]) * len(runs[1]) <= _KERNELS:
        kernels = [kernel for side, target in zip(sides, targets, strict=True) for kernel in _at_once(
            stage, x, target, (rows, columns), stage.cut(parts.bit_length() - 1, side.addend, side, x.zero))]
    else:
        kernels = [*_in_turn(stage, x, targets, sides, (rows, columns))]
    if len(sides) > 1:
        kernels.append(stage.kernel(y, [(Access(target, {}), 1, 1) for target in targets], whole(tensor.dtype)))
    return [replace(kernel, many=len(kernels)) for kernel in kernels]


def _at_once(stage: Stage, x: Access, y: View, along: tuple[Along, Along], finish: Finish) -> Iterator[Kernel]:
    """Each output as one sum."""
    for row in _runs(along[0]):
        for column in _runs(along[1]):
            terms = [(Access(view, {}, x.zero, x.is_unsigned), above * beside, along[0].whole * along[1].whole)
                     for part, above in row.seen(x.view, "h") for view, beside in column.seen(part, "w")]
            yield stage.kernel(column.made(row.made(y, "h"), "w"), terms, finish)


def _digits(bits: int) -> list[int]:
    """Lowest bit of each digit of so many bits, the highest first."""
    return [*range(bits - _BITS, 0, -_BITS), 0] if bits else []


def _in_turn(stage: Stage, x: Access, targets: list[View], sides: list[Side],
             along: tuple[Along, Along]) -> Iterator[Kernel]:
    """Rows first, then columns; each plane is whole before another is made of it."""
    rows, columns = along
    down, beside = rows.whole.bit_length() - 1, columns.whole.bit_length() - 1
    n, h, _, c = stage.sizes
    lowest = [down, *_digits(down)]
    planes = [stage.plane(f"digit{bit}", (n, h, x.view.size("w"), c)) for bit in lowest]
    for number, bit in enumerate(lowest):
        for row in _runs(rows):
            terms = [(Access(view, {}, x.zero, x.is_unsigned), share, rows.whole)
                     for view, share in row.seen(x.view, "h")]
            terms += [byte(row.made(plane, "h"), -(1 << above))
                      for plane, above in zip(planes[:number], lowest, strict=False)]
            yield stage.kernel(row.made(planes[number], "h"), terms, stage.cut(bit))
    # The greatest carry of what is behind the point, and its digits.
    most = (((1 << down) - 1 << beside) + (1 << down) - 1) >> down
    carried = _digits(max(most.bit_length(), 1)) if down else []
    for side_number, (side, target) in enumerate(zip(sides, targets, strict=True)):
        carries = [stage.plane(f"carry{side_number}.{bit}") for bit in carried]
        for number, bit in enumerate(carried):
            for column in _runs(columns):
                terms = [byte(view, share << digit, columns.whole << digit)
                         for plane, digit in zip(planes[1:], lowest[1:], strict=True)
                         for view, share in column.seen(plane, "w")]
                terms += [byte(column.made(plane, "w"), -(1 << down + above))
                          for plane, above in zip(carries[:number], carried, strict=False)]
                yield stage.kernel(column.made(carries[number], "w"), terms,
                                   stage.cut(down + bit, side.addend & (1 << down) - 1))
        for column in _runs(columns):
            terms = [byte(view, share, columns.whole) for view, share in column.seen(planes[0], "w")]
            terms += [byte(column.made(plane, "w"), 1 << bit) for plane, bit in zip(carries, carried, strict=True)]
            yield stage.kernel(column.made(target, "w"), terms, stage.cut(beside, side.addend >> down, side, x.zero))
