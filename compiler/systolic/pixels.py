"""How a contraction over pixels is cut: parts of its outputs and of its pixels, weighed in closed form."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

from ...hdl.shell.commands import COMMAND_BYTES
from ..kernels.views import View
from .candidates import halves
from .layer import Layer

__all__ = ["Cut", "PixelGeometry", "choose_cut", "parts", "widened"]

#: Cuts of least estimated cycles that are timed, each of this many steps at most.
_FINALISTS, _MOST_STEPS = 6, 200

#: Rows whose rate is that of endlessly many.
_MANY = 1 << 10


@dataclass(frozen=True)
class Cut:
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
class PixelGeometry:
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
    def of(cls, stride: tuple[int, int], cut: Cut, banks: int) -> "PixelGeometry":
        """Place what all taps of a part see, `stride` rows and columns from one to the next."""
        rows, columns = ((taps - 1) * step + count for taps, step, count in zip(
            cut.taps, stride, cut.pixels, strict=True))
        pitch = cut.channels + (1 - cut.channels) % banks
        line = columns * pitch + (cut.pixels[1] - columns) % banks
        return cls(rows, columns, pitch, line, (rows - 1) * line + (columns - 1) * pitch + cut.channels)


def parts(total: int, most: int) -> list[tuple[int, int]]:
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


def widened(layer: Layer) -> tuple[Layer, int, int]:
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
        self._layer, self._problem, self._wide = layer, layer.problem, widened(layer)[0].problem

    def cuts(self) -> Iterator[Cut]:
        """Yield cuts whose sums have room."""
        problem, layer, rows = self._problem, self._layer, self._layer.config.array.rows
        pixels = [(count, problem.s) for count in halves(problem.r)]
        pixels += [(1, max(1, count // rows * rows)) for count in halves(problem.s)[1:]]
        for taps in {(problem.p, problem.q), (1, problem.q), (1, 1)}:
            for tiles in halves(layer.most_block):
                room = layer.depth // (tiles * taps[0] * taps[1])
                for channels in {min(count, room) for count in halves(problem.images)} - {0}:
                    yield from (Cut(channels, taps, tiles, each) for each in pixels)

    def counts(self, cut: Cut) -> tuple[int, int, int]:
        """Parts of the outputs' channels and taps, of the tiles, and of what is contracted."""
        problem = self._problem
        return (-(-problem.images // cut.channels) * -(-problem.p // cut.taps[0]) * -(-problem.q // cut.taps[1]),
                -(-self._layer.tiles // cut.tiles),
                problem.cg * -(-problem.r // cut.pixels[0]) * -(-problem.s // cut.pixels[1]))

    def cycles(self, cut: Cut) -> float | None:
        """Estimated cycles, or None if a tile has no room."""
        problem, layer, config = self._problem, self._layer, self._layer.config
        item, cols, rows = config.operand_bytes, config.array.cols, config.array.rows
        loaded = self._wide.images if cut.channels == problem.images else cut.channels
        geometry = PixelGeometry.of(problem.stride, replace(cut, channels=loaded), config.banks)
        a_size, w_size = geometry.size * item, cut.pixels[0] * cut.pixels[1] * cut.tiles * cols * item
        w_size += cols * item * (self._wide.ng > problem.ng)
        pads = config.scratchpads
        if a_size > pads.activation_bytes or w_size > pads.weight_bytes:
            return None
        taps, outputs = cut.taps[0] * cut.taps[1], problem.p * problem.q
        widths = [(end - start) * taps for start, end in parts(problem.images, cut.channels)]
        sizes = [(p1 - p0) * (q1 - q0) for p0, p1 in parts(problem.r, cut.pixels[0])
                 for q0, q1 in parts(problem.s, cut.pixels[1])]
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


def choose_cut(layer: Layer, time: Callable[[Cut], float]) -> Cut:
    """Choose the cut of least cycles: those of least estimated cycles are timed, if that is soon done.

    Raises
    ------
    PearrayError
        If the scratchpads can't hold the smallest tiles.
    """
    price = _Price(layer)
    found = sorted((cost, index, cut) for index, cut in enumerate(price.cuts())
                   if (cost := price.cycles(cut)) is not None)
    if not found:
        raise layer.no_room()
    best = [cut for _, _, cut in found[:_FINALISTS] if prod(price.counts(cut)) <= _MOST_STEPS]
    return min(best, key=time) if len(best) > 1 else found[0][2]
