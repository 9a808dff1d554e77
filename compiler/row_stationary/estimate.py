"""Cycles and bytes of a layer on a row-stationary accelerator, in closed form."""

from dataclasses import dataclass
from itertools import product
from math import ceil, gcd, prod
from typing import Any

import numpy as np

from ...golden.row_stationary import Filters, LayerMapping, Part
from ...golden.tensors import four_sides
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.shell.block_walk import burst_beats
from ...hdl.shell.commands import COMMAND_BYTES
from ...memory import MemoryTiming
from .mapping import LayerPlan, Traffic
from .setup import setup_size

__all__ = ["BYTES_WEIGHT", "Estimate", "behind_mark", "burst_cycles", "code_bytes", "coder_cycles", "elapsed",
           "estimate", "gather_bytes", "gather_loads", "line_bytes", "pass_cycles", "processing_cycles", "row_loads"]

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

    Filters arrive while those of the pass before are used, as far as PEs have room for `filter_words`; the rest follows
    while the pass before goes through its last window and this one through its first. That PEs are not in step, and a
    beat waits for the last of those that it goes to, is left out: where filters come late, that costs some 100 cycles
    more.
    """
    mapping, windows = mapped.mapping, mapped.layer.output[2]
    sums = images * windows
    lines = mapped.ifmap_lines(rows)[0]
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


def coder_cycles(config: RowStationaryConfig, zeros: float) -> float:
    """Cycles that the coder takes for a word of ofmaps with a share of zeros."""
    lanes = config.beat_bytes // config.operand_bytes
    return max(1 - zeros + zeros ** lanes / lanes, 1 / lanes) if config.global_buffer.skip_zeros else 1.0


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
    least = burst_cycles(memory) * memory.beats_per_cycle
    return lanes / run * beats * config.beat_bytes, lanes / run * np.maximum(beats, least) * config.beat_bytes


def burst_cycles(memory: MemoryTiming) -> float:
    """Cycles that a burst takes at least: those in flight bound the rate of short ones."""
    return (memory.read_latency + 2) / memory.outstanding


def gather_loads(config: RowStationaryConfig, traffic: Traffic, q: Any, words: Any) -> Any:
    """LOADs that gather the words of a PE: one for each line where neither its channels nor its filters adjoin."""
    if traffic.gathered != "filters":
        return 1
    return np.where((q > 1) & (q < config.filter_lanes), -(-words // config.filter_lanes), 1)


def gather_bytes(config: RowStationaryConfig, traffic: Traffic, q: Any, words: Any) -> Any:
    """Bytes of commands for each line of filters that are gathered, of PEs with `words` each."""
    loads = gather_loads(config, traffic, q, words)
    return COMMAND_BYTES * config.filter_lanes / words * loads if traffic.gathered else 0


def row_loads(traffic: Traffic, resident: bool, rows: Any) -> Any:
    """LOADs of a tile of ofmap rows: for each tap its own, two if the pixels begin within a row of the image."""
    return rows * (1 if resident else 2) if traffic.by_taps else 2


def _row_bytes(length: int, pitch: int, beat: int) -> int:
    """Bytes of the beats that a row of bytes takes, if rows begin at multiples of a pitch."""
    return beat * ceil((length + beat - gcd(length, pitch, beat)) / beat)


def _columns(plan: LayerPlan) -> tuple[int, int]:
    """Bytes and bursts of an ifmap that stands transposed, of one channel."""
    mapped, size = plan.mapped, plan.config.operand_bytes
    used, bursts = 0, 0
    for strip, number in mapped.strips.kinds:
        rows = strip.size if plan.traffic.by_taps else 1
        run = mapped.tile_columns * strip.size // rows * size
        used += number * rows * _row_bytes(run, run, plan.config.beat_bytes)
        bursts += number * rows
    return used, bursts


def _ifmaps(plan: LayerPlan) -> tuple[int, int, int]:
    """Bytes, cycles of the decoder or of short bursts, and commands of all loads of ifmaps."""
    mapped, traffic, config = plan.mapped, plan.traffic, plan.config
    layer, size, channels = mapped.layer, config.operand_bytes, mapped.per_group[0]
    top, left = four_sides(layer.padding)[:2]
    columns = min(layer.w, mapped.tile_columns - left)
    step, strips = mapped.stride[0], np.arange(0, layer.output[1], mapped.mapping.e)
    starts = step * strips - top
    ends = starts + step * np.minimum(mapped.mapping.e, layer.output[1] - strips) + mapped.tile_lines(0)
    rows = int((np.clip(ends, 0, layer.h) - np.clip(starts, 0, layer.h)).sum())
    ranges = {channels: 1} if plan.resident else {some.size: number for some, number in mapped.channels.kinds}
    # Each block begins with the tiles with which the one before ended.
    blocks = 1 if plan.resident else len(mapped.filter_blocks)
    reloads = blocks - (blocks - 1) / sum(ranges.values())
    commands = round(reloads * mapped.image_passes * len(mapped.groups) * len(strips) * sum(ranges.values()))
    words = round(reloads * mapped.batch * layer.c * rows * columns)
    if traffic.coded_input:
        held = round(reloads * mapped.batch * layer.c * int((ends - starts).sum()) * mapped.tile_columns)
        code = code_bytes(words, traffic.input_zeros, held - words)
        return int(code) + commands * behind_mark(config), held, commands
    if traffic.transposed:
        each, bursts = _columns(plan)
        cycles = reloads * layer.c * bursts * burst_cycles(traffic.timing)
        return round(reloads * layer.c * each), round(cycles), commands * row_loads(traffic, plan.resident, mapped.rows)
    used = 0
    for (groups, often), (some, number) in product(mapped.groups.kinds, ranges.items()):
        together = some * (groups.size if some == channels else 1)
        runs = rows * (groups.size * some // together)
        if together == layer.c:
            row = _row_bytes(columns * layer.c * size, layer.w * layer.c * size, config.beat_bytes)
        else:
            row = columns * _row_bytes(together * size, layer.c * size, config.beat_bytes)
        used += number * often * runs * row
    return round(reloads * mapped.batch * used), 0, 2 * commands


def _outputs(plan: LayerPlan) -> tuple[int, int]:
    """Bytes, and cycles of the coder, of all outputs."""
    mapped, traffic = plan.mapped, plan.traffic
    words = mapped.batch * prod(mapped.layer.output)
    if traffic.coded_output:
        return (int(code_bytes(words, traffic.output_zeros)),
                round(words * coder_cycles(plan.config, traffic.output_zeros)))
    return words * traffic.output_bytes, words * traffic.output_bytes // plan.config.line_bytes


def processing_cycles(mapped: LayerMapping, config: RowStationaryConfig, loading: float = 0.0,
                      latency: int = 0) -> tuple[int, int]:
    """Cycles of all passes, and cycles if filters are loaded only when those before have been read for the last time.

    Memory then brings the first line after `latency` cycles, and each in `loading`.
    """
    total, waits = 0, 0.0
    for (images, passes, last), (groups, some), (strip, strips), (part, parts), (filters, often) in product(
            mapped.image_kinds, mapped.groups.kinds, mapped.strips.kinds, mapped.part_kinds, mapped.filter_kinds):
        many = some * strips * parts * often
        cycles = pass_cycles(mapped, config.filters_ahead, images, groups.size, strip.size, part, filters)
        lines = mapped.sets(groups.size) * mapped.height * mapped.filter_beats(part, filters)
        total += many * passes * cycles
        waits += many * last * max(0, lines * (1 + loading) + latency - cycles)
    return total, total + int(waits)


def estimate(plan: LayerPlan) -> Estimate:
    """Estimate what a plan costs."""
    mapped, config, timing, rate = plan.mapped, plan.config, plan.traffic.timing, plan.rate
    ifmap_bytes, decoding, loads = _ifmaps(plan)
    output_bytes, coding = _outputs(plan)
    reloads, groups = mapped.regions, len(mapped.groups)
    read, taken = line_bytes(config, plan.traffic, mapped.mapping.q)
    filter_bytes = int(reloads * mapped.sets(mapped.layer.groups) * mapped.height * mapped.filter_lines * read)
    blocks = reloads * groups * len(mapped.filter_blocks)
    fetches = reloads * groups * mapped.filter_passes * mapped.part_count
    if mapped.filter_passes == len(mapped.filter_blocks):
        # Each region of ofmaps begins with the filters with which the one before ended.
        kept = (reloads - 1) * groups
        filter_bytes -= filter_bytes * kept // fetches
        fetches -= kept
    # The array is set up for each number of rows of a strip and of groups side by side.
    setups = len(mapped.strips.kinds) * len(mapped.groups.kinds)
    p, q = mapped.mapping.p, mapped.mapping.q
    gathers = mapped.sets(1) * int(gather_loads(config, plan.traffic, q, p * q)) if plan.traffic.gathered else 1
    other = COMMAND_BYTES * (mapped.count + fetches * gathers + loads + 2 * blocks + 2 * setups)
    other += (setups * setup_size(config) + blocks * plan.bias_buffer_lines) * config.line_bytes
    line = taken + gather_bytes(config, plan.traffic, q, p * q)
    processing = processing_cycles(mapped, config, line / rate, timing.read_latency)[plan.filter_slots == 1]
    cycles = elapsed(
        plan.traffic, processing=processing, passes=mapped.count, parts=mapped.part_count, blocks=blocks,
        tiles=reloads * groups if plan.resident else blocks * len(mapped.channels), part_tiles=plan.tiles_of_part,
        ifmaps=max(ifmap_bytes / rate, decoding), filters=filter_bytes * (taken / read) / rate,
        outputs=max(output_bytes / rate, coding), others=other / rate, is_spare=plan.spare_tiles > 0,
        is_double=plan.psum_blocks == 2)
    cycles += timing.read_latency + timing.write_latency + setups * (setup_size(config) + _FILL)
    return Estimate(processing=processing + _FILL * blocks, cycles=int(cycles), ifmap_bytes=ifmap_bytes,
                    filter_bytes=filter_bytes, output_bytes=output_bytes, other_bytes=other)


def elapsed(traffic: Traffic, *, processing: Any, passes: Any, parts: Any, blocks: Any, tiles: Any, part_tiles: Any,
            ifmaps: Any, filters: Any, outputs: Any, others: Any, is_spare: bool, is_double: bool) -> Any:
    """Cycles of a layer, or of each of many mappings of it.

    Loads of filters, and those of ifmaps and stores of outputs that have a second place, run beside the passes; the
    others stop them.

    Parameters
    ----------
    traffic : Traffic
        What is in memory.
    processing, passes : float
        Cycles of all passes, and how many there are.
    parts, blocks, tiles, part_tiles : float
        Parts of the contraction, blocks of psums, times that the tiles of a part are loaded, and how many these are.
    ifmaps, filters, outputs, others : float
        Cycles in which memory moves all of them.
    is_spare, is_double : bool
        Whether there is room for another tile, and for another block.
    """
    latency = traffic.timing.read_latency + traffic.timing.write_latency
    load, store = ifmaps / tiles, outputs / blocks
    beside, exposed = filters + others + ifmaps * (1 - 1 / tiles), load + store
    if not is_spare:
        # A tile comes when the last pass has read the one before. If there are several, passes read others meanwhile.
        meanwhile = np.where(part_tiles > 1, processing / passes, 0)
        exposed = exposed + (tiles - 1) * (part_tiles * np.maximum(0, load / part_tiles + latency - meanwhile))
    if is_double:
        beside = beside + outputs * (1 - 1 / blocks)
    else:
        # Sums leave pass by pass, while the last part of the contraction goes on and then the first of the next block.
        part, leaving = processing / blocks / parts, passes / blocks / parts
        # Commands that let a block leave stand behind the many that gather the next one's filters.
        behind = latency + (filters / blocks if traffic.gathered else 0)
        exposed = exposed + (blocks - 1) * (behind + np.maximum(
            store / leaving, store - 2 * part * (leaving - 1) / leaving))
    return np.maximum(processing, beside) + exposed
