"""Tiles of a layer: which bytes of memory they hold, and how they stand in the global buffer and the filter buffer."""

from collections.abc import Callable, Iterator

import numpy as np

from ...golden.row_stationary import Block, Filters, Part, Strip
from ...golden.tensors import pair
from ...hdl.row_stationary.commands import Destination
from ..kernels.plan import MemoryPlan, Stored, operand_array
from ..kernels.problem import Matrix
from ..steps import Piece, Tile
from ..transfers import block, blocks, fill, inside
from .codes import Unit
from .forms import Operand
from .mapping import LayerPlan
from .setup import Placement, setup_lines, setup_size

__all__ = ["TileMaker", "Window", "runs"]


class Window:
    """How the ifmaps of passes stand in a tile, in operands: [image][row][column][channel].

    Parameters
    ----------
    plan : LayerPlan
        Plan of the layer.
    strip : Strip
        Ofmap rows.
    images : int
        Ifmaps.
    pixel : int
        Channels that a pixel holds.
    """

    def __init__(self, plan: LayerPlan, strip: Strip, images: int, pixel: int):
        mapped = plan.mapped
        self.rows, self.columns = mapped.tile_lines(strip), mapped.tile_columns
        self.pixel, self.line = pixel, self.columns * pixel
        self.image = self.rows * self.line
        self.words = images * self.image


