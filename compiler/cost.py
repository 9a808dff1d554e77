"""What commands cost, in closed form, and when a program's commands run.

The figures follow from the hardware's rates: one beat a cycle on the read and on the write channel, one
operand vector a cycle into the array, `lanes` outputs a cycle in post-processing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..hdl.commands import COMMAND_BYTES, Opcode, Rounding
from ..hdl.config import Config
from .program import QUEUES, Command, Program

__all__ = ["command_cycles", "contraction_tiles", "estimate", "row_beats"]

#: Cycles from a command's start to its first effect and from its last to its completion, by queue.
#: They are pipeline depths, small against the work of most commands.
_OVERHEAD = {"load": 6, "execute": 10, "post": 14, "store": 8}


def row_beats(config: Config, length: int, rows: int = 1) -> float:
    """Cycles to move `rows` rows of `length` bytes, each its own burst, at the memory's rate."""
    memory = config.memory
    beats = -(-length // config.beat_bytes)
    # Bursts in flight bound the rate of short ones.
    floor = (max(memory.read_latency, memory.write_latency) + 4) / memory.outstanding
    return rows * max(beats / memory.beats_per_cycle, floor if rows > memory.outstanding else beats)


def contraction_tiles(rows: int, k_total: int, run: int, fold: int) -> int:
    """Tiles into which a weight-stationary contraction is cut."""
    if fold or run >= k_total:
        return -(-k_total // rows)
    whole, rest = divmod(k_total, run)
    return whole * -(-run // rows) + -(-rest // rows)


def command_cycles(config: Config, command: Command) -> float:
    """Cycles a command keeps its engine busy."""
    body = command.body
    rows, cols = config.array.rows, config.array.cols
    if command.opcode in (Opcode.LOAD, Opcode.STORE):
        if body.get("profile"):
            return 2
        count = body["count1"] * body["count2"]
        beats = -(-body["length"] // config.beat_bytes)
        return count * beats if body.get("fill") else row_beats(config, body["length"], count)
    if command.opcode is Opcode.EXECUTE:
        m = body["m_count0"] * body["m_count1"] * body["m_count2"]
        if body.get("output_stationary"):
            return body["n_count"] * max(m, rows)
        tiles = contraction_tiles(rows, body["k_total"], body["run"], body.get("fold", 0))
        return body["n_count"] * tiles * max(rows, m)
    return body["n_count"] * body["m_count"] * (cols // config.post.lanes)


def estimate(config: Config, program: Program, detail: bool = False) -> Any:
    """Cycles from start to the last acknowledged write, by running the queues against each other.

    Parameters
    ----------
    config : Config
        Configuration.
    program : Program
        The program.
    detail : bool
        Return the start and end of each command instead, as an array of shape (commands, 2).
    """
    memory = config.memory
    fetch = COMMAND_BYTES / config.beat_bytes
    free = dict.fromkeys(QUEUES.values(), 0.0)
    done: dict[str, list[float]] = {name: [0.0] for name in QUEUES.values()}
    port = float(memory.read_latency)
    times = np.zeros((len(program.commands), 2))
    for index, command in enumerate(program.commands):
        queue = QUEUES[command.opcode]
        # Commands are fetched in order, through the port that loads use too.
        port += fetch
        start = max(port, free[queue], _waits(done, command.waits))
        cycles = command_cycles(config, command)
        busy = start + cycles
        free[queue] = busy
        end = busy + _OVERHEAD[queue]
        if queue == "load" and not command.body.get("fill"):
            free[queue] = busy + fetch
            end += memory.read_latency
        elif queue == "store":
            end += memory.write_latency
        elif queue == "execute":
            end += config.array.rows + config.array.cols
        done[queue].append(max(end, done[queue][-1]))
        times[index] = start, done[queue][-1]
    return times if detail else float(max(entries[-1] for entries in done.values()))


def _waits(done: Mapping[str, list[float]], waits: Mapping[str, int]) -> float:
    return max((done[name][count] for name, count in waits.items()), default=0.0)


def output_cycles(config: Config, rounding: Rounding, pixels: int, channels: int) -> float:
    """Cycles to store outputs as rows of `channels`."""
    item = config.sum_bytes if rounding is Rounding.NONE else config.operand_bytes
    return row_beats(config, channels * item, pixels)
