"""How operators that move elements are stated as kernels.

What stands side by side in the output is a pixel. If it stands side by side in the input as well, it is copied by a
chain, a channel to a channel. Else it is a product of what it is spread over with a matrix of zeros and ones. A matrix
that is transposed is a product of its columns with the unit matrix. Which of these, and how long pixels are, is what
takes fewest cycles by rule of thumb.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.shell.config import Config
from ..graph.graph import Node
from ..operators.moved import OUTSIDE, Moved, Picked
from .context import Context, Located, check_range
from .elementwise import whole
from .kernel import PIXELS, Access, Chain, Constant, Contraction, Finish, Index, Kernel, Product, Scaled
from .layout import Layout
from .pieces import Loop, Piece, Strip, pieces
from .views import Axis, Buffer, View

__all__ = ["in_plain_order", "moved"]

#: Cycles of a burst at least, since so many may be under way.
_BURST = 4.5

#: Most elements of a matrix of zeros and ones, and of its rows.
_MATRIX, _ROWS = 1 << 18, 4096

#: Most kernels that a piece may be cut into, and loops over pixels that one has.
_KERNELS, _LOOPS = 512, 3


def moved(context: Context, node: Node[Moved]) -> list[Kernel]:
    """State an operator that moves elements."""
    name = node.outputs["y"]
    tensors = context.graph.typed(node.inputs)
    parts = [(part, context.operand(node, part.role), tensors[part.role].dtype)
             for part in node.operator.picked(tensors)]
    return _stated(context, node.name, name, parts, lambda **fields: context.locate(name, **fields))


def in_plain_order(context: Context, name: str) -> tuple[Located, list[Kernel]]:
    """Copy a tensor so that images stand with their channels last, and all else row-major."""
    tensor, found = context.graph.tensors[name], context.located[name]
    before: list[Kernel] = []
    if found.layout.factors() is None:
        found, before = _in_rows(context, name, found)
    made: list[Located] = []

    def locate(**fields: Any) -> Located:
        made.append(context.locate(name, **fields))
        return made[-1]

    part = _whole(tuple(tensor.shape))
    kernels = _stated(context, f"{name}:copy", name, [(part, found, tensor.dtype)], locate)
    return made[-1], [*before, *kernels]


def _whole(shape: tuple[int, ...]) -> Picked:
    """All elements of a tensor, in order."""
    return Picked.ordered("x", shape, range(len(shape)))


def _in_rows(context: Context, name: str, found: Located) -> tuple[Located, list[Kernel]]:
    """Copy a tensor whose axes mix parts of those in memory so that it stands row-major, as any shape can be read."""
    layout, tensor = found.layout, context.graph.tensors[name]
    shape = tuple(layout.physical[axis] for axis in layout.axes)
    made: list[Buffer] = []

    def locate(layout: Layout, columns: int) -> Located:
        size = prod(shape)
        made.append(Buffer(f"{name}:rows", size // columns, columns, context.config.operand_bytes))
        context.made.append(made[-1])
        return Located(made[-1], layout)

    kernels = _stated(context, f"{name}:rows", name, [(_whole(shape), found, tensor.dtype)], locate,
                      Layout(shape, tuple(range(len(shape))), shape))
    return Located(made[-1], Layout((prod(shape),), (0,), tuple(tensor.shape))), kernels


def _stated(context: Context, node: str, name: str, parts: list[tuple[Picked, Located, np.dtype]],
            locate: Callable[..., Located], layout: Layout | None = None) -> list[Kernel]:
    """Kernels that make a tensor of its parts; `locate` gives it a buffer, in the usual layout if none is given."""
    config = context.config
    layout = layout or Layout.of(tuple(context.graph.tensors[name].shape))
    made: list[tuple[Picked, Located, np.dtype, list[_Way]]] = []
    for part, x, dtype in parts:
        _check_type(context, name, dtype)
        try:
            found = pieces(part, x.layout, layout)
        except PearrayError as error:
            raise PearrayError(f"{node}: {error}") from None
        made.append((part, x, dtype, [way for piece in found for way in _ways(piece, config)]))
    columns = _columns(layout, [way for *_, ways in made for way in ways])
    buffer = locate(layout=layout, columns=columns).buffer
    buffer.expect_stores()
    return [kernel for part, x, dtype, ways in made for way in ways
            for kernel in way.kernels(_Target(context, node, buffer, x.buffer, dtype, part))]


def _check_type(context: Context, name: str, dtype: np.dtype) -> None:
    """Check that the array takes elements of a type."""
    if dtype.kind not in "iu" or dtype.itemsize > context.config.operand_bytes:
        raise PearrayError(f"{context.graph.named(name)} must be of an integer type of at most "
                           f"{8 * context.config.operand_bytes} bits to be moved by this accelerator, not {dtype}")


def _columns(layout: Layout, ways: "list[_Way]") -> int:
    """Elements of a row of the output's buffer, so that no pixel that is written lies in two of them."""
    columns = 1
    for size in (1, *layout.physical[::-1]):
        columns *= size
        if all(way.fits(columns) for way in ways):
            return columns
    return max(columns, 1)


