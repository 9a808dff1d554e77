"""Channelwise sums with several output pixels of a channel side by side, where the diagonal would leave most PEs idle.

Each channel of a depthwise layer is a contraction with a Toeplitz matrix: columns of the array are consecutive output
pixels of one channel, rows are the input pixels that they see, and the weight of a pixel in a column is the filter's at
their distance. Pixels whose pitch in the scratchpad is one more than a multiple of its banks lie in different banks, so
tiles of the contraction fold them. The filter stands once, reversed, zeros between its rows: the weights of an element
of the contraction are as many operands as there are columns, one operand before those of the element before. The next
channel is one operand further. Sums of a row then belong to one channel, which post-processing must know
(``post.transposed``).

A stride is taken apart: each phase of it, the filter's columns and the image's of equal remainders, is such a
contraction.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise, product

import numpy as np

from ...hdl.shell.commands import ADDRESS_BITS
from ...hdl.systolic.commands import Destination
from ..kernels.layout import operand_array
from ..kernels.regions import Region
from ..placement import MemoryPlan
from ..steps import Group, Output, Piece, Tile, Use
from ..transfers import Window, blocks, fill, pixel_dims
from .beside_plan import Cut, Phase, Plan, fitting
from .layer import Layer
from .schedule import cycles_of
from .steps import ContractionStep
from .tiles import TileMaker, piece_of, stored

__all__ = ["choose_beside", "fitting", "lower_beside"]

#: Cuts of least estimated cycles that are timed, each of this many steps at most.
_FINALISTS, _MOST_STEPS = 8, 1000


class _Beside(Plan):
    """Steps of a layer under a cut."""

    def __init__(self, layer: Layer, cut: Cut, plan: MemoryPlan):
        super().__init__(layer, cut)
        self._memory, self._maker = plan, TileMaker(layer, plan)
        self._made: dict[object, Tile] = {}
        self._addresses: dict[object, int] = {}

    def steps(self) -> Iterator[ContractionStep]:
        """Yield steps: strip by strip, block of channels by block of channels, group by group."""
        problem, cut = self.problem, self.cut
        last = problem.images - 1, problem.p
        for image, at in product(range(problem.images), range(0, problem.p, cut.strip)):
            strip = at, min(at + cut.strip, problem.p)
            for c0 in range(0, problem.cg, cut.channels):
                channels = c0, min(c0 + cut.channels, problem.cg)
                held = (0, problem.cg) if cut.whole else channels
                tile = self._once(("a", image, strip, held), lambda image=image, strip=strip, held=held: (
                    self._activations(image, strip, held)))
                for number, p0 in enumerate(range(strip[0], strip[1], cut.rows), 1):
                    rows = p0, min(p0 + cut.rows, strip[1])
                    is_last = (image, rows[1]) == last and channels[1] == problem.cg
                    group = Group(list(self._outputs(image, rows, channels, 4 if is_last else 1)))
                    places = self.places(strip[1] - strip[0])
                    for phase, place in zip(self.phases, places, strict=False):
                        body = self._body(phase, rows, channels)
                        body["a_base"] = (place + (rows[0] - strip[0]) * problem.stride[0] * self.line(phase)
                                          + channels[0] - held[0])
                        yield ContractionStep(group, Use(tile, number), Use(self._weights(phase, channels), 1), body)

    def _once(self, key: object, make: Callable[[], Tile]) -> Tile:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _activations(self, image: int, strip: tuple[int, int], held: tuple[int, int]) -> Tile:
        """Tile of the input of a strip, whose piece i brings what group i sees and those before it do not."""
        problem, (first, end), count = self.problem, strip, held[1] - held[0]
        parts = [self.in_rows(min(at + self.cut.rows, end) - first) for at in range(first, end, self.cut.rows)]
        places, pieces = self.places(end - first), []
        for low, high in pairwise((0, *parts)):
            piece = Piece([])
            for phase, place in zip(self.phases, places, strict=False):
                line = self.line(phase)
                found = piece_of(Window(
                    problem.x, (image, 1, 1), (first * problem.stride[0] - problem.top + low, 1, high - low),
                    (phase.first - problem.left, phase.step, phase.columns), 0, line, self.pitch, place + low * line),
                    held[0], count)
                piece.loads += found.loads
                piece.sources += found.sources
            pieces.append(piece)
        if self.flat:
            self._fill_behind(pieces[-1], end - first, count)
        return Tile(Destination.ACTIVATION.value, places[-1] * self.item, pieces)

    def _fill_behind(self, piece: Piece, rows: int, count: int) -> None:
        """Fill the pixels behind the last row that the last vector sees."""
        (phase,), seen = self.phases, self.in_rows(rows) * self.line(self.phases[0])
        length = self.extent(phase, rows) - seen
        if length > 0:
            piece.loads[:0] = fill(self.problem.x.outside, self.item, address=seen * self.item,
                                   length=length - self.held + count, dims=[])

    def _weights(self, phase: Phase, channels: tuple[int, int]) -> Tile:
        """Tile of the filters of some channels, or of the one that all share."""
        problem, size = self.problem, phase.size
        values = problem.weights
        assert isinstance(values, np.ndarray)
        shared = values.size == 1
        first, count = (0, 1) if shared else (channels[0], channels[1] - channels[0])
        filters = 1 if shared else problem.cg

        def pack() -> bytes:
            taps = np.broadcast_to(values.reshape(1, 1, 1) if shared else values.reshape(problem.r, problem.s, -1),
                                   (problem.r, problem.s, filters))
            full = np.full(self.weight_bytes(phase, filters) // self.item, problem.w_zero, np.int64)
            ends = size - 1 + np.arange(filters) * size
            for row, tap in product(range(problem.r), range(phase.taps)):
                full[ends - row * phase.line - tap] = taps[row, phase.first + tap * phase.step]
            return self.config.arithmetic.to_memory(full, self.item).tobytes()

        def make() -> Tile:
            address = self._constant(("w", phase.first), self.weight_bytes(phase, filters), pack)
            return stored(Destination.WEIGHT.value, self.weight_bytes(phase, count),
                          address + first * size * self.item)

        return self._once(("w", phase.first, first), make)

    def _constant(self, name: object, size: int, pack: Callable[[], bytes]) -> int:
        """Address of a constant of the layer, of which tiles are parts."""
        if name not in self._addresses:
            self._addresses[name] = self._memory.constant(self.problem.name, size, pack)
        return self._addresses[name]

    def _body(self, phase: Phase, rows: tuple[int, int], channels: tuple[int, int]) -> dict[str, int]:
        """EXECUTE of a phase of some rows of outputs, but for its first activation."""
        problem, count, modulus = self.problem, rows[1] - rows[0], 1 << ADDRESS_BITS
        assert isinstance(problem.weights, np.ndarray)
        line, vectors = self.line(phase), self.vectors(count)
        folded = not self.flat and problem.r > 1
        return {
            "m_count0": vectors if self.flat else self.blocks, "m_count1": 1 if self.flat else count, "m_count2": 1,
            "m_step0": self.width * self.pitch % modulus, "m_step1": problem.stride[0] * line % modulus,
            "k_total": phase.size, "run": 1, "run_count": phase.line if folded else phase.size, "fold": 1,
            "jump1": self.pitch - 1,
            "jump2": (problem.dilation[0] * line - phase.line * self.pitch) % modulus if folded else 0,
            "n_count": channels[1] - channels[0], "a_nstep": 1, "w_base": phase.size - 1, "w_pitch": modulus - 1,
            "w_nstep": 0 if problem.weights.size == 1 else phase.size, "acc_nstep": vectors,
            "first": int(phase.first == 0), "a_zero_point": problem.a_zero, "w_zero_point": problem.w_zero,
            "a_unsigned": int(problem.a_unsigned), "w_unsigned": int(problem.w_unsigned)}

    def _outputs(self, image: int, rows: tuple[int, int], channels: tuple[int, int], pieces: int) -> Iterator[Output]:
        """Outputs of a group, in `pieces` parts at least if they can be cut."""
        problem, finish, y = self.problem, self.problem.finish, self.problem.y
        count, all_vectors = channels[1] - channels[0], self.vectors(rows[1] - rows[0])
        at_once = self.rows_at_once if self.flat else min(self.rows_at_once, -(-(rows[1] - rows[0]) // pieces))
        for p0 in range(*rows, at_once):
            part = Region(image, image + 1, p0, min(p0 + at_once, rows[1]), 0, problem.q)
            vectors = self.vectors(part.rows)
            body = {"rounding": finish.rounding.value, "zero_point": finish.zero_point, "low": finish.low,
                    "high": finish.high, "transposed": 1, "last_group": self.out_groups - 1,
                    "lane_lines": self.out_lines, "n_count": count, "m_count": vectors,
                    "acc_base": self.vectors(p0 - rows[0]) if p0 > rows[0] else 0, "acc_nstep": all_vectors,
                    "out_nstep": self.item, "out_mstep": self.width * self.out_pitch}
            line = self.phases[0].line if self.flat else self.blocks * self.width
            dram = y.buffer.address + (part.first(y) + channels[0]) * self.item
            stores = blocks(dram, 0, count * self.item, pixel_dims(y, part, self.out_pitch, line))
            output = Output(body, self.out_size(vectors, count), stores, (y.buffer, part.numbers(y), count))
            self._add_constants(output, channels)
            yield output

    def _add_constants(self, output: Output, channels: tuple[int, int]) -> None:
        """Let an output use the biases, scales and table of its channels."""
        finish, body = self.problem.finish, output.body
        assert finish.entries is not None
        if finish.bias is not None:
            assert isinstance(finish.bias, np.ndarray)
            output.bias = Use(self._entries("bias", Destination.BIAS, finish.bias, channels), 1)
            body |= {"bias": 1, "bias_nstep": 1}
        if finish.entries.size > 1:
            output.scale = Use(self._entries("scale", Destination.SCALE, finish.entries, channels), 1)
            body["scale_nstep"] = 1
        else:
            output.scale = Use(self._maker.scale(0, (0, 1)), 1)
        if finish.table is not None:
            output.table = Use(self._maker.table(0), 1)
            body["table"] = 1

    def _entries(self, name: str, memory: Destination, values: np.ndarray, channels: tuple[int, int]) -> Tile:
        """Tile of the entries of some channels, one behind another."""
        item = 4 if memory is Destination.BIAS else 8

        def make() -> Tile:
            data = operand_array(values.astype(np.int64), item).tobytes()
            address = self._constant(name, len(data), lambda: data)
            return stored(memory.value, (channels[1] - channels[0]) * item, address + channels[0] * item)

        return self._once((name, channels), make)


def choose_beside(layer: Layer) -> tuple[float, Callable[[Layer, MemoryPlan], list[ContractionStep]]] | None:
    """Choose how outputs of a layer lie side by side.

    Returns
    -------
    (float, function) or None
        Cycles of the layer alone, and what lowers layers like it; None if there is no such way.
    """
    alone, best = layer.alone(), None
    for plan in fitting(layer)[:_FINALISTS]:
        steps = lower_beside(plan.cut, alone, MemoryPlan(keep=False))
        cycles = cycles_of(layer.config, layer.timing, steps) if len(steps) <= _MOST_STEPS else plan.cycles()
        if best is None or cycles < best[0]:
            best = cycles, partial(lower_beside, plan.cut)
    return best


def lower_beside(cut: Cut, layer: Layer, plan: MemoryPlan) -> list[ContractionStep]:
    """Steps of a layer, in order."""
    return list(_Beside(layer, cut, plan).steps())
