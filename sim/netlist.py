"""Modules of emitted Verilog as data: statements, registers, memories and instances.

Only the text that Yosys writes for our designs is known. Each signal has one driver, and processes are those of one
clock ``clk``.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

__all__ = ["COPY", "MODULE", "Memory", "Module", "UnknownTextError", "bare", "escaped", "flatten", "names", "parse",
           "renamed"]

_NAME = r"\\\S+ |[A-Za-z_][\w$]*"
#: Name, header and body of each module of a text.
MODULE = re.compile(rf"^module ({_NAME})\((.*?)\);\n(.*?)^endmodule\n", re.MULTILINE | re.DOTALL)
_ATTRIBUTE = re.compile(r"\(\* .*? \*\)")
_CLEAR = re.compile(r"  initial begin : \S+\$clear \n    integer row;\n    for \(.*\)\n      .*;\n  end\n")
_MEMORY = re.compile(rf"  reg (\[\d+:0\] )?({_NAME}) ?\[(\d+):0\];\n")
_DECLARATION = re.compile(rf"  (input|output|wire|reg) (?:signed )?(\[\d+:0\] )?({_NAME}) ?(?:= (\S+))?;\n")
_WRITE = re.compile(rf"  always @\(posedge clk\) begin\n    (?:if \((.*)\)\n      )?({_NAME})\[(.*)\] <= (.*);\n"
                    r"  end\n")
_READ = re.compile(rf"  always @\(posedge clk\) begin\n    (?:if \((.*)\) begin\n      )?({_NAME}) <= (.*);\n"
                   r"(?:    end\n)?  end\n")
_REGISTER = re.compile(rf"  always @\(posedge clk\)\n    ({_NAME}) ?<= (.*);\n")
_PROCESS = re.compile(r"  always @\* begin\n    if \(\S+ \) begin end\n((?:    .*\n)*)  end\n")
_ASSIGN = re.compile(rf"  assign ({_NAME}) ?(\[[\d:]+\] )?= (.*);\n")
_INSTANCE = re.compile(rf"  ({_NAME}) ?({_NAME}) ?\(\n((?:    \..*\n)*)  \);\n")
_CONNECTION = re.compile(rf"    \.({_NAME})\((.*)\),?\n")
_TARGET = re.compile(rf"^ *({_NAME}) ?(?:\[[\d:]+\] )?= ", re.MULTILINE)
#: A statement that only copies: its signal and the one that it copies.
COPY = re.compile(rf"^ *({_NAME}) ?= ({_NAME}) ?;\n$")
#: Numbers and system functions come first, so that no name is found inside them.
_WORD = re.compile(rf"\d+'s?[bdho][0-9a-fA-FxzXZ?_]+|\$[a-z]\w*|({_NAME})")
_KEYWORDS = {"if", "else", "begin", "end", "case", "casez", "endcase", "default"}


class UnknownTextError(Exception):
    """The text is not what is known here."""


@dataclass
class Memory:
    """Memory that begins with zeros.

    Parameters
    ----------
    width : str
        Range of a word, such as "[7:0] ".
    depth : int
        Words.
    writes : list of tuples
        Enable, address and data of each write.
    """

    width: str
    depth: int
    writes: list[tuple[str, str, str]] = field(default_factory=list)


@dataclass
class Module:
    """A module.

    Parameters
    ----------
    inputs, outputs : list of str
        Ports.
    widths : dict
        Range of each signal, such as "[7:0] ".
    initial : dict
        First value of each register.
    statements : dict
        Combinational signals and the statements that make them.
    registers : dict
        Registers: enable (or "") and next value.
    memories : dict
        Memories by name.
    instances : dict
        Instance to its module and the expression at each port.
    """

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    widths: dict[str, str] = field(default_factory=dict)
    initial: dict[str, str] = field(default_factory=dict)
    statements: dict[str, str] = field(default_factory=dict)
    registers: dict[str, tuple[str, str]] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    instances: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)


def bare(name: str) -> str:
    """Name as the dictionaries here have it, from how a text writes it."""
    return name.strip().removeprefix("\\")


def escaped(name: str) -> str:
    """Write a name as a text may have it, whatever is in it."""
    return f"\\{name} "


def names(text: str) -> set[str]:
    """Return the names in statements or an expression."""
    return {bare(match[1]) for match in _WORD.finditer(text) if match[1]} - _KEYWORDS


def renamed(text: str, new: Callable[[str], str | None]) -> str:
    """Replace names in statements or an expression; None leaves a name as it is."""
    def one(match: re.Match[str]) -> str:
        word = bare(match[1] or "")
        found = new(word) if word and word not in _KEYWORDS else None
        return match[0] if found is None else found

    return _WORD.sub(one, text)


def parse(body: str) -> Module:
    """Take the body of a module apart.

    Raises
    ------
    UnknownTextError
        If something in it is not known.
    """
    module = Module()
    rest = _CLEAR.sub("", _ATTRIBUTE.sub("", body))

    def take(pattern: re.Pattern[str], use: Callable[[re.Match[str]], None]) -> None:
        nonlocal rest
        for match in pattern.finditer(rest):
            use(match)
        rest = pattern.sub("", rest)

    def declare(match: re.Match[str]) -> None:
        kind, width, name, initial = match[1], match[2] or "", bare(match[3]), match[4]
        module.widths[name] = width
        if kind in ("input", "output"):
            (module.inputs if kind == "input" else module.outputs).append(name)
        if initial:
            module.initial[name] = initial

    def drive(target: str, text: str) -> None:
        module.statements[target] = module.statements.get(target, "") + text

    def process(match: re.Match[str]) -> None:
        targets = {bare(name) for name in _TARGET.findall(match[1])}
        if len(targets) != 1:
            raise UnknownTextError(match[0])
        drive(targets.pop(), match[1])

    def write(match: re.Match[str]) -> None:
        if bare(match[2]) not in module.memories:
            raise UnknownTextError(match[0])
        module.memories[bare(match[2])].writes.append((match[1] or "1'h1", match[3], match[4]))

    take(_MEMORY, lambda match: module.memories.update({bare(match[2]): Memory(match[1] or "", int(match[3]) + 1)}))
    take(_DECLARATION, declare)
    take(_WRITE, write)
    take(_READ, lambda match: module.registers.update({bare(match[2]): (match[1] or "", match[3])}))
    take(_REGISTER, lambda match: module.registers.update({bare(match[1]): ("", match[2])}))
    take(_PROCESS, process)
    take(_ASSIGN, lambda match: drive(bare(match[1]), f"    {escaped(bare(match[1]))}{match[2] or ''}= {match[3]};\n"))
    take(_INSTANCE, lambda match: module.instances.update({bare(match[2]): (bare(match[1]), {
        bare(port): wire for port, wire in _CONNECTION.findall(match[3])})}))
    if rest.strip():
        raise UnknownTextError(rest)
    return module


def flatten(kind: str, modules: Mapping[str, Module], keep: Collection[str]) -> Module:
    """Put what a module instantiates into it.

    Signals that only copy another one are replaced by it.

    Parameters
    ----------
    kind, modules
        The module.
    keep : collection of str
        Modules whose instances stay. Their ports become signals ``instance/port``, of which those of inputs, and the
        outputs of the whole, have a statement of their own even if it is a copy.

    Returns
    -------
    Module
        Names of signals in inner modules are ``instance/name``.
    """
    flat = Module(inputs=modules[kind].inputs, outputs=modules[kind].outputs)
    _inline(kind, "", modules, keep, flat)
    copies = {}
    for target, text in flat.statements.items():
        match = COPY.match(text)
        if match and flat.widths[target] == flat.widths[bare(match[2])]:
            copies[target] = bare(match[2])

    def source(name: str) -> str | None:
        begin = name
        while name in copies:
            name = copies[name]
        return None if name == begin else escaped(name)

    def resolve(text: str) -> str:
        return renamed(text, source)

    ends = {*flat.outputs, *(f"{instance}/{port}" for instance, (_, ports) in flat.instances.items() for port in ports)}
    flat.statements = {
        target: f"    {escaped(target)}= {resolve(text.split(' = ', 1)[1] if ' = ' in text else text)}"
        if target in copies else resolve(text)
        for target, text in flat.statements.items() if target not in copies or target in ends}
    flat.registers = {name: (resolve(enable), resolve(value)) for name, (enable, value) in flat.registers.items()}
    for memory in flat.memories.values():
        memory.writes = [(resolve(enable), resolve(address), resolve(data)) for enable, address, data in memory.writes]
    return flat


def _inline(kind: str, prefix: str, modules: Mapping[str, Module], keep: Collection[str], flat: Module) -> None:
    module = modules[kind]

    def text(part: str) -> str:
        return renamed(part, lambda name: escaped(prefix + name))

    flat.widths |= {prefix + name: width for name, width in module.widths.items()}
    flat.initial |= {prefix + name: value for name, value in module.initial.items()}
    for name, part in module.statements.items():
        flat.statements[prefix + name] = flat.statements.get(prefix + name, "") + text(part)
    flat.registers |= {prefix + name: (text(enable), text(value))
                       for name, (enable, value) in module.registers.items()}
    flat.memories |= {prefix + name: Memory(memory.width, memory.depth, [
        (text(enable), text(address), text(data)) for enable, address, data in memory.writes])
        for name, memory in module.memories.items()}
    for instance, (child_kind, ports) in module.instances.items():
        child = modules[child_kind]
        path = f"{prefix}{instance}/"
        if child_kind in keep:
            flat.instances[path[:-1]] = child_kind, {port: text(wire) for port, wire in ports.items()}
            flat.widths |= {path + port: child.widths[port] for port in ports}
        else:
            _inline(child_kind, path, modules, keep, flat)
        for port, wire in ports.items():
            if port in child.inputs:
                flat.statements[path + port] = f"    {escaped(path + port)}= {text(wire)};\n"
            else:
                (name,) = names(text(wire))
                flat.statements[name] = flat.statements.get(name, "") + f"    {text(wire)}= {escaped(path + port)};\n"
