"""Tiles of a layer: which bytes of memory they hold and how they stand in the scratchpads."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ...hdl.post.pairs import pair_words
from ...hdl.systolic.commands import Destination
from ..kernels.layout import operand_array
from ..kernels.nest import pair_entries
from ..kernels.regions import Region
from ..kernels.views import View
from ..placement import MemoryPlan
from ..steps import Piece, Tile
from ..transfers import Window, block, blocks, nested, ranges
from .cost import strided_beats
from .geometry import Box, Geometry
from .layer import Layer, Tiles
from .lines import lines_of

__all__ = ["LinesAndColumns", "TileMaker", "piece_of", "stored"]

#: A piece of a tile: lines and, if not all, columns.
LinesAndColumns = tuple[tuple[int, int], tuple[int, int] | None]


def piece_of(window: Window, channel: int, channels: int, at: int = 0) -> Piece:
    """LOADs of some channels of a window's pixels to place `at` of each, what lies outside the image filled."""
    loads, sources = window.copy(channel, channels, at)
    return Piece(window.padding(channels, at) + loads, sources)


def stored(memory: int, size: int, dram: int) -> Tile:
    """Tile of bytes that follow one another in memory."""
    return Tile(memory, size, [Piece([block(dram=dram, length=size, dims=[])])])


