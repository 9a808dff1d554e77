"""Operands with a plane for each channel, its pixels side by side: what an output-stationary tile reads.

For each element of the contraction such a tile meets R pixels that follow one another, and C weights that do. Matrices
that stand so are read as they are. Of all others the array itself makes a copy in memory: pixels stand in the weight
scratchpad, their channels an operand apart, and enter from the left; what they meet is an identity matrix; so the sums
are rows of pixels, one for each channel.

The copy holds padding, and a plane for each phase of a stride. In it a convolution has stride 1, no padding, and as
many channels more as it had phases.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, product
from math import isqrt
from typing import NamedTuple

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Rounding
from ...hdl.systolic.commands import Destination
from ..kernels.kernel import Finish
from ..kernels.nest import Nest
from ..kernels.views import Axis, Buffer, View
from ..placement import MemoryPlan
from ..steps import Group, Output, Tile, Use
from ..transfers import Window, block
from .layer import Layer
from .steps import ContractionStep
from .tiles import TileMaker, piece_of, stored

__all__ = ["copied", "in_planes"]


@dataclass(frozen=True)
class _Direction:
    """Rows or columns of a convolution, counted in strides."""

    #: Of the convolution; `before` is its padding.
    stride: int
    dilation: int
    taps: int
    before: int
    outputs: int

    @property
    def first(self) -> int:
        """Stride in which the first output's first tap lies."""
        return -self.before // self.stride

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """Strides behind the first one, and phase, of each tap."""
        places = (divmod(tap * self.dilation - self.before, self.stride) for tap in range(self.taps))
        return [(turn - self.first, phase) for turn, phase in places]

    @cached_property
    def phases(self) -> list[int]:
        """Phases of taps."""
        return sorted({phase for _, phase in self.places})

    @cached_property
    def step(self) -> int:
        """Strides from one tap of the copy to the next."""
        return int(np.gcd.reduce([turn for turn, _ in self.places])) or 1

    @property
    def reach(self) -> int:
        """Strides from the first tap to the last."""
        return max(turn for turn, _ in self.places)

    @property
    def size(self) -> int:
        """Rows or columns of a plane."""
        return self.outputs + self.reach

    @property
    def copied_taps(self) -> int:
        """Taps of the copy."""
        return self.reach // self.step + 1


def _stands(problem: Nest) -> bool:
    """Whether the input of a product stands in planes of which each pixel is an output's."""
    return problem.stride == (1, 1) and (problem.x.stride("w") == 1 or problem.width == 1)


def copied(layer: Layer) -> int:
    """Operands that :func:`in_planes` copies at least."""
    problem, pixels = layer.problem, layer.problem.images * layer.problem.p * layer.problem.q
    rows = problem.ng if layer.left and problem.ng > 1 else 0
    return problem.groups * problem.cg * (rows + (0 if _stands(problem) else pixels))


def in_planes(layer: Layer, plan: MemoryPlan) -> tuple[Iterator[ContractionStep], Layer]:
    """The same product, grouped or not, of operands in planes, and the steps that copy those that are not."""
    copies: list[_Copy] = []
    problem, weights = layer.problem, layer.problem.weights
    if isinstance(weights, View) and problem.ng == 1:
        # A column of one operand, however far from the next.
        problem = replace(problem, weights=replace(weights, axes=(weights.axis("c"), Axis("m", 1, 1))))
    elif isinstance(weights, View) and layer.left:
        rows = replace(weights, axes=(Axis("n", 1, 0), Axis("h", 1, 0), replace(weights.axis("m"), name="w"),
                                      weights.axis("c")))
        # A row of pixels that see nothing but themselves, in the place of a convolution.
        plain = replace(problem, images=1, p=1, r=1, s=1, stride=(1, 1), dilation=(1, 1), top=0, left=0, x=rows,
                        q=problem.ng, groups=1, a_unsigned=problem.w_unsigned)
        copies.append(_Copy(replace(layer, problem=plain), plan))
        view = copies[0].view
        problem = replace(problem, weights=replace(view, axes=(view.axis("c"), replace(view.axis("w"), name="m"))))
    if not _stands(problem):
        copies.append(_Copy(replace(layer, problem=problem), plan))
        problem = copies[-1].problem()
    return chain.from_iterable(copy.steps() for copy in copies), replace(layer, problem=problem)


class _Chunk(NamedTuple):
    """Pixels of an image that stand in the weight scratchpad together."""

    image: int
    #: Phase of their rows, phases of their columns, and their channels.
    phase: int
    phases: list[int]
    channels: tuple[int, int]
    #: Rows and columns of the planes that they become.
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def width(self) -> int:
        """Channels of a phase."""
        return self.channels[1] - self.channels[0]

    @property
    def depth(self) -> int:
        """Operands of a pixel of a plane."""
        return len(self.phases) * self.width


