"""Commands in bulk: what ``CommandSet.encode`` does for one, for all that share fields at once."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import data

from ..hdl.shell.commands import FORMAT_VERSION, CommandSet, Opcode

__all__ = ["add_to_field", "body_bytes", "field_limits", "put_field", "put_headers"]


@cache
def _fields(body: type[data.Struct], first: int) -> dict[str, tuple[int, int, int, int]]:
    """Fields of a command's body, whose first bit is given, by name: first bit, width, least and greatest value."""
    return {str(name): (first + field.offset, *_limits(field.shape)) for name, field in data.Layout.cast(body)}


def _limits(shape: Any) -> tuple[int, int, int]:
    cast = Shape.cast(shape)
    if cast.signed:
        return cast.width, -(1 << cast.width - 1), (1 << cast.width - 1) - 1
    return cast.width, 0, (1 << cast.width) - 1


def body_bytes(format: CommandSet, opcode: Opcode, body: Mapping[str, int], without: Sequence[str] = ()) -> bytes:
    """Bytes of a command of which only the body is there; fields `without` stay zero whatever it says.

    Raises
    ------
    ValueError
        If a field is unknown or a value does not fit its field.
    """
    kept = {name: 0 if name in without else value for name, value in body.items()}
    header = format.header_bits // 8
    return bytes(header) + format.encode(opcode, {}, kept)[header:]


def _put(commands: np.ndarray, offset: int, width: int, values: np.ndarray) -> None:
    """Write a field, zero so far, of commands (n, 64)."""
    shifted = (values.astype(np.int64).astype(np.uint64) & np.uint64((1 << width) - 1)) << np.uint64(offset % 8)
    for byte in range((offset % 8 + width + 7) // 8):
        commands[:, offset // 8 + byte] |= (shifted >> np.uint64(8 * byte)).astype(np.uint8)


def put_field(commands: np.ndarray, format: CommandSet, opcode: Opcode, name: str, values: np.ndarray) -> None:
    """Write a field, zero so far, of the bodies of commands (n, 64) of one queue; `values` are (n,).

    Raises
    ------
    ValueError
        If the field is unknown or a value does not fit it.
    """
    fields = _fields(format.bodies[opcode], format.header_bits)
    if name not in fields:
        raise ValueError(f"{opcode.name} command has no field {name!r}")
    offset, width, low, high = fields[name]
    if values.size and not low <= values.min() <= values.max() <= high:
        raise ValueError(f"{opcode.name} command field {name} must be in {low}..{high}, not "
                         f"{values.min() if values.min() < low else values.max()}")
    _put(commands, offset, width, values)


def field_limits(format: CommandSet, opcode: Opcode, name: str) -> tuple[int, int, int, int]:
    """First bit, width, least and greatest value of a field of the commands of a queue."""
    return _fields(format.bodies[opcode], format.header_bits)[name]


def add_to_field(commands: np.ndarray, format: CommandSet, opcode: Opcode, name: str, places: np.ndarray,
                 amounts: np.ndarray) -> None:
    """Add amounts (n,) to a field of the commands of one queue at some places, modulo two to the power of its width."""
    offset, width, _, _ = field_limits(format, opcode, name)
    rows = commands[places]
    bytes_of = range(offset // 8, (offset + width + 7) // 8)
    whole = sum(rows[:, byte].astype(np.uint64) << np.uint64(8 * index) for index, byte in enumerate(bytes_of))
    mask = np.uint64(((1 << width) - 1) << offset % 8)
    # Additions carry modulo 2**64, of which the mask leaves the field's bits.
    changed = whole + (amounts.astype(np.int64).astype(np.uint64) << np.uint64(offset % 8))
    whole = (whole & ~mask) | (changed & mask)
    for index, byte in enumerate(bytes_of):
        rows[:, byte] = (whole >> np.uint64(8 * index)).astype(np.uint8)
    commands[places] = rows


def put_headers(commands: np.ndarray, format: CommandSet, opcodes: np.ndarray,
                waits: Mapping[str, np.ndarray]) -> None:
    """Write the headers, zero so far, of all commands (n, 64) of a program, END included, in order.

    `waits`, (n,) for each queue, are ordinals of commands to wait for, which are taken modulo 2**16
    (:mod:`pearray.hdl.shell.waits`).
    """
    count = len(commands)
    near_end = np.zeros(count, np.int64)
    near_end[-15:] = 15 - np.arange(count)[::-1][-15:]
    values = {"opcode": opcodes, "version": np.full(count, FORMAT_VERSION), "near_end": near_end}
    for name, numbers in {**values, **{f"wait_{queue}": numbers for queue, numbers in waits.items()}}.items():
        place = format.header[name]
        _put(commands, place.offset, Shape.cast(place.shape).width, numbers)
