"""Bursts of transfers, and the cycles in which memory moves them."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from ...hdl.shell.block_walk import burst_beats
from ...hdl.shell.commands import COMMAND_BYTES
from ...hdl.shell.config import Config
from ...memory import MemoryTiming

__all__ = ["Bursts", "bursts", "data_cycles", "row_bursts"]


class Bursts(NamedTuple):
    """Bursts of a LOAD, STORE or MOVE."""

    #: Beats of each, in order.
    sizes: tuple[int, ...]
    #: Bursts of the last row.
    last_row: int
    #: Whether all have the same beats.
    even: bool


def _row_bursts(beat: int, burst: int, start: int, length: int) -> tuple[int, ...]:
    """Beats of each burst of a row of `length` bytes at byte `start` of a block of `burst` beats."""
    first, last = start // beat, (start + length - 1) // beat
    sizes = []
    while first <= last:
        end = min(last, first // burst * burst + burst - 1)
        sizes.append(end - first + 1)
        first = end + 1
    return tuple(sizes)


@lru_cache(1 << 11)
def _block_bursts(beat: int, burst: int, start: int, length: int, inner: tuple[int, int],
                  outer: tuple[int, int]) -> Bursts:
    """Bursts of rows whose (count, step) are `inner` and `outer`, steps modulo a block of `burst` beats."""
    modulus, rows = beat * burst, {}
    sizes: list[int] = []
    row: tuple[int, ...] = ()
    for second in range(outer[0]):
        for first in range(inner[0]):
            at = (start + second * outer[1] + first * inner[1]) % modulus
            if at not in rows:
                rows[at] = _row_bursts(beat, burst, at, length)
            row = rows[at]
            sizes += row
    return Bursts(tuple(sizes), len(row), min(sizes) == max(sizes))


def row_bursts(config: Config, start: int, length: int, rows: tuple[int, int]) -> Bursts:
    """Bursts of rows of `length` bytes from address `start` on: how many, and how far from one to the next."""
    beat, burst = config.beat_bytes, burst_beats(config)
    return _block_bursts(beat, burst, start % (beat * burst), length, (rows[0], rows[1] % (beat * burst)), (1, 0))


def bursts(config: Config, body: Mapping[str, int]) -> Bursts:
    """Bursts of a LOAD, STORE or MOVE.

    A fill is cut by its addresses on chip, a MOVE by those of its target, all others by those in memory.
    """
    beat, burst = config.beat_bytes, burst_beats(config)
    modulus = beat * burst
    if body.get("profile"):
        return _block_bursts(beat, burst, body["dram"] % modulus, 4 * len(config.commands.record),
                             (1, 0), (1, 0))
    if body.get("fill"):
        start, step1, step2 = body["address"], body["step1"], body["step2"]
    elif "target" in body:
        start, step1, step2 = body["target"], body.get("target_step1", 0), body.get("target_step2", 0)
    else:
        start, step1, step2 = body["dram"], body["dram_step1"], body["dram_step2"]
    return _block_bursts(beat, burst, start % modulus, body["length"], (body["count1"], step1 % modulus),
                         (body["count2"], step2 % modulus))


def data_cycles(config: Config, timing: MemoryTiming) -> list[int]:
    """Cycles of the data channel for a burst of as many beats as the index says."""
    rate, most = timing.beats_per_cycle, max(burst_beats(config), COMMAND_BYTES // config.beat_bytes, 1)
    return [beats if rate == 1 else max(beats, round(beats / rate)) for beats in range(most + 1)]
