"""Tensors that stay on chip between the parts of a program, of which each has been made as if it were alone.

A part may be the steps of some layers, or a kernel that brings its commands along. What one stores and a later one loads
need not go through memory: a LOAD of what the program has stored is left out if its place in the scratchpad is free from
these STOREs on, and MOVEs behind them bring the bytes there. A STORE is left out if no LOAD of its bytes is left, and
nobody wants them in memory. So that places are free, parts take theirs one behind another, as long as there is room.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from ..hdl.shell.commands import ADDRESS_BITS, CommandSet, Opcode
from .kernels.views import Buffer
from .moves import copied, move_bodies
from .program import Command, Mark, Program, Read
from .rewriting import Moved, rewritten

__all__ = ["Scratchpads", "forwarded"]

_ADDRESSES = 1 << ADDRESS_BITS

#: Places of parts are multiples of this: whole beats of any port.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Scratchpads:
    """Scratchpads of operands that MOVEs reach.

    Parameters
    ----------
    sizes : mapping of int to int
        Bytes of each, by its number among the destinations of LOADs.
    bases : mapping of str to int
        Fields of an EXECUTE that say where it begins to read, and the scratchpads that they mean.
    item : int
        Bytes of an operand, in which these count.
    """

    sizes: Mapping[int, int]
    bases: Mapping[str, int]
    item: int


@dataclass(frozen=True, eq=False)
class _Use:
    """A command's use of a scratchpad.

    Members
    -------
    place : int
        Place of the command in the program.
    ordinal : int
        That of a LOAD or an EXECUTE in its queue; 0 for a MOVE.
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


def _target(command: Command, sizes: Mapping[int, int]) -> str | None:
    """Field of the first byte of a scratchpad of operands that a command writes, or None if it writes none."""
    field = {Opcode.LOAD: "address", Opcode.MOVE: "target"}.get(command.opcode)
    return field if command.body.get("destination", 0) in sizes else None


def _uses(commands: Sequence[Command], reads: Iterable[Read], sizes: Mapping[int, int]) -> list[_Use]:
    """All uses of scratchpads of operands, in the order of the program."""
    found, loads, executes = [], 0, [0]
    for place, command in enumerate(commands):
        loads += command.opcode is Opcode.LOAD
        if command.opcode is Opcode.EXECUTE:
            executes.append(place)
        if (field := _target(command, sizes)) is not None:
            near = copied(command.body, field)
            found.append(_Use(place, command.opcode, loads if command.opcode is Opcode.LOAD else 0,
                              command.body.get("destination", 0), int(near.min()), int(near.max()) + 1))
    found += [_Use(executes[read.execute], Opcode.EXECUTE, read.execute, read.memory, read.first, read.end, read)
              for read in reads]
    return sorted(found, key=lambda use: use.place)


