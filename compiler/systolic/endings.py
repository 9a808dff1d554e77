"""How the last group of a layer is cut into ever smaller ones, so that little is left when the array is done.

Each group is posted while the array works on the next, and none begins before the one before the last has left its
bank. A clock follows array and post-processing through ways to cut what is left in two; those that are ahead are kept,
and what their outputs take on the write channel decides.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from ...hdl.shell.block_walk import burst_beats
from ...hdl.shell.tokens import TokenGates
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.regions import even
from ..timing.bursts import Bursts
from ..timing.latencies import Posting
from ..timing.ports import WritePort
from .timing import Latencies

__all__ = ["Ending", "Groups", "Work", "last_groups"]

#: Pixels and tiles of groups, in order.
Groups = tuple[tuple[int, int], ...]

#: Ways to come to the same rest that are kept, and shares of what is left at which it may be cut in two: of a short
#: search, and of a long one.
_SHORT = 2, (0.38, 0.46, 0.54)
_LONG = 6, (0.3, 0.34, 0.38, 0.42, 0.46, 0.5, 0.54, 0.6)

#: Cycles that a group must save, for its commands.
_COMMANDS = 2

#: Endings whose STOREs are followed.
_TIMED = 24

#: POSTs of the last group, at most.
_POSTS = 3


class Work(NamedTuple):
    """What groups of a layer take.

    Parameters
    ----------
    depth : int
        Tiles of the contraction.
    executes : int
        EXECUTEs into which these are cut.
    row : int
        Bytes of a tile's row of outputs.
    whole : bool
        Whether rows of all tiles follow one another in memory.
    reload : int
        Cycles to load weights again for each group, if the scratchpad can't keep them; else 0.
    sums : int
        Sums of which each pixel is made.
    most : int
        Pixels of all tiles of a group at most.
    """

    depth: int
    executes: int
    row: int
    whole: bool
    reload: int
    sums: int
    most: int


class Ending(NamedTuple):
    """The groups of an ending, and how many POSTs the last of them takes."""

    groups: Groups
    posts: int


class _State(NamedTuple):
    """When, in cycles from the first operand, groups so far let others begin."""

    #: The array has had its last operand; it may begin the next EXECUTE.
    done: int = 0
    begins: int = 0
    #: Post-processing may begin another group; when it began the last.
    ready: int = 0
    posted: int = 0
    #: The bank that is to be filled next, and the other, are free.
    free: int = 0
    other: int = 0
    #: The groups, and when each was posted.
    groups: Groups = ()
    begun: tuple[int, ...] = ()


class _Clock:
    """Follows groups of a layer of so many tiles of channels."""

    def __init__(self, config: SystolicConfig, timing: MemoryTiming, work: Work, tiles: int):
        self._config, self._timing, self._work, self._tiles = config, timing, work, tiles
        self._c = c = Latencies.of(config)
        #: From an EXECUTE's acceptance to its first operand; from the last operand of a group to its POST.
        self._lead, self._through = c.prepare + c.slots_top, c.through + TokenGates.DONE_LATENCY
        self._postings: dict[tuple[int, int], Posting] = {}

    def _posting(self, pixels: int, tiles: int) -> Posting:
        found = self._postings.get((pixels, tiles))
        if found is None:
            found = self._postings[pixels, tiles] = self._c.posting(
                {"n_count": tiles, "m_count": pixels * self._work.sums})
        return found

    def after(self, state: _State, pixels: int, tiles: int) -> _State:
        """The state behind one more group."""
        work = self._work
        # Few pixels do not hide the loading of weights, nor how the next EXECUTE is prepared.
        period = max(pixels * work.sums, self._config.array.rows)
        idle = max(0, self._lead - period)
        start = max(state.begins, state.free)
        done = start + max(work.depth * tiles * period + (work.executes - 1) * idle, work.reload)
        begun, posting = max(done + self._through, state.ready), self._posting(pixels, tiles)
        return _State(done, done + idle, begun + posting.ready, begun, state.other,
                      begun + posting.released + TokenGates.DONE_LATENCY + self._lead,
                      (*state.groups, (pixels, tiles)), (*state.begun, begun))

    def ahead(self, state: _State, pixels: int, tiles: int) -> tuple[int, int]:
        """How far a state is, with so much left: when array and post-processing could both be done with it."""
        vectors = pixels * tiles * self._work.sums
        return (max(max(state.begins, state.free) + vectors * self._work.depth,
                    state.ready + vectors * self._c.groups), state.done + state.ready)

    def least(self, state: _State) -> int:
        """Cycles, at least, of an ending whose last group has been computed, in one POST."""
        return (state.posted + self._posting(*state.groups[-1]).done + _COMMANDS * len(state.groups)
                + TokenGates.DONE_LATENCY + self._c.store_data + self._timing.write_latency)

    def ends(self, state: _State) -> Iterator[tuple[int, Ending]]:
        """Cycles of an ending, by the POSTs of its last group."""
        (pixels, tiles), gate = state.groups[-1], TokenGates.DONE_LATENCY
        for posts in range(1, min(_POSTS, pixels) + 1):
            groups = [*state.groups[:-1], *((last - first, tiles) for first, last in even(pixels, posts))]
            port = WritePort(self._config, self._timing, self._c.store_data)
            ready = stored = response = 0
            for at, group in enumerate(groups):
                posting, found = self._posting(*group), self._bursts(*group)
                begun = max(state.begun[min(at, len(state.begun) - 1)], ready)
                ready, rows = begun + posting.ready, len(found.sizes)
                time = max(begun + posting.done + gate, stored)
                requested, response = port.store(time, found, rows - found.last_row - 1)
                stored = max(time + rows, requested) + 1
            yield response + _COMMANDS * len(state.groups), Ending(state.groups, posts)

    def _bursts(self, pixels: int, tiles: int) -> Bursts:
        """Bursts in which a group's outputs are stored: one for each row, or long ones."""
        most = burst_beats(self._config)
        beats, bursts = -(-tiles * self._work.row // self._config.beat_bytes), pixels
        if self._work.whole and tiles == self._tiles:
            beats, bursts = most, max(1, pixels * beats // most)
        return Bursts((min(beats, most),) * bursts, 1, True)


def _cuts(size: int, step: int, least: int, shares: Sequence[float], most: int) -> list[int]:
    """Where to cut `size` in two parts of at least `least`, the first of at most `most`: at multiples of `step`."""
    cuts = {step * min(round(size / step * share), most // step) for share in shares}
    return sorted(cut for cut in cuts if least <= cut <= size - least)


@cache
def last_groups(config: SystolicConfig, timing: MemoryTiming, work: Work, before: tuple[int, int],
                group: tuple[int, int], step: int, long: bool = False) -> Ending:
    """Cut a layer's last group into groups that end soonest.

    Parameters
    ----------
    before, group : (int, int)
        Pixels and tiles of the group before, none for no pixels, and of that to cut.
    step : int
        Pixels of which those of all groups are multiples.
    long : bool
        Whether to search for some tenths of a second.
    """
    kept, shares = _LONG if long else _SHORT
    clock, least = _Clock(config, timing, work, group[1]), -(-config.array.rows // (2 * work.sums))
    first = clock.after(_State(), *before)._replace(groups=(), begun=()) if before[0] else _State()
    rests: dict[tuple[int, int], list[_State]] = {group: [first]}
    whole: list[_State] = []
    while rests:
        # What has most left first: nothing comes back to it.
        left, span = max(rests, key=lambda rest: rest[0] * rest[1])
        states = rests.pop((left, span))
        states.sort(key=lambda state: clock.ahead(state, left, span))
        for state in states[:kept]:
            if left * span <= work.most:
                whole.append(clock.after(state, left, span))
            for cut in _cuts(left, step, least, shares, work.most // span):
                rests.setdefault((left - cut, span), []).append(clock.after(state, cut, span))
            for cut in _cuts(span, 1, 1, shares, work.most // left):
                rests.setdefault((left, span - cut), []).append(clock.after(state, left, cut))
    if not whole:
        # Shares leave parts that are too small to be cut, or too large: as many groups of the same size as it takes.
        (pixels, tiles), size = group, max(work.most // group[1] // step, 1) * step
        return Ending(tuple((min(size, pixels - at), tiles) for at in range(0, pixels, size)), 1)
    whole.sort(key=clock.least)
    best = min(clock.ends(whole[0]))
    for state in whole[1:_TIMED]:
        if clock.least(state) >= best[0]:
            break
        best = min(best, *clock.ends(state))
    return best[1]
