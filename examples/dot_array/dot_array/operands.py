"""Tiles of activations and weights: the LOADs that bring them, and the EXECUTEs that walk them."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kernels.regions import Region
from pearray.compiler.kernels.views import Buffer, View
from pearray.compiler.placement import MemoryPlan
from pearray.compiler.steps import Piece, Tile
from pearray.compiler.transfers import Window, block, blocks, fill

from .commands import Destination
from .config import DotConfig
from .footprint import Footprint
from .parts import Part, depth_of, is_uniform, patterns_of, reach_of, weight_lines

__all__ = ["OperandMaker"]


def _copies(dram: int, address: int, length: int, dims: list[tuple[int, int, int]]) -> Iterator[dict[str, int]]:
    """Bodies of LOADs of rows in any number of dimensions (count, step in memory, step in the scratchpad)."""
    if len(dims) <= 3:
        yield from blocks(dram, address, length, dims)
        return
    count, far, near = dims[-1]
    for index in range(count):
        yield from _copies(dram + index * far, address + index * near, length, dims[:-1])


def _sources(buffer: Buffer, loads: list[dict[str, int]]) -> list[tuple[Buffer, int, int]]:
    """Elements of a buffer, of a byte each, that LOADs read: all from the first to the last."""
    spans = [(load["dram"] - buffer.address, sum(
        (load[f"count{dim}"] - 1) * load[f"dram_step{dim}"] for dim in (1, 2)) + load["length"])
        for load in loads if not load.get("fill")]
    return [(buffer, min(first for first, _ in spans), max(first + span for first, span in spans))] if spans else []


class OperandMaker:
    """Make each tile of operands of a layer once.

    Parameters
    ----------
    nest : Nest
        The layer, or what is added to it.
    config : DotConfig
        Accelerator.
    plan : MemoryPlan
        Where packed weights go.
    """

    def __init__(self, nest: Nest, config: DotConfig, plan: MemoryPlan):
        self._nest, self._config, self._plan = nest, config, plan
        self._made: dict[object, Tile] = {}

    def _once(self, key: object, make: Callable[[], Tile]) -> Tile:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def activations(self, region: Region, group: int, part: Part) -> Tile:
        """Tile of the activations that a region of outputs needs for a part of its sums."""
        return self._once((region, group, part), lambda: self._activations(region, group, part))

    def _activations(self, region: Region, group: int, part: Part) -> Tile:
        nest, x, line = self._nest, self._nest.x, self._config.array.cols
        at, (c0, c1) = Footprint.of(nest, region, part, self._config), part.channels
        # Channels may run on into the pixels to the right (see fold), which must be there, too.
        whole = x.part("w", 0, x.size("w") - (c1 - 1) // x.size("c"))
        window = Window(whole, at.images, at.rows, at.columns, at.image * line, at.row * line, at.pixel * line)
        rows, columns = window.inside("h"), window.inside("w")
        loads = window.padding(part.width)
        runs = [(columns, part.channels)]
        for edge in (*range(columns[0]), *range(columns[1], at.columns[2])):
            # What of a pixel is inside is written over its padding.
            left = at.columns[0] + edge * at.columns[1]
            runs.append(((edge, edge + 1), (max(c0, -left * x.size("c")), min(c1, (x.size("w") - left) * x.size("c")))))
        for (first, end), (low, high) in runs:
            if rows[0] == rows[1] or first == end or low >= high:
                continue
            dims = [(end - first, at.columns[1] * x.stride("w"), window.pixel),
                    (rows[1] - rows[0], at.rows[1] * x.stride("h"), window.line),
                    (at.images[2], at.images[1] * x.stride("n"), window.image)]
            length = high - low
            if x.stride("c") != 1 and length > 1:
                # Channels of a pixel do not follow one another in memory: they come one by one.
                length, dims = 1, [(length, x.stride("c"), 1), *dims]
            element = x.element(n=at.images[0], h=at.rows[0] + rows[0] * at.rows[1],
                                w=at.columns[0] + first * at.columns[1], c=group * nest.cg + low)
            loads += _copies(x.buffer.address + element,
                             rows[0] * window.line + first * window.pixel + low - c0, length, dims)
        return Tile(Destination.ACTIVATION.value, at.lines * line, [Piece(loads, _sources(x.buffer, loads))])

    def weights(self, group: int, tiles: tuple[int, int], part: Part) -> Tile:
        """Tile of the weights of a part of the sums, for some tiles of output channels."""
        nest, config = self._nest, self._config
        count = tiles[1] - tiles[0]
        if is_uniform(nest):
            key: object = part.taps, patterns_of(nest, config, count)
            make: Callable[..., Piece] = self._same_for_all
        else:
            key = group, tiles, part
            make = (self._rows if isinstance(nest.weights, View)
                    else self._of_each_channel if nest.channelwise else self._packed)
        return self._once(("weights", key), lambda: Tile(
            Destination.WEIGHT.value, weight_lines(nest, part, count, config) * config.pes, [make(group, tiles, part)]))

    def _constant(self, lines: np.ndarray, key: object = None) -> int:
        """Place of packed weights in memory."""
        data = self._config.arithmetic.to_memory(lines, self._config.operand_bytes).tobytes()
        return self._plan.constant(self._nest.name, len(data), lambda: data, key)

    def _packed(self, group: int, tiles: tuple[int, int], part: Part) -> Piece:
        """Weights that are known, packed as they stand: tiles, taps, lines of channels, products, units."""
        nest, (units, products) = self._nest, (self._config.array.rows, self._config.array.cols)
        assert isinstance(nest.weights, np.ndarray)
        count, (r, s) = tiles[1] - tiles[0], part.taps
        depth = depth_of(nest, part, self._config)
        taps = nest.weights[group].reshape(nest.r, nest.s, nest.cg, nest.ng)[
            slice(*part.rows), slice(*part.columns), slice(*part.channels), tiles[0] * units:tiles[1] * units]
        # Products beyond the last channel are with weights of value zero.
        full = np.full((r, s, depth * products, count * units), nest.w_zero, np.int64)
        full[:, :, :taps.shape[2], :taps.shape[3]] = taps
        lines = full.reshape(r, s, depth, products, count, units).transpose(4, 0, 1, 2, 3, 5)
        return Piece([block(dram=self._constant(lines), length=lines.size, dims=[])])

    def _rows(self, group: int, tiles: tuple[int, int], part: Part) -> Piece:
        """Weights that are activations: a row of memory has a channel of all outputs, or all channels of an output."""
        nest, units, view = self._nest, self._config.array.rows, self._nest.weights
        assert isinstance(view, View)
        (c0, c1), far_c, far_m = part.channels, view.stride("c"), view.stride("m")
        tap = depth_of(nest, part, self._config) * self._config.pes
        size = part.taps[0] * part.taps[1] * tap
        first, end = tiles[0] * units, min(tiles[1] * units, nest.ng)
        whole, rest = divmod(end - first, units)
        loads: list[dict[str, int]] = []
        for number, (r, s) in enumerate(product(range(*part.rows), range(*part.columns))):
            corner = {"c": c0} | {name: at for name, at in (("r", r), ("s", s)) if view.loops(name)}
            for at, count, valid in ((0, whole, units), (whole, 1, rest)):
                if count and valid:
                    dims = [(c1 - c0, far_c, units), (count, units * far_m, size)]
                    if far_m != 1 and valid > 1:
                        dims.insert(1, (valid, far_m, 1))
                    loads += _copies(view.buffer.address + view.element(m=first + at * units, **corner),
                                     at * size + number * tap, 1 if far_m != 1 else valid, dims)
            if (c1 - c0) * units < tap:
                loads += fill(nest.w_zero, 1, address=number * tap + (c1 - c0) * units,
                              length=tap - (c1 - c0) * units, dims=[(tiles[1] - tiles[0], size)])
        return Piece(loads, _sources(view.buffer, loads))

    def _of_each_channel(self, group: int, tiles: tuple[int, int], part: Part) -> Piece:
        """Weights of each channel: unit u multiplies its own channel, and the others of the line by zero."""
        nest, reach = self._nest, reach_of(self._nest, self._config)
        assert isinstance(nest.weights, np.ndarray)
        values = nest.weights.reshape(nest.r, nest.s, -1)[slice(*part.rows), slice(*part.columns)]
        values = values.reshape(-1, nest.ng)
        lines = np.full((tiles[1] - tiles[0], len(values), *self._line), nest.w_zero, np.int64)
        for tile in range(len(lines)):
            own = values[:, (tiles[0] + tile) * reach:(tiles[0] + tile + 1) * reach]
            unit = np.arange(own.shape[1])
            lines[tile, :, tile * reach % self._line[0] + unit, unit] = own.T
        return Piece([block(dram=self._constant(lines), length=lines.size, dims=[])])

    def _same_for_all(self, group: int, tiles: tuple[int, int], part: Part) -> Piece:
        """Weights that all channels have, one or several to be added up: memory has them once for all taps."""
        nest, reach = self._nest, reach_of(self._nest, self._config)
        values, taps = np.asarray(nest.weights).reshape(-1), part.taps[0] * part.taps[1]
        lines = np.full((patterns_of(nest, self._config, tiles[1] - tiles[0]), len(values), *self._line), nest.w_zero)
        for pattern in range(len(lines)):
            unit = np.arange(reach)
            lines[pattern, :, pattern * reach + unit, unit] = values
        size = values.size * self._config.pes
        address = self._constant(lines, key=(values.tobytes(), nest.w_zero, lines.shape))
        return Piece([block(dram=address, length=size, dims=[(taps, 0, size), (len(lines), size, taps * size)])])

    @property
    def _line(self) -> tuple[int, int]:
        """Products and units of a line of weights."""
        return self._config.array.cols, self._config.array.rows

    def bodies(self, region: Region, tiles: tuple[int, int], part: Part) -> Iterator[dict[str, int]]:
        """Bodies of the EXECUTEs that walk a part, without bank, and with bases relative to the tiles, in lines."""
        nest, config, count = self._nest, self._config, tiles[1] - tiles[0]
        at, (r, s), depth = Footprint.of(nest, region, part, config), part.taps, depth_of(nest, part, config)
        body = {
            "maximum": int(nest.maximum), "a_unsigned": int(nest.a_unsigned), "w_unsigned": int(nest.w_unsigned),
            "a_zero_point": nest.a_zero, "w_zero_point": nest.w_zero, "a_base": 0,
            "count_t0": depth - 1, "count_t1": s - 1, "count_t2": r - 1,
            "count_m0": region.q1 - region.q0 - 1, "count_m1": region.p1 - region.p0 - 1, "count_m2": at.images[2] - 1,
            "a_t0": int(not nest.channelwise), "a_t1": nest.dilation[1] * at.pixel, "a_t2": nest.dilation[0] * at.row,
            "a_m0": at.right * at.pixel, "a_m1": at.down * at.row, "a_m2": at.image,
        }
        each = depth * r * s
        patterns = patterns_of(nest, config, count)
        # Tiles that begin at the same place of a line are a line apart; others need weights of another pattern.
        for pattern in range(patterns):
            yield body | {
                "count_n": len(range(pattern, count, patterns)) - 1, "a_n": int(nest.channelwise),
                "w_base": pattern * each, "w_n": 0 if is_uniform(nest) else patterns * each,
                "acc_base": pattern * region.pixels, "acc_n": patterns * region.pixels}
