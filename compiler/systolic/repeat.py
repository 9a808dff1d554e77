"""Groups that are scheduled as the group before them was: their commands follow from its commands at once.

Long loops come to a steady state. If all that decisions depend on is the same as when a recorded group began, ordinals,
clocks and places taken relative to then, and the steps ahead use tiles in the same pattern, so will be what is decided.
Then the LOADs and EXECUTEs of a whole group are those of the record, with ordinals moved on and the bodies of other
tiles. POSTs and STOREs are emitted one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from ..program import Stream
from ..schedule import Scheduler
from ..scratchpads import Scratchpad
from ..steps import Tile, Use
from .steps import ContractionStep

__all__ = ["LEAST", "Memory", "Repeats"]

#: Steps of a group from which on it pays to look for a repeat.
LEAST = 16
#: Steps of a program from which on.
_WORTH = 1024

#: Columns of the entries of LOADs and EXECUTEs (:class:`~pearray.compiler.program.Stream`).
_PLACE, _BODY, _LOAD, _EXECUTE, _POST, _STORE, _, _FIRST, _SECOND = range(9)


class Memory(Protocol):
    """What of the memory model is told here and changed."""

    pads: dict[int, Scratchpad]
    steps: Sequence[ContractionStep]
    scheduler: Scheduler[ContractionStep]
    executes: Stream
    execute_clock: float
    is_exact: bool

    def constants(self, index: int) -> tuple[Use, ...]:
        """Constants that are wanted with a step."""

    def load_cycles(self, body: Any) -> float:
        """Cycles of a LOAD."""

    def sums_free(self) -> tuple[int, int]:
        """POST that has read the sums of the bank in use last, and the bank."""


@dataclass
class _Placed:
    """A tile in a scratchpad at the end of a record: its place, who it is, and its state, relative to the beginning."""

    span: tuple[int, int]
    source: tuple[bool, int]
    state: "_State"


@dataclass
class _Record:
    """A group's first step and its steps; what decisions rested on, and what they were."""

    index: int
    count: int
    key: object
    counts: tuple[int, int, int]
    clocks: tuple[float, float]
    tiles: dict[int, list[Tile]]
    begins: tuple[int, int]
    #: For each piece that was loaded: its step from the first on, its memory, its place among constants, and cycles.
    log: list[tuple[int, int, int, tuple[float, ...]]] = field(default_factory=list)
    logged: list[Tile] = field(default_factory=list)
    valid: bool = True
    loads: np.ndarray | None = None
    executes: np.ndarray | None = None
    ends: dict[int, list[_Placed]] = field(default_factory=dict)
    moved: tuple[int, int, int, float, float] = (0, 0, 0, 0.0, 0.0)


