"""Write the reference pages that follow from the code: ``python docs/generate.py``."""

import inspect
import re
from pathlib import Path
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data, enum

from pearray import load_config
from pearray.generation import registers
from pearray.hdl.shell import commands
from pearray.hdl.shell.registers import CAPABILITIES_OFFSET, Cause

FOLDER = Path(__file__).parent


def _markdown(text: str) -> str:
    """Turn the little reStructuredText that our docstrings use into Markdown."""
    text = re.sub(r"\\ :sup:`(\d+)`", r"<sup>\1</sup>", inspect.cleandoc(text))
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _fields(layout: data.Layout, offset: int) -> list[str]:
    lines = ["| field | bits | type |", "|---|---|---|"]
    for name, field in layout:
        shape = Shape.cast(field.shape)
        kind = "signed" if shape.signed else "unsigned"
        if isinstance(field.shape, type) and issubclass(field.shape, enum.Enum):
            kind = f"[{field.shape.__name__}](#{field.shape.__name__.lower()})"
        low = offset + field.offset
        bits = f"{low}" if shape.width == 1 else f"{low + shape.width - 1}..{low}"
        lines.append(f"| `{name}` | {bits} | {kind} |")
    return lines


def _enumeration(kind: Any) -> list[str]:
    lines = [f"### {kind.__name__}", "", _markdown(kind.__doc__), "", "| value | name |", "|---|---|"]
    return [*lines, *(f"| {member.value} | `{member.name}` |" for member in kind), ""]


def program_page() -> str:
    """Page on the program format, from :mod:`pearray.hdl.shell.commands`."""
    lines = ["# Program format", "",
             "<!-- Written by docs/generate.py from hdl/shell/commands.py: change that, not this. -->", "",
             f"Version {commands.FORMAT_VERSION}. Bits are counted from the least significant bit of the "
             "command's first byte.", "", _markdown(commands.__doc__ or ""), "", "## Header", "",
             *_fields(commands.HEADER, 0), ""]
    for opcode, body in commands.BODIES.items():
        lines += [f"## {opcode.name}", "", _markdown(body.__doc__ or ""), "",
                  *_fields(data.Layout.cast(body), commands.HEADER_BITS), ""]
        if opcode is commands.Opcode.EXECUTE:
            body = commands.bodies("row-stationary")[opcode]
            lines += [f"## {opcode.name} of the row-stationary array", "", _markdown(body.__doc__ or ""), "",
                      *_fields(data.Layout.cast(body), commands.HEADER_BITS), ""]
    lines += ["## Enumerations", ""]
    for kind in (commands.Opcode, commands.Destination, commands.Rounding):
        lines += _enumeration(kind)
    return "\n".join(lines).rstrip() + "\n"


def registers_page() -> str:
    """Page on the register map, from :mod:`pearray.hdl.shell.registers`."""
    lines = ["# Registers", "",
             "<!-- Written by docs/generate.py from hdl/shell/registers.py: change that, not this. -->", "",
             "All registers are 32 bits wide and stand behind the AXI4-Lite port. Control is the same for all "
             "configurations, capabilities and counters for those of a kind of array; `kind` tells which it is. "
             "`pearray generate` puts the map into its manifest.",
             "", "| offset | register | access | meaning |", "|---|---|---|---|"]
    for item in registers(load_config("systolic-8x8")):
        lines.append(f"| `{item['offset']:#05x}` | `{item['name']}` | {item['access']} | {item['doc']} |")
    lines += ["", "## Capabilities and counters of the row-stationary kind", "",
              "With 8-bit operands; with 16-bit operands there are no counters of post-processing and parameters, and "
              "the last one follows those of execution.", "", "| offset | register | meaning |", "|---|---|---|"]
    for item in registers(load_config("eyeriss", {"array.operand_bits": 8})):
        if item["offset"] >= CAPABILITIES_OFFSET:
            lines.append(f"| `{item['offset']:#05x}` | `{item['name']}` | {item['doc']} |")
    lines += ["", "## Causes of errors", "", "| value | cause |", "|---|---|"]
    lines += [f"| {cause.value} | `{cause.name}` |" for cause in Cause]
    return "\n".join(lines) + "\n"


#: Pages and what writes them.
PAGES = {"program.md": program_page, "registers.md": registers_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