class TileMaker:
    """Makes each tile of a layer once; the plan says where packed constants go.

    Parameters
    ----------
    known : dict, optional
        What is the same in all programs of the layer, as far as others have found it: commands that are equal have one
        body, of which what it costs need be found only once.
    """

    def __init__(self, layer: Layer, plan: MemoryPlan, known: dict[object, Any] | None = None):
        self.layer, self.problem = layer, layer.problem
        self._config, self._plan = layer.config, plan
        self._made: dict[object, Tile] = {}
        self._known: dict[object, Any] = {} if known is None else known
        self._geometries: dict[tuple[Region, Box], Geometry] = self.known("geometries", dict[Any, Any])

    def known(self, key: object, find: Callable[[], Any]) -> Any:
        """What a key stands for in all programs of the layer; it must stay as it is."""
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = find()
        return found

    def _once(self, key: object, make: Callable[[], Tile]) -> Tile:
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = make()
        return found

    def geometry(self, region: Region, box: Box) -> Geometry:
        """How the input of `region` for `box` stands."""
        found = self._geometries.get((region, box))
        if found is None:
            found = self._geometries[region, box] = Geometry.of(self.problem, region, box, self.layer.banks)
        return found

    def a_size(self, region: Region, box: Box) -> int:
        """Bytes of a tile of activations."""
        geometry = self.geometry(region, box)
        # The last pixel of the last line ends the tile, whatever the pitch.
        extent = ((region.images - 1) * geometry.image + (geometry.rows - 1) * geometry.line
                  + (geometry.columns - 1) * geometry.pixel + box.channels)
        return extent * self._config.operand_bytes

    def activations(self, region: Region, group: int, box: Box, cuts: tuple[int, ...], slices: tuple[int, ...],
                    windows: Sequence[LinesAndColumns] = ()) -> Tile:
        """Tile of activations, whose piece i brings lines ``cuts[i - 1]`` to ``cuts[i]``.

        Lines are images if there are several, else rows, else columns if there is one row. The first lines come in as
        many pieces as there are `slices`, channels ``slices[j - 1]`` to ``slices[j]`` of the box, and the first of
        these as several `windows` if given.
        """
        def make() -> Tile:
            first, *others = pairwise((0, *cuts))
            parts: list[tuple[tuple[int, int], tuple[int, int], tuple[int, int] | None]] = [
                (first, channels, None) for channels in pairwise((0, *slices))]
            if windows:
                parts[:1] = [(lines, parts[0][1], columns) for lines, columns in windows]
            parts += [(lines, (0, box.channels), None) for lines in others]
            found = (self.known(("piece", region, group, box, part), partial(self._piece, region, group, box, *part))
                     for part in parts)
            pieces = [Piece(piece.loads, piece.sources) for piece in found]
            return Tile(Destination.ACTIVATION.value, self.a_size(region, box), pieces)

        return self._once(("a", region, group, box), make)

    def lines(self, region: Region, box: Box) -> int:
        """Number of lines by which a tile of activations can be cut."""
        geometry = self.geometry(region, box)
        return next((count for count in (region.images, geometry.rows) if count > 1), geometry.columns)

    def windows(self, region: Region, box: Box, some: Box, parts: Sequence[Region],
                lines: int) -> tuple[list[LinesAndColumns], list[int]]:
        """Pieces of the first `lines` of a region's tile, and how many of them each of some `parts` needs.

        Of the box they need only some. Parts begin where the region does, each within the one behind it, and are cut
        alike: all of them between lines, or all within the first.
        """
        whole, inner = self.geometry(region, box), [self.geometry(part, some) for part in parts]
        if region.images > 1:
            needed = [part.images for part in parts]
        else:
            needed = [each.rows_of(whole) if whole.rows > 1 else each.columns_of(whole) for each in inner]
        by_lines = needed[0] < lines or whole.rows == 1 or region.images > 1
        end = lines if by_lines else whole.columns
        needed = [min(each, end) for each in needed] if by_lines else [each.columns_of(whole) for each in inner]
        spans = [*pairwise((0, *sorted({*needed, end})))]
        pieces: list[LinesAndColumns] = [(span, None) if by_lines else ((0, lines), span) for span in spans]
        return pieces, [1 + sum(last < each for _, last in spans) for each in needed]

    def _piece(self, region: Region, group: int, box: Box, lines: tuple[int, int], channels: tuple[int, int],
               across: tuple[int, int] | None) -> Piece:
        """Some lines of a region's tile, of them some channels, and columns if not all."""
        problem, geometry = self.problem, self.geometry(region, box)
        images, rows, columns = (0, region.images), (0, geometry.rows), across or (0, geometry.columns)
        if region.images > 1:
            images = lines
        elif geometry.rows > 1:
            rows = lines
        else:
            columns = lines
        window = Window(
            problem.x, (region.image0 + images[0], 1, images[1] - images[0]),
            (geometry.row0 + rows[0] * geometry.row_step, geometry.row_step, rows[1] - rows[0]),
            (geometry.column0 + columns[0] * geometry.column_step, geometry.column_step, columns[1] - columns[0]),
            geometry.image, geometry.line, geometry.pixel,
            images[0] * geometry.image + rows[0] * geometry.line + columns[0] * geometry.pixel)
        at, end = channels
        return piece_of(window, group * problem.cg + box.c0 + at, end - at, at)

    def weights(self, group: int, tiles: Tiles, box: Box, cuts: tuple[int, ...]) -> Tile:
        """Tile of weights, whose piece i brings elements ``cuts[i - 1]`` to ``cuts[i]`` of the contraction."""
        if isinstance(self.problem.weights, View):
            if self.problem.channelwise:
                return self._once(("w", tiles), lambda: lines_of(self.layer, tiles, self.w_size(tiles, box)))
            make = self._matrix
        else:
            make = self._diagonal if self.problem.channelwise else self._packed
        return self._once(("w", group, tiles, box), lambda: make(group, tiles, box, cuts))

    def w_pitches(self, tiles: Tiles, box: Box) -> tuple[int, int]:
        """``w_pitch`` and ``w_nstep`` of a tile of weights."""
        problem, cols = self.problem, self._config.array.cols
        if problem.channelwise:
            if problem.repeat:
                return cols, 0
            return (0, 0) if self._has_one_weight else (cols, box.taps * cols)
        if self.layer.left:
            return box.size, cols * box.size
        return self._w_row(tiles), cols

    def _adjoins(self, tiles: Tiles) -> bool:
        """Whether rows of weights stand in the scratchpad as in memory, one behind another, in as many operands.

        They do where tiles have all that a row has, so that they come in long bursts. Columns behind the last channel
        meet what begins the next row, and are dropped. That is less than a row, so that no piece has brought all that
        the next one would.
        """
        weights, valid = self.problem.weights, self.layer.span(tiles)[1]
        return (isinstance(weights, View) and not self.layer.left and self.problem.r * self.problem.s == 1
                and weights.stride("c") == valid and (tiles[1] - tiles[0]) * self._config.array.cols < 2 * valid)

    def _w_row(self, tiles: Tiles) -> int:
        """Operands from a row of weights to the next."""
        return self.layer.span(tiles)[1] if self._adjoins(tiles) else (tiles[1] - tiles[0]) * self._config.array.cols

    @property
    def _has_one_weight(self) -> bool:
        """Whether all channels have the same weight."""
        return isinstance(self.problem.weights, np.ndarray) and self.problem.weights.size == 1

    def w_size(self, tiles: Tiles, box: Box) -> int:
        """Bytes of a tile of weights."""
        problem, cols, lines = self.problem, self._config.array.cols, (tiles[1] - tiles[0]) * box.size
        if problem.channelwise:
            lines = 1 if self._has_one_weight else problem.repeat or (tiles[1] - tiles[0]) * box.taps
        elif not self.layer.left:
            # The last row is read up to the end of its last tile.
            return ((box.size - 1) * self._w_row(tiles) + (tiles[1] - tiles[0]) * cols) * self._config.operand_bytes
        return lines * cols * self._config.operand_bytes

    def w_cycles(self, tiles: Tiles, box: Box) -> float:
        """Cycles of the port to load a tile of weights."""
        layer, weights, item = self.layer, self.problem.weights, self._config.operand_bytes
        if not isinstance(weights, View):
            return layer.row_beats(self.w_size(tiles, box))
        first, valid = layer.span(tiles)
        if self.problem.channelwise:
            return layer.row_beats(valid * item)
        across, along = weights.stride("m") * item, weights.stride("c") * item
        start = weights.address + first * across
        if layer.left:
            return strided_beats(layer.config, layer.timing, start, across, box.size * item, valid)
        if valid * item == along:
            return layer.row_beats(box.size * valid * item)
        return strided_beats(layer.config, layer.timing, start, along, valid * item, box.size)

    def _padded(self, values: np.ndarray, outside: int = 0) -> np.ndarray:
        """Values of output channels (..., N) as (..., tiles, C): each tile of channels padded to C."""
        reach, count = self.layer.reach, -(-values.shape[-1] // self.layer.reach)
        full = np.full((*values.shape[:-1], count, self._config.array.cols), outside, np.int64)
        for tile in range(count):
            part = values[..., tile * reach:(tile + 1) * reach]
            full[..., tile, :part.shape[-1]] = part
        return full

    def _packed(self, group: int, tiles: Tiles, box: Box, cuts: tuple[int, ...]) -> Tile:
        problem, config, values = self.problem, self._config, self.problem.weights
        assert isinstance(values, np.ndarray)
        item, pitch = config.operand_bytes, self.w_pitches(tiles, box)[0]
        channel, valid = self.layer.span(tiles)
        # Zero padding makes one long burst of many short rows, if there is little of it.
        width = pitch if pitch * item <= max(valid * item + 2, 5 * config.beat_bytes) else valid

        def pack() -> bytes:
            part = values[group].reshape(problem.r, problem.s, problem.cg, problem.ng)[
                box.r0:box.r1, box.s0:box.s1, box.c0:box.c1, channel:channel + valid]
            full = np.full((box.size, width), problem.w_zero, np.int64)
            full[:, :valid] = part.reshape(box.size, valid)
            return config.arithmetic.to_memory(full, item).tobytes()

        address = self._plan.constant(problem.name, box.size * width * item, pack)
        pieces = [Piece([block(dram=address + first * width * item, address=first * pitch * item,
                               length=width * item, dims=[(last - first, width * item, pitch * item)])])
                  for first, last in pairwise((0, *cuts))]
        return Tile(Destination.WEIGHT.value, self.w_size(tiles, box), pieces)

    def _matrix(self, group: int, tiles: Tiles, box: Box, cuts: tuple[int, ...]) -> Tile:
        view, item, pitch = self.problem.weights, self._config.operand_bytes, self.w_pitches(tiles, box)[0]
        assert isinstance(view, View)
        channel, valid = self.layer.span(tiles)
        if self._adjoins(tiles):
            return self._side_by_side(tiles, box, cuts)
        part, across = view.part("m", channel, valid), view.stride("m")
        for name, first, end in (("r", box.r0, box.r1), ("s", box.s0, box.s1), ("c", box.c0, box.c1)):
            if view.loops(name):
                part = part.part(name, first, end - first)
        pieces = []
        for first, last in pairwise((0, *cuts)):
            piece = Piece([])
            for number, far, some in ranges(part.loops("csr"), first, last):
                begin = part.offset + far
                dram = view.buffer.address + begin * item
                if self.layer.left:
                    piece.loads += blocks(dram, number * item, item, [
                        *nested(some, item, item), (valid, across * item, pitch * item)])
                else:
                    piece.loads += blocks(dram, number * pitch * item, valid * item, nested(some, item, pitch * item))
                ends = [(size - 1) * step for size, step in [*some, (valid, across)]]
                piece.sources.append((view.buffer, begin + sum(min(end, 0) for end in ends),
                                      begin + sum(max(end, 0) for end in ends) + 1))
            pieces.append(piece)
        return Tile(Destination.WEIGHT.value, self.w_size(tiles, box), pieces)

    def _side_by_side(self, tiles: Tiles, box: Box, cuts: tuple[int, ...]) -> Tile:
        """Rows of weights that adjoin; pieces bring what columns behind the last channel meet, too."""
        view, item, valid = self.problem.weights, self._config.operand_bytes, self._w_row(tiles)
        assert isinstance(view, View)
        pieces, low, behind = [], 0, (tiles[1] - tiles[0]) * self._config.array.cols - valid
        for last in cuts:
            high = min(last * valid + behind, box.size * valid)
            begin = view.offset + box.c0 * valid + low
            load = block(dram=view.buffer.address + begin * item, address=low * item, length=(high - low) * item,
                         dims=[])
            pieces.append(Piece([load], [(view.buffer, begin, begin + high - low)]))
            low = high
        return Tile(Destination.WEIGHT.value, self.w_size(tiles, box), pieces)

    def _diagonal(self, group: int, tiles: Tiles, box: Box, cuts: tuple[int, ...]) -> Tile:
        problem, arithmetic, item = self.problem, self._config.arithmetic, self._config.operand_bytes
        values, size, cols = problem.weights, self.w_size(tiles, box), self._config.array.cols
        assert isinstance(values, np.ndarray)
        if problem.repeat:
            lines = arithmetic.to_memory(np.repeat(values, cols), item).tobytes()
            address = self._plan.constant(problem.name, size, lambda: lines, key=("lines", lines))
        elif values.size == 1:
            line = arithmetic.to_memory(np.full(cols, values.item() * arithmetic.one), item)
            address = self._plan.constant("ones", size, line.tobytes, key=("line", cols, values.item(), item))
        else:
            def pack() -> bytes:
                first, count = self.layer.span(tiles)
                taps = values.reshape(problem.r, problem.s, -1)[box.r0:box.r1, box.s0:box.s1, first:first + count]
                full = self._padded(taps.reshape(box.taps, -1), problem.w_zero).swapaxes(0, 1)
                return arithmetic.to_memory(full, item).tobytes()
            address = self._plan.constant(problem.name, size, pack)
        return stored(Destination.WEIGHT.value, size, address)

    def bias(self, group: int, tiles: Tiles) -> Tile:
        """Tile of constant biases, or of a stored vector, for tiles of one group."""
        bias, size = self.problem.finish.bias, (tiles[1] - tiles[0]) * self._config.array.cols * 4
        if not isinstance(bias, View):
            return self._entries("bias", Destination.BIAS.value, 4, group, tiles)
        first, valid = self.layer.span(tiles)
        return self._once(("bias", group, tiles), lambda: Tile(Destination.BIAS.value, size, [Piece(
            [block(dram=bias.address + (group * self.problem.ng + first) * 4, length=valid * 4, dims=[])],
            [bias.rows_of("w", 0, 1)])]))

    def bias_rows(self, tiles: Tiles, first: int, last: int) -> Tile:
        """Tile of rows first..last of a stored matrix of biases (M, N)."""
        bias = self.problem.finish.bias_rows
        assert bias is not None
        (channel, valid), row = self.layer.span(tiles), bias.stride("w") * 4
        pitch = (tiles[1] - tiles[0]) * self._config.array.cols * 4
        return Tile(Destination.BIAS.value, (last - first) * pitch, [Piece(
            [block(dram=bias.address + first * row + channel * 4, length=valid * 4, dims=[(last - first, row, pitch)])],
            [bias.rows_of("w", first, last)])])

    def scale(self, group: int, tiles: Tiles) -> Tile:
        """Tile of scale entries: one line for all, or one entry for each output channel."""
        entries, lanes = self.problem.finish.entries, self._config.post.lanes
        assert entries is not None
        if entries.size > 1:
            return self._entries("scale", Destination.SCALE.value, 8, group, tiles)

        def make() -> Tile:
            line = operand_array(np.repeat(entries.astype(np.int64), lanes), 8)
            address = self._plan.constant("scale", lanes * 8, line.tobytes, key=("scale", int(entries.item())))
            return stored(Destination.SCALE.value, lanes * 8, address)

        return self._once("scale", make)

    def _entries(self, name: str, memory: int, item: int, group: int, tiles: Tiles) -> Tile:
        """Tile of constants of output channels, each tile of channels padded to C entries."""
        problem, line = self.problem, self._config.array.cols * item
        values = problem.finish.bias if name == "bias" else problem.finish.entries
        assert isinstance(values, np.ndarray)

        def pack() -> bytes:
            return operand_array(self._padded(values.astype(np.int64).reshape(problem.groups, problem.ng)),
                                 item).tobytes()

        def make() -> Tile:
            data = self.known((name, "packed"), pack)
            address = self._plan.constant(problem.name, len(data), lambda: data, key=(name, data))
            return stored(memory, (tiles[1] - tiles[0]) * line,
                          address + (group * self.layer.tiles + tiles[0]) * line)

        return self._once((name, group, tiles), make)

    def table(self, tile: int) -> Tile:
        """Tile of the activation's table: one for all columns, or one for each channel of a tile."""
        problem, cols = self.problem, self._config.array.cols
        table = problem.finish.table
        assert table is not None
        first, count, step = 0, cols, 0
        if table.ndim == 2:
            (first, count), step = self.layer.span((tile, tile + 1)), 256

        def make() -> Tile:
            data = operand_array(table, 1).tobytes()
            address = self._plan.constant(problem.name, len(data), lambda: data, key=("table", data))
            return Tile(Destination.TABLE.value, cols * 256, [Piece([block(
                dram=address + first * 256, length=256, dims=[(count, step, 256)])])])

        return self._once(("table", first), make)

    def pair(self) -> Tile:
        """Tile of the tables of pairs, or of terms and steps."""
        config = self._config

        def make() -> Tile:
            data = self.known("pairs", self._packed_pair)
            address = self._plan.constant(self.problem.name, len(data), lambda: data, key=("pair", data))
            return stored(config.pair_memory, len(data), address)

        return self._once("pair", make)

    def _packed_pair(self) -> bytes:
        """Tables of pairs, or terms and steps, as they stand in memory."""
        finish = self.problem.finish
        words = np.zeros((1 << 8, pair_words(self._config)), np.int64)
        if finish.pair is not None:
            words[:, :2] = pair_entries(finish.pair).T
        if finish.terms is not None:
            words[:, 0] = finish.terms.view(np.int32)
        if finish.steps is not None:
            words[1:, 1] = finish.steps
        return operand_array(words, 4).tobytes()
