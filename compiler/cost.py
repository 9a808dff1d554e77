"""What commands cost, in closed form, and when a program's commands run.

The figures follow from the hardware's rates: one beat a cycle on the read and on the write channel, one
operand vector a cycle into the array, `lanes` outputs a cycle in post-processing.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..hdl.commands import COMMAND_BYTES
from ..hdl.config import Config
from .program import QUEUES, Program

__all__ = ["contraction_tiles", "estimate", "execute_cycles", "load_cycles", "row_beats"]

#: Commands in flight, and commands waiting in a queue before fetching stops.
_AHEAD, _ROOM = 4, 8


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


class _Port:
    """One beat a cycle for bursts of two clients, each burst at the first free time after its latency."""

    def __init__(self, rate: float):
        self._rate = rate
        self._starts = [0.0]
        self._ends = [0.0]

    def reserve(self, ready: float, beats: float) -> tuple[float, float]:
        """First and last cycle of `beats` beats that can start at `ready`."""
        length = beats / self._rate
        index = bisect_right(self._starts, ready) - 1
        start = max(ready, self._ends[index])
        while index + 1 < len(self._starts) and self._starts[index + 1] < start + length:
            index += 1
            start = max(start, self._ends[index])
        if self._ends[index] == start:
            self._ends[index] = start + length
        else:
            self._starts.insert(index + 1, start)
            self._ends.insert(index + 1, start + length)
        return start, start + length


def _load_cycles(config: Config, body: Mapping[str, int]) -> tuple[float, int]:
    """Beats of a LOAD or STORE that are not hidden, and its bursts."""
    count = body["count1"] * body["count2"]
    row = -(-body["length"] // config.beat_bytes)
    burst = min(256, 4096 // config.beat_bytes)
    return float(count * row), count * -(-row // burst)


def estimate(config: Config, program: Program, detail: bool = False) -> Any:
    """Cycles from the start write to the done flag, by running the queues against each other.

    Commands are fetched four ahead through the port that loads use; a queue takes eight before it holds
    fetching up. Loads request their bursts ahead of data. Tiles of weights load under the tile before.

    Parameters
    ----------
    config : Config
        Configuration.
    program : Program
        The program.
    detail : bool
        Return the start and end of each command instead, as an array of shape (commands, 2).
    """
    memory, array = config.memory, config.array
    beats = -(-COMMAND_BYTES // config.beat_bytes)
    groups = array.cols // config.post.lanes
    slots_top, slots_left = max(array.rows, 5), max(array.rows, array.cols, 5)
    through = 17 + array.rows + array.cols
    port = _Port(memory.beats_per_cycle)
    begun: dict[str, list[float]] = {name: [] for name in QUEUES.values()}
    done: dict[str, list[float]] = {name: [0.0] for name in QUEUES.values()}
    arrivals: list[float] = []
    free = dict.fromkeys(QUEUES.values(), 0.0)
    times = np.zeros((len(program.commands), 2))
    for index in range(len(program.commands) + 1):
        asked = 8.0 if index < _AHEAD else arrivals[index - _AHEAD] + 1
        for starts in begun.values():
            if len(starts) >= _ROOM:
                asked = max(asked, starts[-_ROOM])
        arrivals.append(port.reserve(asked + memory.read_latency + 2, beats)[1])
        if index == len(program.commands):
            break
        command = program.commands[index]
        queue, body = QUEUES[command.opcode], command.body
        ready = max(arrivals[-1], _waits(done, command.waits)) + 5
        if queue == "load":
            total, bursts = _load_cycles(config, body)
            start = max(ready, free[queue])
            if body.get("fill"):
                free[queue] = end = max(start, done[queue][-1]) + total + 2
            else:
                # Bursts in flight bound the rate of short ones.
                spacing = max(1.0, (memory.read_latency + 4) / memory.outstanding)
                parts = min(bursts, 4)
                at = end = start + 4
                for part in range(parts):
                    share = total / parts
                    pace = spacing * bursts / parts
                    _, arrived = port.reserve(max(at, end - 4 * spacing * (bursts > memory.outstanding))
                                              + memory.read_latency + 2, share)
                    end = max(arrived, end + (pace if part and bursts > memory.outstanding else 0))
                    at += bursts / parts
                free[queue] = max(at, end - memory.read_latency - memory.outstanding * min(total / bursts, 8))
                end += 6
        elif queue == "execute":
            pixels = body["m_count0"] * body["m_count1"] * body["m_count2"]
            slots = slots_left if body.get("left") else slots_top
            if body.get("output_stationary"):
                tiles = body["n_count"]
            else:
                tiles = body["n_count"] * contraction_tiles(
                    array.rows, body["k_total"], body["run"], body.get("fold", 0))
            # The first tile's weights load under the last command's last tile, if that is long enough.
            start = max(ready + 5 + slots, free[queue] + max(0, slots + 5 - _last_tile(free)))
            free[queue] = start + (tiles - 1) * max(pixels, slots) + pixels
            free["tile"] = float(pixels)
            end = free[queue] + through
        elif queue == "post":
            start = max(ready, free[queue])
            free[queue] = start + body["n_count"] * body["m_count"] * groups + 2
            end = free[queue] + 20
        else:
            start = max(ready, free[queue])
            if body.get("profile"):
                total, bursts = 2.0, 1
            else:
                total, bursts = _load_cycles(config, body)
            spacing = max(1.0, (memory.write_latency + 8) / memory.outstanding)
            pace = max(total, bursts * spacing if bursts > memory.outstanding else 0) / memory.beats_per_cycle
            free[queue] = start + pace + 1
            end = start + 12 + pace + memory.write_latency
        begun[queue].append(start)
        done[queue].append(max(end, done[queue][-1]))
        times[index] = start, done[queue][-1]
    return times if detail else float(max(entries[-1] for entries in done.values())) + 8


def _last_tile(free: Mapping[str, float]) -> float:
    return free.get("tile", 1e9)


def _waits(done: Mapping[str, list[float]], waits: Mapping[str, int]) -> float:
    return max((done[name][count] for name, count in waits.items()), default=0.0)
