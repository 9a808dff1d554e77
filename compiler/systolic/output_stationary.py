"""Output-stationary products: tiles of R pixels and C channels whose sums stay in the array while operands pass.

Both operands stand in planes (:mod:`.planes`): for an element of the contraction R pixels of its plane side by side,
and C weights. Pixels of a region are numbered as they stand in a plane, the columns that only filters reach included;
sums of those are made and dropped. A contraction longer than a PE sums up takes several EXECUTEs, which add to the
same rows of the accumulators.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise, product
from typing import NamedTuple

from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ..kernels.nest import Nest
from ..kernels.regions import Region, even, split_region
from ..kernels.views import Axis, View
from ..placement import MemoryPlan
from ..steps import Group, Tile, Use
from ..transfers import Window
from .candidates import halves
from .geometry import Box
from .layer import Layer, Tiles
from .outputs import Grid, OutputMaker
from .planes import copied, in_planes
from .steps import ContractionStep
from .tiles import TileMaker, piece_of
from .timing import execution

__all__ = ["Cut", "can_stay", "choose_cut", "least_vectors", "lower_output_stationary"]


class Cut(NamedTuple):
    """How a product is cut."""

    #: Most output pixels of a region, whose sums stand in the accumulators together.
    pixels: int
    #: Tiles of output channels that stand there with them.
    block: int
    #: Planes of a tile of activations.
    channels: int
    #: Whether a tile of weights has all taps of these planes, or those of one filter row.
    taps: bool
    #: Walk blocks of channels outside of regions.
    channels_outer: bool


class _Plane(NamedTuple):
    """The part of a plane that a region's outputs see."""

    #: Its size.
    rows: int
    columns: int
    #: Blocks of outputs that a tile computes, those between rows that are dropped included.
    blocks: int
    #: Operands from an output's first tap to its last.
    reach: int


class _Walk(NamedTuple):
    """Elements of one EXECUTE: where they begin in a box, and how many channels, columns and rows they are."""

    r: int
    s: int
    c: int
    counts: tuple[int, int, int]


def _counts(counts: tuple[int, int, int]) -> dict[str, int]:
    return {f"m_count{loop}": count for loop, count in enumerate(counts)}


