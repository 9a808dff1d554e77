"""Rows of replicas in emitted Verilog: where the value of each signal comes from, and when it can be found.

A phase is what can be found of all replicas in the same order of evaluation. What comes from neighbours, or has gone
through logic around the replicas, belongs to a later phase than what it is made of.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from .netlist import Module, UnknownTextError, bare, escaped, flatten, names, renamed

__all__ = ["WRITE", "Node", "Root", "Rows", "Use", "natural"]

#: An expression that is a mere name.
_PLAIN = re.compile(r"^ *(\\\S+ |[A-Za-z_][\w$]*) ?;?\n?$")

#: Replicas below which loops don't pay.
_LEAST = 16

#: What a write to a memory consists of.
WRITE = ("enable", "address", "data")

#: What an input is connected to: text of the surrounding module, or (level, replica, name).
Root = str | tuple[int, int, str]
Node = tuple[int, str]


def natural(name: str) -> list[tuple[int, str]]:
    """Key by which names are put in the order of the numbers in them."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


@dataclass
class Use:
    """What a statement reads, by kind."""

    same: set[Node]
    other: set[Node]
    around: set[str]


class Rows:
    """Rows of replicas: level 0 is the module around them, level 1 a row, level 2 a replica.

    Parameters
    ----------
    around : Module
        The module around the rows.
    row : str
        Module whose instances are the rows; the one that it has most instances of is the replicas'.
    modules : mapping of str to Module
        The rows' module and all that it consists of.

    Raises
    ------
    UnknownTextError
        If there are too few replicas, or not all are equal; from methods also if there is a loop of signals.
    """

    def __init__(self, around: Module, row: str, modules: Mapping[str, Module]):
        (leaf, beside), = Counter(kind for kind, _ in modules[row].instances.values()).most_common(1)
        flat = [around, flatten(row, modules, [leaf]), flatten(leaf, modules, [])]
        rows = sorted((name for name, (kind, _) in around.instances.items() if kind == row), key=natural)
        if len(flat[1].instances) != beside or len(rows) * beside < _LEAST:
            raise UnknownTextError(row)
        #: By level, the module with all in it but what the next level is.
        self.flat = flat
        #: Instances in it that are the next level, by the order of the numbers in their names.
        self.children = [rows, sorted(flat[1].instances, key=natural)]
        #: Replicas in a row, and instances of each level.
        self.beside = beside
        self.count = [1, len(rows), len(rows) * beside]
        #: Signals at the ports of the next level, each with the instance's number and its port.
        self.places = [{f"{child}/{port}": (index, port) for index, child in enumerate(self.children[level])
                        for port in flat[level].instances[child][1]} for level in (0, 1)]
        #: Wires around the rows that rows drive.
        self.driven: dict[str, tuple[int, str]] = {}
        for index, name in enumerate(rows):
            for port, wire in around.instances[name][1].items():
                if port in flat[1].outputs:
                    self.driven[bare(wire)] = index, port
        #: By level, signals that are the same in all instances, and the signal around the rows that they are.
        self.same: list[dict[str, str]] = [{}, {}, {}]
        #: Statements that moved out of the rows: name, width and text of each text.
        self.hoisted: dict[str, tuple[str, str, str]] = {}
        #: Signals that others than their own instance read.
        self.exported: set[Node] = set()
        self._phases: dict[Node | str, int] = {}
        self._uses: dict[Node, Use] = {}
        for level in (1, 2):
            self._hoist(level)

    def _copy(self, level: int, name: str) -> str | None:
        """Name of the signal that one is a mere copy of."""
        text = self.flat[level].statements.get(name, "")
        left, _, right = text.partition("= ")
        match = _PLAIN.match(right)
        if match is None or bare(left) != name or self.flat[level].widths.get(bare(match[1])) is None:
            return None
        return bare(match[1])

    def root(self, level: int, index: int, name: str) -> Root:
        """Find where the value of a signal comes from."""
        flat = self.flat[level]
        if name in self.same[level]:
            return self.same[level][name]
        if level == 0:
            if name in self.driven:
                return self.root(1, *self.driven[name])
            copied = self._copy(0, name)
            return escaped(name) if copied is None else self.root(0, 0, copied)
        if name in flat.inputs:
            if level == 1:
                wire = flat_text = self.flat[0].instances[self.children[0][index]][1][name]
                match = _PLAIN.match(wire)
                return flat_text if match is None else self.root(0, 0, bare(match[1]))
            row, place = divmod(index, self.beside)
            port = f"{self.children[1][place]}/{name}"
            copied = self._copy(1, port)
            if port in self.same[1]:
                return self.same[1][port]
            return (2, index, name) if copied is None else self.root(1, row, copied)
        if level == 1 and name in self.places[1] and name not in flat.statements:
            place, port = self.places[1][name]
            return self.root(2, index * self.beside + place, port)
        copied = self._copy(level, name)
        return (level, index, name) if copied is None else self.root(level, index, copied)

    def _hoist(self, level: int) -> None:
        """Find signals that are the same in all replicas."""
        flat, same = self.flat[level], self.same[level]
        for port in flat.inputs:
            roots = {self.root(level, index, port) for index in range(self.count[level])}
            if len(roots) == 1 and isinstance(root := roots.pop(), str):
                same[port] = root if _PLAIN.match(root) else self._common(f"= {root};\n", flat.widths[port])
        for name in flat.registers.keys() | flat.memories.keys():
            flat.statements.pop(name, None)
        driven = flat.statements.keys() | flat.registers.keys() | flat.memories.keys() | set(flat.inputs)
        for name, initial in flat.initial.items():
            if name not in driven:
                same[name] = initial
        found = True
        while found:
            found = False
            for name, text in flat.statements.items():
                left, _, right = text.partition("= ")
                if (name not in same and bare(left) == name and text.count("\n") == 1
                        and names(right) <= same.keys()):
                    same[name] = self._common(f"= {renamed(right, same.get)}", flat.widths[name])
                    found = True

    def _common(self, right: str, width: str) -> str:
        if right not in self.hoisted:
            self.hoisted[right] = f"common_{len(self.hoisted)} ", width, right
        return self.hoisted[right][0]

    def export(self, node: Node) -> Node:
        """Give a signal an array that others may read."""
        level, name = node
        flat = self.flat[level]
        if name in flat.registers:
            now = f"{name}/now"
            flat.statements[now] = f"    {escaped(now)}= {escaped(name)};\n"
            flat.widths[now] = flat.widths[name]
            # A statement that only copies would be seen through.
            flat.statements[now] = flat.statements[now].replace("= ", "= 0 | ", 1)
            node = level, now
        self.exported.add(node)
        return node

    def use(self, node: Node) -> Use:
        """Find what the statement of a signal reads."""
        if node not in self._uses:
            level, name = node
            flat = self.flat[level]
            use = self._uses[node] = Use(set(), set(), set())
            if name in flat.inputs and name not in flat.statements:
                for index in range(self.count[level]):
                    root = self.root(level, index, name)
                    if isinstance(root, str):
                        use.around |= names(root)
                    elif root == (level, index, name):
                        port = f"{self.children[1][index % self.beside]}/{name}"
                        use.other.add((1, port))
                    else:
                        use.other.add(self.export((root[0], root[2])))
            else:
                self._read(level, flat.statements[name], use, name)
        return self._uses[node]

    def _read(self, level: int, text: str, use: Use, target: str = "") -> None:
        flat = self.flat[level]
        for name in names(text) - {target}:
            if name in self.same[level]:
                use.around |= names(self.same[level][name])
            elif name in flat.registers or name in flat.memories:
                continue
            elif level == 1 and name in self.places[1] and name not in flat.statements:
                root = self.root(1, 0, name)
                assert not isinstance(root, str)
                use.other.add(self.export((root[0], root[2])))
            elif name in flat.statements or name in flat.inputs:
                use.same.add((level, name))
            else:
                raise UnknownTextError(name)

    def phase(self, node: Node) -> int:
        """Return the phase in which a signal is found."""
        if node not in self._phases:
            self._phases[node] = 1 << 20
            use = self.use(node)
            self._phases[node] = max([0, *map(self.phase, use.same), *(self.phase(one) + 1 for one in use.other),
                                      *(self._phase_around(name) + 1 for name in use.around)])
        if self._phases[node] >= 1 << 20:
            raise UnknownTextError(f"a loop through {node}")
        return self._phases[node]

    def _phase_around(self, name: str) -> int:
        """Return the last phase that a signal around the rows depends on, -1 if it depends on none."""
        if name not in self._phases:
            self._phases[name] = -1
            texts = [right for common, _, right in self.hoisted.values() if bare(common) == name]
            texts += [self.flat[0].statements.get(name, "")]
            phase = max((self._phase_around(one) for text in texts for one in names(text) - {name}), default=-1)
            if name in self.driven:
                root = self.root(0, 0, name)
                if isinstance(root, str):
                    phase = max([phase, *map(self._phase_around, names(root) - {name})])
                else:
                    phase = self.phase(self.export((root[0], root[2])))
            self._phases[name] = phase
        return self._phases[name]

    def divide(self) -> tuple[set[Node], set[Node], set[Node]]:
        """Return the signals that are needed, those found before the clock's edge, and those kept in arrays.

        What others read is found before the edge, the rest at the edge.
        """
        edges = {(level, name) for level in (1, 2) for name in self._next_values(level)}
        needed: set[Node] = set()
        ahead: set[Node] = set()

        def need(node: Node, found: set[Node], *, everywhere: bool) -> None:
            if node not in found:
                found.add(node)
                use = self.use(node)
                for one in use.same | (use.other if everywhere else set()):
                    need(one, found, everywhere=everywhere)

        for node in edges | self.exported:
            need(node, needed, everywhere=True)
        stored = self.exported | {node for node in needed if node[1] in self.flat[node[0]].inputs
                                  or (node[0] == 1 and node[1] in self.places[1])}
        for node in stored:
            need(node, ahead, everywhere=False)
        for node in needed:
            stored |= {one for one in self.use(node).same & ahead
                       if node not in ahead or self.phase(one) != self.phase(node)}
        return needed, ahead, stored

    def _next_values(self, level: int) -> list[str]:
        """Add statements for the next values of registers, and for what is written to memories."""
        flat = self.flat[level]
        added: dict[str, tuple[str, str]] = {}
        for name, (enable, value) in flat.registers.items():
            target = escaped(f"{name}/next")
            text = f"    {target}= {escaped(name)};\n    if ({enable}) " if enable else "    "
            added[f"{name}/next"] = flat.widths[name], f"{text}{target}= {value};\n"
        for name, memory in flat.memories.items():
            address = f"[{max(1, (memory.depth - 1).bit_length()) - 1}:0] "
            for number, write in enumerate(memory.writes):
                for part, width, value in zip(WRITE, ("", address, memory.width), write, strict=True):
                    target = f"{name}/{number}/{part}"
                    added[target] = width, f"    {escaped(target)}= {value};\n"
        for name, (width, text) in added.items():
            flat.widths[name], flat.statements[name] = width, text
        return list(added)
