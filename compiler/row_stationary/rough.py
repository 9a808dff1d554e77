"""Rough prices of many mappings of a layer at once: the estimate's form, without its care for what is left over."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ...hdl.shell.commands import COMMAND_BYTES
from .estimate import (
    BYTES_WEIGHT,
    behind_mark,
    burst_cycles,
    code_bytes,
    coder_cycles,
    elapsed,
    gather_bytes,
    gather_loads,
    line_bytes,
    row_loads,
)
from .mapping import LayerPlan

__all__ = ["Columns", "RoughPrices"]


@dataclass(frozen=True)
class Columns:
    """Filter columns of a PE: what all parts of a filter row have together, and most taps of a window."""

    columns: int
    parts: int
    taps: int
    read: int
    most: int


def _up(value: Any, size: Any) -> Any:
    """Pieces of a size that a value takes."""
    return -(-value // size)


def _filter_sums(filters: int, lanes: int, p: Any, t: Any) -> tuple[Any, Any, Any]:
    """Filters of a PE, and beats of their psums, of all passes together; and the passes."""
    whole, rest = np.divmod(filters, p * t)
    last = _up(rest, t)
    last = np.where(t > 1, np.minimum(p, _up(last, lanes) * lanes), last)
    return whole * p + last, whole * _up(p, lanes) + _up(last, lanes), whole + (rest > 0)


class RoughPrices:
    """What mappings cost, each a column of a table.

    Parameters
    ----------
    start : LayerPlan
        The layer, the accelerator and what is in memory, under any mapping.
    table : ndarray of float64
        Rows: the parameters height, columns, r, q, e, p, t, g, n and images, and the :class:`Columns` but the first.
    """

    def __init__(self, start: LayerPlan, table: np.ndarray):
        mapped = start.mapped
        self._start, self._layer, self._config, self._traffic = start, mapped.layer, start.config, start.traffic
        self._batch, self._step, self._dilation = mapped.batch, mapped.stride[0], mapped.dilation[0]
        self._cg, self._ng = mapped.per_group
        (self._height, _, self._r, self._q, self._e, self._p, self._t, self._g, self._n, self._several,
         self._column_parts, self._taps, self._read, self._most) = table
        self._line = line_bytes(start.config, start.traffic, self._q)[1]
        self._count_passes()
        self._processing = self._processing_cycles()

    def _count_passes(self) -> None:
        """Count passes, and what their loops have."""
        layer, r, q, n = self._layer, self._r, self._q, self._n
        self._strips = _up(layer.output[1], self._e)
        self._filter_rows = _up(layer.r, self._height)
        whole, rest = np.divmod(self._cg, q * r)
        self._channels = whole * q + _up(rest, r)
        self._ranges = whole + (rest > 0)
        self._parts = self._ranges * self._filter_rows * self._column_parts
        self._groups, self._images = _up(layer.groups, self._g), _up(self._batch, n)
        self._all_p, self._all_beats, self._filter_passes = _filter_sums(
            self._ng, self._config.psum_lanes, self._p, self._t)
        self._fetches = self._images * self._groups * self._strips * self._filter_passes * self._parts
        self._part_tiles = np.where(self._several > 0, _up(n, np.maximum(self._several, 1)), 1)
        self._passes = self._fetches * self._part_tiles

    @property
    def products(self) -> Any:
        """Products of a PE, those that padding adds included."""
        return self._strips * self._groups * self._all_p * self._channels * self._filter_rows * self._taps

    def _processing_cycles(self) -> Any:
        """Cycles of all passes, and lines of filters."""
        layer, config, batch = self._layer, self._config, self._batch
        r, t, strips = self._r, self._t, self._strips
        _, out_rows, windows = layer.output
        window = self._channels * self._filter_rows * self._taps
        last_rows = out_rows - (strips - 1) * self._e
        lines = (strips - 1) * self._ifmap_lines(self._e) + self._ifmap_lines(last_rows)
        own = self._p * self._q * self._most
        self._beats = beats = self._g * t * r * self._height * _up(own, config.filter_lanes)
        late = np.maximum(0, beats * np.maximum(0, 2 * own - config.filters_ahead) / own - 2 * own)
        self._filter_lines = (self._images * strips * layer.groups * t * r * self._height * self._all_p * window
                              / config.filter_lanes)
        processing = np.max([
            batch * windows * strips * self._groups * self._all_p * window + late * self._passes,
            batch * layer.groups * r * lines * self._channels * self._filter_rows * self._read * self._filter_passes,
            batch * windows * out_rows * layer.groups * t * self._all_beats * self._parts,
            self._filter_lines * self._part_tiles], axis=0)
        single = 2 * beats > config.filter_lines
        line = self._line + gather_bytes(config, self._traffic, self._q, own)
        each = beats * (1 + line / self._start.rate) + self._traffic.timing.read_latency - processing / self._passes
        return processing + np.where(single, self._fetches * np.maximum(0, each), 0)

    def _ifmap_lines(self, rows: Any) -> Any:
        """Ifmap rows that a pass reads for ofmap rows."""
        height = self._height
        pitch = np.gcd(np.where(rows > 1, self._step, 0).astype(np.int64),
                       np.where(height > 1, self._dilation, 0).astype(np.int64))
        return (self._step * (rows - 1) + self._dilation * (height - 1)) // np.maximum(pitch, 1) + 1

    def _filters_at_once(self, resident: bool, tiles: int, blocks: int) -> tuple[Any, Any]:
        """Largest m that the global buffer has room for, in even blocks, and where there is none a false."""
        layer, config, traffic = self._layer, self._config, self._traffic
        q, r, e, g = self._q, self._r, self._e, self._g
        windows = layer.output[2]
        rows = self._step * (e - 1) + self._dilation * (layer.r - 1) + 1
        beyond = q * r * (e * windows if traffic.transposed else 1)
        tile = _up(np.where(self._several > 0, self._several, self._n) * rows * self._start.mapped.tile_columns
                  * self._held(resident) + beyond, config.filter_lanes) + 1
        room = (self._part_tiles + tiles) * tile
        psum = blocks * g * (self._n * e * windows + traffic.bias)
        m_lines = (config.buffer_lines - room) // psum
        at_once = self._p * self._t
        fit = np.minimum(self._ng, m_lines // (self._t * _up(self._p, config.psum_lanes)) * at_once)
        legal = (fit >= 1) & (self._beats <= config.filter_lines) & ((g == 1) | (fit >= self._ng))
        count = _up(self._ng, np.maximum(fit, 1))
        m = np.minimum(self._ng, _up(_up(self._ng, count), at_once) * at_once)
        if resident:
            legal &= ~np.all([_up(self._ng, m) == 1, self._ranges == 1], axis=0)
        return m, legal

    def _held(self, resident: bool) -> Any:
        """Channels of a tile."""
        return self._g * (self._cg if resident else np.minimum(self._q * self._r, self._cg))

    def _ifmap_cycles(self, resident: bool, reloads: Any) -> Any:
        """Cycles in which memory brings all ifmaps."""
        layer, config, traffic, strips = self._layer, self._config, self._traffic, self._strips
        columns = self._start.mapped.tile_columns
        rows = strips * (self._dilation * (layer.r - 1) + 1 - self._step) + self._step * layer.output[1]
        words = self._batch * layer.c * columns * rows * reloads
        if traffic.coded_input:
            behind = (behind_mark(config) * self._images * self._part_tiles * self._groups * strips * reloads
                      * (1 if resident else self._ranges))
            return np.maximum((code_bytes(words, traffic.input_zeros) + behind) / self._start.rate, words)
        if traffic.transposed:
            bursts = layer.output[1] if traffic.by_taps else strips
            beats = _up(columns * layer.output[1] * config.operand_bytes / bursts, config.beat_bytes)
            return layer.c * reloads * bursts * np.maximum(
                beats * config.beat_bytes / self._start.rate, burst_cycles(traffic.timing))
        run = (self._cg if resident else np.minimum(self._q * self._r, self._cg)) * config.operand_bytes
        run = np.where(self._held(resident) >= layer.c, columns * run, run)
        ragged = config.beat_bytes * (run % config.beat_bytes > 0)
        return words * config.operand_bytes / run * (run + ragged) / self._start.rate

    def of(self, resident: bool, tiles: int, blocks: int) -> tuple[Any, Any]:
        """Price of each mapping with a use of the global buffer, infinite if it does not fit; and the m that fits.

        Parameters
        ----------
        resident : bool
            Whether a tile holds all channels.
        tiles : int
            Tiles that have room beside those of a part.
        blocks : int
            Blocks of psums that have room.
        """
        traffic, rate = self._traffic, self._start.rate
        m, legal = self._filters_at_once(resident, tiles, blocks)
        count = _up(self._ng, m)
        ifmaps = self._ifmap_cycles(resident, 1 if resident else count)
        words = self._batch * prod(self._layer.output)
        outputs: Any = words * traffic.output_bytes / rate
        if traffic.coded_output:
            outputs = max(code_bytes(words, traffic.output_zeros) / rate,
                          words * coder_cycles(self._config, traffic.output_zeros))
        regions = self._images * self._groups * self._strips
        loads = regions * (1 if resident else count * self._ranges)
        gathers = 1
        if traffic.gathered:
            gathers = self._t * self._r * gather_loads(self._config, traffic, self._q, self._p * self._q)
        tiles_loads = row_loads(traffic, resident, self._e) if traffic.by_taps else 1
        commands = self._fetches * gathers + self._passes + loads * self._part_tiles * tiles_loads
        filters, others = self._filter_lines * self._line / rate, COMMAND_BYTES * commands / rate
        cycles = elapsed(
            traffic, processing=self._processing, passes=self._passes, parts=self._parts, blocks=regions * count,
            tiles=loads, part_tiles=self._part_tiles, ifmaps=ifmaps, filters=filters, outputs=outputs, others=others,
            is_spare=tiles > 0, is_double=blocks == 2)
        return np.where(legal, cycles + BYTES_WEIGHT * (filters + others + ifmaps), np.inf), m
