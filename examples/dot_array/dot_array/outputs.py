"""What becomes of finished sums: POSTs with the constants they need, and STOREs."""

from collections.abc import Callable, Iterator

import numpy as np

from pearray.compiler.kernels.layout import operand_array
from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kernels.regions import Region, split_region
from pearray.compiler.kernels.views import View
from pearray.compiler.placement import MemoryPlan
from pearray.compiler.steps import Output, Piece, Tile, Use
from pearray.compiler.transfers import block, blocks, pixel_dims
from pearray.hdl.shell.commands import Parameter, Rounding

from .config import DotConfig
from .parts import reach_of, tiles_of

__all__ = ["OutputMaker", "row_pitch"]


def row_pitch(nest: Nest, config: DotConfig, tiles: int, valid: int) -> int:
    """Outputs from one pixel to the next in the output scratchpad, for some tiles with so many valid channels.

    POST writes all N sums of a tile, one tile after another. What it writes beyond the valid ones is written over by
    the tile behind it, and, if there is only one tile, by the next pixel.
    """
    if tiles == 1 and valid % config.post.lanes == 0:
        return valid
    return (tiles - 1) * reach_of(nest, config) + config.array.rows


class OutputMaker:
    """Make the outputs of groups of sums.

    Parameters
    ----------
    nest : Nest
        The layer.
    config : DotConfig
        Accelerator.
    plan : MemoryPlan
        Where packed constants go.
    """

    def __init__(self, nest: Nest, config: DotConfig, plan: MemoryPlan):
        self._nest, self._config, self._plan, self._finish = nest, config, plan, nest.finish
        self._units, self._reach = config.array.rows, reach_of(nest, config)
        self._made: dict[object, Tile] = {}

    def outputs(self, region: Region, group: int, tiles: tuple[int, int]) -> Iterator[Output]:
        """Outputs of the pixels of a region, and of some tiles of a group's channels."""
        table = self._finish.table
        if table is not None and table.ndim == 2:
            # The memory holds the tables of one tile.
            for tile in range(*tiles):
                yield from self._outputs(region, group, (tile, tile + 1), (tile - tiles[0]) * region.pixels)
        else:
            yield from self._outputs(region, group, tiles, 0)

    def _outputs(self, region: Region, group: int, tiles: tuple[int, int], row: int) -> Iterator[Output]:
        """Outputs of tiles whose sums begin at a row of the accumulators."""
        nest, config, finish = self._nest, self._config, self._finish
        item, count = finish.item(config), tiles[1] - tiles[0]
        valid = min(nest.ng - tiles[0] * self._reach, count * self._reach)
        pitch, last = row_pitch(nest, config, count, valid), (count - 1) * self._reach + self._units
        # Half of the scratchpad, so that one POST writes while the STOREs of another read.
        most = max(1, (config.scratchpads.output_bytes // 2 // item - last) // pitch + 1)
        if finish.bias_rows is not None:
            most = min(most, max(1, config.scratchpads.channels // 2 // (count * self._units)))
        for piece in split_region(region, most):
            body = {"rounding": finish.rounding.value, "zero_point": finish.zero_point, "low": finish.low,
                    "high": finish.high, "n_count": count, "m_count": piece.pixels, "acc_base": row,
                    "acc_nstep": region.pixels, "out_nstep": self._reach * item, "out_mstep": pitch * item}
            output = Output(body, ((piece.pixels - 1) * pitch + last) * item, [],
                            (nest.y.buffer, piece.numbers(nest.y), valid))
            self._add_constants(output, piece, group, tiles)
            dram = nest.y.buffer.address + (piece.first(nest.y) + group * nest.ng + tiles[0] * self._reach) * item
            output.stores = blocks(dram, 0, valid * item, pixel_dims(nest.y, piece, pitch * item))
            yield output
            row += piece.pixels

    def _add_constants(self, output: Output, piece: Region, group: int, tiles: tuple[int, int]) -> None:
        """Add what a POST needs beside the sums."""
        finish, body, lines = self._finish, output.body, self._units // self._config.post.lanes
        if finish.bias is not None:
            body |= {"bias": 1, "bias_nstep": lines}
            if finish.bias_rows is not None:
                body["bias_mstep"] = (tiles[1] - tiles[0]) * lines
                output.bias = Use(self._bias_rows(finish.bias_rows, tiles, piece.q0, piece.q1), 1)
            else:
                output.bias = Use(self._bias(group, tiles), 1)
        if finish.rounding is Rounding.NONE:
            body["table"] = int(finish.relu)
            return
        assert finish.entries is not None
        output.scale = Use(self._scale(group, tiles), 1)
        if finish.entries.size > 1:
            body |= {"per_channel": 1, "scale_nstep": lines}
        if finish.table is not None:
            body["table"] = 1
            output.table = Use(self._table(finish.table, tiles[0]), 1)

    def _once(self, key: object, make: Callable[[], Tile]) -> Tile:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _bias(self, group: int, tiles: tuple[int, int]) -> Tile:
        """Biases of channels, known or in memory."""
        bias = self._finish.bias
        assert bias is not None
        if not isinstance(bias, View):
            return self._of_channels(Parameter.BIAS, bias, 4, group, tiles)
        first, end = tiles[0] * self._reach, min(tiles[1] * self._reach, self._nest.ng)
        whole, rest = divmod(end - first, self._reach)
        dram = bias.address + (group * self._nest.ng + first) * 4
        loads = [block(dram=dram + at * self._reach * 4, address=at * self._units * 4, length=valid * 4,
                       dims=[(count, self._reach * 4, self._units * 4)])
                 for at, count, valid in ((0, whole, self._reach), (whole, 1, rest)) if count and valid]
        return self._once(("bias", group, tiles), lambda: Tile(
            Parameter.BIAS.value, (tiles[1] - tiles[0]) * self._units * 4, [Piece(loads, [bias.rows_of("w", 0, 1)])]))

    def _bias_rows(self, bias: View, tiles: tuple[int, int], first: int, end: int) -> Tile:
        """Biases of some pixels, a row of memory each."""
        pitch, row = (tiles[1] - tiles[0]) * self._units * 4, bias.stride("w") * 4
        start = tiles[0] * self._units
        load = block(dram=bias.address + first * row + start * 4, address=0,
                     length=min(pitch, (self._nest.ng - start) * 4), dims=[(end - first, row, pitch)])
        return Tile(Parameter.BIAS.value, (end - first) * pitch, [Piece([load], [bias.rows_of("w", first, end)])])

    def _scale(self, group: int, tiles: tuple[int, int]) -> Tile:
        """Scales: of each channel, or a line of the same one for all."""
        entries, lanes = self._finish.entries, self._config.post.lanes
        assert entries is not None
        if entries.size > 1:
            return self._of_channels(Parameter.SCALE, entries, 8, group, tiles)
        data = operand_array(np.repeat(entries.astype(np.int64), lanes), 8).tobytes()
        return self._once("scale", lambda: self._constant(Parameter.SCALE, data))

    def _of_channels(self, memory: Parameter, values: np.ndarray, item: int, group: int,
                     tiles: tuple[int, int]) -> Tile:
        """Constants of channels, each tile of them padded to one of each unit."""
        nest, count = self._nest, tiles_of(self._nest, self._config)

        def make() -> Tile:
            full = np.zeros((count, self._units), np.int64)
            for tile in range(count):
                own = values[group * nest.ng:][:nest.ng][tile * self._reach:(tile + 1) * self._reach]
                full[tile, :len(own)] = own
            return self._constant(memory, operand_array(full[slice(*tiles)], item).tobytes())

        return self._once((memory, group, tiles), make)

    def _constant(self, memory: Parameter, data: bytes) -> Tile:
        address = self._plan.constant(self._nest.name, len(data), lambda: data, key=(memory, data))
        return Tile(memory.value, len(data), [Piece([block(dram=address, length=len(data), dims=[])])])

    def _table(self, table: np.ndarray, tile: int) -> Tile:
        """One table for all units, or that of each channel of a tile."""
        data = operand_array(table, 1).tobytes()

        def make() -> Tile:
            address = self._plan.constant(self._nest.name, len(data), lambda: data, key=(Parameter.TABLE, data))
            dims = (self._units, 0, 256)
            if table.ndim == 2:
                address += tile * self._reach * 256
                dims = (min(self._reach, len(table) - tile * self._reach), 256, 256)
            return Tile(Parameter.TABLE.value, self._units * 256, [Piece([block(
                dram=address, length=256, dims=[dims])])])

        return self._once(("table", tile if table.ndim == 2 else 0), make)
