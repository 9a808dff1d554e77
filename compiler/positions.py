"""Positions: integers that each run gives, and what of a program follows from them.

A program is compiled for position 0. Fields of some of its commands go up by a number of their own for each position,
so that the host makes the program of any other by additions: addresses of what is loaded from a table or stored into a
tensor that stays, and bounds of the keys that queries see.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..hdl.shell.commands import COMMAND_BYTES, CommandSet, Opcode
from .encoding import add_to_field, field_limits
from .kernels.attention import Attention
from .kernels.context import Moving
from .program import Mark, Program

__all__ = ["Position", "mark_bounds", "positions_of"]


@dataclass(frozen=True)
class Position:
    """A position of a program.

    Parameters
    ----------
    most : int
        The greatest.
    marks : tuple of Mark
        Fields that go up with it, by place of their commands.
    opcodes : tuple of Opcode
        Queues of these.
    """

    most: int
    marks: tuple[Mark, ...]
    opcodes: tuple[Opcode, ...]

    def apply(self, commands: np.ndarray, format: CommandSet, value: int) -> None:
        """Bring commands (n, 64) from position 0 to another; several positions add up."""
        groups: dict[tuple[Opcode, str], list[Mark]] = {}
        for opcode, mark in zip(self.opcodes, self.marks, strict=True):
            groups.setdefault((opcode, mark.field), []).append(mark)
        for (opcode, name), marks in groups.items():
            places, steps = np.array([(mark.place, mark.step) for mark in marks]).T
            add_to_field(commands, format, opcode, name, places, steps * value)

    def describe(self, name: str, format: CommandSet) -> dict[str, Any]:
        """What a host must know that writes positions into a program: bits, and by how much they go up."""
        fields = []
        for opcode, mark in zip(self.opcodes, self.marks, strict=True):
            first, width, _, _ = field_limits(format, opcode, mark.field)
            fields.append({"byte": mark.place * COMMAND_BYTES + first // 8, "bit": first % 8, "bits": width,
                           "step": mark.step})
        return {"name": name, "role": "position", "most": self.most, "fields": fields}


def mark_bounds(program: Program, kernel: Attention) -> None:
    """Mark the bounds of keys in the POST that a program of attention has got last, if they go up with a position."""
    if kernel.position is not None:
        # The last key, and the first of a window.
        for field in ("acc_nstep", "bias_nstep")[:1 + kernel.slides]:
            program.mark(field, kernel.position)


def positions_of(program: Program, most: dict[str, int], moving: Sequence[Moving]) -> dict[str, Position]:
    """Find what follows from the positions of a program, of which each has a greatest value.

    What is moved stays in its buffer at every position, and what is not moved is not touched by commands that are: this
    is asserted.
    """
    if not most:
        # Commands are made anew to be looked at, which of a long program takes long.
        return {}
    marks = {name: [mark for mark in program.marks if mark.position == name] for name in most}
    commands = program.commands
    for region in moving:
        first, end = region.buffer.address, region.buffer.address + region.buffer.nbytes
        for place, command in enumerate(commands):
            body = command.body
            if command.opcode is not region.opcode or body.get("fill") or not first <= body["dram"] < end:
                continue
            reach = body["dram"] + body["length"] + sum(
                (body.get(f"count{axis}", 1) - 1) * body.get(f"dram_step{axis}", 0) for axis in (1, 2))
            assert reach + most[region.position] * region.step <= end, f"{command} leaves {region.buffer.name}"
            marks[region.position].append(Mark(place, "dram", region.position, region.step))
    return {name: Position(most[name], tuple(found), tuple(commands[mark.place].opcode for mark in found))
            for name, found in marks.items()}
