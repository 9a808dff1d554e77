"""Tiles of a layer: which bytes of memory they hold, and how they stand in the global buffer and the filter buffer."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from ...golden.row_stationary import Block, Filters, Part, Span
from ...hdl.row_stationary.commands import Destination
from ..kernels.layout import operand_array
from ..kernels.views import Buffer, View
from ..placement import MemoryPlan
from ..steps import Piece, Tile
from ..transfers import Window, block, blocks, fill, rows
from .codes import Codes
from .forms import Operand, is_folded
from .mapping import LayerPlan
from .setup import Placement, setup_lines, setup_size
from .taps import PixelProduct

__all__ = ["TileMaker", "runs"]


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
    codes : Codes
        Where codes of ifmaps go.
    """

    def __init__(self, plan: LayerPlan, memory: MemoryPlan, codes: Codes):
        self._plan, self._mapped, self._config = plan, plan.mapped, plan.config
        self._memory, self._codes, self._item = memory, codes, plan.config.operand_bytes
        self._made: dict[object, Tile] = {}

    def _once(self, key: object, make: Callable[[], Tile]) -> Tile:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _packed_tile(self, name: str, size: int, make: Callable[[], bytes], key: tuple[object, ...]) -> Tile:
        """Tile of the filter buffer that is a constant in memory, as it is."""
        address = self._memory.constant(name, size, make, key=key)
        return self._once(("packed", address), lambda: Tile(
            Destination.FILTER_BUFFER.value, size, [Piece([block(dram=address, length=size, dims=[])])]))

    def setup(self, placement: Placement) -> Tile:
        """Lines that set the array up."""
        return self._packed_tile("setup", setup_size(self._config) * self._config.line_bytes,
                                 lambda: setup_lines(placement, self._config), ("setup", placement))

    def ifmap(self, operand: Operand, images: Span, strip: Span, groups: Span, part: Part) -> tuple[Tile, Window]:
        """Tile of ifmaps of a pass, and how it stands."""
        if operand.problem.columns:
            return self._columns(operand, strip, part)
        x, ranges = operand.problem.x, self._ranges(operand, groups, part)
        pixel = sum(count for _, count in ranges)
        window = self._window(operand, images, strip, pixel)
        words, loaded = images.size * window.image, self._loaded(operand, strip, window)
        # PEs that hold channels beyond the last get what follows: at the end zeros, so that what they count is known.
        held = self._plan.held

        def make() -> Tile:
            behind = fill(x.outside, self._item, address=words * self._item, length=held, dims=[]) if held else []
            if self._plan.traffic.coded_input:
                pieces = [self._code(operand, ranges, loaded), *([Piece(behind)] if behind else [])]
            else:
                at, one = 0, Piece(loaded.padding(pixel) + behind)
                for first, count in ranges:
                    some = min(count, x.size("c") - first)
                    if some > 0:
                        body, source = loaded.copy(first, some, at)
                        one.loads += body
                        one.sources += source
                    at += count
                pieces = [one]
            return Tile(Destination.GLOBAL_BUFFER.value, (words + max(held, 2)) * self._item, pieces)

        return self._once(("ifmap", loaded, tuple(ranges)), make), window

    def _window(self, operand: Operand, images: Span, strip: Span, pixel: int) -> Window:
        """How the ifmaps of passes stand in a tile: [image][row][column][channel]."""
        problem, rows, columns = operand.problem, self._mapped.tile_lines(strip.size), self._mapped.tile_columns
        top = strip.first * problem.stride[0] - problem.top
        return Window(problem.x, (images.first, 1, images.size), (top, 1, rows), (-problem.left, 1, columns),
                      rows * columns * pixel, columns * pixel, pixel)

    @staticmethod
    def _loaded(operand: Operand, strip: Span, window: Window) -> Window:
        """How what a window holds lies in memory: the rows of a folded one are one row."""
        if not is_folded(operand.problem):
            return window
        pixels, first = window.image // window.pixel, strip.first * operand.problem.q
        return replace(window, rows=(0, 1, 1), columns=(first, 1, pixels), line=window.image)

    def _columns(self, operand: Operand, strip: Span, part: Part) -> tuple[Tile, Window]:
        """Tile of a tensor that stands transposed: [channel][pixel]."""
        item, problem, x = self._item, operand.problem, operand.problem.x
        first, count = (0, operand.cg) if self._plan.resident else (part.channel, part.channels)
        held = self._plan.held if self._plan.resident else part.q * self._mapped.mapping.r - part.channels
        pixels, start = (size * self._mapped.layer.output[2] for size in (strip.size, strip.first))

        def make() -> Tile:
            some = min(pixels, x.size("w") - start)
            if isinstance(problem, PixelProduct):
                rows = [(0, start, some)] if is_folded(problem) else [
                    (tap, -problem.left, problem.q) for tap in range(strip.first, strip.first + strip.size)]
                loads, sources = problem.loads(first, count, rows, pixels, item)
            else:
                pitch = x.stride("c") * item
                loads = blocks(x.address + first * pitch + start * item, 0, some * item,
                               [(count, pitch, pixels * item)])
                sources = [x.rows_of("c", first, first + count)]
                if some < pixels:
                    loads += fill(x.outside, item, address=some * item, length=pixels - some,
                                  dims=[(count, pixels * item)])
            # What is read besides is known, too: pixels and channels beyond the last.
            if held:
                loads += fill(x.outside, item, address=count * pixels * item, length=held * pixels, dims=[])
            return Tile(Destination.GLOBAL_BUFFER.value, (count + held) * pixels * item, [Piece(loads, sources)])

        return (self._once(("columns", x, problem.left, start, pixels, first, count), make),
                self._window(operand, Span(0, 1), strip, count))

    def _code(self, operand: Operand, ranges: list[tuple[int, int]], window: Window) -> Piece:
        """LOAD of the code of a tile."""
        x = operand.problem.x
        channel = np.concatenate([first + np.arange(count) for first, count in ranges])
        image, row, column = (first + np.arange(count) for first, _, count in (
            window.images, window.rows, window.columns))
        inside = ((row >= 0) & (row < x.size("h")))[:, None, None] & (
            (column >= 0) & (column < x.size("w")))[:, None] & (channel < x.size("c"))
        elements = (x.offset + image[:, None, None, None] * x.stride("n") + row[:, None, None] * x.stride("h")
                    + column[:, None] * x.stride("w") + channel)
        note = {"images": list(window.images[::2]), "rows": list(window.rows[::2]),
                "columns": list(window.columns[::2]), "channels": [list(part) for part in ranges]}
        body = block(length=8 * -(-window.images[2] * window.image // 3), dims=[])
        body["destination"] = Destination.GLOBAL_BUFFER_CODED.value
        return Piece([self._codes.add(np.where(inside, elements, -1).reshape(-1), note, body)])

    def _ranges(self, operand: Operand, groups: Span, part: Part) -> list[tuple[int, int]]:
        """Channels of a tile: first and count, of each group if they don't adjoin."""
        first = groups.first * operand.cg
        if self._plan.resident or part.channels == operand.cg:
            return [(first, groups.size * operand.cg)]
        return [(first + group * operand.cg + part.channel, part.channels) for group in range(groups.size)]

    def filters(self, operand: Operand, copy: int, groups: Span, part: Part, filters: Filters) -> Tile:
        """Filters of a pass."""
        weights, zero, beats = operand.weights[copy], operand.problem.w_zero, self._mapped.filter_beats(part, filters)
        size = self._mapped.sets(groups.size) * self._mapped.height * beats * self._config.line_bytes

        def make() -> Tile:
            if isinstance(weights, View):
                return Tile(Destination.FILTER_BUFFER.value, size, [self._gather(weights, zero, part, filters, beats)])
            # The same filters are packed and loaded once, whatever they meet.
            data = self._packed(weights, zero, groups, part, filters, beats)
            return self._packed_tile(operand.problem.name, size, lambda: data, ("filters", data))

        return self._once((id(operand), copy, groups, part, filters), make)

    def _packed(self, weights: np.ndarray, zero: int, groups: Span, part: Part, filters: Filters,
                beats: int) -> bytes:
        """Filters in the order of beats: beat, set, filter row; words of a PE: filter, column, channel."""
        mapping, height = self._mapped.mapping, self._mapped.height
        columns, seen = np.full(part.taps, -1), np.arange(part.columns)
        columns[seen * self._mapped.dilation[1] // part.pitch] = part.column + seen
        rows = np.where(np.arange(height) >= part.skipped, part.row + np.arange(height), -1)
        channels = np.arange(mapping.r * part.q)
        channels = np.where(channels < part.channels, channels, -1)
        some = np.arange(mapping.t * filters.p)
        some = np.where(some < filters.count, some, -1)
        own = weights[groups.first:groups.first + groups.size, :, :, part.channel:part.channel + part.channels,
                      filters.first:filters.first + filters.count]
        for axis, index in enumerate((rows, columns, channels, some), 1):
            own = np.take(own, np.maximum(index, 0), axis)
            if (index < 0).any():
                shape = [1] * 5
                shape[axis] = len(index)
                own = np.where(index.reshape(shape) < 0, zero, own)
        words = own.reshape(groups.size, height, part.taps, mapping.r, part.q, mapping.t, filters.p)
        words = words.transpose(0, 5, 3, 1, 6, 2, 4).reshape(self._mapped.sets(groups.size), height, -1)
        lanes = self._config.filter_lanes
        full = np.zeros((*words.shape[:2], beats * lanes), np.int64)
        full[:, :, :words.shape[2]] = words
        lines = full.reshape(*words.shape[:2], beats, lanes).transpose(2, 0, 1, 3)
        return self._config.arithmetic.to_memory(lines, self._item).tobytes()

    def _gather(self, matrix: View, zero: int, part: Part, filters: Filters, beats: int) -> Piece:
        """LOADs that gather a part of a matrix in memory in the order of beats."""
        mapping, item, line = self._mapped.mapping, self._item, self._config.line_bytes
        lanes, step = self._config.filter_lanes, matrix.stride("m")
        sets, q = mapping.t * mapping.r, part.q
        loads, sources = list[dict[str, int]](), list[tuple[Buffer, int, int]]()
        if part.channels < mapping.r * q:
            # Channels that there are not must meet zeros.
            loads += fill(zero, item, address=0, length=sets * beats * lanes, dims=[])
        for t, r in product(range(mapping.t), range(mapping.r)):
            first = filters.first + t * filters.p
            count, depth = min(filters.p, filters.first + filters.count - first), min(q, part.channels - r * q)
            if count <= 0 or depth <= 0:
                continue
            start, own = part.channel + r * q, (t * mapping.r + r) * line
            for number, far, length in rows(matrix.loops("csr"), start, start + depth):
                base, near = matrix.offset + far + first * step, matrix.stride("c")
                loads += self._spread(matrix.buffer.address + base * item, own, sets * line, q, count,
                                      (number - start, length), near * item, step * item, lanes)
                sources.append((matrix.buffer, base, base + (length - 1) * near + (count - 1) * step + 1))
        return Piece(loads, sources)

    def _spread(self, dram: int, address: int, beat: int, q: int, count: int, some: tuple[int, int], k_step: int,
                n_step: int, lanes: int) -> list[dict[str, int]]:
        """LOADs of some of one PE's words, (filter, channel) one after another in lines `beat` bytes apart.

        `some` is the first channel of each filter, and how many.
        """
        item, loads, (at, depth) = self._item, list[dict[str, int]](), some

        def copy(far: int, near: int, length: int, dims: list[tuple[int, int, int]]) -> None:
            if k_step == item:
                loads.extend(blocks(far, near, length * item, dims))
            else:
                loads.extend(blocks(far, near, item, [(length, k_step, item), *dims]))

        if lanes % q == 0:
            each = lanes // q
            whole, rest = divmod(count, each)
            address += at * item
            if whole:
                copy(dram, address, depth, [(each, n_step, q * item), (whole, each * n_step, beat)])
            if rest:
                copy(dram + whole * each * n_step, address + whole * beat, depth, [(rest, n_step, q * item)])
            return loads
        for filter_ in range(count):
            start, end = filter_ * q + at, filter_ * q + at + depth
            while start < end:
                stop = min(end, (start // lanes + 1) * lanes)
                copy(dram + filter_ * n_step + (start - filter_ * q - at) * k_step,
                     address + start // lanes * beat + start % lanes * item, stop - start, [])
                start = stop
        return loads

    def channels(self, operand: Operand, groups: Span, filters: Filters) -> np.ndarray:
        """Output channel of each sum of a filter group's lines, (lines, lanes); -1 for none."""
        mapping, lanes = self._mapped.mapping, self._config.psum_lanes
        beats = self._mapped.psum_beats(filters.p)
        place = np.arange(beats * lanes)
        index = np.arange(mapping.t)[:, None] * filters.p + place
        valid = (place < filters.p) & (index < filters.count)
        found = (groups.first + np.arange(groups.size))[:, None, None] * operand.ng + filters.first + index
        found = np.where(valid & (found < operand.problem.y.size("c")), found, -1)
        return found.reshape(-1, lanes)

    def bias(self, operand: Operand, groups: Span, block_: Block) -> Tile:
        """Biases of a block as lines of the global buffer, in the order of a pixel's psums."""
        bias, item = operand.problem.finish.bias, self._config.sum_bytes
        channels = np.concatenate([self.channels(operand, groups, filters) for filters in block_.filters])
        size = channels.size * item
        memory = Destination.GLOBAL_BUFFER.value
        if isinstance(bias, View):
            return Tile(memory, size, [Piece(
                [block(dram=bias.address + first * item, address=place * item, length=count * item, dims=[])
                 for place, first, count in runs(channels)], [bias.rows_of("w", 0, 1)])])
        assert bias is not None
        return Tile(memory, size, [self._constants("bias", bias, channels, item)])

    def _constants(self, name: str, values: np.ndarray, channels: np.ndarray, item: int) -> Piece:
        data = operand_array(np.where(channels < 0, 0, values.astype(np.int64)[channels]), item).tobytes()
        address = self._memory.constant(name, len(data), lambda: data, key=(name, data))
        return Piece([block(dram=address, length=len(data), dims=[])])

    def bias_rows(self, operand: Operand, channels: np.ndarray, first: int, last: int) -> Tile:
        """Rows of a matrix of biases in the memory of biases."""
        bias = operand.problem.finish.bias_rows
        assert bias is not None
        loads = [body for place, channel, count in runs(channels) for body in blocks(
            bias.address + (first * bias.stride("w") + channel) * 4, place * 4, count * 4,
            [(last - first, bias.stride("w") * 4, channels.size * 4)])]
        return Tile(Destination.BIAS.value, (last - first) * channels.size * 4,
                    [Piece(loads, [bias.rows_of("w", first, last)])])

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
