"""Pass over emitted Verilog: an array of equal processing elements becomes loops over arrays.

Verilator writes the code of each instance of a module anew. For 256 PEs that is more than the
processor's caches hold, and fetching it takes longer than running it. This pass finds modules that
consist of many instances of one module and of wires, and writes each as one process: a loop for every
kind of wire between neighbours, and a loop over the instances for their logic. A C++ compiler makes
vector instructions of such loops.

The pass knows the text that Yosys writes, and modules whose outputs are registers; it leaves alone all
else. The statements of the repeated module stay as they are, but for the names in them.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["rewrite"]

#: Instances below which loops don't pay.
_LEAST = 16

_NAME = r"\\\S+ |[A-Za-z_]\w*"
_MODULE = re.compile(rf"^module ({_NAME})\((.*?)\);\n(.*?)^endmodule\n", re.MULTILINE | re.DOTALL)
_DECLARATION = re.compile(rf"  (input|output|wire|reg) (\[\d+:0\] )?({_NAME}) ?(?:= (\S+))?;\n")
_INSTANCE = re.compile(rf"  ({_NAME}) ?({_NAME}) ?\(\n((?:    \.\S+ ?\((?:{_NAME})\),?\n)*)  \);\n")
_CONNECTION = re.compile(rf"\.({_NAME})\(({_NAME})\)")
_ALIAS = re.compile(rf"  assign ({_NAME}) ?= ({_NAME}) ?;\n")
_ASSIGN = re.compile(rf"  assign ({_NAME}) ?= (.*);\n")
_REGISTER = re.compile(rf"  always @\(posedge clk\)\n    ({_NAME}) ?<= (.*);\n")
_PROCESS = re.compile(r"  always @\* begin\n    if \(\S+ \) begin end\n((?:    .*\n)*)  end\n")
_TARGET = re.compile(rf"^ *({_NAME}) ?= ", re.MULTILINE)
#: Numbers and system functions come first, so that no name is found inside them.
_WORD = re.compile(rf"\d+'s?[bdho][0-9a-fA-FxzXZ?_]+|\$[a-z]\w*|({_NAME})")
_KEYWORDS = {"if", "else", "begin", "end", "case", "casez", "endcase", "default"}


class _UnknownError(Exception):
    """The text is not what this pass knows."""


@dataclass(frozen=True)
class _Signal:
    kind: str
    width: str
    initial: str


@dataclass(frozen=True)
class _Module:
    header: str
    body: str
    signals: Mapping[str, _Signal]
    #: Name of an instance to its module and the wire at each port; empty if there is other logic.
    instances: Mapping[str, tuple[str, Mapping[str, str]]]
    #: Wire to the wire that it is another name of.
    aliases: Mapping[str, str]

    def ports(self, kind: str) -> list[str]:
        return [name for name, signal in self.signals.items() if signal.kind == kind]


@dataclass(frozen=True)
class _Logic:
    """What a module does in a cycle."""

    #: Combinational signals, each behind those that it needs, and the statement that makes it.
    wires: Mapping[str, str]
    #: Registers and their next values.
    registers: Mapping[str, str]
    #: Outputs and the registers that they are.
    outputs: Mapping[str, str]


#: Where a value comes from: the number of an instance and its output, or _PORT and a port of the whole.
_Source = tuple[int, str]
_PORT = -1


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
    modules = {match[1].strip(): _parse(match[2], match[3]) for match in _MODULE.finditer(text)}

    def replace(match: re.Match[str]) -> str:
        name = match[1].strip()
        parts = _parts(name, modules)
        leaves = [part for part in parts if not modules[part].instances]
        if len(parts) == 1 or len(leaves) != 1 or not parts.isdisjoint(watched):
            return match[0]
        try:
            return _loops(name, modules[leaves[0]], modules)
        except _UnknownError:
            return match[0]

    return _MODULE.sub(replace, text)


def _parts(name: str, modules: Mapping[str, _Module]) -> set[str]:
    """Return a module and all that it consists of."""
    kinds = {kind for kind, _ in modules[name].instances.values()}
    return {name}.union(*(_parts(kind, modules) for kind in kinds))


def _parse(header: str, body: str) -> _Module:
    signals: dict[str, _Signal] = {}
    for kind, width, name, initial in _DECLARATION.findall(body):
        # A port that is a register is declared twice.
        before = signals.get(name.strip())
        signals[name.strip()] = _Signal(before.kind if before else kind, width, initial or "0")
    instances = {name.strip(): (kind.strip(), {port.strip(): wire.strip() for port, wire in _CONNECTION.findall(wires)})
                 for kind, name, wires in _INSTANCE.findall(body)}
    aliases = {target.strip(): source.strip() for target, source in _ALIAS.findall(body)}
    rest = _ALIAS.sub("", _INSTANCE.sub("", _DECLARATION.sub("", body)))
    return _Module(header, body, signals, {} if rest.strip() else instances, aliases)


def _flatten(name: str, modules: Mapping[str, _Module], inputs: Mapping[str, _Source],
             leaves: list[dict[str, _Source]]) -> dict[str, _Source]:
    """Add the leaves of a module to a list, each as the sources of its inputs.

    Parameters
    ----------
    name, modules
        The module.
    inputs
        Sources of the module's inputs.
    leaves
        The list.

    Returns
    -------
    dict
        Sources of the module's outputs.
    """
    module = modules[name]
    known = dict(inputs)

    def source(wire: str) -> _Source:
        while wire not in known:
            if wire not in module.aliases:
                raise _UnknownError(wire)
            wire = module.aliases[wire]
        return known[wire]

    later = []
    waiting = sorted(module.instances, key=_natural)
    while waiting:
        # A block is taken once the sources of its inputs are known; it stands behind them in the list.
        for instance in waiting:
            kind, wires = module.instances[instance]
            child = modules[kind]
            if not child.instances:
                outputs = {port: (len(leaves), port) for port in child.ports("output")}
                leaves.append({})
                later.append((leaves[-1], {port: wires[port] for port in child.ports("input")}))
                break
            try:
                entering = {port: source(wires[port]) for port in child.ports("input")}
            except _UnknownError:
                continue
            outputs = _flatten(kind, modules, entering, leaves)
            break
        else:
            raise _UnknownError(name)
        waiting.remove(instance)
        known |= {wires[port]: value for port, value in outputs.items() if port in wires}
    for leaf, wires in later:
        leaf |= {port: source(wire) for port, wire in wires.items()}
    return {port: source(port) for port in module.ports("output")}


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _names(text: str) -> set[str]:
    return {match[1].strip() for match in _WORD.finditer(text) if match[1]} - _KEYWORDS


def _logic(module: _Module) -> _Logic:
    """Take a module apart that has no instances."""
    body = _DECLARATION.sub("", module.body)
    registers = {name.strip(): value for name, value in _REGISTER.findall(body)}
    statements = {name.strip(): f"    {name} = {value};\n" for name, value in _ASSIGN.findall(body)}
    for process in _PROCESS.findall(body):
        targets = {name.strip() for name in _TARGET.findall(process)}
        if len(targets) != 1:
            raise _UnknownError(process)
        statements[targets.pop()] = process
    rest = _ASSIGN.sub("", _PROCESS.sub("", _REGISTER.sub("", body)))
    if rest.strip():
        raise _UnknownError(rest)

    wires: dict[str, str] = {}

    def need(text: str, asking: frozenset[str]) -> None:
        for name in sorted(_names(text) - asking - wires.keys() - registers.keys()):
            if name in statements:
                need(statements[name], asking | {name})
                wires[name] = statements[name]
            elif name not in module.signals or module.signals[name].kind != "input":
                raise _UnknownError(name)

    for value in registers.values():
        need(value, frozenset())
    outputs = {}
    for port in module.ports("output"):
        register = port
        while register not in registers:
            if register not in module.aliases:
                raise _UnknownError(port)
            register = module.aliases[register]
        outputs[port] = register
    return _Logic(wires, registers, outputs)


def _shared(leaf: _Module, leaves: list[dict[str, _Source]]) -> dict[str, str]:
    """Return the inputs that come from the same port everywhere, such as the reset, which need no array."""
    common = {port: {one[port] for one in leaves} for port in leaf.ports("input")}
    return {port: next(iter(sources))[1] for port, sources in common.items()
            if len(sources) == 1 and next(iter(sources))[0] == _PORT}


def _loops(name: str, leaf: _Module, modules: Mapping[str, _Module]) -> str:
    """Write a module that consists of many instances of one other."""
    module, logic = modules[name], _logic(leaf)
    leaves: list[dict[str, _Source]] = []
    outputs = _flatten(name, modules, {port: (_PORT, port) for port in module.ports("input")}, leaves)
    if len(leaves) < _LEAST or any(number == _PORT for number, _ in outputs.values()):
        raise _UnknownError(name)

    shared = _shared(leaf, leaves)
    if shared.get("clk") != "clk":
        raise _UnknownError("clk")
    used = set().union(*map(_names, (*logic.wires.values(), *logic.registers.values())))
    inputs = [port for port in leaf.ports("input") if port in used and port not in shared]

    arrays = {port: f"input_{number}" for number, port in enumerate(inputs)}
    arrays |= {register: f"register_{number}" for number, register in enumerate(logic.registers)}
    local = {signal: f"{array}_here" for signal, array in arrays.items()}
    local |= {wire: f"wire_{number}" for number, wire in enumerate(logic.wires)}

    def renamed(text: str) -> str:
        def one(match: re.Match[str]) -> str:
            word = (match[1] or "").strip()
            return local.get(word) or shared.get(word) or match[0]

        return _WORD.sub(one, text)

    def declare(signal: str, called: str) -> str:
        return f"reg {leaf.signals[signal].width}{called}"

    next_values = {register: f"{arrays[register]}_next" for register in logic.registers}
    variables = [*local.items(), *next_values.items()]
    count = len(leaves)
    lines = [f"module {name}({module.header});\n"]
    lines += [f"  {signal.kind} {'reg ' * (signal.kind == 'output')}{signal.width}{_spaced(port)};\n"
              for port, signal in module.signals.items() if signal.kind in ("input", "output")]
    lines += [f"  {declare(signal, array)} [0:{count - 1}];\n" for signal, array in arrays.items()]
    lines += ["  initial begin : start\n    reg [31:0] i;\n", *_for(0, count)]
    lines += [f"      {arrays[register]}[i] = {leaf.signals[register].initial};\n" for register in logic.registers]
    lines += ["    end\n"]
    lines += [f"    {_spaced(port)} = {leaf.signals[logic.outputs[out]].initial};\n"
              for port, (_, out) in outputs.items()]
    lines += ["  end\n", "  always @(posedge clk) begin : step\n    reg [31:0] i;\n"]
    lines += [f"    {declare(signal, called)};\n" for signal, called in variables]
    # Verilator makes local variables of those that are written before the loop.
    lines += [f"    {called} = 0;\n" for _, called in variables]
    for port in inputs:
        lines += _gather(arrays[port], [one[port] for one in leaves],
                         {out: arrays[register] for out, register in logic.outputs.items()})
    lines += _for(0, count)
    # A choice of elements would become a branch; one of variables does not.
    lines += [f"      {local[signal]} = {array}[i];\n" for signal, array in arrays.items()]
    lines += [renamed(statement) for statement in logic.wires.values()]
    lines += [f"      {next_values[register]} = {renamed(value)};\n" for register, value in logic.registers.items()]
    lines += [f"      {arrays[register]}[i] = {value};\n" for register, value in next_values.items()]
    lines += ["    end\n"]
    lines += [f"    {_spaced(port)} <= {arrays[logic.outputs[out]]}[{number}];\n"
              for port, (number, out) in outputs.items()]
    return "".join([*lines, "  end\nendmodule\n"])


def _spaced(name: str) -> str:
    return f"{name} " if name.startswith("\\") else name


def _for(first: int, end: int) -> list[str]:
    return ["    // verilator unroll_disable\n", f"    for (i = {first}; i < {end}; i = i + 1) begin\n"]


def _gather(target: str, sources: list[_Source], registers: Mapping[str, str]) -> Iterator[str]:
    """Copy what enters: from most instances' neighbours in one loop, the rest one by one."""
    def copy(number: int, index: int, out: str) -> str:
        return f"    {target}[{number}] = " + (_spaced(out) if index == _PORT else f"{registers[out]}[{index}]") + ";\n"

    neighbours = Counter((number - index, out) for number, (index, out) in enumerate(sources) if index != _PORT)
    common = max(neighbours, key=lambda key: neighbours[key], default=None)
    if common:
        distance, out = common
        yield from _for(max(distance, 0), len(sources) + min(distance, 0))
        yield f"      {target}[i] = {registers[out]}[i {'+' if distance < 0 else '-'} {abs(distance)}];\n    end\n"
    yield from (copy(number, index, out) for number, (index, out) in enumerate(sources)
                if index == _PORT or (number - index, out) != common)
