"""Programs anew, without some of their LOADs and STOREs and with MOVEs in their place: what others wait for follows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..hdl.shell.commands import CommandSet, Opcode
from .program import QUEUES, Command, Mark, Program

__all__ = ["Moved", "rewritten"]

_LOAD, _STORE, _MOVE = (QUEUES[opcode] for opcode in (Opcode.LOAD, Opcode.STORE, Opcode.MOVE))


@dataclass(eq=False)
class Moved:
    """MOVEs behind a STORE, of what it reads, to places from which it would be loaded again.

    Parameters
    ----------
    store : int
        Place of the STORE in the program.
    bodies : list of dict
        MOVE bodies.
    loads : list of int
        Places in the program of the LOADs that need not be any more.
    before : dict of str to int
        Ordinals of the commands of each queue that are the last to use the places before.
    over : list of int
        Places in the program of the LOADs that come over these places next.

    Members
    -------
    ordinal : int
        That of the last MOVE, once it has been emitted.
    """

    store: int
    bodies: list[dict[str, int]]
    loads: list[int]
    before: dict[str, int]
    over: list[int]
    ordinal: int = field(default=0, init=False)


class _Rewriter:
    """Emits the commands of a program anew."""

    def __init__(self, format: CommandSet, moves: Sequence[Moved], removed: Collection[int]):
        self.program = Program(format)
        self._removed = removed
        #: MOVEs by place in the old program: of the STORE before, of LOADs that are gone, of LOADs that come over them.
        self._behind: dict[int, list[Moved]] = {}
        self._gone: dict[int, list[Moved]] = {}
        self._over: dict[int, list[Moved]] = {}
        for moved in moves:
            self._behind.setdefault(moved.store, []).append(moved)
            for places, target in ((moved.loads, self._gone), (moved.over, self._over)):
                for place in places:
                    target.setdefault(place, []).append(moved)
        #: For each number of commands of a queue of the old program: how many of them there are now, and the last of
        #: the MOVEs that stand for others of them.
        self._kept = {QUEUES[opcode]: [0] for opcode in format.queues}
        self._moved = {QUEUES[opcode]: [0] for opcode in format.queues}

    def emit(self, place: int, command: Command) -> None:
        """Emit what there is for the command of a place."""
        queue, waits = QUEUES[command.opcode], self._waits(command.waits)
        latest = self._moved[queue][-1]
        if place in self._over:
            waits[_MOVE] = max(waits.get(_MOVE, 0), *(moved.ordinal for moved in self._over[place]))
        if place not in self._removed:
            self.program.emit(command.opcode, waits, command.body)
        for moved in self._behind.get(place, ()):
            before = self._waits(moved.before)
            for body in moved.bodies:
                moved.ordinal = self.program.emit(
                    Opcode.MOVE, {name: max(wait, before[name]) for name, wait in waits.items()}, body)
        for moved in (*self._behind.get(place, ()), *self._gone.get(place, ())):
            latest = max(latest, moved.ordinal)
        self._kept[queue].append(self.program.counts[queue])
        self._moved[queue].append(latest)

    def _waits(self, waits: Mapping[str, int]) -> dict[str, int]:
        """Waits for commands of the old program, as those of this one."""
        found = {queue: kept[waits.get(queue, 0)] for queue, kept in self._kept.items()}
        latest = max(self._moved[queue][waits.get(queue, 0)] for queue in (_LOAD, _STORE))
        return found | {_MOVE: max(found.get(_MOVE, 0), latest)} if latest else found


def rewritten(format: CommandSet, commands: Sequence[Command], marks: Sequence[Mark], moves: Sequence[Moved],
              removed: Collection[int]) -> Program:
    """Emit a program anew.

    Who waited for a STORE waits for the MOVEs behind it, too, and who waited for a LOAD that is gone for those that
    stand for it.

    Parameters
    ----------
    commands, marks : sequence
        Commands, and fields of them that go up with positions.
    moves : sequence of Moved
        MOVEs that come in.
    removed : collection of int
        Places of the commands that are left out.
    """
    rewriter, places = _Rewriter(format, moves, removed), list[int]()
    for place, command in enumerate(commands):
        places.append(rewriter.program.length)
        rewriter.emit(place, command)
    rewriter.program.marks += [replace(mark, place=places[mark.place]) for mark in marks]
    return rewriter.program
