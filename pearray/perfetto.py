"""Traces of runs as files that ui.perfetto.dev opens: causes, commands and what they wait for, bursts.

A microsecond of the trace is a cycle of the run.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .compiler.program import QUEUES, Command, Program
from .hdl.errors import PearrayError
from .hdl.shell.commands import Opcode
from .hdl.shell.ledger import CAUSES, Cause
from .sim.trace import Trace

__all__ = ["trace_events", "write_trace"]

Event = dict[str, Any]

#: Groups of tracks, in the order in which they are shown.
_RUN, _QUEUES, _MEMORY = 1, 2, 3
_GROUPS = {_RUN: "run", _QUEUES: "queues", _MEMORY: "memory"}
#: Tracks of a queue, or of bursts: so many may be under way at a time and still have one each.
_LANES = 64

_NAMES = {account.cause: name for name, account in CAUSES.items()} | {Cause.WORK: "array works"}


def write_trace(path: Path, events: Sequence[Event]) -> None:
    """Write events as a file.

    Raises
    ------
    PearrayError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}) + "\n")
    except OSError as error:
        raise PearrayError(f"--trace file {str(path)!r} cannot be written: {error.strerror}") from None


def trace_events(program: Program, trace: Trace, layers: Sequence[tuple[str, int]]) -> list[Event]:
    """Make the events of a run, in the trace-event format.

    The group ``run`` has a track of layers and one of what each cycle is charged to. The group ``queues`` has a slice
    for each command, from when its gate opens until it is done, and arrows to it from the command it waited for last.
    The group ``memory`` has a slice for each burst, from its address to its last beat or response, and the beats.

    Parameters
    ----------
    program : Program
        What ran.
    trace : Trace
        What was seen.
    layers : sequence of (str, int)
        Names and cycles of the layers, one after another.

    Returns
    -------
    list of dict
        Names of tracks, slices ("X") and arrows ("s" and "f"); times in cycles from the start.
    """
    tracks = _Tracks()
    begin = 0
    for name, cycles in layers:
        tracks.add(_RUN, "layers", begin, begin + cycles, name)
        begin += cycles
    for begin, end, cause in trace.causes():
        tracks.add(_RUN, "cycles charged to", begin, end, _NAMES[cause])
    _add_commands(tracks, program, trace)
    _add_bursts(tracks, trace)
    return [*tracks.names(), *tracks.events]


class _Tracks:
    """Tracks of slices that do not overlap: what does, goes to a further track of the same name."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        #: Number of the first track of each name, and when each of its tracks is free.
        self._numbers: dict[tuple[int, str], int] = {}
        self._free: dict[tuple[int, str], list[int]] = {}

    def add(self, group: int, name: str, begin: int, end: int, title: str,
            args: Mapping[str, Any] | None = None) -> dict[str, int]:
        """Add a slice; return where it stands."""
        key = group, name
        number = self._numbers.setdefault(key, 1 + _LANES * len(self._numbers))
        free = self._free.setdefault(key, [])
        lane = next((index for index, time in enumerate(free) if time <= begin), len(free))
        free[lane:lane + 1] = [end]
        place = {"pid": group, "tid": number + lane}
        self.events.append({"ph": "X", "name": title, "ts": begin, "dur": end - begin, **place,
                            **({"args": dict(args)} if args else {})})
        return place

    def arrow(self, number: int, source: tuple[dict[str, int], int], target: tuple[dict[str, int], int]) -> None:
        """Add an arrow from a time in one slice to the beginning of another."""
        common = {"cat": "wait", "name": "wait", "id": number}
        self.events.append({"ph": "s", **common, "ts": source[1], **source[0]})
        self.events.append({"ph": "f", "bp": "e", **common, "ts": target[1], **target[0]})

    def names(self) -> Iterator[Event]:
        """Events that name and order the tracks."""
        for group, name in _GROUPS.items():
            yield {"ph": "M", "name": "process_name", "pid": group, "args": {"name": name}}
            yield {"ph": "M", "name": "process_sort_index", "pid": group, "args": {"sort_index": group}}
        for (group, name), number in self._numbers.items():
            for tid in range(number, number + len(self._free[group, name])):
                yield {"ph": "M", "name": "thread_name", "pid": group, "tid": tid, "args": {"name": name}}
                yield {"ph": "M", "name": "thread_sort_index", "pid": group, "tid": tid, "args": {"sort_index": tid}}


def _add_commands(tracks: _Tracks, program: Program, trace: Trace) -> None:
    """Add a slice for each command, and an arrow from what opened its gate."""
    commands: dict[Opcode, list[Command]] = {opcode: [] for opcode in QUEUES}
    for command in program.commands:
        commands[command.opcode].append(command)
    times = {opcode: list(trace.commands(index)) for index, opcode in enumerate(QUEUES)}
    places = {opcode: [tracks.add(_QUEUES, opcode.name, begin, done + 1, f"{opcode.name} {number}",
                                  _arguments(command, taken))
                       for number, (command, (begin, taken, done)) in enumerate(zip(commands[opcode], times[opcode],
                                                                                    strict=False))]
              for opcode in QUEUES}
    arrows = 0
    for opcode, own in times.items():
        for number, (begin, _, _) in enumerate(own):
            reached = []
            for other, name in QUEUES.items():
                count = commands[opcode][number].waits.get(name, 0)
                if 0 < count <= len(times[other]):
                    # The place of a POST, and a buffer of an EXECUTE, may be given back before it is done.
                    _, _, done = times[other][count - 1]
                    reached.append((min(done, begin), other, count - 1))
            if reached:
                time, other, source = max(reached, key=lambda item: item[0])
                tracks.arrow(arrows, (places[other][source], time), (places[opcode][number], begin))
                arrows += 1


def _arguments(command: Command, taken: int) -> dict[str, Any]:
    """What is shown of a command that is selected."""
    waits = {f"waits for {name}": count for name, count in command.waits.items() if count > 0}
    return {"taken": taken, **waits, **{name: int(value) for name, value in command.body.items() if value}}


def _add_bursts(tracks: _Tracks, trace: Trace) -> None:
    """Add a slice for each burst, and one for each stretch of beats."""
    for write, (address, end, beats, name) in enumerate((("ar", "r_last", "r", "read"), ("aw", "b", "w", "write"))):
        bursts = (burst for burst in trace.bursts if burst.write == write)
        for burst, begin, last in zip(bursts, trace.moved(address), trace.moved(end), strict=False):
            tracks.add(_MEMORY, f"{name} bursts", begin, last + 1, f"{burst.beats} beats",
                       {"address": f"{burst.address:#010x}", "beats": burst.beats})
        for begin, stop in trace.moving(beats):
            tracks.add(_MEMORY, f"{name} beats", begin, stop, f"{stop - begin} beats")
