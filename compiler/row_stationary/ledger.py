"""To which cause each cycle of a program of attention is charged on a row-stationary accelerator."""

from collections import Counter
from collections.abc import Mapping

from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.shell.ledger import Cause
from ...memory import DEFAULT_MEMORY, MemoryTiming
from ..program import Program
from ..timing.ledger import Signals, by_cause, charges
from .timeline import Timeline, timeline

__all__ = ["predicted_ledger"]


def _add_array(signals: Signals, times: Timeline, commands: Mapping[int, Mapping[str, int]]) -> None:
    """What the array says: it works, is offered filters or ifmap words, or is being set up.

    PEs work as many cycles as they have products, the last ones before these end; in the others they wait for what
    they are offered.
    """
    worked = 0
    for index in commands:
        if index not in times.passes:
            signals.add("fill", int(times.begun[index]) + 1, int(times.done[index]) + 1)
            continue
        passed = times.passes[index]
        signals.add("weights", *passed.filters_offered.tolist())
        signals.add("activations", *passed.ifmap_offered.tolist())
        for end, products in passed.worked.tolist():
            signals.add("work", max(end - products, worked), end)
            worked = end


def predicted_ledger(config: RowStationaryConfig, program: Program,
                     timing: MemoryTiming = DEFAULT_MEMORY) -> Counter[Cause]:
    """Cycles of a program by cause: the sum exactly as :func:`~.timeline.timeline` has it, causes nearly so."""
    times = timeline(config, program, timing)
    return by_cause(charges(config, program, timing, times,
                            lambda signals, commands: _add_array(signals, times, commands)))
