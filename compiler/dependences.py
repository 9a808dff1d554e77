"""What commands of a program use: bytes of scratchpads of operands, and bytes of memory that its STOREs write."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..hdl.shell.commands import Opcode
from .moves import copied
from .program import QUEUES, Command, Read

__all__ = ["Reload", "Stored", "Use", "Uses", "target_of"]

_FIELDS = {Opcode.LOAD: "address", Opcode.MOVE: "target"}


def target_of(command: Command, memories: Collection[int]) -> str | None:
    """Field of the first byte that a command writes in one of some scratchpads, or None if it writes into none."""
    return _FIELDS.get(command.opcode) if command.body.get("destination", 0) in memories else None


@dataclass(frozen=True, eq=False)
class Use:
    """A command's use of a scratchpad.

    Members
    -------
    place : int
        Place of the command in the program.
    opcode, ordinal : Opcode, int
        Its queue, and which of that it is.
    memory, first, end : int
        Scratchpad, first byte, and that behind the last.
    read : Read or None
        What it reads, if it is an EXECUTE.
    """

    place: int
    opcode: Opcode
    ordinal: int
    memory: int
    first: int
    end: int
    read: Read | None = None


class Uses:
    """All uses of some scratchpads by the commands of a program, in order.

    Parameters
    ----------
    commands : sequence of Command
        Commands.
    reads : iterable of Read
        What EXECUTEs read.
    memories : collection of int
        The scratchpads.
    """

    def __init__(self, commands: Sequence[Command], reads: Iterable[Read], memories: Collection[int]):
        self._commands = commands
        found, executes, counts = [], [0], dict.fromkeys(QUEUES, 0)
        for place, command in enumerate(commands):
            opcode, body = command.opcode, command.body
            counts[opcode] += 1
            if opcode is Opcode.EXECUTE:
                executes.append(place)
            if (field := target_of(command, memories)) is not None:
                near = copied(body, field)
                found.append(Use(place, opcode, counts[opcode], body.get("destination", 0), int(near.min()),
                                 int(near.max()) + 1))
        found += [Use(executes[read.execute], Opcode.EXECUTE, read.execute, read.memory, read.first, read.end, read)
                  for read in reads]
        self.all = sorted(found, key=lambda use: use.place)
        #: Of each use: place, scratchpad, first byte, and that behind the last.
        self._table = np.array([(use.place, use.memory, use.first, use.end) for use in self.all]).reshape(-1, 4).T

    def overlapping(self, memory: int, first: int, end: int, after: int, before: int) -> list[Use]:
        """Uses of some bytes behind one place in the program and before another."""
        place, memories, firsts, ends = self._table
        found = np.flatnonzero((memories == memory) & (firsts < end) & (first < ends) & (place > after)
                               & (place < before))
        return [self.all[index] for index in found.tolist()]

    def last(self, memory: int, first: int, end: int, before: int) -> dict[str, int]:
        """Ordinals of the last LOAD, EXECUTE and MOVE before a place in the program that use some bytes, by queue."""
        found: dict[str, int] = {}
        for use in self.overlapping(memory, first, end, -1, before):
            found[QUEUES[use.opcode]] = use.ordinal
        return found

    def bytes_of(self, use: Use) -> np.ndarray:
        """Bytes that a command uses."""
        if use.read is None:
            return copied(self._commands[use.place].body, _FIELDS[use.opcode])
        return np.arange(use.first, use.end) if use.read.inside is None else use.first + use.read.inside


@dataclass(frozen=True, eq=False)
class Reload:
    """A LOAD of bytes of memory of which STOREs have written some.

    Members
    -------
    place, memory : int
        Place of the LOAD in the program, and scratchpad.
    near : ndarray
        Bytes of that, (bytes,).
    store : ndarray
        For each the place in the program of the STORE that has written it, or -1.
    source : ndarray
        For each the byte of the output scratchpad that this has read.
    """

    place: int
    memory: int
    near: np.ndarray
    store: np.ndarray
    source: np.ndarray

    @property
    def stores(self) -> set[int]:
        """Places of these STOREs."""
        return {*np.unique(self.store).tolist()} - {-1}


class Stored:
    """What STOREs of a program write, and LOADs read again.

    Members
    -------
    reloads : dict of int to Reload
        LOADs of such bytes, by place.
    ordinals : dict of int to int
        Ordinals of STOREs, by place.
    """

    def __init__(self, commands: Sequence[Command]):
        self.reloads: dict[int, Reload] = {}
        stores = [place for place, command in enumerate(commands) if command.opcode is Opcode.STORE]
        self.ordinals = {place: ordinal for ordinal, place in enumerate(stores, 1)}
        far = [(copied(command.body, "dram") if self._copies(command) else None) for command in commands]
        self._top = max((int(each.max()) + 1 for each in far if each is not None), default=0)
        self._store, source = np.full(self._top, -1, np.int32), np.zeros(self._top, np.int32)
        for place, (command, each) in enumerate(zip(commands, far, strict=True)):
            if each is None:
                continue
            if command.opcode is Opcode.STORE:
                self._store[each], source[each] = place, copied(command.body, "address")
            elif (store := self._store[each]).max() >= 0:
                self.reloads[place] = Reload(place, command.body.get("destination", 0),
                                             copied(command.body, "address"), store, source[each])

    @staticmethod
    def _copies(command: Command) -> bool:
        """Whether a command is a LOAD or a STORE of tensors."""
        body = command.body
        return command.opcode in (Opcode.LOAD, Opcode.STORE) and not body.get("fill") and not body.get("profile")

    def last(self, address: int, length: int) -> set[int]:
        """Places of the STOREs that are the last to write some bytes of memory."""
        return {*np.unique(self._store[address:address + length]).tolist()} - {-1}
