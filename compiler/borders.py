"""Borders between parts of a program: what commands behind one wait for, when not for all before it.

Whoever comes behind a border waits for all commands before it. A LOAD need wait for those alone that use its place, or
store what it reads; and what an EXECUTE reads its LOADs have waited for, and sums leave by POSTs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ..hdl.shell.commands import Opcode
from .dependences import Stored, Uses, target_of
from .kernels.views import Buffer
from .moves import copied
from .program import QUEUES, Command

__all__ = ["eased"]

_POST, _STORE, _MOVE = (QUEUES[opcode] for opcode in (Opcode.POST, Opcode.STORE, Opcode.MOVE))


class _Border:
    """Waits behind a border.

    Parameters
    ----------
    place : int
        Of the first command behind it.
    counts : mapping of str to int
        Commands of each queue before it.
    """

    def __init__(self, place: int, counts: Mapping[str, int]):
        self._place, self._counts = place, counts

    def waits(self, command: Command, needed: Mapping[str, int]) -> dict[str, int]:
        """Waits of a command that needs so many of those before the border, beside what it waits for behind it."""
        return {queue: wait if wait > self._counts[queue] else needed.get(queue, 0)
                for queue, wait in command.waits.items()}

    def of_load(self, place: int, command: Command, uses: Uses, stored: Stored, memories: Collection[int],
                wanted: Collection[Buffer]) -> Command:
        """A LOAD with what it must wait for."""
        if (field := target_of(command, memories)) is not None:
            near = copied(command.body, field)
            needed = uses.last(command.body.get("destination", 0), int(near.min()), int(near.max()) + 1, self._place)
        else:
            # Memories of post-processing are read by POSTs.
            needed = {_POST: self._counts[_POST]}
        if _reads(command, wanted):
            # Where they are stored may follow from a position.
            needed[_STORE] = self._counts[_STORE]
        elif place in stored.reloads:
            needed[_STORE] = max(stored.ordinals[store] for store in stored.reloads[place].stores)
        return replace(command, waits=self.waits(command, needed))

    def of_execute(self, command: Command) -> Command:
        """An EXECUTE with what it must wait for."""
        kept = {queue: count for queue, count in self._counts.items() if queue not in (_STORE, _MOVE)}
        return replace(command, waits=self.waits(command, kept))


def _reads(command: Command, buffers: Collection[Buffer]) -> bool:
    """Whether a LOAD reads something of some tensors."""
    if command.body.get("fill"):
        return False
    far = copied(command.body, "dram")
    first, end = far.min(), far.max() + 1
    return any(first < buffer.address + buffer.nbytes and buffer.address < end for buffer in buffers)


def eased(commands: Sequence[Command], ends: Sequence[int], uses: Uses, stored: Stored, memories: Collection[int],
          wanted: Collection[Buffer]) -> list[Command]:
    """Commands of parts without waits at borders that nobody needs.

    Parameters
    ----------
    ends : sequence of int
        Places behind the last command of each part.
    uses, stored : Uses, Stored
        What they use of scratchpads, and of memory.
    memories : collection of int
        Scratchpads of operands.
    wanted : collection of Buffer
        Tensors that must be in memory at the end.
    """
    found: list[Command] = []
    counts = dict.fromkeys(QUEUES.values(), 0)
    border, part = _Border(0, dict(counts)), 0
    for place, command in enumerate(commands):
        while place >= ends[part]:
            part += 1
            border = _Border(place, dict(counts))
        counts[QUEUES[command.opcode]] += 1
        if command.opcode is Opcode.LOAD:
            command = border.of_load(place, command, uses, stored, memories, wanted)
        elif command.opcode is Opcode.EXECUTE:
            command = border.of_execute(command)
        found.append(command)
    return found
