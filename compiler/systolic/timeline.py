"""When a program's commands run: the shell's queues, ports and engines, event by event.

The rules are those of the RTL, from the cycle of the start write (0). One event stands for a command that arrives, a
slot that is filled, or an engine that takes a command, and :mod:`.ports` for the bursts between them; cycles in which
nothing is decided cost nothing.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import accumulate, count

import numpy as np

from ...hdl.shell.block_walk import BlockWalker
from ...hdl.shell.config import Config
from ...hdl.shell.fetch import Fetch
from ...hdl.shell.queues import CommandQueues
from ...hdl.shell.tokens import TokenGates
from ...hdl.systolic.accumulator import Accumulators
from ...memory import DEFAULT_MEMORY, MemoryTiming
from ..program import Program
from .ports import NEVER, Block, ReadPort, WritePort
from .timing import Latencies, UnendingError, bursts, execution, posting

__all__ = ["Timeline", "timeline"]

_LOAD, _EXECUTE, _POST, _STORE, _MOVE = range(5)
#: Cycles of the shell: from a block's command to its first burst; from what a command waits for, and from its
#: arrival, to its start.
_WALK, _DONE, _CAME = BlockWalker.LATENCY, TokenGates.DONE_LATENCY, TokenGates.SLOT_LATENCY
#: Fields of commands that no cycle depends on.
_UNTIMED = {"destination", "address", "bank", "a_base", "w_base", "out_base", "bias_base", "scale_base", "acc_base"}
#: An event is one number: its cycle, its kind, how many events stood before it, and its value.
_TIME, _KIND, _ORDER, _VALUE = 67, 64, 32, (1 << 32) - 1
#: Kinds of events, in the order in which those of one cycle count.
_ARRIVED, _UNHELD, _FREED, _SLOT, _ROOM, _GO, _ARRIVES, _CHOOSE = (kind << _KIND for kind in range(8))


@dataclass
class Timeline:
    """What :func:`timeline` finds."""

    #: Cycle in which each command was given to its engine, and in which it completed.
    begun: np.ndarray
    done: np.ndarray
    #: From the start write to the done flag.
    cycles: int
    #: Commands fetched, END and those read ahead beyond it included.
    fetched: int
    #: Cycles in which it had a command but waited for weights.
    waiting: int
    #: Cycles in which the execute engine was idle and waited for a load, for a POST, or for a command.
    stalls: tuple[int, int, int]
    #: Cycle in which each command stood in its slot, and the last in which it did.
    came: np.ndarray
    left: np.ndarray
    #: Cycles in which POSTs gave their sums back, in order, behind zero for none.
    posted: list[int]
    #: Cycle of the first operand vector of each EXECUTE.
    starts: dict[int, int]
    #: Cycles in which bursts of fetches, and of LOADs, were taken by the read channel.
    fetches: list[int]
    loads: list[int]
    #: Cycle in which the program had come, END included.
    fetched_at: int
    #: Changes of whether the queues have room for more commands: cycle, and whether they have.
    rooms: list[tuple[int, bool]]


class _Machine:
    """State of the shell while a program runs."""

    def __init__(self, config: Config, program: Program, timing: MemoryTiming):
        self._config = config
        self._c = Latencies.of(config)
        self.cycles = 0
        #: Cycles in which the commands of each queue completed, and in which POSTs gave their sums back.
        self._counts: list[list[int]] = [[0] for _ in config.commands.queues]
        self.posted = [0]
        self._totals = list(program.counts.values())
        self._length = length = program.length
        self._queue_of = [0] * length
        self._bodies: list[Mapping[str, int]] = [{}] * length
        self._waits: list[list[tuple[list[int], int]]] = [[]] * length
        self._read(program)
        self._events: list[int] = []
        self._order = count(0, 1 << _ORDER)
        self._chosen = -1
        # Fetch.
        self._next = self._in_flight = self._turn = 0
        self._stopped, self._room, self._fetch_at = False, True, 2
        self.fetch_ends: list[int] = []
        # Queue memory and slots.
        queues = len(config.commands.queues)
        self._held = [0] * queues
        self._stored: list[deque[tuple[int, int, int]]] = [deque() for _ in range(queues)]
        self._valid = [False] * queues
        self._filling = [False] * queues
        self._direct_until = self._read_until = 0
        self._slot = [-1] * queues
        self._direct: set[int] = set()
        self._slot_at = [0] * queues
        self._gated = [False] * queues
        # Ports, loader and storer.
        self.reads, self._writes = ReadPort(config, timing), WritePort(config, timing, self._c.store_data)
        self._walked = self._load_ready = self._store_ready = 0
        self._load_wait = self._accepting = -1
        self._post_ready = 0
        # Mover: when it takes a command, when its last burst has been read, and when it took bursts.
        self._move_ready = self._move_free = 0
        self._move_taken = [-1, -1, -1]
        # Execute.
        self._tiles_ready = self._array_end = self._mode = self.waiting = 0
        self.stalls = [0, 0, 0]
        self.begun = [0] * length
        self.done = [0] * length
        self.came = [NEVER] * (length + 1)
        self.left = [NEVER] * (length + 1)
        self.starts: dict[int, int] = {}
        self.fetches: list[int] = []
        self.fetched_at = NEVER
        self.rooms: list[tuple[int, bool]] = []

    def _read(self, program: Program) -> None:
        """Take queue and body of each command, and what it waits for: lists of completions, how long they must be."""
        for stream, place, body, numbers, values in program.entries():
            queue = stream.opcode.value - 1
            if body.get("fill") or not _UNTIMED.issuperset(stream.fields):
                body = {**body, **dict(zip(stream.fields, values, strict=True))}
            self._queue_of[place], self._bodies[place] = queue, body
            waits = self._waits[place] = []
            for each, number in enumerate(numbers):
                if number:
                    waits.append((self.posted if queue == _EXECUTE and each == _POST else self._counts[each], number))

    def _at(self, time: int, kind: int, value: int = 0) -> None:
        heappush(self._events, (time << _TIME) + kind + next(self._order) + value)

    def run(self) -> None:
        """Run until END has passed its gate."""
        events = self._events
        handlers = (self._arrived, self._unheld, self._freed, self._fill_slot, self._see_room, self._go,
                    self._arrives, self._choose)
        reads = self.reads
        while not self.cycles:
            until = events[0] >> _TIME if events else NEVER
            if (self._fetch_at < until or reads.load_at < until) and (reads.free < until or reads.fills):
                self._take()
            if not events:
                raise UnendingError(
                    f"a program of {self._length} commands waits for what never happens, by the model of time")
            event = heappop(events)
            kind = event >> _KIND
            handlers[kind & 7](kind >> 3, event & _VALUE)

    # Requests to the read channel.

    def _take(self) -> None:
        """Let bursts into the read channel until an event comes before the next."""
        reads, events = self.reads, self._events
        while True:
            until = events[0] >> _TIME if events else NEVER
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
                self._finished(_LOAD, ended.number, reads.load_end + self._c.load_done)
            if len(reads.taken) - 1 == self._load_wait:
                self._load_wait = -1
                self._load_ready = max(self._load_ready, reads.taken[-1] + 1)
                if self._accepting >= 0:
                    ready, self._accepting = self._accepting, -1
                    self._accept_load(ready)

    def _presses(self) -> bool:
        """Whether a fetch goes before a LOAD that wants the channel as well, unless the burst before was one."""
        if self._in_flight >= Fetch.PRESSING:
            return False
        held, valid, filling = self._held, self._valid, self._filling
        return not (held[0] or valid[0] or filling[0]) or not (held[1] or valid[1] or filling[1])

    def _fetch(self, time: int) -> None:
        self._turn = 1
        start, end = self.reads.fetch(time, self._c.beats)
        self.fetches.append(time)
        self._in_flight += 1
        self.fetch_ends.append(end)
        if self._next <= self._length:
            self._at(start, _ARRIVES, self._next)
        self._at(end + 1, _ARRIVED, self._next)
        self._next += 1
        self._fetch_at = NEVER
        self._may_fetch(time + 1)

    def _may_fetch(self, time: int) -> None:
        """Request the next command from `time` on, unless too many are in flight or it lies beyond the end."""
        ahead = self._c.ahead
        if self._room and self._in_flight < ahead and self._next < max(self._length + 1, ahead):
            self._fetch_at = min(self._fetch_at, time)

    # Commands on their way to their slots.

    def _arrives(self, time: int, index: int) -> None:
        """The first beat of a command."""
        if self._stopped:
            return
        queue = self._queue_of[index] if index < self._length else _LOAD
        busy = self._valid[queue] or self._held[queue] or self._stored[queue]
        if not busy and True not in self._filling:
            self._slot[queue] = index
            self._direct.add(index)
            # The slot is being written, though no beat comes from the memory.
            self._at(time + self._c.needed[queue] + 1, _SLOT, queue)
            self._direct_until = time + self._c.beats
        else:
            self._stored[queue].append((index, time, time + self._c.beats - 1))
            self._at(time + 1, _CHOOSE)

    def _arrived(self, time: int, index: int) -> None:
        """The cycle after its last beat."""
        self._in_flight -= 1
        if index == self._length:
            self._stopped, self.fetched_at = True, time
            self._fetch_at = NEVER
        if self._stopped:
            return
        if index in self._direct:
            self._direct.remove(index)
        else:
            queue = self._queue_of[index]
            self._held[queue] += 1
            if self._held[queue] == CommandQueues.DEPTH // 2:
                self._at(time + 1, _ROOM)
        self._may_fetch(time)

    def _see_room(self, time: int, _: int) -> None:
        room = max(self._held) < CommandQueues.DEPTH // 2
        if room != self._room:
            self._room = room
            self.rooms.append((time, room))
        self._fetch_at = NEVER
        self._may_fetch(time)

    def _unheld(self, time: int, queue: int) -> None:
        self._held[queue] -= 1
        # Farther from being full, one command more or less changes nothing.
        if max(self._held) >= CommandQueues.DEPTH // 2 - 2:
            self._at(time + 1, _ROOM)
        if any(self._stored):
            self._at(time, _CHOOSE)

    def _choose(self, time: int, _: int) -> None:
        """Begin to copy the oldest command of an empty slot's queue."""
        # All else of a cycle comes before: once is enough.
        if time == self._chosen or time < self._read_until or time < self._direct_until:
            return
        self._chosen = time
        for queue, stored in enumerate(self._stored):
            if not stored or self._valid[queue] or self._filling[queue] or stored[0][1] >= time \
                    or self._slot[queue] >= 0:
                continue
            if any(entries and entries[-1][1] == time for entries in self._stored):
                self._at(time + 1, _CHOOSE)
                return
            index, first, last = stored.popleft()
            read = max(time + self._c.beats, last + 1)
            self._filling[queue], self._slot[queue], self._read_until = True, index, read + 1
            self._at(max(time, first) + 1 + self._c.needed[queue] + CommandQueues.LATENCY, _SLOT, queue)
            unheld = max(read + 1, last + 2)
            self._at(unheld, _UNHELD, queue)
            if unheld > read + 1:
                self._at(read + 1, _CHOOSE)
            return

    def _fill_slot(self, time: int, queue: int) -> None:
        if not self._filling[queue] and any(self._stored):
            # It came past the queue's memory, which nothing could be copied from meanwhile.
            self._at(max(time, self._direct_until), _CHOOSE)
        self._valid[queue], self._filling[queue], self._gated[queue], self._slot_at[queue] = True, False, False, time
        self.came[self._slot[queue]] = time
        self._gate(queue)

    def _gate(self, queue: int) -> None:
        """Let the command in a slot go once all it waits for is known to complete."""
        index = self._slot[queue]
        ready = self._slot_at[queue] + _CAME
        if index == self._length:
            if any(len(counts) <= total for counts, total in zip(self._counts, self._totals, strict=True)):
                return
            last = max(counts[-1] for counts in self._counts)
            self.cycles = max(ready, last + _DONE) + 2
            self._count_stalls(max(self._tiles_ready, 2), NEVER, NEVER, self.cycles)
            return
        for counts, number in self._waits[index]:
            if len(counts) <= number:
                return
            if counts[number] + _DONE > ready:
                ready = counts[number] + _DONE
        self._gated[queue] = True
        self._at(ready, _GO, queue)

    def _finished(self, queue: int, index: int, time: int) -> None:
        """A command's completion has become known."""
        self.done[index] = time
        self._counts[queue].append(time)
        for each, valid in enumerate(self._valid):
            if valid and not self._gated[each]:
                self._gate(each)

    def _freed(self, time: int, queue: int) -> None:
        self.left[self._slot[queue]] = time - 1
        self._valid[queue], self._slot[queue] = False, -1
        if self._stored[queue]:
            self._at(time, _CHOOSE)

    # Engines.

    def _go(self, time: int, queue: int) -> None:
        if queue == _LOAD and self._load_wait >= 0:
            self._accepting = time
        else:
            (self._accept_load, self._execute, self._post, self._store, self._move)[queue](time)

    def _accept_load(self, time: int) -> None:
        time = max(time, self._load_ready)
        index, reads = self._slot[_LOAD], self.reads
        body = self._bodies[index]
        found = bursts(self._config, body)
        self.begun[index] = time
        self._at(time + 1, _FREED, _LOAD)
        reads.add(Block(time, found, bool(body.get("fill")), index))
        # The next block is taken when this one's last row has left the first stage.
        self._walked += len(found.sizes)
        before = self._walked - found.last_row - 2
        self._load_ready = time + body["count1"] * body["count2"] + 1
        if before >= len(reads.taken):
            self._load_wait = before
        elif before >= 0:
            self._load_ready = max(self._load_ready, reads.taken[before] + 1)

    def _execute(self, time: int) -> None:
        index, constants = self._slot[_EXECUTE], self._c
        body = self._bodies[index]
        vectors, tiles, period, slots, leaving = execution(self._config, body)
        time = max(time, self._tiles_ready)
        mode = body.get("output_stationary", 0)
        if mode != self._mode:
            self._mode = mode
            time = max(time, self._counts[_EXECUTE][-1] + Accumulators.AHEAD + 1)
        self.begun[index] = time
        came, idle, loads = self._slot_at[_EXECUTE], max(self._tiles_ready, 2), self._counts[_LOAD]
        loaded = max(came, max((done[number] for done, number in self._waits[index] if done is loads), default=0) + 1)
        self._count_stalls(idle, came, loaded, time)
        start = self.starts[index] = max(time + constants.prepare + slots, self._array_end + 1)
        self.waiting += start - max(time + 1, self._array_end + 1) + (tiles - 1) * (period - vectors)
        self._tiles_ready = start + (tiles - 1) * period
        self._array_end = self._tiles_ready + vectors - 1
        self._at(time + 1, _FREED, _EXECUTE)
        self._finished(_EXECUTE, index, self._array_end + constants.through + leaving)

    def _count_stalls(self, idle: int, came: int, loaded: int, begun: int) -> None:
        """Count why the execute engine had nothing to do from `idle` to `begun`."""
        self.stalls[2] += max(0, min(came, begun) - idle)
        self.stalls[0] += max(0, min(loaded, begun) - max(idle, came))
        self.stalls[1] += max(0, begun - max(idle, loaded))

    def _post(self, time: int) -> None:
        time = max(time, self._post_ready)
        index = self._slot[_POST]
        ready, released, done = posting(self._config, self._bodies[index])
        self.begun[index] = time
        self._at(time + 1, _FREED, _POST)
        self._post_ready = time + ready
        self.posted.append(time + released)
        self._finished(_POST, index, time + done)

    def _store(self, time: int) -> None:
        time = max(time, self._store_ready)
        index = self._slot[_STORE]
        body = self._bodies[index]
        found = bursts(self._config, body)
        self.begun[index] = time
        rows = 1 if body.get("profile") else body["count1"] * body["count2"]
        requested, response = self._writes.store(time, found, len(found.sizes) - found.last_row - 1)
        self._store_ready = max(time + rows, requested) + 1
        self._at(time + 1, _FREED, _STORE)
        self._finished(_STORE, index, response + 1)

    def _move(self, time: int) -> None:
        """Take a MOVE; that its beats take turns with those of STOREs, and hold up those of LOADs, is left out."""
        time = max(time, self._move_ready)
        index = self._slot[_MOVE]
        body = self._bodies[index]
        sizes, last_row, _ = bursts(self._config, body)
        self.begun[index] = time
        first = max(time + _WALK, self._move_free)
        *starts, self._move_free = accumulate(sizes, initial=first)
        taken = self._move_taken + starts
        # The next one is taken when this one's last row has left the first stage.
        self._move_ready = max(time + body["count1"] * body["count2"], taken[-last_row - 3] + 1) + 1
        self._move_taken = taken[-3:]
        self._at(time + 1, _FREED, _MOVE)
        self._finished(_MOVE, index, self._move_free + self._c.move_done)


def timeline(config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> Timeline:
    """Run a program's queues, ports and engines against each other.

    Raises
    ------
    UnendingError
        If the program would never end.
    """
    machine = _Machine(config, program, timing)
    machine.run()
    fetched = sum(end < machine.cycles for end in machine.fetch_ends)
    return Timeline(np.array(machine.begun), np.array(machine.done), machine.cycles, fetched,
                    machine.waiting, (machine.stalls[0], machine.stalls[1], machine.stalls[2]),
                    np.array(machine.came), np.array(machine.left), machine.posted, machine.starts, machine.fetches,
                    machine.reads.taken, machine.fetched_at, machine.rooms)
