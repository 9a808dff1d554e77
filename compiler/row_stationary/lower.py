"""Steps of a layer on a row-stationary array: setups and passes, and what becomes of their sums."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...golden.cost import ConvLayer
from ...golden.row_stationary import Block, Filters, Part, Strip
from ...golden.row_stationary import Mapping as PassMapping
from ...golden.tensors import pair
from ...hdl.commands import ADDRESS_BITS, Rounding
from ...hdl.config import RowStationaryConfig
from ...hdl.errors import PearrayError
from ..lower import split_region
from ..plan import Layout, MemoryPlan, Stored
from ..problem import Matrix, Problem, Region
from ..schedule import Group, LayerStep, Output, Use
from ..tiles import block, blocks
from .codes import CodedTensor, Unit, room
from .forms import Operand, is_row, operands, rectangles, shape_of
from .mapper import mapping_of, plan_of
from .mapping import LayerPlan, Traffic
from .setup import Placement
from .tiles import TileMaker, runs

__all__ = ["Areas", "Chooser", "Mappings", "PassStep", "PsumBlock", "lower"]

#: Where mappings come from; see :func:`.mapper.mapping_of`.
Mappings = str | Mapping[str, Any]

_ADDRESSES = 1 << ADDRESS_BITS


@dataclass(frozen=True)
class Areas:
    """Lines of the global buffer that a layer uses: ifmaps from line 0 on, blocks of psums with their biases above.

    Parameters
    ----------
    ifmaps : int
        Lines for tiles of ifmaps.
    blocks : tuple of int
        First line of each place for a block.
    """

    ifmaps: int
    blocks: tuple[int, ...]


@dataclass(eq=False)
class PsumBlock:
    """Psums that are together in the global buffer until all channels have been added.

    Parameters
    ----------
    areas : Areas
        Where the layer's blocks stand.
    pixels, lines : int
        Pixels, and lines of each.
    bias : dict of int to Tile
        Tile of biases behind the psums, for each place; empty for none.
    """

    areas: Areas
    pixels: int
    lines: int
    bias: dict[int, Use]
    #: First line, once the scheduler has chosen it.
    address: int = -1
    place: int = -1


@dataclass(eq=False)
class PassStep(LayerStep):
    """One EXECUTE: a pass, or a setup, which has no ifmap and no block.

    Parameters
    ----------
    group : Group
        Outputs that can be made when the pass is done; a record behind it if it is the last one of its layer.
    filters : Use
        Filters, or lines of a setup.
    body : dict
        Body, with addresses relative to the tiles and the block.
    ifmap : Use or None
        Tile of ifmaps.
    block : PsumBlock or None
        Where sums go.
    pixels, lines : (int, int)
        Pixels of the block, and lines of each, that the pass works on: first and end.
    biased : bool
        Sums begin at the block's biases.
    """

    filters: Use
    body: dict[str, int]
    ifmap: Use | None = None
    block: PsumBlock | None = None
    pixels: tuple[int, int] = (0, 0)
    lines: tuple[int, int] = (0, 0)
    biased: bool = False


class _Lowering:
    def __init__(self, parts: list[Operand], plan: LayerPlan, memory: MemoryPlan):
        self._parts, self._plan, self._mapped, self._config = parts, plan, plan.mapped, plan.config
        self.maker = self._maker = TileMaker(plan, memory, plan.traffic.coded_input)
        #: Codes of ofmaps, and their STOREs, whose addresses count from the first code.
        self.codes: list[Unit] = []
        self.code_stores: list[dict[str, int]] = []
        self._problem = parts[0].problem
        config, size = plan.config, plan.block_buffer_lines + plan.bias_buffer_lines
        places = tuple(config.buffer_lines - (place + 1) * size for place in range(plan.psum_blocks))
        self._areas = Areas(places[-1], places)
        self._bias: dict[object, dict[int, Use]] = {}

    def steps(self) -> Iterator[PassStep]:
        """Yield steps; regions that need the same setup follow one another."""
        mapped = self._mapped
        regions = [(images, groups, strip) for groups in mapped.groups for strip in mapped.strips
                   for images in mapped.images]
        regions.sort(key=lambda region: (-region[1][1], -region[2].rows))
        now: object = None
        for images, groups, strip in regions:
            for together in mapped.blocks:
                sums = self._block(images, groups, strip, together)
                first = True
                for operand in self._parts:
                    wanted = self._setup_key(operand, groups[1], strip)
                    if wanted != now:
                        yield self._setup(operand, groups[1], strip)
                        now = wanted
                    last = operand is self._parts[-1]
                    yield from self._passes(operand, images, groups, strip, together, sums, first, last)
                    first = False

    def _block(self, images: tuple[int, int], groups: tuple[int, int], strip: Strip, together: Block) -> PsumBlock:
        pixels = images[1] * strip.rows * self._mapped.layer.output[2]
        lines = together.lines * groups[1]
        bias = {}
        if self._biased:
            key = groups, together
            if key not in self._bias:
                self._bias[key] = {place: Use(self._maker.bias(self._parts[0], groups, together), 1)
                                   for place in range(len(self._areas.blocks))}
            bias = self._bias[key]
        return PsumBlock(self._areas, pixels, lines, bias)

    @property
    def _biased(self) -> bool:
        """Whether sums begin at biases, one for each channel."""
        bias = self._problem.finish.bias
        return bias is not None and not (isinstance(bias, Stored) and bias.pixels > 1)

    def _placement(self, groups: int, strip: Strip) -> Placement:
        mapping, mapped = self._mapped.mapping, self._mapped
        u, dilation = pair("stride", mapped.layer.stride)[0], pair("dilation", mapped.layer.dilation)[0]
        pitch = mapped.ifmap_lines(strip)[1]
        return Placement(mapped.height, strip.rows, groups, mapping.t, mapping.r, u // pitch if strip.rows > 1 else 0,
                         dilation // pitch if mapped.height > 1 else 0)

    def _setup_key(self, operand: Operand, groups: int, strip: Strip) -> object:
        return self._placement(groups, strip), tuple(self._setup_body(operand).items())

    def _setup_body(self, operand: Operand) -> dict[str, int]:
        problem = operand.problem
        return {"setup": 1, "maximum": int(problem.maximum), "shift": problem.finish.shift,
                "ifmap_unsigned": int(problem.a_unsigned), "filter_unsigned": int(problem.w_unsigned),
                "ifmap_zero_point": problem.a_zero, "filter_zero_point": problem.w_zero}

    def _setup(self, operand: Operand, groups: int, strip: Strip) -> PassStep:
        tile = self._maker.setup(self._placement(groups, strip))
        return PassStep(Group([]), Use(tile, 1), self._setup_body(operand))

    def _passes(self, operand: Operand, images: tuple[int, int], groups: tuple[int, int], strip: Strip,
                together: Block, sums: PsumBlock, first: bool, last: bool) -> Iterator[PassStep]:
        for index, part in enumerate(self._mapped.parts):
            for copy in range(len(operand.weights)):
                begins = first and index == copy == 0
                ends = last and index == len(self._mapped.parts) - 1 and copy == len(operand.weights) - 1
                for filters in together.filters:
                    for some in self._mapped.pass_images(images):
                        yield self._pass(operand, copy, images[0], some, groups, strip, part, filters, sums, begins,
                                         ends)

    def _pass(self, operand: Operand, copy: int, image: int, images: tuple[int, int], groups: tuple[int, int], strip: Strip,
              part: Part, filters: Filters, sums: PsumBlock, begins: bool, ends: bool) -> PassStep:
        mapped, mapping = self._mapped, self._mapped.mapping
        tile, window = self._maker.ifmap(operand, images, strip, groups, part)
        lines, pitch = mapped.ifmap_lines(strip)
        dilation = pair("dilation", mapped.layer.dilation)
        beats, windows = mapped.psum_beats(filters.p), mapped.layer.output[2]
        resident = self._plan.resident or part.channels == operand.cg
        set_step = part.q
        if groups[1] > 1 and mapping.r == 1:
            set_step = operand.cg if resident else part.channels
        taken = mapped.sets(groups[1])
        body = {
            "fresh": int(begins and not self._biased), "bias": int(begins and self._biased),
            "window": part.window - 1, "kept": (part.taps - part.stride) * part.q, "moved": part.stride * part.q,
            "filters": filters.p - 1, "windows": windows - 1, "rows": images[1] - 1,
            "ifmap_base": (part.row * dilation[0] * window.line + part.column * dilation[1] * window.pixel
                           + (part.channel if resident else 0)),
            "ifmap_channels": part.q - 1, "ifmap_lines": lines - 1, "ifmap_line_step": pitch * window.line % _ADDRESSES,
            "ifmap_sets": groups[1] * mapping.r - 1, "ifmap_set_step": set_step,
            "ifmap_columns": mapped.ifmap_columns(part) - 1, "ifmap_column_step": part.pitch * window.pixel,
            "ifmap_row_step": window.image % _ADDRESSES,
            "filter_height": mapped.height - 1, "filter_sets": taken - 1,
            "filter_beats": mapped.filter_beats(part, filters) - 1,
            "filter_last": (filters.p * part.window - 1) % self._config.filter_lanes,
            "psum_sets": groups[1] * mapping.t - 1, "psum_rows": strip.rows - 1, "psum_beats": beats - 1,
            "psum_last": (filters.p - 1) % self._config.psum_lanes, "psum_set_step": beats,
            "psum_window_step": sums.lines, "psum_row_step": windows * sums.lines,
            "psum_image_step": strip.rows * windows * sums.lines,
        }
        if windows == 1:
            body |= {"kept": 0, "moved": part.window}
        if operand.problem.columns:
            body |= _transposed(part, strip, windows, sums.lines, part.channel if resident else 0)
        per_image = strip.rows * windows
        pixels = (images[0] - image) * per_image, (images[0] - image + images[1]) * per_image
        step = PassStep(Group([]), Use(self._maker.filters(operand, copy, groups, part, filters), 1), body,
                        Use(tile, 1), sums, pixels, (filters.line, filters.line + groups[1] * mapping.t * beats),
                        begins and self._biased)
        if ends:
            region = Region(images[0], images[0] + images[1], strip.first, strip.first + strip.rows, 0, windows)
            step.group.outputs = list(self._outputs(operand, groups, filters, region, sums, pixels[0]))
        return step

    def _outputs(self, operand: Operand, groups: tuple[int, int], filters: Filters, region: Region,
                 sums: PsumBlock, pixel: int) -> Iterator[Output]:
        channels = self._maker.channels(operand, groups, filters)
        if self._config.truncate:
            yield self._store_sums(channels, pixel * sums.lines + filters.line, region, sums)
            return
        used = int(np.flatnonzero((channels >= 0).any(1))[-1]) + 1
        finish, config = self._problem.finish, self._config
        size = config.psum_lanes * self._problem.item(config)
        most = min(max(1, config.scratchpads.channels // 2 // config.psum_lanes),
                   max(1, config.scratchpads.output_bytes // 2 // size))
        if finish.table is not None and finish.table.ndim == 2:
            most = 1
        for start in range(0, used, most):
            part = channels[start:min(start + most, used)]
            if (part >= 0).any():
                yield from self._posts(part, pixel * sums.lines + filters.line + start, region, sums)

    def _posts(self, channels: np.ndarray, line: int, region: Region, sums: PsumBlock) -> Iterator[Output]:
        """POSTs of some lines of all pixels of a region, and their STOREs."""
        config, finish = self._config, self._problem.finish
        size, lines = config.psum_lanes * self._problem.item(config), len(channels)
        most = max(1, config.scratchpads.output_bytes // 2 // (lines * size))
        matrix = isinstance(finish.bias, Stored) and finish.bias.pixels > 1
        if matrix:
            most = min(most, max(1, config.scratchpads.channels // 2 // channels.size))
        start = 0
        for piece in split_region(region, most):
            body = {"rounding": finish.rounding.value, "zero_point": finish.zero_point, "low": finish.low,
                    "high": finish.high, "n_count": piece.pixels, "m_count": lines,
                    "acc_base": start * sums.lines + line, "acc_nstep": sums.lines, "out_nstep": lines * size,
                    "out_mstep": size}
            output = Output(body, piece.pixels * lines * size, [],
                            (self._problem.y, self._numbers(piece), int((channels >= 0).sum())))
            if matrix:
                first = piece.first(self._problem)
                body |= {"bias": 1, "bias_nstep": lines, "bias_mstep": 1}
                output.bias = Use(self._maker.bias_rows(self._parts[0], channels, first, first + piece.pixels), 1)
            if finish.rounding is not Rounding.NONE:
                assert finish.entries is not None
                output.scale = Use(self._maker.scale(self._parts[0], channels), 1)
                if finish.entries.size > 1:
                    body |= {"per_channel": 1, "scale_mstep": 1}
                if finish.table is not None:
                    body["table"] = 1
                    output.table = Use(self._maker.table(self._parts[0], channels), 1)
            elif finish.relu:
                body["table"] = 1
            output.stores = self._stores(channels, piece, 0, lines * size)
            yield output
            start += piece.pixels

    def _store_sums(self, channels: np.ndarray, line: int, region: Region, sums: PsumBlock) -> Output:
        """STOREs of lines of finished sums, as they stand in the global buffer."""
        width = self._config.line_bytes
        target = self._problem.y, self._numbers(region), int((channels >= 0).sum())
        if self._plan.traffic.coded_output:
            return Output({}, 0, [self._code(channels, line, region, sums)], target)
        stores = [body | {"relu": int(self._problem.finish.relu)}
                  for body in self._stores(channels, region, line * width, sums.lines * width)]
        return Output({}, 0, stores, target)

    def _code(self, channels: np.ndarray, line: int, region: Region, sums: PsumBlock) -> dict[str, int]:
        """STORE of lines of finished sums as one code."""
        width, problem = self._config.line_bytes, self._problem
        channels = channels[:int(np.flatnonzero((channels >= 0).any(1))[-1]) + 1].reshape(-1)
        elements = region.numbers(problem)[:, None] * problem.y.channels + channels
        offset = sum(room(len(unit.elements)) for unit in self.codes)
        self.codes.append(Unit(offset, np.where(channels < 0, -1, elements).reshape(-1), {
            "images": [region.image0, region.image1 - region.image0], "rows": [region.p0, region.p1 - region.p0],
            "columns": [0, region.q1], "channels": [[first, count] for _, first, count in runs(channels)]}))
        body = block(dram=offset, address=line * width, length=channels.size * self._config.sum_bytes,
                     dims=[(region.pixels, 0, sums.lines * width)])
        self.code_stores.append(body | {"coded": 1, "relu": 1})
        return self.code_stores[-1]

    def _numbers(self, region: Region) -> "slice | np.ndarray":
        """Pixels of the output tensor that a region makes."""
        if self._problem.y_size is not None or region.image1 - region.image0 > 1:
            return region.numbers(self._problem)
        first = region.first(self._problem)
        return slice(first, first + region.pixels)

    def _stores(self, channels: np.ndarray, region: Region, address: int, pitch: int) -> list[dict[str, int]]:
        """STOREs of the channels of a region's pixels, which stand `pitch` bytes apart from `address` on."""
        problem, item = self._problem, self._problem.item(self._config)
        far = problem.y.channels * item
        rows, columns = region.p1 - region.p0, region.q1 - region.q0
        height, width = problem.y_size or (problem.p, problem.q)
        dims = [(columns, problem.step[1] * far, pitch),
                (rows, problem.step[0] * width * far, columns * pitch),
                (region.image1 - region.image0, height * width * far, rows * columns * pitch)]
        dram = problem.y.address + region.first(problem) * far
        return [body for place, first, count in runs(channels)
                for body in blocks(dram + first * item, address + place * item, count * item, dims)]


