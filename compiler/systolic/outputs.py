"""What becomes of the sums of a group: POSTs, and STOREs of what they write."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...hdl.shell.commands import Rounding
from ...hdl.systolic.config import SystolicConfig
from ..kernels.nest import Nest
from ..kernels.regions import Region, even, split_region
from ..kernels.views import Axis, View
from ..steps import Output, Use
from ..transfers import blocks, pixel_dims
from .geometry import reach_of, tiles_of
from .tiles import TileMaker

__all__ = ["Grid", "OutputMaker"]


@dataclass(frozen=True)
class Grid:
    """Where the sums of a group's pixels stand in the accumulators.

    Parameters
    ----------
    line : int
        Rows from a row of pixels to the next; those beyond its columns are dropped.
    tile : int
        Rows from a tile of channels to the next.
    """

    line: int
    tile: int


class OutputMaker:
    """Make the outputs of groups.

    Parameters
    ----------
    problem : Nest
        The layer.
    config : SystolicConfig
        Configuration.
    maker : TileMaker
        Makes tiles of constants.
    """

    def __init__(self, problem: Nest, config: SystolicConfig, maker: TileMaker):
        self._problem, self._config, self._maker = problem, config, maker

    def outputs(self, part: Region, group: int, tiles: tuple[int, int], pieces: int = 1,
                grid: Grid | None = None) -> list[Output]:
        """Outputs of a group; its pixels are cut into `pieces` parts at least, and fill the `grid` without a gap."""
        finish = self._problem.finish
        grid = grid or Grid(part.q1 - part.q0, part.pixels)
        if finish.table is not None and finish.table.ndim == 2:
            return [output for tile in range(*tiles)
                    for output in self._rows(part, group, (tile, tile + 1), (tile - tiles[0]) * grid.tile, pieces,
                                             grid)]
        return list(self._rows(part, group, tiles, 0, pieces, grid))

    def _rows(self, part: Region, group: int, tiles: tuple[int, int], start: int, pieces: int,
              grid: Grid) -> Iterator[Output]:
        problem, config = self._problem, self._config
        finish, cols, lanes = problem.finish, config.array.cols, config.post.lanes
        item, reach, count = problem.finish.item(config), reach_of(problem, config), tiles[1] - tiles[0]
        wide = -(-reach // lanes) * lanes
        valid = min(problem.ng - tiles[0] * reach, count * reach)
        # Columns without a channel of their own may spill over what is written later: the next tile, the next row.
        pitch = (count - 1) * wide + cols
        if count == 1 and valid % lanes == 0:
            pitch = valid

        def size(rows: int) -> int:
            return ((rows - 1) * pitch + (count - 1) * wide + cols) * item

        capacity = config.scratchpads.output_bytes
        most = max(1, (capacity // 2 // item - (count - 1) * wide - cols) // pitch + 1)
        if finish.bias_rows is not None:
            most = min(most, max(1, config.scratchpads.channels // 2 // (count * cols)))
        y, cut = self._pieces(part, most, pieces, grid)
        for at, piece in cut:
            # Sums between two rows of pixels are made into outputs that nothing stores.
            rows = (piece.pixels // (piece.q1 - piece.q0) - 1) * grid.line + piece.q1 - piece.q0
            body = {"rounding": finish.rounding.value, "zero_point": finish.zero_point, "low": finish.low,
                    "high": finish.high, "n_count": count, "m_count": rows,
                    "acc_base": start + at, "acc_nstep": grid.tile, "out_nstep": wide * item,
                    "out_mstep": pitch * item}
            output = Output(body, size(rows), [], (y.buffer, piece.numbers(y), valid))
            if finish.bias is not None:
                if finish.bias_rows is not None:
                    tile = self._maker.bias_rows(tiles, piece.q0, piece.q0 + rows)
                    body |= {"bias_mstep": count * cols // lanes}
                else:
                    tile = self._maker.bias(group, self._const_span(tiles))
                    body |= {"bias_base": (tiles[0] - self._const_span(tiles)[0]) * cols // lanes}
                output.bias = Use(tile, 1)
                body |= {"bias": 1, "bias_nstep": cols // lanes}
            if finish.rounding is not Rounding.NONE:
                assert finish.entries is not None
                output.scale = Use(self._maker.scale(group, self._const_span(tiles)), 1)
                if finish.entries.size > 1:
                    body |= {"per_channel": 1, "scale_nstep": cols // lanes,
                             "scale_base": (tiles[0] - self._const_span(tiles)[0]) * cols // lanes}
                if finish.table is not None:
                    body["table"] = 1
                    output.table = Use(self._maker.table(tiles[0]), 1)
            elif finish.relu:
                body["table"] = 1
            output.stores = self._stores(y, piece, group, tiles, item, pitch, wide, grid.line)
            yield output

    def _pieces(self, part: Region, most: int, pieces: int, grid: Grid) -> tuple[View, list[tuple[int, Region]]]:
        """Cut a group's pixels into what POSTs write at once, at most `most` rows of sums, at least `pieces` parts.

        Returns
        -------
        View, list of (int, Region)
            The output, and the parts of it, each with the row of its first sum.
        """
        most, problem, y = max(1, min(most, -(-part.pixels // pieces))), self._problem, self._problem.y
        columns = part.q1 - part.q0
        whole = y.is_whole and y.is_dense("n", "h", "w") and part.is_run(problem.p, problem.q)
        if grid.line != columns or most >= part.pixels or not whole:
            # With columns that are dropped behind it, a row takes more of the room.
            lines = most // grid.line if most >= columns else 0
            cut = split_region(part, max(lines, 1) * columns if grid.line != columns and most >= columns else most)
            return y, [(((piece.image0 - part.image0) * (part.p1 - part.p0) + piece.p0 - part.p0) * grid.line
                        + piece.q0 - part.q0, piece) for piece in cut]
        # Pixels follow one another in memory, wherever rows end: as one row they cut evenly.
        row = Axis("w", problem.images * problem.p * problem.q, y.stride("w"))
        first, parts = (part.image0 * problem.p + part.p0) * problem.q + part.q0, -(-part.pixels // most)
        return (replace(y, axes=(Axis("n", 1, 0), Axis("h", 1, 0), row, y.axis("c"))),
                [(start, Region(0, 1, 0, 1, first + start, first + end)) for start, end in even(part.pixels, parts)])

    def _const_span(self, tiles: tuple[int, int]) -> tuple[int, int]:
        """Tiles whose constants are loaded together: all of the group if they take at most half the room."""
        per_group = tiles_of(self._problem, self._config)
        if per_group * self._config.array.cols * 2 <= self._config.scratchpads.channels:
            return 0, per_group
        return tiles

    def _stores(self, y: View, piece: Region, group: int, tiles: tuple[int, int], item: int, pitch: int,
                wide: int, line: int) -> list[dict[str, int]]:
        problem = self._problem
        reach, count = reach_of(problem, self._config), tiles[1] - tiles[0]
        dram = y.buffer.address + (piece.first(y) + group * problem.ng + tiles[0] * reach) * item
        valid = min(problem.ng - tiles[0] * reach, count * reach)
        dims = pixel_dims(y, piece, pitch * item, line)
        if wide == reach or count == 1:
            return blocks(dram, 0, valid * item, dims)
        whole, ragged = divmod(valid, reach)
        stores = [body for tile in range(whole)
                  for body in blocks(dram + tile * reach * item, tile * wide * item, reach * item, dims)]
        if ragged:
            stores += blocks(dram + whole * reach * item, whole * wide * item, ragged * item, dims)
        return stores
