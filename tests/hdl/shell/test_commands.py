"""Format of commands: what is encoded is what is decoded, for every kind of array."""

from dataclasses import replace

import pytest
from amaranth.hdl import Shape
from amaranth.lib import data, enum
from command_sets import COMMAND_SETS

from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.commands import (
    COMMAND_BYTES,
    DESTINATION_BITS,
    RECORD,
    LoadBody,
    MoveBody,
    Opcode,
    Parameter,
    PostBody,
    StoreBody,
    variant,
)

SETS = COMMAND_SETS
SHARED = {Opcode.LOAD: LoadBody, Opcode.POST: PostBody, Opcode.STORE: StoreBody, Opcode.MOVE: MoveBody}


@pytest.mark.parametrize(("kind", "opcode"), [(kind, opcode) for kind in SETS for opcode in SETS[kind].queues])
def test_round_trip(rng, kind, opcode):
    """The compiler's fields would reach the engines in other places, or cut off."""
    commands = SETS[kind]
    layout = data.Layout.cast(commands.bodies[opcode])
    for _ in range(20):
        body = {}
        for name, field in layout:
            shape = Shape.cast(field.shape)
            low = -(1 << shape.width - 1) if shape.signed else 0
            body[name] = int(rng.integers(low, low + (1 << shape.width)))
            if isinstance(field.shape, enum.EnumMeta):
                body[name] = rng.choice(list(field.shape))
        waits = {each.name.lower(): int(rng.integers(0, 1 << 16)) for each in commands.queues}
        command = commands.encode(opcode, waits, body, int(rng.integers(0, 20)))
        assert commands.decode(command) == (opcode, waits, body)


@pytest.mark.parametrize("kind", SETS)
def test_kinds_share_what_the_shell_reads(kind):
    """A component of all kinds would read a field, a memory or a word of a record where this kind has another."""
    commands = SETS[kind]
    for opcode in set(SHARED) & set(commands.queues):
        body = SHARED[opcode]
        fields = {name: (item.offset, Shape.cast(item.shape)) for name, item in data.Layout.cast(body)}
        own = {name: (item.offset, Shape.cast(item.shape)) for name, item in data.Layout.cast(commands.bodies[opcode])}
        fields.pop("reserved", None)
        assert own | fields == own
    assert {each.name: each.value for each in Parameter}.items() <= {
        each.name: each.value for each in commands.destination}.items()
    assert max(commands.destination).value < 1 << DESTINATION_BITS
    assert commands.record[:len(RECORD)] == RECORD
    for opcode in SETS[kind].counts:
        assert set(commands.counts_except.get(opcode, ())) <= set(commands.counts[opcode])


def test_fields_of_another_kind_are_refused():
    """A flag that this kind does not know would be lost in a program without a word."""
    body = variant(StoreBody, "", "first", "second")
    layout = data.Layout.cast(body)
    start = data.Layout.cast(StoreBody)["reserved"].offset
    assert [layout[name].offset for name in ("first", "second", "reserved")] == [start, start + 1, start + 2]
    assert layout.size == data.Layout.cast(StoreBody).size
    plain = next(each for each in SETS.values() if each.store is StoreBody)
    with pytest.raises(ValueError, match="no field 'coded'"):
        plain.encode(Opcode.STORE, {}, {"coded": 1})


def test_unknown_numbers_stay_numbers():
    """A program with a destination that this kind lacks could not be read, let alone explained."""
    for commands in SETS.values():
        missing = next(value for value in range(1 << DESTINATION_BITS)
                       if value not in [each.value for each in commands.destination])
        command = commands.encode(Opcode.LOAD, {}, {"destination": missing})
        assert commands.decode(command)[2]["destination"] == missing


def test_a_fifth_queue_has_its_wait_and_no_other_does():
    """A header would be read with a wait too many, or a body begin where another begins."""
    plain, moves = SETS["systolic"], SETS["systolic with moves"]
    assert (plain.header_bits, moves.header_bits) == (96, 112)
    assert [name for name, _ in moves.header] == [*(name for name, _ in plain.header), "wait_move"]
    with pytest.raises(ValueError, match=r"^MOVE is no command of this configuration$"):
        plain.encode(Opcode.MOVE, {}, {})
    with pytest.raises(ValueError, match=r"^command header has no field 'wait_move'$"):
        plain.encode(Opcode.STORE, {"move": 1}, {})
    command = moves.encode(Opcode.MOVE, {}, {})
    with pytest.raises(ValueError, match=r"^MOVE is no command of this configuration$"):
        plain.decode(command)


def test_bodies_too_long_for_the_header_are_refused():
    """A body that reached beyond its command would be read from the next one."""
    plain = SETS["systolic"]
    room = COMMAND_BYTES * 8 - plain.header_bits - 16
    long = variant(StoreBody, "", address=room - data.Layout.cast(StoreBody).size + 21)
    with pytest.raises(PearrayError, match=rf"^body of STORE must have at most {room} bits behind a header with 5 "
                                           rf"waits, not {room + 1}$"):
        replace(plain, move=MoveBody, store=long)