@dataclass(frozen=True)
class _Target:
    """What kernels of a part are made for."""

    context: Context
    node: str
    y: Buffer
    x: Buffer
    x_dtype: np.dtype
    part: Picked

    def finish(self, bias: np.ndarray | None = None) -> Finish:
        """Post-processing: outputs are the sums."""
        return replace(whole(self.x_dtype, self.part.table), bias=bias)


@dataclass(frozen=True, eq=False)
class _Way:
    """A way to move a piece.

    Parameters
    ----------
    piece : Piece
        The piece.
    places : ndarray of int
        Elements of a pixel of the output: where each stands in the input behind what the loops say, -1 for none.
    loops : tuple of Loop
        Loops over pixels, the outermost first.
    turned : Loop or None
        Of a matrix that is transposed, the loop along which the input's elements stand side by side.
    """

    piece: Piece
    places: np.ndarray
    loops: tuple[Loop, ...]
    turned: Loop | None = None

    @property
    def _pixels(self) -> int:
        return prod(loop.size for loop in self.loops)

    def fits(self, columns: int) -> bool:
        """Whether each pixel lies in one row of the output's buffer."""
        starts = np.array([self.piece.y])
        for loop in (*self.loops, *([self.turned] if self.turned else [])):
            starts = np.add.outer(starts, np.arange(loop.size) * loop.y).reshape(-1)
            starts = np.unique(starts % columns)
        return int(starts.max()) + len(self.places) <= columns

    @property
    def _least(self) -> int:
        """First element of the input that a pixel is made of."""
        inside = self.places[self.places != OUTSIDE] if not self.piece.is_fill else self.places
        return int(inside.min())

    @property
    def _span(self) -> int:
        """Elements of the input over which a pixel is spread."""
        return int(self.places.max()) - self._least + 1

    @property
    def is_straight(self) -> bool:
        """Whether a pixel stands side by side in the input, too."""
        return self.turned is None and Strip(self.places - self._least).is_straight

    def cycles(self, config: Config) -> float:
        """Cycles by rule of thumb: what takes longest of the array, of post-processing, of LOADs, and of STOREs."""
        rows, cols, item, size = config.array.rows, config.array.cols, config.operand_bytes, len(self.places)
        pixels, span, lanes = self._pixels, self._span, max(config.post.lanes, 1)
        if self.turned is not None:
            pixels *= self.turned.size
        work = 1 if self.is_straight else -(-(size if self.turned else span) // rows)
        tiles = -(-size // cols)
        loads = _bursts([loop for loop in self.loops if loop.x], span, "x", config)
        if self.turned is not None:
            loads = size * self._pixels * max(self.turned.size * item / config.beat_bytes, _BURST)
        stores = pixels * max(size * item / config.beat_bytes, _BURST)
        if size % lanes == 0 and self.turned is None:
            stores = _bursts(list(self.loops), size, "y", config)
        return max(pixels * tiles * work, pixels * tiles * cols / lanes, loads, stores)

    def kernels(self, target: _Target) -> Iterator[Kernel]:
        """State it as kernels, one for each index of loops that these have not got."""
        few = _LOOPS if self.turned is None else 0
        kept = sorted(sorted(self.loops, key=lambda loop: -loop.size)[:few], key=lambda loop: -loop.y)
        others = [loop for loop in self.loops if loop not in kept]
        for at in product(*(range(loop.size) for loop in others)):
            y = self.piece.y + sum(index * loop.y for index, loop in zip(at, others, strict=True))
            x = sum(index * loop.x for index, loop in zip(at, others, strict=True))
            if self.piece.is_fill:
                yield self._filled(target, y, kept)
            elif self.turned is not None:
                yield self._transposed(target, y, self.piece.x + x)
            else:
                yield self._copied(target, y, self.piece.x + x + self._least, kept)

    def _view(self, buffer: Buffer, start: int, loops: list[Loop], name: str, channels: int) -> View:
        sizes = [(loop.size, getattr(loop, name)) for loop in loops]
        sizes = [(1, 0)] * (_LOOPS - len(sizes)) + sizes
        return View(buffer, (*(Axis(axis, *size) for axis, size in zip("nhw", sizes, strict=True)),
                             Axis("c", channels, 1)), start)

    def _ranks(self, loops: list[Loop]) -> dict[str, int]:
        return dict(zip("npq", [1] * (_LOOPS - len(loops)) + [loop.size for loop in loops], strict=True))

    def _filled(self, target: _Target, y: int, loops: list[Loop]) -> Kernel:
        """Copy a row of one value to every pixel."""
        context, value, size = target.context, target.part.outside, len(self.places)
        check_range(f"{target.node}: value", np.array(value), *context.config.arithmetic.operand_range(
            target.x_dtype.kind == "u"))
        key = "row of", value, size
        if key not in context.shared:
            name = f"{size} of {value}"
            context.shared[key] = Buffer(name, 1, size, context.config.operand_bytes, np.full(size, value))
            context.made.append(context.shared[key])
        still = [replace(loop, x=0) for loop in loops]
        x = self._view(context.shared[key], 0, still, "x", size)
        return self._chain(target, x, y, loops)

    def _copied(self, target: _Target, y: int, x: int, loops: list[Loop]) -> Kernel:
        if self.is_straight:
            return self._chain(target, self._view(target.x, x, loops, "x", len(self.places)), y, loops)
        span, size, inside = self._span, len(self.places), self.places != OUTSIDE
        values = np.zeros((1, 1, 1, span, size), np.int8)
        values[0, 0, 0, self.places[inside] - self._least, np.flatnonzero(inside)] = 1
        bias = None if inside.all() else np.where(inside, 0, target.part.outside)
        return self._product(target, self._view(target.x, x, loops, "x", span), y, loops, values, bias)

    def _chain(self, target: _Target, x: View, y: int, loops: list[Loop]) -> Kernel:
        indices = {**PIXELS, "c": Index({"c": 1})}
        size = len(self.places)
        term = Scaled(Access(x, indices, is_unsigned=target.x_dtype.kind == "u"))
        return Chain(name=target.node, ranks={**self._ranks(loops), "c": size}, terms=(term,),
                     finish=target.finish(), y=Access(self._view(target.y, y, loops, "y", size), indices))

    def _product(self, target: _Target, x: View, y: int, loops: list[Loop], values: np.ndarray,
                 bias: np.ndarray | None) -> Kernel:
        span, size = values.shape[3:]
        inputs, outputs = ({**PIXELS, "c": Index({"g": many, rank: 1})} for many, rank in ((span, "c"), (size, "m")))
        term = Product(Access(x, inputs, is_unsigned=target.x_dtype.kind == "u"), Constant(values))
        return Contraction(
            name=target.node, ranks={**self._ranks(loops), "g": 1, "c": span, "m": size}, terms=(term,),
            finish=target.finish(bias), y=Access(self._view(target.y, y, loops, "y", size), outputs))

    def _transposed(self, target: _Target, y: int, x: int) -> Kernel:
        """Product of columns that stand as rows with the unit matrix."""
        assert self.turned is not None
        size, one, turned = len(self.places), (Axis("n", 1, 0), Axis("h", 1, 0)), self.turned
        pitch = int(self.places[1] - self.places[0])
        rows = View(target.x, (*one, Axis("c", size, pitch), Axis("w", turned.size, 1)), x)
        made = View(target.y, (*one, Axis("w", turned.size, turned.y), Axis("c", size, 1)), y)
        inputs, outputs = ({"w": Index({"q": 1}), "c": Index({rank: 1})} for rank in "cm")
        term = Product(Access(rows, inputs, is_unsigned=target.x_dtype.kind == "u"),
                       Constant(np.eye(size, dtype=np.int8)[None, None, None]))
        return Contraction(name=target.node, ranks={"q": turned.size, "m": size, "c": size}, terms=(term,),
                           finish=target.finish(), y=Access(made, outputs))


def _bursts(loops: list[Loop], length: int, name: str, config: Config) -> float:
    """Cycles to load or store pixels of some elements, rows of which go on where others end."""
    count, item = 1, config.operand_bytes
    for loop in sorted(loops, key=lambda loop: loop.y):
        if count == 1 and getattr(loop, name) == length:
            length *= loop.size
        else:
            count *= loop.size
    return count * max(length * item / config.beat_bytes, _BURST)


def _ways(piece: Piece, config: Config) -> list[_Way]:
    """The best way to move a piece: one, or one for each block of a matrix that is transposed."""
    if piece.is_fill:
        return [_fill(piece, config)]
    if piece.strip is not None:
        return [_Way(piece, piece.strip.places, piece.loops)]
    candidates = [[way] for way in _pixels_of(piece)]
    candidates += [blocks] if (blocks := _blocks(piece, config)) else []
    return min(candidates, key=lambda ways: sum(way.cycles(config) for way in ways))


def _fill(piece: Piece, config: Config) -> _Way:
    """Fill pixels of as many elements as the array has columns, or as there are side by side."""
    *outer, inner = piece.loops or (Loop(1, 1, 0),)
    if inner.y != 1:
        return _Way(piece, np.arange(1), piece.loops)
    size = max(each for each in range(1, inner.size + 1) if inner.size % each == 0 and each <= 8 * config.array.cols)
    rest = (Loop(inner.size // size, size, 0),) if size < inner.size else ()
    return _Way(piece, np.arange(size), (*outer, *rest))


def _pixels_of(piece: Piece) -> Iterator[_Way]:
    """Ways to see the innermost loops, or a part of the last of them, as pixels."""
    yield _Way(piece, np.zeros(1, np.int64), piece.loops)
    places, left = np.zeros(1, np.int64), list(piece.loops)
    while left and left[-1].y == len(places):
        loop = left.pop()
        for size in range(2, loop.size + 1):
            if loop.size % size or len(places) * size > _ROWS:
                continue
            found = np.add.outer(np.arange(size) * loop.x, places).reshape(-1)
            least, span = int(found.min()), int(np.ptp(found)) + 1
            straight = span == len(found) and bool((np.diff(found) == 1).all())
            if not straight and (span > _ROWS or span * len(found) > _MATRIX):
                break
            rest = [Loop(loop.size // size, size * loop.y, size * loop.x)] if size < loop.size else []
            # Where the input is read backwards a pixel begins at its end.
            yield _Way(replace(piece, x=piece.x + least), found - least, (*left, *rest))
        places = np.add.outer(np.arange(loop.size) * loop.x, places).reshape(-1)


def _blocks(piece: Piece, config: Config) -> list[_Way]:
    """Transpose what stands side by side in the input along another loop than in the output, block by block."""
    inner = piece.loops[-1] if piece.loops else None
    turned = next((loop for loop in piece.loops if loop.x == 1), None)
    if inner is None or turned is None or inner is turned or inner.y != 1 or inner.x <= 0:
        return []
    most = max(config.array.rows, config.array.cols, min(128, config.array.rows * config.array.cols // 2))
    others = tuple(loop for loop in piece.loops if loop is not inner and loop is not turned)
    count = -(-inner.size // most)
    if count * prod(loop.size for loop in others) > _KERNELS or inner.size == 1:
        return []
    bounds = [inner.size * index // count for index in range(count + 1)]
    if min(np.diff(bounds)) < 2:
        return []
    return [_Way(replace(piece, y=piece.y + first, x=piece.x + first * inner.x), np.arange(end - first) * inner.x,
                 others, turned) for first, end in pairwise(bounds)]