def runs(channels: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Runs of consecutive channels: place of the first, the channel, and how many; negative ones are none."""
    flat = channels.reshape(-1)
    start = 0
    while start < len(flat):
        end = start + 1
        while end < len(flat) and flat[end] == flat[start] + end - start:
            end += 1
        if flat[start] >= 0:
            yield start, int(flat[start]), end - start
        start = end


class TileMaker:
    """Make each tile of a layer once.

    Parameters
    ----------
    plan : LayerPlan
        Mapping of the layer.
    memory : MemoryPlan
        Where packed constants go.
    coded : bool
        Whether ifmaps stand in memory as codes, one for each tile: :attr:`codes`.
    """

    def __init__(self, plan: LayerPlan, memory: MemoryPlan, coded: bool = False):
        self._plan, self._mapped, self._config = plan, plan.mapped, plan.config
        self._memory = memory
        self._item = plan.config.operand_bytes
        self._made: dict[object, Tile] = {}
        self._coded = coded
        #: Codes of ifmaps so far, and their LOADs; neither has an address yet.
        self.codes: list[Unit] = []
        self.code_loads: list[dict[str, int]] = []

    def _once(self, key: object, make: Callable[[], Tile]) -> Tile:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def setup(self, placement: Placement) -> Tile:
        """Lines that set the array up."""
        size = setup_size(self._config) * self._config.line_bytes
        address = self._memory.constant("setup", size, lambda: setup_lines(placement, self._config),
                                        key=("setup", placement))
        return self._once(("setup", placement), lambda: Tile(
            Destination.FILTER_BUFFER.value, size, [Piece([block(dram=address, length=size, dims=[])])]))

    def ifmap(self, operand: Operand, images: tuple[int, int], strip: Strip, groups: tuple[int, int],
              part: Part) -> tuple[Tile, Window]:
        """Tile of ifmaps of a pass, and how it stands."""
        if operand.problem.columns:
            return self._columns(operand, strip, part)
        ranges = self._ranges(operand, groups, part)
        pixel = sum(count for _, count in ranges)
        window = Window(self._plan, strip, images[1], pixel)
        # PEs that hold channels beyond the last get what follows: at the end zeros, so that what they count is known.
        held = max(part.q * self._mapped.mapping.r - part.channels for part in self._mapped.parts)
        beyond = max(held, 2)

        def make() -> Tile:
            behind = fill(operand.problem.fill, self._item, address=window.words * self._item, length=held,
                          dims=[]) if held else []
            if self._coded:
                code = self._code(operand, images, strip, ranges, window)
                return Tile(Destination.GLOBAL_BUFFER.value, (window.words + beyond) * self._item,
                            [code, *([Piece(behind)] if behind else [])])
            pieces, at = [], 0
            loads: list[dict[str, int]] = self._padding(operand, strip, images[1], window) + behind
            sources: list[tuple[Stored, int, int]] = []
            for first, count in ranges:
                some = min(count, operand.problem.x.channels - first)
                if some > 0:
                    body, source = self._inside(operand, strip, images, window, first, some, at)
                    loads += body
                    sources += source
                at += count
            pieces.append(Piece(loads, sources))
            return Tile(Destination.GLOBAL_BUFFER.value, (window.words + beyond) * self._item, pieces)

        key = "ifmap", id(operand.problem.x), operand.problem.left, images, strip, groups, tuple(ranges)
        return self._once(key, make), window

    def _columns(self, operand: Operand, strip: Strip, part: Part) -> tuple[Tile, Window]:
        """Tile of a tensor that stands transposed: [channel][pixel]."""
        problem, item = operand.problem, self._item
        first, count = (0, operand.cg) if self._plan.resident else (part.channel, part.channels)
        pixels = strip.rows * self._mapped.layer.output[2]
        start = strip.first * self._mapped.layer.output[2] - problem.left

        def make() -> Tile:
            pitch = problem.x.channels * item
            loads = blocks(problem.x.address + first * pitch + start * item, 0, pixels * item,
                           [(count, pitch, pixels * item)])
            return Tile(Destination.GLOBAL_BUFFER.value, count * pixels * item,
                        [Piece(loads, [(problem.x, first, first + count)])])

        key = "columns", id(problem.x), start, pixels, first, count
        return self._once(key, make), Window(self._plan, strip, 1, count)

    def _code(self, operand: Operand, images: tuple[int, int], strip: Strip, ranges: list[tuple[int, int]],
              window: Window) -> Piece:
        """LOAD of the code of a tile."""
        problem = operand.problem
        row0, column0, _, _ = self._edges(operand, strip, window)
        channel = np.concatenate([first + np.arange(count) for first, count in ranges])
        image, row, column = (np.arange(first, first + count) for first, count in
                              (images, (row0, window.rows), (column0, window.columns)))
        inside_ = ((row >= 0) & (row < problem.height))[:, None, None] & (
            (column >= 0) & (column < problem.width))[:, None] & (channel < problem.x.channels)
        elements = ((image[:, None, None, None] * problem.height + row[:, None, None]) * problem.width
                    + column[:, None]) * problem.x.channels + channel
        self.codes.append(Unit(0, np.where(inside_, elements, -1).reshape(-1), {
            "images": list(images), "rows": [int(row0), window.rows], "columns": [int(column0), window.columns],
            "channels": [list(part) for part in ranges]}))
        length = 8 * -(-window.words // 3)
        self.code_loads.append(block(length=length, dims=[]) | {
            "destination": Destination.GLOBAL_BUFFER_CODED.value})
        return Piece([self.code_loads[-1]])

    def _ranges(self, operand: Operand, groups: tuple[int, int], part: Part) -> list[tuple[int, int]]:
        """Channels of a tile: first and count, of each group if they don't adjoin."""
        first = groups[0] * operand.cg
        if self._plan.resident:
            return [(first, groups[1] * operand.cg)]
        if part.channels == operand.cg:
            return [(first, groups[1] * operand.cg)]
        return [(first + group * operand.cg + part.channel, part.channels) for group in range(groups[1])]

    def _edges(self, operand: Operand, strip: Strip, window: Window) -> tuple[int, int, tuple[int, int],
                                                                               tuple[int, int]]:
        """First row and column of the image in a tile, and the rows and columns of the tile inside the image."""
        problem = operand.problem
        row0 = strip.first * problem.stride[0] - problem.top
        return (row0, -problem.left, inside(row0, 1, problem.height, (0, window.rows)),
                inside(-problem.left, 1, problem.width, (0, window.columns)))

    def _padding(self, operand: Operand, strip: Strip, images: int, window: Window) -> list[dict[str, int]]:
        _, _, rows, columns = self._edges(operand, strip, window)
        item, loads = self._item, []

        def pad(rows: tuple[int, int], columns: tuple[int, int]) -> None:
            if rows[0] < rows[1] and columns[0] < columns[1]:
                loads.extend(fill(
                    operand.problem.fill, item, address=(rows[0] * window.line + columns[0] * window.pixel) * item,
                    length=(columns[1] - columns[0]) * window.pixel,
                    dims=[(rows[1] - rows[0], window.line * item), (images, window.image * item)]))

        pad((0, rows[0]), (0, window.columns))
        pad(rows, (0, columns[0]))
        pad(rows, (columns[1], window.columns))
        pad((rows[1], window.rows), (0, window.columns))
        return loads

    def _inside(self, operand: Operand, strip: Strip, images: tuple[int, int], window: Window, channel: int,
                count: int, at: int) -> tuple[list[dict[str, int]], list[tuple[Stored, int, int]]]:
        """LOADs of a range of channels, to place `at` of each pixel, and the pixels that they read."""
        problem, item = operand.problem, self._item
        row0, column0, rows, columns = self._edges(operand, strip, window)
        if rows[0] == rows[1] or columns[0] == columns[1]:
            return [], []
        pitch = problem.x.channels * item
        start = (images[0] * problem.height + row0 + rows[0]) * problem.width + column0 + columns[0]
        end = ((images[0] + images[1] - 1) * problem.height + row0 + rows[1] - 1) * problem.width + column0 + columns[1]
        dims = [(columns[1] - columns[0], pitch, window.pixel * item),
                (rows[1] - rows[0], problem.width * pitch, window.line * item),
                (images[1], problem.height * problem.width * pitch, window.image * item)]
        near = (rows[0] * window.line + columns[0] * window.pixel + at) * item
        return (blocks(problem.x.address + start * pitch + channel * item, near, count * item, dims),
                [(problem.x, start, end)])

    def filters(self, operand: Operand, copy: int, groups: tuple[int, int], part: Part, filters: Filters) -> Tile:
        """Filters of a pass."""
        weights = operand.weights[copy]
        sets = self._mapped.sets(groups[1])
        beats = self._mapped.filter_beats(part, filters)
        size = sets * self._mapped.height * beats * self._config.line_bytes
        if isinstance(weights, Matrix):
            return self._once((id(operand), groups, part, filters), lambda: Tile(
                Destination.FILTER_BUFFER.value, size,
                [self._gather(weights, operand.problem.w_zero, part, filters, beats)]))

        def make() -> Tile:
            address = self._memory.constant(operand.problem.name, size, lambda: self._packed(
                weights, operand.problem.w_zero, groups, part, filters, beats))
            return Tile(Destination.FILTER_BUFFER.value, size, [Piece([block(dram=address, length=size, dims=[])])])

        return self._once((id(operand), copy, groups, part, filters), make)

    def _packed(self, weights: np.ndarray, zero: int, groups: tuple[int, int], part: Part, filters: Filters,
                beats: int) -> bytes:
        """Filters in the order of beats: beat, set, filter row; words of a PE: filter, column, channel."""
        mapping, height = self._mapped.mapping, self._mapped.height
        dilation = pair("dilation", self._mapped.layer.dilation)[1]
        columns = np.full(part.taps, -1)
        columns[np.arange(part.columns) * dilation // part.pitch] = part.column + np.arange(part.columns)
        rows = np.where(np.arange(height) >= part.skipped, part.row + np.arange(height), -1)
        channels = np.arange(mapping.r * part.q)
        channels = np.where(channels < part.channels, channels, -1)
        some = np.arange(mapping.t * filters.p)
        some = np.where(some < filters.count, some, -1)
        own = weights[groups[0]:groups[0] + groups[1], :, :, part.channel:part.channel + part.channels,
                      filters.first:filters.first + filters.count]
        for axis, index in enumerate((rows, columns, channels, some), 1):
            own = np.take(own, np.maximum(index, 0), axis)
            if (index < 0).any():
                shape = [1] * 5
                shape[axis] = len(index)
                own = np.where(index.reshape(shape) < 0, zero, own)
        words = own.reshape(groups[1], height, part.taps, mapping.r, part.q, mapping.t, filters.p)
        words = words.transpose(0, 5, 3, 1, 6, 2, 4).reshape(self._mapped.sets(groups[1]), height, -1)
        lanes = self._config.filter_lanes
        full = np.zeros((*words.shape[:2], beats * lanes), np.int64)
        full[:, :, :words.shape[2]] = words
        lines = full.reshape(*words.shape[:2], beats, lanes).transpose(2, 0, 1, 3)
        return operand_array(lines, self._item).tobytes()

    def _gather(self, matrix: Matrix, zero: int, part: Part, filters: Filters, beats: int) -> Piece:
        """LOADs that gather a part of a matrix in memory in the order of beats."""
        mapping, item, line = self._mapped.mapping, self._item, self._config.line_bytes
        lanes, stored = self._config.filter_lanes, matrix.stored
        sets, q = mapping.t * mapping.r, part.q
        loads: list[dict[str, int]] = []
        if part.channels < mapping.r * q:
            # Channels that there are not must meet zeros.
            loads += fill(zero, item, address=0, length=sets * beats * lanes, dims=[])
        near_k, near_n = (1, stored.channels) if matrix.transposed else (stored.channels, 1)
        for t in range(mapping.t):
            first = filters.first + t * filters.p
            count = min(filters.p, filters.first + filters.count - first)
            for r in range(mapping.r):
                depth = min(q, part.channels - r * q)
                if count <= 0 or depth <= 0:
                    continue
                base = stored.address + ((part.channel + r * q) * near_k + first * near_n) * item
                own = (t * mapping.r + r) * line
                loads += self._spread(base, own, sets * line, q, count, depth, near_k * item, near_n * item, lanes)
        span = (part.channel, part.channel + part.channels)
        if matrix.transposed:
            span = (filters.first, filters.first + filters.count)
        return Piece(loads, [(stored, *span)])

    def _spread(self, dram: int, address: int, beat: int, q: int, count: int, depth: int, k_step: int, n_step: int,
                lanes: int) -> list[dict[str, int]]:
        """LOADs of one PE's words, (filter, channel) one after another in lines `beat` bytes apart."""
        item, loads = self._item, []

        def copy(far: int, near: int, length: int, dims: list[tuple[int, int, int]]) -> None:
            if k_step == item:
                loads.extend(blocks(far, near, length * item, dims))
            else:
                loads.extend(blocks(far, near, item, [(length, k_step, item), *dims]))

        if lanes % q == 0:
            each = lanes // q
            whole, rest = divmod(count, each)
            if whole:
                copy(dram, address, depth, [(each, n_step, q * item), (whole, each * n_step, beat)])
            if rest:
                copy(dram + whole * each * n_step, address + whole * beat, depth, [(rest, n_step, q * item)])
            return loads
        for filter_ in range(count):
            start, end = filter_ * q, filter_ * q + depth
            while start < end:
                stop = min(end, (start // lanes + 1) * lanes)
                copy(dram + filter_ * n_step + (start - filter_ * q) * k_step,
                     address + start // lanes * beat + start % lanes * item, stop - start, [])
                start = stop
        return loads

    def channels(self, operand: Operand, groups: tuple[int, int], filters: Filters) -> np.ndarray:
        """Output channel of each sum of a filter group's lines, (lines, lanes); -1 for none."""
        mapping, lanes = self._mapped.mapping, self._config.psum_lanes
        beats = self._mapped.psum_beats(filters.p)
        place = np.arange(beats * lanes)
        index = np.arange(mapping.t)[:, None] * filters.p + place
        valid = (place < filters.p) & (index < filters.count)
        found = (groups[0] + np.arange(groups[1]))[:, None, None] * operand.ng + filters.first + index
        found = np.where(valid & (found < operand.problem.y.channels), found, -1)
        return found.reshape(-1, lanes)

    def bias(self, operand: Operand, groups: tuple[int, int], block_: Block) -> Tile:
        """Biases of a block as lines of the global buffer, in the order of a pixel's psums."""
        bias, item = operand.problem.finish.bias, self._config.sum_bytes
        channels = np.concatenate([self.channels(operand, groups, filters) for filters in block_.filters])
        size = channels.size * item
        memory = Destination.GLOBAL_BUFFER.value
        if isinstance(bias, Stored):
            return Tile(memory, size, [Piece(
                [block(dram=bias.address + first * item, address=place * item, length=count * item, dims=[])
                 for place, first, count in runs(channels)], [(bias, 0, 1)])])
        assert bias is not None
        return Tile(memory, size, [self._constants("bias", bias, channels, item)])

    def _constants(self, name: str, values: np.ndarray, channels: np.ndarray, item: int) -> Piece:
        data = operand_array(np.where(channels < 0, 0, values.astype(np.int64)[channels]), item).tobytes()
        address = self._memory.constant(name, len(data), lambda: data, key=(name, data))
        return Piece([block(dram=address, length=len(data), dims=[])])

    def bias_rows(self, operand: Operand, channels: np.ndarray, first: int, last: int) -> Tile:
        """Rows of a matrix of biases in the memory of biases."""
        bias = operand.problem.finish.bias
        assert isinstance(bias, Stored)
        loads = [body for place, channel, count in runs(channels) for body in blocks(
            bias.address + (first * bias.channels + channel) * 4, place * 4, count * 4,
            [(last - first, bias.channels * 4, channels.size * 4)])]
        return Tile(Destination.BIAS.value, (last - first) * channels.size * 4, [Piece(loads, [(bias, first, last)])])

    def scale(self, operand: Operand, channels: np.ndarray) -> Tile:
        """Scale entries of some lines of sums, or one line for all."""
        entries, lanes = operand.problem.finish.entries, self._config.psum_lanes
        assert entries is not None
        chosen = channels if entries.size > 1 else np.zeros((1, lanes), np.int64)
        return self._once(("scale", chosen.tobytes()), lambda: Tile(
            Destination.SCALE.value, chosen.size * 8, [self._constants("scale", entries, chosen, 8)]))

    def table(self, operand: Operand, channels: np.ndarray) -> Tile:
        """Table of all channels, or of those of one line."""
        table, lanes = operand.problem.finish.table, self._config.psum_lanes
        assert table is not None
        data = operand_array(table, 1).tobytes()

        def make() -> Tile:
            address = self._memory.constant(operand.problem.name, len(data), lambda: data, key=("table", data))
            loads = [block(dram=address, length=256, dims=[(lanes, 0, 256)])]
            if table.ndim == 2:
                loads = [block(dram=address + channel * 256, address=place * 256, length=count * 256, dims=[])
                         for place, channel, count in runs(channels)]
            return Tile(Destination.TABLE.value, lanes * 256, [Piece(loads)])

        return self._once(("table", channels.tobytes() if table.ndim == 2 else None), make)
