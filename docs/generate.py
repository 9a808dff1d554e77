"""Write the reference pages that follow from the code: ``python docs/generate.py``."""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data, enum

from pearray import load_config
from pearray.generation import registers
from pearray.hdl.kinds import kinds
from pearray.hdl.routines import instructions
from pearray.hdl.shell import commands, ledger
from pearray.hdl.shell.functions import FUNCTIONS, post_body
from pearray.hdl.shell.registers import CAPABILITIES_OFFSET, REGISTERS, Cause

FOLDER = Path(__file__).parent

#: pearray's own kinds of array; plug-ins that happen to be installed have pages of their own.
OWN = [hardware for hardware in kinds().values() if not hardware.sources]

#: A configuration with post-processing of each.
EXAMPLES: list[tuple[str, dict[str, Any]]] = [("systolic-8x8", {}), ("eyeriss", {"array.operand_bits": 8})]

#: Bodies of the commands that all kinds share.
SHARED = {
    commands.Opcode.LOAD: commands.LoadBody, commands.Opcode.POST: commands.PostBody,
    commands.Opcode.STORE: commands.StoreBody, commands.Opcode.MOVE: commands.MoveBody,
}
#: Headers of configurations without MOVEs, and of those with them.
HEADER, WIDE_HEADER = (commands.header_layout(queues)
                       for queues in (commands.QUEUES, (*commands.QUEUES, commands.Opcode.MOVE)))


def _markdown(text: str) -> str:
    """Turn the little reStructuredText that our docstrings use into Markdown."""
    text = re.sub(r"\\ :sup:`(\d+)`", r"<sup>\1</sup>", inspect.cleandoc(text))
    text = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _fields(layout: Iterable[tuple[Any, data.Field]], offset: int, owner: str = "") -> list[str]:
    lines = ["| field | bits | type |", "|---|---|---|"]
    behind = f"-of-{owner}".replace(" ", "-").replace(".", "") if owner else ""
    for name, field in layout:
        shape = Shape.cast(field.shape)
        kind = "signed" if shape.signed else "unsigned"
        if isinstance(field.shape, enum.EnumMeta):
            kind = f"[{field.shape.__name__}](#{field.shape.__name__.lower()}{behind})"
        low = offset + field.offset
        bits = f"{low}" if shape.width == 1 else f"{low + shape.width - 1}..{low}"
        lines.append(f"| `{name}` | {bits} | {kind} |")
    return lines


def _enumeration(kind: Any, owner: str = "") -> list[str]:
    heading = f"### {kind.__name__} of `{owner}`" if owner else f"### {kind.__name__}"
    lines = [heading, "", _markdown(kind.__doc__), "", "| value | name |", "|---|---|"]
    return [*lines, *(f"| {member.value} | `{member.name}` |" for member in kind), ""]


def _kind(name: str, own: commands.CommandSet) -> list[str]:
    """Part on the commands of a kind of array."""
    lines = [f"## Kind `{name}`", "", f"### EXECUTE of `{name}`", "", _markdown(own.execute.__doc__ or ""), "",
             *_fields(data.Layout.cast(own.execute), own.header_bits), ""]
    lines += _variants(name, own)
    lines += [*_enumeration(own.destination, name), f"### Profile record of `{name}`", "",
              f"{len(own.record)} words: {', '.join(f'`{word}`' for word in own.record)}.", ""]
    return lines


def _variants(name: str, own: commands.CommandSet) -> list[str]:
    """Fields that a kind's commands have besides those that all kinds share."""
    lines = []
    for opcode, shared in SHARED.items():
        body = own.bodies.get(opcode, shared)
        if body is not shared:
            known = dict(data.Layout.cast(shared))
            fields = [(field, item) for field, item in data.Layout.cast(body)
                      if field not in known or field == "destination"]
            lines += [f"### {opcode.name} of `{name}`", "", _markdown(body.__doc__ or ""), "",
                      *_fields(fields, own.header_bits, name), ""]
    return lines


def _functions() -> list[str]:
    """Part on what functions of the vector engine add to commands."""
    lines = ["## Functions of the vector engine", "",
             "What a function adds to a POST, in configurations that have it. Bits are those of one with this function "
             "alone, and without MOVEs.", ""]
    for key, function in FUNCTIONS.items():
        fields = [(name, item) for name, item in data.Layout.cast(post_body({key}))
                  if name in (*function.flags, *function.fields)]
        lines += [f"### POST with post.{key}", "", _markdown(function.doc), "", *_fields(fields, HEADER.size), ""]
    for name, overrides in EXAMPLES:
        config = load_config(name, overrides).hardware
        if "softmax" in config.FUNCTIONS:
            own = load_config(name, overrides | {"post.softmax": 1}).hardware.commands.execute
            known = dict(data.Layout.cast(type(config).commands.execute))
            fields = [(field, item) for field, item in data.Layout.cast(own) if field not in known]
            lines += [f"### EXECUTE of {config.array.kind} with post.softmax", "", _markdown(own.__doc__ or ""), "",
                      *_fields(fields, HEADER.size), ""]
        if "pairs" in config.FUNCTIONS:
            chosen = load_config(name, overrides | {"post.pairs": 1}).hardware
            lines += _enumeration(chosen.commands.destination, f"{config.array.kind} with post.pairs")
        if "routines" in config.FUNCTIONS:
            chosen = load_config(f"{name}-bf16", {"post.routines": 1}).hardware
            lines += _enumeration(chosen.commands.destination, f"{config.array.kind} with post.routines")
    return lines


