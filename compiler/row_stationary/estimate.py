"""Cycles and bytes of a layer on a row-stationary accelerator, in closed form."""

from dataclasses import dataclass
from itertools import product
from math import ceil, gcd
from typing import Any

import numpy as np

from ...golden.row_stationary import Filters, LayerMapping, Part, Strip
from ...golden.tensors import four_sides, pair
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.shell.block_walk import burst_beats
from ...hdl.shell.commands import COMMAND_BYTES
from .mapping import LayerPlan, Traffic

__all__ = ["BYTES_WEIGHT", "Estimate", "behind_mark", "code_bytes", "estimate", "gather_bytes", "line_bytes", "missing",
           "pass_cycles", "processing_cycles", "waiting"]

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
    lines = mapped.ifmap_lines(Strip(0, rows))[0]
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


def line_bytes(config: RowStationaryConfig, traffic: Traffic, q: Any) -> tuple[Any, Any]:
    """Bytes that memory reads for a line of filters of `q` channels, and bytes for which it would take as long."""
    if not traffic.gathered:
        return config.line_bytes, config.line_bytes
    lanes, memory = config.filter_lanes, traffic.timing
    run = np.minimum(q, lanes) if traffic.gathered == "channels" else np.where(q == 1, lanes, 1)
    beats = -(-run * config.operand_bytes // config.beat_bytes)
    # Bursts in flight bound the rate of short ones.
    least = (memory.read_latency + 2) / memory.outstanding * memory.beats_per_cycle
    return lanes / run * beats * config.beat_bytes, lanes / run * np.maximum(beats, least) * config.beat_bytes


def gather_bytes(config: RowStationaryConfig, traffic: Traffic, words: Any) -> Any:
    """Bytes of commands for each line of filters that are gathered, with a command for the words of a PE."""
    return COMMAND_BYTES * config.filter_lanes / words if traffic.gathered else 0


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
    starts = step * np.arange(0, layer.output[1], mapped.mapping.e) - top
    lines = np.repeat(*np.array([(mapped.tile_lines(strip), number) for strip, number in mapped.strip_kinds]).T)
    rows = int(np.maximum(0, np.minimum(starts + lines, layer.h) - np.maximum(starts, 0)).sum())
    ranges = {count: number for (_, count), number in mapped.channel_kinds}
    if plan.resident:
        ranges = {mapped.per_group[0]: 1}
    # Each block begins with the tiles with which the one before ended.
    blocks = 1 if plan.resident else mapped.block_count
    reloads = blocks - (blocks - 1) / sum(ranges.values())
    commands = round(reloads * mapped.image_passes * mapped.group_count * len(starts) * sum(ranges.values()))
    words = round(reloads * mapped.batch * layer.c * rows * columns)
    if traffic.coded_input:
        held = round(reloads * mapped.batch * layer.c * int(lines.sum()) * mapped.tile_columns)
        code = code_bytes(words, traffic.input_zeros, held - words)
        return int(code) + commands * behind_mark(config), held, commands
    used = 0
    for groups, often in mapped.group_kinds:
        for channels, number in ranges.items():
            count = number * often
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


def processing_cycles(mapped: LayerMapping, config: RowStationaryConfig, loading: float = 0.0,
                      latency: int = 0) -> tuple[int, int]:
    """Cycles of all passes, and cycles if filters are loaded only when those before have been read for the last time.

    Parameters
    ----------
    mapped : LayerMapping
        The layer and its mapping.
    config : RowStationaryConfig
        The accelerator.
    loading : float
        Cycles in which memory brings a line.
    latency : int
        Cycles until the first one comes.
    """
    total, waits = 0, 0.0
    for (images, passes, last), (groups, some), (strip, strips), (part, parts), (filters, often) in product(
            mapped.image_kinds, mapped.group_kinds, mapped.strip_kinds, mapped.part_kinds, mapped.filter_kinds):
        many = some * strips * parts * often
        cycles = pass_cycles(mapped, config.pe.filter_words, images, groups, strip.rows, part, filters)
        lines = mapped.sets(groups) * mapped.height * mapped.filter_beats(part, filters)
        total += many * passes * cycles
        waits += many * last * max(0, lines * (1 + loading) + latency - cycles)
    return total, total + int(waits)


def setups(mapped: LayerMapping) -> int:
    """Times that the array is set up: for each number of rows of a strip and of groups side by side."""
    return len(mapped.strip_kinds) * len(mapped.group_kinds)


def estimate(plan: LayerPlan) -> Estimate:
    """Estimate what a plan costs.

    Loads of filters, and those of ifmaps and stores of outputs that have a second place, run beside the
    passes; the others stop them.
    """
    mapped, config, timing = plan.mapped, plan.config, plan.traffic.timing
    rate = config.beat_bytes * timing.beats_per_cycle
    ifmap_bytes, decoding, loads = _ifmaps(plan)
    output_bytes, coding = _outputs(plan)
    reloads, parts = mapped.regions, mapped.part_count
    read, taken = line_bytes(config, plan.traffic, mapped.mapping.q)
    filter_bytes = int(reloads * mapped.sets(mapped.layer.groups) * mapped.height * mapped.filter_lines * read)
    blocks = reloads * mapped.group_count * mapped.block_count
    fetches = reloads * mapped.group_count * mapped.filter_passes * parts
    if mapped.filter_passes == mapped.block_count:
        # Each region of ofmaps begins with the filters with which the one before ended.
        kept = (reloads - 1) * mapped.group_count
        filter_bytes -= filter_bytes * kept // fetches
        fetches -= kept
    count = setups(mapped)
    gathers = mapped.mapping.t * mapped.mapping.r if plan.traffic.gathered else 1
    other = COMMAND_BYTES * (mapped.count + fetches * gathers + loads + 2 * blocks + 2 * count)
    other += count * plan.setup_lines * config.line_bytes + blocks * plan.bias_buffer_lines * config.line_bytes
    line = taken + gather_bytes(config, plan.traffic, mapped.mapping.p * mapped.mapping.q)
    processing, single = processing_cycles(mapped, config, line / rate, timing.read_latency)
    if plan.filter_slots == 1:
        processing = single
    ifmap_cycles, output_cycles = max(ifmap_bytes / rate, decoding), max(output_bytes / rate, coding)
    filter_cycles = filter_bytes * (taken / read) / rate
    beside = filter_cycles + other / rate
    tiles = reloads * mapped.group_count * (1 if plan.resident else mapped.block_count * sum(
        number for _, number in mapped.channel_kinds))
    latency = timing.read_latency + timing.write_latency
    exposed = ifmap_cycles / tiles + output_cycles / blocks + latency + count * (plan.setup_lines + _FILL)
    beside += ifmap_cycles * (tiles - 1) / tiles
    if plan.ifmap_tiles == plan.tiles_of_part:
        exposed += (tiles - 1) * missing(ifmap_cycles / tiles, processing / mapped.count, plan.tiles_of_part, latency)
    if plan.psum_blocks == 2:
        beside += output_cycles * (blocks - 1) / blocks
    else:
        # Commands that let a block leave stand behind the many that gather the next one's filters.
        behind = filter_cycles / blocks if plan.traffic.gathered else 0
        exposed += (blocks - 1) * waiting(output_cycles / blocks, processing / blocks / parts,
                                          mapped.count / blocks / parts, latency + behind)
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
