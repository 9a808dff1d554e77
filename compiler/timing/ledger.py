"""To which cause each cycle of a program is charged.

Signals of the shell that :class:`~pearray.hdl.shell.ledger.Ledger` looks at hold for stretches of cycles, whose ends a
:class:`~.machine.Timeline` knows. Between two ends nothing changes, so each stretch is charged once, by the same rules.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ...hdl.shell.commands import COMMAND_BYTES
from ...hdl.shell.config import Config
from ...hdl.shell.ledger import Cause
from ...memory import MemoryTiming
from ..program import Program
from .bursts import bursts
from .machine import EXECUTE, LOAD, MOVE, POST, STORE, Timeline
from .ports import NEVER, Block, ReadPort

__all__ = ["AddArray", "Signals", "by_cause", "charges"]

#: From the end of what a command waits for to its count; and cycles of a run before, and behind, those of its engines.
_COUNTED, _BEFORE, _BEHIND = 1, 2, 1

#: Value of a beat that goes to the weights or to post-processing, and of one that goes to the activations.
_ELSEWHERE, _TO_ACTIVATIONS = 1, 2

#: Stretches of cycles: first ones, those behind the last, and a value of each.
_Spans = tuple[list[int], list[int], list[int]]


@dataclass
class Signals:
    """Stretches of cycles in which each signal holds, by its name."""

    spans: dict[str, _Spans] = field(default_factory=dict)

    def add(self, name: str, begin: int, end: int, value: int = 1) -> None:
        """Let a signal have a value from cycle `begin` on, up to `end`; stretches come in order."""
        if begin < end:
            begins, ends, values = self.spans.setdefault(name, ([], [], []))
            begins.append(begin)
            ends.append(end)
            values.append(value)

    def sampled(self, name: str, cycles: np.ndarray) -> np.ndarray:
        """Value of a signal in each of some cycles, in order; zero where it has none."""
        if name not in self.spans:
            return np.zeros(len(cycles), np.int64)
        begins, ends, values = map(np.array, self.spans[name])
        place = np.searchsorted(begins, cycles, "right") - 1
        return np.where((place >= 0) & (cycles < ends[place]), values[place], 0)


#: Adds what an array says of its EXECUTEs, whose bodies are given by their places in the program.
AddArray = Callable[[Signals, Mapping[int, Mapping[str, int]]], None]


def _add_loads(signals: Signals, config: Config, timing: MemoryTiming, times: Timeline,
               commands: Mapping[int, Mapping[str, int]]) -> None:
    """What the loader and fetching do: the bursts that were taken, in order, pass the port again."""
    port, beats = ReadPort(config, timing), max(1, COMMAND_BYTES // config.beat_bytes)
    fetches, last = iter([*times.fetches, NEVER]), -1
    fetch = next(fetches)
    activations = {each.value for each in config.commands.activations}
    taken = iter(times.loads)
    for index, body in commands.items():
        found, fill = bursts(config, body), bool(body.get("fill"))
        port.add(Block(int(times.begun[index]), found, fill, index))
        destination = _TO_ACTIVATIONS if body.get("destination") in activations else _ELSEWHERE
        for size in found.sizes:
            time = next(taken)
            while fetch < time:
                fetch = _pass_fetch(signals, port, fetch, beats, fetches)
            if fill:
                port.fill(time)
            else:
                port.load(time, time + 1, NEVER, -1)
            first = port.load_end - size + 1
            signals.add("busy", max(time + 2, last + 1), port.load_end + 1)
            signals.add("beat", first, port.load_end + 1, destination)
            last = port.load_end
    while fetch < NEVER:
        fetch = _pass_fetch(signals, port, fetch, beats, fetches)


def _pass_fetch(signals: Signals, port: ReadPort, time: int, beats: int, fetches: Iterator[int]) -> int:
    """Let the burst of a fetch pass; return when the next one was taken."""
    first, end = port.fetch(time, beats)
    signals.add("fetching", first, end + 1)
    return next(fetches)


def _add_posts(signals: Signals, times: Timeline, commands: Iterable[int]) -> None:
    """When post-processing keeps a command."""
    for index in commands:
        signals.add("posting", int(times.begun[index]) + 1, times.kept[index])


def _add_queues(signals: Signals, program: Program, times: Timeline, queues: int) -> list[np.ndarray]:
    """Which command stands in each slot, counted from 1; return until when each waits for each queue."""
    length = program.length
    reached = np.zeros((queues, length + 2), np.int64)
    queue_of, waits = np.zeros(length + 1, np.int64), np.zeros((length + 1, MOVE + 1), np.int64)
    for stream, place, _, numbers, _ in program.entries():
        queue_of[place], waits[place, :len(numbers)] = stream.opcode.value - 1, numbers
    waits[length, :len(program.counts)] = [*program.counts.values()]
    for each in range(queues):
        done = np.concatenate(([-_COUNTED], times.done[queue_of[:length] == each]))
        counted = done[waits[:, each]]
        if each == POST:
            posted = np.array([-_COUNTED, *times.posted[1:]])
            counted = np.where(queue_of == EXECUTE, posted[waits[:, each]], counted)
        reached[each, 1:] = counted + _COUNTED
    left = np.minimum(times.left, times.cycles) + 1
    for index in range(length + 1):
        if times.came[index] < NEVER:
            signals.add(f"slot_{queue_of[index]}", int(times.came[index]), int(left[index]), index + 1)
    return [*reached]


def charges(config: Config, program: Program, timing: MemoryTiming, times: Timeline,
            add_array: AddArray) -> list[tuple[int, int, Cause]]:
    """Charge each cycle of a program to a cause.

    Parameters
    ----------
    config, program, timing
        What runs, and the memory behind it.
    times : Timeline
        When its commands do.
    add_array : callable
        Adds what the array says to the signals, ``work``, ``weights``, ``activations`` and ``fill``, for the bodies
        of all EXECUTEs by their places in the program.

    Returns
    -------
    list of (int, int, Cause)
        Stretches of cycles, counted from the start write: the first, that behind the last, and their cause.
    """
    signals = Signals()
    queues = len(config.commands.queues)
    bodies: list[dict[int, Mapping[str, int]]] = [{} for _ in range(queues)]
    for stream, place, body, _, values in program.entries():
        bodies[stream.opcode.value - 1][place] = {**body, **dict(zip(stream.fields, values, strict=True))}
    # Streams come one after another, the commands of a queue in the order of the program.
    bodies = [dict(sorted(each.items())) for each in bodies]
    add_array(signals, bodies[EXECUTE])
    _add_loads(signals, config, timing, times, bodies[LOAD])
    _add_posts(signals, times, bodies[POST])
    reached = _add_queues(signals, program, times, queues)
    signals.add("fetched", times.fetched_at, NEVER)
    for (begin, has), (end, _) in pairwise([*times.rooms, (NEVER, True)]):
        signals.add("full", begin, end, not has)
    ends = [end for begins, ends, _ in signals.spans.values() for end in (*begins, *ends)]
    ends += [int(each) for queue in reached for each in queue]
    edges = np.unique([0, _BEFORE, times.cycles - _BEHIND, times.cycles,
                       *(end for end in ends if 0 < end < times.cycles)])
    begins = edges[:-1]
    causes = _causes(signals, reached, begins, times.cycles)
    return [(begin, end, Cause(cause)) for begin, end, cause in zip(
        begins.tolist(), edges[1:].tolist(), causes.tolist(), strict=True)]


def by_cause(charged: Iterable[tuple[int, int, Cause]]) -> Counter[Cause]:
    """Cycles of a program by cause, of the stretches of :func:`charges`."""
    counts: Counter[Cause] = Counter()
    for begin, end, cause in charged:
        counts[cause] += end - begin
    return counts


def _first(*choices: tuple[np.ndarray, Cause], otherwise: np.ndarray | Cause) -> np.ndarray:
    """Of each cycle the first cause whose condition holds."""
    rest = np.asarray(otherwise.value if isinstance(otherwise, Cause) else otherwise, np.int64)
    return np.select([condition for condition, _ in choices], [np.int64(cause.value) for _, cause in choices], rest)


def _causes(signals: Signals, reached: list[np.ndarray], cycles: np.ndarray, total: int) -> np.ndarray:
    """What some cycles are charged to; see :class:`~pearray.hdl.shell.ledger.Ledger`."""
    slots = [signals.sampled(f"slot_{queue}", cycles) for queue in range(len(reached))]
    there = [slot > 0 for slot in slots]
    none = np.zeros(len(cycles), bool)

    def waits(queue: int) -> list[np.ndarray]:
        """For which queues the oldest command of a queue waits; for none if there is no such queue."""
        found = [there[queue] & (cycles < ends[slots[queue]]) for ends in reached] if queue < len(reached) else []
        return [*found, *[none] * (MOVE + 1 - len(found))]

    load, execute, post, store, move = map(waits, range(MOVE + 1))
    busy, fetching, fetched, full, work, weights, activations, fill = (
        signals.sampled(name, cycles) > 0 for name in (
            "busy", "fetching", "fetched", "full", "work", "weights", "activations", "fill"))
    kept = signals.sampled("posting", cycles) > 0
    post = [each & ~kept for each in post]
    beat, empty = signals.sampled("beat", cycles), ~there[EXECUTE]

    to_load = np.where(empty, fetched | full, execute[LOAD])
    idle = to_load & ~busy
    to_move = execute[MOVE] & ~np.any(execute[:MOVE], 0) | idle & load[MOVE] & ~np.any(load[:MOVE], 0)
    to_store = idle & np.where(there[LOAD], load[STORE] & ~load[POST], full) \
        | execute[STORE] & ~execute[LOAD] & ~execute[POST]
    to_post = idle & load[POST] | execute[POST] & ~execute[LOAD] | to_move & move[POST] | to_store & store[POST]
    loads = to_load | to_move & move[LOAD] & ~move[POST] | to_post & post[LOAD]
    loading = _first((beat == _TO_ACTIVATIONS, Cause.ACTIVATIONS), (beat > 0, Cause.WEIGHTS),
                     (fetching, Cause.PROGRAM_FETCH), otherwise=Cause.MEMORY_LATENCY)
    posting = _first((post[LOAD], Cause.DEPENDENCY), (post[EXECUTE], Cause.FILL_AND_DRAIN),
                     (post[STORE], Cause.STORES), (post[MOVE], Cause.MOVES), otherwise=Cause.POST_PROCESSING)
    storing = _first((store[EXECUTE], Cause.FILL_AND_DRAIN), (store[MOVE], Cause.MOVES), otherwise=Cause.STORES)
    moving = _first((move[LOAD], Cause.DEPENDENCY), (move[EXECUTE], Cause.FILL_AND_DRAIN),
                    (move[STORE], Cause.STORES), otherwise=Cause.MOVES)
    rest = _first((to_load & load[EXECUTE], Cause.FILL_AND_DRAIN), (empty & fetched, Cause.START_AND_END),
                  (empty & ~full, Cause.PROGRAM_FETCH), (empty | execute[LOAD], Cause.DEPENDENCY),
                  otherwise=Cause.FILL_AND_DRAIN)
    rest = np.where(to_store, storing, np.where(to_move, moving, rest))
    shell = np.where(loads & busy, loading, np.where(to_post, posting, rest))
    return _first(((cycles < _BEFORE) | (cycles >= total - _BEHIND), Cause.START_AND_END), (work, Cause.WORK),
                  (weights, Cause.WEIGHTS), (activations, Cause.ACTIVATIONS), (fill, Cause.FILL_AND_DRAIN),
                  otherwise=shell)
