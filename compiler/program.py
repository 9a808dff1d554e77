"""Assembler: commands in program order, with waits that can't deadlock."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..hdl.shell.commands import COMMAND_BYTES, CommandSet, Opcode

__all__ = ["QUEUES", "Command", "Program", "disassemble"]

#: Name of each queue in the fields of a command's header.
QUEUES: dict[Opcode, str] = {
    Opcode.LOAD: "load", Opcode.EXECUTE: "execute", Opcode.POST: "post", Opcode.STORE: "store",
}


@dataclass(frozen=True)
class Command:
    """One command: its queue, how many commands of each queue it waits for, and its fields."""

    opcode: Opcode
    waits: dict[str, int]
    body: dict[str, int]

    def __str__(self) -> str:
        waits = " ".join(f"{queue}>={count}" for queue, count in self.waits.items() if count)
        fields = " ".join(f"{name}={int(value)}" for name, value in self.body.items() if value)
        return f"{self.opcode.name:8}[{waits}] {fields}"


class Program:
    """A program under construction.

    Parameters
    ----------
    format : CommandSet
        Commands of the kind of array.

    Members
    -------
    counts : dict of str to int
        Commands of each queue so far: the ordinal, from one, of the latest.
    commands : list of Command
        All commands so far, without the final END.
    """

    def __init__(self, format: CommandSet) -> None:
        self._format = format
        self.counts = dict.fromkeys(QUEUES.values(), 0)
        self.commands: list[Command] = []

    def emit(self, opcode: Opcode, waits: Mapping[str, int], body: Mapping[str, int]) -> int:
        """Append a command.

        Parameters
        ----------
        opcode : Opcode
            Queue.
        waits : mapping of str to int
            Ordinal, in each queue, of the latest command that must have completed.
        body : mapping of str to int
            Fields; absent ones are zero.

        Returns
        -------
        int
            Ordinal of the command in its queue, from one: what others wait for.

        Raises
        ------
        ValueError
            If it waits for a command that does not stand before it, for one so long past that
            the 16-bit comparison would fail, or a field is unknown or out of range.
        """
        queue = QUEUES[opcode]
        for name, count in waits.items():
            if not 0 <= count <= self.counts[name]:
                raise ValueError(f"{queue} command {self.counts[queue] + 1} waits for {name} command {count} "
                                 f"of {self.counts[name]}")
        self.commands.append(Command(opcode, dict(waits), dict(body)))
        self.counts[queue] += 1
        return self.counts[queue]

    def load(self, waits: Mapping[str, int], **body: int) -> int:
        """Append a LOAD; see :meth:`emit`."""
        return self.emit(Opcode.LOAD, waits, body)

    def execute(self, waits: Mapping[str, int], **body: int) -> int:
        """Append an EXECUTE; see :meth:`emit`."""
        return self.emit(Opcode.EXECUTE, waits, body)

    def post(self, waits: Mapping[str, int], **body: int) -> int:
        """Append a POST; see :meth:`emit`."""
        return self.emit(Opcode.POST, waits, body)

    def store(self, waits: Mapping[str, int], **body: int) -> int:
        """Append a STORE; see :meth:`emit`."""
        return self.emit(Opcode.STORE, waits, body)

    def encode(self) -> bytes:
        """Bytes of the program, END included."""
        counts = dict.fromkeys(self.counts, 0)
        parts = []
        for following, command in zip(range(len(self.commands), 0, -1), self.commands, strict=True):
            # Counts are compared as 16-bit differences: an old wait is met for certain, so it can
            # be moved up to a recent command of which the comparison is safe.
            waits = {name: max(count, counts[name] - (1 << 14)) if counts[name] > 1 << 14 else count
                     for name, count in command.waits.items()}
            counts[QUEUES[command.opcode]] += 1
            parts.append(self._format.encode(command.opcode, waits, command.body, following))
        # The run ends when END passes its gate: everything must have completed.
        parts.append(self._format.encode(Opcode.END, counts, {}, 0))
        return b"".join(parts)

    def listing(self) -> str:
        """One line for each command, for reading."""
        return "\n".join(f"{index:5} {command}" for index, command in enumerate(self.commands))


def disassemble(program: bytes, format: CommandSet) -> list[Command]:
    """Commands of an encoded program, up to its END; waits are modulo 2**16."""
    commands: list[Command] = []
    for start in range(0, len(program), COMMAND_BYTES):
        opcode, waits, body = format.decode(program[start:start + COMMAND_BYTES])
        if opcode is Opcode.END:
            return commands
        commands.append(Command(opcode, waits, body))
    raise ValueError("program has no END")
