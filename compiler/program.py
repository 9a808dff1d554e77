"""Assembler: commands in program order, with waits that can't deadlock."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partialmethod

import numpy as np

from ..hdl.routines.instructions import Instruction
from ..hdl.shell.commands import COMMAND_BYTES, CommandSet, Opcode
from ..hdl.shell.commands import QUEUES as SHARED_QUEUES
from ..hdl.shell.waits import WAIT_BITS, meant, near
from .encoding import body_bytes, put_field, put_headers

__all__ = ["QUEUES", "Command", "Mark", "Program", "Read", "Stream", "disassemble"]

#: Name of each queue in the fields of a command's header. Not every configuration has the last one.
QUEUES: dict[Opcode, str] = {opcode: opcode.name.lower() for opcode in (*SHARED_QUEUES, Opcode.MOVE)}

#: Columns of a stream's entries before the values of its fields: place in the program, body, and a wait for each queue.
_PLACE, _BODY, _WAITS, _VALUES = 0, 1, 2, 2 + len(QUEUES)


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


@dataclass(frozen=True)
class Mark:
    """A field of a command that goes up with a position (:mod:`.positions`).

    Parameters
    ----------
    place : int
        Place of the command in the program.
    field : str
        Field of its body.
    position : str
        Name of the position.
    step : int
        What the field goes up by for each.
    """

    place: int
    field: str
    position: str
    step: int


@dataclass(frozen=True)
class Read:
    """Part of a scratchpad that an EXECUTE reads.

    Parameters
    ----------
    execute : int
        Ordinal of the EXECUTE.
    memory : int
        Scratchpad, as destinations of LOADs are numbered.
    first, end : int
        First byte, and that behind the last.
    inside : ndarray or None
        Bytes that it reads, counted from the first one on; None if it reads them all.
    """

    execute: int
    memory: int
    first: int
    end: int
    inside: np.ndarray | None = None


class Stream:
    """Commands of one queue that differ in the same few fields; see :meth:`Program.stream`."""

    def __init__(self, program: "Program", opcode: Opcode, fields: tuple[str, ...]):
        self.opcode, self.fields = opcode, fields
        self._queue, self._program = QUEUES[opcode], program
        #: Entries one after another: place, body, waits, and a value for each of `fields`.
        self.entries = array("I")

    def append(self, body: Mapping[str, int], load: int, execute: int, post: int, store: int, *values: int,
               move: int = 0) -> int:
        """Append a command to the program, and return its ordinal in its queue, from one: what others wait for.

        `load` to `move` are the ordinals of the latest commands of these queues that must have completed, 0 for none.
        Absent fields of `body` are zero, and :attr:`fields` are `values`, at least 0, instead. It must stay as it is,
        and may be given again: it is encoded once.
        """
        program = self._program
        number = program.numbers.get(id(body))
        if number is None:
            number = program.number(body)
        self.entries.extend((program.length, number, load, execute, post, store, move, *values))
        program.length += 1
        ordinal = program.counts[self._queue] = program.counts[self._queue] + 1
        return ordinal

    def change(self, entry: int, name: str, value: int) -> None:
        """Give a field another value in the command that was the `entry`-th to be appended."""
        self.entries[entry * (_VALUES + len(self.fields)) + _VALUES + self.fields.index(name)] = value

    def extend(self, rows: np.ndarray) -> None:
        """Append commands as entries, whose places are among those that come next in the program."""
        self.entries.frombytes(rows.astype(np.uintc).tobytes())
        self._program.length += len(rows)
        self._program.counts[self._queue] += len(rows)

    def values(self, name: str) -> list[int]:
        """What a field is in each of the commands."""
        found: list[int] = self.table()[:, _VALUES + self.fields.index(name)].tolist()
        return found

    def __len__(self) -> int:
        return len(self.entries) // (_VALUES + len(self.fields))

    def table(self, first: int = 0) -> np.ndarray:
        """Entries from number `first` of the array on as rows, copied."""
        return np.array(self.entries[first:], np.uintc).reshape(-1, _VALUES + len(self.fields))


class Program:
    """A program under construction.

    Parameters
    ----------
    format : CommandSet
        Commands of the kind of array.
    count_bits : int
        Width of the hardware's counts of completed commands.

    Members
    -------
    counts : dict of str to int
        Commands of each queue so far: the ordinal, from one, of the latest.
    length : int
        Commands so far, without the final END.
    bodies : list of mapping
        Bodies of commands, each once.
    numbers : dict of int to int
        Place in it of each, by identity.
    marks : list of Mark
        Fields that go up with a position.
    reads : list of Read
        What EXECUTEs read, in their order.
    routines : dict of int to sequence of Instruction
        Instructions that stand in memory, by the address of the first of a list of them.
    """

    def __init__(self, format: CommandSet, count_bits: int = WAIT_BITS) -> None:
        self.format = format
        self._count_bits = count_bits
        self.counts = dict.fromkeys((QUEUES[opcode] for opcode in format.queues), 0)
        self.length = 0
        self.bodies: list[Mapping[str, int]] = []
        self.numbers: dict[int, int] = {}
        self.marks: list[Mark] = []
        self.reads: list[Read] = []
        self.routines: dict[int, Sequence[Instruction]] = {}
        self._streams: dict[tuple[Opcode, tuple[str, ...]], Stream] = {}

    @classmethod
    def of(cls, format: CommandSet, commands: Iterable[Command], count_bits: int = WAIT_BITS) -> "Program":
        """Program of given commands."""
        program = cls(format, count_bits)
        for command in commands:
            program.emit(command.opcode, command.waits, command.body)
        return program

    def number(self, body: Mapping[str, int]) -> int:
        """Place of a body among :attr:`bodies`, where it is put if it is not there."""
        number = self.numbers.setdefault(id(body), len(self.bodies))
        if number == len(self.bodies):
            self.bodies.append(body)
        return number

    def stream(self, opcode: Opcode, fields: tuple[str, ...] = ()) -> Stream:
        """Make a way to append commands of a queue, whose bodies are shared but for some fields.

        Waits of such commands are checked only when the program is encoded.

        Raises
        ------
        ValueError
            If the configuration has no such queue.
        """
        if opcode not in self.format.queues:
            raise ValueError(f"{opcode.name} is no command of this configuration")
        key = opcode, fields
        if key not in self._streams:
            self._streams[key] = Stream(self, opcode, fields)
        return self._streams[key]

    def emit(self, opcode: Opcode, waits: Mapping[str, int], body: Mapping[str, int]) -> int:
        """Append a command whose absent waits and fields are zero; see :meth:`Stream.append`.

        Raises
        ------
        ValueError
            If it waits for a command that does not stand before it.
        """
        queue = QUEUES[opcode]
        stream = self.stream(opcode)
        for name, count in waits.items():
            total = self.counts.get(name, 0)
            if not 0 <= count <= total:
                raise ValueError(f"{queue} command {self.counts[queue] + 1} waits for {name} command {count} "
                                 f"of {total}")
        return stream.append(dict(body), **{name: waits.get(name, 0) for name in QUEUES.values()})

    def _emit_fields(self, opcode: Opcode, waits: Mapping[str, int], **body: int) -> int:
        return self.emit(opcode, waits, body)

    #: Append a command of a queue by its waits and, as keywords, its fields; see :meth:`emit`.
    load = partialmethod(_emit_fields, Opcode.LOAD)
    execute = partialmethod(_emit_fields, Opcode.EXECUTE)
    post = partialmethod(_emit_fields, Opcode.POST)
    store = partialmethod(_emit_fields, Opcode.STORE)
    move = partialmethod(_emit_fields, Opcode.MOVE)

    def mark(self, field: str, position: str, step: int = 1) -> None:
        """Note that a field of the latest command goes up with a position."""
        self.marks.append(Mark(self.length - 1, field, position, step))

    def follow(self, other: "Program") -> None:
        """Append a program as it is, behind all commands so far: each of its commands waits for all of these."""
        before, length = list(self.counts.values()), self.length
        self.marks += [replace(mark, place=mark.place + length) for mark in other.marks]
        self.routines |= other.routines
        executes = self.counts[QUEUES[Opcode.EXECUTE]]
        self.reads += [replace(read, execute=read.execute + executes) for read in other.reads]
        for stream in other._streams.values():
            table = stream.table().astype(np.int64)
            if not len(table):
                continue
            numbers = np.array([self.number(body) for body in other.bodies])
            table[:, _PLACE] += length
            table[:, _BODY] = numbers[table[:, _BODY]]
            table[:, _WAITS:_WAITS + len(before)] += before
            self.stream(stream.opcode, stream.fields).extend(table)

    def entries(self) -> Iterator[tuple[Stream, int, Mapping[str, int], list[int], list[int]]]:
        """Stream, place, body and waits of each command, and what the stream's fields are instead; out of order."""
        for stream in self._streams.values():
            width, entries = _VALUES + len(stream.fields), stream.entries.tolist()
            for at in range(0, len(entries), width):
                yield (stream, entries[at], self.bodies[entries[at + _BODY]], entries[at + _WAITS:at + _VALUES],
                       entries[at + _VALUES:at + width])

    @property
    def commands(self) -> list[Command]:
        """Commands in order, each made anew."""
        found: list[Command | None] = [None] * self.length
        for stream, place, body, waits, values in self.entries():
            found[place] = Command(stream.opcode, dict(zip(self.counts, waits, strict=False)),
                                   {**body, **dict(zip(stream.fields, values, strict=True))})
        return [command for command in found if command is not None]

    def encode(self) -> bytes:
        """Bytes of the program, END included.

        Waits for commands long past, and those left out, are moved up to commands near enough for the comparison
        of counts (:mod:`pearray.hdl.shell.waits`).

        Raises
        ------
        ValueError
            If a command waits for one that does not stand before it, or a field is unknown or out of range.
        """
        commands = np.zeros((self.length + 1, COMMAND_BYTES), np.uint8)
        opcodes = np.zeros(self.length + 1, np.uint8)
        waits = {name: np.zeros(self.length + 1, np.int32) for name in self.counts}
        for stream in self._streams.values():
            table = stream.table()
            places = table[:, _PLACE]
            numbers, which = np.unique(table[:, _BODY], return_inverse=True)
            shared = b"".join(body_bytes(self.format, stream.opcode, self.bodies[number], stream.fields)
                              for number in numbers.tolist())
            rows = np.frombuffer(shared, np.uint8).reshape(-1, COMMAND_BYTES)[which]
            for column, name in enumerate(stream.fields, _VALUES):
                put_field(rows, self.format, stream.opcode, name, table[:, column])
            commands[places] = rows
            opcodes[places] = stream.opcode.value
            for column, name in enumerate(waits, _WAITS):
                waits[name][places] = table[:, column]
            if (table[:, _WAITS + len(waits):_VALUES] > 0).any():
                raise ValueError(f"a {QUEUES[stream.opcode]} command waits for a queue that this configuration has not")
        # The run ends when END passes its gate: everything must have completed.
        for name, count in self.counts.items():
            waits[name][-1] = count
        self._bring_near(opcodes, waits)
        put_headers(commands, self.format, opcodes, waits)
        return commands.tobytes()

    def _bring_near(self, opcodes: np.ndarray, waits: Mapping[str, np.ndarray]) -> None:
        """Move waits up to commands that are near enough for counts to be compared.

        A wait for something long past is met for certain. And a command that stands far behind another of its queue
        waits for all that stand before that, lest those of other queues overtake it by too much.
        """
        most = near(self._count_bits)
        places = {opcode: np.flatnonzero(opcodes == opcode.value) for opcode in self.format.queues}
        for opcode in places:
            name = QUEUES[opcode]
            before = np.cumsum(opcodes == opcode.value, dtype=np.int32) - (opcodes == opcode.value)
            wrong = np.flatnonzero(waits[name] > before)
            if wrong.size:
                at = int(wrong[0])
                raise ValueError(f"command {at} waits for {name} command {waits[name][at]} of {before[at]}")
            np.maximum(waits[name], before - most, out=waits[name])
            for own in places.values():
                behind = own[most - 1:]
                waits[name][behind] = np.maximum(waits[name][behind], before[own[:len(behind)]])

    def listing(self) -> str:
        """One line for each command, for reading."""
        return "\n".join(f"{index:5} {command}" for index, command in enumerate(self.commands))


def disassemble(program: bytes, format: CommandSet, count_bits: int = WAIT_BITS) -> list[Command]:
    """Commands of an encoded program, up to its END, with the counts that their waits stand for."""
    commands: list[Command] = []
    before = dict.fromkeys((QUEUES[opcode] for opcode in format.queues), 0)
    for start in range(0, len(program), COMMAND_BYTES):
        opcode, waits, body = format.decode(program[start:start + COMMAND_BYTES])
        if opcode is Opcode.END:
            return commands
        commands.append(Command(opcode, {name: meant(wait, before[name], count_bits) for name, wait in waits.items()},
                                body))
        before[QUEUES[opcode]] += 1
    raise ValueError("program has no END")