def _instructions() -> list[str]:
    """Part on routines."""
    lines = ["## Routines", "", "Written from hdl/routines/instructions.py.", "",
             _markdown(instructions.__doc__ or ""), "", "### An instruction of a routine", "",
             *_fields(instructions.LAYOUT, 0), "",
             "The literal of an instruction of memory has, from its lowest bit on, `offset`, `step` and `slot_step`, "
             f"{instructions.ELEMENT_BITS} bits each.", "", "### Operation", "",
             _markdown(instructions.Operation.__doc__ or ""), "",
             "| value | name | cycles | effect |", "|---|---|---|---|"]
    lines += [f"| {operation.value} | `{operation.name}` | {instructions.cycles_of(operation)} | {_markdown(effect)} |"
              for operation, effect in instructions.EFFECTS.items()]
    return [*lines, ""]


def program_page() -> str:
    """Page on the program format, from :mod:`pearray.hdl.shell.commands` and what pearray's kinds of array add."""
    lines = ["# Program format", "",
             "<!-- Written by docs/generate.py from hdl/shell/commands.py and commands.py of each kind of array: "
             "change those, not this. -->", "",
             f"Version {commands.FORMAT_VERSION}. Bits are counted from the least significant bit of the "
             "command's first byte. Bits of bodies are those without MOVEs, but for MOVE itself: with them, all bodies "
             f"stand {WIDE_HEADER.size - HEADER.size} bits higher.", "", _markdown(commands.__doc__ or ""), "",
             "## Header", "", "The last wait is there in configurations with MOVEs only.", "",
             *_fields(WIDE_HEADER, 0), ""]
    for opcode, body in SHARED.items():
        header = WIDE_HEADER if opcode is commands.Opcode.MOVE else HEADER
        lines += [f"## {opcode.name}", "", _markdown(body.__doc__ or ""), "",
                  *_fields(data.Layout.cast(body), header.size), ""]
    for hardware in OWN:
        lines += _kind(hardware.name, hardware.config.commands)
    lines += _functions()
    lines += _instructions()
    lines += ["## Enumerations", ""]
    for kind in (commands.Opcode, commands.Parameter, commands.Rounding):
        lines += _enumeration(kind)
    return "\n".join(lines).rstrip() + "\n"


def registers_page() -> str:
    """Page on the register map, from :mod:`pearray.hdl.shell.registers` and what pearray's kinds of array add."""
    lines = ["# Registers", "",
             "<!-- Written by docs/generate.py from hdl/shell/registers.py and the kinds of array: change those, not "
             "this. -->", "",
             "All registers are 32 bits wide and stand behind the AXI4-Lite port. Control is the same for all "
             "configurations, capabilities and counters for those of a kind of array; `kind` tells which it is. "
             "`pearray generate` puts the map into its manifest.",
             "", "## Control", "", "| offset | register | access | meaning |", "|---|---|---|---|"]
    for register in REGISTERS:
        lines.append(f"| `{register.offset:#05x}` | `{register.name}` | {register.access} | {register.doc} |")
    for hardware, (preset, overrides) in zip(OWN, EXAMPLES, strict=True):
        lines += ["", f"## Capabilities and counters of `{hardware.name}`", "",
                  "With post-processing; without it there are no counters of it and of parameters, and what stands "
                  "behind them follows those of execution.", "", "| offset | register | meaning |", "|---|---|---|"]
        config = load_config(preset, overrides).hardware
        assert config.KIND == hardware.name
        for item in registers(config):
            if item["offset"] >= CAPABILITIES_OFFSET:
                lines.append(f"| `{item['offset']:#05x}` | `{item['name']}` | {item['doc']} |")
    lines += ["", "## Causes of errors", "", "| value | cause |", "|---|---|"]
    lines += [f"| {cause.value} | `{cause.name}` |" for cause in Cause]
    return "\n".join(lines) + "\n"


def ledger_page() -> str:
    """Page on the ledger, from :mod:`pearray.hdl.shell.ledger`."""
    lines = ["# Ledger", "", "<!-- Written by docs/generate.py from hdl/shell/ledger.py: change that, not this. -->",
             "", *_markdown(ledger.__doc__ or "").partition("\n\n")[2].split("\n"), "",
             "`pearray run` prints the three largest losses and what would remove each, with an estimate of what it is "
             "worth where the kind of array has a price for programs. `--json` writes all entries as `ledger`, for the "
             "run and for each layer. They add up to `cycles`. Cycles in which the array has worked for a layer before "
             "the one in front of it has ended are that layer's.", "",
             "| entry | a cycle is charged to it if | what would remove it | key |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {account.meaning} | {account.remedy} | {f'`{account.key}`' if account.key else ''} |"
              for name, account in ledger.CAUSES.items()]
    lines += ["", "## How the hardware finds the cause", "",
              _markdown((ledger.Ledger.__doc__ or "").partition("Parameters")[0]).partition("\n\n")[2], "",
              "The cause leaves the accelerator on the port `trace_cause`, which may be left open, as the others of "
              "its name:", "", "| value | cause |", "|---|---|"]
    lines += [f"| {cause.value} | `{cause.name}` |" for cause in ledger.Cause]
    return "\n".join(lines) + "\n"


#: Pages and what writes them.
PAGES = {"program.md": program_page, "registers.md": registers_page, "ledger.md": ledger_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
