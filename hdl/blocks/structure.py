"""Units that consist of other units and wires only."""

from collections.abc import Iterable, Mapping
from typing import Any

from amaranth.hdl import Module

from .unit import Unit, Units, ports

__all__ = ["Structure"]


class Structure(Unit):
    """Unit without logic of its own, described by its parts and the wires between them.

    A subclass declares its ports like any component, and defines :meth:`parts` and :meth:`wires`
    instead of ``elaborate``. Amaranth's simulator gets submodules and assignments made from that
    description; emitted Verilog gets it as it is, name by name, not bit by bit. So a row of 256
    PEs, some 14,000 bits wide, costs a tenth of a second.
    """

    def parts(self) -> Mapping[str, tuple[type[Unit], tuple[Any, ...]]]:
        """Return the class and constructor arguments of each part, by instance name."""
        raise NotImplementedError

    def wires(self) -> Iterable[tuple[str, str]]:
        """Return (target, source) pairs of equal width.

        A port of a part is ``part.port``, a port of the structure itself is ``port``; ports are called
        as :func:`pearray.hdl.blocks.unit.ports` calls them. Every input of a part, and every output of the
        structure, is the target of one wire.
        """
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        """Build the structure as submodules and assignments."""
        m = Module()
        values = {port: value for port, (value, _) in ports(self).items()}
        for name, (kind, arguments) in self.parts().items():
            part = kind(*arguments)
            m.submodules[name] = part
            values |= {f"{name}.{port}": value for port, (value, _) in ports(part).items()}
        for target, source in self.wires():
            m.d.comb += values[target].eq(values[source])
        return m

    def rtlil(self, name: str, units: Units) -> str:
        """Return the structure as a module of RTLIL, Yosys's text format.

        Parameters
        ----------
        name : str
            Name of the module.
        units : Units
            Where the parts' modules are asked for.

        Raises
        ------
        ValueError
            If a wire joins ports of different widths, or an input of a part or an output has not
            exactly one wire.
        """
        lines = [f"module \\{name}", "  wire input 1 \\clk", "  wire input 2 \\rst"]
        widths: dict[str, int] = {}
        wanted: set[str] = set()
        for number, (port, (value, is_input)) in enumerate(ports(self).items(), 3):
            widths[port] = len(value)
            lines.append(f"  wire width {len(value)} {'input' if is_input else 'output'} {number} \\{port}")
            if not is_input:
                wanted.add(port)

        modules: dict[str, tuple[str, dict[str, bool]]] = {}
        for part, (kind, arguments) in self.parts().items():
            module, component = units.module(kind, arguments)
            modules[part] = module, {}
            for port, (width, is_input) in component.items():
                modules[part][1][port] = is_input
                widths[f"{part}.{port}"] = width
                if is_input:
                    wanted.add(f"{part}.{port}")
                else:
                    lines.append(f"  wire width {width} \\{part}_{port}")

        sources: dict[str, str] = {}
        for target, source in self.wires():
            if target in sources or target not in wanted or widths[target] != widths[source]:
                raise ValueError(f"wire from {source!r} to {target!r} of {name} must be the only one to an "
                                 "input of a part or an output, and as wide")
            sources[target] = source.replace(".", "_")
        if wanted != sources.keys():
            raise ValueError(f"port {min(wanted - sources.keys())!r} in {name} must have a wire")

        for part, (module, directions) in modules.items():
            lines += [f"  cell \\{module} \\{part}", "    connect \\clk \\clk", "    connect \\rst \\rst"]
            for port, is_input in directions.items():
                wire = sources[f"{part}.{port}"] if is_input else f"{part}_{port}"
                lines.append(f"    connect \\{port} \\{wire}")
            lines.append("  end")
        lines += [f"  connect \\{port} \\{sources[port]}" for port in sources if "." not in port]
        return "\n".join([*lines, "end", ""])
