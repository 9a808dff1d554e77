"""Interpolation of images as products with two matrices of shares, exact to the last bit, whatever the sizes.

Rows of an output are a matrix of shares times the rows of x, and columns another times those. Shares beyond an operand
are sums of several, each in a matrix of its own. Sums are stored whole, and read again as the bytes that they are: so a
sum is cut into digits, which operands are, without a kernel for each. With digits ``b`` of the first sums, the lowest
first, and the matrix C of columns, an output is made of ``S = sum over b of 256**b C b``. The bytes of each ``C b`` are
separated, those that are worth the same are added, and what they carry is taken along.

Matrices are mostly zeros, since outputs that lie side by side see few elements. So they are computed in a few blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...golden.interpolation import Along
from ...hdl.shell.config import Config
from .elementwise import whole
from .interpolation_stage import Side, Stage, Term, byte
from .kernel import PIXELS, Access, Constant, Contraction, Finish, Index, Kernel, Product
from .regions import even
from .views import Axis, Buffer, View

__all__ = ["by_matrices"]

#: Bits of a digit.
_BITS = 8

#: Numbers of blocks of outputs that are tried.
_BLOCKS = (1, 2, 4, 8)

#: About as many weights the bytes of an output meet, by and by, when they are added.
_ADDED = 24


@dataclass(frozen=True)
class _Digits:
    """How sums are cut.

    Parameters
    ----------
    shift : int
        Bits of a whole of both axes.
    planes : int
        Digits of the sums of rows.
    bytes : int
        Bytes of what columns make of a digit.
    group : int
        Channels whose bytes are separated at once.
    """

    shift: int
    planes: int
    bytes: int
    group: int

    @classmethod
    def of(cls, config: Config, channels: int, rows: Along, columns: Along) -> "_Digits":
        """Digits of images of so many channels."""
        down, beside = (along.whole.bit_length() - 1 for along in (rows, columns))
        planes, length = -(-(_BITS + down) // _BITS), -(-(_BITS + beside) // _BITS)
        depth, width, item = config.array.rows, config.sum_columns, config.sum_bytes

        def cycles(group: int) -> float:
            separated = planes * -(-item * group // depth) * -(-length * group // width)
            return (separated + _ADDED * -(-group // width)) / group

        return cls(down + beside, planes, length, min(
            (group for group in range(1, channels + 1) if channels % group == 0), key=cycles))

    @property
    def worths(self) -> Iterator[tuple[int, int]]:
        """Bytes of an output that count: number in its pixel, and power of 256 that it is worth."""
        for plane in range(self.planes):
            for place in range(self.bytes):
                if _BITS * (plane + place) < self.shift + _BITS:
                    yield plane * self.bytes + place, plane + place


@dataclass(frozen=True, eq=False)
class _Adder:
    """Adds the bytes of outputs, which stand in rows of pixels: of each a group of channels."""

    stage: Stage
    digits: _Digits
    separated: View

    def terms(self, first: int, end: int) -> list[Term]:
        """Bytes that are worth 256**first to less than 256**end, times what they are worth more than the first."""
        size, pixels = self.digits.group, self.stage.sizes[2]
        return [byte(View(self.separated.buffer, (
            Axis("n", 1, 0), Axis("h", 1, 0), Axis("w", pixels, self.digits.planes * self.digits.bytes * size),
            Axis("c", size, 1)), place * size), 1 << _BITS * (worth - first))
                for place, worth in self.digits.worths if first <= worth < end]

    def cut(self, y: View, side: Side, nudge: Sequence[Term], point: int) -> Iterator[Kernel]:
        """Outputs: whole sums, what a side adds, and a nudge of 0 or 1, without what is behind the point."""
        stage, shift = self.stage, self.digits.shift
        whole_bytes = shift // _BITS
        behind = _BITS * whole_bytes
        addend, more = side.addend & (1 << behind) - 1, list(nudge)
        # The lowest byte alone carries nothing.
        first = 0 if addend or nudge else 1
        if first < whole_bytes:
            carry = stage.plane(f"{y.name.rpartition(':')[2]}:carry")
            yield stage.kernel(carry, [*self.terms(first, whole_bytes), *nudge],
                               stage.cut(behind - _BITS * first, addend >> _BITS * first))
            more = [byte(carry, 1)]
        yield stage.kernel(y, [*self.terms(whole_bytes, shift), *more],
                           stage.cut(shift - behind, side.addend >> behind, side, point))


def by_matrices(stage: Stage, x: Access, y: View, sides: Sequence[Side], along: tuple[Along, Along],
                parity: int | None = None) -> Iterator[Kernel]:
    """Make y of x, whose elements count from the least number of their type: for each side outputs, which are added.

    With `parity` halves go to that of two outputs, counted from there as well, of which the last bit is this one.
    """
    (rows, columns), (n, p, q, c) = along, stage.sizes
    h, w = x.view.size("h"), x.view.size("w")
    is_unsigned, point = x.is_unsigned, x.zero
    if n > 1:
        images = stage.plane("images", (h, n, w, c)).renamed(*"hnwc")
        yield stage.kernel(images, [(x, 1, 1)], stage.cut(0))
        x = Access(images, {}, 0, True)
    sums = _sums(stage, "rows", p, n * w * c)
    yield from _product(stage, rows, _matrix(x, h), sums)
    digits = _Digits.of(stage.context.config, c, rows, columns)
    turned = stage.plane("digits", (w, n, p, c * digits.planes))
    yield _turned(stage, sums, turned, digits)
    sums = _sums(stage, "columns", q, n * p * c * digits.planes)
    yield from _product(stage, columns, _matrix(Access(turned, {}, 0, True), w), sums)
    pixels = n * p * q * c // digits.group
    separated = stage.plane("bytes", (1, 1, pixels, digits.planes * digits.bytes * digits.group))
    yield _separated(stage, sums, separated, digits)
    adder = _Adder(replace(stage, sizes=(1, 1, pixels, digits.group)), digits, separated)
    nudge: list[Term] = []
    if parity is not None:
        floor, half = adder.stage.plane("floor"), adder.stage.plane("half")
        yield from adder.cut(floor, Side(0, 0, 255), [], 0)
        yield adder.stage.kernel(half, [byte(floor, 1)], adder.stage.cut(1))
        sign = -1 if parity else 1
        nudge = [byte(floor, sign), byte(half, -2 * sign)]
    made = []
    for number, side in enumerate(sides):
        made.append(adder.stage.plane(f"side{number}"))
        yield from adder.cut(made[-1], side, nudge, point)
    # They stand by column, image, row and channel.
    terms = [(Access(View.rows(each.buffer, "wnhc", (q, n, p, c)), {}, 0, is_unsigned), 1, 1) for each in made]
    yield stage.kernel(y, terms, whole(np.dtype(np.uint8 if is_unsigned else np.int8)))


def _matrix(x: Access, rows: int) -> Access:
    """What fills a buffer as a matrix of so many rows."""
    buffer = x.view.buffer
    columns = buffer.size // rows
    return replace(x, view=View(buffer, (Axis("c", rows, columns), Axis("m", columns, 1))))


def _sums(stage: Stage, name: str, rows: int, columns: int) -> View:
    """Room for a matrix of sums."""
    buffer = Buffer(f"{stage.node.name}:{name}", rows, columns, stage.context.config.sum_bytes)
    buffer.expect_stores()
    stage.context.made.append(buffer)
    return View.rows(buffer, "nhwc", (1, 1, rows, columns))


def _product(stage: Stage, along: Along, x: Access, y: View) -> Iterator[Kernel]:
    """Shares of all outputs of an axis times a matrix."""
    outputs, config = len(along.lower), stage.context.config
    shares = np.zeros((outputs, x.view.size("c")), np.int64)
    np.add.at(shares, (np.arange(outputs), along.lower), along.whole - along.share)
    np.add.at(shares, (np.arange(outputs), along.upper), along.share)
    greatest = config.arithmetic.operand_range(True)[1]
    weights = []
    while shares.any():
        part = np.minimum(shares, greatest)
        shares -= part
        weights.append(Buffer(f"{y.name}:shares{len(weights)}", *part.shape, config.operand_bytes, part.reshape(-1)))
    stage.context.made += weights
    row, column = Index({"q": 1}), Index({"c": 1})
    for first, end in _blocks(along, config.array.rows):
        low, high = int(along.lower[first:end].min()), int(along.upper[first:end].max()) + 1
        seen = replace(x, view=x.view.part("c", low, high - low), indices={"c": column, "m": Index({"m": 1})})
        terms = tuple(Product(Access(
            View.rows(each, "nhwc", (1, 1, each.rows, each.columns)).part("w", first, end - first).part(
                "c", low, high - low), {"w": row, "c": column}, 0, True), seen) for each in weights)
        yield Contraction(
            name=stage.node.name, ranks={"q": end - first, "m": y.size("c"), "c": high - low}, terms=terms,
            y=Access(y.part("w", first, end - first), {"w": row, "c": Index({"m": 1})}), finish=Finish())


def _blocks(along: Along, depth: int) -> list[tuple[int, int]]:
    """Outputs in blocks that take few cycles: an array contracts `depth` elements at once, of as many outputs."""
    def cycles(blocks: list[tuple[int, int]]) -> int:
        return sum(max(end - first, depth) * -(-int(along.upper[first:end].max() - along.lower[first:end].min() + 1)
                                               // depth) for first, end in blocks)

    outputs = len(along.lower)
    return min((even(outputs, count) for count in _BLOCKS if count <= outputs), key=cycles)


def _turned(stage: Stage, sums: View, y: View, digits: _Digits) -> Kernel:
    """Digits of sums of rows, with the axis outermost along which they are contracted: of a group plane by plane."""
    n, p, _, c = stage.sizes
    w = y.size("n")
    x = View.rows(sums.buffer, "hnwc", (p, n, w, c)).as_bytes()
    out = View.rows(y.buffer, "wnhc", (w, n, p, c * digits.planes))
    return _picked(stage, x, out, digits.group, digits.planes)


def _separated(stage: Stage, sums: View, y: View, digits: _Digits) -> Kernel:
    """Bytes of sums of columns: of a group all of the lowest, then all of the next."""
    size = digits.group
    x = View.rows(sums.buffer, "nhwc", (1, 1, sums.buffer.size // size, size)).as_bytes()
    out = View.rows(y.buffer, "nhwc", (1, 1, sums.buffer.size // size, size * digits.bytes))
    return _picked(stage, x, out, size, digits.bytes)


def _picked(stage: Stage, x: View, y: View, group: int, count: int) -> Kernel:
    """The lowest `count` bytes of each element of groups of channels."""
    item, groups = stage.context.config.sum_bytes, y.size("c") // (count * group)
    weights = np.zeros((group, item, count, group), np.int64)
    for place in range(count):
        weights[:, place, place] = np.eye(group)
    values = np.broadcast_to(weights.reshape(1, 1, 1, group * item, -1), (groups, 1, 1, group * item, count * group))
    ranks = {"n": y.size("n"), "p": y.size("h"), "q": y.size("w"), "g": groups, "c": group * item, "m": count * group}
    return Contraction(
        name=stage.node.name, ranks=ranks, finish=whole(np.dtype(np.uint8)), terms=(Product(
            Access(x, {**PIXELS, "c": Index({"g": group * item, "c": 1})}, 0, True), Constant(values)),),
        y=Access(y, {**PIXELS, "c": Index({"g": count * group, "m": 1})}))
