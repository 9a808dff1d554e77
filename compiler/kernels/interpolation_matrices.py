"""Interpolation of images as products with two matrices of shares, exact to the last bit, whatever the sizes.

Columns of an output are a matrix of shares times the columns of x, and rows another times those. Shares beyond an
operand are sums of several, each in a matrix of its own. Sums are stored whole, and read again as the bytes that they
are: so a sum is cut into digits, which operands are, without sums of its own for each. With digits ``b`` of the first
sums, the lowest first, and the matrix R of rows, an output is made of ``S = sum over b of 256**b R b``. The bytes of
each ``R b`` are separated, those that are worth the same are added, and what they carry is taken along.

Matrices are mostly zeros, since outputs that lie side by side see few elements. So they are computed in a few blocks.
The number of kernels depends on these and on the number of digits, but not on the size of an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...golden.interpolation import Along
from .elementwise import columns_of, whole
from .interpolation_stage import BITS, Side, Stage, Term, byte
from .kernel import PIXELS, Access, Constant, Contraction, Finish, Index, Kernel, Product
from .regions import even
from .views import Axis, Buffer, View

__all__ = ["by_matrices"]

#: Numbers of blocks of outputs that are tried.
_BLOCKS = (1, 2, 4, 8)

#: Most elements from which bytes are taken at once.
_GREATEST = 64


@dataclass(frozen=True)
class _Digits:
    """How sums are cut.

    Parameters
    ----------
    shift : int
        Bits of a whole of both axes.
    planes : int
        Digits of the sums of columns.
    bytes : int
        Bytes of what rows make of a digit.
    """

    shift: int
    planes: int
    bytes: int

    @classmethod
    def of(cls, columns: Along, rows: Along) -> "_Digits":
        """Digits of these shares."""
        beside, down = (along.whole.bit_length() - 1 for along in (columns, rows))
        return cls(beside + down, -(-(BITS + beside) // BITS), -(-(BITS + down) // BITS))

    @property
    def whole(self) -> int:
        """Bytes that lie behind the point as a whole."""
        return self.shift // BITS

    @property
    def end(self) -> int:
        """Power of 256 that is greater than all sums."""
        return -(-self.shift // BITS) + 1

    def worth(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Digits and bytes of them that are worth 256**first to less than 256**end."""
        return ((plane, place) for plane in range(self.planes) for place in range(self.bytes)
                if first <= plane + place < end)


@dataclass(frozen=True, eq=False)
class _Adder:
    """Adds the bytes of outputs, which stand in `separated`, byte by byte: by row, digit, and what a row has."""

    stage: Stage
    digits: _Digits
    separated: Sequence[View]

    def terms(self, first: int, end: int) -> list[Term]:
        """Bytes that are worth 256**first to less than 256**end, times what they are worth more than the first."""
        images, rows, pixels, size = self.stage.sizes
        row, step = pixels * size, images * pixels * size
        axes = (Axis("n", images, row), Axis("h", rows, self.digits.planes * step), Axis("w", pixels, size),
                Axis("c", size, 1))
        return [byte(View(self.separated[place].buffer, axes, plane * step), 1 << BITS * (plane + place - first))
                for plane, place in self.digits.worth(first, end)]

    def cut(self, y: View, side: Side, nudge: Sequence[Term], point: int) -> Iterator[Kernel]:
        """Outputs: whole sums, what a side adds, and a nudge of 0 or 1, without what is behind the point."""
        stage, digits = self.stage, self.digits
        behind = BITS * digits.whole
        addend, more = side.addend & (1 << behind) - 1, [*nudge]
        # The lowest byte alone carries nothing.
        first = 0 if addend or nudge else 1
        if first < digits.whole:
            carry = stage.plane(f"{y.name.rpartition(':')[2]}:carry")
            yield stage.kernel(carry, [*self.terms(first, digits.whole), *nudge],
                               stage.cut(behind - BITS * first, addend >> BITS * first))
            more = [byte(carry, 1)]
        yield stage.kernel(y, [*self.terms(digits.whole, digits.end), *more],
                           stage.cut(digits.shift - behind, side.addend >> behind, side, point))


