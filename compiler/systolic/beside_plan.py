"""Output pixels of a channel side by side: how they lie, how a layer is cut, where all stands, what it costs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise, product

from ...hdl.shell.commands import COMMAND_BYTES, Rounding
from ...hdl.systolic.slots import toeplitz_slots
from .candidates import halves
from .geometry import congruent
from .layer import Layer

__all__ = ["Cut", "Phase", "Plan", "Span", "Strip", "Way", "fitting"]

#: Ways to lay outputs side by side, of least cycles of the array, that are combined with cuts.
_WAYS = 4

#: Parts into which channels are cut to be computed one after another.
_SHARES = (2, 3)

#: Groups of lanes of a row that post-processing can count.
_MOST_GROUPS = 16


#: Rows of outputs of a strip, and channels of each of its groups.
Strip = tuple[int, tuple[int, ...]]

#: First row or channel, and that behind the last.
Span = tuple[int, int]


@dataclass(frozen=True)
class Way:
    """How outputs of an image lie side by side."""

    #: Columns of outputs of a vector.
    width: int
    #: Whether vectors go on from a row of outputs to the next; outputs in between are dropped.
    flat: bool
    #: Whether weights are passed on diagonally: an EXECUTE for each tile of the contraction.
    passed: bool = False
    #: Rows of outputs of a vector.
    lines: int = 1


@dataclass(frozen=True)
class Cut:
    """A way, and sizes of parts."""

    way: Way
    #: Channels and rows of outputs of a group.
    channels: int
    rows: int
    #: Rows of outputs whose input is a tile of activations, and whether it holds all channels of a share.
    strip: int
    whole: bool
    #: Whether outputs of a group's rows are stored when those of all channels of a share are there.
    joined: bool
    #: Channels of which a whole image is computed before others.
    share: int
    #: Rows of each strip of an image and channels of its groups where they are not all alike; then `channels`, `rows`
    #: and `strip` are the most, and strips hold all channels.
    strips: tuple[Strip, ...] = ()

    def finer(self, share: float) -> "Cut":
        """The same with groups of a share of the channels, unless strips have sizes of their own."""
        return self if self.strips else replace(self, channels=max(1, round(share * self.channels)))


@dataclass(frozen=True)
class Phase:
    """Columns of the filter and of the image that are `step` apart, as a contraction for one vector."""

    #: First column of the filter, and columns.
    first: int
    taps: int
    step: int
    #: Pixels of a row of the input that stand in the scratchpad, and elements from a row of the filter, or of the
    #: input that a vector sees, to the next.
    columns: int
    line: int
    #: Elements of the contraction, those of zero weights that fill the last tile included.
    size: int


def _can_lie_beside(layer: Layer) -> bool:
    """Whether a layer is one whose outputs may lie side by side."""
    problem, finish = layer.problem, layer.problem.finish
    return (layer.config.has_transposed and problem.channelwise and not problem.maximum and not problem.added
            and not problem.repeat and problem.r * problem.s > 1 and (problem.dilation[1] == 1 or problem.s == 1)
            and finish.rounding is not Rounding.NONE and finish.pair is None and finish.steps is None
            and finish.bias_rows is None and finish.sums == 1
            and not (finish.table is not None and finish.table.ndim > 1))


def _parts(first: int, end: int, most: int) -> list[Span]:
    """Cut a range into parts of `most`, but for the last."""
    return [(at, min(at + most, end)) for at in range(first, end, most)]


def _spans(sizes: Iterable[int]) -> list[Span]:
    """Spans of parts that follow one another from 0 on."""
    return list(pairwise(accumulate(sizes, initial=0)))


class Plan:
    """A layer under a cut: its vectors, and where all stands."""

    def __init__(self, layer: Layer, cut: Cut):
        self.layer, self.problem, self.config, self.cut = layer, layer.problem, layer.config, cut
        self.item, self.lanes = layer.config.operand_bytes, layer.config.post.lanes
        self.width, self.flat, self.passed = cut.way.width, cut.way.flat, cut.way.passed
        #: Rows of outputs of a vector, and its outputs.
        self.lines, self.outputs = cut.way.lines, cut.way.lines * cut.way.width
        self.held = cut.share if cut.whole else cut.channels
        #: Distance of pixels in the activation scratchpad, in operands.
        self.pitch = self.held + (1 - self.held) % layer.banks

    @cached_property
    def blocks(self) -> int:
        """Vectors of as many rows of outputs as one has, if they do not go on in the next."""
        return -(-self.problem.q // self.width)

    @cached_property
    def phases(self) -> list[Phase]:
        """Contractions that add up to a vector's outputs."""
        problem, step, found = self.problem, self.problem.stride[1], []
        for first in range(min(step, problem.s)):
            taps = -(-(problem.s - first) // step)
            if self.flat:
                columns = line = self._shared_columns()
                size = (problem.r - 1) * line + self.width + taps - 1
            else:
                columns, line = self.blocks * self.width + taps - 1, self.width + taps - 1
                size = (problem.r if self.lines == 1 else self.in_rows(self.lines)) * line
            if self.passed:
                size += -size % self.config.array.rows
            found.append(Phase(first, taps, step, columns, line, size))
        return found

    def parts(self, phase: Phase) -> list[int]:
        """First elements of the EXECUTEs of a phase."""
        return list(range(0, phase.size, self.config.array.rows)) if self.passed else [0]

    def run_count(self, phase: Phase) -> int:
        """Elements of an EXECUTE up to where the scratchpad's next row of pixels begins."""
        if not self.is_folded:
            return phase.size
        return min(phase.line, self.config.array.rows) if self.passed else phase.line

    def offset(self, phase: Phase, element: int) -> int:
        """Operands from the first element of a phase to another."""
        if not self.is_folded:
            return element * self.pitch
        row, column = divmod(element, phase.line)
        return row * self.row_step * self.line(phase) + column * self.pitch

    @cached_property
    def is_folded(self) -> bool:
        """Whether elements of the contraction are of several rows of the input, which stand apart."""
        return not self.flat and self.row_step * (self.problem.r - 1) + self.lines > 1

    @cached_property
    def row_step(self) -> int:
        """Rows of the input from one of the contraction to the next."""
        return self.problem.dilation[0] if self.lines == 1 else 1

    def _shared_columns(self) -> int:
        """Pixels from a row to the next if the padding behind a row is that in front of the next, as far as it can."""
        problem = self.problem
        seen = problem.q + problem.s - 1
        behind = max(0, seen - problem.left - problem.width)
        return seen - (behind if behind <= problem.left else 0)

    @cached_property
    def tiles(self) -> int:
        """Tiles of the contraction of a vector."""
        return sum(-(-phase.size // self.config.array.rows) for phase in self.phases)

    def vectors(self, rows: int) -> int:
        """Vectors of some rows of outputs."""
        if self.flat:
            return -(-((rows - 1) * self.phases[0].line + self.problem.q) // self.width)
        return -(-rows // self.lines) * self.blocks

    def channels(self) -> list[Span]:
        """Shares of the channels."""
        return _parts(0, self.problem.cg, self.cut.share)

    def strips(self, share: Span) -> list[tuple[Span, list[Span], list[Span]]]:
        """Strips of a share of an image: their rows of outputs, the rows of their groups, and the channels of those."""
        cut, problem = self.cut, self.problem
        if cut.strips:
            rows = _spans(rows for rows, _ in cut.strips)
            return [(span, [span], _spans(channels)) for span, (_, channels) in zip(rows, cut.strips, strict=True)]
        return [(strip, _parts(*strip, cut.rows), _parts(*share, cut.channels))
                for strip in _parts(0, problem.p, cut.strip)]

    def in_rows(self, rows: int) -> int:
        """Rows of the input that some rows of outputs see."""
        return (rows - 1) * self.problem.stride[0] + self.problem.dilation[0] * (self.problem.r - 1) + 1

    def line(self, phase: Phase) -> int:
        """Distance of rows in the activation scratchpad, in operands."""
        least = phase.columns * self.pitch
        return congruent(least, self.row_step, phase.line, self.layer.banks) if self.is_folded else least

    def extent(self, phase: Phase, rows: int) -> int:
        """Operands that rows of outputs see of a phase, whatever the last vector sees behind them included."""
        if self.flat:
            pixels = max(self.vectors(rows) * self.width + phase.size - self.width, self.in_rows(rows) * phase.columns)
            return (pixels - 1) * self.pitch + self.held
        line = self.line(phase)
        seen = (self.in_rows(rows) - 1) * line + (phase.columns - 1) * self.pitch
        # What fills the last tile may be a row more, and the last vector may have rows more.
        last = ((-(-rows // self.lines) - 1) * self.lines * self.problem.stride[0] * line
                + (self.blocks - 1) * self.width * self.pitch + self.offset(phase, phase.size - 1))
        return max(seen, last) + self.held

    def last_row(self, phase: Phase, first: int, end: int) -> int:
        """Last row of the input that rows of outputs read of a phase, what fills its last tile included."""
        stride = self.problem.stride[0]
        if self.flat:
            return (first * stride * phase.columns + self.vectors(end - first) * self.width + phase.size - self.width
                    - 1) // phase.columns
        return (end - 1) * stride + self.problem.dilation[0] * ((phase.size - 1) // phase.line)

    def places(self, rows: int) -> list[int]:
        """Where each phase's pixels begin in a tile of activations, and how many operands it has in all."""
        ends = [0]
        for phase in self.phases:
            ends.append(ends[-1] + self.extent(phase, rows))
        return ends

    @cached_property
    def out_lines(self) -> int:
        """Lines of the output scratchpad from a pixel to the next, one operand less."""
        return -(-(self.stored - 1) * self.item // self.config.output_banks)

    @property
    def stored(self) -> int:
        """Channels that are stored together."""
        return self.cut.share if self.cut.joined else self.cut.channels

    @cached_property
    def out_pitch(self) -> int:
        """Bytes from a pixel to the next in the output scratchpad."""
        return self.out_lines * self.config.output_banks + self.item

    @cached_property
    def out_groups(self) -> int:
        """Groups of lanes of a row of sums that have outputs."""
        return -(-self.outputs // self.lanes)

    def out_size(self, rows: int) -> int:
        """Bytes of some rows of outputs, with those that are written behind the last."""
        pixels = (self.vectors(rows) - 1) * self.outputs + self.out_groups * self.lanes
        return (pixels - 1) * self.out_pitch + self.stored * self.item

    @property
    def fits(self) -> bool:
        """Whether all has room, and can be walked."""
        cut, pads, problem = self.cut, self.config.scratchpads, self.problem
        if self.sums > self.layer.depth or self.out_groups > _MOST_GROUPS or (
                2 * self.out_size(min(cut.rows, problem.p)) > pads.output_bytes or cut.channels * 2 > pads.channels):
            return False
        rows = self.config.array.rows
        # A tile must not begin between rows of the filter and go on to the next.
        if self.passed and self.is_folded and any(
                rows % phase.line and phase.line % rows for phase in self.phases):
            return False
        if self.is_folded and any(
                (self.line(phase) * self.row_step - phase.line) % self.layer.banks for phase in self.phases):
            return False
        weights = sum(self.weight_bytes(phase, cut.share if self.is_held else cut.channels) for phase in self.phases)
        return (self.places(min(cut.strip, problem.p))[-1] * self.item <= pads.activation_bytes
                and weights <= pads.weight_bytes)

    @property
    def sums(self) -> int:
        """Rows of sums of a group at most."""
        if self.cut.strips:
            return max(self.vectors(rows) * max(channels) for rows, channels in self.cut.strips)
        return self.vectors(min(self.cut.rows, self.problem.p)) * self.cut.channels

    @cached_property
    def is_held(self) -> bool:
        """Whether filters of all channels of a share stand together, and biases and scales as well."""
        return self._can_stay(self.cut.share)

    @cached_property
    def all_stay(self) -> bool:
        """Whether filters of all channels can stay, and biases and scales as well."""
        return self._can_stay(self.problem.cg)

    def _can_stay(self, channels: int) -> bool:
        pads = self.config.scratchpads
        weights = sum(self.weight_bytes(phase, channels) for phase in self.phases)
        return 2 * weights <= pads.weight_bytes and 2 * channels <= pads.channels

    def weight_bytes(self, phase: Phase, channels: int) -> int:
        """Bytes of the filters of some channels, zeros before the first and behind the last included."""
        return ((channels * phase.size - 1) * self.lines + self.config.array.cols) * self.item

    def cycles(self) -> float:
        """Estimated cycles."""
        layer, problem, cut, rows = self.layer, self.problem, self.cut, self.config.array.rows
        images, shares_of = problem.images, -(-problem.cg // cut.share)
        groups_of = shares_of * -(-cut.share // cut.channels)
        strips = [min(cut.strip, problem.p - at) for at in range(0, problem.p, cut.strip)]
        parts = [min(cut.rows, strip - at) for strip in strips for at in range(0, strip, cut.rows)]
        least = toeplitz_slots(self.config) if self.passed else rows
        compute = sum(max(self.vectors(part), least) for part in parts) * self.tiles * problem.cg
        executes = sum(len(self.parts(phase)) for phase in self.phases)
        compute += (8 + rows - least) * len(parts) * groups_of * executes
        seen = sum(self.in_rows(strip) for strip in strips) * min(
            sum(phase.columns for phase in self.phases), problem.width)
        loads = layer.row_beats(self.held * self.item, seen) * (shares_of if cut.whole else groups_of)
        loads += (len(parts) * groups_of * 4 * COMMAND_BYTES + sum(
            self.weight_bytes(phase, problem.cg) for phase in self.phases)
            * (1 if self.is_held else len(strips))) / self.config.beat_bytes
        stores = layer.row_beats(self.stored * self.item, problem.p * problem.q) * -(-problem.cg // self.stored)
        posts = sum(map(self.vectors, parts)) * problem.cg * self.out_groups
        begin = layer.row_beats(self.held * self.item, self.in_rows(parts[0]) * problem.width)
        end = (posts / groups_of + stores / -(-problem.cg // self.stored)) / len(parts)
        serial = 0.0
        if 2 * self.places(strips[0])[-1] * self.item > self.config.scratchpads.activation_bytes:
            serial = loads * (1 - 1 / (len(strips) * (shares_of if cut.whole else groups_of)))
        return images * (max(compute, loads, stores, posts) + serial) + begin + end


def _ways(layer: Layer) -> list[Way]:
    """Ways to lay outputs side by side that take the fewest cycles of the array."""
    problem, array = layer.problem, layer.config.array
    flat = (False, True) if problem.stride == problem.dilation == (1, 1) else (False,)
    # Pixels of a channel are not worth it.
    found = [Way(width, each) for each in flat for width in range(2, array.cols + 1)]
    several = [Way(width, False, lines=lines) for lines in range(2, min(problem.p, array.cols) + 1)
               for width in range(1, min(problem.q, array.cols // lines) + 1)]

    def cycles(way: Way) -> tuple[int, int, int]:
        plan = Plan(layer, Cut(way, problem.cg, problem.p, problem.p, True, True, problem.cg))
        least = toeplitz_slots(layer.config) if way.passed else array.rows
        # Where an image is cut, wider vectors leave less over.
        return plan.tiles * max(plan.vectors(problem.p), least), plan.out_groups, -way.width * way.passed

    ways = sorted(found, key=cycles)[:_WAYS]
    # Several rows are more to load at once.
    ways += [way for way in sorted(several, key=cycles)[:_WAYS // 2] if cycles(way) < cycles(ways[0])]
    if layer.config.has_toeplitz:
        ways += sorted((replace(way, passed=True) for way in found), key=cycles)[:_WAYS]
    return ways


def _shares(layer: Layer) -> list[int]:
    """Numbers of channels of which whole images may be computed before others: all, or whole beats of memory."""
    channels, beat = layer.problem.cg, layer.config.beat_bytes // layer.config.operand_bytes
    parts = {-(-channels // (count * beat)) * beat for count in _SHARES}
    return [channels, *sorted((each for each in parts if each < channels), reverse=True)]


def _cuts(layer: Layer) -> Iterator[Cut]:
    """Yield ways and sizes of parts."""
    problem = layer.problem
    for way in _ways(layer):
        several = [way.lines * count for count in (1, 2, 3, 4, 6, 8)] if way.lines > 1 else [
            *halves(problem.p), *range(1, 5), *(-(-problem.p // parts) for parts in range(2, 6))]
        for share in _shares(layer) if way.lines > 1 else [problem.cg]:
            for channels, rows in product(halves(share), sorted({*several, problem.p})):
                if rows > problem.p:
                    continue
                strips = {rows} if way.flat else {rows * count for count in (1, 2, 4, 8, 16)} | {problem.p}
                forms = [(True, True)] if channels == share else [(True, True), (True, False), (False, False)]
                for strip, (whole, joined) in product(sorted({min(strip, problem.p) for strip in strips}), forms):
                    yield Cut(way, channels, rows, strip, whole, joined, share)


def fitting(layer: Layer) -> list[Plan]:
    """Ways and cuts of a layer that fit, those of least estimated cycles first; none if outputs can't lie so."""
    if not _can_lie_beside(layer):
        return []
    plans = (Plan(layer, cut) for cut in dict.fromkeys(_cuts(layer)))
    return sorted((plan for plan in plans if plan.fits), key=Plan.cycles)
