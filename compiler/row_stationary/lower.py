"""Steps of a layer on a row-stationary array: setups and passes under a mapping."""

from collections.abc import Iterator

from ...golden.row_stationary import Filters, Part, Span, Work
from ...hdl.shell.commands import ADDRESS_BITS
from ..placement import MemoryPlan
from ..steps import Group, Use
from .codes import Codes
from .forms import Operand, region_of
from .mapping import LayerPlan
from .outputs import OutputMaker
from .setup import Placement
from .steps import Areas, PassStep, PsumBlock
from .tiles import TileMaker

__all__ = ["Lowering"]

_ADDRESSES = 1 << ADDRESS_BITS


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
    codes : (Codes, Codes)
        Codes of the input and of the output.
    setup : object
        How the array has been set up, to be compared with :attr:`setup` of another layer.
    """

    def __init__(self, parts: list[Operand], plan: LayerPlan, memory: MemoryPlan, codes: tuple[Codes, Codes],
                 setup: object):
        self._parts, self._plan, self._mapped, self._config = parts, plan, plan.mapped, plan.config
        self._maker = TileMaker(plan, memory, codes[0])
        self._outputs = OutputMaker(parts[0], plan, self._maker, codes[1])
        self.setup = setup
        self._areas = _areas(plan)
        self._bias: dict[object, dict[int, Use]] = {}

    def steps(self) -> Iterator[PassStep]:
        """Yield steps; regions that need the same setup follow one another."""
        for work in self._mapped.work():
            sums = self._block(work)
            for operand in self._parts:
                body = self._setup_body(operand)
                wanted = self._placement(work.groups.size, work.strip.size), tuple(body.items())
                if wanted != self.setup:
                    self.setup = wanted
                    yield PassStep(Group([]), Use(self._maker.setup(wanted[0]), 1), body)
                yield from self._passes(operand, work, sums)

    def _block(self, work: Work) -> PsumBlock:
        bias, key = {}, (work.groups, work.block)
        if self._plan.traffic.bias:
            if key not in self._bias:
                self._bias[key] = {place: Use(self._maker.bias(self._parts[0], *key), 1)
                                   for place in range(len(self._areas.biases))}
            bias = self._bias[key]
        pixels = work.images.size * work.strip.size * self._mapped.layer.output[2]
        return PsumBlock(self._areas, pixels, work.block.lines * work.groups.size, bias)

    def _placement(self, groups: int, rows: int) -> Placement:
        mapping, mapped = self._mapped.mapping, self._mapped
        pitch = mapped.ifmap_lines(rows)[1]
        return Placement(mapped.height, rows, groups, mapping.t, mapping.r,
                         mapped.stride[0] // pitch if rows > 1 else 0,
                         mapped.dilation[0] // pitch if mapped.height > 1 else 0)

    def _setup_body(self, operand: Operand) -> dict[str, int]:
        problem = operand.problem
        return {"setup": 1, "maximum": int(problem.maximum), "shift": problem.finish.shift,
                "ifmap_unsigned": int(problem.a_unsigned), "filter_unsigned": int(problem.w_unsigned),
                "ifmap_zero_point": problem.a_zero, "filter_zero_point": problem.w_zero}

    def _passes(self, operand: Operand, work: Work, sums: PsumBlock) -> Iterator[PassStep]:
        passes = [(part, copy) for part in work.parts for copy in range(len(operand.weights))]
        for index, (part, copy) in enumerate(passes):
            begins = operand is self._parts[0] and index == 0
            ends = operand is self._parts[-1] and index == len(passes) - 1
            for filters in work.block.filters:
                for images in self._mapped.pass_images(work.images):
                    step = self._pass(operand, work, sums, images, part, filters, copy)
                    if begins:
                        step.biased = self._plan.traffic.bias
                        step.body |= {"bias" if step.biased else "fresh": 1}
                    if ends:
                        region = region_of(self._parts[0].problem, images, work.strip)
                        step.group.outputs = list(self._outputs.outputs(
                            work.groups, filters, region, sums, step.pixels[0]))
                    yield step

    def _pass(self, operand: Operand, work: Work, sums: PsumBlock, images: Span, part: Part, filters: Filters,
              copy: int) -> PassStep:
        mapped, mapping, groups, rows = self._mapped, self._mapped.mapping, work.groups, work.strip.size
        tile, window = self._maker.ifmap(operand, images, work.strip, groups, part)
        (lines, pitch), dilation = mapped.ifmap_lines(rows), mapped.dilation
        beats, windows = mapped.psum_beats(filters.p), mapped.layer.output[2]
        # Whether the tile has all channels of its groups, or only those of the part.
        resident = self._plan.resident or part.channels == operand.cg
        channel = part.channel if resident else 0
        set_step = part.q
        if groups.size > 1 and mapping.r == 1:
            set_step = operand.cg if resident else part.channels
        body = {
            "window": part.window - 1, "kept": (part.taps - part.stride) * part.q if windows > 1 else 0,
            "moved": part.stride * part.q if windows > 1 else part.window,
            "filters": filters.p - 1, "windows": windows - 1, "rows": images.size - 1,
            "ifmap_base": part.row * dilation[0] * window.line + part.column * dilation[1] * window.pixel + channel,
            "ifmap_channels": part.q - 1, "ifmap_lines": lines - 1, "ifmap_line_step": pitch * window.line % _ADDRESSES,
            "ifmap_sets": groups.size * mapping.r - 1, "ifmap_set_step": set_step,
            "ifmap_columns": mapped.ifmap_columns(part) - 1, "ifmap_column_step": part.pitch * window.pixel,
            "ifmap_row_step": window.image % _ADDRESSES,
            "filter_height": mapped.height - 1, "filter_sets": mapped.sets(groups.size) - 1,
            "filter_beats": mapped.filter_beats(part, filters) - 1,
            "filter_last": (filters.p * part.window - 1) % self._config.filter_lanes,
            "psum_sets": groups.size * mapping.t - 1, "psum_rows": rows - 1, "psum_beats": beats - 1,
            "psum_last": (filters.p - 1) % self._config.psum_lanes, "psum_set_step": beats,
            "psum_window_step": sums.lines, "psum_row_step": windows * sums.lines,
            "psum_image_step": rows * windows * sums.lines,
        }
        if operand.problem.columns:
            body |= _transposed(part, rows, windows, sums.lines, channel)
        per_image, first = rows * windows, images.first - work.images.first
        return PassStep(
            Group([]), Use(self._maker.filters(operand, copy, groups, part, filters), 1), body, Use(tile, 1), sums,
            (first * per_image, (first + images.size) * per_image),
            (filters.line, filters.line + groups.size * mapping.t * beats))


def _areas(plan: LayerPlan) -> Areas:
    """Divide the global buffer. One more place for biases, where there is room, lets them come before their block."""
    lines = plan.config.buffer_lines
    size, bias, count = plan.block_buffer_lines, plan.bias_buffer_lines, plan.psum_blocks
    blocks = tuple(lines - (place + 1) * size for place in range(count))
    spare = int(bias > 0 and plan.buffer_lines + bias <= lines)
    biases = tuple(blocks[-1] - (place + 1) * bias for place in range(count + spare))
    return Areas(biases[-1], blocks, biases)


def _transposed(part: Part, rows: int, windows: int, lines: int, channel: int) -> dict[str, int]:
    """Fields of a pass over a tile [channel][pixel]: each pixel is a row of one window, whose columns are channels."""
    pitch = rows * windows
    return {
        "windows": 0, "rows": windows - 1, "kept": 0, "moved": part.window, "ifmap_base": channel * pitch,
        "ifmap_channels": 0, "ifmap_line_step": windows, "ifmap_set_step": part.q * pitch,
        "ifmap_columns": part.q - 1, "ifmap_column_step": pitch, "ifmap_row_step": 1, "psum_window_step": 0,
        "psum_image_step": lines}
