"""Candidates for the mapping of a layer, priced all at once by a rough form of the estimate."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...golden.cost import ConvLayer
from ...golden.row_stationary import LayerMapping, Mapping
from ...golden.tensors import pair
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.row_stationary.row import tag_bits
from ...hdl.shell.commands import COMMAND_BYTES
from .estimate import BYTES_WEIGHT, behind_mark, code_bytes, missing, waiting
from .mapping import LayerPlan, Traffic

__all__ = ["Candidates", "cuts"]

#: Candidates that keep the PEs this many times longer at work than the best are not priced, but for the small ones.
_WASTE = 4

#: Largest counts of the loops of a pass.
_LINES, _COLUMNS, _IMAGES, _SETS = 256, 4096, 256, 256
#: Heights of a set, filter columns, channels of a PE, strips and so on that are tried, each.
_FEW, _MORE = 3, 6


def cuts(total: int, limit: int, most: int = 1 << 20) -> list[int]:
    """Sizes of at most `limit` that cut a total into even pieces, the largest first, `most` of them."""
    sizes: list[int] = []
    size = min(total, max(1, limit))
    while size >= 1 and len(sizes) < most:
        size = -(-total // -(-total // size))
        sizes.append(size)
        size -= 1
    return sizes


@dataclass(frozen=True)
class _Columns:
    """Filter columns of a PE: what all parts of a filter row have together, and most taps of a window."""

    columns: int
    parts: int
    taps: int
    read: int
    most: int


class Candidates:
    """Mappings of a layer that fit the PEs, and the rough price of each.

    Parameters
    ----------
    layer : ConvLayer
        Shape.
    config : RowStationaryConfig
        The accelerator.
    batch : int
        Images.
    traffic : Traffic
        What is in memory.
    lanes_only : bool
        Whether the channels of a PE must divide a line of filters.
    split_images : bool
        Whether several passes may share the filters, each with some of the ifmaps.
    small : bool
        Whether the smallest choices are tried, not the largest.
    """

    def __init__(self, layer: ConvLayer, config: RowStationaryConfig, batch: int, traffic: Traffic, lanes_only: bool,
                 split_images: bool, small: bool = False):
        self._layer, self._config, self._batch, self._traffic = layer, config, batch, traffic
        self._lanes_only, self._split_images, self._small = lanes_only, split_images, small
        self._cg, self._ng = layer.c // layer.groups, layer.m // layer.groups
        self._step, self._dilation = pair("stride", layer.stride)[0], pair("dilation", layer.dilation)[0]
        self._mapped = LayerMapping(layer=layer, mapping=Mapping(m=1, n=1, e=1, p=1, q=1, r=1, t=1), batch=batch)

    def best(self, count: int) -> Iterator[LayerPlan]:
        """Yield plans, at most `count`, the cheapest by the rough price first."""
        choices = self._columns()
        rows = [item for choice in choices for item in self._mappings(choice)]
        if self._traffic.coded_input:
            # A code can't be read from its middle.
            rows = [row for row in rows if row[4] == self._layer.output[1]] or rows
        if not rows:
            return
        table = np.array(rows, np.float64).T
        keep = self._products(table)
        keep = keep <= (np.inf if self._small else _WASTE) * keep.min()
        rows = [row for row, kept in zip(rows, keep, strict=True) if kept]
        table = table[:, keep]
        prices, plans = [], []
        for resident in (True, False):
            for tiles in (1, 0):
                for blocks in (2, 1):
                    price, m = self._price(table, resident, tiles, blocks)
                    prices.append(price)
                    plans.append((resident, tiles, blocks, m))
        all_prices = np.array(prices)
        for index in np.argsort(all_prices, axis=None, kind="stable")[:count]:
            which, at = divmod(int(index), len(rows))
            if not np.isfinite(all_prices[which, at]):
                return
            resident, tiles, blocks, m = plans[which]
            row = rows[at]
            values = dict(zip(("rows", "columns", "r", "q", "e", "p", "t", "g", "n", "images"), row[:10],
                              strict=True))
            values["rows"] *= values["rows"] != self._layer.r
            values["columns"] *= values["columns"] != self._layer.s
            mapped = LayerMapping(layer=self._layer, mapping=Mapping(m=int(m[at]), **values), batch=self._batch,
                                  filter_lanes=self._config.filter_lanes, psum_lanes=self._config.psum_lanes)
            plan = LayerPlan(mapped=mapped, config=self._config, traffic=self._traffic, resident=resident,
                             psum_blocks=blocks)
            yield replace(plan, ifmap_tiles=plan.tiles_of_part + tiles)

    def _columns(self) -> list[_Columns]:
        """Filter columns of a PE."""
        found: list[_Columns] = []
        for columns in range(self._layer.s, 0, -1):
            # What fits best, what cuts evenly, and one column, which may leave out those between windows.
            if found and columns != 1 and columns != -(-self._layer.s // -(-self._layer.s // columns)):
                continue
            mapped = LayerMapping(layer=self._layer, mapping=Mapping(
                m=1, n=1, e=1, p=1, q=self._cg, r=1, t=1, rows=1, columns=columns))
            parts = [(part, number // self._layer.r) for part, number in mapped.part_kinds]
            most = max(part.taps for part, _ in parts)
            if most <= self._config.pe.ifmap_words:
                found.append(_Columns(columns, sum(number for _, number in parts),
                                      sum(number * part.taps for part, number in parts),
                                      sum(number * mapped.ifmap_columns(part) for part, number in parts), most))
        return found[:_FEW] + found[max(_FEW, len(found) - 1):]

    def _mappings(self, choice: _Columns) -> Iterator[tuple[int, ...]]:
        """Parameters, and what is known of the columns."""
        layer, pe = self._layer, self._config.pe
        rows, cols = self._config.array.rows, self._config.array.cols
        seen = set()
        few = self._few
        # Each set has filters for a line of psums, if there are as many.
        widest = pe.filter_words // (choice.most * min(self._config.psum_lanes, self._ng))
        if not widest:
            return
        for height in few(layer.r, rows):
            tallest = min(_LINES, self._most_rows(height))
            for r in range(1, min(rows // height, self._cg) + 1):
                chains = cols * (rows // (height * r))
                for q in few(-(-self._cg // r), min(pe.ifmap_words // choice.most, self._cg // r, widest)):
                    if self._lanes_only and self._config.filter_lanes % q:
                        q = max(width for width in range(1, q + 1) if self._config.filter_lanes % width == 0)
                    most = min(pe.psum_words, pe.filter_words // (choice.most * q))
                    for e in few(layer.output[1], min(chains, tallest), _MORE):
                        for p, t in self._filters(most, min(chains // e, _SETS // r)):
                            whole = layer.groups > 1 and p * t >= self._ng and (r == 1 or q * r == self._cg)
                            room = min(chains // (e * t), _SETS // (t * r)) if whole else 1
                            for g in few(layer.groups, room):
                                for n in cuts(self._batch, _IMAGES, _MORE):
                                    for images in cuts(n, n, _FEW) if self._split_images else [n]:
                                        key = height, choice.columns, r, q, e, p, t, g, n, images % n
                                        if key not in seen:
                                            seen.add(key)
                                            yield *key, choice.parts, choice.taps, choice.read, choice.most

    def _few(self, total: int, limit: int, most: int = _FEW) -> list[int]:
        sizes = cuts(total, limit)
        return sizes[-most:] if self._small else sizes[:most]

    def _most_rows(self, height: int) -> int:
        """Most ofmap rows of a set, of which the ifmap rows have tags."""
        tags = min(_LINES, 1 << tag_bits(self._config.array.rows, self._config.array.cols)[1])
        step = 1 if height == 1 else self._step
        return max(1, (tags - 1 - (height > 1) * self._dilation * (height - 1)) // step + 1)

    def _filters(self, most: int, sets: int) -> list[tuple[int, int]]:
        """Filters of a PE, and sets on different ones."""
        lanes, filters = self._config.psum_lanes, self._ng
        found: set[tuple[int, int]] = set()
        if filters <= most:
            found.add((filters, 1))
        for t in {*self._few(-(-filters // lanes), sets), *range(1, min(sets, 4) + 1)}:
            # Those that waste least, and of them the largest.
            each = -(-filters // t)
            sizes = range(min(most, -(-each // lanes) * lanes) // lanes * lanes, 0, -lanes)
            found |= {(p, t) for p in sorted(sizes, key=lambda p: (-(-each // p) * p, -p))[:_FEW]}
            if self._small and lanes <= most:
                found.add((lanes, t))
        return sorted(found, reverse=True)

    def _products(self, table: np.ndarray) -> Any:
        """Products of a PE, those that padding adds included."""
        height, _, r, q, e, p, t, g, _, _, _, taps, _, _ = table
        layer = self._layer
        whole, rest = np.divmod(self._cg, q * r)
        return (_up(layer.output[1], e) * _up(layer.groups, g) * self._filter_sums(p, t)[0]
                * (whole * q + _up(rest, r)) * _up(layer.r, height) * taps)

    def _price(self, table: np.ndarray, resident: bool, tiles: int, blocks: int) -> tuple[Any, Any]:
        """Rough price of each candidate with a use of the global buffer, and the m that fits; infinite if none."""
        layer, config, traffic, batch = self._layer, self._config, self._traffic, self._batch
        height, _, r, q, e, p, t, g, n, several, column_parts, taps, read, most = table
        _, out_rows, windows = layer.output
        up = _up
        # Passes, and the words of their loops.
        strips, last_rows = up(out_rows, e), out_rows - (up(out_rows, e) - 1) * e
        filter_rows = up(layer.r, height)
        whole, rest = np.divmod(self._cg, q * r)
        channels = whole * q + up(rest, r)
        ranges = whole + (rest > 0)
        parts = ranges * filter_rows * column_parts
        groups, images = up(layer.groups, g), up(batch, n)
        all_p, all_beats, filter_passes = self._filter_sums(p, t)
        window = channels * filter_rows * taps
        fetches = images * groups * strips * filter_passes * parts
        part_tiles = np.where(several > 0, up(n, np.maximum(several, 1)), 1)
        passes = fetches * part_tiles
        lines = (strips - 1) * self._lines(e, height) + self._lines(last_rows, height)
        own = p * q * most
        beats = g * t * r * height * up(own, config.filter_lanes)
        late = np.maximum(0, beats * np.maximum(0, 2 * own - config.pe.filter_words) / own - 2 * own)
        rate = config.beat_bytes * config.memory.beats_per_cycle
        filter_lines = images * strips * layer.groups * t * r * height * all_p * window / config.filter_lanes
        processing = np.max([
            batch * windows * strips * groups * all_p * window + late * passes,
            batch * layer.groups * r * lines * channels * filter_rows * read * filter_passes,
            batch * windows * out_rows * layer.groups * t * all_beats * parts, filter_lines * part_tiles], axis=0)
        single = 2 * beats > config.filter_lines
        each = beats * (1 + config.line_bytes / rate) + config.memory.read_latency - processing / passes
        processing = processing + np.where(single, fetches * np.maximum(0, each), 0)
        # What the global buffer holds.
        rows = self._step * (e - 1) + self._dilation * (layer.r - 1) + 1
        columns = self._mapped.tile_columns
        held = g * (self._cg if resident else np.minimum(q * r, self._cg))
        beyond = q * r * (e * windows if traffic.transposed else 1)
        tile = up(np.where(several > 0, several, n) * rows * columns * held + beyond, config.filter_lanes) + 1
        room = (part_tiles + tiles) * tile
        psum = blocks * g * (n * e * windows + traffic.bias)
        m_lines = (config.buffer_lines - room) // psum
        at_once = p * t
        per_pass = t * up(p, config.psum_lanes)
        fit = np.minimum(self._ng, m_lines // per_pass * at_once)
        legal = (fit >= 1) & (beats <= config.filter_lines) & ((g == 1) | (fit >= self._ng))
        fit = np.maximum(fit, 1)
        count = up(self._ng, fit)
        m = np.minimum(self._ng, up(up(self._ng, count), at_once) * at_once)
        count = up(self._ng, m)
        if resident:
            legal &= ~np.all([count == 1, ranges == 1], axis=0)
        # Memory.
        reloads = 1 if resident else count
        all_rows = strips * (self._dilation * (layer.r - 1) + 1 - self._step) + self._step * out_rows
        words = batch * layer.c * columns * all_rows * reloads
        if traffic.coded_input:
            behind = behind_mark(config) * images * part_tiles * groups * strips * reloads * (1 if resident else ranges)
            ifmap = np.maximum((code_bytes(words, traffic.input_zeros) + behind) / rate, words)
        else:
            run = (self._cg if resident else np.minimum(q * r, self._cg)) * config.operand_bytes
            run = np.where(held >= layer.c, columns * run, run)
            ragged = config.beat_bytes * (run % config.beat_bytes > 0)
            ifmap = words * config.operand_bytes / run * (run + ragged) / rate
        outputs = batch * layer.m * out_rows * windows
        output = outputs * traffic.output_bytes / rate
        if traffic.coded_output:
            output = max(code_bytes(outputs, traffic.output_zeros) / rate, outputs)
        stores = images * groups * strips * count
        loads = images * groups * strips * (1 if resident else count * ranges)
        latency = config.memory.read_latency + config.memory.write_latency
        commands = fetches + passes + loads * part_tiles
        beside = (filter_lines * config.line_bytes + COMMAND_BYTES * commands) / rate
        busy = beside + ifmap
        exposed = ifmap / loads + output / stores
        beside = beside + ifmap * (1 - 1 / loads)
        if not tiles:
            exposed = exposed + (loads - 1) * missing(ifmap / loads, processing / passes, part_tiles, latency)
        if blocks == 2:
            beside = beside + output * (1 - 1 / stores)
        else:
            exposed = exposed + (stores - 1) * waiting(output / stores, processing / stores / parts,
                                                       passes / stores / parts, latency)
        price = np.maximum(processing, beside) + exposed + BYTES_WEIGHT * busy
        return np.where(legal, price, np.inf), m

    def _filter_sums(self, p: Any, t: Any) -> tuple[Any, Any, Any]:
        """Filters of a PE, and beats of their psums, of all passes together; and the passes."""
        lanes = self._config.psum_lanes
        whole, rest = np.divmod(self._ng, p * t)
        last = _up(rest, t)
        last = np.where(t > 1, np.minimum(p, _up(last, lanes) * lanes), last)
        return whole * p + last, whole * _up(p, lanes) + _up(last, lanes), whole + (rest > 0)

    def _lines(self, rows: Any, height: Any) -> Any:
        """Ifmap rows that a pass reads for ofmap rows."""
        pitch = np.gcd(np.where(rows > 1, self._step, 0), np.where(height > 1, self._dilation, 0))
        return (self._step * (rows - 1) + self._dilation * (height - 1)) // np.maximum(pitch, 1) + 1


def _up(value: Any, size: Any) -> Any:
    return -(-value // size)
