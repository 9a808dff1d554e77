"""Chains of layers that are computed strip by strip, so that what lies between them need never stand whole.

The last layer's output is cut into strips of lines. What a strip of a layer reads decides how far the layers before
must have come: each computes, strip by strip, the lines that have not been computed yet. Lines that two strips of a
reader need are moved into the tiles of both. All layers take turns, one strip each.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ..kernels.nest import Nest
from ..kernels.regions import Region
from ..kernels.views import Buffer, View
from ..placement import MemoryPlan
from .candidates import Chooser
from .geometry import Box, Geometry
from .held import Held
from .layer import Layer, Tiling
from .lower import lower_visits
from .lowering import Lowering
from .steps import ContractionStep

__all__ = ["Chain", "Stage", "chains"]


@dataclass(eq=False)
class Stage:
    """A kernel, or a part of one, as it has been lowered: its loops, its steps, and what has made these."""

    problem: Nest
    steps: list[ContractionStep]
    way: Lowering

    @property
    def reads(self) -> list[Buffer]:
        """Tensors that it reads as activations."""
        return [nest.x.buffer for nest in (self.problem, *self.problem.added)]

    @property
    def reads_all(self) -> list[Buffer]:
        """Tensors that it reads as activations, weights or biases."""
        others = [nest.weights for nest in (self.problem, *self.problem.added)] + [self.problem.finish.bias]
        return self.reads + [each.buffer for each in others if isinstance(each, View)]

    @property
    def can_be_cut(self) -> bool:
        """Whether it makes all of a tensor, line by line, of constants and activations alone."""
        y, finish = self.problem.y, self.problem.finish
        return (not self.problem.columns and self.problem.groups == 1 and y.is_whole and y.is_dense("n", "h", "w", "c")
                and not isinstance(finish.bias, View)
                and not any(isinstance(nest.weights, View) or nest.x.is_bytes
                            for nest in (self.problem, *self.problem.added)))


def _lines(problem: Nest) -> tuple[int, int]:
    """Lines of the output, rows of its images or pixels of its only row; and pixels of each."""
    return (problem.images * problem.p, problem.q) if problem.images * problem.p > 1 else (problem.q, 1)


def _regions(problem: Nest, first: int, end: int) -> Iterator[Region]:
    """Regions of lines `first` to `end`: parts of images, and whole ones."""
    if problem.images * problem.p == 1:
        # A strip may need nothing of a layer before.
        if first < end:
            yield Region(0, 1, 0, 1, first, end)
        return
    while first < end:
        image, row = divmod(first, problem.p)
        if row or end - first < problem.p:
            last = min(problem.p, row + end - first)
            yield Region(image, image + 1, row, last, 0, problem.q)
        else:
            last = (end - first) // problem.p * problem.p
            yield Region(image, image + last // problem.p, 0, problem.p, 0, problem.q)
        first += last - row if row or last < problem.p else last


def _need(nest: Nest, region: Region, banks: int) -> int:
    """First element of the input's buffer behind all that a region of the output reads."""
    box = Box(0, nest.r, 0, nest.s, 0, nest.cg)
    geometry = Geometry.of(nest, region, box, banks)
    row = min(geometry.row0 + (geometry.rows - 1) * geometry.row_step, nest.height - 1)
    column = min(geometry.column0 + (geometry.columns - 1) * geometry.column_step, nest.width - 1)
    if row < 0 or column < 0:
        return 0
    return nest.x.element(n=region.image1 - 1, h=row, w=column) + nest.x.size("c")


def _as_images(problem: Nest, images: View) -> Nest:
    """A row of pixels that see nothing but themselves as the images that others see in it."""
    n, h, w, c = (images.size(name) for name in "nhwc")

    def turned(nest: Nest) -> Nest:
        x, y = (View.rows(view.buffer, "nhwc", (n, h, w, view.size("c")), view.outside) for view in (nest.x, nest.y))
        return replace(nest, x=x, y=y, images=n, p=h, q=w)

    nests = (problem, *problem.added)
    if (n * h * w != problem.q or n * h == 1 or images.buffer.size != n * h * w * c
            or not all(nest.is_row and nest.x.is_whole and nest.x.size("c") == c for nest in nests)):
        return problem
    return replace(turned(problem), added=tuple(map(turned, problem.added)))