class _Copy:
    """A copy of a layer's input in planes.

    Planes follow one another by image, group, phase of the rows, phase of the columns, and channel.
    """

    def __init__(self, layer: Layer, plan: MemoryPlan):
        self._problem, self._config = problem, config = layer.problem, layer.config
        self._rows = _Direction(problem.stride[0], problem.dilation[0], problem.r, problem.top, problem.p)
        self._columns = _Direction(problem.stride[1], problem.dilation[1], problem.s, problem.left, problem.q)
        self._channels = problem.groups * problem.cg
        self._plane = self._rows.size * self._columns.size
        phases = len(self._rows.phases) * len(self._columns.phases)
        self._planes = phases * self._channels
        item = problem.x.item
        self._buffer = Buffer(f"{problem.x.name}:planes", problem.images * self._planes, self._plane, item)
        self._buffer.address = plan.reserve(self._buffer.name, self._buffer.nbytes)
        self._buffer.expect_stores()
        pads = config.scratchpads
        #: Channels that become planes at once.
        self._side = max(1, min(config.array.rows, isqrt(pads.activation_bytes // item),
                                pads.output_bytes // 2 // item // config.array.cols))
        identity = config.arithmetic.to_memory(np.eye(self._side, dtype=int), item).tobytes()
        address = plan.constant(problem.name, len(identity), lambda: identity, key=("identity", self._side, item))
        self._identity = stored(Destination.ACTIVATION.value, len(identity), address)
        low, high = config.arithmetic.operand_range(problem.a_unsigned)
        self._finish = Finish(Rounding.ONNX, 0, low, high, np.ones(1, np.float32).view(np.uint32).astype(np.uint64))
        self._scale = TileMaker(replace(layer, problem=replace(problem, finish=self._finish)), plan).scale(0, (0, 1))

    @property
    def view(self) -> View:
        """The copy, channels of all groups and phases along one axis."""
        columns = self._columns.size
        return View(self._buffer, (
            Axis("n", self._problem.images, self._planes * self._plane), Axis("h", self._rows.size, columns),
            Axis("w", columns, 1), Axis("c", self._planes, self._plane)))

    def problem(self) -> Nest:
        """The layer with the copy as its input."""
        problem, rows, columns = self._problem, self._rows, self._columns
        weights = problem.weights
        taps = rows.copied_taps, columns.copied_taps
        phases = len(rows.phases), len(columns.phases)
        if isinstance(weights, np.ndarray) and (taps, phases) != ((problem.r, problem.s), (1, 1)):
            full = np.full((problem.groups, *taps, *phases, problem.cg, problem.ng), problem.w_zero, np.int64)
            given = weights.reshape(problem.groups, problem.r, problem.s, problem.cg, problem.ng)
            for r, (row, a) in enumerate(rows.places):
                for s, (column, b) in enumerate(columns.places):
                    full[:, row // rows.step, column // columns.step, rows.phases.index(a),
                         columns.phases.index(b)] = given[:, r, s]
            weights = full.reshape(problem.groups, -1, problem.ng)
        return replace(problem, x=self.view, weights=weights, cg=self._planes // problem.groups, r=taps[0], s=taps[1],
                       stride=(1, 1), dilation=(rows.step, columns.step), top=0, left=0)

    def steps(self) -> Iterator[ContractionStep]:
        """Steps that make the copy."""
        for image, phase in product(range(self._problem.images), self._rows.phases):
            for phases, channels in self._parts():
                for rows, columns in self._chunks(len(phases) * (channels[1] - channels[0])):
                    yield from self._chunk(_Chunk(image, phase, phases, channels, rows, columns))

    def _parts(self) -> Iterator[tuple[list[int], tuple[int, int]]]:
        """Phases of columns, and channels, that are copied together: all, if enough pixels fit."""
        config, phases, stride = self._config, self._columns.phases, self._problem.stride[1]
        operands = config.scratchpads.weight_bytes // config.operand_bytes
        room = operands // 2 // config.array.cols or operands // config.array.cols
        if not room:
            raise PearrayError(f"{self._problem.name}: scratchpads.weight_bytes must be at least "
                               f"{config.array.cols * config.operand_bytes} to hold an operand for each column, not "
                               f"{config.scratchpads.weight_bytes}")
        if (len(phases) == stride or len(phases) == 1) and len(phases) * self._channels <= room:
            yield phases, (0, self._channels)
            return
        room = room if room < self._side else room // self._side * self._side
        for phase in phases:
            for first in range(0, self._channels, room):
                yield [phase], (first, min(first + room, self._channels))

    def _chunks(self, depth: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Rows and columns of planes whose pixels, `depth` channels each, stand in the weight scratchpad together."""
        config, columns = self._config, self._columns.size
        most = max(1, config.scratchpads.weight_bytes // 2 // config.operand_bytes // depth // config.array.cols)
        most *= config.array.cols
        if columns <= most:
            for first in range(0, self._rows.size, most // columns):
                yield (first, min(first + most // columns, self._rows.size)), (0, columns)
            return
        for row in range(self._rows.size):
            for first in range(0, columns, most):
                yield (row, row + 1), (first, min(first + most, columns))

    def _chunk(self, chunk: _Chunk) -> Iterator[ContractionStep]:
        """Copy some pixels of one image: groups of outputs of as many as the accumulators have rows for."""
        config, cols, depth = self._config, self._config.array.cols, chunk.depth
        pixels = (chunk.rows[1] - chunk.rows[0]) * (chunk.columns[1] - chunk.columns[0])
        tile = Use(self._pixels(chunk), 1)
        most = config.scratchpads.output_bytes // 2 // config.operand_bytes
        # A row of the identity for each channel; channels of one plane after another are stored at once.
        for start in range(0, depth, self._side):
            size = min(self._side, depth - start)
            tiles = max(1, min(-(-pixels // cols), config.accumulators.depth // size, most // (size * cols)))
            for first in range(0, pixels, tiles * cols):
                count = min(tiles * cols, pixels - first)
                body = {
                    "first": 1, "left": 1, "fold": 1, "w_unsigned": int(self._problem.a_unsigned),
                    "n_count": -(-count // cols), "a_base": 0, "w_base": first * depth + start, "m_count0": size,
                    "m_count1": 1, "m_count2": 1, "m_step0": self._side, "k_total": size,
                    "run": size, "run_count": 1, "w_pitch": depth, "w_nstep": cols * depth, "acc_nstep": size}
                at = chunk.rows[0] * self._columns.size + chunk.columns[0] + first
                outputs = [self._output(chunk, start, size, at, count)]
                yield ContractionStep(Group(outputs), Use(self._identity, 1), tile, body)

    def _pixels(self, chunk: _Chunk) -> Tile:
        """Tile of weights: pixels one after another, of each some channels of some phases."""
        (u, v), count, width = self._problem.stride, len(chunk.phases), chunk.width
        (row, last), (column, end), cols = chunk.rows, chunk.columns, self._config.array.cols
        step, number = (1, (end - column) * count) if count > 1 else (v, end - column)
        window = Window(
            self._problem.x, (chunk.image, 1, 1), (u * (self._rows.first + row) + chunk.phase, u, last - row),
            (v * (self._columns.first + column) + chunk.phases[0], step, number), 0, (end - column) * chunk.depth,
            width)
        pixels = -(-(last - row) * (end - column) // cols) * cols
        return Tile(Destination.WEIGHT.value, pixels * chunk.depth * self._config.operand_bytes,
                    [piece_of(window, chunk.channels[0], width)])

    def _output(self, chunk: _Chunk, first: int, rows: int, at: int, count: int) -> Output:
        """POST and STOREs of pixels `at` and on of some planes: those of `rows` elements of a pixel from `first` on."""
        cols, item, cg = self._config.array.cols, self._config.operand_bytes, self._problem.cg
        tiles = -(-count // cols)
        pitch = tiles * cols * item
        body = {"rounding": self._finish.rounding.value, "low": self._finish.low, "high": self._finish.high,
                "zero_point": 0, "n_count": tiles, "m_count": rows, "acc_nstep": rows, "out_nstep": cols * item,
                "out_mstep": pitch}
        stores: list[dict[str, int]] = []
        planes: list[int] = []
        while len(planes) < rows:
            phase, channel = divmod(first + len(planes), chunk.width)
            # Planes that follow one another: to the end of a group's channels, of a phase's, or of the part.
            size = min(rows - len(planes), chunk.width - channel, cg - (channel + chunk.channels[0]) % cg)
            plane = self._number(chunk.image, chunk.phase, chunk.phases[phase], channel + chunk.channels[0])
            stores.append(block(
                dram=self._buffer.address + (plane * self._plane + at) * item, address=len(planes) * pitch,
                length=count * item, dims=[(size, self._plane * item, pitch)]))
            planes += range(plane, plane + size)
        return Output(body, rows * pitch, stores, (self._buffer, np.array(planes), count), scale=Use(self._scale, 1))

    def _number(self, image: int, a: int, b: int, channel: int) -> int:
        """Number of a plane: of an image, phases of rows and columns, and a channel of all groups."""
        group, channel = divmod(channel, self._problem.cg)
        number = (image * self._problem.groups + group) * len(self._rows.phases) + self._rows.phases.index(a)
        number = number * len(self._columns.phases) + self._columns.phases.index(b)
        return number * self._problem.cg + channel