class Repeats:
    """Records groups, and emits those that repeat them; decisions look `horizon` steps ahead."""

    def __init__(self, memory: Memory, horizon: int):
        self._memory, self._horizon = memory, horizon
        self._record: _Record | None = None
        self._recording = False
        self._count: dict[int, int] = {}
        # MOVEs are emitted between the groups, and change what stands.
        if len(memory.steps) >= _WORTH and not any(
                use.tile.is_resident for step in memory.steps for use in (step.a, step.w)):
            self._measure(memory.steps)

    def _measure(self, steps: Sequence[ContractionStep]) -> None:
        """Find groups, and in which pattern steps use tiles."""
        memory = self._memory
        tiles = {id(use.tile): use.tile for step in steps for use in (step.a, step.w)}
        #: For each step and operand: steps since the tile's use before, whether it has a later one, what it is like.
        self._back, self._more, self._alike = (np.zeros((len(steps), 2), np.int32) for _ in range(3))
        sizes: dict[int, int] = {}
        pads = list(memory.pads)
        for tile in tiles.values():
            at, column = np.array(tile.uses), pads.index(tile.memory)
            self._back[at[1:], column] = np.minimum(np.diff(at), 1 << 20)
            self._more[at[:-1], column] = 1
            self._alike[at, column] = sizes.setdefault(tile.size, len(sizes)) if len(tile.pieces) == 1 else -1
        groups = [step.group for step in steps]
        self._opens = np.array([True] + [group is not before for before, group in pairwise(groups)])
        first = np.flatnonzero(self._opens)
        self._count = dict(zip(first.tolist(), np.diff(first, append=len(steps)).tolist(), strict=True))

    def note(self, step: int, tile: Tile, constant: int = 0) -> None:
        """Note that a step's tile, or one of its constants, has been loaded."""
        record = self._record
        if self._recording and record is not None:
            record.log.append((step - record.index, tile.memory, constant,
                               tuple(map(self._memory.load_cycles, tile.pieces[len(tile.ordinals) - 1].loads))))
            record.logged.append(tile)

    def waits(self) -> None:
        """Note that something could not be loaded because it is yet to be stored: another group may find it stored."""
        if self._recording and self._record is not None:
            self._record.valid = False

    def emit(self, index: int) -> int:
        """Emit the rest of a group whose first step has been emitted, if it repeats the record; return its steps."""
        count = self._count.get(index, 0)
        if self._recording:
            return 0
        if count < LEAST or index + count + self._horizon > len(self._memory.steps):
            return 0
        key, record = self._key(index, count), self._record
        if (record is not None and record.valid and record.count == count and record.key == key
                and self._is_timed_alike(record) and self._same(record.index, index, count)
                and self._replay(record, index)):
            return count - 1
        memory, program = self._memory, self._memory.scheduler.program
        self._record = _Record(
            index, count, key, (program.length, program.counts["load"], program.counts["execute"]),
            (memory.scheduler.load_clock, memory.execute_clock),
            {name: list(pad.tiles) for name, pad in memory.pads.items()},
            (len(memory.scheduler.loads.entries), len(memory.executes.entries)))
        self._recording = True
        return 0

    def end(self) -> None:
        """Complete the record of the group that has been emitted."""
        record = self._record
        if not self._recording or record is None:
            return
        self._recording = False
        memory, scheduler = self._memory, self._memory.scheduler
        record.loads = scheduler.loads.table(record.begins[0])
        record.executes = memory.executes.table(record.begins[1])
        length, load, execute = record.counts
        offsets = {id(tile): entry[0] for tile, entry in zip(record.logged, record.log, strict=True)}
        for name, pad in memory.pads.items():
            slots = {id(tile): slot for slot, tile in enumerate(record.tiles[name])}
            record.ends[name] = [_Placed(
                (first, last),
                (True, offsets[id(tile)]) if id(tile) in offsets else (False, slots[id(tile)]),
                _state(tile, load, execute, record.clocks[0]))
                for first, last, tile in zip(pad.firsts, pad.ends, pad.tiles, strict=True)]
        program = scheduler.program
        record.moved = (program.length - length, program.counts["load"] - load, program.counts["execute"] - execute,
                        scheduler.load_clock - record.clocks[0], memory.execute_clock - record.clocks[1])

    def _key(self, index: int, count: int) -> object:
        """All that decisions rest on besides the steps ahead, relative to now."""
        memory, scheduler, reach = self._memory, self._memory.scheduler, count + self._horizon
        loads, executes = scheduler.program.counts["load"], scheduler.program.counts["execute"]
        clock = scheduler.load_clock
        states: list[tuple[object, ...]] = []
        for pad in memory.pads.values():
            for first, last, tile in zip(pad.firsts, pad.ends, pad.tiles, strict=True):
                following = min(tile.uses[0] - index, reach) if tile.uses else 0
                states.append((first, last, following, *_state(tile, loads, executes, clock)))
            states.append(())
        standing = [tuple(bool(use.tile.ordinals) for use in memory.constants(at))
                    for at in (index + np.flatnonzero(self._opens[index + 1:index + reach]) + 1).tolist()]
        return states, standing

    def _is_timed_alike(self, record: _Record) -> bool:
        """Whether clocks stand as they did, or LOADs so far behind the array that none of a group is ever too early."""
        behind = self._memory.execute_clock - self._memory.scheduler.load_clock
        before = record.clocks[1] - record.clocks[0]
        return behind == before or min(behind, before) >= record.moved[3]

    def _same(self, first: int, second: int, count: int) -> bool:
        """Whether the steps ahead of two groups use tiles in the same pattern."""
        reach = count + self._horizon
        if not self._memory.is_exact:
            # Sums of rounded cycles depend on what was added before.
            return False
        for array in (self._back, self._more, self._alike, self._opens):
            a, b = array[first + 1:first + reach], array[second + 1:second + reach]
            if array is self._back:
                a, b = np.minimum(a, reach), np.minimum(b, reach)
            if not np.array_equal(a, b) or (array is self._alike and (a < 0).any()):
                return False
        return True

    def _replay(self, record: _Record, index: int) -> bool:
        """Emit what the record says; return whether it holds."""
        memory, steps = self._memory, self._memory.steps
        scheduler, program = memory.scheduler, memory.scheduler.program
        if any(steps[index + at].body is not steps[record.index + at].body for at in range(1, record.count)):
            return False
        numbers: list[int] = []
        stores: list[int] = []
        constants: list[tuple[int, int, Tile, tuple[int, int]]] = []
        for offset, name, which, cycles in record.log:
            if name in memory.pads:
                tile = _operand(steps[index + offset], name)
            else:
                tile = memory.constants(index + offset)[which].tile
                place = scheduler.pads[name].find(tile, index + offset, None)
                if tile.ordinals or place is None or any(name == each[1] for each in constants):
                    return False
                constants.append((len(numbers), name, tile, place))
            store = tile.pieces[0].ready()
            if store is None or tuple(map(memory.load_cycles, tile.pieces[0].loads)) != cycles:
                return False
            numbers += [program.number(body) for body in tile.pieces[0].loads]
            stores += [store] * len(cycles)
        assert record.loads is not None
        assert record.executes is not None
        length, load, execute = (now - then for now, then in zip(
            (program.length, program.counts["load"], program.counts["execute"]), record.counts, strict=True))
        loads, executes = record.loads.copy(), record.executes.copy()
        loads[:, _PLACE] += np.uint32(length)
        loads[:, _BODY], loads[:, _STORE] = numbers, stores
        loads[:, _EXECUTE] += np.where(loads[:, _EXECUTE] > 0, execute, 0).astype(np.uint32)
        for row, name, tile, (start, clear) in constants:
            scheduler.pads[name].put(tile, start, clear)
            count = len(tile.pieces[0].loads)
            loads[row:row + count, _POST] = clear
            loads[row:row + count, _SECOND] = [start + body["address"] for body in tile.pieces[0].loads]
            tile.ordinals = [program.counts["load"] + row + count]
        scheduler.evicted = sum(pad.evicted for pad in scheduler.pads.values())
        executes[:, _PLACE] += np.uint32(length)
        executes[:, _LOAD] += np.uint32(load)
        executes[:, _POST], executes[:, _FIRST] = memory.sums_free()
        scheduler.loads.extend(loads)
        memory.executes.extend(executes)
        self._advance(record, index, load, execute)
        return True

    def _advance(self, record: _Record, index: int, load: int, execute: int) -> None:
        """Bring tiles and clocks to where they are when the group's steps have been emitted."""
        memory, steps, scheduler = self._memory, self._memory.steps, self._memory.scheduler
        base_load, base_execute, clock = record.counts[1] + load, record.counts[2] + execute, scheduler.load_clock
        for name, pad in memory.pads.items():
            before, tiles = pad.tiles, []
            for tile in before:
                tile.address = -1
            for end in record.ends[name]:
                is_new, at = end.source
                tile = _operand(steps[index + at], name) if is_new else before[at]
                last_use, clear, ordinals, loaded = end.state
                tile.address, tile.loaded = end.span[0], clock + loaded
                tile.last_use = 0 if last_use is None else last_use + base_execute
                tile.clear = 0 if clear is None else clear + base_execute
                tile.ordinals = [ordinal + base_load for ordinal in ordinals]
                tiles.append(tile)
            for tile in before:
                if tile.address < 0:
                    tile.ordinals = []
            pad.tiles, pad.refused = tiles, None
            pad.firsts, pad.ends = ([end.span[edge] for end in record.ends[name]] for edge in (0, 1))
        for at in range(index + 1, index + record.count):
            steps[at].a.tile.uses.popleft()
            steps[at].w.tile.uses.popleft()
        scheduler.load_clock += record.moved[3]
        memory.execute_clock += record.moved[4]


#: Of a tile, relative to some LOAD, EXECUTE and cycle: its last use, what it waited for, its LOADs, when it came.
_State = tuple[int | None, int | None, tuple[int, ...], float]


def _state(tile: Tile, load: int, execute: int, clock: float) -> _State:
    last_use, clear = (ordinal - execute if ordinal else None for ordinal in (tile.last_use, tile.clear))
    return last_use, clear, tuple(ordinal - load for ordinal in tile.ordinals), tile.loaded - clock


def _operand(step: ContractionStep, memory: int) -> Tile:
    """Tile of a step that stands in a memory."""
    return step.a.tile if step.a.tile.memory == memory else step.w.tile
