"""Format of commands: what is encoded is what is decoded, for both kinds of array."""

import pytest
from amaranth.hdl import Shape
from amaranth.lib import data, enum

from pearray.hdl.shell.commands import BODY_BITS, KINDS, Destination, Opcode, bodies, counts, decode, encode


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opcode", list(bodies("systolic")))
def test_round_trip(rng, kind, opcode):
    """The compiler's fields would reach the engines in other places, or cut off."""
    layout = data.Layout.cast(bodies(kind)[opcode])
    assert layout.size <= BODY_BITS
    for _ in range(20):
        body = {}
        for name, field in layout:
            shape = Shape.cast(field.shape)
            low = -(1 << shape.width - 1) if shape.signed else 0
            body[name] = int(rng.integers(low, low + (1 << shape.width)))
            if isinstance(field.shape, type) and issubclass(field.shape, enum.Enum):
                body[name] = rng.choice(list(field.shape))
        waits = {queue: int(rng.integers(0, 1 << 16)) for queue in ("load", "execute", "post", "store")}
        command = encode(opcode, waits, body, int(rng.integers(0, 20)), kind)
        assert decode(command, kind) == (opcode, waits, body)


def test_kinds_share_what_they_can():
    """A component of both kinds would read a field where the other kind has another."""
    systolic, other = (bodies(kind) for kind in KINDS)
    assert systolic[Opcode.LOAD] is other[Opcode.LOAD]
    for opcode in (Opcode.POST, Opcode.STORE):
        mine = dict(data.Layout.cast(systolic[opcode]))
        its = dict(data.Layout.cast(other[opcode]))
        del mine["reserved"]
        assert {name: its[name] for name in mine} == mine
        assert counts("systolic")[0][opcode] == counts("row-stationary")[0][opcode]
    with pytest.raises(ValueError, match="no field 'coded'"):
        encode(Opcode.STORE, {}, {"coded": 1})
    assert Destination.GLOBAL_BUFFER.value == 5
