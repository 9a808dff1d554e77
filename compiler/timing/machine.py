"""When a program's commands run: the shell's queues, ports and engines, event by event, around an array of any kind.

The rules are those of the RTL, from the cycle of the start write (0). One event stands for a slot that is filled, or an
engine that takes a command, :mod:`.queues` for the way of commands to their slots, and :mod:`.ports` for the bursts
between them; cycles in which nothing is decided cost nothing.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop
from typing import Any

import numpy as np

from ...hdl.post.lanes import Lanes
from ...hdl.post.row_softmax import RowPass, RowSoftmax
from ...hdl.shell.config import Config
from ...hdl.shell.tokens import TokenGates
from ...memory import MemoryTiming
from ..program import Program, Stream
from .bursts import bursts
from .latencies import LateError, Limit, Posting, SharedLatencies, UnendingError
from .ports import NEVER, Block, MovePort, ReadPort, WritePort
from .queues import FREED, GO, KIND, TIME, VALUE, Queues
from .routines import routine_postings

__all__ = ["EXECUTE", "LOAD", "MOVE", "POST", "STORE", "Machine", "Timeline"]

#: Numbers of the queues.
LOAD, EXECUTE, POST, STORE, MOVE = range(5)
#: Cycles of the shell: from what a command waits for, and from its arrival, to its start.
_DONE, _CAME = TokenGates.DONE_LATENCY, TokenGates.SLOT_LATENCY
#: Fields of commands that no cycle depends on.
_UNTIMED = {"destination", "address", "bank", "a_base", "w_base", "out_base", "bias_base", "scale_base", "acc_base"}


@dataclass
class Timeline:
    """When the commands of a program run."""

    #: Cycle in which each command was given to its engine, and in which it completed.
    begun: np.ndarray
    done: np.ndarray
    #: From the start write to the done flag.
    cycles: int
    #: Commands fetched, END and those read ahead beyond it included.
    fetched: int
    #: Cycles in which the execute engine was idle and waited for a load, for a POST, or for a command.
    stalls: tuple[int, int, int]
    #: Cycle in which each command stood in its slot, and the last in which it did.
    came: np.ndarray
    left: np.ndarray
    #: Cycles in which POSTs gave their sums back, in order, behind zero for none.
    posted: list[int]
    #: Cycle until which each POST is kept.
    kept: dict[int, int]
    #: Cycles in which bursts of fetches, and of LOADs, were taken by the read channel.
    fetches: list[int]
    loads: list[int]
    #: Cycle in which the program had come, END included.
    fetched_at: int
    #: Changes of whether the queues have room for more commands: cycle, and whether they have.
    rooms: list[tuple[int, bool]]


class Machine(Queues):
    """State of the shell, and of an array, while a program runs.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    program : Program
        Program.
    timing : MemoryTiming
        Timing of the memory behind it.
    constants : SharedLatencies
        What its engines take.
    limit : Limit, optional
        Cycles that it may take: it is followed no further than to where it must take more.
    """

    def __init__(self, config: Config, program: Program, timing: MemoryTiming, constants: SharedLatencies,
                 limit: Limit | None = None):
        length = program.length
        super().__init__(constants, ReadPort(config, timing), length, len(config.commands.queues))
        self._config, self._limit = config, limit
        self.cycles = 0
        #: Cycles in which the commands of each queue completed, and in which POSTs gave their sums back.
        self._counts: list[list[int]] = [[0] for _ in config.commands.queues]
        self.posted = [0]
        self._totals = list(program.counts.values())
        self._bodies: list[Mapping[str, int]] = [{}] * length
        self._waits: list[list[tuple[list[int], int]]] = [[]] * length
        self._read(program)
        # Ports, loader and storer.
        self._writes = WritePort(config, timing, self._c.store_data)
        self._moves = MovePort()
        self._walked = self._load_ready = self._store_ready = 0
        self._load_wait = self._accepting = -1
        self._post_ready = 0
        #: Cycle in which the last POST of sums, and the last that runs a routine, is completed.
        self._turns = [-1, -1]
        #: Cycle of the last group of softmax, long ago if there was none; until when each POST is kept.
        self._softmax = -NEVER
        #: Cycle of the first group of a second or third pass over rows, at least.
        self._passed = 0
        #: First cycle in which a group may come that waits for the root of a row, for each row.
        self._roots = [0]
        self.kept: dict[int, int] = {}
        #: Cycle from which on the array takes another command.
        self._array_ready = 0
        self.stalls = [0, 0, 0]
        self.begun = [0] * length
        self.done = [0] * length

    def _read(self, program: Program) -> None:
        """Take queue and body of each command, and what it waits for: lists of completions, how long they must be."""
        last: Stream | None = None
        for stream, place, body, numbers, values in program.entries():
            if stream is not last:
                last, queue, is_timed = stream, stream.opcode.value - 1, not _UNTIMED.issuperset(stream.fields)
            if is_timed or body.get("fill"):
                body = {**body, **dict(zip(stream.fields, values, strict=True))}
            self._queue_of[place], self._bodies[place] = queue, body
            self._waits[place] = [(self._counted(queue, each, body), number)
                                  for each, number in enumerate(numbers) if number]
        self._routines: dict[int, Posting] = {}
        if self._config.has_routines:
            self._routines = routine_postings(self._config, program, zip(self._queue_of, self._bodies, strict=True))

    def _counted(self, queue: int, other: int, body: Mapping[str, int]) -> list[int]:
        """Completions of a queue by which a command of another one, with some body, waits for it."""
        return self.posted if queue == EXECUTE and other == POST else self._counts[other]

    def run(self) -> None:
        """Run until END has passed its gate."""
        events = self._events
        handlers = (self._arrived, self._unheld, self._freed, self._fill_slot, self._see_room, self._go,
                    self._arrives, self._choose)
        reads = self.reads
        while not self.cycles:
            until = events[0] >> TIME if events else NEVER
            if (self._fetch_at < until or reads.load_at < until) and (reads.free < until or reads.fills):
                self._take()
            if not events:
                raise UnendingError(
                    f"a program of {self._length} commands waits for what never happens, by the model of time")
            event = heappop(events)
            kind = event >> KIND
            handlers[kind & 7](kind >> 3, event & VALUE)

    # Requests to the read channel.

    def _take(self) -> None:
        """Let bursts into the read channel until an event comes before the next."""
        reads, events = self.reads, self._events
        while True:
            until = events[0] >> TIME if events else NEVER
            load, fills = reads.load_at, reads.fills
            fetch = reads.free if reads.free > self._fetch_at else self._fetch_at
            if fills and load <= fetch:
                # What is filled on chip needs no address, and lets fetches pass.
                if load >= until:
                    return
                ended = reads.fill(load)
            else:
                loads = not fills and load <= fetch
                time = (load if load > reads.free else reads.free) if loads else fetch
                if time >= until:
                    return
                if fetch <= time and (not loads or (self._turn == 0 and self._presses())):
                    self._fetch(time)
                    continue
                self._turn = 0
                limit = until if fetch >= until or not self._presses() else max(fetch, time + 1)
                ended = reads.load(time, limit, self._fetch_at, self._load_wait)
            if ended is not None:
                self._finished(LOAD, ended.number, reads.load_end + self._c.load_done)
            if len(reads.taken) - 1 == self._load_wait:
                self._load_wait = -1
                self._load_ready = max(self._load_ready, reads.taken[-1] + 2)
                if self._accepting >= 0:
                    ready, self._accepting = self._accepting, -1
                    self._accept_load(ready)

    def _gate(self, queue: int) -> None:
        """Let the command in a slot go once all it waits for is known to complete."""
        index = self._slot[queue]
        ready = self._slot_at[queue] + _CAME
        if index == self._length:
            if any(len(counts) <= total for counts, total in zip(self._counts, self._totals, strict=True)):
                return
            last = max(counts[-1] for counts in self._counts)
            self.cycles = max(ready, last + _DONE) + 2
            self._count_stalls(max(self._array_ready, 2), NEVER, NEVER, self.cycles)
            return
        for counts, number in self._waits[index]:
            if len(counts) <= number:
                return
            if counts[number] + _DONE > ready:
                ready = counts[number] + _DONE
        self._gated[queue] = True
        self._at(ready, GO, queue)

    def _finished(self, queue: int, index: int, time: int) -> None:
        """A command's completion has become known."""
        self.done[index] = time
        self._counts[queue].append(time)
        for each, valid in enumerate(self._valid):
            if valid and not self._gated[each]:
                self._gate(each)

    # Engines.

    def _go(self, time: int, queue: int) -> None:
        if queue == LOAD and self._load_wait >= 0:
            self._accepting = time
        else:
            (self._accept_load, self._execute, self._post, self._store, self._move)[queue](time)

    def _accept_load(self, time: int) -> None:
        time = max(time, self._load_ready)
        index, reads = self._slot[LOAD], self.reads
        body = self._bodies[index]
        found = bursts(self._config, body)
        self.begun[index] = time
        self._at(time + 1, FREED, LOAD)
        reads.add(Block(time, found, bool(body.get("fill")), index))
        # The next block is taken when this one's last row has left the first stage; before it stand the burst that
        # the second stage holds, and two in the queue behind it.
        self._walked += len(found.sizes)
        before = self._walked - found.last_row - 3
        self._load_ready = time + body["count1"] * body["count2"] + 1
        if before >= len(reads.taken):
            self._load_wait = before
        elif before >= 0:
            self._load_ready = max(self._load_ready, reads.taken[before] + 2)

    def _check(self, rests: Sequence[int], queue: int, time: int) -> None:
        """Raise an error if the program takes too long, as a command's time tells of what must follow it."""
        assert self._limit is not None
        if time + rests[len(self._counts[queue]) - 1] > self._limit.most:
            raise LateError(f"the program takes more than {self._limit.most} cycles")

    @abstractmethod
    def _execute(self, time: int) -> None:
        """Let the array take the command in the slot of EXECUTEs from a cycle on."""

    def _count_waits(self, time: int) -> None:
        """Count why the array had nothing to do before it takes the command in the slot of EXECUTEs."""
        index, loads = self._slot[EXECUTE], self._counts[LOAD]
        came, idle = self._slot_at[EXECUTE], max(self._array_ready, 2)
        loaded = max(came, max((done[number] for done, number in self._waits[index] if done is loads), default=0) + 1)
        self._count_stalls(idle, came, loaded, time)

    def _count_stalls(self, idle: int, came: int, loaded: int, begun: int) -> None:
        """Count why the execute engine had nothing to do from `idle` to `begun`."""
        self.stalls[2] += max(0, min(came, begun) - idle)
        self.stalls[0] += max(0, min(loaded, begun) - max(idle, came))
        self.stalls[1] += max(0, begun - max(idle, loaded))

    def _post(self, time: int) -> None:
        time = max(time, self._post_ready)
        index = self._slot[POST]
        body, constants = self._bodies[index], self._c
        posting = self._routines.get(index) or constants.posting(body)
        # Sums and routines take turns: what is of the other kind must have been completed, and counted.
        is_routine = index in self._routines
        time = max(time, self._turns[not is_routine] + 1)
        self._turns[is_routine] = time + posting.done
        self.begun[index] = time
        self._at(time + 1, FREED, POST)
        if body.get("normalise"):
            # Accepted, it waits for the quotients.
            time = max(time, self._softmax + constants.quotient - constants.start)
        if body.get("row_pass"):
            time = self._pass(time, body, posting)
        if body.get("moments") or body.get("normed"):
            time = self._wait_for_roots(time, body)
        self._post_ready = self.kept[index] = time + posting.ready
        if self._limit is not None:
            self._check(self._limit.posts, POST, time)
        if body.get("softmax"):
            self._softmax = time + constants.start + posting.read - 1
        self.posted.append(time + posting.released)
        self._finished(POST, index, time + posting.done)

    def _pass(self, time: int, body: Mapping[str, int], posting: Posting) -> int:
        """Let a pass over rows wait for what the one before found; return the time from which on it goes on."""
        constants, kind = self._c, body["row_pass"]
        if kind != RowPass.GREATEST:
            time = max(time, self._passed - constants.start)
        first = time + constants.start
        last = first + posting.walked - 1
        if kind == RowPass.GREATEST:
            self._passed = max(self._passed, last + RowSoftmax.seen_of(self._config))
        elif body.get("float_row") and kind == RowPass.TOTAL:
            self._passed = last + constants.float_row
        elif kind == RowPass.TOTAL:
            rows = body["m_count"] // body["acc_nstep"]
            self._passed = first + RowSoftmax.settled_of(
                self._config, Lanes.sum_cycle_of(self._config), rows, posting.read // rows)
        return time

    def _wait_for_roots(self, time: int, body: Mapping[str, int]) -> int:
        """When a command of rows begins, accepted at some time: when few roots are missing; note those that it adds."""
        roots, constants = self._roots, self._c
        time = max(time, roots[max(len(roots) - 1 - body.get("behind", 0), 0)] - constants.start)
        if body.get("moments") and body.get("row_closes"):
            row = body["m_count"] * constants.groups
            last = time + constants.start - 1
            for _ in range(body["n_count"]):
                last += row
                roots.append(max(last + constants.root, roots[-1] + constants.root_period))
        return time

    def _store(self, time: int) -> None:
        time = max(time, self._store_ready)
        index = self._slot[STORE]
        body = self._bodies[index]
        found = bursts(self._config, body)
        self.begun[index] = time
        rows = 1 if body.get("profile") else body["count1"] * body["count2"]
        requested, response = self._writes.store(time, found, len(found.sizes) - found.last_row - 1)
        self._store_ready = max(time + rows, requested) + 1
        self._at(time + 1, FREED, STORE)
        self._finished(STORE, index, response + 1)

    def _move(self, time: int) -> None:
        index, moves = self._slot[MOVE], self._moves
        body = self._bodies[index]
        time = self.begun[index] = max(time, moves.ready)
        self._at(time + 1, FREED, MOVE)
        end = moves.move(time, bursts(self._config, body), body["count1"] * body["count2"])
        self._finished(MOVE, index, end + self._c.move_done)

    def times(self) -> dict[str, Any]:
        """Members of :class:`Timeline`, when the program has run."""
        return {"begun": np.array(self.begun), "done": np.array(self.done), "cycles": self.cycles,
                "fetched": sum(end < self.cycles for end in self.fetch_ends),
                "stalls": (self.stalls[0], self.stalls[1], self.stalls[2]), "came": np.array(self.came),
                "left": np.array(self.left), "posted": self.posted, "kept": self.kept, "fetches": self.fetches,
                "loads": self.reads.taken, "fetched_at": self.fetched_at, "rooms": self.rooms}