def _shifts(uses: Sequence[_Use], ends: Sequence[int], sizes: Mapping[int, int]) -> list[dict[int, int]]:
    """By how many bytes the places of each part move in each scratchpad, so that they come behind those of the last."""
    found: list[dict[int, int]] = [{} for _ in ends]
    rows: dict[tuple[int, int], list[_Use]] = {}
    for use, part in zip(uses, np.searchsorted(ends, [use.place for use in uses], side="right").tolist(), strict=True):
        rows.setdefault((use.memory, part), []).append(use)
    free = dict.fromkeys(sizes, 0)
    for (memory, part), own in sorted(rows.items(), key=lambda item: item[0]):
        first = min(use.first for use in own) // _ALIGNMENT * _ALIGNMENT
        room = -(-max(use.end for use in own) // _ALIGNMENT) * _ALIGNMENT - first
        if free[memory] + room > sizes[memory]:
            free[memory] = 0
        # What fills all of it, or nearly so, stays.
        found[part][memory] = free[memory] - first if room <= sizes[memory] else 0
        free[memory] += room
    return found


def _moved_on(commands: Sequence[Command], ends: Sequence[int], shifts: Sequence[Mapping[int, int]],
              pads: Scratchpads) -> list[Command]:
    """Commands with the places of each part moved."""
    found, part = [], 0
    for place, command in enumerate(commands):
        while place >= ends[part]:
            part += 1
        body, by = dict(command.body), shifts[part]
        if (field := _target(command, pads.sizes)) is not None:
            body[field] = body.get(field, 0) + by.get(body.get("destination", 0), 0)
        if command.opcode is Opcode.EXECUTE:
            for field, memory in pads.bases.items():
                body[field] = (body.get(field, 0) + by.get(memory, 0) // pads.item) % _ADDRESSES
        found.append(replace(command, body=body))
    return found


@dataclass(eq=False)
class _Candidate:
    """A LOAD of what STOREs have written: the bytes of its scratchpad, and for each the STORE, and what that read."""

    place: int
    memory: int
    near: np.ndarray
    store: np.ndarray
    source: np.ndarray


class _Stored:
    """What STOREs of a program write, and LOADs read again.

    Members
    -------
    candidates : list of _Candidate
        LOADs whose bytes STOREs have written.
    needed : set of int
        Places of the STOREs that others read, or that are wanted.
    """

    def __init__(self, commands: Sequence[Command], sizes: Mapping[int, int], wanted: Collection[Buffer]):
        self.candidates: list[_Candidate] = []
        self.needed: set[int] = set()
        far = [(copied(command.body, "dram") if self._copies(command) else None) for command in commands]
        top = max((int(each.max()) + 1 for each in far if each is not None), default=0)
        top = max(top, *(buffer.address + buffer.nbytes for buffer in wanted), 0)
        self._store, self._source = np.full(top, -1, np.int32), np.zeros(top, np.int32)
        for place, (command, each) in enumerate(zip(commands, far, strict=True)):
            if each is None:
                continue
            if command.opcode is Opcode.STORE:
                self._store[each], self._source[each] = place, copied(command.body, "address")
            elif (store := self._store[each]).max() >= 0:
                self._read(place, command, store, self._source[each], sizes)
        for buffer in wanted:
            self.needed.update(np.unique(self._store[buffer.address:buffer.address + buffer.nbytes]).tolist())

    @staticmethod
    def _copies(command: Command) -> bool:
        """Whether a command is a LOAD or a STORE of tensors."""
        body = command.body
        return command.opcode in (Opcode.LOAD, Opcode.STORE) and not body.get("fill") and not body.get("profile")

    def _read(self, place: int, command: Command, store: np.ndarray, source: np.ndarray,
              sizes: Mapping[int, int]) -> None:
        memory = command.body.get("destination", 0)
        if memory in sizes and store.min() >= 0:
            self.candidates.append(_Candidate(place, memory, copied(command.body, "address"), store, source))
        else:
            self.needed.update(np.unique(store).tolist())


class _Forwarding:
    """Decides which LOADs and STOREs of a program are left out."""

    def __init__(self, commands: Sequence[Command], uses: Sequence[_Use], sizes: Mapping[int, int],
                 wanted: Collection[Buffer]):
        self._commands, self._uses, self._sizes = commands, uses, sizes
        self._stored = _Stored(commands, sizes, wanted)
        #: Of all uses: place, scratchpad, first byte, and that behind the last.
        self._table = np.array([(use.place, use.memory, use.first, use.end) for use in uses]).reshape(-1, 4).T

    def rewritten(self, format: CommandSet, marks: Sequence[Mark]) -> Program | None:
        """The program anew, or None if all stays as it is."""
        stored, forwarded = self._stored, list[_Candidate]()
        kept = {*stored.needed}
        for candidate in stored.candidates:
            stores = {*np.unique(candidate.store).tolist()}
            if stores & stored.needed or not self._is_free(candidate):
                kept |= stores
            else:
                forwarded.append(candidate)
        if not forwarded:
            return None
        loads = {candidate.place for candidate in forwarded}
        stores = {int(place) for candidate in forwarded for place in np.unique(candidate.store)} - kept
        return rewritten(format, self._commands, marks, self._moves(forwarded, loads), loads | stores)

    def _overlapping(self, memory: int, first: int, end: int, after: int, before: int) -> list[_Use]:
        """Uses of some bytes behind one place in the program and before another."""
        place, memories, firsts, ends = self._table
        found = np.flatnonzero((memories == memory) & (firsts < end) & (first < ends) & (place > after)
                               & (place < before))
        return [self._uses[index] for index in found.tolist()]

    def _is_free(self, candidate: _Candidate) -> bool:
        """Whether nobody uses the bytes that a LOAD writes from the STOREs of these on."""
        first, end = int(candidate.near.min()), int(candidate.near.max()) + 1
        store = np.full(end - first, len(self._commands))
        store[candidate.near - first] = candidate.store
        for use in self._overlapping(candidate.memory, first, end, int(candidate.store.min()), candidate.place):
            inside = self._bytes(use) - first
            inside = inside[(inside >= 0) & (inside < end - first)]
            if (store[inside] < use.place).any():
                return False
        return True

    def _bytes(self, use: _Use) -> np.ndarray:
        """Bytes that a command uses."""
        if use.read is None:
            return copied(self._commands[use.place].body, "address" if use.opcode is Opcode.LOAD else "target")
        return np.arange(use.first, use.end) if use.read.inside is None else use.first + use.read.inside

    def _moves(self, forwarded: Sequence[_Candidate], loads: Collection[int]) -> list[Moved]:
        """MOVEs for some LOADs, those of what one STORE reads together."""
        parts: dict[tuple[int, int], list[tuple[_Candidate, np.ndarray]]] = {}
        for candidate in forwarded:
            for store in np.unique(candidate.store).tolist():
                parts.setdefault((store, candidate.memory), []).append((candidate, candidate.store == store))
        found = []
        for (store, memory), some in parts.items():
            source, near = (np.concatenate([each[chosen] for each, chosen in pairs]) for pairs in (
                [(candidate.source, chosen) for candidate, chosen in some],
                [(candidate.near, chosen) for candidate, chosen in some]))
            bodies = [{"destination": memory} | body for body in move_bodies(source, near)]
            moved = Moved(store, bodies, [candidate.place for candidate, _ in some], 0, 0, [])
            for candidate, chosen in some:
                first, end = int(candidate.near[chosen].min()), int(candidate.near[chosen].max()) + 1
                for use in self._overlapping(memory, first, end, -1, store):
                    if use.opcode is Opcode.LOAD:
                        moved.load = max(moved.load, use.ordinal)
                    elif use.opcode is Opcode.EXECUTE:
                        moved.execute = max(moved.execute, use.ordinal)
                over = self._overlapping(memory, first, end, candidate.place, len(self._commands))
                moved.over += [use.place for use in over if use.opcode is Opcode.LOAD and use.place not in loads][:1]
            found.append(moved)
        return found


def forwarded(program: Program, lengths: Sequence[int], pads: Scratchpads,
              wanted: Collection[Buffer]) -> Program | None:
    """A program of which tensors stay on chip between its parts, or None if none can.

    Parameters
    ----------
    program : Program
        All parts, one behind another, with what its EXECUTEs read.
    lengths : sequence of int
        Commands of each part.
    wanted : collection of Buffer
        Tensors that must be in memory at the end. They are loaded from there.
    """
    commands, ends = program.commands, [*accumulate(lengths)]
    shifts = _shifts(_uses(commands, program.reads, pads.sizes), ends, pads.sizes)
    commands = _moved_on(commands, ends, shifts, pads)
    parts = np.searchsorted(ends, [place for place, command in enumerate(commands)
                                   if command.opcode is Opcode.EXECUTE], side="right").tolist()
    reads = [replace(read, first=read.first + by, end=read.end + by) for read in program.reads
             for by in (shifts[parts[read.execute - 1]].get(read.memory, 0),)]
    return _Forwarding(commands, _uses(commands, reads, pads.sizes), pads.sizes, wanted).rewritten(
        program.format, program.marks)
