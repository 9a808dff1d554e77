"""Pass over emitted Verilog: replicas of one module become loops over arrays, whatever paths go through them.

:mod:`.loops` does this for modules whose outputs are registers. Here outputs may depend on inputs in the same cycle,
and replicas may stand in rows that have logic of their own, as where networks lead along them: an array of rows of
processing elements. A combinational signal of a replica becomes an array of one element for each replica. Signals
of a phase (:mod:`.rows`) become one loop. A last loop at the clock's edge finds the rest and updates registers and
memories. What is the same for all replicas is found once.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from .branchless import branchless
from .netlist import MODULE, UnknownTextError, bare, escaped, names, parse, renamed
from .rows import WRITE, Node, Root, Rows, natural

__all__ = ["replicas"]

_COMPARISON = re.compile(r" (?:[=!]=|[<>]=?) |= ~?[|&] ")


def replicas(text: str, row: str, watched: Collection[str] = ()) -> str:
    """Rewrite the module that has rows of replicas.

    Parameters
    ----------
    text : str
        Verilog as :func:`pearray.sim.verilog.emit` writes it.
    row : str
        Module whose instances are the rows; the one that it has most instances of is what becomes loops.
    watched : collection of str
        Modules that something else looks into; if rows contain one of them, all stays as it is.

    Returns
    -------
    str
        A design that does the same in every cycle; the text itself if it isn't what this pass knows.
    """
    bodies = {bare(match[1]): match for match in MODULE.finditer(text)}
    instance = re.compile(rf"^  {re.escape(row)} (\\\S+ |\w+) ?\(\n(?:    \..*\n)*  \);\n", re.MULTILINE)
    around = [name for name, match in bodies.items() if instance.search(match[3])]
    if len(around) != 1 or not (inside := _inside(row, bodies)).isdisjoint(watched):
        return text
    match = bodies[around[0]]
    try:
        modules = {name: parse(bodies[name][3]) for name in inside}
        added = _Text(Rows(parse(match[3]), row, modules)).verilog()
    except UnknownTextError:
        return text
    module = instance.sub("", match[0]).removesuffix("endmodule\n") + added + "endmodule\n"
    return text[:match.start()] + module + text[match.end():]


def _inside(kind: str, bodies: Mapping[str, re.Match[str]]) -> set[str]:
    found = {bare(name) for name in re.findall(r"^  (\\\S+ |\w+) ?(?:\\\S+ |\w+) ?\(\n    \.", bodies[kind][3],
                                               re.MULTILINE)}
    return {kind}.union(*(_inside(name, bodies) for name in found))


class _Text:
    """Text of arrays and processes that stand for rows of replicas."""

    def __init__(self, rows: Rows):
        self._rows = rows
        self._flat, self._count, self._beside = rows.flat, rows.count, rows.beside
        self._places, self._same = rows.places, rows.same
        self._arrays: dict[str, tuple[str, int]] = {}

    def verilog(self) -> str:
        """Write declarations and processes that stand for the rows."""
        wires = self._wires()
        needed, ahead, stored = self._rows.divide()
        groups: dict[tuple[int, int], set[Node]] = {}
        for node in ahead:
            groups.setdefault((self._rows.phase(node), node[0]), set()).add(node)
        lines: list[str] = []
        for (phase, level), nodes in sorted(groups.items()):
            lines += self._process(f"phase_{phase}_{level}", "@*", level, nodes, stored)
        for level in (1, 2):
            nodes = {node for node in needed - ahead if node[0] == level}
            lines += self._process(f"edge_{level}", "@(posedge clk)", level, nodes, stored)
        common = [f"  reg {width}{name};\n  always @* {name}{right}"
                  for name, width, right in self._rows.hoisted.values()]
        arrays = [f"  reg {width}{name}[0:{size - 1}];\n" for name, (width, size) in sorted(self._arrays.items())]
        return "".join([*common, *arrays, *self._start(1), *self._start(2), *lines, *wires])

    def _element(self, root: Root) -> str:
        """Text of a root."""
        if isinstance(root, str):
            return root
        level, index, name = root
        return f"{self._array(self._rows.export((level, name)))}[{index}]"

    def _crosses(self, level: int, name: str) -> bool:
        """Whether a signal of a row is an input of a replica."""
        return level == 1 and name in self._places[1] and name in self._flat[1].statements

    def _array(self, node: Node) -> str:
        """Return the array of a signal; asking for it declares it."""
        level, name = node
        if self._crosses(level, name):
            return self._array((2, self._places[1][name][1]))
        flat, size = self._flat[level], _power(self._count[level])
        if name in flat.memories:
            size, width = size * _power(flat.memories[name].depth), flat.memories[name].width
        else:
            width = flat.widths[name]
        called = f"\\{'_rp'[level]}:{name} "
        # With a power of two of elements, Verilator checks no index.
        self._arrays[called] = width, size
        return called

    def _wires(self) -> list[str]:
        """Connect what the module around the rows reads of them."""
        around = self._flat[0]
        used = set(around.outputs).union(*map(names, around.statements.values()), *(
            names(part) for parts in around.registers.values() for part in parts))
        used |= {name for kind, ports in around.instances.values() if kind not in self._kinds()
                 for wire in ports.values() for name in names(wire)}
        used |= {name for _, _, right in self._rows.hoisted.values() for name in names(right)}
        for level in (1, 2):
            used |= {name for text in self._same[level].values() for name in names(text)}
        return [f"  assign {escaped(name)}= {self._element(self._rows.root(0, 0, name))};\n"
                for name in sorted(self._rows.driven.keys() & used, key=natural)]

    def _kinds(self) -> set[str]:
        return {self._flat[0].instances[name][0] for name in self._rows.children[0]}

    def _width_around(self, text: str) -> str:
        """Range of a signal around the rows, or of a constant."""
        if "'" in text:
            return f"[{int(text.partition(chr(39))[0]) - 1}:0] "
        name = bare(text)
        return next((width for common, width, _ in self._rows.hoisted.values() if bare(common) == name),
                    self._flat[0].widths.get(name, ""))

    def _start(self, level: int) -> Iterator[str]:
        flat, count = self._flat[level], self._count[level]
        yield f"  initial begin : start_{level}\n    reg [31:0] i;\n"
        yield from _for(count)
        for name in flat.registers:
            yield f"      {self._array((level, name))}[i] = {flat.initial.get(name, '0')};\n"
        yield "    end\n"
        for name, memory in flat.memories.items():
            yield from _for(count * _power(memory.depth))
            yield f"      {self._array((level, name))}[i] = 0;\n    end\n"
        yield "  end\n"

    def _process(self, label: str, event: str, level: int, nodes: set[Node], stored: set[Node]) -> Iterator[str]:
        """Write the loops that find signals of a level."""
        flat = self._flat[level]
        inputs = sorted((node for node in nodes if node[1] in flat.inputs), key=lambda node: natural(node[1]))
        order: dict[str, None] = {}

        def visit(node: Node) -> None:
            if node[1] not in order and node in nodes and node[1] not in flat.inputs:
                for one in sorted(self._rows.use(node).same):
                    visit(one)
                order[node[1]] = None

        for node in sorted(nodes, key=lambda node: natural(node[1])):
            visit(node)
        edge = event != "@*"
        stages = [*self._stages(level, list(order)), *[[]] * edge]
        body: list[str] = []
        for node in inputs:
            body += self._gather(*node)
        locals_: dict[str, str] = {}
        common: dict[str, str] = {}
        for number, stage in enumerate(stages):
            later = {name for after in stages[number + 1:] for one in after for name in names(flat.statements[one])}
            last = edge and number == len(stages) - 1
            kept = {name for name in stage if (level, name) in stored or name in later
                    or _written(name, flat.memories) or (name.endswith("/next") and not last)}
            body += self._loop(level, stage, kept, list(flat.registers) if last else [], locals_, common)
        if edge:
            body += self._writes(level)
        yield f"  always {event} begin : {label}\n    reg [31:0] i;\n"
        yield from (f"    reg {width}{called};\n" for called, width in locals_.items())
        yield from (f"    reg {self._width_around(value)}{called};\n" for value, called in common.items())
        # Verilator makes local variables of those that are written before the loop.
        yield from (f"    {called} = 0;\n" for called in locals_)
        yield from (f"    {called} = {value};\n" for value, called in common.items())
        yield from body
        yield "  end\n"

    def _stages(self, level: int, order: list[str]) -> list[list[str]]:
        """Divide signals so that accesses to memories, and wide signals, get loops of their own, and comparisons too.

        The C++ compiler makes vector instructions of the other two kinds of loops, but not of one that holds both
        comparisons and other operations on their results.
        """
        if level == 1:
            return [order]
        flat = self._flat[level]

        def kind(name: str) -> int:
            text = flat.statements[name]
            if any(one in flat.memories or _bits(flat.widths[one]) > 64
                   for one in names(text) if one not in self._same[level]):
                return 2
            return 1 if _COMPARISON.search(text) else 0

        left = {name: kind(name) for name in order}
        stages: list[list[str]] = []
        while left:
            stage: list[str] = []
            for name in [name for name in left if left[name] == len(stages) % 3]:
                if all(one not in left or one in stage or one == name for one in names(flat.statements[name])):
                    stage.append(name)
            stages.append(stage)
            for name in stage:
                del left[name]
        return stages

    def _loop(self, level: int, order: list[str], kept: set[str], updated: list[str],
              locals_: dict[str, str], common: dict[str, str]) -> Iterator[str]:
        """Write a loop that finds some signals, keeps some of them in arrays, and updates some registers."""
        flat = self._flat[level]
        loaded = sorted({name for one in order for name in names(flat.statements[one])
                         if name not in order and name not in self._same[level] and name not in flat.memories
                         and not (level == 1 and name in self._places[1])}
                        | {f"{name}/next" for name in updated if f"{name}/next" not in order}, key=natural)
        local: dict[str, str] = {}
        for name in [*loaded, *order]:
            local[name] = f"here_{len(locals_)}"
            locals_[local[name]] = flat.widths[name]

        def rename(name: str) -> str | None:
            if name in local:
                return f"{local[name]} "
            if name in self._same[level]:
                # A signal of the module would seem to be changed by what a loop writes.
                return f"{common.setdefault(self._same[level][name], f'common_here_{len(common)}')} "
            if name in flat.memories:
                return f"\\{name} "
            root = self._rows.root(1, 0, name)
            assert not isinstance(root, str)
            return f"{self._array(self._rows.export((root[0], root[2])))}[i * {self._beside} + {root[1]}]"

        def text(name: str) -> str:
            part = branchless(flat.statements[name], flat.widths)
            if "[" in part.partition(" = ")[0]:
                # A value put together from slices must not seem to depend on that of the replica before.
                part = f"    {escaped(name)}= 0;\n{part}"
            part = renamed(part, rename)
            for one, memory in flat.memories.items():
                part = _indexed(part, f"\\{one} ", self._array((level, one)), _power(memory.depth))
            return part

        if not order and not updated:
            return
        yield from _for(self._count[level])
        yield from (f"      {local[name]} = {self._array((level, name))}[i];\n" for name in loaded)
        for name in order:
            yield text(name)
            if name in kept:
                place = f"i * {self._beside} + {self._places[1][name][0]}" if self._crosses(level, name) else "i"
                yield f"      {self._array((level, name))}[{place}] = {local[name]};\n"
        for name in updated:
            yield f"      {self._array((level, name))}[i] = {local[f'{name}/next']};\n"
        yield "    end\n"

    def _writes(self, level: int) -> Iterator[str]:
        """Write a loop that writes to memories."""
        memories = self._flat[level].memories
        yield from _for(self._count[level])
        for name, memory in memories.items():
            for number in range(len(memory.writes)):
                enable, address, data = (self._array((level, f"{name}/{number}/{part}")) for part in WRITE)
                yield (f"      if ({enable}[i]) {self._array((level, name))}[i * {_power(memory.depth)} + {address}[i]]"
                       f" = {data}[i];\n")
        yield "    end\n"

    def _gather(self, level: int, port: str) -> Iterator[str]:
        """Copy what enters: from most replicas' neighbours in one loop, the rest one by one."""
        roots = [self._rows.root(level, index, port) for index in range(self._count[level])]
        found: Counter[tuple[int, Node]] = Counter()
        for index, root in enumerate(roots):
            if not isinstance(root, str) and root[0] == level and root[2] != port:
                found[root[1] - index, (level, root[2])] += 1
        common = max(found, key=lambda key: found[key], default=None)
        target = self._array((level, port))
        if common:
            distance, node = common
            inside = [index for index, root in enumerate(roots)
                      if not isinstance(root, str) and (root[1] - index, (root[0], root[2])) == common]
            first, end = inside[0], inside[-1] + 1
            if len(inside) == end - first:
                yield from _for(end, first)
                yield (f"      {target}[i] = {self._array(self._rows.export(node))}"
                       f"[i {'-' if distance < 0 else '+'} {abs(distance)}];\n    end\n")
                roots[first:end] = [(level, index, port) for index in inside]
        for index, root in enumerate(roots):
            if root != (level, index, port):
                yield f"    {target}[{index}] = {self._element(root)};\n"


def _bits(width: str) -> int:
    return int(width[1:width.index(":")]) + 1 if width else 1


def _written(name: str, memories: Mapping[str, object]) -> bool:
    return name.rpartition("/")[2] in WRITE and name.rsplit("/", 2)[0] in memories


def _power(number: int) -> int:
    """Least power of two that is not below a number."""
    return 1 << (number - 1).bit_length()


def _for(end: int, first: int = 0) -> list[str]:
    return ["    // verilator unroll_disable\n", f"    for (i = {first}; i < {end}; i = i + 1) begin\n"]


def _indexed(text: str, memory: str, array: str, pitch: int) -> str:
    """Let accesses to a memory go to a replica's part of an array."""
    start = text.find(memory)
    while start >= 0:
        opening = text.index("[", start)
        depth, end = 1, opening
        while depth:
            end += 1
            depth += {"[": 1, "]": -1}.get(text[end], 0)
        inside = f"{array}[i * {pitch} + ({text[opening + 1:end]})"
        text = text[:start] + inside + text[end:]
        start = text.find(memory, start + len(inside))
    return text
