"""Channelwise sums with several output pixels of a channel side by side, where the diagonal would leave most PEs idle.

Each channel of a depthwise layer is a contraction with a Toeplitz matrix: columns of the array are consecutive output
pixels of one channel, rows are the input pixels that they see, and the weight of a pixel in a column is the filter's at
their distance. Pixels whose pitch in the scratchpad is one more than a multiple of its banks lie in different banks, so
tiles of the contraction fold them. The filter stands once, reversed, zeros between its rows: the weights of an element
of the contraction are as many operands as there are columns, one operand before those of the element before. The next
channel is one operand further. Sums of a row then belong to one channel, which post-processing must know
(``post.transposed``).

Columns may be outputs of several rows that lie below one another, column of the image by column. They see fewer pixels
than as many of one row. The filter then stands once for each of these rows, interleaved, so that the weights of an
element are as many operands before those of the next as there are rows of outputs.

A stride is taken apart: each phase of it, the filter's columns and the image's of equal remainders, is such a
contraction.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

from ...hdl.shell.commands import ADDRESS_BITS
from ...hdl.systolic.commands import Destination
from ..kernels.layout import operand_array
from ..kernels.regions import Region, even
from ..placement import MemoryPlan
from ..steps import Group, Output, Piece, Room, Tile, Use
from ..transfers import Window, block, blocks, fill, pixel_dims
from .beside_plan import Cut, Phase, Plan, Span, fitting
from .beside_ramps import improve_strips
from .bounds import Bounds
from .layer import Layer
from .lowering import Lowering
from .schedule import cycles_of
from .steps import ContractionStep
from .tiles import TileMaker, piece_of, stored
from .tiling import BEAT

__all__ = ["choose_beside", "fitting", "lower_beside"]

#: Cuts of least estimated cycles that are timed, of vectors of one row of outputs and of those of several, until so
#: many steps have been of each, each cut of so many at most.
_FINALISTS, _FEW, _STEPS, _MOST_STEPS = 24, 8, 1500, 1000

#: Cuts into strips of their own sizes that are timed.
_TRIES = 250

#: POSTs of a group's outputs that are stored, and of those at the end of a layer.
_PIECES, _LAST_PIECES = 1, 4


class _Place(NamedTuple):
    """An image, a share of its channels, and a strip of these."""

    image: int
    share: Span
    strip: Span


class _Beside(Plan):
    """Steps of a layer under a cut."""

    def __init__(self, layer: Layer, cut: Cut, plan: MemoryPlan):
        super().__init__(layer, cut)
        self._memory, self._maker = plan, TileMaker(layer, plan)
        self._made: dict[object, Tile] = {}
        self._addresses: dict[object, int] = {}

    def steps(self) -> Iterator[ContractionStep]:
        """Yield steps: strip by strip, and in it rows by rows or channels by channels."""
        for place, (rows, channels) in self._places():
            if self.cut.joined:
                for part in rows:
                    room = Room(self.out_size(part[1] - part[0]))
                    for some in channels:
                        yield from self._group(place, part, some, room)
            else:
                for some, part in product(channels, rows):
                    yield from self._group(place, part, some, Room(self.out_size(part[1] - part[0])))

    def _places(self) -> Iterator[tuple[_Place, tuple[list[Span], list[Span]]]]:
        """Yield strips of shares of images, and the rows and channels of their groups.

        All of a strip is computed before the next, as others make its input and read its output, if the filters of all
        shares can stay.
        """
        for image in range(self.problem.images):
            found = [(_Place(image, share, strip), (rows, channels))
                     for share in self.channels() for strip, rows, channels in self.strips(share)]
            yield from sorted(found, key=lambda each: each[0].strip) if self.all_stay else found

    def _group(self, place: _Place, rows: Span, channels: Span, room: Room) -> Iterator[ContractionStep]:
        """Steps of some rows of outputs of some channels, whose outputs go to a room."""
        image, share, strip = place
        problem, held = self.problem, share if self.cut.whole else channels
        tile = self._once(("a", image, strip, held), lambda: self._activations(image, strip, held))
        group = Group(list(self._outputs(place, rows, channels, room)))
        for phase, begin in zip(self.phases, self.places(strip[1] - strip[0]), strict=False):
            base = begin + (rows[0] - strip[0]) * problem.stride[0] * self.line(phase) + channels[0] - held[0]
            for element in self.parts(phase):
                body = self._body(phase, element, rows, channels)
                body["a_base"] = base + self.offset(phase, element)
                weights = self._weights(phase, share, channels)
                if self.is_held and self._filters > 1:
                    body["w_base"] += (channels[0] - share[0]) * phase.size * self.lines
                yield ContractionStep(group, Use(tile, self._pieces_read(phase, strip, rows)), weights, body)

    def _pieces_read(self, phase: Phase, strip: Span, rows: Span) -> int:
        """Pieces of a strip's activations that some rows of outputs read.

        What fills the last tile of weights that are passed on may be in those behind what the outputs see.
        """
        own = (rows[0] - strip[0]) // self.cut.rows
        if self.passed:
            last = self.last_row(phase, rows[0] - strip[0], rows[1] - strip[0])
            ends = self._piece_ends(strip)
            own = next((number for number in range(own, len(ends)) if ends[number] > last), len(ends) - 1)
        return own + 1

    def _piece_ends(self, strip: Span) -> list[int]:
        """Rows of the input of a strip behind each piece of it."""
        first, end = strip
        return [self.in_rows(min(at + self.cut.rows, end) - first) for at in range(first, end, self.cut.rows)]

    def _once(self, key: object, make: Callable[[], Tile]) -> Tile:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _activations(self, image: int, strip: Span, held: Span) -> Tile:
        """Tile of the input of a strip, whose piece i brings what group i sees and those before it do not."""
        (first, end), count, places = strip, held[1] - held[0], self.places(strip[1] - strip[0])
        pieces = []
        for low, high in pairwise((0, *self._piece_ends(strip))):
            piece = Piece([])
            for window in self._windows(image, first, (low, high), places):
                found = piece_of(window, held[0], count)
                piece.loads += found.loads
                piece.sources += found.sources
            pieces.append(piece)
        if self.flat:
            self._fill_behind(pieces[-1], end - first, count)
        return Tile(Destination.ACTIVATION.value, places[-1] * self.item, pieces)

    def _windows(self, image: int, first: int, rows: Span, places: list[int]) -> Iterator[Window]:
        """Some rows of the input of a strip that begins with an output row, for each phase."""
        problem, (low, high) = self.problem, rows
        for phase, place in zip(self.phases, places, strict=False):
            line = self.line(phase)
            yield Window(problem.x, (image, 1, 1), (first * problem.stride[0] - problem.top + low, 1, high - low),
                         (phase.first - problem.left, phase.step, phase.columns), 0, line, self.pitch,
                         place + low * line)

    def _fill_behind(self, piece: Piece, rows: int, count: int) -> None:
        """Fill what the last output sees behind the last row; other outputs that see further are dropped.

        It is the next of the pixels in front of rows, or it follows the row of padding below.
        """
        problem, (phase,), pitch = self.problem, self.phases, self.pitch
        pixels = problem.q + phase.taps - 1 - phase.line
        if pixels <= 0:
            return
        address, length = self.in_rows(rows) * phase.line * pitch, (pixels - 1) * pitch + count
        for body in piece.loads:
            if self.item > 1 or not body.get("fill") or body["count2"] > 1:
                continue
            if body["length"] == length and body["address"] + body["count1"] * body["step1"] == address:
                body["count1"] += 1
                return
            if body["count1"] == 1 and body["address"] + body["length"] + pitch - count == address:
                body["length"] += pitch - count + length
                return
        piece.loads[:0] = fill(problem.x.outside, self.item, address=address * self.item, length=length, dims=[])

    @property
    def _filters(self) -> int:
        """Filters of a phase: one for each channel, or one that all share."""
        assert isinstance(self.problem.weights, np.ndarray)
        return 1 if self.problem.weights.size == 1 else self.problem.cg

    def _weights(self, phase: Phase, share: Span, channels: Span) -> Use:
        """Filters of some channels, or the one that all share; those before them, too, if a share's stand together."""
        filters = self._filters
        first, end = channels if filters > 1 else (0, 1)
        ends = [first, end]
        if self.is_held:
            behind = share[1] if filters > 1 else 1
            firsts = {some[1] for some in self.strips(share)[0][2] if some[1] < behind}
            ends = sorted({share[0] if filters > 1 else 0, behind, *firsts})

        def make() -> Tile:
            address = self._constant(("w", phase.first), self.weight_bytes(phase, filters),
                                     lambda: self._packed(phase, filters))
            address += ends[0] * phase.size * self.lines * self.item
            sizes = [0, *(self.weight_bytes(phase, count - ends[0]) for count in ends[1:])]
            pieces = [Piece([block(dram=address + low, address=low, length=high - low, dims=[])])
                      for low, high in pairwise(sizes)]
            return Tile(Destination.WEIGHT.value, sizes[-1], pieces)

        tile = self._once(("w", phase.first, tuple(ends)), make)
        return Use(tile, next(number for number, count in enumerate(ends) if count >= end))

    def _packed(self, phase: Phase, filters: int) -> bytes:
        """Filters of a phase as they stand in memory, the last element first."""
        problem, size, values = self.problem, phase.size, self.problem.weights
        assert isinstance(values, np.ndarray)
        taps = np.broadcast_to(values.reshape(1, 1, 1) if filters == 1 else values.reshape(problem.r, problem.s, -1),
                               (problem.r, problem.s, filters))
        full = np.full(self.weight_bytes(phase, filters) // self.item, problem.w_zero, np.int64)
        ends = np.arange(filters) * size * self.lines + (size - 1) * self.lines
        for line, row, tap in product(range(self.lines), range(problem.r), range(phase.taps)):
            element = (line * problem.stride[0] + row * problem.dilation[0] // self.row_step) * phase.line + tap
            full[ends - element * self.lines + line] = taps[row, phase.first + tap * phase.step]
        return self.config.arithmetic.to_memory(full, self.item).tobytes()

    def _constant(self, name: object, size: int, pack: Callable[[], bytes]) -> int:
        """Address of a constant of the layer, of which tiles are parts."""
        if name not in self._addresses:
            self._addresses[name] = self._memory.constant(self.problem.name, size, pack)
        return self._addresses[name]

    def _body(self, phase: Phase, element: int, rows: Span, channels: Span) -> dict[str, int]:
        """EXECUTE of a phase of some rows of outputs, from an element on, but for its first activation."""
        problem, count, modulus = self.problem, rows[1] - rows[0], 1 << ADDRESS_BITS
        assert isinstance(problem.weights, np.ndarray)
        line, vectors, lines = self.line(phase), self.vectors(count), self.lines
        return {
            "m_count0": vectors if self.flat else self.blocks, "m_count1": 1 if self.flat else -(-count // lines),
            "m_count2": 1, "m_step0": self.width * self.pitch % modulus,
            "m_step1": lines * problem.stride[0] * line % modulus,
            "k_total": self.config.array.rows if self.passed else phase.size, "run": 1,
            "run_count": self.run_count(phase), "fold": 1,
            "jump1": self.pitch - 1,
            "jump2": (self.row_step * line - phase.line * self.pitch) % modulus if self.is_folded else 0,
            "n_count": channels[1] - channels[0], "a_nstep": 1,
            "w_base": (phase.size - 1 - element) * lines, "w_pitch": modulus - lines,
            "w_nstep": 0 if problem.weights.size == 1 else phase.size * lines, "acc_nstep": vectors,
            "first": int(phase.first == element == 0), "a_zero_point": problem.a_zero, "w_zero_point": problem.w_zero,
            "a_unsigned": int(problem.a_unsigned), "w_unsigned": int(problem.w_unsigned)}

    def _outputs(self, place: _Place, rows: Span, channels: Span, room: Room) -> Iterator[Output]:
        """Outputs of a group; those that are stored at the end of the layer come in pieces."""
        problem, finish, y, (first, end) = self.problem, self.problem.finish, self.problem.y, rows
        count, all_vectors, (image, share, _) = channels[1] - channels[0], self.vectors(end - first), place
        stores, pieces = not self.cut.joined or channels[1] == share[1], 1
        if stores:
            is_last = image == problem.images - 1 and end == problem.p and channels[1] == problem.cg
            pieces = min(_LAST_PIECES if is_last else _PIECES, end - first)
        begun = 0
        for p0, p1 in self._pieces(end - first, pieces):
            vectors = self.vectors(p1) - begun
            body = {"rounding": finish.rounding.value, "zero_point": finish.zero_point, "low": finish.low,
                    "high": finish.high, "transposed": 1, "last_group": self.out_groups - 1,
                    "lane_lines": self.out_lines, "n_count": count, "m_count": vectors, "acc_base": begun,
                    "acc_nstep": all_vectors, "out_nstep": self.item, "out_mstep": self.outputs * self.out_pitch,
                    "out_base": begun * self.outputs * self.out_pitch}
            part = Region(image, image + 1, first + p0, first + p1, 0, problem.q)
            output = Output(body, room.size, [], (y.buffer, slice(0, 0), 0), room=room)
            if self.cut.joined:
                body["out_base"] += (channels[0] - share[0]) * self.item
            if stores:
                stored = share if self.cut.joined else channels
                output.stores = list(self._stores(part, p0, stored))
                output.target = y.buffer, part.numbers(y), stored[1] - stored[0]
            self._add_constants(output, share, channels)
            yield output
            begun += vectors

    def _stores(self, part: Region, behind: int, channels: Span) -> Iterator[dict[str, int]]:
        """STOREs of some channels of some rows of outputs, `behind` so many of their room."""
        y, near, channel, held = self.problem.y, self.out_pitch, channels[0], channels[1] - channels[0]
        if self.lines == 1:
            line = self.phases[0].line if self.flat else self.blocks * self.width
            yield from blocks(y.buffer.address + (part.first(y) + channel) * self.item, behind * line * near,
                              held * self.item, pixel_dims(y, part, near, line))
            return
        for rows, columns in product(_ends(part.rows, self.lines), _ends(part.columns, self.width)):
            first = replace(part, p0=part.p0 + rows[0], q0=columns[0]).first(y) + channel
            vector = (behind + rows[0]) // self.lines * self.blocks + columns[0] // self.width
            dims = [*self._dims("w", columns, self.width, (self.lines, self.outputs)),
                    *self._dims("h", rows, self.lines, (1, self.blocks * self.outputs))]
            yield from blocks(y.buffer.address + first * self.item, vector * self.outputs * near, held * self.item,
                              dims)

    def _dims(self, axis: str, span: Span, size: int, apart: tuple[int, int]) -> list[tuple[int, int, int]]:
        """Dimensions of a share of outputs along an axis: those of a vector, and vectors, so many pixels apart."""
        count, step = span[1] - span[0], self.problem.y.stride(axis) * self.item
        return [(min(size, count), step, apart[0] * self.out_pitch),
                (-(-count // size), size * step, apart[1] * self.out_pitch)]

    def _pieces(self, rows: int, count: int) -> Iterator[Span]:
        """Cut rows of outputs into at most `count` parts, each of which has vectors that those before it do not."""
        ends = [rows]
        for first, _ in reversed(even(rows, count)):
            first -= first % self.lines
            if first and self.vectors(first) < self.vectors(ends[-1]):
                ends.append(first)
        yield from pairwise((0, *reversed(ends)))

    def _add_constants(self, output: Output, share: Span, channels: Span) -> None:
        """Let an output use the biases, scales and table of its channels."""
        finish, body = self.problem.finish, output.body
        first, channels = (channels[0] - share[0], share) if self.is_held else (0, channels)
        assert finish.entries is not None
        if finish.bias is not None:
            assert isinstance(finish.bias, np.ndarray)
            output.bias = Use(self._entries("bias", Destination.BIAS, finish.bias, channels), 1)
            body |= {"bias": 1, "bias_nstep": 1, "bias_base": first}
        if finish.entries.size > 1:
            output.scale = Use(self._entries("scale", Destination.SCALE, finish.entries, channels), 1)
            body |= {"scale_nstep": 1, "scale_base": first}
        else:
            output.scale = Use(self._maker.scale(0, (0, 1)), 1)
        if finish.table is not None:
            output.table = Use(self._maker.table(0), 1)
            body["table"] = 1

    def _entries(self, name: str, memory: Destination, values: np.ndarray, channels: Span) -> Tile:
        """Tile of the entries of some channels, one behind another."""
        item = 4 if memory is Destination.BIAS else 8

        def make() -> Tile:
            data = operand_array(values.astype(np.int64), item).tobytes()
            address = self._constant(name, len(data), lambda: data)
            return stored(memory.value, (channels[1] - channels[0]) * item, address + channels[0] * item)

        return self._once((name, channels), make)


def _ends(count: int, size: int) -> list[Span]:
    """Whole parts of a size, and what is left: first and end."""
    whole = count - count % size
    return [span for span in ((0, whole), (whole, count)) if span[0] < span[1]]


def choose_beside(layer: Layer, most: float, effort: float = 1, *,
                  is_alone: bool = True) -> Lowering | None:
    """Choose how outputs of a layer lie side by side.

    Parameters
    ----------
    most : float
        Cycles of the layer alone if they do not, as :func:`.tiling.choose_tiling` gives them.
    effort : float
        How many times as long as usual to search; at least one way is timed.
    is_alone : bool
        Whether the program has no other layer, so that `most` has no price of what is loaded.

    Returns
    -------
    function or None
        What lowers layers like it in fewer cycles; None if there is no such way.
    """
    alone, left = layer.alone(), 0.0
    bounds = Bounds(layer.config, layer.timing)

    def time(cut: Cut, most: float, estimate: float | None = None) -> float:
        nonlocal left
        steps = lower_beside(cut, alone, MemoryPlan(keep=False))
        left -= len(steps)
        if bounds.least_cycles(steps) >= most:
            return float("inf")
        if estimate is not None and len(steps) > _MOST_STEPS:
            return estimate
        return cycles_of(layer.config, layer.timing, steps)

    def times(plans: Sequence[Plan], least: float) -> Iterator[tuple[float, Cut]]:
        """Yield cuts, and cycles where these are fewer than the least so far."""
        nonlocal left
        left = min(effort, 1) * _STEPS
        for number, plan in enumerate(plans):
            if number and left <= 0:
                break
            cycles = time(plan.cut, least, plan.cycles())
            least = min(least, cycles)
            yield cycles, plan.cut

    plans = fitting(layer)
    timed = [*times([plan for plan in plans if plan.lines == 1][:_FINALISTS], most)]
    least = min([most, *(cycles for cycles, _ in timed)])
    ways, tries = [cut.way for _, cut in timed if cut.way.passed], round(_TRIES * min(effort, 1))
    found = improve_strips(layer, ways[0], time, least, tries) if ways and tries else None
    timed += [found] if found else []
    timed += times([plan for plan in plans if plan.lines > 1][:_FEW], least)
    cycles, best = min(timed, key=lambda each: each[0], default=(most, None))
    if best is None or cycles >= most:
        return None
    if layer.config.has_moves and not is_alone:
        cycles += BEAT * bounds.load_beats(lower_beside(best, alone, MemoryPlan(keep=False)))
    return Lowering(lower_beside, best) if cycles < most else None


def lower_beside(cut: Cut, layer: Layer, plan: MemoryPlan) -> list[ContractionStep]:
    """Steps of a layer, in order."""
    return list(_Beside(layer, cut, plan).steps())
