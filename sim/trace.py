"""What the trace port of a design said in a run: cycles by cause, and which commands and bursts went when."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..hdl.shell.ledger import Cause, Ledger

__all__ = ["BUS", "Burst", "Trace", "by_cause", "packed"]

#: What may move on the bus in a cycle, in the order of their bits: addresses, beats, last beats, responses.
BUS = ("ar", "r", "r_last", "aw", "w", "w_last", "b")

#: Lowest bit of the bus's signals, and of each queue's, in a word of :attr:`Trace.changes`.
_BUS_AT, _OPEN_AT, _TAKE_AT, _DONE_AT = 8, 16, 24, 32
_CAUSE_BITS = 4


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

    @property
    def start(self) -> int:
        """Cycle of the simulation that is the run's first."""
        return next((cycle for cycle, signals in self.changes if signals & (1 << _CAUSE_BITS) - 1), 0) - Ledger.LATENCY

    def causes(self) -> Iterator[tuple[int, int, Cause]]:
        """First cycle of the run, cycle behind the last, and cause of each stretch of cycles with one cause."""
        for begin, end, value in self._runs(0, _CAUSE_BITS):
            yield begin - Ledger.LATENCY, end - Ledger.LATENCY, Cause(value)

    def moving(self, what: str) -> Iterator[tuple[int, int]]:
        """First cycle of the run, and cycle behind the last, of each stretch in which one of :data:`BUS` moves."""
        return ((begin, end) for begin, end, _ in self._runs(_BUS_AT + BUS.index(what), 1))

    def moved(self, what: str) -> list[int]:
        """Cycles of the run in which one of :data:`BUS` moves."""
        return [cycle for begin, end in self.moving(what) for cycle in range(begin, end)]

    def commands(self, queue: int) -> Iterator[tuple[int, int, int]]:
        """Cycles in which each command of a queue may start, is taken and has been completed, in order."""
        opened = [begin for begin, _, _ in self._runs(_OPEN_AT + queue, 1)]
        taken, done = ([cycle for begin, end, _ in self._runs(at + queue, 1) for cycle in range(begin, end)]
                       for at in (_TAKE_AT, _DONE_AT))
        return zip(opened, taken, done, strict=False)

    def _runs(self, low: int, width: int) -> Iterator[tuple[int, int, int]]:
        """Stretches of cycles of the run in which a field has one value that is not zero."""
        mask, start = (1 << width) - 1, self.start
        since, value = 0, 0
        for cycle, signals in self.changes:
            now = signals >> low & mask
            if now != value:
                if value:
                    yield since - start, cycle - start, value
                since, value = cycle, now


def by_cause(counts: Sequence[int]) -> Counter[Cause]:
    """Cycles by cause, of counts in the order of the causes' numbers; causes of no cycle are left out."""
    return Counter({cause: counts[cause.value] for cause in Cause if cause is not Cause.NONE and counts[cause.value]})
