"""When passes over matrices of filters run in the array: of each word, sum and line the cycle in which it moves.

All waits of the array are for something that comes, or for room where something has left, so each event is the latest
of a few others and so many cycles. Events of all PEs of an axis stand in one array, and those of a network, or along
a chain, follow one another by running maxima.

Clients of the global buffer that want the same memory in the same cycle are taken not to meet.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...hdl.row_stationary.buffer import LineReader, ReadLines
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.row_stationary.join import SumJoin
from ...hdl.row_stationary.mac import WindowMAC
from ...hdl.row_stationary.pe import RowStationaryPE

__all__ = ["PassTimes", "Passed"]

#: Long ago.
_NEVER = -(1 << 40)
#: From a place on a walk, whose line is read, to its delivery: the memory, the queue of lines and a register; and how
#: many are on this way at most.
_READ, _AHEAD = ReadLines.LATENCY + 2, LineReader.HELD + 1
#: Commands that wait before each feeder, and before PEs.
_QUEUED = 2


@dataclass(frozen=True)
class Passed:
    """What the array does in a pass; stretches are the first cycle and that behind the last.

    Parameters
    ----------
    begun, filters_read, ifmap_read, done : int
        When it takes the pass, when the last filters and ifmap words have been read, and when the last sums stand.
    filters_offered, ifmap_offered : (int, int)
        Stretches in which PEs are offered filters, and ifmap words.
    worked : list of (int, int)
        Cycles with which some products end, and as many as they are of each PE.
    """

    begun: int
    filters_read: int
    ifmap_read: int
    done: int
    filters_offered: tuple[int, int]
    ifmap_offered: tuple[int, int]
    worked: list[tuple[int, int]]


def _follow(times: np.ndarray) -> np.ndarray:
    """Let each event along the last axis come a cycle after the one before at least."""
    steps = np.arange(times.shape[-1])
    found: np.ndarray = np.maximum.accumulate(times - steps, -1) + steps
    return found


class _Filters:
    """Filters on their way to the scratchpads of PEs."""

    def __init__(self, config: RowStationaryConfig, sets: int):
        self._lanes, self._queue = config.filter_lanes, config.pe.filter_queue
        words = config.pe.filter_words
        #: When the word in each place of the rings was given up, and the word that comes next.
        self._popped, self._word = np.full((sets, words), _NEVER), 0
        #: When beats left the queue, by their numbers modulo its places, and the number of the next.
        self._left, self._beat = np.full((max(self._queue, 1), sets), _NEVER), 0
        self._last = np.full(sets, _NEVER)
        self._delivered = np.full(_AHEAD + 1, _NEVER)
        self.read, self.offered = _NEVER, (0, 0)

    def bring(self, begun: int, words: int, by_line: bool) -> np.ndarray:
        """When `words` words enter each scratchpad, (sets, words), if the walk over them begins in a cycle."""
        lanes = self._lanes if by_line else 1
        sets, places = self._popped.shape
        entered = np.empty((sets, words), np.int64)
        room = self._popped[:, (self._word + np.arange(words)) % places] + 1
        before = begun + _READ
        for at in range(0, words, lanes):
            place = self._beat % len(self._left)
            times = self._left[place] + 1 if self._queue else self._last
            times = _follow(np.maximum(times, before + 1))
            before = int(times[-1])
            self._delivered = np.append(self._delivered, times)[-_AHEAD - 1:]
            left = np.maximum(times + 1, self._last) if self._queue else times
            self._left[place], self._beat = left, self._beat + 1
            beat = np.maximum(room[:, at:at + lanes], np.maximum(left, self._last)[:, None] + 1)
            entered[:, at:at + lanes] = beat = _follow(beat)
            self._last = beat[:, -1]
        self.read = max(begun + sets * words // lanes, int(self._delivered[0]) + 1)
        self.offered = begun + _READ + 1, before + 1
        self._word = (self._word + words) % places
        return entered

    def give_up(self, first: int, times: np.ndarray, words: int) -> None:
        """Give words of the latest pass up, from number `first` of its `words` on."""
        places = self._popped.shape[1]
        at = (self._word - words + first + np.arange(times.shape[1])) % places
        self._popped[:, at] = times


class _Ifmaps:
    """Words of ifmaps on their way to the scratchpads of PEs: one network, and each word for a PE of every chain."""

    def __init__(self, config: RowStationaryConfig, t: int, r: int):
        self._first = self._least = 0
        self._popped = np.full((t, r, config.pe.ifmap_words), _NEVER)
        self._entered = np.full((t, r, RowStationaryPE.QUEUED), _NEVER)
        self._delivered = np.full(_AHEAD + 1, _NEVER)
        self._before = _NEVER
        self.read, self.offered = _NEVER, (0, 0)

    def begin(self, begun: int, words: int) -> None:
        """Let a walk over some words begin in a cycle."""
        self._before = max(self._before, begun + _READ)
        self._first, self._least = self._before + 1, begun + words

    def bring(self, words: int) -> np.ndarray:
        """When the words of the next window enter the scratchpads, (t, r, words)."""
        room = self._popped[..., :words] + 1
        room[..., 0] = np.maximum(room[..., 0], self._entered[..., -1] + 1)
        room = _follow(room)
        waits = np.concatenate((self._entered, room), -1)[..., :words].max(0) + 1
        waits = waits.reshape(-1)
        waits[0] = max(waits[0], self._before + 1)
        times = _follow(waits)
        self._before = int(times[-1])
        self._delivered = np.append(self._delivered, times)[-_AHEAD - 1:]
        entered = _follow(np.maximum(room, times.reshape(-1, words) + 1))
        self._entered = np.concatenate((self._entered, entered), -1)[..., -self._entered.shape[-1]:]
        return entered

    def give_up(self, times: np.ndarray) -> None:
        """Give the words of the oldest window up."""
        self._popped = np.concatenate((self._popped[..., times.shape[-1]:], times), -1)

    def state(self) -> list[np.ndarray]:
        """Events that decide about those to come."""
        return [self._popped, self._entered, self._delivered, np.array([self._before])]

    def move(self, cycles: int) -> None:
        """Let as many cycles pass, in which all goes on as before."""
        self._popped, self._entered, self._delivered = (
            each + cycles for each in (self._popped, self._entered, self._delivered))
        self._before += cycles

    def end(self) -> None:
        """Note when the last word of a pass has been read."""
        self.read = max(self._least, int(self._delivered[0]) + 1)
        self.offered = self._first, self._before + 1


class _Psums:
    """Lines of psums that are read, and of sums that are written, of all chains in turn."""

    def __init__(self, chains: int):
        self._chains = chains
        #: When each line of the last pass was written, and when passes before it had all been.
        self._written, self._ended = np.array([_NEVER]), _NEVER
        #: When the last line was taken, of psums by the chains or beside the sums, and of sums by what joins them.
        self._taken = np.full(_AHEAD + 1, _NEVER)
        self._joined, self.read, self.walked = _NEVER, _NEVER, _NEVER
        #: Of the present pass: when its first line may leave; when lines are written; whether it joins sums; when
        #: lines of psums come, if any do, and when they are used.
        self._walk, self._lines, self._joins = _NEVER, [np.array([_NEVER])], False
        self._coming: np.ndarray | None = None
        self._used: list[np.ndarray] = []

    def begin(self, begun: int, lines: int, is_fresh: bool, is_joining: bool, walks: int) -> None:
        """Let walks over the lines of a pass begin, of those that are read and of those that are written."""
        self._walk, self._lines, self._joins = walks + 1, [], is_joining
        self._coming, self._used = None, []
        if not is_fresh:
            which = np.minimum(np.arange(lines), len(self._written) - 1)
            times = np.maximum(self._written[which] + 1, max(self._ended, begun) + 1)
            self._read_at = _follow(times)
            self._coming = (self._read_at + _READ).reshape(-1, self._chains)

    def bring(self, beat: int, free: np.ndarray) -> np.ndarray | None:
        """When chains have been given a beat of psums, whose adders are free from some cycles on; None if they are not.

        Chains of passes that join, and of fresh ones, begin at zero.
        """
        if self._coming is None or self._joins:
            return None
        times = np.maximum(self._coming[beat], free)
        times[0] = max(times[0], self._taken[-1] + 1)
        return self._use(_follow(times))

    def _use(self, times: np.ndarray) -> np.ndarray:
        """Note when a beat of psums is used."""
        self._used.append(times)
        self._taken = np.append(self._taken, times)[-_AHEAD - 1:]
        return times

    def take(self, beat: int, ready: np.ndarray) -> np.ndarray:
        """When a beat of sums leaves each chain, which has it from some cycles on."""
        ready = np.maximum(ready, self._walk)
        times = ready + 1
        if self._joins:
            assert self._coming is not None
            times = np.maximum(times, self._coming[beat])
        times[0] = max(times[0], self._joined + 1)
        times = _follow(times)
        left = np.maximum(ready, np.append(self._joined, times[:-1]))
        self._joined = int(times[-1])
        if self._joins:
            self._use(times)
        self._lines.append(times + SumJoin.LATENCY)
        self.walked = int(left[-1])
        return left

    def state(self) -> list[np.ndarray]:
        """Events that decide about those to come."""
        return [np.array([self._joined]), *([] if self._coming is None else [self._taken])]

    def turns(self, beats: int, cycles: int, most: int) -> int:
        """How often the last beats can come again, each time so many cycles later, without a wait for psums."""
        if self._coming is None:
            return most
        used, done = np.array(self._used[-beats:]), len(self._used)
        again = np.arange(1, most + 1)[:, None, None] * cycles + used
        late = (self._coming[done:done + most * beats].reshape(again.shape) > again).any((1, 2))
        return int(np.argmax(late)) if late.any() else most

    def repeat(self, beats: int, cycles: int, turns: int) -> None:
        """Let the last beats come again some times, each time so many cycles later."""
        for found in (self._lines, self._used):
            last = found[-beats:] if found else []
            found += [each + turn * cycles for turn in range(1, turns + 1) for each in last]
        self._joined, self.walked = self._joined + turns * cycles, self.walked + turns * cycles
        if self._coming is not None:
            self._taken = self._taken + turns * cycles

    def end(self) -> int:
        """End a pass; return when its last line is written."""
        if self._coming is not None:
            self.read = max(int(self._read_at[-1]), int(self._taken[0]) + 1)
        self._ended = int(self._written[-1])
        self._written = np.concatenate(self._lines)
        return int(self._written[-1])


class PassTimes:
    """The array of a configuration, pass by pass.

    Parameters
    ----------
    config : RowStationaryConfig
        The accelerator.
    """

    def __init__(self, config: RowStationaryConfig):
        self._config = config
        #: From the last product of a sum to where it is added to that of the PE below.
        self._summed = WindowMAC.latency_of(config.arithmetic) + 1
        self._idle()
        self._free = 0

    def _idle(self) -> None:
        self._shape = (0, 0)
        self._gets = {name: [_NEVER] * _QUEUED for name in ("shapes", "ifmap", "filters", "psums", "drain")}

    def set_up(self, time: int, lines: int) -> int:
        """Set the array up by some lines, from a cycle on in which no pass is in it; return when it is done."""
        self._idle()
        done = time + lines + ReadLines.LATENCY + 1
        self._free = done + 1
        return done

    def _arrange(self, t: int, r: int) -> None:
        """Arrange chains of PEs that nothing has come to yet."""
        self._shape = t, r
        self._filters, self._ifmaps, self._psums = _Filters(self._config, t * r), _Ifmaps(self._config, t, r), _Psums(t)
        self._begun = [np.full((t, r), _NEVER)] * _QUEUED
        #: When the last product of each PE began, and each sum of the last ones was added, along the chains.
        self._stepped, self._worked = np.full((t, r), _NEVER), list[tuple[int, int]]()
        self._added = deque([np.full((t, r), _NEVER)] * self._config.pe.psum_words, self._config.pe.psum_words)
        #: When the last sums of chains were packed, and the last beats left.
        self._packed = [np.full(t, _NEVER)] * 2
        self._left = np.full(t, _NEVER)

    def take(self, time: int, body: Mapping[str, int]) -> Passed:
        """Let the array take a pass that may begin in a cycle."""
        t, r = body["psum_sets"] + 1, body["ifmap_sets"] + 1
        if self._shape != (t, r):
            self._arrange(t, r)
        time = max(time, self._free, max(gets[0] for gets in self._gets.values()) + 1)
        windows, q, p = body["windows"] + 1, body["window"] + 1, body["filters"] + 1
        begins = dict.fromkeys(self._gets, time + 1)
        begins["shapes"] = max(time + 1, self._gets["shapes"][1] + 1, int(self._begun[0].max()) + 1)
        begins["ifmap"] = max(time + 1, self._ifmaps.read)
        begins["filters"] = max(time + 1, self._filters.read)
        begins["psums"] = max(time + 1, self._psums.read)
        begins["drain"] = max(time + 1, self._psums.walked)
        for name, begun in begins.items():
            self._gets[name] = [*self._gets[name][1:], begun]
        self._begun = [*self._begun[1:], np.maximum(begins["shapes"] + 1, self._stepped)]
        self._ifmaps.begin(begins["ifmap"], windows * q * r)
        lines = windows * t * (body["psum_beats"] + 1)
        self._psums.begin(begins["psums"], lines, bool(body.get("fresh")), bool(body.get("join")), begins["drain"])
        filters = self._filters.bring(begins["filters"], p * q, bool(body.get("by_line"))).reshape(t, r, p * q)
        self._stepped, self._worked = self._begun[-1], []
        window, seen = 0, dict[bytes, tuple[int, int]]()
        while window < windows:
            self._window(window, windows, p, q, filters)
            window += 1
            if window < windows - 1:
                window += self._repeat(seen, window, windows - 1 - window, p)
        self._ifmaps.end()
        return Passed(time, self._filters.read, self._ifmaps.read, self._psums.end(), self._filters.offered,
                      self._ifmaps.offered, self._worked)

    def _repeat(self, seen: dict[bytes, tuple[int, int]], window: int, left: int, p: int) -> int:
        """Repeat the last windows if all that decides about the next one has moved on since; return how many.

        `seen` are the states behind windows of this pass, with how many these were, and when.
        """
        state = [*self._ifmaps.state(), *self._psums.state(), *self._added, *self._packed, self._stepped, self._left]
        now = int(self._stepped[0, 0])
        key = np.concatenate([each.reshape(-1) - now for each in state]).tobytes()
        first, then = seen.setdefault(key, (window, now))
        period, cycles = window - first, now - then
        beats = period * (p // self._config.psum_lanes)
        turns = self._psums.turns(beats, cycles, left // period) if period else 0
        if not turns:
            return 0
        self._psums.repeat(beats, cycles, turns)
        self._worked += [(end + turn * cycles, number) for turn in range(1, turns + 1)
                         for end, number in self._worked[-period:]]
        self._ifmaps.move(turns * cycles)
        self._added = deque([each + turns * cycles for each in self._added], self._added.maxlen)
        self._packed = [each + turns * cycles for each in self._packed]
        self._stepped, self._left = self._stepped + turns * cycles, self._left + turns * cycles
        seen.clear()
        return turns * period

    def _window(self, window: int, windows: int, p: int, q: int, filters: np.ndarray) -> None:
        """Let each PE sum the products of a window and all filters."""
        entered, steps = self._ifmaps.bring(q) + 1, np.arange(q)
        is_last = window == windows - 1
        times = entered
        for each in range(p):
            room = self._added[0][:, ::-1] + 1
            if each == 0 or window == 0:
                times = filters[..., each * q:each * q + q] + 1 if window == 0 else entered
                if each == 0:
                    times = np.maximum(times, entered)
                times[..., 0] = np.maximum(times[..., 0], self._stepped + 1)
                times[..., -1] = np.maximum(times[..., -1], room)
                times = _follow(times)
                self._stepped = times[..., -1]
            else:
                first, self._stepped = self._stepped + 1, np.maximum(self._stepped + q, room)
                if is_last or each == p - 1:
                    times = first[..., None] + steps
                    times[..., -1] = self._stepped
            if window == 0:
                self._worked.append((int(self._stepped.max()) + 1, q))
            if is_last:
                self._filters.give_up(each * q, times.reshape(-1, q), p * q)
            self._add(window * p + each, p)
        self._ifmaps.give_up(times)
        if window:
            self._worked.append((int(self._stepped.max()) + 1, p * q))

    def _add(self, number: int, p: int) -> None:
        """Let a sum of all PEs go up the chains, and leave in a beat."""
        lanes = self._config.psum_lanes
        beat, lane = divmod(number, lanes)
        before, last = self._added[-2], self._added[-1]
        times = np.maximum(self._stepped[:, ::-1] + self._summed, last + 1)
        # Where the two sums before are waiting, the PE above has to take one.
        times[:, :-1] = np.maximum(times[:, :-1], before[:, 1:] + 1)
        times[:, -1] = np.maximum(times[:, -1], self._packed[0] + 1)
        if lane == 0:
            self._given = self._psums.bring(beat, last[:, 0])
        if self._given is not None:
            times[:, 0] = np.maximum(times[:, 0], self._given + 1)
        times = _follow(times)
        self._added.append(times)
        packed = np.maximum(times[:, -1], self._packed[1]) + 1
        if lane == 0:
            packed = np.maximum(packed, self._left)
        self._packed = [self._packed[1], packed]
        if lane == lanes - 1:
            self._left = self._psums.take(beat, packed + 1)