@cache
def _walks(config: SystolicConfig, rows: int, columns: int, channels: int) -> tuple[int, tuple[_Walk, ...]]:
    """Cut a box into what a PE can sum up at once, so that it takes least time; cycles for a tile, and the parts."""
    depth = config.os_depth
    options = [(min(channels, depth), 1, 1)]
    if channels <= depth:
        options.append((channels, min(columns, depth // channels), 1))
        if channels * columns <= depth:
            options.append((channels, columns, min(rows, depth // (channels * columns))))
    found = []
    for option in options:
        parts = [even(size, -(-size // most)) for size, most in zip((channels, columns, rows), option, strict=True)]
        walks = tuple(_Walk(r, s, c, (c_end - c, s_end - s, r_end - r)) for (r, r_end), (s, s_end), (c, c_end)
                      in product(*reversed(parts)))
        found.append((sum(execution(config, {"output_stationary": 1, "n_count": 1} | _counts(walk.counts)).period
                          for walk in walks), walks))
    return min(found, key=lambda option: option[0])


class _Product:
    """A product whose operands stand in planes."""

    def __init__(self, layer: Layer, plan: MemoryPlan):
        self._layer, self._problem, self._config = layer, layer.problem, layer.config
        self._maker = TileMaker(layer, plan)
        self._outputs = OutputMaker(self._maker)
        #: Outputs of a tile: as many sums as an addition takes cycles take turns in a PE.
        self._side = layer.config.array.rows * layer.config.arithmetic.add_latency
        self._a_uses: dict[object, Use] = {}
        self._made: dict[object, list[dict[str, int]]] = {}

    def _plane(self, region: Region) -> _Plane:
        problem, rows, columns = self._problem, region.rows, region.columns
        down, right = (problem.r - 1) * problem.dilation[0], (problem.s - 1) * problem.dilation[1]
        width = columns + right
        return _Plane(rows + down, width, -(-((rows - 1) * width + columns) // self._side), down * width + right)

    def _boxes(self, channels: tuple[int, int], taps: bool) -> list[Box]:
        """Parts of the contraction that tiles of weights hold, of the planes of a tile of activations."""
        r, s = self._problem.r, self._problem.s
        return [Box(*part, 0, s, *channels) for part in ([(0, r)] if taps else pairwise(range(r + 1)))]

    def _a_size(self, plane: _Plane, channels: int) -> int:
        """Bytes of a tile of activations, what the last block reads behind its outputs included."""
        return ((channels - 1) * plane.rows * plane.columns + plane.blocks * self._side
                + plane.reach) * self._config.operand_bytes

    # The choice of a cut.

    def _candidates(self) -> Iterator[Cut]:
        problem, total, depth = self._problem, self._problem.p * self._problem.q, self._layer.depth
        for block in sorted({min(size, self._layer.most_block) for size in (1, 2, 3, 4, 6, 8, 16, 32, 64)}):
            pixels = {min(total, max(1, depth // block >> shift)) for shift in range(4)}
            pixels |= {problem.q * count for count in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
                       if count < problem.p and problem.q * count <= depth // block}
            pixels |= {min(total, self._side), 1}
            taps = (True, False) if problem.r > 1 else (True,)
            yield from map(Cut._make, product(sorted(pixels), [block], halves(problem.cg), taps, (True, False)))

    def best(self) -> tuple[float, Cut]:
        """The cut of least estimated cycles, and these.

        Raises
        ------
        PearrayError
            If the scratchpads can't hold the smallest tiles.
        """
        self._planes_of, self._parts_of = cache(self._planes), cache(self._parts)
        costs = ((self._cost(cut), cut) for cut in dict.fromkeys(self._candidates()))
        best = min(((cost, cut) for cost, cut in costs if cost is not None), default=None)
        if best is None:
            raise self._layer.no_room("output-stationary tile")
        return best

    def _planes(self, pixels: int) -> dict[_Plane, int]:
        """How many regions of each kind an image is cut into."""
        image = Region(0, 1, 0, self._problem.p, 0, self._problem.q)
        return Counter(self._plane(region) for region in split_region(image, pixels))

    def _parts(self, channels: int, taps: bool, block: int) -> tuple[int, int, int, int, int, float]:
        """Of a contraction in parts: tiles of weights, EXECUTEs, cycles; weights: most bytes, all bytes, cycles."""
        whole, rest = divmod(self._problem.cg, channels)
        tiles = walks = period = most = total = 0
        cycles = 0.0
        for size, count in ((channels, whole), (rest, 1)):
            for box in self._boxes((0, size), taps) if size and count else ():
                found = _walks(self._config, box.rows, box.columns, size)
                tiles, walks, period = tiles + count, walks + count * len(found[1]), period + count * found[0]
                bytes_ = self._maker.w_size((0, block), box)
                most, total = max(most, bytes_), total + count * bytes_
                cycles += count * self._maker.w_cycles((0, block), box)
        return tiles, walks, period, most, total, cycles

    def _cost(self, cut: Cut) -> float | None:
        """Estimated cycles, or None if a tile has no room."""
        problem, config, groups, tiles = self._problem, self._config, self._problem.groups, self._layer.tiles
        pads, count = config.scratchpads, -(-tiles // cut.block)
        largest = -(-tiles // count)
        planes = self._planes_of(cut.pixels)
        w_tiles, walks, period, w_most, w_sum, w_all = self._parts_of(cut.channels, cut.taps, largest)
        sizes = [self._a_size(plane, cut.channels) for plane in planes]
        if (max(plane.blocks for plane in planes) * self._side * largest > self._layer.depth
                or max(sizes) > pads.activation_bytes or w_most > pads.weight_bytes):
            return None
        regions, parts = problem.images * sum(planes.values()), -(-problem.cg // cut.channels)
        blocks = problem.images * sum(plane.blocks * number for plane, number in planes.items())
        commands = walks * groups * problem.images * sum(
            number * min(plane.blocks * count, tiles) for plane, number in planes.items())
        compute = blocks * tiles * groups * period + 8 * commands
        a_all = groups * problem.images * problem.cg * sum(
            number * self._layer.row_beats(plane.columns * config.operand_bytes, plane.rows)
            for plane, number in planes.items())
        w_all *= count * groups
        a_bytes = max(sizes) * parts
        if a_bytes > pads.activation_bytes * (0.5 if regions * groups > 1 else 1) or (
                cut.channels_outer and a_bytes * regions > pads.activation_bytes):
            a_all *= count
        if w_sum * count * groups > pads.weight_bytes and not (cut.channels_outer and w_sum <= pads.weight_bytes / 2):
            w_all *= regions
        post = blocks * self._side * tiles * groups * (config.array.cols // config.post.lanes)
        read = a_all + w_all + commands * 2 * 64 / config.beat_bytes
        # What is replaced while nothing else can be used costs its time in full.
        serial = (a_all if 2 * max(sizes) > pads.activation_bytes and parts * regions > 1 else 0) + (
            w_all if 2 * w_most > pads.weight_bytes and w_tiles * count > 1 else 0)
        return max(compute, read, post) + serial + 0.05 * read

    # Steps of a given cut.

    def steps(self, cut: Cut) -> Iterator[ContractionStep]:
        """Steps of the product, in order."""
        problem = self._problem
        regions = [part for image in range(problem.images)
                   for part in split_region(Region(image, image + 1, 0, problem.p, 0, problem.q), cut.pixels)]
        blocks = even(self._layer.tiles, -(-self._layer.tiles // cut.block))
        channels = range(0, problem.cg, cut.channels)
        visits = ([(region, tiles) for tiles in blocks for region in regions] if cut.channels_outer
                  else [*product(regions, blocks)])
        for group, (region, tiles) in product(range(problem.groups), visits):
            plane = self._plane(region)
            grid = Grid(plane.columns, plane.blocks * self._side)
            sums, first = Group(self._outputs.outputs(region, group, tiles, 1, grid)), 1
            for c in channels:
                part = c, min(c + cut.channels, problem.cg)
                for box in self._boxes(part, cut.taps):
                    w_use = Use(self._maker.weights(group, tiles, box, (box.size,)), 1)
                    for body in self._bodies(plane, tiles, box, first):
                        yield ContractionStep(sums, self._activations(group, region, part), w_use, body)
                    first = 0

    def _bodies(self, plane: _Plane, tiles: Tiles, box: Box, first: int) -> list[dict[str, int]]:
        """EXECUTEs of a box: for each walk one for each block of pixels, or for each tile of channels if fewer."""
        problem, cols, count = self._problem, self._config.array.cols, tiles[1] - tiles[0]
        size = box.rows, box.columns, box.channels
        key = plane, count, size, box.r0, first
        if key in self._made:
            return self._made[key]
        (down, right), pitch = problem.dilation, self._maker.w_pitches(tiles, box)[0]
        pixels, found = plane.rows * plane.columns, self._made.setdefault(key, [])
        for walk in _walks(self._config, *size)[1]:
            a_base = walk.c * pixels + (box.r0 + walk.r) * down * plane.columns + (box.s0 + walk.s) * right
            w_base = ((walk.r * size[1] + walk.s) * size[2] + walk.c) * pitch
            body = _counts(walk.counts) | {
                "output_stationary": 1, "first": first, "a_zero_point": problem.a_zero, "w_zero_point": problem.w_zero,
                "a_unsigned": int(problem.a_unsigned), "w_unsigned": int(problem.w_unsigned),
                "m_step0": pixels, "m_step1": right, "m_step2": down * plane.columns,
                "w_pitch": pitch, "jump1": size[2] * pitch, "jump2": size[1] * size[2] * pitch}
            if plane.blocks >= count:
                found += [body | {
                    "n_count": plane.blocks, "a_nstep": self._side, "acc_nstep": self._side, "a_base": a_base,
                    "w_base": w_base + tile * cols, "acc_base": tile * plane.blocks * self._side}
                    for tile in range(count)]
            else:
                found += [body | {
                    "n_count": count, "acc_nstep": plane.blocks * self._side, "w_nstep": cols,
                    "a_base": a_base + index * self._side, "w_base": w_base, "acc_base": index * self._side}
                    for index in range(plane.blocks)]
            first = 0
        return found

    def _activations(self, group: int, region: Region, channels: tuple[int, int]) -> Use:
        """Tile of the planes of some channels that a region sees, with what lies outside the image filled."""
        key = group, region, channels
        if key not in self._a_uses:
            problem, plane, x = self._problem, self._plane(region), self._problem.x
            # Planes take the place of images, of one channel each.
            planes = replace(x, offset=x.element(n=region.image0), axes=(
                replace(x.axis("c"), name="n"), x.axis("h"), x.axis("w"), Axis("c", 1, 1)))
            window = Window(
                planes, (group * problem.cg + channels[0], 1, channels[1] - channels[0]),
                (region.p0 - problem.top, 1, plane.rows), (region.q0 - problem.left, 1, plane.columns),
                plane.rows * plane.columns, plane.columns, 1)
            self._a_uses[key] = Use(Tile(Destination.ACTIVATION.value, self._a_size(plane, channels[1] - channels[0]),
                                         [piece_of(window, 0, 1)]), 1)
        return self._a_uses[key]


def choose_cut(layer: Layer) -> tuple[float, Cut]:
    """Choose how to cut a dense product; its estimated cycles, without those of copies, and the cut.

    Raises
    ------
    PearrayError
        If the scratchpads can't hold the smallest tiles.
    """
    plan = MemoryPlan(keep=False)
    return _Product(in_planes(layer, plan)[1], plan).best()


def can_stay(problem: Nest) -> bool:
    """Whether sums can stay in the array: those of products but for contractions over pixels, which have few.

    They come in the order of pixels, which is not that of windows of outputs.
    """
    weights = problem.weights
    return not (problem.channelwise or problem.added or (problem.columns and problem.x.stride("n") == 1)
                or (isinstance(weights, View) and bool(weights.loops("rs"))) or problem.finish.sums > 1)


def least_vectors(layer: Layer) -> int:
    """Operand vectors that a dense product takes at least, those of copies included."""
    problem, array, turns = layer.problem, layer.config.array, layer.config.arithmetic.add_latency
    blocks = problem.images * -(-problem.p * problem.q // (array.rows * turns))
    return problem.groups * layer.tiles * blocks * turns * problem.k + copied(layer) // array.cols


def lower_output_stationary(cut: Cut, layer: Layer, plan: MemoryPlan) -> list[ContractionStep]:
    """Steps of a dense product, copies of operands that do not stand in planes before it."""
    copies, layer = in_planes(layer, plan)
    return [*copies, *_Product(layer, plan).steps(cut)]
