"""Layouts of commands: variants of bodies, and fields as bits."""

from collections.abc import Collection, Mapping
from functools import cache
from types import new_class
from typing import Any, NamedTuple

from amaranth.hdl import Shape, unsigned
from amaranth.lib import data, enum

__all__ = ["Place", "body_places", "pack", "places", "some_of", "unpack", "variant"]


def variant(body: type[data.Struct], doc: str, *flags: str, added: Mapping[str, int] | None = None,
            **shapes: Any) -> type[data.Struct]:
    """Body of a shared command as a kind of array has it.

    Parameters
    ----------
    body : type of Struct
        The shared body.
    doc : str
        What is different.
    flags : str
        Names of the first reserved bits.
    added : mapping of str to int
        Unsigned fields behind the shared ones by name, and their bits.
    shapes : shape
        Shapes of fields by name, as wide as the shared ones.
    """
    # Verilog tells the names of fields, so a kind that does not use a bit must not see its name.
    fields: dict[str, Any] = {}
    for name, item in data.Layout.cast(body):
        shape = item.shape
        if name == "reserved":
            fields |= dict.fromkeys(flags, 1)
            shape = unsigned(shape.width - len(flags))
        fields[str(name)] = shapes.get(str(name), shape)
    fields |= {name: unsigned(bits) for name, bits in (added or {}).items()}
    space = {"__annotations__": fields, "__doc__": doc, "__module__": body.__module__}
    make: Any = type(data.Struct)
    made: type[data.Struct] = make(body.__name__, (data.Struct,), space)
    return made


def some_of(members: Collection[enum.Enum]) -> Any:
    """Enumeration of some members of another, of the same name and width, or that itself if they are all of it.

    Verilog tells the names of members, so a configuration must not see those that it does not have.
    """
    whole: Any = type(next(iter(members)))
    if len(members) == len(whole):
        return whole

    def fill(space: dict[str, Any]) -> None:
        for member in members:
            space[member.name] = member.value

    return new_class(whole.__name__, (enum.Enum,), {"shape": Shape.cast(whole)}, fill)


class Place(NamedTuple):
    """Where a field stands, and what it may hold; looked up for every field of every command."""

    offset: int
    width: int
    lower: int
    upper: int
    #: Members of an enumeration by value.
    members: Mapping[int, Any]


def places(layout: Any) -> dict[str, Place]:
    """Places of the fields of a layout."""
    places = {}
    for name, item in layout:
        shape = Shape.cast(item.shape)
        lower = -(1 << shape.width - 1) if shape.signed else 0
        members = {member.value: member for member in item.shape} if isinstance(item.shape, enum.EnumMeta) else {}
        places[name] = Place(item.offset, shape.width, lower, lower + (1 << shape.width) - 1, members)
    return places


@cache
def body_places(body: type[data.Struct]) -> dict[str, Place]:
    """Places of the fields of a body, looked up once."""
    return places(data.Layout.cast(body))


def pack(places: Mapping[str, Place], fields: Mapping[str, int], context: str) -> int:
    """Put fields together; absent ones are zero.

    Raises
    ------
    ValueError
        If a field is unknown or a value does not fit its field; ``context`` says of what.
    """
    bits = 0
    for name, value in fields.items():
        if name not in places:
            raise ValueError(f"{context} has no field {name!r}")
        place = places[name]
        value = int(getattr(value, "value", value))
        if not place.lower <= value <= place.upper:
            raise ValueError(f"{context} field {name} must be in {place.lower}..{place.upper}, not {value}")
        bits |= (value & (1 << place.width) - 1) << place.offset
    return bits


def unpack(places: Mapping[str, Place], bits: int) -> dict[str, Any]:
    """Take bits apart into fields, the inverse of :func:`pack`."""
    fields = {}
    for name, place in places.items():
        value = bits >> place.offset & (1 << place.width) - 1
        if value > place.upper:
            value -= 1 << place.width
        # A number that names nothing stays one.
        fields[name] = place.members.get(value, value)
    return fields
