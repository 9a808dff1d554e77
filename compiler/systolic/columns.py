"""Products whose activations stand transposed in memory: what is contracted lies rows apart, outputs side by side.

A stands as (K, M) in a matrix product, rows of the contraction. In a contraction over the pixels of images, which a
filter's gradient is, rows are pixels, and outputs are the channels of a pixel, seen at each tap. Element k of an output
stands one row of A behind element k - 1. Rows whose pitch in the scratchpad is one more than a multiple of its banks
put R of them in R different banks, as the taps of a convolution, so that tiles of the contraction fold them at full
speed, whichever way B stands.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import gcd, prod

from ...hdl.shell.commands import COMMAND_BYTES
from ...hdl.systolic.commands import Destination
from ...memory import DEFAULT_MEMORY
from ..kernels.nest import Nest
from ..kernels.regions import Region
from ..kernels.views import View
from ..placement import MemoryPlan
from ..steps import Group, Tile, Use
from ..transfers import Window
from .candidates import halves
from .geometry import Box
from .layer import Layer, Tiles
from .order import Order, order_over_pixels, preferred, stated
from .outputs import OutputMaker
from .schedule import cycles_of
from .steps import ContractionStep
from .tiles import TileMaker, piece_of

__all__ = ["lower_columns", "order_of_columns", "pixels_in_order"]

#: _Cuts of least estimated cycles that are timed, each of this many steps at most.
_FINALISTS, _MOST_STEPS = 6, 200

#: Rows whose rate is that of endlessly many.
_MANY = 1 << 10


@dataclass(frozen=True)
class _Cut:
    """Sizes of parts."""

    #: Channels of a group's outputs.
    channels: int
    #: Rows and columns of them.
    taps: tuple[int, int]
    #: Tiles of output channels.
    tiles: int
    #: Rows and columns of pixels that an EXECUTE contracts.
    pixels: tuple[int, int]


@dataclass(frozen=True)
class _Geometry:
    """How pixels stand in the activation scratchpad, in operands."""

    #: Rows of pixels, and pixels of a row.
    rows: int
    columns: int
    #: Distance of pixels, one more than a multiple of the banks, and of rows: as many more as pixels are contracted.
    pitch: int
    line: int
    #: Of all.
    size: int

    @classmethod
    def of(cls, stride: tuple[int, int], cut: _Cut, banks: int) -> "_Geometry":
        """Place what all taps of a part see, `stride` rows and columns from one to the next."""
        rows, columns = ((taps - 1) * step + count for taps, step, count in zip(
            cut.taps, stride, cut.pixels, strict=True))
        pitch = cut.channels + (1 - cut.channels) % banks
        line = columns * pitch + (cut.pixels[1] - columns) % banks
        return cls(rows, columns, pitch, line, (rows - 1) * line + (columns - 1) * pitch + cut.channels)


def _parts(total: int, most: int) -> list[tuple[int, int]]:
    """Cut a range into parts of `most`, but for the last."""
    return [(start, min(start + most, total)) for start in range(0, total, most)]


def _beside(view: View, name: str, least: int) -> tuple[View, int]:
    """A view with what lies beside its few elements along an axis, up to `least`, and where its own begin."""
    size, columns = view.size(name), view.buffer.columns
    at = view.offset % columns
    low = at // least * least
    high = min(low + least, columns)
    if view.stride(name) != 1 or at + size > high or any(
            axis.stride % columns for axis in view.axes if axis.name != name and axis.size > 1):
        return view, 0
    axes = tuple(replace(axis, size=high - low) if axis.name == name else axis for axis in view.axes)
    return replace(view, axes=axes, offset=view.offset - at + low), at - low


def _widened(layer: Layer) -> tuple[Layer, int, int]:
    """A layer with the channels beside its few ones, as many as a beat has.

    A row of fewer takes as long, and layers of other channels find theirs loaded.

    Returns
    -------
    Layer, int, int
        The layer with these, and where its own channels of activations and of weights begin.
    """
    problem, config = layer.problem, layer.config
    least = config.beat_bytes // config.operand_bytes
    x, a_base = _beside(problem.x, "n", least)
    wide, w_base = replace(problem, x=x, images=x.size("n")), 0
    if isinstance(problem.weights, View):
        weights, w_base = _beside(problem.weights, "m", min(least, config.array.cols))
        wide = replace(wide, weights=weights, ng=weights.size("m"))
    return replace(layer, problem=wide), a_base, w_base


class _Price:
    """Cycles of a contraction over pixels, as it is cut."""

    def __init__(self, layer: Layer):
        self._layer, self._problem, self._wide = layer, layer.problem, _widened(layer)[0].problem

    def cuts(self) -> Iterator[_Cut]:
        """Yield cuts whose sums have room."""
        problem, layer, rows = self._problem, self._layer, self._layer.config.array.rows
        pixels = [(count, problem.s) for count in halves(problem.r)]
        pixels += [(1, max(1, count // rows * rows)) for count in halves(problem.s)[1:]]
        for taps in {(problem.p, problem.q), (1, problem.q), (1, 1)}:
            for tiles in halves(layer.most_block):
                room = layer.depth // (tiles * taps[0] * taps[1])
                for channels in {min(count, room) for count in halves(problem.images)} - {0}:
                    yield from (_Cut(channels, taps, tiles, each) for each in pixels)

    def counts(self, cut: _Cut) -> tuple[int, int, int]:
        """Parts of the outputs' channels and taps, of the tiles, and of what is contracted."""
        problem = self._problem
        return (-(-problem.images // cut.channels) * -(-problem.p // cut.taps[0]) * -(-problem.q // cut.taps[1]),
                -(-self._layer.tiles // cut.tiles),
                problem.cg * -(-problem.r // cut.pixels[0]) * -(-problem.s // cut.pixels[1]))

    def cycles(self, cut: _Cut) -> float | None:
        """Estimated cycles, or None if a tile has no room."""
        problem, layer, config = self._problem, self._layer, self._layer.config
        item, cols, rows = config.operand_bytes, config.array.cols, config.array.rows
        loaded = self._wide.images if cut.channels == problem.images else cut.channels
        geometry = _Geometry.of(problem.stride, replace(cut, channels=loaded), layer.banks)
        a_size, w_size = geometry.size * item, cut.pixels[0] * cut.pixels[1] * cut.tiles * cols * item
        w_size += cols * item * (self._wide.ng > problem.ng)
        pads = config.scratchpads
        if a_size > pads.activation_bytes or w_size > pads.weight_bytes:
            return None
        taps, outputs = cut.taps[0] * cut.taps[1], problem.p * problem.q
        widths = [(end - start) * taps for start, end in _parts(problem.images, cut.channels)]
        sizes = [(p1 - p0) * (q1 - q0) for p0, p1 in _parts(problem.r, cut.pixels[0])
                 for q0, q1 in _parts(problem.s, cut.pixels[1])]
        groups, blocks, steps = self.counts(cut)
        compute = layer.tiles * problem.cg * sum(-(-size // rows) for size in sizes) * outputs / taps * sum(
            max(width, rows) for width in widths)
        width = min(cut.tiles * cols, problem.ng)
        a_pass = steps * geometry.rows * geometry.columns * _row(layer, cut.channels * item)
        w_pass = steps * max(sizes) * _row(layer, width * item)
        loads = groups * a_pass * (1 if steps * a_size <= pads.activation_bytes else blocks)
        loads += blocks * w_pass * (1 if steps * blocks * w_size <= pads.weight_bytes else groups)
        stores = layer.row_beats(width * problem.finish.item(config), problem.images * outputs) * blocks
        # What is replaced while nothing else can be used costs its time in full.
        serial = sum(cost for cost, size, room in ((groups * a_pass, a_size, pads.activation_bytes),
                                                   (groups * blocks * w_pass, w_size, pads.weight_bytes))
                     if 2 * size > room and steps * groups * blocks > 1)
        ends = (a_pass + w_pass) / steps + (stores + layer.posts) / (groups * blocks)
        visits = groups * blocks * steps
        # Commands come through the port that loads use.
        loads += 3 * COMMAND_BYTES / config.beat_bytes * visits
        return max(compute + 8.0 * visits, loads, stores, layer.posts) + serial + ends


def _row(layer: Layer, length: int) -> float:
    """Cycles of a row of bytes among many: however few a LOAD brings, others follow."""
    return layer.row_beats(length, _MANY) / _MANY


def pixels_in_order(layer: Layer) -> tuple[int, int]:
    """Choose how many rows and columns of pixels are contracted at a time where sums depend on the order of additions.

    All parts of a layer have the same then, whatever the memory behind the hardware.

    Raises
    ------
    PearrayError
        If the scratchpads can't hold the smallest tiles.
    """
    layer, found = replace(layer, timing=DEFAULT_MEMORY), list[dict[tuple[int, int], float]]()
    for nest in _nests(layer.problem):
        price, costs = _Price(replace(layer, problem=nest)), dict[tuple[int, int], float]()
        for cut in price.cuts():
            if (cost := price.cycles(cut)) is not None:
                costs[cut.pixels] = min(cost, costs.get(cut.pixels, cost))
        found.append(costs)
    common = {pixels: sum(costs[pixels] for costs in found) for pixels in found[0]
              if all(pixels in costs for costs in found)}
    if not common:
        raise layer.no_room()
    part = replace(layer, problem=next(iter(_nests(layer.problem))))
    orders = {pixels: stated(order_over_pixels(part, pixels)) for pixels in common}
    chosen = preferred({orders[pixels]: min(cost for other, cost in common.items() if orders[other] == orders[pixels])
                        for pixels in common})
    return min((pixels for pixels in common if orders[pixels] == chosen), key=common.__getitem__)


def _choose_cut(layer: Layer, time: Callable[[_Cut], float], pixels: tuple[int, int] | None) -> _Cut:
    """Choose the cut of least cycles: those of least estimated cycles are timed, if that is soon done.

    If `pixels` says how many rows and columns of them are contracted at a time, it is one of these.

    Raises
    ------
    PearrayError
        If the scratchpads can't hold the smallest tiles.
    """
    price = _Price(layer)
    found = sorted((cost, index, cut) for index, cut in enumerate(price.cuts())
                   if pixels in (None, cut.pixels) and (cost := price.cycles(cut)) is not None)
    if not found:
        raise layer.no_room()
    best = [cut for _, _, cut in found[:_FINALISTS] if prod(price.counts(cut)) <= _MOST_STEPS]
    return min(best, key=time) if len(best) > 1 else found[0][2]


def _phases(dilation: int, stride: int, taps: int, top: int, size: int) -> Iterator[tuple[int, ...]]:
    """Outputs whose pixels' rows are the same but for their first, where the contraction takes every `dilation`-th row.

    Yields
    ------
    first, step, first row, distance, padding, rows
        First output and distance of outputs; first of their rows, each `dilation` behind the last; rows from one output
        to the next, rows of padding and rows there are, counting only these.
    """
    step = dilation // gcd(dilation, stride)
    for first in range(min(step, taps)):
        at = stride * first - top
        row = at % dilation
        yield first, step, row, stride * step // dilation, -(at // dilation), len(range(row, size, dilation))


def _phased(problem: Nest) -> Iterator[Nest]:
    """Cut a contraction over every u-th row and v-th column so that each part takes every row and column."""
    x, y = problem.x, problem.y
    (u, v), (down, right) = problem.dilation, problem.stride
    for p, p_step, row, dr, top, rows in _phases(u, down, problem.p, problem.top, problem.height):
        for q, q_step, column, ds, left, columns in _phases(v, right, problem.q, problem.left, problem.width):
            counts = len(range(p, problem.p, p_step)), len(range(q, problem.q, q_step))
            yield replace(
                problem, x=x.part("h", row, rows, u).part("w", column, columns, v), stride=(dr, ds), dilation=(1, 1),
                top=top, left=left, p=counts[0], q=counts[1],
                y=y.part("h", p, counts[0], p_step).part("w", q, counts[1], q_step))


def _matrix(problem: Nest) -> Nest:
    """A matrix product as a contraction over one row of K pixels: they have M channels, of which each is an output."""
    x, y, weights = problem.x, problem.y, problem.weights
    if isinstance(weights, View):
        weights = weights.renamed(*({"c": "s"}.get(axis.name, axis.name) for axis in weights.axes))
    return replace(problem, images=problem.q, q=1, s=problem.cg, cg=1, weights=weights,
                   x=_renamed(x, {"w": "n", "c": "w", "n": "c"}), y=_renamed(y, {"w": "n", "n": "w"}))


def _renamed(view: View, names: dict[str, str]) -> View:
    return view.renamed(*(names.get(axis.name, axis.name) for axis in view.axes))


class _Columns:
    """Steps of a contraction over pixels: images of `problem.x` are channels of pixels, its channels are images."""

    def __init__(self, layer: Layer, plan: MemoryPlan, cut: _Cut, tiles: dict[object, Tile]):
        self._layer, self._problem, self._config = layer, layer.problem, layer.config
        self._cut, self._tiles, problem = cut, tiles, layer.problem
        wide, self._a_base, self._w_base = _widened(layer)
        if cut.channels < problem.images:
            wide = replace(wide, problem=replace(wide.problem, x=problem.x, images=problem.images))
            self._a_base = 0
        self._wide, self._maker = wide.problem, TileMaker(wide, plan)
        # Outputs are those of a tap's row, column and channel.
        rows = replace(problem, images=problem.p, p=problem.q, q=problem.images,
                       y=_renamed(problem.y, {"h": "n", "w": "h", "n": "w"}))
        self._outputs = OutputMaker(TileMaker(replace(layer, problem=rows), plan))
        self._x = _renamed(wide.problem.x, {"n": "c", "c": "n"})

    def steps(self) -> Iterator[ContractionStep]:
        """Yield steps: for each part of the outputs all of the contraction."""
        problem, cut = self._problem, self._cut
        boxes = [Box(*p, *q, image, image + 1) for image in range(problem.cg)
                 for p in _parts(problem.r, cut.pixels[0]) for q in _parts(problem.s, cut.pixels[1])]
        regions = [Region(*r, *s, *channels) for channels in _parts(problem.images, cut.channels)
                   for r in _parts(problem.p, cut.taps[0]) for s in _parts(problem.q, cut.taps[1])]
        for part, tiles in product(regions, _parts(self._layer.tiles, cut.tiles)):
            group = Group(self._outputs.outputs(part, 0, tiles))
            for box in boxes:
                yield ContractionStep(group, Use(self._a_tile(part, box), 1), Use(self._w_tile(tiles, box), 1),
                                      self._walk(part, tiles, box))

    def _channels(self, part: Region) -> tuple[int, int]:
        """Channels that a tile for a part of the outputs holds: the first and how many."""
        return (0, self._wide.images) if self._cut.channels == self._problem.images else (part.q0, part.columns)

    def _geometry(self, part: Region, box: Box) -> _Geometry:
        cut = _Cut(self._channels(part)[1], (part.images, part.rows), 1, (box.rows, box.columns))
        return _Geometry.of(self._problem.stride, cut, self._layer.banks)

    def _a_tile(self, part: Region, box: Box) -> Tile:
        problem, geometry, (first, channels) = self._problem, self._geometry(part, box), self._channels(part)
        window = Window(
            self._x, (box.c0, 1, 1), (box.r0 + problem.stride[0] * part.image0 - problem.top, 1, geometry.rows),
            (box.s0 + problem.stride[1] * part.p0 - problem.left, 1, geometry.columns), geometry.size,
            geometry.line, geometry.pitch)
        key = window, first, channels
        if key not in self._tiles:
            self._tiles[key] = Tile(Destination.ACTIVATION.value, geometry.size * self._config.operand_bytes,
                                    [piece_of(window, first, channels)])
        return self._tiles[key]

    def _w_tile(self, tiles: Tiles, box: Box) -> Tile:
        if self._wide.ng == self._problem.ng:
            return self._maker.weights(0, tiles, box, (box.size,))
        key = self._wide.weights, box
        if key not in self._tiles:
            tile = self._maker.weights(0, tiles, box, (box.size,))
            # Columns behind the last that are read, too, have a place of their own.
            tile.size += self._config.array.cols * self._config.operand_bytes
            self._tiles[key] = tile
        return self._tiles[key]

    def _walk(self, part: Region, tiles: Tiles, box: Box) -> dict[str, int]:
        problem, geometry = self._problem, self._geometry(part, box)
        w_pitch, w_nstep = self._maker.w_pitches(tiles, box)
        modulus = 1 << 20
        return {
            "first": int((box.r0, box.s0, box.c0) == (0, 0, 0)), "a_zero_point": problem.a_zero,
            "w_zero_point": problem.w_zero, "a_unsigned": int(problem.a_unsigned),
            "w_unsigned": int(problem.w_unsigned), "n_count": tiles[1] - tiles[0], "a_base": self._a_base,
            "w_base": self._w_base,
            "m_count0": part.columns, "m_count1": part.rows, "m_count2": part.images,
            "m_step0": 1, "m_step1": problem.stride[1] * geometry.pitch % modulus,
            "m_step2": problem.stride[0] * geometry.line % modulus, "k_total": box.size, "run": 1,
            "run_count": box.columns, "fold": 1, "jump1": geometry.pitch - 1,
            "jump2": (geometry.line - box.columns * geometry.pitch) % modulus if box.rows > 1 else 0,
            "left": int(self._layer.left), "w_pitch": w_pitch, "w_nstep": w_nstep, "acc_nstep": part.pixels}


def lower_columns(tiles: dict[object, Tile], layer: Layer, plan: MemoryPlan,
                  pixels: tuple[int, int] | None = None) -> list[ContractionStep]:
    """Steps of a product with A (K, M) in memory, or of a contraction over pixels.

    Other layers of the program may use the same `tiles`: groups share the rows in which their channels lie. As many
    rows and columns of pixels are contracted at a time as `pixels` says, or as takes fewest cycles.
    """
    steps: list[ContractionStep] = []
    for nest in _nests(layer.problem):
        part = replace(layer, problem=nest)
        steps += _Columns(part, plan, _choose_cut(part, partial(_cycles, part), pixels), tiles).steps()
    return steps


def _nests(problem: Nest) -> Iterator[Nest]:
    """Contractions over pixels that make up a layer."""
    yield from _phased(problem) if problem.x.stride("n") == 1 else [_matrix(problem)]


def order_of_columns(layer: Layer, pixels: tuple[int, int]) -> Order:
    """Order in which products are added of a layer that contracts so many rows and columns of pixels at a time."""
    return order_over_pixels(replace(layer, problem=next(_nests(layer.problem))), pixels)


def _cycles(layer: Layer, cut: _Cut) -> float:
    """Cycles of the layer alone under a cut, infinitely many if it would never end."""
    steps = _Columns(layer.alone(), MemoryPlan(keep=False), cut, {}).steps()
    return cycles_of(layer.config, layer.timing, list(steps))
