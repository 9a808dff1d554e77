"""What commands cost in closed form, and the counters of a run.

The figures follow from the hardware's rates: one beat a cycle on the read and on the write channel, one
operand vector a cycle into the array, `lanes` outputs a cycle in post-processing.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import gcd

from ...hdl.shell.block_walk import burst_beats
from ...hdl.shell.commands import COMMAND_BYTES, Opcode
from ...hdl.shell.config import Config
from ...hdl.systolic.commands import Destination
from ...memory import DEFAULT_MEMORY, MemoryTiming
from ..program import Program
from ..timing.bursts import bursts, row_bursts
from ..timing.routines import routine_postings
from .timeline import timeline
from .timing import Latencies, contraction_tiles, execution, is_toeplitz

__all__ = ["EXACT", "contraction_tiles", "execute_cycles", "load_cycles", "predict", "row_beats", "strided_beats"]


def row_beats(config: Config, timing: MemoryTiming, length: int, rows: int = 1) -> float:
    """Cycles to move `rows` rows of `length` bytes, each its own burst, at the memory's rate."""
    beats = -(-length // config.beat_bytes)
    # Bursts in flight bound the rate of short ones.
    floor = (max(timing.read_latency, timing.write_latency) + 4) / timing.outstanding
    return rows * max(beats / timing.beats_per_cycle, floor if rows > timing.outstanding else beats)


@lru_cache(1 << 12)
def strided_beats(config: Config, timing: MemoryTiming, start: int, pitch: int, length: int, rows: int) -> float:
    """Cycles to move `rows` rows of `length` bytes that stand `pitch` bytes apart, from address `start` on.

    Unlike :func:`row_beats`, this knows which rows are cut in two where bursts end.
    """
    size = burst_beats(config) * config.beat_bytes
    # After so many rows they stand again as the first one to the ends of bursts.
    some = min(rows, size // gcd(pitch, size))
    sizes = row_bursts(config, start, length, (some, pitch)).sizes
    beats = sum(sizes) / some / timing.beats_per_cycle
    floor = (timing.read_latency + 4) / timing.outstanding * len(sizes) / some
    return rows * max(beats, floor if rows > timing.outstanding else 0.0)


def execute_cycles(config: Config, body: Mapping[str, int]) -> float:
    """Cycles in which an EXECUTE feeds the array, weights loading under the tiles."""
    found = execution(config, body)
    if is_toeplitz(config, body):
        return float(config.array.rows + (found.tiles - 1) * found.period)
    turns = config.arithmetic.add_latency if body.get("output_stationary") else 1
    return float(found.tiles * max(found.vectors, turns * config.array.rows))


def load_cycles(config: Config, timing: MemoryTiming, body: Mapping[str, int]) -> float:
    """Cycles of the port that a LOAD takes, its own command included."""
    fetch = COMMAND_BYTES / config.beat_bytes
    if body.get("fill"):
        return fetch
    return fetch + row_beats(config, timing, body["length"], body["count1"] * body["count2"])


#: Counters that :func:`predict` gives exactly; the others depend on single cycles of arbitration.
EXACT = (
    "fetch_beats", "load_beats", "write_beats", "commands", "load_commands", "execute_commands", "post_commands",
    "store_commands", "execute_active", "execute_activation_read", "execute_weight_read",
    "execute_accumulator_read", "execute_accumulator_write", "post_group", "post_accumulator_read",
    "post_output_write", "activation_write_beats", "weight_write_beats", "parameter_write_beats", "output_read_beats",
)


def predict(config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> dict[str, int]:
    """Predict every counter of a run.

    Accesses and work follow from the program in closed form, and are exact (:data:`EXACT`): beats of memory by
    client, beats written to each scratchpad and read from the output's, vectors read for the array, sums read and
    written, groups of lanes. Cycles, and stalls by cause, come of :func:`~.timeline.timeline`, which follows the
    hardware's rules; they are within 2 %, and mostly exact, if memory never stalls.

    Returns
    -------
    dict of str to int
        Counters by the names of :func:`pearray.hdl.accelerator.counter_names`.
    """
    found = timeline(config, program, timing)
    rows, cols = config.array.rows, config.array.cols
    moves = ("move_commands", "moved_beats") if config.has_moves else ()
    counts = dict.fromkeys((*EXACT, *moves, "stall_load", "stall_post", "stall_empty"), 0)
    commands = program.commands
    routines = routine_postings(config, program, ((each.opcode.value - 1, each.body) for each in commands)) if (
        config.has_routines) else {}
    for number, command in enumerate(commands):
        body, queue = command.body, command.opcode.name.lower()
        counts[f"{queue}_commands"] += 1
        if command.opcode is Opcode.LOAD:
            beats = sum(bursts(config, body).sizes)
            counts["load_beats"] += 0 if body.get("fill") else beats
            counts[_WRITES.get(body["destination"], "parameter_write_beats")] += beats
        elif command.opcode is Opcode.STORE:
            counts["write_beats"] += sum(bursts(config, body).sizes)
        elif command.opcode is Opcode.MOVE:
            counts["moved_beats"] += sum(bursts(config, body).sizes)
        elif command.opcode is Opcode.POST:
            post = routines.get(number) or Latencies.of(config).posting(body)
            counts["post_group"] += post.read
            counts["post_accumulator_read"] += 0 if number in routines else post.read
            counts["post_output_write"] += post.written
        else:
            taken, tiles = execution(config, body), body["n_count"]
            weights = sums = taken.active
            first = tiles * taken.vectors
            if body.get("output_stationary"):
                sums = first = tiles * config.arithmetic.add_latency * rows
            else:
                weights = taken.tiles * cols if body.get("left") else tiles * body["k_total"]
                if is_toeplitz(config, body):
                    # Of all tiles but the first, or of all, what enters at the top and at the left.
                    weights = 2 * tiles + (0 if number in found.continued else rows - 2)
            counts["execute_active"] += taken.active
            counts["execute_weight_read"] += weights
            counts["execute_accumulator_write"] += sums
            counts["execute_accumulator_read"] += sums - (first if body.get("first") else 0)
    beats = max(1, COMMAND_BYTES // config.beat_bytes)
    stalls = dict(zip(("stall_load", "stall_post", "stall_empty"), found.stalls, strict=True))
    return counts | stalls | {
        "cycles": found.cycles, "commands": len(commands) + 1, "fetch_beats": found.fetched * beats,
        "execute_activation_read": counts["execute_active"],
        "execute_stall_weights": found.waiting,
        "output_read_beats": counts["write_beats"],
    }


#: Counters of what a LOAD writes, by destination; all others are parameters of post-processing.
_WRITES = {Destination.ACTIVATION.value: "activation_write_beats", Destination.WEIGHT.value: "weight_write_beats"}
