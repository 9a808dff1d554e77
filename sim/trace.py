"""What the trace port of a design said in a run: cycles by cause, and which commands and bursts went when."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..hdl.shell.ledger import Cause

__all__ = ["BUS", "Burst", "Trace", "by_cause", "packed"]

#: What may move on the bus in a cycle, in the order of their bits: addresses, beats, last beats, responses.
BUS = ("ar", "r", "r_last", "aw", "w", "w_last", "b")

#: Lowest bit of what moved, and of each queue's signals, in a word of :attr:`Trace.changes`.
_BUS_AT, _OPEN_AT, _TAKE_AT, _DONE_AT = 8, 16, 24, 32


class Burst(NamedTuple):
    """A burst on the bus, in the order of the addresses; reads and writes are told apart by ``write``."""

    address: int
    beats: int
    write: int


def packed(cause: int, moved: int, opened: int, taken: int, done: int) -> int:
    """Signals of a cycle as one word: the cause, what moved on the bus (:data:`BUS`), a bit for each queue."""
    return cause | moved << _BUS_AT | opened << _OPEN_AT | taken << _TAKE_AT | done << _DONE_AT


@dataclass
class Trace:
    """Signals of a run, where they change.

    Parameters
    ----------
    changes : list of (int, int)
        Cycle of the simulation, and signals from that cycle on (:func:`packed`).
    bursts : list of Burst
        Bursts in the order of their addresses.
    """

    changes: list[tuple[int, int]] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)

    def note(self, cycle: int, signals: int) -> None:
        """Note the signals of a cycle, after those of the cycles before."""
        if not self.changes or self.changes[-1][1] != signals:
            self.changes.append((cycle, signals))


def by_cause(counts: Sequence[int]) -> Counter[Cause]:
    """Cycles by cause, of counts in the order of the causes' numbers; causes of no cycle are left out."""
    return Counter({cause: counts[cause.value] for cause in Cause if cause is not Cause.NONE and counts[cause.value]})