class Chain:
    """Stages that follow one another, each but the first of which reads what others among them make.

    Members
    -------
    between : list of Buffer
        What the stages but the last make.
    """

    def __init__(self, stages: Sequence[Stage], layers: Sequence[Layer]):
        self.stages = stages
        self.between = [stage.problem.y.buffer for stage in stages[:-1]]
        self._layers = [replace(layer, problem=self._restated(stage))
                        for stage, layer in zip(stages, layers, strict=True)]

    def _restated(self, stage: Stage) -> Nest:
        """Loops over images, where another stage sees images in what a stage takes for a row."""
        problem = stage.problem
        for other in self.stages:
            for view in (other.problem.y, other.problem.x):
                if problem.images * problem.p == 1 and view.buffer in (*stage.reads, problem.y.buffer):
                    problem = _as_images(problem, view)
        return problem

    @property
    def lines(self) -> int:
        """Lines of the last stage's output."""
        return _lines(self._layers[-1].problem)[0]

    def _ends(self, count: int) -> list[list[int]]:
        """Lines of each stage's output that must have been computed when each of `count` strips is over."""
        lines = self.lines
        ends = [[lines * (index + 1) // count for index in range(count)]]
        for at in range(len(self._layers) - 2, -1, -1):
            problem = self._layers[at].problem
            total, pixels = _lines(problem)
            width = pixels * problem.y.stride("w")
            needed = [0] * count
            for layer, stops in zip(self._layers[at + 1:], ends, strict=True):
                for nest in (layer.problem, *layer.problem.added):
                    if nest.x.buffer is not problem.y.buffer:
                        continue
                    for strip, (first, end) in enumerate(pairwise((0, *stops))):
                        needs = [_need(nest, region, layer.banks) for region in _regions(layer.problem, first, end)]
                        needed[strip] = max([needed[strip], *needs])
            stops, last = [], 0
            for each in needed:
                last = max(last, min(-(-each // width), total))
                stops.append(last)
            # What nobody reads is made, too.
            stops[-1] = total
            ends.insert(0, stops)
        return ends

    def strips(self, count: int, parts: int, plan: MemoryPlan) -> list[list[list[ContractionStep]]]:
        """Steps of each stage's strips, `count` of them, some of which may have none, in `parts` groups at least.

        Raises
        ------
        PearrayError
            If the scratchpads can't hold the tiles of a strip.
        """
        found, held = [], list[Held]()
        for layer, stops in zip(self._layers, self._ends(count), strict=True):
            cuts = [tuple(_regions(layer.problem, *span)) for span in pairwise((0, *stops))]
            tiling = self._tiling(layer, tuple(region for cut in cuts for region in cut), parts)
            visits, standing = lower_visits(tiling, layer, plan, held)
            held += standing
            strips: list[list[ContractionStep]] = []
            for cut in cuts:
                strips.append([step for region, steps in visits if any(region is each for each in cut)
                               for step in steps])
            found.append(strips)
        return found

    @staticmethod
    def _tiling(layer: Layer, cut: tuple[Region, ...], parts: int) -> Tiling:
        """The best tiling by closed form of a layer that is cut into given regions."""
        tilings = [tiling for _, tiling in Chooser(layer, cut).best(8)]
        whole = [tiling for tiling in tilings if not tiling.n_outer and tiling.regions == cut]
        if not whole:
            raise layer.no_room("strip")
        # What is left of a strip when its last group has been computed is waited for: it had better be little.
        pixels = max(-(-max(region.pixels for region in cut) // parts), layer.config.array.rows)
        return replace(whole[0], shrink=False, pixels=min(whole[0].pixels, pixels))


def chains(stages: Sequence[Stage], wanted: Collection[Buffer], most: int) -> Iterator[Sequence[Stage]]:
    """Yield runs of 2 to `most` stages between which tensors lie that nobody else reads or wants."""
    for first in range(len(stages)):
        for end in range(first + 2, min(first + most, len(stages)) + 1):
            run = stages[first:end]
            if not all(stage.can_be_cut for stage in run):
                break
            made = [stage.problem.y.buffer for stage in run]
            others = [*stages[:first], *stages[end:]]
            outside = [buffer for stage in others for buffer in stage.reads_all]
            # Constants are packed anew for all of a node, or for nothing of it.
            if {stage.problem.name for stage in run} & {stage.problem.name for stage in others}:
                continue
            if (all(any(buffer in made[:at] for buffer in stage.reads) for at, stage in enumerate(run) if at)
                    and not any(buffer in wanted or buffer in outside for buffer in made[:-1])):
                yield run
