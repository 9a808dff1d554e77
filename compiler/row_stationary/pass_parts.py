"""When words and lines move between the buffers and the PEs of a row-stationary array, in passes over matrices.

All waits are for something that comes, or for room where something has left, so each event is the latest of a few
others and so many cycles. Events of all PEs stand in one array, and those of a network follow one another by running
maxima.

Clients of the global buffer that want the same memory in the same cycle are taken not to meet.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ...hdl.row_stationary.buffer import LineReader, ReadLines
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.row_stationary.join import SumJoin
from ...hdl.row_stationary.pe import RowStationaryPE

__all__ = ["NEVER", "Filters", "Ifmaps", "Part", "Psums", "follow"]

#: Long ago.
NEVER = -(1 << 40)
#: From a place on a walk, whose line is read, to its delivery: the memory, the queue of lines and a register; and how
#: many are on this way at most.
_READ, _AHEAD = ReadLines.LATENCY + 2, LineReader.HELD + 1


def follow(times: np.ndarray) -> np.ndarray:
    """Let each event along the last axis come a cycle after the one before at least."""
    steps = np.arange(times.shape[-1])
    found: np.ndarray = np.maximum.accumulate(times - steps, -1) + steps
    return found


class Part:
    """Part of the array: cycles of events, each a number, an array or a queue of arrays.

    Members
    -------
    RUNNING, KEPT : tuple of str
        Members that decide about what comes within a pass, and others that only the next pass asks for.
    """

    RUNNING: ClassVar[tuple[str, ...]] = ()
    KEPT: ClassVar[tuple[str, ...]] = ()

    def change(self, change: Callable[[Any], Any], names: tuple[str, ...]) -> None:
        """Change all cycles of some members."""
        for name in names:
            value = getattr(self, name)
            setattr(self, name, deque(map(change, value), value.maxlen) if isinstance(value, deque) else change(value))

    def move(self, cycles: int) -> None:
        """Let as many cycles pass, in which all within the pass goes on as before."""
        self.change(lambda value: value + cycles, self.RUNNING)

    def events(self, names: tuple[str, ...]) -> list[np.ndarray]:
        """Cycles of some members, one array after another."""
        found: list[np.ndarray] = []
        for name in names:
            value = getattr(self, name)
            found += value if isinstance(value, deque) else [np.reshape(value, -1)]
        return [each.reshape(-1) for each in found]


class Filters(Part):
    """Filters on their way to the scratchpads of PEs.

    Parameters
    ----------
    config : RowStationaryConfig
        The accelerator.
    sets : int
        PEs, which are sent filters in turn.

    Members
    -------
    read : int
        When the last line of the latest pass was read.
    offered : (int, int)
        First cycle in which PEs were offered filters of that pass, and the one behind the last.
    """

    KEPT: ClassVar = ("_popped", "_left", "_last", "_delivered", "read")

    def __init__(self, config: RowStationaryConfig, sets: int):
        self._lanes, self._queue = config.filter_lanes, config.pe.filter_queue
        #: When the words that stood last in the places of each scratchpad were given up, the next place first.
        self._popped = np.full((sets, config.pe.filter_words), NEVER)
        #: When beats left the queue before each scratchpad, and when the last word entered it.
        self._left = deque([np.full(sets, NEVER)] * self._queue, self._queue)
        self._last = np.full(sets, NEVER)
        self._delivered = np.full(_AHEAD + 1, NEVER)
        self.read, self.offered = NEVER, (0, 0)

    def bring(self, begun: int, words: int, by_line: bool) -> np.ndarray:
        """When `words` words enter each scratchpad, (sets, words), if the walk over them begins in a cycle."""
        lanes, sets = self._lanes if by_line else 1, len(self._last)
        entered = np.empty((sets, words), np.int64)
        before = begun + _READ
        for at in range(0, words, lanes):
            times = follow(np.maximum(self._left[0] + 1 if self._queue else self._last, before + 1))
            before = int(times[-1])
            self._delivered = np.append(self._delivered, times)[-_AHEAD - 1:]
            left = np.maximum(times + 1, self._last) if self._queue else times
            self._left.append(left)
            beat = np.maximum(self._popped[:, at:at + lanes], np.maximum(left, self._last - 1)[:, None]) + 1
            entered[:, at:at + lanes] = beat = follow(beat)
            self._last = beat[:, -1]
        self.read = max(begun + sets * words // lanes, int(self._delivered[0]) + 1)
        self.offered = begun + _READ + 1, before + 1
        return entered

    def give_up(self, times: np.ndarray) -> None:
        """Give all words of the latest pass up, (sets, words)."""
        self._popped = np.concatenate((self._popped[:, times.shape[1]:], times), 1)


class Ifmaps(Part):
    """Words of ifmaps on their way to the scratchpads of PEs: one network, and each word for a PE of every chain.

    Parameters
    ----------
    config : RowStationaryConfig
        The accelerator.
    t, r : int
        Chains, and PEs of each.

    Members
    -------
    read, offered
        As those of :class:`Filters`.
    """

    RUNNING: ClassVar = ("_popped", "_entered", "_delivered", "_before")
    KEPT: ClassVar = ("read",)

    def __init__(self, config: RowStationaryConfig, t: int, r: int):
        #: When the words that stood last in the places of each scratchpad were given up, and the last ones entered it.
        self._popped = np.full((t, r, config.pe.ifmap_words), NEVER)
        self._entered = np.full((t, r, RowStationaryPE.QUEUED), NEVER)
        self._delivered = np.full(_AHEAD + 1, NEVER)
        self._before, self._first, self._least = NEVER, 0, 0
        self.read, self.offered = NEVER, (0, 0)

    def begin(self, begun: int, words: int) -> None:
        """Let a walk over some words begin in a cycle."""
        self._before = max(self._before, begun + _READ)
        self._first, self._least = self._before + 1, begun + words

    def bring(self, words: int) -> np.ndarray:
        """When the words of the next window enter the scratchpads, (t, r, words)."""
        room = self._popped[..., :words] + 1
        room[..., 0] = np.maximum(room[..., 0], self._entered[..., -1] + 1)
        room = follow(room)
        waits = (np.concatenate((self._entered, room), -1)[..., :words].max(0) + 1).reshape(-1)
        waits[0] = max(waits[0], self._before + 1)
        times = follow(waits)
        self._before = int(times[-1])
        self._delivered = np.append(self._delivered, times)[-_AHEAD - 1:]
        entered = follow(np.maximum(room, times.reshape(-1, words) + 1))
        self._entered = np.concatenate((self._entered, entered), -1)[..., -RowStationaryPE.QUEUED:]
        return entered

    def give_up(self, times: np.ndarray) -> None:
        """Give the words of the oldest window up."""
        self._popped = np.concatenate((self._popped[..., times.shape[-1]:], times), -1)

    def end(self) -> None:
        """End a pass."""
        self.read = max(self._least, int(self._delivered[0]) + 1)
        self.offered = self._first, self._before + 1


class Psums(Part):
    """Lines of psums that are read, and of sums that are written, of all chains in turn.

    Parameters
    ----------
    chains : int
        Chains.

    Members
    -------
    read, walked : int
        When the last line of psums was read, and when the last one of sums left its chain.
    """

    RUNNING: ClassVar = ("_joined", "walked")
    KEPT: ClassVar = ("_written", "_ended", "_taken", "read")

    def __init__(self, chains: int):
        self._chains = chains
        #: When each line of the last pass was written, and when passes before it had all been.
        self._written, self._ended = np.array([NEVER]), NEVER
        #: When the last lines of psums were used, by the chains or by sums that join them, and the last sums joined.
        self._taken, self._joined = np.full(_AHEAD + 1, NEVER), NEVER
        self.read, self.walked = NEVER, NEVER
        #: Of the present pass: when its first line may leave; when lines are written; whether it joins sums; when
        #: lines of psums are read and come, if any are, and when they are used.
        self._walk, self._lines, self._joins = NEVER, list[np.ndarray](), False
        self._read_at = self._coming = np.empty((0, chains), np.int64)
        self._used: list[np.ndarray] = []

    def begin(self, begun: int, lines: int, is_fresh: bool, is_joining: bool, walks: int) -> None:
        """Let walks over the lines of a pass begin, of those that are read and of those that are written."""
        self._walk, self._lines, self._joins, self._used = walks + 1, [], is_joining, []
        which = np.minimum(np.arange(0 if is_fresh else lines), len(self._written) - 1)
        times = np.maximum(self._written[which] + 1, max(self._ended, begun) + 1)
        self._read_at = follow(times).reshape(-1, self._chains)
        self._coming = self._read_at + _READ

    def bring(self, beat: int, free: np.ndarray) -> np.ndarray | None:
        """When chains, whose adders are free from some cycles on, have been given a beat of psums.

        Those of passes that join, and of fresh ones, begin at zero: None.
        """
        if self._joins or not len(self._coming):
            return None
        times = np.maximum(self._coming[beat], free)
        times[0] = max(times[0], self._taken[-1] + 1)
        return self._use(follow(times))

    def _use(self, times: np.ndarray) -> np.ndarray:
        """Note when a beat of psums is used."""
        self._used.append(times)
        self._taken = np.append(self._taken, times)[-_AHEAD - 1:]
        return times

    def take(self, beat: int, ready: np.ndarray) -> np.ndarray:
        """When a beat of sums leaves each chain, which has it from some cycles on."""
        ready = np.maximum(ready, self._walk)
        times = np.maximum(ready + 1, self._coming[beat]) if self._joins else ready + 1
        times[0] = max(times[0], self._joined + 1)
        times = follow(times)
        left = np.maximum(ready, np.append(self._joined, times[:-1]))
        self._joined, self.walked = int(times[-1]), int(left[-1])
        if self._joins:
            self._use(times)
        self._lines.append(times + SumJoin.LATENCY)
        return left

    def turns(self, beats: int, cycles: int, most: int) -> int:
        """How often the last beats can come again, each time so many cycles later, without a wait for psums."""
        if not len(self._coming):
            return most
        again = np.arange(1, most + 1)[:, None, None] * cycles + np.array(self._used[-beats:])
        done = len(self._used)
        late = (self._coming[done:done + most * beats].reshape(again.shape) > again).any((1, 2))
        return int(np.argmax(late)) if late.any() else most

    def repeat(self, beats: int, cycles: int, turns: int) -> None:
        """Let the last beats come again some times, each time so many cycles later."""
        for found in (self._lines, self._used):
            last = found[-beats:]
            found += [each + turn * cycles for turn in range(1, turns + 1) for each in last]
        self.move(turns * cycles)
        if self._used:
            self._taken = self._taken + turns * cycles

    def running(self) -> list[np.ndarray]:
        """Cycles that decide about what comes within a pass."""
        return self.events((*self.RUNNING, "_taken") if self._used else self.RUNNING)

    def end(self) -> int:
        """End a pass; return when its last line is written."""
        if self._used:
            self.read = max(int(self._read_at[-1, -1]), int(self._taken[0]) + 1)
        self._ended, self._written = int(self._written[-1]), np.concatenate(self._lines)
        return int(self._written[-1])
