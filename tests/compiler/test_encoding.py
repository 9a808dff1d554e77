"""Programs in bulk against the encoder of single commands, which hardware tests use."""

import pytest
from amaranth.hdl import Shape
from amaranth.lib import data
from command_sets import COMMAND_SETS

from pearray.compiler.encoding import body_bytes
from pearray.compiler.program import Program
from pearray.hdl.shell.commands import COMMAND_BYTES, Opcode
from pearray.hdl.systolic.commands import COMMANDS


def _random_body(rng, format, opcode):
    """Values for all fields, extreme ones among them."""
    body = {}
    for name, field in data.Layout.cast(format.bodies[opcode]):
        shape = Shape.cast(field.shape)
        low = -(1 << shape.width - 1) if shape.signed else 0
        high = low + (1 << shape.width) - 1
        body[name] = int(rng.choice([low, high, rng.integers(low, high + 1)]))
    return body


@pytest.mark.parametrize("kind", COMMAND_SETS)
def test_bulk_is_one_by_one(rng, kind):
    """A field shifted, a wait of another column or a command out of its place would run as another program."""
    format = COMMAND_SETS[kind]
    program, expected = Program(format), []
    shared = {opcode: _random_body(rng, format, opcode) for opcode in format.queues}
    for _ in range(200):
        opcode = format.queues[rng.integers(len(format.queues))]
        waits = {name: int(rng.integers(0, count + 1)) for name, count in program.counts.items()}
        body = shared[opcode] if rng.integers(2) else _random_body(rng, format, opcode)
        names = tuple(sorted(rng.choice([name for name in body if body[name] >= 0], 2, replace=False)))
        if rng.integers(2):
            values = [body[name] for name in names]
            told = body | dict.fromkeys(names, -1)
            program.stream(opcode, names).append(told, *list(waits.values())[:4], *values, move=waits.get("move", 0))
        else:
            program.emit(opcode, waits, body)
        expected.append((opcode, waits, body))
    following = range(len(expected), 0, -1)
    parts = [format.encode(*command, left) for command, left in zip(expected, following, strict=True)]
    parts.append(format.encode(Opcode.END, program.counts, {}, 0))
    assert program.encode() == b"".join(parts)
    assert [(each.opcode, each.waits, each.body) for each in program.commands] == expected


def test_values_out_of_range_are_refused():
    """A value that does not fit would reach into the field behind it."""
    with pytest.raises(ValueError, match=r"^POST command field low must be in -65536..65535, not 65536$"):
        body_bytes(COMMANDS, Opcode.POST, {"low": 65536})
    with pytest.raises(ValueError, match=r"^LOAD command has no field 'depth'$"):
        body_bytes(COMMANDS, Opcode.LOAD, {"depth": 1})
    program = Program(COMMANDS)
    program.stream(Opcode.STORE, ("address",)).append({"length": 1}, 0, 0, 0, 0, 1 << 20)
    with pytest.raises(ValueError, match=r"^STORE command field address must be in 0..1048575, not 1048576$"):
        program.encode()


def test_waits_of_streams_are_checked():
    """Streams are trusted while commands are appended: a wait for a later command must be found in the end."""
    program = Program(COMMANDS)
    program.stream(Opcode.STORE).append({"length": 1}, 1, 0, 0, 0)
    with pytest.raises(ValueError, match=r"^command 0 waits for load command 1 of 0$"):
        program.encode()
    program = Program(COMMANDS)
    program.stream(Opcode.STORE).append({"length": 1}, 0, 0, 0, 0, move=1)
    with pytest.raises(ValueError, match=r"^a store command waits for a queue that this configuration has not$"):
        program.encode()
    assert len(Program(COMMANDS).encode()) == COMMAND_BYTES
