"""When a program's commands run: the shell's queues, ports and engines, event by event.

The rules are those of the RTL, from the cycle of the start write (0). One event stands for a burst, a command that
arrives, a slot that is filled, or an engine that takes a command; cycles in which nothing is decided cost nothing.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from heapq import heappop, heappush

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.post.engine import Post, output_banks
from ...hdl.shell.block_walk import BlockWalker, burst_beats
from ...hdl.shell.commands import COMMAND_BYTES
from ...hdl.shell.config import Config
from ...hdl.shell.fetch import Fetch
from ...hdl.shell.loader import Loader
from ...hdl.shell.queues import QUEUES, CommandQueues, slot_bits
from ...hdl.shell.reader import IN_FLIGHT
from ...hdl.shell.storer import Storer
from ...hdl.shell.tokens import TokenGates
from ...hdl.shell.writer import Writer
from ...hdl.systolic.array import SystolicArray
from ...hdl.systolic.execute import Execute
from ...hdl.systolic.tiles import TileWalker, drain_cycles, tile_slots
from ..program import Command

__all__ = ["Latencies", "Timeline", "UnendingError", "burst_sizes", "contraction_tiles", "timeline"]

_NEVER = 1 << 62
_LOAD, _EXECUTE, _POST, _STORE = range(4)
_NAMES = ("load", "execute", "post", "store")
#: Cycles of the shell: from a block's command to its first burst; from what a command waits for, and from its
#: arrival, to its start.
_WALK, _DONE, _CAME = BlockWalker.LATENCY, TokenGates.DONE_LATENCY, TokenGates.SLOT_LATENCY


def contraction_tiles(rows: int, k_total: int, run: int, fold: int) -> int:
    """Tiles into which a weight-stationary contraction is cut."""
    if fold or run >= k_total:
        return -(-k_total // rows)
    whole, rest = divmod(k_total, run)
    return whole * -(-run // rows) + -(-rest // rows)


@lru_cache(1 << 14)
def _row_bursts(beat: int, burst: int, start: int, length: int) -> tuple[int, ...]:
    """Beats of each burst of a row of `length` bytes at byte `start` of a block of `burst` beats."""
    first, last = start // beat, (start + length - 1) // beat
    sizes = []
    while first <= last:
        end = min(last, first // burst * burst + burst - 1)
        sizes.append(end - first + 1)
        first = end + 1
    return tuple(sizes)


def burst_sizes(config: Config, body: Mapping[str, int]) -> tuple[list[int], int]:
    """Beats of each burst of a LOAD or STORE in order, and how many of them belong to the last row.

    A fill is cut by its addresses on chip, all others by those in memory.
    """
    beat, burst = config.beat_bytes, burst_beats(config)
    if body.get("profile"):
        return list(_row_bursts(beat, burst, body["dram"] % (beat * burst), 16)), 1
    fill = body.get("fill", 0)
    at = body["address"] if fill else body["dram"]
    step1, step2 = (body["step1"], body["step2"]) if fill else (body["dram_step1"], body["dram_step2"])
    modulus, length = beat * burst, body["length"]
    sizes: list[int] = []
    row: tuple[int, ...] = ()
    if body["count1"] * body["count2"] > 64 and step1 % modulus == 0 == step2 % modulus:
        row = _row_bursts(beat, burst, at % modulus, length)
        return list(row) * (body["count1"] * body["count2"]), len(row)
    for outer in range(body["count2"]):
        start = at + outer * step2
        for inner in range(body["count1"]):
            row = _row_bursts(beat, burst, (start + inner * step1) % modulus, length)
            sizes += row
    return sizes, len(row)


@dataclass(frozen=True)
class Latencies:
    """What a configuration's engines take, in cycles."""

    #: Beats of a command, and for each queue the number of that with the last bit of its commands.
    beats: int
    needed: tuple[int, ...]
    #: Commands in flight.
    ahead: int
    #: From a beat that was read to its place in a scratchpad.
    load_done: int
    #: From the last operand vector of an EXECUTE to its completion.
    through: int
    #: Of preparing an EXECUTE; of a tile's weights, from the top and from the left.
    prepare: int
    slots_top: int
    slots_left: int
    #: Output-stationary: sums that take turns in a PE, from the first to the last row of sums that leave, and
    #: between two drains at least.
    turns: int
    leaving: int
    drain: int
    #: Groups of lanes in a row; from a group to its output; and for how long a POST is held at least.
    groups: int
    post: int
    settings: int
    #: From a burst of a STORE to its first beat on the bus.
    store_data: int

    @staticmethod
    @cache
    def of(config: Config) -> "Latencies":
        """Latencies of a configuration."""
        beats = max(1, COMMAND_BYTES // config.beat_bytes)
        width = config.memory.data_width
        rows, arithmetic = config.array.rows, config.arithmetic
        return Latencies(
            beats, tuple((slot_bits(queue, config.commands) - 1) // width for queue in QUEUES), Fetch.ahead_of(config),
            Loader.latency_of(config), Execute.through_of(config),
            TileWalker.PREPARATION, tile_slots(config, left=False), tile_slots(config, left=True),
            arithmetic.add_latency, SystolicArray.drain_interval_of(rows, arithmetic) - 1, drain_cycles(config),
            config.array.cols // config.post.lanes, Post.latency_of(config), Post.settings_cycle_of(config),
            Storer.latency_of(config, output_banks(config)) + Writer.LATENCY)


@dataclass
class Timeline:
    """What :func:`timeline` found.

    Parameters
    ----------
    begun, done : ndarray of int
        Cycle in which each command was given to its engine, or (POST) began, and in which it completed.
    cycles : int
        From the start write to the done flag.
    fetched : int
        Commands fetched, END and those read ahead beyond it included.
    active : int
        Cycles in which the array was given an operand vector.
    waiting : int
        Cycles in which it had a command but waited for weights.
    stalls : tuple of int
        Cycles in which the execute engine was idle and waited for a load, for a POST, or for a command.
    """

    begun: np.ndarray
    done: np.ndarray
    cycles: int
    fetched: int
    waiting: int
    stalls: tuple[int, int, int]


class UnendingError(PearrayError):
    """A program that would never end, as far as the model of time can tell."""


class _Block:
    """Bursts of a LOAD on their way to the port."""

    __slots__ = ("accepted", "bursts", "fill", "number")

    def __init__(self, accepted: int, bursts: list[int], fill: bool, number: int):
        self.accepted, self.bursts, self.fill, self.number = accepted, bursts, fill, number


class _Machine:
    """State of the shell while a program runs."""

    def __init__(self, config: Config, commands: Sequence[Command]):
        self._config = config
        self._c = Latencies.of(config)
        self._commands = commands
        self._queue_of = [command.opcode.value - 1 for command in commands]
        self._events: list[tuple[int, int, int, int]] = []
        self._order = 0
        memory = config.memory
        self._latency, self._write_latency = memory.read_latency, memory.write_latency
        self._outstanding, self._rate = memory.outstanding, memory.beats_per_cycle
        # Fetch.
        self._next = 0
        self._in_flight = 0
        self._stopped = False
        self._room = True
        self._fetch_at = 2
        self._fetch_ends: list[int] = []
        # Queue memory and slots.
        self._held = [0, 0, 0, 0]
        self._stored: list[deque[tuple[int, int, int]]] = [deque() for _ in range(4)]
        self._valid = [False] * 4
        self._filling = [False] * 4
        self._direct_until = self._read_until = 0
        self._slot = [-1] * 4
        self._direct: set[int] = set()
        self._slot_at = [0] * 4
        self._gated = [False] * 4
        # Address and data channels of reads.
        self._ar_free = 0
        self._turn = 0
        self._data_free = 0
        self._ends: deque[int] = deque([-1] * self._outstanding, self._outstanding)
        # Loader.
        self._blocks: deque[_Block] = deque()
        self._burst = 0
        self._burst_at = _NEVER
        self._taken: list[int] = []
        self._walked = 0
        self._load_wait = -1
        self._load_ready = 0
        self._load_end = -1
        self._load_ends: deque[int] = deque([-1] * (IN_FLIGHT + 1), IN_FLIGHT + 1)
        self._accepting = -1
        # Execute, store.
        self._tiles_ready = 0
        self._array_end = 0
        self._modes = 0
        self._store_ready = 0
        self._store_beat = 0
        self._store_free = 0
        self._write_free = 0
        self._response = -1
        self._acknowledged: deque[int] = deque([-1] * self._outstanding, self._outstanding)
        self.waiting = 0
        self.stalls = [0, 0, 0]
        self._counts: list[list[int]] = [[0], [0], [0], [0]]
        self._posted = [0]
        self.begun = np.zeros(len(commands), np.int64)
        self.done = np.zeros(len(commands), np.int64)
        self.cycles = 0

    # Kinds of events, in the order in which those of one cycle count.
    ARRIVED, UNHELD, FREED, SLOT, ROOM, GO, ARRIVES, CHOOSE = range(8)

    def _at(self, time: int, kind: int, value: int = 0) -> None:
        self._order += 1
        heappush(self._events, (time, kind, self._order, value))

    def run(self) -> None:
        events = self._events
        handlers = (self._arrived, self._unheld, self._freed, self._fill_slot, self._see_room, self._go,
                    self._arrives, self._choose)
        while not self.cycles:
            time = self._next_take()
            if events and events[0][0] <= time:
                at, kind, _, value = heappop(events)
                handlers[kind](at, value)
            elif time < _NEVER:
                self._take(time)
            else:
                raise UnendingError(
                    f"a program of {len(self._commands)} commands waits for what never happens, by the model of time")

    # Requests to the read channel.

    def _next_take(self) -> int:
        """Cycle of the next burst that enters the address register, as far as is known."""
        load = self._burst_at
        if load < _NEVER:
            load = max(load, self._load_ends[0] + 1)
            if self._blocks[0].fill:
                return load
        return max(self._ar_free, min(load, self._fetch_at))

    def _take(self, time: int) -> None:
        load_valid = self._burst_at <= time and self._load_ends[0] < time
        if load_valid and self._blocks[0].fill:
            self._take_load(time, 0)
            return
        fetch_valid = self._fetch_at <= time
        fetch = fetch_valid
        if fetch_valid and load_valid:
            held, valid, filling = self._held, self._valid, self._filling
            hungry = not (held[0] or valid[0] or filling[0]) or not (held[1] or valid[1] or filling[1])
            fetch = hungry and self._in_flight < Fetch.PRESSING and self._turn == 0
        handshake = max(time + 1, self._ends[0] + 1)
        self._ar_free = handshake
        if fetch:
            self._turn = 1
            start = max(handshake + self._latency, self._data_free)
            end = self._finish_data(start, self._c.beats)
            self._in_flight += 1
            self._fetch_ends.append(end)
            if self._next <= len(self._commands):
                self._at(start, self.ARRIVES, self._next)
            self._at(end + 1, self.ARRIVED, self._next)
            self._next += 1
            self._fetch_at = _NEVER
            self._may_fetch(time + 1)
        else:
            self._turn = 0
            self._take_load(time, handshake)

    def _may_fetch(self, time: int) -> None:
        """Request the next command from `time` on, unless too many are in flight or it lies beyond the end."""
        ahead = self._c.ahead
        if self._room and self._in_flight < ahead and self._next < max(len(self._commands) + 1, ahead):
            self._fetch_at = min(self._fetch_at, time)

    def _finish_data(self, start: int, beats: int) -> int:
        """Last cycle of a burst's data, which occupy the channel."""
        end = start + (beats if self._rate == 1 else max(beats, round(beats / self._rate))) - 1
        self._data_free = end + 1
        self._ends.append(end)
        return end

    def _take_load(self, time: int, handshake: int) -> None:
        block = self._blocks[0]
        beats = block.bursts[self._burst]
        self._load_ends.append(self._load_end)
        if block.fill:
            self._load_end = max(time + 2, self._load_end + 1) + beats - 1
        else:
            start = max(handshake + self._latency, self._data_free, self._load_end + 1)
            self._load_end = self._finish_data(start, beats)
        self._burst += 1
        taken = len(self._taken)
        self._taken.append(time)
        if self._burst == len(block.bursts):
            self._finished(_LOAD, block.number, self._load_end + self._c.load_done)
            self._blocks.popleft()
            self._burst = 0
            self._burst_at = max(time + 1, self._blocks[0].accepted + _WALK) if self._blocks else _NEVER
        else:
            self._burst_at = time + 1
        if taken == self._load_wait:
            self._load_wait = -1
            self._load_ready = max(self._load_ready, time + 1)
            if self._accepting >= 0:
                ready, self._accepting = self._accepting, -1
                self._accept_load(max(ready, self._load_ready))

    # Commands on their way to their slots.

    def _arrives(self, time: int, index: int) -> None:
        """The first beat of a command."""
        if self._stopped:
            return
        queue = self._queue_of[index] if index < len(self._commands) else _LOAD
        busy = self._valid[queue] or self._held[queue] or self._stored[queue]
        if not busy and not any(self._filling):
            self._slot[queue] = index
            self._direct.add(index)
            # The slot is being written, though no beat comes from the memory.
            self._at(time + self._c.needed[queue] + 1, self.SLOT, queue)
            self._direct_until = time + self._c.beats
        else:
            self._stored[queue].append((index, time, time + self._c.beats - 1))
            self._at(time + 1, self.CHOOSE)

    def _arrived(self, time: int, index: int) -> None:
        """The cycle after its last beat."""
        self._in_flight -= 1
        if index == len(self._commands):
            self._stopped = True
            self._fetch_at = _NEVER
        if self._stopped:
            return
        queue = self._queue_of[index]
        if index not in self._direct:
            self._held[queue] += 1
            if self._held[queue] == CommandQueues.DEPTH // 2:
                self._at(time + 1, self.ROOM)
        self._may_fetch(time)

    def _see_room(self, time: int, _: int) -> None:
        self._room = max(self._held) < CommandQueues.DEPTH // 2
        self._fetch_at = _NEVER
        self._may_fetch(time)

    def _unheld(self, time: int, queue: int) -> None:
        self._held[queue] -= 1
        self._at(time + 1, self.ROOM)
        self._at(time, self.CHOOSE)

    def _choose(self, time: int, _: int) -> None:
        """Begin to copy the oldest command of an empty slot's queue."""
        if time < self._read_until or time < self._direct_until:
            return
        for queue in range(4):
            stored = self._stored[queue]
            if self._valid[queue] or self._filling[queue] or not stored or stored[0][1] >= time \
                    or self._slot[queue] >= 0:
                continue
            if any(entries and entries[-1][1] == time for entries in self._stored):
                self._at(time + 1, self.CHOOSE)
                return
            index, first, last = stored.popleft()
            needed = self._c.needed[queue]
            read = max(time + self._c.beats, last + 1)
            self._filling[queue] = True
            self._slot[queue] = index
            self._at(max(time, first) + 1 + needed + CommandQueues.LATENCY, self.SLOT, queue)
            self._read_until = read + 1
            self._at(max(read + 1, last + 2), self.UNHELD, queue)
            self._at(read + 1, self.CHOOSE)
            return

    def _fill_slot(self, time: int, queue: int) -> None:
        self._valid[queue], self._filling[queue] = True, False
        self._slot_at[queue] = time
        self._gated[queue] = False
        self._gate(queue)
        self._at(max(time, self._direct_until), self.CHOOSE)

    def _gate(self, queue: int) -> None:
        """Let the command in a slot go once all it waits for is known to complete."""
        index = self._slot[queue]
        ready = self._slot_at[queue] + _CAME
        if index == len(self._commands):
            if any(len(self._counts[each]) <= self._queue_of.count(each) for each in range(4)):
                return
            last = max(counts[-1] for counts in self._counts)
            self.cycles = max(ready, last + _DONE) + 2
            self._count_stalls(max(self._tiles_ready, 2), _NEVER, _NEVER, self.cycles)
            return
        for each, name in enumerate(_NAMES):
            count = self._commands[index].waits.get(name, 0)
            if count:
                counts = self._posted if (queue, each) == (_EXECUTE, _POST) else self._counts[each]
                if len(counts) <= count:
                    return
                ready = max(ready, counts[count] + _DONE)
        self._gated[queue] = True
        self._at(ready, self.GO, queue)

    def _finished(self, queue: int, index: int, time: int) -> None:
        """A command's completion has become known."""
        self.done[index] = time
        self._counts[queue].append(time)
        for each in range(4):
            if self._valid[each] and not self._gated[each]:
                self._gate(each)

    def _freed(self, time: int, queue: int) -> None:
        self._valid[queue] = False
        self._slot[queue] = -1
        self._at(time, self.CHOOSE)

    # Engines.

    def _go(self, time: int, queue: int) -> None:
        if queue == _LOAD:
            if self._load_wait >= 0:
                self._accepting = time
            else:
                self._accept_load(max(time, self._load_ready))
        elif queue == _EXECUTE:
            self._execute(time)
        elif queue == _POST:
            self._post(time)
        else:
            self._store(max(time, self._store_ready))

    def _accept_load(self, time: int) -> None:
        index = self._slot[_LOAD]
        body = self._commands[index].body
        bursts, last_row = burst_sizes(self._config, body)
        self.begun[index] = time
        self._at(time + 1, self.FREED, _LOAD)
        self._blocks.append(_Block(time, bursts, bool(body.get("fill")), index))
        if len(self._blocks) == 1:
            self._burst_at = max(time + _WALK, self._taken[-1] + 1 if self._taken else 0)
        # The next block is taken when this one's last row has left the first stage.
        self._walked += len(bursts)
        before = self._walked - last_row - 2
        self._load_ready = time + body["count1"] * body["count2"] + 1
        if before >= len(self._taken):
            self._load_wait = before
        elif before >= 0:
            self._load_ready = max(self._load_ready, self._taken[before] + 1)

    def _execute(self, time: int) -> None:
        index, constants = self._slot[_EXECUTE], self._c
        body = self._commands[index].body
        pixels = body["m_count0"] * body["m_count1"] * body["m_count2"]
        stationary = body.get("output_stationary", 0)
        slots = constants.slots_left if body.get("left") else constants.slots_top
        time = max(time, self._tiles_ready)
        if stationary != self._modes:
            self._modes = stationary
            time = max(time, self._counts[_EXECUTE][-1] + 1)
        if stationary:
            tiles = body["n_count"]
            pixels *= constants.turns
            longest = constants.turns * max(body["m_count0"], body["m_count1"], body["m_count2"])
            # A tile that may be too short waits until the one before has drained.
            period = max(pixels, constants.slots_top)
            if longest < constants.drain:
                period = pixels - constants.turns + constants.drain + 2
        else:
            tiles = body["n_count"] * contraction_tiles(
                self._config.array.rows, body["k_total"], body["run"], body.get("fold", 0))
            period = max(pixels, slots)
        self.begun[index] = time
        came, idle = self._slot_at[_EXECUTE], max(self._tiles_ready, 2)
        loaded = max(came, self._counts[_LOAD][self._commands[index].waits.get("load", 0)] + 1)
        self._count_stalls(idle, came, loaded, time)
        start = max(time + constants.prepare + slots, self._array_end + 1)
        self.waiting += start - max(time + 1, self._array_end + 1) + (tiles - 1) * (period - pixels)
        self._tiles_ready = start + (tiles - 1) * period
        self._array_end = self._tiles_ready + pixels - 1
        self._at(time + 1, self.FREED, _EXECUTE)
        # Sums that leave row by row begin to with the first of the last vectors that take turns.
        left = constants.leaving - (constants.turns - 1) if stationary else 0
        self._finished(_EXECUTE, index, self._array_end + constants.through + left)

    def _count_stalls(self, idle: int, came: int, loaded: int, begun: int) -> None:
        """Count why the execute engine had nothing to do from `idle` to `begun`."""
        self.stalls[2] += max(0, min(came, begun) - idle)
        self.stalls[0] += max(0, min(loaded, begun) - max(idle, came))
        self.stalls[1] += max(0, begun - max(idle, loaded))

    def _post(self, time: int) -> None:
        index, constants = self._slot[_POST], self._c
        body = self._commands[index].body
        groups = body["n_count"] * body["m_count"] * constants.groups
        self.begun[index] = time
        # An EXECUTE need only wait until the sums have been read.
        taken = time + 1 + max(groups, constants.settings)
        self._posted.append(taken)
        self._at(taken + 1, self.FREED, _POST)
        self._finished(_POST, index, time + groups + constants.post + 1)

    def _store(self, time: int) -> None:
        index = self._slot[_STORE]
        body = self._commands[index].body
        bursts, last_row = burst_sizes(self._config, body)
        self.begun[index] = time
        rows = 1 if body.get("profile") else body["count1"] * body["count2"]
        requested = time + _WALK - 1
        moved = [self._store_beat]
        acknowledged, rate = self._acknowledged, self._rate
        for beats in bursts:
            # The burst before has been read, and the address register is free.
            requested = max(requested + 1, self._store_beat, self._store_free)
            address = max(requested + 1, acknowledged[0] + 1)
            self._store_free = address
            self._store_beat = requested + beats
            first = max(requested + self._c.store_data, self._write_free)
            self._write_free = first + (beats if rate == 1 else max(beats, round(beats / rate)))
            self._response = max(self._response + 1, max(self._write_free - 1, address) + self._write_latency)
            acknowledged.append(self._response)
            moved.append(requested)
        before = len(bursts) - last_row - 1
        self._store_ready = max(time + rows + 1, moved[max(before, 0)] + 1)
        self._at(time + 1, self.FREED, _STORE)
        self._finished(_STORE, index, self._response + 1)


def timeline(config: Config, commands: Sequence[Command]) -> Timeline:
    """Run a program's queues, ports and engines against each other.

    Parameters
    ----------
    config : Config
        Configuration; its memory's timing counts.
    commands : sequence of Command
        The program, without its END.

    Returns
    -------
    Timeline

    Raises
    ------
    UnendingError
        If the program would never end.
    """
    machine = _Machine(config, commands)
    machine.run()
    fetched = sum(end < machine.cycles for end in machine._fetch_ends)
    return Timeline(machine.begun, machine.done, machine.cycles, fetched, machine.waiting,
                    (machine.stalls[0], machine.stalls[1], machine.stalls[2]))
