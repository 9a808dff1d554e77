"""Tiles of a layer: which bytes of memory they hold and how they stand in the scratchpads."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ...hdl.shell.commands import Rounding
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.layout import operand_array
from ..kernels.nest import Nest
from ..kernels.regions import Region
from ..kernels.views import View
from ..placement import MemoryPlan
from ..steps import Piece, Tile
from ..transfers import Window, block, blocks, nested, ranges
from .cost import row_beats, strided_beats
from .geometry import Box, Geometry, reach_of, tiles_of

__all__ = ["TileMaker"]


class TileMaker:
    """Make each tile of a layer once.

    Parameters
    ----------
    problem : Nest
        The layer.
    config : SystolicConfig
        Configuration.
    plan : MemoryPlan
        Where packed constants go.
    """

    def __init__(self, problem: Nest, config: SystolicConfig, plan: MemoryPlan):
        self._problem = problem
        self._config = config
        self._plan = plan
        self._made: dict[object, Tile] = {}

    def _once(self, key: object, make: Callable[[], Tile]) -> Tile:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def geometry(self, region: Region, box: Box) -> Geometry:
        """How the input of `region` for `box` stands."""
        return Geometry.of(self._problem, region, box, self._config.banks)

    def a_size(self, region: Region, box: Box) -> int:
        """Bytes of a tile of activations."""
        geometry = self.geometry(region, box)
        images = region.image1 - region.image0
        # The last pixel of the last line ends the tile, whatever the pitch.
        extent = ((images - 1) * geometry.image + (geometry.rows - 1) * geometry.line
                  + (geometry.columns - 1) * geometry.pixel + box.c1 - box.c0)
        return extent * self._config.operand_bytes

    def activations(self, region: Region, group: int, box: Box, cuts: tuple[int, ...],
                    slices: tuple[int, ...] = (0,)) -> Tile:
        """Tile of activations, whose piece i brings lines ``cuts[i - 1]`` to ``cuts[i]``.

        Lines are images if there are several, else rows, else columns if there is one row. With several
        `slices` the first lines come in as many pieces, channels ``slices[j - 1]`` to ``slices[j]`` of the box.
        """
        def make() -> Tile:
            pieces = [self._piece(region, group, box, first, last)
                      for first, last in zip((0, *cuts[:-1]), cuts, strict=True)]
            if len(slices) > 1:
                pieces[:1] = [self._piece(region, group, box, 0, cuts[0], channels)
                              for channels in pairwise((0, *slices))]
            return Tile(Destination.ACTIVATION.value, self.a_size(region, box), pieces)

        return self._once(("a", region, group, box), make)

    def lines(self, region: Region, box: Box) -> int:
        """Number of lines by which a tile of activations can be cut."""
        images = region.image1 - region.image0
        geometry = self.geometry(region, box)
        return images if images > 1 else geometry.rows if geometry.rows > 1 else geometry.columns

    def _piece(self, region: Region, group: int, box: Box, first: int, last: int,
               channels: tuple[int, int] | None = None) -> Piece:
        problem, geometry = self._problem, self.geometry(region, box)
        images, rows, columns = (0, region.image1 - region.image0), (0, geometry.rows), (0, geometry.columns)
        if images[1] > 1:
            images = (first, last)
        elif geometry.rows > 1:
            rows = (first, last)
        else:
            columns = (first, last)
        window = Window(
            problem.x, (region.image0 + images[0], 1, images[1] - images[0]),
            (geometry.row0 + rows[0] * geometry.row_step, geometry.row_step, rows[1] - rows[0]),
            (geometry.column0 + columns[0] * geometry.column_step, geometry.column_step, columns[1] - columns[0]),
            geometry.image, geometry.line, geometry.pixel,
            images[0] * geometry.image + rows[0] * geometry.line + columns[0] * geometry.pixel)
        at, end = channels or (0, box.c1 - box.c0)
        loads, sources = window.copy(group * problem.cg + box.c0 + at, end - at, at)
        return Piece(window.padding(end - at, at) + loads, sources)

    def weights(self, group: int, tiles: tuple[int, int], box: Box, cuts: tuple[int, ...]) -> Tile:
        """Tile of weights, whose piece i brings elements ``cuts[i - 1]`` to ``cuts[i]`` of the contraction."""
        make = self._diagonal if self._problem.channelwise else self._packed
        if isinstance(self._problem.weights, View):
            make = self._matrix
        return self._once(("w", group, tiles, box), lambda: make(group, tiles, box, cuts))

    def w_pitches(self, tiles: tuple[int, int], box: Box) -> tuple[int, int]:
        """``w_pitch`` and ``w_nstep`` of a tile of weights."""
        problem, cols = self._problem, self._config.array.cols
        if problem.channelwise:
            assert isinstance(problem.weights, np.ndarray)
            if problem.repeat:
                return cols, 0
            return (0, 0) if problem.weights.size == 1 else (cols, self._taps(box) * cols)
        if isinstance(problem.weights, View) and problem.weights.stride("m") != 1:
            return box.size, cols * box.size
        return (tiles[1] - tiles[0]) * cols, cols

    @staticmethod
    def _taps(box: Box) -> int:
        return (box.r1 - box.r0) * (box.s1 - box.s0)

    def w_size(self, tiles: tuple[int, int], box: Box) -> int:
        """Bytes of a tile of weights."""
        problem, count = self._problem, tiles[1] - tiles[0]
        if problem.channelwise:
            assert isinstance(problem.weights, np.ndarray)
            lines = 1 if problem.weights.size == 1 else problem.repeat or self._taps(box) * count
            return lines * self._config.array.cols * self._config.operand_bytes
        return count * self._config.array.cols * box.size * self._config.operand_bytes

    def w_cycles(self, timing: MemoryTiming, tiles: tuple[int, int], box: Box) -> float:
        """Cycles of the port to load a tile of weights."""
        problem, config = self._problem, self._config
        weights, item = problem.weights, config.operand_bytes
        if isinstance(weights, View):
            first = tiles[0] * config.array.cols
            valid = min(tiles[1] * config.array.cols, problem.ng) - first
            start, pitch = weights.address + first * weights.stride("m") * item, weights.stride("c") * item
            if weights.stride("m") != 1:
                return strided_beats(config, timing, start, weights.stride("m") * item, box.size * item, valid)
            if valid * item == pitch:
                return row_beats(config, timing, box.size * valid * item)
            return strided_beats(config, timing, start, pitch, valid * item, box.size)
        return row_beats(config, timing, self.w_size(tiles, box))

    def _packed(self, group: int, tiles: tuple[int, int], box: Box, cuts: tuple[int, ...]) -> Tile:
        problem, config = self._problem, self._config
        assert isinstance(problem.weights, np.ndarray)
        cols, item = config.array.cols, config.operand_bytes
        pitch = (tiles[1] - tiles[0]) * cols
        valid = min(problem.ng - tiles[0] * cols, pitch)
        # Zero padding makes one long burst of many short rows, if there is little of it.
        width = pitch if pitch * item <= max(valid * item + 2, 5 * config.beat_bytes) else valid
        values = problem.weights

        def pack() -> bytes:
            block_ = values[group].reshape(problem.r, problem.s, problem.cg, problem.ng)[
                box.r0:box.r1, box.s0:box.s1, box.c0:box.c1, tiles[0] * cols:tiles[0] * cols + valid]
            block_ = block_.reshape(box.size, valid)
            full = np.full((box.size, width), problem.w_zero, np.int64)
            full[:, :valid] = block_
            return config.arithmetic.to_memory(full, item).tobytes()

        address = self._plan.constant(problem.name, box.size * width * item, pack)
        pieces = [Piece([block(dram=address + first * width * item, address=first * pitch * item,
                               length=width * item, dims=[(last - first, width * item, pitch * item)])])
                  for first, last in zip((0, *cuts[:-1]), cuts, strict=True)]
        return Tile(Destination.WEIGHT.value, self.w_size(tiles, box), pieces)

    def _matrix(self, group: int, tiles: tuple[int, int], box: Box, cuts: tuple[int, ...]) -> Tile:
        problem, config = self._problem, self._config
        view, item, cols = problem.weights, config.operand_bytes, config.array.cols
        assert isinstance(view, View)
        base, valid = tiles[0] * cols, min(problem.ng - tiles[0] * cols, (tiles[1] - tiles[0]) * cols)
        part = view.part("m", base, valid)
        for name, first, end in (("r", box.r0, box.r1), ("s", box.s0, box.s1), ("c", box.c0, box.c1)):
            if view.loops(name):
                part = part.part(name, first, end - first)
        start, dims = part.offset, part.loops("csr")
        pitch, _ = self.w_pitches(tiles, box)
        pieces = []
        for first, last in zip((0, *cuts[:-1]), cuts, strict=True):
            piece = Piece([])
            for number, far, some in ranges(dims, first, last):
                dram = view.buffer.address + (start + far) * item
                if view.stride("m") != 1:
                    piece.loads += blocks(dram, number * item, item, [
                        *nested(some, item, item), (valid, view.stride("m") * item, pitch * item)])
                else:
                    piece.loads += blocks(dram, number * pitch * item, valid * item, nested(some, item, pitch * item))
                reach = sum((size - 1) * step for size, step in [*some, (valid, view.stride("m"))])
                piece.sources.append((view.buffer, start + far, start + far + reach + 1))
            pieces.append(piece)
        return Tile(Destination.WEIGHT.value, self.w_size(tiles, box), pieces)

    def _diagonal(self, group: int, tiles: tuple[int, int], box: Box, cuts: tuple[int, ...]) -> Tile:
        problem, config = self._problem, self._config
        values = problem.weights
        assert isinstance(values, np.ndarray)
        size, cols, reach = self.w_size(tiles, box), config.array.cols, reach_of(problem, config)
        if problem.repeat:
            lines = config.arithmetic.to_memory(np.repeat(values, cols), config.operand_bytes).tobytes()
            address = self._plan.constant(problem.name, size, lambda: lines, key=("lines", lines))
        elif values.size == 1:
            line = config.arithmetic.to_memory(np.full(cols, values.item()), config.operand_bytes)
            address = self._plan.constant("ones", size, line.tobytes,
                                          key=("line", cols, values.item(), config.operand_bytes))
        else:
            def pack() -> bytes:
                count = tiles[1] - tiles[0]
                taps = values.reshape(problem.r, problem.s, -1)[box.r0:box.r1, box.s0:box.s1]
                taps = taps.reshape(self._taps(box), -1)
                full = np.full((count, taps.shape[0], cols), problem.w_zero, np.int64)
                for tile in range(count):
                    part = taps[:, (tiles[0] + tile) * reach:(tiles[0] + tile + 1) * reach]
                    full[tile, :, :part.shape[1]] = part
                return config.arithmetic.to_memory(full, config.operand_bytes).tobytes()
            address = self._plan.constant(problem.name, size, pack)
        return Tile(Destination.WEIGHT.value, size, [Piece([block(dram=address, length=size, dims=[])])])

    def bias(self, group: int, tiles: tuple[int, int]) -> Tile:
        """Tile of constant biases, or of a stored vector, for tiles of one group."""
        problem, config = self._problem, self._config
        bias = problem.finish.bias
        assert bias is not None
        cols, count = config.array.cols, tiles[1] - tiles[0]
        if isinstance(bias, View):
            n0 = group * problem.ng + tiles[0] * cols
            valid = min(problem.ng - tiles[0] * cols, count * cols)
            return self._once(("bias", group, tiles), lambda: Tile(
                Destination.BIAS.value, count * cols * 4,
                [Piece([block(dram=bias.address + n0 * 4, length=valid * 4, dims=[])], [bias.rows_of("w", 0, 1)])]))
        return self._entries("bias", Destination.BIAS.value, bias, 4, group, tiles)

    def bias_rows(self, tiles: tuple[int, int], first: int, last: int) -> Tile:
        """Tile of rows first..last of a stored matrix of biases (M, N)."""
        problem, cols = self._problem, self._config.array.cols
        bias = problem.finish.bias_rows
        assert bias is not None
        pitch = (tiles[1] - tiles[0]) * cols * 4
        valid = min(problem.ng - tiles[0] * cols, (tiles[1] - tiles[0]) * cols) * 4
        row = bias.stride("w") * 4
        return Tile(Destination.BIAS.value, (last - first) * pitch, [Piece(
            [block(dram=bias.address + first * row + tiles[0] * cols * 4, length=valid,
                   dims=[(last - first, row, pitch)])], [bias.rows_of("w", first, last)])])

    def scale(self, group: int, tiles: tuple[int, int]) -> Tile:
        """Tile of scale entries: one line for all, or one entry for each output channel."""
        entries, config = self._problem.finish.entries, self._config
        assert entries is not None
        if entries.size > 1:
            return self._entries("scale", Destination.SCALE.value, entries, 8, group, tiles)
        size = config.post.lanes * 8

        def make() -> Tile:
            address = self._plan.constant("scale", size, lambda: operand_array(
                np.repeat(entries.astype(np.int64), config.post.lanes), 8).tobytes(),
                key=("scale", int(entries.item())))
            return Tile(Destination.SCALE.value, size, [Piece([block(dram=address, length=size, dims=[])])])

        return self._once("scale", make)

    def _entries(self, name: str, memory: int, values: np.ndarray, item: int, group: int,
                 tiles: tuple[int, int]) -> Tile:
        """Tile of constants of output channels, each tile of channels padded to C entries."""
        problem, config = self._problem, self._config
        cols, reach, per_group = config.array.cols, reach_of(problem, config), tiles_of(problem, config)

        def make() -> Tile:
            full = np.zeros((problem.groups, per_group, cols), np.int64)
            grouped = values.astype(np.int64).reshape(problem.groups, problem.ng)
            for each in range(per_group):
                part = grouped[:, each * reach:(each + 1) * reach]
                full[:, each, :part.shape[1]] = part
            data = operand_array(full, item).tobytes()
            address = self._plan.constant(problem.name, len(data), lambda: data, key=(name, data))
            first = group * per_group + tiles[0]
            size = (tiles[1] - tiles[0]) * cols * item
            return Tile(memory, size, [Piece([block(dram=address + first * cols * item, length=size, dims=[])])])

        return self._once((name, group, tiles), make)

    def table(self, tile: int) -> Tile:
        """Tile of the activation's table: one for all columns, or one for each channel of a tile."""
        problem, config = self._problem, self._config
        table = problem.finish.table
        assert table is not None
        cols, reach = config.array.cols, reach_of(problem, config)
        data = operand_array(table, 1).tobytes()

        def make() -> Tile:
            address = self._plan.constant(problem.name, len(data), lambda: data, key=("table", data))
            count = cols
            if table.ndim == 2:
                count = min(reach, table.shape[0] - tile * reach)
                address += tile * reach * 256
            step = 256 if table.ndim == 2 else 0
            return Tile(Destination.TABLE.value, cols * 256, [Piece([block(
                dram=address, length=256, dims=[(count, step, 256)])])])

        return self._once(("table", tile if table.ndim == 2 else 0), make)

    @property
    def rounds(self) -> bool:
        """Whether outputs are requantised."""
        return self._problem.finish.rounding is not Rounding.NONE
