"""Pass over emitted Verilog: an array of equal processing elements becomes loops over arrays.

Verilator writes the code of each instance of a module anew. For 256 PEs that is more than the
processor's caches hold, and fetching it takes longer than running it; 1,024 PEs of floats take hours
to compile. This pass finds modules that consist of many instances of one module, or of a few, and of
wires, and writes each as one process: a loop for every kind of wire between neighbours, and a loop over
the instances of each module for their logic. A C++ compiler makes vector instructions of such loops.

The pass knows the text that Yosys writes, and modules whose outputs are registers; it leaves alone all
else. What the repeated module instantiates is put into it. Its statements stay as they are, but for the
names in them.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from .branchless import branchless
from .netlist import COPY, MODULE, Module, UnknownTextError, bare, escaped, flatten, names, parse, renamed
from .truths import has_truths, without_truths

__all__ = ["rewrite"]

#: Instances below which loops don't pay.
_LEAST = 16

#: Where a value comes from: a kind of part, its number among those, and its output; or _PORT, 0 and a port.
_Source = tuple[str, int, str]
_PORT = ""


@dataclass(frozen=True)
class _Structure:
    """A module of instances and wires."""

    inputs: list[str]
    outputs: list[str]
    #: Name of an instance to its module and the wire at each port.
    instances: Mapping[str, tuple[str, Mapping[str, str]]]
    #: Wire to the wire that it is another name of.
    aliases: Mapping[str, str]


def rewrite(text: str, watched: Collection[str] = ()) -> str:
    """Rewrite a design.

    Parameters
    ----------
    text : str
        Verilog as :func:`pearray.sim.verilog.emit` writes it.
    watched : collection of str
        Modules that something else looks into, which stay as they are.

    Returns
    -------
    str
        A design that does the same in every cycle.
    """
    modules = {}
    for match in MODULE.finditer(text):
        try:
            modules[bare(match[1])] = parse(match[3])
        except UnknownTextError:
            continue
    structures = {name: made for name, module in modules.items() if (made := _structure(module)) is not None}

    def replace(match: re.Match[str]) -> str:
        name = bare(match[1])
        if name not in structures or not _instantiated(name, modules).isdisjoint(watched):
            return match[0]
        try:
            return _loops(name, match[2], structures, modules)
        except UnknownTextError:
            return match[0]

    return MODULE.sub(replace, text)


def _structure(module: Module) -> _Structure | None:
    """Return what a module consists of; None if it has other logic."""
    aliases = {target: match for target, text in module.statements.items() if (match := COPY.match(text))}
    wires = {instance: (kind, {port: bare(wire) for port, wire in ports.items()})
             for instance, (kind, ports) in module.instances.items()}
    plain = all(wire in module.widths for _, ports in wires.values() for wire in ports.values())
    if not wires or not plain or module.registers or module.memories or len(aliases) < len(module.statements):
        return None
    return _Structure(module.inputs, module.outputs, wires, {name: bare(match[2]) for name, match in aliases.items()})


def _instantiated(name: str, modules: Mapping[str, Module]) -> set[str]:
    """Return a module and all that it consists of."""
    kinds = {kind for kind, _ in modules[name].instances.values()} if name in modules else set()
    return {name}.union(*(_instantiated(kind, modules) for kind in kinds))


class _Parts:
    """Instances of one module in a module that consists of them.

    Parameters
    ----------
    flat : Module
        The module, with what it instantiates.
    prefix : str
        Begin of the names of its arrays and variables.
    """

    def __init__(self, flat: Module, prefix: str):
        if flat.memories or any(enable for enable, _ in flat.registers.values()):
            raise UnknownTextError(prefix)
        self._flat = flat
        self._prefix = prefix
        #: For each instance the sources of its inputs.
        self.sources: list[dict[str, _Source]] = []
        #: Outputs and the registers that they are.
        self.registers = {port: self._register(port) for port in flat.outputs}
        #: Combinational signals, each behind those that it needs.
        self.wires: list[str] = []
        for _, value in flat.registers.values():
            self._need(value, frozenset())

    def _register(self, port: str) -> str:
        while port not in self._flat.registers:
            match = COPY.match(self._flat.statements.get(port, ""))
            if match is None:
                raise UnknownTextError(port)
            port = bare(match[2])
        return port

    def _need(self, text: str, asking: frozenset[str]) -> None:
        for name in sorted(names(text) - asking - {*self.wires} - self._flat.registers.keys()):
            if name in self._flat.statements:
                self._need(self._flat.statements[name], asking | {name})
                self.wires.append(name)
            elif name not in self._flat.inputs:
                raise UnknownTextError(name)

    def name(self) -> None:
        """Choose names, once the sources are known."""
        flat = self._flat
        common = {port: {one[port] for one in self.sources} for port in flat.inputs}
        # Inputs that come from the same port everywhere, such as the reset, need no array.
        shared = {port: source for port, (source, *more) in common.items() if not more and source[0] == _PORT}
        if shared.get("clk") != (_PORT, 0, "clk"):
            raise UnknownTextError("clk")
        self._compares = any(has_truths(flat.statements[wire]) for wire in self.wires)
        texts = [flat.statements[wire] for wire in self.wires] + [value for _, value in flat.registers.values()]
        used = set().union(*map(names, texts))
        self.inputs = [port for port in flat.inputs if port in used and port not in shared]
        self.arrays = {port: f"{self._prefix}input_{number}" for number, port in enumerate(self.inputs)}
        self.arrays |= {register: f"{self._prefix}register_{number}" for number, register in enumerate(flat.registers)}
        self._next = {register: f"{self.arrays[register]}_next" for register in flat.registers}
        self._local = {signal: f"{array}_here" for signal, array in self.arrays.items()}
        self._local |= {wire: f"{self._prefix}wire_{number}" for number, wire in enumerate(self.wires)}
        self._names = {port: escaped(source[2]) for port, source in shared.items()} | self._local

    def _plain(self, text: str) -> str:
        if self._compares:
            return branchless(without_truths(text, self._flat.widths), self._flat.widths)
        return text

    def array_of(self, output: str) -> str:
        """Return the array of an output."""
        return self.arrays[self.registers[output]]

    def first(self, output: str) -> str:
        """Return the first value of an output."""
        return self._flat.initial.get(self.registers[output], "0")

    def declared(self) -> Iterator[str]:
        """Declare the arrays."""
        for signal, array in self.arrays.items():
            yield f"  reg {self._flat.widths[signal]}{array} [0:{len(self.sources) - 1}];\n"

    def begun(self) -> Iterator[str]:
        """Give registers their first values."""
        yield from _for(0, len(self.sources))
        for register in self._flat.registers:
            yield f"      {self.arrays[register]}[i] = {self._flat.initial.get(register, '0')};\n"
        yield "    end\n"

    def variables(self) -> dict[str, str]:
        """Return the declarations of variables by their names."""
        named = [*self._local.items(), *self._next.items()]
        return {called: f"    reg {self._flat.widths[signal]}{called};\n" for signal, called in named}

    def step(self) -> Iterator[str]:
        """Compute what follows, for all instances."""
        yield from _for(0, len(self.sources))
        # A choice of elements would become a branch; one of variables does not.
        for signal, array in self.arrays.items():
            yield f"      {self._local[signal]} = {array}[i];\n"
        for wire in self.wires:
            yield renamed(self._plain(self._flat.statements[wire]), self._names.get)
        for register, (_, value) in self._flat.registers.items():
            yield f"      {self._next[register]} = {renamed(value, self._names.get)};\n"
        for register, value in self._next.items():
            yield f"      {self.arrays[register]}[i] = {value};\n"
        yield "    end\n"


def _flatten(name: str, structures: Mapping[str, _Structure], modules: Mapping[str, Module],
             inputs: Mapping[str, _Source], parts: dict[str, _Parts]) -> dict[str, _Source]:
    """Add the parts of a module to those of their kinds.

    Parameters
    ----------
    name, structures, modules
        The module.
    inputs
        Sources of the module's inputs.
    parts
        Parts by their module.

    Returns
    -------
    dict
        Sources of the module's outputs.
    """
    structure = structures[name]
    known = dict(inputs)

    def source(wire: str) -> _Source:
        while wire not in known:
            if wire not in structure.aliases:
                raise UnknownTextError(wire)
            wire = structure.aliases[wire]
        return known[wire]

    later = []
    waiting = sorted(structure.instances, key=_natural)
    while waiting:
        # A block is taken once the sources of its inputs are known; it stands behind them in the list.
        for instance in waiting:
            kind, wires = structure.instances[instance]
            if kind not in modules:
                raise UnknownTextError(kind)
            entering = {port: wires[port] for port in modules[kind].inputs}
            if kind not in structures:
                if kind not in parts:
                    parts[kind] = _Parts(flatten(kind, modules, ()), f"kind_{len(parts)}_" if parts else "")
                leaves = parts[kind].sources
                outputs = {port: (kind, len(leaves), port) for port in modules[kind].outputs}
                leaves.append({})
                later.append((leaves[-1], entering))
                break
            try:
                sources = {port: source(wire) for port, wire in entering.items()}
            except UnknownTextError:
                continue
            outputs = _flatten(kind, structures, modules, sources, parts)
            break
        else:
            raise UnknownTextError(name)
        waiting.remove(instance)
        known |= {wires[port]: value for port, value in outputs.items() if port in wires}
    for leaf, wires in later:
        leaf |= {port: source(wire) for port, wire in wires.items()}
    return {port: source(port) for port in structure.outputs}


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _loops(name: str, header: str, structures: Mapping[str, _Structure], modules: Mapping[str, Module]) -> str:
    """Write a module that consists of many instances of a few others."""
    module = modules[name]
    parts: dict[str, _Parts] = {}
    outputs = _flatten(name, structures, modules, {port: (_PORT, 0, port) for port in module.inputs}, parts)
    # Delay lines alone don't pay.
    if (any(len(part.sources) < _LEAST for part in parts.values()) or not any(part.wires for part in parts.values())
            or any(kind == _PORT for kind, _, _ in outputs.values())):
        raise UnknownTextError(name)
    for part in parts.values():
        part.name()

    variables = {called: text for part in parts.values() for called, text in part.variables().items()}
    lines = [f"module {name}({header});\n"]
    lines += [f"  input {module.widths[port]}{escaped(port)};\n" for port in module.inputs]
    lines += [f"  output reg {module.widths[port]}{escaped(port)};\n" for port in module.outputs]
    lines += [line for part in parts.values() for line in part.declared()]
    lines += ["  initial begin : start\n    reg [31:0] i;\n"]
    lines += [line for part in parts.values() for line in part.begun()]
    lines += [f"    {escaped(port)}= {parts[kind].first(out)};\n" for port, (kind, _, out) in outputs.items()]
    lines += ["  end\n", "  always @(posedge clk) begin : step\n    reg [31:0] i;\n", *variables.values()]
    # Verilator makes local variables of those that are written before the loop.
    lines += [f"    {called} = 0;\n" for called in variables]
    for part in parts.values():
        for port in part.inputs:
            lines += _gather(part.arrays[port], [one[port] for one in part.sources], parts)
    lines += [line for part in parts.values() for line in part.step()]
    lines += [f"    {escaped(port)}<= {parts[kind].array_of(out)}[{number}];\n"
              for port, (kind, number, out) in outputs.items()]
    return "".join([*lines, "  end\nendmodule\n"])


def _for(first: int, end: int) -> list[str]:
    return ["    // verilator unroll_disable\n", f"    for (i = {first}; i < {end}; i = i + 1) begin\n"]


def _gather(target: str, sources: list[_Source], parts: Mapping[str, _Parts]) -> Iterator[str]:
    """Copy what enters: from most instances' neighbours in one loop, the rest one by one."""
    neighbours = Counter((number - index, kind, out)
                         for number, (kind, index, out) in enumerate(sources) if kind != _PORT)
    common = max(neighbours, key=lambda key: neighbours[key], default=None)
    if common:
        distance, kind, out = common
        yield from _for(max(distance, 0), len(sources) + min(distance, 0))
        yield (f"      {target}[i] = {parts[kind].array_of(out)}"
               f"[i {'+' if distance < 0 else '-'} {abs(distance)}];\n    end\n")
    for number, (kind, index, out) in enumerate(sources):
        if kind == _PORT:
            yield f"    {target}[{number}] = {escaped(out)};\n"
        elif (number - index, kind, out) != common:
            yield f"    {target}[{number}] = {parts[kind].array_of(out)}[{index}];\n"
