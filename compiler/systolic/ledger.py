"""To which cause each cycle of a program is charged on a systolic accelerator."""

from collections import Counter
from collections.abc import Mapping

from ...hdl.shell.config import Config
from ...hdl.shell.ledger import Cause
from ...memory import DEFAULT_MEMORY, MemoryTiming
from ..program import Program
from ..timing.ledger import Signals, by_cause, charges
from .timeline import Timeline, timeline
from .timing import execution

__all__ = ["predicted_charges", "predicted_ledger"]


def _add_array(signals: Signals, config: Config, times: Timeline, commands: Mapping[int, Mapping[str, int]]) -> None:
    """What the array says: it works on vectors, or has a command and waits for weights, or for a drain."""
    free = 0
    for index, body in commands.items():
        vectors, tiles, period, _, _ = execution(config, body)
        name = "fill" if body.get("output_stationary") else "weights"
        start = times.starts[index]
        signals.add(name, max(int(times.begun[index]) + 1, free), start)
        if period == vectors:
            vectors, tiles = vectors * tiles, 1
        for tile in range(tiles):
            signals.add("work", start + tile * period, start + tile * period + vectors)
            if tile < tiles - 1:
                signals.add(name, start + tile * period + vectors, start + (tile + 1) * period)
        free = start + (tiles - 1) * period + vectors


def predicted_charges(config: Config, program: Program,
                      timing: MemoryTiming = DEFAULT_MEMORY) -> list[tuple[int, int, Cause]]:
    """Charge each cycle of a program to a cause; see :func:`~..timing.ledger.charges`."""
    times = timeline(config, program, timing)
    return charges(config, program, timing, times,
                   lambda signals, commands: _add_array(signals, config, times, commands))


def predicted_ledger(config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> Counter[Cause]:
    """Cycles of a program by cause."""
    return by_cause(predicted_charges(config, program, timing))
