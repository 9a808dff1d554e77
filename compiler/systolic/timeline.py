"""When a program's commands run on a systolic accelerator."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...hdl.shell.config import Config
from ...hdl.systolic.accumulator import Accumulators
from ...hdl.systolic.slots import CONTINUATION
from ...memory import DEFAULT_MEMORY, MemoryTiming
from ..program import Program
from ..timing import machine
from ..timing.machine import EXECUTE, Machine
from ..timing.queues import FREED
from .timing import Latencies, continues, execution

__all__ = ["Timeline", "timeline"]


@dataclass
class Timeline(machine.Timeline):
    """What :func:`timeline` finds."""

    #: Cycles in which it had a command but waited for weights.
    waiting: int
    #: Cycle of the first operand vector of each EXECUTE, and those whose first tile gets weights passed on diagonally.
    starts: dict[int, int]
    continued: set[int]


class _Machine(Machine):
    """State of shell and array while a program runs."""

    _c: Latencies

    def __init__(self, config: Config, program: Program, timing: MemoryTiming):
        super().__init__(config, program, timing, Latencies.of(config))
        #: EXECUTE taken last, banks of all, and those that continue the tiles of the one before.
        self._before = -1
        self._banks: dict[int, int] = {}
        self.continued: set[int] = set()
        self._array_end = self._mode = self.waiting = 0
        self.starts: dict[int, int] = {}
        for stream, place, body, _, values in program.entries():
            if stream.opcode.value - 1 == EXECUTE:
                self._banks[place] = values[stream.fields.index("bank")] if "bank" in stream.fields else body["bank"]

    def _execute(self, time: int) -> None:
        index, constants = self._slot[EXECUTE], self._c
        body = self._bodies[index]
        vectors, tiles, period, slots, leaving = execution(self._config, body)
        held, time = time, max(time, self._array_ready)
        mode = body.get("output_stationary", 0)
        if mode != self._mode:
            self._mode = mode
            time = max(time, self._counts[EXECUTE][-1] + Accumulators.AHEAD + 1)
        prepare = constants.prepare
        if self._continues(index, body, time, time - held):
            prepare, slots = CONTINUATION, constants.slots_continuing
            self.continued.add(index)
        self._before = index
        self.begun[index] = time
        self._count_waits(time)
        start = self.starts[index] = max(time + prepare + slots, self._array_end + 1)
        self.waiting += start - max(time + 1, self._array_end + 1) + (tiles - 1) * (period - vectors)
        self._array_ready = start + (tiles - 1) * period
        self._array_end = self._array_ready + vectors - 1
        self._at(time + 1, FREED, EXECUTE)
        self._finished(EXECUTE, index, self._array_end + constants.through + leaving)

    def _continues(self, index: int, body: Mapping[str, int], time: int, waited: int) -> bool:
        """Whether an EXECUTE that was held up goes on with the tiles of the one before, which is still in flight."""
        before = self._before
        return (before >= 0 and waited > 0 and time <= self._counts[EXECUTE][-1] + Accumulators.AHEAD
                and (waited >= self._c.wait_continuing or self._banks[index] == self._banks[before])
                and continues(self._config, body, self._bodies[before]))


def timeline(config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> Timeline:
    """Run a program's queues, ports and engines against each other.

    Raises
    ------
    UnendingError
        If the program would never end.
    """
    running = _Machine(config, program, timing)
    running.run()
    return Timeline(**running.times(), waiting=running.waiting, starts=running.starts, continued=running.continued)
