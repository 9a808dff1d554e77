"""Tensors that stay on chip between the parts of a program, of which each has been made as if it were alone.

A part may be the steps of some layers, or a kernel that brings its commands along. What one stores and a later one
loads need not go through memory: a LOAD of what the program has stored is left out if its place in the scratchpad is
free from these STOREs on, and MOVEs behind them bring the bytes there. A STORE is left out if no LOAD of its bytes is
left, and nobody wants them in memory. So that places are free, parts take theirs one behind another, as long as there
is room.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from ..hdl.shell.commands import ADDRESS_BITS, Opcode
from .borders import eased
from .dependences import Reload, Stored, Use, Uses, target_of
from .kernels.views import Buffer
from .moves import move_bodies
from .program import Command, Program
from .rewriting import Moved, rewritten

__all__ = ["Scratchpads", "forwarded"]

_ADDRESSES = 1 << ADDRESS_BITS

#: Places of parts are multiples of this: whole beats of any port.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Scratchpads:
    """Scratchpads of operands.

    Parameters
    ----------
    sizes : mapping of int to int
        Bytes of each, by its number among the destinations of LOADs.
    bases : mapping of str to int
        Fields of an EXECUTE that say where it begins to read, and the scratchpads that they mean.
    item : int
        Bytes of an operand, in which these count.
    has_moves : bool
        Whether MOVEs reach them.
    """

    sizes: Mapping[int, int]
    bases: Mapping[str, int]
    item: int
    has_moves: bool


def _shifts(uses: Sequence[Use], ends: Sequence[int], sizes: Mapping[int, int]) -> list[dict[int, int]]:
    """By how many bytes the places of each part move in each scratchpad, so that they come behind those of the last."""
    found: list[dict[int, int]] = [{} for _ in ends]
    rows: dict[tuple[int, int], list[Use]] = {}
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
        if (field := target_of(command, pads.sizes)) is not None:
            body[field] = body.get(field, 0) + by.get(body.get("destination", 0), 0)
        if command.opcode is Opcode.EXECUTE:
            for field, memory in pads.bases.items():
                body[field] = (body.get(field, 0) + by.get(memory, 0) // pads.item) % _ADDRESSES
        found.append(replace(command, body=body))
    return found


class _Forwarding:
    """Decides which LOADs and STOREs of a program are left out."""

    def __init__(self, commands: Sequence[Command], uses: Uses, stored: Stored, memories: Collection[int],
                 wanted: Collection[Buffer]):
        self._commands, self._uses, self._stored, self._memories = commands, uses, stored, memories
        self._wanted = {place for buffer in wanted for place in stored.last(buffer.address, buffer.nbytes)}

    def moves(self) -> tuple[list[Moved], set[int]]:
        """MOVEs that come in, and places of the LOADs and STOREs that go."""
        forwarded: list[Reload] = []
        kept = {*self._wanted}
        for reload in self._stored.reloads.values():
            if (reload.memory in self._memories and reload.store.min() >= 0 and not reload.stores & self._wanted
                    and self._is_free(reload)):
                forwarded.append(reload)
            else:
                kept |= reload.stores
        loads = {reload.place for reload in forwarded}
        stores = {place for reload in forwarded for place in reload.stores}
        return self._moves(forwarded, loads), loads | (stores - kept)

    def _is_free(self, reload: Reload) -> bool:
        """Whether nobody uses the bytes that a LOAD writes from the STOREs of these on."""
        first, end = int(reload.near.min()), int(reload.near.max()) + 1
        store = np.full(end - first, len(self._commands))
        store[reload.near - first] = reload.store
        for use in self._uses.overlapping(reload.memory, first, end, int(reload.store.min()), reload.place):
            inside = self._uses.bytes_of(use) - first
            inside = inside[(inside >= 0) & (inside < end - first)]
            if (store[inside] < use.place).any():
                return False
        return True

    def _moves(self, forwarded: Sequence[Reload], loads: Collection[int]) -> list[Moved]:
        """MOVEs for some LOADs, those of what one STORE reads together."""
        parts: dict[tuple[int, int], list[Reload]] = {}
        for reload in forwarded:
            for store in reload.stores:
                parts.setdefault((store, reload.memory), []).append(reload)
        return [self._moved(store, memory, some, loads) for (store, memory), some in parts.items()]

    def _moved(self, store: int, memory: int, some: Sequence[Reload], loads: Collection[int]) -> Moved:
        """MOVEs behind a STORE for some LOADs of what it reads; all of `loads` go."""
        uses, chosen = self._uses, [reload.store == store for reload in some]
        near = [reload.near[own] for reload, own in zip(some, chosen, strict=True)]
        source = [reload.source[own] for reload, own in zip(some, chosen, strict=True)]
        bodies = [{"destination": memory} | body for body in move_bodies(np.concatenate(source), np.concatenate(near))]
        before: dict[str, int] = {}
        over: list[int] = []
        for reload, each in zip(some, near, strict=True):
            first, end = int(each.min()), int(each.max()) + 1
            for queue, ordinal in uses.last(memory, first, end, store).items():
                before[queue] = max(before.get(queue, 0), ordinal)
            over += [use.place for use in uses.overlapping(memory, first, end, reload.place, len(self._commands))
                     if use.opcode is Opcode.LOAD and use.place not in loads][:1]
        return Moved(store, bodies, [reload.place for reload in some], before, over)


def forwarded(program: Program, lengths: Sequence[int], pads: Scratchpads, wanted: Collection[Buffer]) -> Program:
    """A program of which tensors stay on chip between its parts, where there is room.

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
    shifts = _shifts(Uses(commands, program.reads, pads.sizes).all, ends, pads.sizes)
    commands = _moved_on(commands, ends, shifts, pads)
    parts = np.searchsorted(ends, [place for place, command in enumerate(commands)
                                   if command.opcode is Opcode.EXECUTE], side="right").tolist()
    reads = [replace(read, first=read.first + by, end=read.end + by) for read in program.reads
             for by in (shifts[parts[read.execute - 1]].get(read.memory, 0),)]
    uses, stored = Uses(commands, reads, pads.sizes), Stored(commands)
    commands = eased(commands, ends, uses, stored, pads.sizes, wanted)
    moves, removed = list[Moved](), set[int]()
    if pads.has_moves:
        moves, removed = _Forwarding(commands, uses, stored, pads.sizes, wanted).moves()
    whole = rewritten(program.format, commands, program.marks, moves, removed)
    whole.routines |= program.routines
    return whole
