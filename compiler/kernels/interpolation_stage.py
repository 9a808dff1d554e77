"""What ways to state an interpolation have in common: roundings, planes of bytes, and sums of elements of these."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...hdl.shell.commands import Rounding
from ...hdl.shell.config import Config
from ..graph.graph import Node
from ..operators import Interpolate
from .context import Context, tflite_entry
from .elementwise import whole
from .kernel import PIXELS, Access, Chain, Contraction, Finish, Index, Kernel, Scaled
from .views import Buffer, View

__all__ = ["BITS", "Side", "Stage", "Term", "byte", "cycles_of", "sides_of"]

#: Bits of an operand, and of a digit of what has more.
BITS = 8

#: Elements, what they are multiplied by, and the largest that this may be.
Term = tuple[Access, int, int]

#: Cycles in which a kernel begins and ends.
_KERNEL = 250


class Side(NamedTuple):
    """What is added to sums before they are cut, and the bounds of the result."""

    addend: int
    low: int
    high: int


def sides_of(rounding: str, is_unsigned: bool, parts: int) -> list[Side]:
    """Roundings of sums of `parts` to a whole: one, or one for results above zero and one for others."""
    half = parts // 2
    if is_unsigned or parts == 1:
        return [Side(half if rounding == "away" else 0, 0, 255) if is_unsigned else Side(0, -128, 127)]
    above, below = (half, half - 1) if rounding == "away" else (0, parts - 1)
    return [Side(above, 0, 127), Side(below, -128, 0)]


@dataclass(frozen=True, eq=False)
class Stage:
    """Where kernels of a node are made."""

    context: Context
    node: Node[Interpolate]
    #: Images, rows, columns and channels of what is made.
    sizes: tuple[int, int, int, int]

    def plane(self, name: str, sizes: tuple[int, int, int, int] | None = None) -> View:
        """Room for images of bytes between x and y."""
        n, h, w, c = sizes or self.sizes
        buffer = Buffer(f"{self.node.name}:{name}", n * h * w, c, self.context.config.operand_bytes)
        buffer.expect_stores()
        self.context.made.append(buffer)
        return View.rows(buffer, "nhwc", (n, h, w, c))

    def cut(self, bits: int, addend: int = 0, side: Side | None = None, point: int = 0) -> Finish:
        """Sums less their lowest bits, and within the bounds of a byte, or those of a side."""
        bias = addend - (1 << bits - 1 if bits else 0)
        _, low, high = side or Side(0, 0, 255)
        return Finish(Rounding.TFLITE_SINGLE, point, low, high, tflite_entry(1 << 30, 1 - bits),
                      np.full(self.sizes[3], bias) if bias else None)

    def targets(self, y: View, sides: Sequence[Side]) -> list[View]:
        """Where outputs of each side go: y itself, or planes that are joined there."""
        return [y] if len(sides) == 1 else [self.plane(f"side{number}") for number in range(len(sides))]

    def joined(self, y: View, targets: Sequence[View], is_unsigned: bool) -> Iterator[Kernel]:
        """Add what sides have made, of which one is zero, unless it stands in y."""
        if len(targets) > 1:
            yield self.kernel(y, [(Access(target, {}, 0, is_unsigned), 1, 1) for target in targets],
                              whole(np.dtype(np.uint8 if is_unsigned else np.int8)))

    def kernel(self, y: View, terms: list[Term], finish: Finish) -> Kernel:
        """Sum of elements times integers, each beside the largest that it may be."""
        indices = {**PIXELS, "c": Index({"c": 1})}
        ranks = {rank: y.size(axis) for rank, axis in zip("npqc", "nhwc", strict=True)}
        return Chain(name=self.node.name, ranks=ranks, y=Access(y, indices), finish=finish,
                     terms=tuple(Scaled(Access(term.view, indices, term.zero, term.is_unsigned), factor, largest)
                                 for term, factor, largest in terms))


def byte(view: View, factor: int, largest: int = 0) -> Term:
    """Bytes without a sign, times an integer, beside the largest that it may be."""
    return Access(view, {}, 0, True), factor, largest


def cycles_of(kernels: Sequence[Kernel], config: Config) -> float:
    """Cycles of kernels, by rule of thumb: those of the array, or of what goes through memory, and some for each."""
    total, greatest = 0.0, config.arithmetic.operand_range(True)[1]
    depth, width = config.array.rows, config.sum_columns
    for kernel in kernels:
        n, p, q, g, m, c = (kernel.ranks.get(rank, 1) for rank in "npqgmc")
        pixels, channels = n * p * q, g * m if isinstance(kernel, Contraction) else c
        vectors, work, moved = pixels * -(-channels // width), 0, pixels * channels * kernel.finish.item(config)
        for term in kernel.terms:
            if isinstance(term, Scaled):
                work += vectors * -(-max(abs(term.factor), term.largest) // greatest)
                moved += pixels * channels
            else:
                work += g * -(-c // depth) * -(-m // width) * max(pixels, depth)
                moved += (pixels * g + (m if isinstance(term.w, Access) else 0)) * c
        total += max(work, vectors * width / config.post.lanes, moved / config.beat_bytes) + _KERNEL
    return total
