"""When the commands of a program of attention run on a row-stationary accelerator."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ...hdl.row_stationary.commands import Destination
from ...hdl.row_stationary.config import RowStationaryConfig
from ...memory import DEFAULT_MEMORY, MemoryTiming
from ..program import Program
from ..timing import machine
from ..timing.latencies import SharedLatencies
from ..timing.machine import EXECUTE, LOAD, Machine
from ..timing.queues import FREED
from .pass_times import Passed, PassTimes
from .setup import setup_size

__all__ = ["Timeline", "timeline"]


@cache
def _latencies(config: RowStationaryConfig) -> SharedLatencies:
    return SharedLatencies(**SharedLatencies.shared(config, 0))


@dataclass
class Timeline(machine.Timeline):
    """What :func:`timeline` finds."""

    #: Passes by the places of their commands.
    passes: dict[int, Passed]


class _Machine(Machine):
    """State of shell and array while a program runs."""

    def __init__(self, config: RowStationaryConfig, program: Program, timing: MemoryTiming):
        #: Cycles in which EXECUTEs gave their filters, and their ifmaps, back.
        self._filters_freed, self._ifmaps_freed = [0], [0]
        super().__init__(config, program, timing, _latencies(config))
        self._array, self._setup = PassTimes(config), setup_size(config)
        self.passes: dict[int, Passed] = {}

    def _counted(self, queue: int, other: int, body: Mapping[str, int]) -> list[int]:
        if (queue, other) == (LOAD, EXECUTE):
            is_filters = body.get("destination") == Destination.FILTER_BUFFER.value
            return self._filters_freed if is_filters else self._ifmaps_freed
        return super()._counted(queue, other, body)

    def _execute(self, time: int) -> None:
        index = self._slot[EXECUTE]
        body = self._bodies[index]
        if body.get("setup"):
            time = max(time, self._counts[EXECUTE][-1] + 1)
            done = self._array.set_up(time, self._setup)
            freed = done, done
        else:
            passed = self.passes[index] = self._array.take(time, body)
            time, done, freed = passed.begun, passed.done, (passed.filters_read, passed.ifmap_read)
        self.begun[index] = time
        self._count_waits(time)
        self._array_ready = time + 1
        self._at(time + 1, FREED, EXECUTE)
        self._filters_freed.append(freed[0] + 1)
        self._ifmaps_freed.append(freed[1] + 1)
        self._finished(EXECUTE, index, done)


def timeline(config: RowStationaryConfig, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> Timeline:
    """Run a program's queues, ports and engines against each other.

    Parameters
    ----------
    config : RowStationaryConfig
        The accelerator.
    program : Program
        Commands, whose passes find their filters in matrices.
    timing : MemoryTiming
        Timing of the memory behind it.

    Raises
    ------
    UnendingError
        If the program would never end.
    """
    running = _Machine(config, program, timing)
    running.run()
    return Timeline(**running.times(), passes=running.passes)
