"""What transfers and commands cost in cycles, and when those of a program run."""

from collections.abc import Mapping

from pearray.compiler.program import QUEUES, Program
from pearray.hdl.post.engine import Post
from pearray.hdl.shell.commands import COMMAND_BYTES, Opcode
from pearray.hdl.shell.config import Config
from pearray.memory import DEFAULT_MEMORY, MemoryTiming

from .config import DotConfig
from .engine import DotEngine
from .hardware import lines_of

__all__ = ["estimate", "row_cycles"]


def row_cycles(config: Config, timing: MemoryTiming, length: int, rows: int = 1) -> float:
    """Cycles in which memory moves rows of `length` bytes, each a burst of its own or several."""
    beats = -(-length // config.beat_bytes) / timing.beats_per_cycle
    # Only so many bursts are on their way at a time, which short ones feel.
    return rows * max(beats, (timing.read_latency + 4) / timing.outstanding if rows > timing.outstanding else beats)


def _busy(config: DotConfig, timing: MemoryTiming, opcode: Opcode,
          body: Mapping[str, int]) -> tuple[float, float]:
    """Cycles in which a command keeps its engine from the next one, and cycles more until it has completed."""
    if opcode is Opcode.EXECUTE:
        return 1 + lines_of(body), DotEngine.latency_of(config)
    if opcode is Opcode.POST:
        groups = body["n_count"] * body["m_count"] * config.array.rows // config.post.lanes
        return Post.START - 1 + max(groups, Post.settings_cycle_of(config) + 1), Post.latency_of(config) + 1
    if body.get("profile"):
        return 16 / min(config.beat_bytes, 64), timing.write_latency
    if body.get("fill"):
        return body["count1"] * body["count2"] * -(-body["length"] // config.beat_bytes), 6
    rows = body["count1"] * body["count2"]
    return row_cycles(config, timing, body["length"], rows), 8 + (
        timing.read_latency if opcode is Opcode.LOAD else timing.write_latency)


#: Commands that a queue holds.
_DEPTH = 16


def estimate(config: DotConfig, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> float:
    """Cycles from the start to the end of a program, if each engine works through its own queue.

    Memory is taken to serve rows at its rate, and a fetched command to cost the loader its beats. Not counted are
    what reads and writes cost each other, and single cycles of arbitration.
    """
    fetch = COMMAND_BYTES / config.beat_bytes
    fetched, owed = float(timing.read_latency + 10), 0.0
    begun: dict[str, list[float]] = {name: [] for name in QUEUES.values()}
    done: dict[str, list[float]] = {name: [0.0] for name in QUEUES.values()}
    free = dict.fromkeys(QUEUES.values(), 0.0)
    for command in program.commands:
        queue = QUEUES[command.opcode]
        owed += fetch
        # A full queue keeps its next command, and all behind it, in memory.
        fetched = max(fetched + fetch, begun[queue][-_DEPTH] if len(begun[queue]) >= _DEPTH else 0.0)
        begin = max(fetched, free[queue], *(done[name][count] for name, count in command.waits.items()))
        busy, after = _busy(config, timing, command.opcode, command.body)
        if queue == QUEUES[Opcode.LOAD]:
            busy, owed = busy + owed, 0.0
        begun[queue].append(begin)
        free[queue] = begin + busy
        done[queue].append(max(begin + busy + after, done[queue][-1]))
    return max(times[-1] for times in done.values())
