"""Cells of memories, of which it is known which commands have written and read them, to find races."""

import numpy as np

from . import program

__all__ = ["POSTED", "QUEUE_NAMES", "Cells", "ProgramError"]

#: Names of queues in the order of their numbers.
QUEUE_NAMES = list(program.QUEUES.values())

#: Part of a clock besides completed commands: POSTs that have read their sums.
POSTED = len(QUEUE_NAMES)


class ProgramError(Exception):
    """A program does something that the format forbids, or a race."""


class Cells:
    """Cells with the ordinals of their last writer and reader of each queue, to find races.

    Parameters
    ----------
    name : str
        Of the memory.
    cells : int
        How many.
    writer, reader : str or tuple of str
        Queues whose commands write and read them; the first is meant if an access does not name its queue.
    read_by : int, optional
        Part of a clock that tells which commands of the first reader have read; by default those that have completed.
    """

    def __init__(self, name: str, cells: int, writer: str | tuple[str, ...], reader: str | tuple[str, ...],
                 read_by: int | None = None):
        self.name = name
        self.cells = cells
        writers, readers = ((each,) if isinstance(each, str) else each for each in (writer, reader))
        self._written = {QUEUE_NAMES.index(each): np.zeros(cells, np.int32) for each in writers}
        self._read = {QUEUE_NAMES.index(each): np.zeros(cells, np.int32) for each in readers}
        self._writer_queue, self._reader_queue = next(iter(self._written)), next(iter(self._read))
        #: Part of a clock that tells which readers of a queue have read.
        self._read_by = {each: each for each in self._read}
        if read_by is not None:
            self._read_by[self._reader_queue] = read_by

    def check(self, index: np.ndarray) -> None:
        """Check that addresses are inside."""
        if index.size and (index.min() < 0 or index.max() >= self.cells):
            raise ProgramError(f"{self.name} has {self.cells} cells, address {index.max()} is outside")

    def read(self, index: np.ndarray, ordinal: int, clock: np.ndarray, *, internal: bool = False,
             queue: str | None = None) -> None:
        """Note a read, and check that what was written last is there."""
        self.check(index)
        # The queue that writes reads its own results in order: accumulation.
        if internal or not index.size:
            return
        own = self._reader_queue if queue is None else QUEUE_NAMES.index(queue)
        for writer, written in self._written.items():
            latest = written[index].max()
            if latest > clock[writer]:
                raise ProgramError(f"{QUEUE_NAMES[own]} command {ordinal} reads {self.name} that {QUEUE_NAMES[writer]} "
                                   f"command {latest} writes, but waits only for {clock[writer]}")
        self._read[own][index] = ordinal

    def write(self, index: np.ndarray, ordinal: int, clock: np.ndarray, *, queue: str | None = None) -> None:
        """Note a write, and check that what was there has been read, or written by another queue, before."""
        self.check(index)
        if not index.size:
            return
        own = self._writer_queue if queue is None else QUEUE_NAMES.index(queue)
        found = [("reads", each, read[index].max(), clock[self._read_by[each]]) for each, read in self._read.items()]
        found += [("writes", each, written[index].max(), clock[each]) for each, written in self._written.items()
                  if each != own]
        for what, other, latest, known in found:
            if latest > known:
                raise ProgramError(f"{QUEUE_NAMES[own]} command {ordinal} overwrites {self.name} that "
                                   f"{QUEUE_NAMES[other]} command {latest} {what}, but waits only for {known}")
        self._written[own][index] = ordinal
