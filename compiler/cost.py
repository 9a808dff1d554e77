"""What commands cost, in closed form, and when a program's commands run.

The figures follow from the hardware's rates: one beat a cycle on the read and on the write channel, one
operand vector a cycle into the array, `lanes` outputs a cycle in post-processing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..hdl.commands import COMMAND_BYTES
from ..hdl.config import Config
from .program import Program
from .timing import contraction_tiles, timeline

__all__ = ["contraction_tiles", "estimate", "execute_cycles", "load_cycles", "row_beats"]


def row_beats(config: Config, length: int, rows: int = 1) -> float:
    """Cycles to move `rows` rows of `length` bytes, each its own burst, at the memory's rate."""
    memory = config.memory
    beats = -(-length // config.beat_bytes)
    # Bursts in flight bound the rate of short ones.
    floor = (max(memory.read_latency, memory.write_latency) + 4) / memory.outstanding
    return rows * max(beats / memory.beats_per_cycle, floor if rows > memory.outstanding else beats)


def execute_cycles(config: Config, body: Mapping[str, int]) -> float:
    """Cycles in which an EXECUTE feeds the array, weights loading under the tiles."""
    pixels = body["m_count0"] * body["m_count1"] * body["m_count2"]
    if body.get("output_stationary"):
        return float(body["n_count"] * max(pixels, config.array.rows))
    tiles = contraction_tiles(config.array.rows, body["k_total"], body["run"], body.get("fold", 0))
    return float(body["n_count"] * tiles * max(pixels, config.array.rows))


def load_cycles(config: Config, body: Mapping[str, int]) -> float:
    """Cycles of the port that a LOAD takes, its own command included."""
    count, fetch = body["count1"] * body["count2"], COMMAND_BYTES / config.beat_bytes
    if body.get("fill"):
        return fetch
    return fetch + row_beats(config, body["length"], count)


def estimate(config: Config, program: Program, detail: bool = False) -> Any:
    """Cycles from the start write to the done flag, by running the queues against each other.

    Parameters
    ----------
    config : Config
        Configuration.
    program : Program
        The program.
    detail : bool
        Return the start and end of each command instead, as an array of shape (commands, 2).
    """
    found = timeline(config, program.commands)
    return np.stack([found.begun, found.done], 1) if detail else float(found.cycles)