def by_matrices(stage: Stage, x: Access, y: View, sides: Sequence[Side], along: tuple[Along, Along],
                parity: int | None = None) -> Iterator[Kernel]:
    """Make y of x, whose elements count from the least number of their type: for each side outputs, which are added.

    With `parity` halves go to that of two outputs, counted from there as well, of which the last bit is this one.
    """
    (rows, columns), (n, p, q, c) = along, stage.sizes
    h, w = x.view.size("h"), x.view.size("w")
    images = stage.plane("images", (w, n, h, c))
    yield stage.kernel(images.renamed(*"wnhc"), [(x, 1, 1)], stage.cut(0))
    sums, digits = _sums(stage, "columns", q, n * h * c), _Digits.of(columns, rows)
    yield from _product(stage, columns, images, sums)
    turned = stage.plane("digits", (h * digits.planes, n, q, c))
    for digit in range(digits.planes):
        yield _turned(stage, sums, turned, digit, digits.planes)
    sums = _sums(stage, "rows", p, digits.planes * n * q * c)
    yield from _product(stage, rows, turned, sums)
    size = _group(stage, sums.buffer.size)
    separated = [stage.plane(f"byte{place}", (1, 1, sums.buffer.size // size, size)) for place in range(digits.bytes)]
    for place, plane in enumerate(separated):
        yield _picked(stage, View.rows(sums.buffer, "nhwc", (1, 1, sums.buffer.size // size, size)), plane, size, place)
    size = columns_of(q * c, stage.context.config.sum_columns)
    y = View.rows(y.buffer, "nhwc", (n, p, q * c // size, size))
    adder = _Adder(replace(stage, sizes=(n, p, q * c // size, size)), digits, separated)
    nudge: list[Term] = []
    if parity is not None:
        floor, half = adder.stage.plane("floor"), adder.stage.plane("half")
        yield from adder.cut(floor, Side(0, 0, 255), [], 0)
        yield adder.stage.kernel(half, [byte(floor, 1)], adder.stage.cut(1))
        sign = -1 if parity else 1
        nudge = [byte(floor, sign), byte(half, -2 * sign)]
    targets = adder.stage.targets(y, sides)
    for side, target in zip(sides, targets, strict=True):
        yield from adder.cut(target, side, nudge, x.zero)
    yield from adder.stage.joined(y, targets, x.is_unsigned)


def _sums(stage: Stage, name: str, rows: int, columns: int) -> View:
    """Room for a matrix of sums."""
    buffer = Buffer(f"{stage.node.name}:{name}", rows, columns, stage.context.config.sum_bytes)
    buffer.expect_stores()
    stage.context.made.append(buffer)
    return View.rows(buffer, "nhwc", (1, 1, rows, columns))


def _product(stage: Stage, along: Along, x: View, y: View) -> Iterator[Kernel]:
    """Shares of all outputs of an axis times what fills a buffer, of the elements of the axis row by row."""
    outputs, elements, config = len(along.lower), int(along.upper.max()) + 1, stage.context.config
    shares = np.zeros((outputs, elements), np.int64)
    np.add.at(shares, (np.arange(outputs), along.lower), along.whole - along.share)
    np.add.at(shares, (np.arange(outputs), along.upper), along.share)
    greatest = config.arithmetic.operand_range(True)[1]
    weights: list[Buffer] = []
    while shares.any():
        part = np.minimum(shares, greatest)
        shares -= part
        weights.append(Buffer(f"{y.name}:shares{len(weights)}", outputs, elements, config.operand_bytes,
                              part.reshape(-1)))
    stage.context.made += weights
    row, column, size = Index({"q": 1}), Index({"c": 1}), y.size("c")
    matrix = View(x.buffer, (Axis("c", elements, size), Axis("m", size, 1)))
    for first, end in _blocks(along, config.array.rows):
        low, high = int(along.lower[first:end].min()), int(along.upper[first:end].max()) + 1
        seen = Access(matrix.part("c", low, high - low), {"c": column, "m": Index({"m": 1})}, 0, True)
        terms = tuple(Product(Access(
            View.rows(each, "nhwc", (1, 1, each.rows, each.columns)).part("w", first, end - first).part(
                "c", low, high - low), {"w": row, "c": column}, 0, True), seen) for each in weights)
        yield Contraction(
            name=stage.node.name, ranks={"q": end - first, "m": size, "c": high - low}, terms=terms,
            y=Access(y.part("w", first, end - first), {"w": row, "c": Index({"m": 1})}), finish=Finish())


def _blocks(along: Along, depth: int) -> list[tuple[int, int]]:
    """Outputs in blocks that take few cycles: an array contracts `depth` elements at once, of as many outputs."""
    def cycles(blocks: list[tuple[int, int]]) -> int:
        return sum(max(end - first, depth) * -(-int(along.upper[first:end].max() - along.lower[first:end].min() + 1)
                                               // depth) for first, end in blocks)

    outputs = len(along.lower)
    return min((even(outputs, count) for count in _BLOCKS if count <= outputs), key=cycles)


def _turned(stage: Stage, sums: View, y: View, plane: int, planes: int) -> Kernel:
    """A digit of sums of columns, so that rows are outermost, then digits."""
    n, _, q, c = stage.sizes
    h = y.size("n") // planes
    x, out = View.rows(sums.buffer, "wnhc", (q, n, h, c)), View.rows(y.buffer, "hjnwc", (h, planes, n, q, c))
    out = replace(out, axes=tuple(axis for axis in out.axes if axis.name != "j"), offset=plane * out.stride("j"))
    return _picked(stage, x, out, _group(stage, c), plane)


def _group(stage: Stage, elements: int) -> int:
    """How many elements, of so many, a byte is taken from at once, in the fewest cycles for each."""
    config = stage.context.config

    def cycles(group: int) -> tuple[float, int]:
        tiles = -(-config.sum_bytes * group // config.array.rows) * -(-group // config.sum_columns)
        return tiles / group, -group

    return min((group for group in range(1, min(elements, _GREATEST) + 1) if elements % group == 0), key=cycles)


def _picked(stage: Stage, x: View, y: View, group: int, place: int) -> Kernel:
    """A byte of each element of groups of channels."""
    item, groups = stage.context.config.sum_bytes, y.size("c") // group
    weights = np.zeros((group, item, group), np.int64)
    weights[:, place] = np.eye(group)
    values = np.broadcast_to(weights.reshape(1, 1, 1, group * item, group), (groups, 1, 1, group * item, group))
    ranks = {"n": y.size("n"), "p": y.size("h"), "q": y.size("w"), "g": groups, "c": group * item, "m": group}
    return Contraction(
        name=stage.node.name, ranks=ranks, finish=whole(np.dtype(np.uint8)), terms=(Product(
            Access(x.as_bytes(), {**PIXELS, "c": Index({"g": group * item, "c": 1})}, 0, True), Constant(values)),),
        y=Access(y, {**PIXELS, "c": Index({"g": group, "m": 1})}))
