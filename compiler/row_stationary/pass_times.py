"""When passes over matrices of filters run in a row-stationary array, by the rules of the RTL.

What comes to the PEs, and what leaves them, is :mod:`.pass_parts`'s. Within a pass, windows soon repeat themselves:
once all that decides about the next one has moved on by the same number of cycles, so will all that follows. And a
pass that finds the array as another did, some cycles before, runs as that one did.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...hdl.row_stationary.buffer import ReadLines
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.row_stationary.mac import WindowMAC
from .pass_parts import NEVER, Filters, Ifmaps, Part, Psums, follow

__all__ = ["PassTimes", "Passed"]

#: Commands that wait before each feeder, and before PEs.
_QUEUED = 2
#: Passes that are remembered.
_REMEMBERED = 64
#: Fields of passes that cycles depend on, beside the chains and the PEs of each.
_TIMED = "windows", "window", "filters", "psum_beats", "fresh", "join", "by_line"
#: Feeders, each with a queue of passes.
_SHAPES, _IFMAP, _FILTERS, _PSUMS, _DRAIN = range(5)


@dataclass(frozen=True)
class Passed:
    """What the array does in a pass; stretches are the first cycle and that behind the last.

    Parameters
    ----------
    begun, filters_read, ifmap_read, done : int
        When it takes the pass, when the last filters and ifmap words have been read, and when the last sums stand.
    filters_offered, ifmap_offered : ndarray
        Stretches in which PEs are offered filters, and ifmap words.
    worked : ndarray
        Cycles with which some products end, and as many as they are of each PE: pairs.
    """

    begun: int
    filters_read: int
    ifmap_read: int
    done: int
    filters_offered: np.ndarray
    ifmap_offered: np.ndarray
    worked: np.ndarray

    def moved(self, cycles: int) -> "Passed":
        """Return the same so many cycles later."""
        return Passed(self.begun + cycles, self.filters_read + cycles, self.ifmap_read + cycles, self.done + cycles,
                      self.filters_offered + cycles, self.ifmap_offered + cycles, self.worked + (cycles, 0))


class _Chains(Part):
    """PEs, which step through products and add their sums up along chains.

    Parameters
    ----------
    config : RowStationaryConfig
        The accelerator.
    t, r : int
        Chains, and PEs of each.
    """

    RUNNING: ClassVar = ("_stepped", "_added", "_packed", "_left")
    KEPT: ClassVar = ("_begun", "_gets")

    def __init__(self, config: RowStationaryConfig, t: int, r: int):
        self._lanes = config.psum_lanes
        #: From the last product of a sum to where it is added to that of the PE below.
        self._summed = WindowMAC.latency_of(config.arithmetic) + 1
        self.filters, self.ifmaps, self.psums = Filters(config, t * r), Ifmaps(config, t, r), Psums(t)
        never = np.full((t, r), NEVER)
        #: When feeders took their last passes, and when PEs began them.
        self._gets = np.full((_DRAIN + 1, _QUEUED), NEVER)
        self._begun = deque([never] * _QUEUED, _QUEUED)
        #: When the last product of each PE began, and each of the last sums was added, along the chains.
        self._stepped, self._added = never, deque([never] * config.pe.psum_words, config.pe.psum_words)
        #: When the last sums of chains were packed, and the last beats left.
        self._packed, self._left = deque([never[:, 0]] * 2, 2), never[:, 0]
        #: When chains were given the present beat of psums, if they are.
        self._given: np.ndarray | None = None
        self._worked: list[tuple[int, int]] = []

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts."""
        return self, self.filters, self.ifmaps, self.psums

    @property
    def room_at(self) -> int:
        """Cycle from which on all feeders take another pass."""
        return int(self._gets[:, 0].max()) + 1

    def take(self, time: int, body: Mapping[str, int]) -> Passed:
        """Take a pass in a cycle."""
        filters, ifmaps, psums = self.filters, self.ifmaps, self.psums
        windows, q, p = body["windows"] + 1, body["window"] + 1, body["filters"] + 1
        begins = np.maximum(time + 1, [
            max(self._gets[_SHAPES, -1], self._begun[0].max()) + 1, ifmaps.read, filters.read, psums.read,
            psums.walked]).tolist()
        self._gets = np.column_stack((self._gets[:, 1:], begins))
        self._begun.append(np.maximum(begins[_SHAPES] + 1, self._stepped))
        t, r = self._stepped.shape
        ifmaps.begin(begins[_IFMAP], windows * q * r)
        psums.begin(begins[_PSUMS], windows * t * (body["psum_beats"] + 1), bool(body.get("fresh")),
                    bool(body.get("join")), begins[_DRAIN])
        entered = filters.bring(begins[_FILTERS], p * q, bool(body.get("by_line"))).reshape(t, r, p * q)
        self._stepped, self._worked = self._begun[-1], []
        window, seen = 0, dict[bytes, tuple[int, int]]()
        while window < windows:
            self._walk(window, windows, p, entered)
            window += 1
            if window < windows - 1:
                window += self._repeat(seen, window, windows - 1 - window, p)
        ifmaps.end()
        done = psums.end()
        return Passed(time, filters.read, ifmaps.read, done, np.array(filters.offered), np.array(ifmaps.offered),
                      np.array(self._worked))

    def _repeat(self, seen: dict[bytes, tuple[int, int]], window: int, left: int, p: int) -> int:
        """Repeat the last windows if all that decides about the next one has moved on since; return how many.

        `seen` are the states behind windows of this pass, with how many these were, and when.
        """
        state = self.events(self.RUNNING) + self.ifmaps.events(self.ifmaps.RUNNING) + self.psums.running()
        now = int(self._stepped[0, 0])
        first, then = seen.setdefault((np.concatenate(state) - now).tobytes(), (window, now))
        period, cycles = window - first, now - then
        beats = period * (p // self._lanes)
        turns = self.psums.turns(beats, cycles, left // period) if period else 0
        if not turns:
            return 0
        self.move(turns * cycles)
        self.ifmaps.move(turns * cycles)
        self.psums.repeat(beats, cycles, turns)
        self._worked += [(end + turn * cycles, number) for turn in range(1, turns + 1)
                         for end, number in self._worked[-period:]]
        seen.clear()
        return turns * period

    def _walk(self, window: int, windows: int, p: int, filters: np.ndarray) -> None:
        """Let each PE sum the products of a window and all filters."""
        q = filters.shape[-1] // p
        entered, steps, last = self.ifmaps.bring(q) + 1, np.arange(q), []
        for each in range(p):
            room = self._added[0][:, ::-1] + 1
            if each == 0 or window == 0:
                times = filters[..., each * q:each * q + q] + 1 if window == 0 else entered
                times = np.maximum(times, entered) if each == 0 else times
                times[..., 0] = np.maximum(times[..., 0], self._stepped + 1)
                times[..., -1] = np.maximum(times[..., -1], room)
                times = follow(times)
                self._stepped = times[..., -1]
            else:
                first, self._stepped = self._stepped + 1, np.maximum(self._stepped + q, room)
                if window == windows - 1 or each == p - 1:
                    times = first[..., None] + steps
                    times[..., -1] = self._stepped
            if window == windows - 1:
                last.append(times)
            if window == 0 or each == p - 1:
                self._worked.append((int(self._stepped.max()) + 1, q if window == 0 else p * q))
            self._add(window * p + each)
        self.ifmaps.give_up(times)
        if last:
            self.filters.give_up(np.concatenate(last, -1).reshape(-1, p * q))

    def _add(self, number: int) -> None:
        """Let a sum of all PEs go up the chains, and leave in a beat."""
        beat, lane = divmod(number, self._lanes)
        before, last = self._added[-2], self._added[-1]
        times = np.maximum(self._stepped[:, ::-1] + self._summed, last + 1)
        # Where the two sums before are waiting, the PE above has to take one.
        times[:, :-1] = np.maximum(times[:, :-1], before[:, 1:] + 1)
        times[:, -1] = np.maximum(times[:, -1], self._packed[0] + 1)
        if lane == 0:
            self._given = self.psums.bring(beat, last[:, 0])
        if self._given is not None:
            times[:, 0] = np.maximum(times[:, 0], self._given + 1)
        times = follow(times)
        self._added.append(times)
        packed = np.maximum(times[:, -1], self._packed[1]) + 1
        if lane == 0:
            packed = np.maximum(packed, self._left)
        self._packed.append(packed)
        if lane == self._lanes - 1:
            self._left = self.psums.take(beat, packed + 1)


class PassTimes:
    """The array of a configuration, pass by pass.

    Parameters
    ----------
    config : RowStationaryConfig
        The accelerator.
    """

    def __init__(self, config: RowStationaryConfig):
        self._config = config
        self._chains: _Chains | None = None
        self._shape, self._free = (0, 0), 0
        #: What passes made of the states that they found, at cycle 0: themselves, and the states behind them.
        self._known: OrderedDict[bytes, tuple[Passed, list[dict[str, Any]]]] = OrderedDict()

    def set_up(self, time: int, lines: int) -> int:
        """Set the array up by some lines, from a cycle on in which no pass is in it; return when it is done."""
        self._chains = None
        done = time + lines + ReadLines.LATENCY + 1
        self._free = done + 1
        return done

    def take(self, time: int, body: Mapping[str, int]) -> Passed:
        """Let the array take a pass that may begin in a cycle."""
        shape = body["psum_sets"] + 1, body["ifmap_sets"] + 1
        if self._chains is None or self._shape != shape:
            self._chains, self._shape = _Chains(self._config, *shape), shape
        chains = self._chains
        time = max(time, self._free, chains.room_at)
        for part in chains.parts:
            part.change(lambda value: self._counted_from(time, value), part.RUNNING + part.KEPT)
        passed = self._passed(chains, body)
        for part in chains.parts:
            part.change(lambda value: value + time, part.RUNNING + part.KEPT)
        return passed.moved(time)

    @staticmethod
    def _counted_from(time: int, value: Any) -> Any:
        """Cycles counted from one in which the array takes a pass, which what was before holds up no more."""
        return np.maximum(value - time, 0)

    def _passed(self, chains: _Chains, body: Mapping[str, int]) -> Passed:
        """Let the array take a pass in cycle 0, or do as when it found the same state before."""
        events = [np.array([*self._shape, *(body.get(name, 0) for name in _TIMED)])]
        for part in chains.parts:
            events += part.events(part.RUNNING + part.KEPT)
        # No more than what is left of a pass stands in the state, which 32 bits hold.
        key = np.concatenate(events, dtype=np.int32, casting="unsafe").tobytes()
        if key in self._known:
            self._known.move_to_end(key)
            passed, states = self._known[key]
            for part, state in zip(chains.parts, states, strict=True):
                vars(part).update({name: value.copy() if isinstance(value, deque) else value
                                   for name, value in state.items()})
            return passed
        passed = chains.take(0, body)
        self._known[key] = passed, [
            {name: value.copy() if isinstance(value := getattr(part, name), deque) else value
             for name in part.RUNNING + part.KEPT} for part in chains.parts]
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return passed
