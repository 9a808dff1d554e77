"""How a program's commands come to their slots: fetches, the memory of queues, and the copies from it to slots.

What becomes of a command in its slot, and of all else that happens, is :mod:`.timeline`'s.
"""

from abc import ABC, abstractmethod
from collections import deque
from heapq import heappush
from itertools import count

from ...hdl.shell.fetch import Fetch
from ...hdl.shell.queues import CommandQueues
from .latencies import SharedLatencies
from .ports import NEVER, ReadPort

__all__ = ["ARRIVED", "ARRIVES", "CHOOSE", "FREED", "GO", "KIND", "ROOM", "SLOT", "TIME", "UNHELD", "VALUE", "Queues"]

#: An event is one number: its cycle, its kind, how many events stood before it, and its value.
TIME, KIND, ORDER, VALUE = 67, 64, 32, (1 << 32) - 1
#: Kinds of events, in the order in which those of one cycle count.
ARRIVED, UNHELD, FREED, SLOT, ROOM, GO, ARRIVES, CHOOSE = (kind << KIND for kind in range(8))


class Queues(ABC):
    """Commands from memory to their slots, as events.

    Parameters
    ----------
    constants : SharedLatencies
        Cycles of the shell.
    reads : ReadPort
        Read channel, through which fetches go.
    length : int
        Number of commands before END.
    queues : int
        Number of queues, LOADs' and EXECUTEs' first.

    Members
    -------
    came, left : list of int
        Cycle in which each command stood in its slot, and the last in which it did.
    fetches, fetch_ends : list of int
        Cycles in which fetches were taken by the read channel, and of their last beats.
    fetched_at : int
        Cycle in which the program had come, END included.
    rooms : list of (int, bool)
        Changes of whether the queues have room for more commands: cycle, and whether they have.
    """

    def __init__(self, constants: SharedLatencies, reads: ReadPort, length: int, queues: int):
        self._c, self.reads, self._length = constants, reads, length
        #: Queue of each command.
        self._queue_of = [0] * length
        self._events: list[int] = []
        self._order = count(0, 1 << ORDER)
        self._chosen = -1
        # Fetch.
        self._next = self._in_flight = self._turn = 0
        self._stopped, self._room, self._fetch_at = False, True, 2
        self.fetch_ends: list[int] = []
        # Queue memory and slots.
        self._held = [0] * queues
        self._stored: list[deque[tuple[int, int, int]]] = [deque() for _ in range(queues)]
        self._valid = [False] * queues
        self._filling = [False] * queues
        self._direct_until = self._read_until = 0
        self._slot = [-1] * queues
        self._direct: set[int] = set()
        self._slot_at = [0] * queues
        self._gated = [False] * queues
        self.came = [NEVER] * (length + 1)
        self.left = [NEVER] * (length + 1)
        self.fetches: list[int] = []
        self.fetched_at = NEVER
        self.rooms: list[tuple[int, bool]] = []

    @abstractmethod
    def _gate(self, queue: int) -> None:
        """Let the command in a slot go once all it waits for is known to complete."""

    def _at(self, time: int, kind: int, value: int = 0) -> None:
        heappush(self._events, (time << TIME) + kind + next(self._order) + value)

    # Requests to the read channel.

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
            self._at(start, ARRIVES, self._next)
        self._at(end + 1, ARRIVED, self._next)
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
        queue = self._queue_of[index] if index < self._length else 0
        busy = self._valid[queue] or self._held[queue] or self._stored[queue]
        if not busy and True not in self._filling:
            self._slot[queue] = index
            self._direct.add(index)
            # The slot is being written, though no beat comes from the memory.
            self._at(time + self._c.needed[queue] + 1, SLOT, queue)
            self._direct_until = time + self._c.beats
        else:
            self._stored[queue].append((index, time, time + self._c.beats - 1))
            self._at(time + 1, CHOOSE)

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
                self._at(time + 1, ROOM)
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
            self._at(time + 1, ROOM)
        if any(self._stored):
            self._at(time, CHOOSE)

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
                self._at(time + 1, CHOOSE)
                return
            index, first, last = stored.popleft()
            read = max(time + self._c.beats, last + 1)
            self._filling[queue], self._slot[queue], self._read_until = True, index, read + 1
            self._at(max(time, first) + 1 + self._c.needed[queue] + CommandQueues.LATENCY, SLOT, queue)
            unheld = max(read + 1, last + 2)
            self._at(unheld, UNHELD, queue)
            if unheld > read + 1:
                self._at(read + 1, CHOOSE)
            return

    def _fill_slot(self, time: int, queue: int) -> None:
        if not self._filling[queue] and any(self._stored):
            # It came past the queue's memory, which nothing could be copied from meanwhile.
            self._at(max(time, self._direct_until), CHOOSE)
        self._valid[queue], self._filling[queue], self._gated[queue], self._slot_at[queue] = True, False, False, time
        self.came[self._slot[queue]] = time
        self._gate(queue)

    def _freed(self, time: int, queue: int) -> None:
        self.left[self._slot[queue]] = time - 1
        self._valid[queue], self._slot[queue] = False, -1
        if self._stored[queue]:
            self._at(time, CHOOSE)