def _transposed(part: Part, strip: Strip, windows: int, lines: int, channel: int) -> dict[str, int]:
    """Fields of a pass over a tile [channel][pixel]: each pixel is a row of one window, whose columns are channels."""
    pitch = strip.rows * windows
    return {
        "windows": 0, "rows": windows - 1, "kept": 0, "moved": part.window, "ifmap_base": channel * pitch,
        "ifmap_channels": 0, "ifmap_line_step": windows, "ifmap_set_step": part.q * pitch,
        "ifmap_columns": part.q - 1, "ifmap_column_step": pitch, "ifmap_row_step": 1, "psum_window_step": 0,
        "psum_image_step": lines}


@dataclass
class Chooser:
    """How layers get their mappings, and what they get.

    Parameters
    ----------
    mapping : str or mapping
        As for :func:`.mapper.mapping_of`.
    coded_inputs, coded_outputs : collection of str
        Tensors that shall stand in memory as run-length codes, where a layer can read and write them.
    """

    mapping: Mappings = "own"
    coded_inputs: Collection[str] = frozenset()
    coded_outputs: Collection[str] = frozenset()
    #: Mapping of each layer that has been lowered, by its name.
    chosen: dict[str, PassMapping] = field(default_factory=dict)
    #: Tensors that stand in memory as codes.
    codes: dict[str, CodedTensor] = field(default_factory=dict)

    def plan(self, problem: Problem, shape: ConvLayer, config: RowStationaryConfig, coded: bool) -> LayerPlan:
        """Plan of a part of a layer."""
        bias = problem.finish.bias
        matrix = isinstance(bias, Stored) and bias.pixels > 1
        if matrix and config.truncate:
            raise PearrayError(f"{problem.name}: c must have one row in fixed point on this accelerator")
        traffic = Traffic(
            bias=bias is not None and not matrix, coded_input=coded and problem.x.name in self.coded_inputs,
            coded_output=coded and problem.finish.relu and problem.y.name in self.coded_outputs,
            output_bytes=problem.item(config), input_zeros=0.5 if coded else 0.0, output_zeros=0.5 if coded else 0.0)
        lanes_only = isinstance(problem.weights, Matrix)
        plan = mapping_of(shape, config, self.mapping, problem.images, traffic, lanes_only=lanes_only,
                          split_images=True)
        if plan.traffic.coded_input and len(plan.mapped.strips) > 1:
            # A code can't be read from its middle.
            traffic = replace(traffic, coded_input=False)
            plan = mapping_of(shape, config, self.mapping, problem.images, traffic, lanes_only=lanes_only,
                              split_images=True)
        if problem.columns and plan.mapped.mapping.r > 1 and any(
                part.q * plan.mapped.mapping.r > part.channels for part in plan.mapped.parts):
            # Rows behind the last channel are nowhere in the tile.
            plan = plan_of(shape, replace(plan.mapped.mapping, r=1), config, problem.images, traffic)
        self.chosen.setdefault(problem.name, plan.mapped.mapping)
        return plan


