"""Verilog of a component: hierarchical, deterministic, one module for each distinct design unit."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amaranth.back import rtlil
from amaranth.back.verilog import _convert_rtlil_text
from amaranth.hdl import ClockDomain, Fragment, Value
from amaranth.hdl._ir import PortDirection
from amaranth.hdl._mem import MemoryInstance
from amaranth.lib import wiring

from ..hdl.blocks import unit
from ..hdl.blocks.rules import PREFIX
from ..hdl.blocks.structure import Structure
from .lint import clean_rtlil, clean_verilog

__all__ = ["emit", "emit_with_rules", "generate", "manifest"]

_CELL = re.compile(r"^  cell \\(\S+) \S+$", re.MULTILINE)
_MEMORY = re.compile(r"^  memory width (\d+) size (\d+) \\(\S+)$", re.MULTILINE)
_ZEROS = re.compile(r"^  cell \$meminit_v2 \S+\n    parameter \\MEMID \"\\\\(\S+)\"\n"
                    r"(?:    (?!connect \\DATA).*\n)*    connect \\DATA \{ *\}\n(?:    .*\n)*  end\n",
                    re.MULTILINE)
_DECLARATION = re.compile(r"^  reg (?:\[(\d+):0\] )?(?:\\(\S+) |(\w+)) \[(\d+):0\];\n", re.MULTILINE)
_PORT = re.compile(r"(?<= )(input|output) (\d+)(?=  ?(?:signed )?\\\S+$)", re.MULTILINE)
_RULE = re.compile(rf"^  (\w*_{PREFIX}\w+) (\w+) (\(\n(?:    .*\n)*  \);\n)", re.MULTILINE)
_BROKEN = re.compile(r"^( *)if \(!(.*?)\)\n *\$write\((\".*\")\);\n *assert \(.*\);\n", re.MULTILINE)
_MODULE = re.compile(r"^module \\(\S+)\n(.*?)^end$", re.MULTILINE | re.DOTALL)


def emit(component: wiring.Component, name: str) -> str:
    """Convert a component to Verilog.

    Ports are called as :func:`pearray.hdl.blocks.unit.ports` says, after the clock ``clk`` and the
    synchronous reset ``rst``. Units (``hdl/blocks/unit.py``) are modules of their own names, emitted once;
    an ordinary submodule is a module called by its path, joined with underscores. The text doesn't
    depend on ``PYTHONHASHSEED``, and holds no path of this machine. It depends on the version of
    Yosys, so the one that comes with Amaranth is taken, unless ``AMARANTH_USE_YOSYS`` says otherwise.

    Parameters
    ----------
    component : Component
        Top level.
    name : str
        Name of the top module.

    Returns
    -------
    str
        Verilog.

    Raises
    ------
    ValueError
        If two ports or two modules would get one name.
    """
    return emit_with_rules(component, name)[0]


def emit_with_rules(component: wiring.Component, name: str) -> tuple[str, str]:
    """Convert a component and its rules (:mod:`pearray.hdl.blocks.rules`) to Verilog, each to a text of its own.

    The text of the rules is SystemVerilog: a module for each rule, and a ``bind`` that puts it into the
    module that states it. Simulators read it beside the design; a broken rule is a ``$error``.
    """
    return _verilog(_modules(component, name))


def manifest(component: wiring.Component, name: str) -> dict[str, Any]:
    """Describe what :func:`emit` emits, as plain data for JSON; Yosys isn't run.

    Returns
    -------
    dict
        ``name``; ``ports``, a list of dictionaries with ``name``, ``direction`` ("input" or
        "output"), ``width`` in bits and ``signed``; ``modules``, a list with the ``name`` of each
        module and how many ``instances`` the design has; ``memories``, a list with the ``module``
        and ``name`` of each memory, its ``depth`` in rows, ``width`` in bits and ``instances``.
    """
    return _manifest(component, name, _modules(component, name))


def generate(component: wiring.Component, name: str) -> tuple[str, dict[str, Any]]:
    """Return the results of :func:`emit` and :func:`manifest`, elaborating once."""
    modules = _modules(component, name)
    return _verilog(modules)[0], _manifest(component, name, modules)


def _modules(component: wiring.Component, name: str) -> dict[str, str]:
    """Elaborate a design; return the RTLIL of each module by name, the top module first."""
    units = unit.Units(name)
    modules: dict[str, str] = {}
    texts = [_rtlil(component, name, units)]
    done = 0
    while done < len(units.modules):
        unit_name = list(units.modules)[done]
        texts.append(_rtlil(units.modules[unit_name], unit_name, units))
        done += 1
    for text in texts:
        for match in _MODULE.finditer(text):
            plain = match[1].replace(".", "_")
            if plain in modules:
                raise ValueError(f"two modules would be called {plain!r}: rename a submodule or a unit")
            modules[plain] = clean_rtlil(match[2])
    # Submodules are named by their path, with dots, which Verilog would have to escape everywhere.
    for plain, body in modules.items():
        modules[plain] = _CELL.sub(lambda cell: cell[0].replace(cell[1], cell[1].replace(".", "_"), 1), body)
    return modules


def _rtlil(component: wiring.Component, name: str, units: unit.Units) -> str:
    """Convert one component to RTLIL, leaving out the units that it instantiates."""
    if isinstance(component, Structure):
        return component.rtlil(name, units)
    domain = ClockDomain("sync")
    fragment = Fragment.get(component, units)
    fragment.add_domains(domain)
    ports: dict[str, tuple[Value, PortDirection]] = {
        "clk": (domain.clk, PortDirection.Input),
        "rst": (domain.rst, PortDirection.Input),
    }
    for port, (value, is_input) in unit.ports(component).items():
        ports[port] = (value, PortDirection.Input if is_input else PortDirection.Output)
    unit.restore_names(component)
    with _without_zeros(fragment):
        text, _ = rtlil.convert_fragment(fragment, ports, name, emit_src=False)
    # Yosys numbers ports from 1, and would put number 0 last.
    return _PORT.sub(lambda port: f"{port[1]} {int(port[2]) + 1}", text)


@contextmanager
def _without_zeros(fragment: Fragment) -> Iterator[None]:
    """Take away the contents of memories that start as zeros, which are written out bit by bit."""
    taken = []

    def visit(part: Fragment) -> None:
        if isinstance(part, MemoryInstance) and not any(part._data._init._raw):
            taken.append((part._data._init, part._data._init._raw))
            part._data._init._raw = []
        for child, _, _ in part.subfragments:
            visit(child)

    visit(fragment)
    try:
        yield
    finally:
        for init, contents in taken:
            init._raw = contents


def _verilog(modules: dict[str, str]) -> tuple[str, str]:
    """Write modules as Verilog, in one run of Yosys for all of them, whose start takes longest.

    Returns the text of the design, and that of its rules.
    """
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    # Yosys would write an assignment for each row of a memory that starts as zeros, a megabyte for
    # a scratchpad. It gets the memory without its contents, and a loop is added to what it writes.
    zeroed = {(name, memory) for name, body in modules.items() for memory in _ZEROS.findall(body)}
    text = _convert_rtlil_text("\n".join(f"module \\{name}\n{_ZEROS.sub('', body)}end"
                                         for name, body in modules.items()), strip_internal_attrs=True)
    parts = re.split(r"^(module \\?\S+?(?= ?\())", text, flags=re.MULTILINE)
    bindings, rules = [], []
    for index in range(1, len(parts), 2):
        module = parts[index].removeprefix("module ").removeprefix("\\")
        memories = {memory for name, memory in zeroed if name == module}
        parts[index + 1] = _DECLARATION.sub(
            lambda found, memories=memories: found[0] + _clear(found) * ((found[2] or found[3]) in memories),
            parts[index + 1])
        bindings += [f"bind {module} {' '.join(found)}" for found in _RULE.findall(parts[index + 1])]
        parts[index + 1] = _RULE.sub("", parts[index + 1])
        if _is_rule(module):
            rules.append(parts[index] + _BROKEN.sub(r"\1if (!\2) $error(\3);\n", parts[index + 1]))
            parts[index] = parts[index + 1] = ""
    return clean_verilog("".join(parts)), clean_verilog("".join([*rules, *bindings]))


def _is_rule(module: str) -> bool:
    return f"_{PREFIX}" in module


def _clear(declaration: re.Match[str]) -> str:
    """Return the loop that sets a memory to zeros, for its declaration."""
    width, escaped, plain, last = declaration.groups()
    name = f"\\{escaped} " if escaped else plain
    return (f"  initial begin : \\{escaped or plain}$clear \n    integer row;\n"
            f"    for (row = 0; row <= {last}; row = row + 1)\n"
            f"      {name}[row] = {int(width or 0) + 1}'h0;\n  end\n")


def _manifest(component: wiring.Component, name: str, modules: dict[str, str]) -> dict[str, Any]:
    """Collect the manifest from the ports and the RTLIL."""
    ports = [{"name": clock, "direction": "input", "width": 1, "signed": False} for clock in ("clk", "rst")]
    for port, (value, is_input) in unit.ports(component).items():
        ports.append({"name": port, "direction": "input" if is_input else "output",
                      "width": len(value), "signed": value.shape().signed})
    modules = {module: body for module, body in modules.items() if not _is_rule(module)}
    children = {module: Counter(child for child in _CELL.findall(body) if child in modules)
                for module, body in modules.items()}
    instances = Counter({name: 1})
    for module in _top_down(name, children):
        for child, count in children[module].items():
            instances[child] += count * instances[module]
    return {
        "name": name,
        "ports": ports,
        "modules": [{"name": module, "instances": instances[module]} for module in modules],
        "memories": [{"module": module, "name": memory, "depth": int(depth), "width": int(width),
                      "instances": instances[module]}
                     for module, body in modules.items()
                     for width, depth, memory in _MEMORY.findall(body)],
    }


def _top_down(top: str, children: dict[str, Counter[str]]) -> list[str]:
    """Return the modules, each behind all modules that instantiate it."""
    order: dict[str, None] = {}

    def visit(module: str) -> None:
        if module not in order:
            for child in children[module]:
                visit(child)
            order[module] = None

    visit(top)
    return list(order)[::-1]
