"""What becomes of the sums of a group: POSTs, and STOREs of what they write."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...hdl.post.average import STATES
from ...hdl.shell.commands import ADDRESS_BITS, ROW_WRAP, Rounding
from ..kernels.regions import Region, even, split_region
from ..kernels.views import Axis, View
from ..steps import Output, Use
from ..transfers import blocks, pixel_dims
from .layer import Tiles
from .tiles import TileMaker

__all__ = ["Grid", "OutputMaker"]


@dataclass(frozen=True)
class Grid:
    """Where the sums of a group's pixels stand in the accumulators."""

    #: Rows from a row of pixels to the next; those beyond its columns are dropped.
    line: int
    #: Rows from a tile of channels to the next.
    tile: int


class OutputMaker:
    """Makes the outputs of a layer's groups, with tiles of constants that `maker` makes."""

    def __init__(self, maker: TileMaker):
        self._layer, self._problem, self._config = maker.layer, maker.problem, maker.layer.config
        self._maker = maker

    def outputs(self, part: Region, group: int, tiles: Tiles, pieces: int = 1,
                grid: Grid | None = None) -> list[Output]:
        """Outputs of a group; its pixels are cut into `pieces` parts at least, and fill the `grid` without a gap."""
        table = self._problem.finish.table
        grid = grid or Grid(part.columns, part.pixels * self._problem.apart * self._layer.sums)
        together = (table is None or table.ndim == 1) and self._problem.finish.steps is None
        alike = [tiles] if together else [(tile, tile + 1) for tile in range(*tiles)]
        return [output for each in alike
                for output in self._rows(part, group, each, (each[0] - tiles[0]) * grid.tile, pieces, grid)]

    def _rows(self, part: Region, group: int, tiles: Tiles, start: int, pieces: int, grid: Grid) -> Iterator[Output]:
        """Outputs of tiles that share constants, whose sums stand from row `start` on."""
        key = "outputs", part, group, tiles, start, pieces, grid
        for plain, first, rows in self._maker.known(key, lambda: [*self._plain(*key[1:])]):
            output = Output(plain.body, plain.size, plain.stores, plain.target)
            self._add_constants(output, group, tiles, first, rows)
            yield output

    def _plain(self, part: Region, group: int, tiles: Tiles, start: int, pieces: int,
               grid: Grid) -> Iterator[tuple[Output, int, int]]:
        """Outputs without their constants, and the first row of these and their number."""
        config, finish, wide, (_, valid) = self._config, self._problem.finish, self._layer.wide, self._layer.span(tiles)
        cols, item, count, sums = config.array.cols, finish.item(config), tiles[1] - tiles[0], finish.sums
        # Columns without a channel of their own may spill over what is written later: the next tile, the next row.
        last = (count - 1) * wide + cols
        is_packed = self._layer.packs(tiles)
        pitch = valid if is_packed or (count == 1 and valid % config.post.lanes == 0) else last
        most = max(1, (config.scratchpads.output_bytes // 2 // item - last) // pitch + 1)
        if finish.bias_rows is not None:
            most = min(most, max(1, config.scratchpads.channels // 2 // (count * cols)))
        if finish.steps is not None:
            most = min(most, max(1, STATES * config.post.lanes // cols))
        y, cut = self._pieces(part, most, pieces, grid)
        for at, piece in cut:
            # Sums between two rows of pixels are made into outputs that nothing stores.
            rows = (piece.pixels // piece.columns - 1) * grid.line + piece.columns
            body = {"rounding": finish.rounding.value, "zero_point": finish.zero_point, "low": finish.low,
                    "high": finish.high, "n_count": count, "m_count": rows * sums,
                    "acc_base": start + at * sums, "acc_nstep": grid.tile, "out_nstep": wide * item,
                    "out_mstep": pitch * item}
            if sums > 1:
                body |= {"reduce": sums - 1, "reduce_unsigned": int(finish.is_unsigned)}
            output = Output(body, ((rows - 1) * pitch + last) * item,
                            self._stores(y, piece, group, tiles, pitch, grid.line),
                            (y.buffer, piece.numbers(y), valid))
            body |= self._of_constants(tiles)
            if is_packed:
                self._walk_back(body)
            if finish.steps is not None:
                # Each tile of a POST is another term, or a step of the search.
                body |= {"n_count": self._layer.walks, "acc_nstep": part.pixels, "out_nstep": 0, "search": 1,
                         "average": int(finish.terms is not None)}
            yield output, piece.q0, rows

    @staticmethod
    def _walk_back(body: dict[str, int]) -> None:
        """Let a POST begin with the last tile: what that spills over the next row's first channels is written later."""
        behind = body["n_count"] - 1
        for base, step, wrap in (("acc_base", "acc_nstep", ROW_WRAP), ("out_base", "out_nstep", 1 << ADDRESS_BITS),
                                 ("bias_base", "bias_nstep", ROW_WRAP), ("scale_base", "scale_nstep", ROW_WRAP)):
            if step in body:
                body[base] = body.get(base, 0) + behind * body[step]
                body[step] = -body[step] % wrap

    def _of_constants(self, tiles: Tiles) -> dict[str, int]:
        """Fields of a POST that say how it uses biases, scales and tables of some tiles."""
        finish, body = self._problem.finish, dict[str, int]()
        step, span = self._config.array.cols // self._config.post.lanes, self._const_span(tiles)
        base = (tiles[0] - span[0]) * step
        if finish.bias_rows is not None:
            body |= {"bias_mstep": (tiles[1] - tiles[0]) * step, "bias": 1, "bias_nstep": step}
        elif finish.bias is not None:
            body |= {"bias_base": base, "bias": 1, "bias_nstep": step}
        if finish.pair is not None:
            body["pair"] = 1
        if finish.product is not None:
            first, second, addend = finish.product
            body |= {"product": 1, "bias_base": first | second << 8, "bias_nstep": addend & 0xFFFF,
                     "bias_mstep": addend >> 16 & 15}
        if finish.rounding is Rounding.NONE:
            return body | {"table": 1} if finish.relu else body
        if finish.entries is not None and finish.entries.size > 1:
            body |= {"per_channel": 1, "scale_nstep": step, "scale_base": base}
        return body | {"table": 1} if finish.table is not None else body

    def _add_constants(self, output: Output, group: int, tiles: Tiles, first: int, rows: int) -> None:
        """Let an output of rows `first` and on use its biases, scales and tables."""
        finish, maker, span = self._problem.finish, self._maker, self._const_span(tiles)
        if finish.bias_rows is not None:
            output.bias = Use(maker.bias_rows(tiles, first, first + rows), 1)
        elif finish.bias is not None:
            output.bias = Use(maker.bias(group, span), 1)
        if finish.pair is not None or finish.steps is not None:
            output.pair = Use(maker.pair(), 1)
        if finish.rounding is not Rounding.NONE:
            if finish.entries is not None:
                output.scale = Use(maker.scale(group, span), 1)
            if finish.table is not None:
                output.table = Use(maker.table(tiles[0]), 1)

    def _pieces(self, part: Region, most: int, pieces: int, grid: Grid) -> tuple[View, list[tuple[int, Region]]]:
        """Cut a group's pixels into what POSTs write at once, at most `most` rows of sums, at least `pieces` parts.

        Returns
        -------
        View, list of (int, Region)
            The output, and the parts of it, each with the row of its first sum.
        """
        most, problem, y = max(1, min(most, -(-part.pixels // pieces))), self._problem, self._problem.y
        columns = part.columns
        whole = y.is_whole and y.is_dense("n", "h", "w") and part.is_run(problem.p, problem.q)
        if grid.line != columns or most >= part.pixels or not whole:
            # With columns that are dropped behind it, a row takes more of the room.
            lines = most // grid.line if most >= columns else 0
            cut = split_region(part, max(lines, 1) * columns if grid.line != columns and most >= columns else most)
            return y, [(((piece.image0 - part.image0) * part.rows + piece.p0 - part.p0) * grid.line
                        + piece.q0 - part.q0, piece) for piece in cut]
        # Pixels follow one another in memory, wherever rows end: as one row they cut evenly.
        row = Axis("w", problem.images * problem.p * problem.q, y.stride("w"))
        first, parts = (part.image0 * problem.p + part.p0) * problem.q + part.q0, -(-part.pixels // most)
        return (replace(y, axes=(Axis("n", 1, 0), Axis("h", 1, 0), row, y.axis("c"))),
                [(start, Region(0, 1, 0, 1, first + start, first + end)) for start, end in even(part.pixels, parts)])

    def _const_span(self, tiles: Tiles) -> Tiles:
        """Tiles whose constants are loaded together: all of the group if they take at most half the room."""
        whole = self._layer.tiles * self._config.array.cols * 2 <= self._config.scratchpads.channels
        return (0, self._layer.tiles) if whole else tiles

    def _stores(self, y: View, piece: Region, group: int, tiles: Tiles, pitch: int, line: int) -> list[dict[str, int]]:
        layer, item = self._layer, self._problem.finish.item(self._config)
        reach, (first, valid) = layer.reach, layer.span(tiles)
        dram = y.buffer.address + (piece.first(y) + group * self._problem.ng + first) * item
        dims = pixel_dims(y, piece, pitch * item, line)
        # Tiles that adjoin in the scratchpad as they do in memory are stored as one.
        size = valid if layer.wide == reach or tiles[1] - tiles[0] == 1 else reach
        return [body for tile, at in enumerate(range(0, valid, size))
                for body in blocks(dram + at * item, tile * layer.wide * item, min(size, valid - at) * item, dims)]