def lower(problem: Problem, config: RowStationaryConfig, memory: MemoryPlan, chooser: Chooser) -> list[PassStep]:
    """Steps of a layer.

    Raises
    ------
    PearrayError
        If the buffers can't hold the smallest pass.
    """
    steps: list[PassStep] = []
    rectangles_ = _cut(problem, config)
    for part in rectangles_:
        parts = operands(part, config)
        first = parts[0]
        coded = config.truncate and len(rectangles_) == 1 and part.y_size is None and not part.columns
        plan = chooser.plan(part, shape_of(part, first.groups, first.cg, first.ng), config, coded)
        lowering = _Lowering(parts, plan, memory)
        steps += lowering.steps()
        for stored, units, bodies in ((part.x, lowering.maker.codes, lowering.maker.code_loads),
                                      (part.y, lowering.codes, lowering.code_stores)):
            if units:
                size = units[-1].offset + room(len(units[-1].elements))
                address = memory.reserve(stored.name, size)
                for body in bodies:
                    body["dram"] += address
                layout = Layout((stored.pixels, stored.channels), (0, 1), (stored.pixels, stored.channels))
                chooser.codes[stored.name] = CodedTensor(stored.name, address, layout, np.dtype(np.int16), units, size)
    return steps


def _cut(problem: Problem, config: RowStationaryConfig) -> list[Problem]:
    """Rectangles of a row of pixels, so that the array's columns have ofmap rows to work on."""
    if not is_row(problem):
        return [problem]
    # Sets on different channels and filters need no ofmap rows: only where they are few are rows better.
    sets = 1 if problem.diagonal else -(-problem.ng // config.pe.psum_words) * problem.groups
    wide = min(config.array.cols, -(-config.pes // sets))
    return rectangles(problem, max(1, min(256, -(-problem.q // wide))))
