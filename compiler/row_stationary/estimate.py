"""Cycles and bytes of a layer on a row-stationary accelerator, in closed form."""

from collections import Counter
from dataclasses import dataclass
from math import ceil, gcd
from typing import Any

import numpy as np

from ...golden.row_stationary import Filters, LayerMapping, Part
from ...golden.tensors import four_sides, pair
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.shell.block_walk import burst_beats
from ...hdl.shell.commands import COMMAND_BYTES
from .mapping import LayerPlan

__all__ = ["BYTES_WEIGHT", "Estimate", "behind_mark", "code_bytes", "estimate", "missing", "pass_cycles",
           "processing_cycles", "waiting"]

#: Weight of the cycles that memory is busy, beside all cycles, when plans are compared: a word from memory takes the
#: energy of hundreds of products.
BYTES_WEIGHT = 1.0

#: Cycles from a pass that finds the array empty to its last sums, besides its products.
_FILL = 60
#: Words that stand for zeros of a run at most, and code words' bytes and pairs.
_RUN, _CODE_BYTES, _PAIRS = 32, 8, 3


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a layer costs.

    Parameters
    ----------
    processing : int
        Cycles in which passes are in the array.
    cycles : int
        All cycles, those included in which the array waits for memory.
    ifmap_bytes, filter_bytes, output_bytes, other_bytes : int
        To and from memory: ifmaps, filters, outputs; and setups, biases, commands.
    """

    processing: int
    cycles: int
    ifmap_bytes: int
    filter_bytes: int
    output_bytes: int
    other_bytes: int

    @property
    def dram_bytes(self) -> int:
        """All bytes to and from memory."""
        return self.ifmap_bytes + self.filter_bytes + self.output_bytes + self.other_bytes


def pass_cycles(mapped: LayerMapping, filter_words: int, images: int, groups: int, rows: int, part: Part,
                filters: Filters) -> int:
    """Cycles of a pass among others: the longest of what its PEs, and each of its buses, have to do.

    Filters arrive while those of the pass before are used, as far as the PEs' rings have room; the rest follows
    while the pass before goes through its last window and this one through its first.
    """
    mapping, windows = mapped.mapping, mapped.layer.output[2]
    sums = images * windows
    lines = mapped.ifmap_lines(mapped.strips[0] if rows == mapped.strips[0].rows else mapped.strips[-1])[0]
    own = part.window * filters.p
    beats = mapped.sets(groups) * mapped.height * mapped.filter_beats(part, filters)
    late = beats * max(0, 2 * own - filter_words) // own - 2 * own
    return max(sums * own + max(0, late),
               images * part.q * mapping.r * groups * lines * mapped.ifmap_columns(part),
               sums * mapped.psum_beats(filters.p) * mapping.t * groups * rows, beats)


def code_bytes(words: Any, zeros: float, padding: float = 0) -> Any:
    """Estimate the bytes of a run-length code of words with a share of zeros, and of `padding` more zeros."""
    pairs = words * (1 - zeros) * (1 + zeros ** _RUN / (1 - zeros ** _RUN)) if zeros < 1 else words / _RUN
    return _CODE_BYTES * (pairs + padding / _RUN) / _PAIRS


def behind_mark(config: RowStationaryConfig) -> int:
    """Bytes that a load of a code reads behind its last word: on average half a burst."""
    return burst_beats(config) * config.beat_bytes // 2


def _row_bytes(length: int, pitch: int, beat: int) -> int:
    """Bytes of the beats that a row of bytes takes, if rows begin at multiples of a pitch."""
    return beat * ceil((length + beat - gcd(length, pitch, beat)) / beat)


def _ifmaps(plan: LayerPlan) -> tuple[int, int, int]:
    """Bytes, cycles of the decoder, and commands of all loads of ifmaps."""
    mapped, traffic, config = plan.mapped, plan.traffic, plan.config
    layer, size = mapped.layer, config.operand_bytes
    top, left = four_sides(layer.padding)[:2]
    step = pair("stride", layer.stride)[0]
    columns = min(layer.w, mapped.tile_columns - left)
    starts = [(step * strip.first - top, mapped.tile_lines(strip)) for strip in mapped.strips]
    rows = sum(max(0, min(start + lines, layer.h) - max(start, 0)) for start, lines in starts)
    ranges = Counter(part.channels for part in mapped.parts if part.row == 0 and part.column == 0)
    if plan.resident:
        ranges = Counter({mapped.per_group[0]: 1})
    tiles = sum(len(mapped.pass_images(images)) for images in mapped.images)
    # Each block begins with the tiles with which the one before ended.
    blocks = 1 if plan.resident else len(mapped.blocks)
    reloads = blocks - (blocks - 1) / sum(ranges.values())
    commands = round(reloads * tiles * len(mapped.groups) * len(starts) * sum(ranges.values()))
    words = round(reloads * mapped.batch * layer.c * rows * columns)
    if traffic.coded_input:
        held = round(reloads * mapped.batch * layer.c * sum(lines for _, lines in starts) * mapped.tile_columns)
        code = code_bytes(words, traffic.input_zeros, held - words)
        return int(code) + commands * behind_mark(config), held, commands
    used = 0
    for _, groups in mapped.groups:
        for channels, count in ranges.items():
            together = channels * (groups if channels == mapped.per_group[0] else 1)
            runs = rows * (groups * channels // together)
            if together == layer.c:
                used += count * runs * _row_bytes(columns * layer.c * size, layer.w * layer.c * size,
                                                  config.beat_bytes)
            else:
                used += count * runs * columns * _row_bytes(together * size, layer.c * size, config.beat_bytes)
    return round(reloads * mapped.batch * used), 0, 2 * commands


def _outputs(plan: LayerPlan) -> tuple[int, int]:
    """Bytes, and cycles of the coder, of all outputs."""
    mapped, traffic = plan.mapped, plan.traffic
    m, rows, columns = mapped.layer.output
    words = mapped.batch * m * rows * columns
    if traffic.coded_output:
        return int(code_bytes(words, traffic.output_zeros)), words
    return words * traffic.output_bytes, words * traffic.output_bytes // plan.config.line_bytes


def processing_cycles(mapped: LayerMapping, config: RowStationaryConfig, loading: float = 0.0) -> tuple[int, int]:
    """Cycles of all passes, and cycles if filters are loaded only when those before have been read for the last time.

    Parameters
    ----------
    mapped : LayerMapping
        The layer and its mapping.
    config : RowStationaryConfig
        The accelerator.
    loading : float
        Cycles in which memory brings a line.
    """
    images = Counter(count for together in mapped.images for _, count in mapped.pass_images(together))
    groups = Counter(count for _, count in mapped.groups)
    rows = Counter(strip.rows for strip in mapped.strips)
    parts = Counter((part.q, part.taps) for part in mapped.parts)
    kinds = {(part.q, part.taps): part for part in mapped.parts}
    filters = Counter(some.p for block in mapped.blocks for some in block.filters)
    of = {some.p: some for block in mapped.blocks for some in block.filters}
    fetches = Counter(mapped.pass_images(together)[-1][1] for together in mapped.images)
    latency = config.memory.read_latency
    total, waits = 0, 0.0
    for n, n_count in images.items():
        for g, g_count in groups.items():
            for e, e_count in rows.items():
                for key, part_count in parts.items():
                    for p, p_count in filters.items():
                        many = g_count * e_count * part_count * p_count
                        cycles = pass_cycles(mapped, config.pe.filter_words, n, g, e, kinds[key], of[p])
                        lines = mapped.sets(g) * mapped.height * mapped.filter_beats(kinds[key], of[p])
                        total += many * n_count * cycles
                        waits += many * fetches[n] * max(0, lines * (1 + loading) + latency - cycles)
    return total, total + int(waits)


def setups(mapped: LayerMapping) -> int:
    """Times that the array is set up: for each number of rows of a strip and of groups side by side."""
    return len({strip.rows for strip in mapped.strips}) * len({count for _, count in mapped.groups})


def estimate(plan: LayerPlan) -> Estimate:
    """Estimate what a plan costs.

    Loads of filters, and those of ifmaps and stores of outputs that have a second place, run beside the
    passes; the others stop them.
    """
    mapped, config = plan.mapped, plan.config
    rate = config.beat_bytes * config.memory.beats_per_cycle
    ifmap_bytes, decoding, loads = _ifmaps(plan)
    output_bytes, coding = _outputs(plan)
    lines = sum(mapped.filter_beats(part, some) for part in mapped.parts for block in mapped.blocks
                for some in block.filters)
    reloads = len(mapped.images) * len(mapped.strips)
    filter_bytes = reloads * mapped.sets(mapped.layer.groups) * mapped.height * lines * config.line_bytes
    blocks = reloads * len(mapped.groups) * len(mapped.blocks)
    fetches = reloads * len(mapped.groups) * mapped.filter_passes * len(mapped.parts)
    if mapped.filter_passes == len(mapped.blocks):
        # Each region of ofmaps begins with the filters with which the one before ended.
        kept = (reloads - 1) * len(mapped.groups)
        filter_bytes -= filter_bytes * kept // fetches
        fetches -= kept
    count = setups(mapped)
    other = COMMAND_BYTES * (mapped.count + fetches + loads + 2 * blocks + 2 * count)
    other += count * plan.setup_lines * config.line_bytes + blocks * plan.bias_buffer_lines * config.line_bytes
    processing, single = processing_cycles(mapped, config, config.line_bytes / rate)
    if plan.filter_slots == 1:
        processing = single
    ifmap_cycles, output_cycles = max(ifmap_bytes / rate, decoding), max(output_bytes / rate, coding)
    beside = (filter_bytes + other) / rate
    tiles = reloads * len(mapped.groups) * (1 if plan.resident else len(mapped.blocks) * len(
        {part.channel for part in mapped.parts}))
    latency = config.memory.read_latency + config.memory.write_latency
    exposed = ifmap_cycles / tiles + output_cycles / blocks + latency + count * (plan.setup_lines + _FILL)
    beside += ifmap_cycles * (tiles - 1) / tiles
    if plan.ifmap_tiles == plan.tiles_of_part:
        exposed += (tiles - 1) * missing(ifmap_cycles / tiles, processing / mapped.count, plan.tiles_of_part, latency)
    if plan.psum_blocks == 2:
        beside += output_cycles * (blocks - 1) / blocks
    else:
        exposed += (blocks - 1) * waiting(output_cycles / blocks, processing / blocks / len(mapped.parts),
                                          mapped.count / blocks / len(mapped.parts), latency)
    return Estimate(processing=processing + _FILL * blocks, cycles=int(max(processing, beside) + exposed),
                    ifmap_bytes=ifmap_bytes, filter_bytes=filter_bytes, output_bytes=output_bytes, other_bytes=other)


def missing(load: Any, each: Any, tiles: Any, latency: int) -> Any:
    """Cycles that passes wait for the tiles of the next part of the contraction, if there is no room for one more.

    A tile comes when the last pass has read the one before. If there are several, passes read others meanwhile.

    Parameters
    ----------
    load : float
        Cycles in which the tiles of a part come.
    each : float
        Cycles of a pass.
    tiles : int
        Tiles of a part.
    latency : int
        Cycles of memory besides.
    """
    return tiles * np.maximum(0, load / tiles + latency - np.where(tiles > 1, each, 0))


def waiting(store: Any, part: Any, passes: Any, latency: int) -> Any:
    """Cycles that a block waits for the one before to leave the lines that it needs too.

    Sums leave pass by pass, while the last part of the contraction goes on and then the first of the next block.

    Parameters
    ----------
    store : float
        Cycles in which a block leaves.
    part : float
        Cycles of all passes of a part of the contraction.
    passes : float
        Number of these passes.
    latency : int
        Cycles of memory besides.
    """
    return latency + np.maximum(store / passes, store - 2 * part * (passes - 1) / passes)
