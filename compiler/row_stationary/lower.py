"""Steps of a layer on a row-stationary array: setups and passes under a mapping."""

from collections.abc import Iterator
from dataclasses import dataclass

from ...golden.row_stationary import Block, Filters, Part, Strip
from ...golden.tensors import pair
from ...hdl.shell.commands import ADDRESS_BITS
from ..placement import MemoryPlan
from ..steps import Group, Use
from .forms import Operand, region_of
from .mapping import LayerPlan
from .outputs import OutputMaker
from .setup import Placement
from .steps import Areas, PassStep, PsumBlock
from .tiles import TileMaker

__all__ = ["Lowering"]

_ADDRESSES = 1 << ADDRESS_BITS


@dataclass(frozen=True)
class _Work:
    """What the passes of a block share: its ifmaps, groups and strip, and where its sums go."""

    images: tuple[int, int]
    groups: tuple[int, int]
    strip: Strip
    filters: tuple[Filters, ...]
    parts: tuple[Part, ...]
    sums: PsumBlock


class Lowering:
    """Steps of a layer.

    Parameters
    ----------
    parts : list of Operand
        Operands, whose products are added.
    plan : LayerPlan
        Mapping.
    memory : MemoryPlan
        Where packed constants go.
    setup : object
        How the array has been set up, to be compared with :attr:`setup` of another layer.
    """

    def __init__(self, parts: list[Operand], plan: LayerPlan, memory: MemoryPlan, setup: object = None):
        self._parts, self._plan, self._mapped, self._config = parts, plan, plan.mapped, plan.config
        self.maker = TileMaker(plan, memory, plan.traffic.coded_input)
        self.outputs = OutputMaker(parts[0], plan, self.maker)
        self.setup = setup
        self._areas = _areas(plan)
        self._bias: dict[object, dict[int, Use]] = {}

    def steps(self) -> Iterator[PassStep]:
        """Yield steps; regions that need the same setup follow one another."""
        for groups, strip, images, block, parts in self._mapped.work():
            work = _Work(images, groups, strip, block.filters, parts, self._block(images, groups, strip, block))
            for operand in self._parts:
                body = self._setup_body(operand)
                wanted = self._placement(groups[1], strip), tuple(body.items())
                if wanted != self.setup:
                    self.setup = wanted
                    yield PassStep(Group([]), Use(self.maker.setup(wanted[0]), 1), body)
                yield from self._passes(operand, work)

    def _block(self, images: tuple[int, int], groups: tuple[int, int], strip: Strip, block: Block) -> PsumBlock:
        pixels = images[1] * strip.rows * self._mapped.layer.output[2]
        bias = {}
        if self._biased:
            key = groups, block
            if key not in self._bias:
                self._bias[key] = {place: Use(self.maker.bias(self._parts[0], groups, block), 1)
                                   for place in range(len(self._areas.biases))}
            bias = self._bias[key]
        return PsumBlock(self._areas, pixels, block.lines * groups[1], bias)

    @property
    def _biased(self) -> bool:
        """Whether sums begin at biases, one for each channel."""
        finish = self._parts[0].problem.finish
        return finish.bias is not None and finish.bias_rows is None

    def _placement(self, groups: int, strip: Strip) -> Placement:
        mapping, mapped = self._mapped.mapping, self._mapped
        u, dilation = pair("stride", mapped.layer.stride)[0], pair("dilation", mapped.layer.dilation)[0]
        pitch = mapped.ifmap_lines(strip)[1]
        return Placement(mapped.height, strip.rows, groups, mapping.t, mapping.r, u // pitch if strip.rows > 1 else 0,
                         dilation // pitch if mapped.height > 1 else 0)

    def _setup_body(self, operand: Operand) -> dict[str, int]:
        problem = operand.problem
        return {"setup": 1, "maximum": int(problem.maximum), "shift": problem.finish.shift,
                "ifmap_unsigned": int(problem.a_unsigned), "filter_unsigned": int(problem.w_unsigned),
                "ifmap_zero_point": problem.a_zero, "filter_zero_point": problem.w_zero}

    def _passes(self, operand: Operand, work: _Work) -> Iterator[PassStep]:
        parts, copies = work.parts, len(operand.weights)
        for index, part in enumerate(parts):
            for copy in range(copies):
                begins = operand is self._parts[0] and index == copy == 0
                ends = operand is self._parts[-1] and (index, copy) == (len(parts) - 1, copies - 1)
                for filters in work.filters:
                    for images in self._mapped.pass_images(work.images):
                        step = self._pass(operand, work, images, part, filters, copy)
                        if begins:
                            step.body |= {"bias" if self._biased else "fresh": 1}
                            step.biased = self._biased
                        if ends:
                            region = region_of(self._parts[0].problem, images, work.strip.first, work.strip.rows)
                            step.group.outputs = list(self.outputs.outputs(
                                work.groups, filters, region, work.sums, step.pixels[0]))
                        yield step

    def _pass(self, operand: Operand, work: _Work, images: tuple[int, int], part: Part, filters: Filters,
              copy: int) -> PassStep:
        mapped, mapping, groups, strip = self._mapped, self._mapped.mapping, work.groups, work.strip
        tile, window = self.maker.ifmap(operand, images, strip, groups, part)
        lines, pitch = mapped.ifmap_lines(strip)
        dilation = pair("dilation", mapped.layer.dilation)
        beats, windows = mapped.psum_beats(filters.p), mapped.layer.output[2]
        # Whether the tile has all channels of its groups, or only those of the part.
        resident = self._plan.resident or part.channels == operand.cg
        channel = part.channel if resident else 0
        set_step = part.q
        if groups[1] > 1 and mapping.r == 1:
            set_step = operand.cg if resident else part.channels
        body = {
            "window": part.window - 1, "kept": (part.taps - part.stride) * part.q if windows > 1 else 0,
            "moved": part.stride * part.q if windows > 1 else part.window,
            "filters": filters.p - 1, "windows": windows - 1, "rows": images[1] - 1,
            "ifmap_base": part.row * dilation[0] * window.line + part.column * dilation[1] * window.pixel + channel,
            "ifmap_channels": part.q - 1, "ifmap_lines": lines - 1, "ifmap_line_step": pitch * window.line % _ADDRESSES,
            "ifmap_sets": groups[1] * mapping.r - 1, "ifmap_set_step": set_step,
            "ifmap_columns": mapped.ifmap_columns(part) - 1, "ifmap_column_step": part.pitch * window.pixel,
            "ifmap_row_step": window.image % _ADDRESSES,
            "filter_height": mapped.height - 1, "filter_sets": mapped.sets(groups[1]) - 1,
            "filter_beats": mapped.filter_beats(part, filters) - 1,
            "filter_last": (filters.p * part.window - 1) % self._config.filter_lanes,
            "psum_sets": groups[1] * mapping.t - 1, "psum_rows": strip.rows - 1, "psum_beats": beats - 1,
            "psum_last": (filters.p - 1) % self._config.psum_lanes, "psum_set_step": beats,
            "psum_window_step": work.sums.lines, "psum_row_step": windows * work.sums.lines,
            "psum_image_step": strip.rows * windows * work.sums.lines,
        }
        if operand.problem.columns:
            body |= _transposed(part, strip, windows, work.sums.lines, channel)
        per_image, first = strip.rows * windows, images[0] - work.images[0]
        return PassStep(
            Group([]), Use(self.maker.filters(operand, copy, groups, part, filters), 1), body, Use(tile, 1), work.sums,
            (first * per_image, (first + images[1]) * per_image),
            (filters.line, filters.line + groups[1] * mapping.t * beats))


def _areas(plan: LayerPlan) -> Areas:
    """Divide the global buffer. One more place for biases, where there is room, lets them come before their block."""
    lines = plan.config.buffer_lines
    size, bias, count = plan.block_buffer_lines, plan.bias_buffer_lines, plan.psum_blocks
    blocks = tuple(lines - (place + 1) * size for place in range(count))
    spare = int(bias > 0 and plan.buffer_lines + bias <= lines)
    biases = tuple(blocks[-1] - (place + 1) * bias for place in range(count + spare))
    return Areas(biases[-1], blocks, biases)


def _transposed(part: Part, strip: Strip, windows: int, lines: int, channel: int) -> dict[str, int]:
    """Fields of a pass over a tile [channel][pixel]: each pixel is a row of one window, whose columns are channels."""
    pitch = strip.rows * windows
    return {
        "windows": 0, "rows": windows - 1, "kept": 0, "moved": part.window, "ifmap_base": channel * pitch,
        "ifmap_channels": 0, "ifmap_line_step": windows, "ifmap_set_step": part.q * pitch,
        "ifmap_columns": part.q - 1, "ifmap_column_step": pitch, "ifmap_row_step": 1, "psum_window_step": 0,
        "psum_image_step": lines}
