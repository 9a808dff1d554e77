"""Commands that say which parts of which memories they read and write: what each waits for follows.

Commands of one queue follow one another. One of another queue waits until what it reads has been written, and until
what it writes over has been read or written. Memories have names, those of LOADs' destinations in small letters, and
need not be such: what two commands may not use at a time, as a port, is one that one of them writes.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..hdl.shell.commands import Opcode
from .program import QUEUES, Program, Read

__all__ = ["Hazards", "Region"]


class Region(NamedTuple):
    """Part of a memory, in whatever it is counted."""

    memory: str
    first: int
    end: int


class _Use(NamedTuple):
    """A command's use of a region."""

    first: int
    end: int
    queue: str
    ordinal: int
    is_written: bool


class Hazards:
    """Appends commands to a program whose waits it finds.

    Parameters
    ----------
    program : Program
        Where they go, which holds no others that touch the same memories.
    """

    def __init__(self, program: Program):
        self._program = program
        self._destinations = {each.name.lower(): each.value for each in program.format.destination}
        #: Uses that a later command may have to wait for, by memory.
        self._uses: dict[str, list[_Use]] = {}

    def emit(self, opcode: Opcode, body: Mapping[str, int], reads: Iterable[Region] = (),
             writes: Iterable[Region] = ()) -> int:
        """Append a command that reads and writes some regions, and return its ordinal in its queue."""
        own, waits, reads = QUEUES[opcode], dict.fromkeys(QUEUES.values(), 0), [*reads]
        uses = [(region, False) for region in reads] + [(region, True) for region in writes]
        for region, is_written in uses:
            for use in self._uses.get(region.memory, ()):
                if (use.queue != own and (is_written or use.is_written) and use.first < region.end
                        and region.first < use.end and use.ordinal > waits[use.queue]):
                    waits[use.queue] = use.ordinal
        ordinal = self._program.stream(opcode).append(body, **waits)
        if opcode is Opcode.EXECUTE:
            self._program.reads += [Read(ordinal, self._destinations[region.memory], region.first, region.end)
                                    for region in reads if region.memory in self._destinations]
        for region, is_written in uses:
            self._note(region, _Use(region.first, region.end, own, ordinal, is_written))
        return ordinal

    def _note(self, region: Region, use: _Use) -> None:
        """Take down a use, in the place of those that whoever waits for it need not know.

        A command that writes has waited for what was used before; and who waits for a command waits for those of its
        queue that stand before it.
        """
        kept = [other for other in self._uses.get(region.memory, ())
                if not (use.first <= other.first and other.end <= use.end
                        and (use.is_written or (other.queue == use.queue and not other.is_written)))]
        kept.append(use)
        self._uses[region.memory] = kept
