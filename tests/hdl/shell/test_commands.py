"""Format of commands: what is encoded is what is decoded, for every kind of array."""

import pytest
from amaranth.hdl import Shape
from amaranth.lib import data, enum

from pearray.hdl.kinds import kinds
from pearray.hdl.shell.commands import (
    BODY_BITS,
    DESTINATION_BITS,
    RECORD,
    LoadBody,
    Opcode,
    Parameter,
    PostBody,
    StoreBody,
    variant,
)

SETS = {name: hardware.config.commands for name, hardware in kinds().items()}
SHARED = {Opcode.LOAD: LoadBody, Opcode.POST: PostBody, Opcode.STORE: StoreBody}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("opcode", [opcode for opcode in Opcode if opcode is not Opcode.END])
def test_round_trip(rng, kind, opcode):
    """The compiler's fields would reach the engines in other places, or cut off."""
    commands = SETS[kind]
    layout = data.Layout.cast(commands.bodies[opcode])
    assert layout.size <= BODY_BITS
    for _ in range(20):
        body = {}
        for name, field in layout:
            shape = Shape.cast(field.shape)
            low = -(1 << shape.width - 1) if shape.signed else 0
            body[name] = int(rng.integers(low, low + (1 << shape.width)))
            if isinstance(field.shape, enum.EnumMeta):
                body[name] = rng.choice(list(field.shape))
        waits = {queue: int(rng.integers(0, 1 << 16)) for queue in ("load", "execute", "post", "store")}
        command = commands.encode(opcode, waits, body, int(rng.integers(0, 20)))
        assert commands.decode(command) == (opcode, waits, body)


@pytest.mark.parametrize("kind", SETS)
def test_kinds_share_what_the_shell_reads(kind):
    """A component of all kinds would read a field, a memory or a word of a record where this kind has another."""
    commands = SETS[kind]
    for opcode, body in SHARED.items():
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
