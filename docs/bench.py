"""Measure what docs/benchmarks.md reports: ``make bench``, or ``python docs/bench.py --only speed``."""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench_breadth import INTRODUCTION as BREADTH
from bench_breadth import breadth
from bench_eyeriss import INTRODUCTION as EYERISS
from bench_eyeriss import eyeriss
from bench_generate import INTRODUCTION as GENERATION
from bench_generate import generation
from bench_shapes import INTRODUCTION as SHAPES
from bench_shapes import shapes
from bench_simulation import INTRODUCTION, simulation
from bench_sweep import INTRODUCTION as SWEEP
from bench_sweep import sweep

from pearray import load_config

PAGE = Path(__file__).parent / "benchmarks.md"

#: Arguments of `pearray run`, workload and configuration, and the cycles that it may take at most.
SPEED: list[tuple[str, str, int | None]] = [
    ("gemm:64x64x64", "systolic-8x8", 4820),
    ("gemm:256x256x256", "systolic-8x8", 262144 * 100 // 97),
    ("gemm:512x512x512", "systolic-16x16", None),
    ("linear:1,4096,4096", "systolic-16x16", 4096 * 4096 // 16 * 100 // 90),
    ("gemm:512x768x3072", "systolic-32x32", 1179648 * 100 // 98),
    ("gemm:512x64x512", "systolic-32x32", 16384 * 100 // 90),
    ("gemm:512x512x64", "systolic-32x32", 16384 * 100 // 90),
    ("alexnet-conv", "systolic-32x32", 738485),
    ("mnist", "systolic-8x8", None),
    ("mnist", "tests/cocotb/row_stationary.toml", None),
]

#: Distinct values that the outputs of a workload with a goal must have, so that they tell of faults.
VALUES = 200

#: Arguments of `pearray synth`: configuration, with overrides, and top level.
COST = [
    ("systolic-8x8", "accelerator"), ("systolic-8x8", "array"), ("systolic-8x8", "pe"),
    ("tests/cocotb/row_stationary.toml --set array.rows=4 --set array.cols=4 --seeds 1 --goal 80 --router router2",
     "array"),
    ("tests/cocotb/row_stationary.toml --set array.rows=4 --set array.cols=4", "pe"),
]


def measure(*arguments: str) -> dict[str, Any]:
    """Run a command of ours that writes JSON; return what it wrote, or the error it gave."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "pearray.cli", *arguments, "--json", str(file)]
        print("pearray", *arguments, flush=True)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if not file.is_file():
            return {"error": (done.stderr.strip().splitlines() or ["no figures"])[-1]}
        record: dict[str, Any] = json.loads(file.read_text())
        return record


def speed() -> Iterator[str]:
    """Table of cycles, one line for each workload."""
    yield "| command | cycles | limit | at most | utilisation | memory | mismatches | values | M MACs/s | Verilog |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for workload, config, most in SPEED:
        record = measure("run", workload, "--on", config)
        command = f"`pearray run {workload} --on {config}`"
        if "error" in record:
            yield f"| {command} | {record['error']} | | | | | | | | |"
            continue
        values = record["distinct_outputs"]
        few = ", **too few**" if most is not None and values < VALUES else ""
        goal = "" if most is None else f"{most:,}" if record["cycles"] <= most else f"{most:,}: **missed**"
        beat_bytes = load_config(config).beat_bytes
        beats = (record["dram_read_bytes"] + record["dram_write_bytes"]) / beat_bytes / record["cycles"]
        yield (f"| {command} | {record['cycles']:,} | {-(-record['macs'] // record['pes']):,} | {goal} "
               f"| {100 * record['utilisation']:.1f} % | {100 * beats:.0f} % "
               f"| {record['mismatches']} of {record['checked']:,} | {values}{few} "
               f"| {record['macs'] / record['sim_s'] / 1e6:,.1f} | `{record['verilog_sha256'][:12]}` |")


def cost() -> Iterator[str]:
    """Table of cells and frequencies, one line for each design."""
    yield "| command | LUT4 | CCU2C | distributed RAM | FF | MULT18 | block RAM | MHz | Verilog |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for config, top in COST:
        record = measure("synth", *config.split(), "--target", "ecp5-85", "--top", top)
        command = f"`pearray synth {config} --target ecp5-85 --top {top}`"
        if "error" in record:
            yield f"| {command} | {record['error']} | | | | | | | |"
            continue
        cells = " | ".join(f"{record[key]:,}" for key in ("lut4", "ccu2c", "distributed_ram", "ff", "mult18",
                                                         "block_ram"))
        yield f"| {command} | {cells} | {record['fmax_mhz']:.1f} | `{record['verilog_sha256'][:12]}` |"


#: Parts of the page: heading, introduction, table.
PARTS = {
    "speed": ("Cycles", "End to end, from the start write to the done flag, with the default memory: 32 "
              "cycles of latency, 8 bursts in flight, one beat a cycle. The limit is MACs over PEs. Memory is "
              "beats over cycles, reads and writes together. Values are the distinct ones among the outputs.", speed),
    "cost": ("Cost", "Lattice ECP5, speed grade 6, out of context, ports behind registers, the best of three "
             "seeds unless the command says otherwise; cells as Yosys counts them.", cost),
    "eyeriss": ("Eyeriss", EYERISS, partial(eyeriss, measure)),
    "generation": ("Generation", GENERATION, partial(generation, measure)),
    "simulation": ("Simulation", INTRODUCTION, partial(simulation, measure)),
    "breadth": ("Breadth", BREADTH, breadth),
    "shapes": ("Random shapes", SHAPES, shapes),
    "sweep": ("Random configurations", SWEEP, sweep),
}


def disagreement(page: str) -> str | None:
    """Name a preset whose figures stand for more than one Verilog, if there is one."""
    seen: dict[str, set[str]] = {}
    pattern = (r"\| `pearray (?:run \S+ --on (\S+)(?: --set workload\.\S+)*|generate (\S+) -o DIR|"
               r"synth (\S+) --target \S+ --top accelerator)`"
               r".*`([0-9a-f]{12})` \|")
    for match in re.finditer(pattern, page):
        seen.setdefault(match[1] or match[2] or match[3], set()).add(match[4])
    return next((f"{name}: {', '.join(sorted(found))}" for name, found in seen.items() if len(found) > 1), None)


def main() -> None:
    """Measure, and write the page after each part; a part that is left out keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="measure one part only")
    parser.add_argument("--missing", action="store_true", help="measure only what the page lacks")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random shapes")
    options = parser.parse_args()
    for name, (heading, introduction, table) in PARTS.items():
        before = PAGE.read_text() if PAGE.is_file() else ""
        title = f"## {heading}\n"
        if options.only not in (None, name) or (options.missing and title in before):
            continue
        measured = table(options.seed) if table is shapes else table()
        made = "\n".join([title, introduction, "", *measured, ""])
        pages = ["# Benchmarks\n\n<!-- Written by `make bench`: change docs/bench.py, not this. -->\n"]
        for other, (other_heading, _, _) in PARTS.items():
            other_title = f"## {other_heading}\n"
            if other == name:
                pages.append(made)
            elif other_title in before:
                pages.append(other_title + before.split(other_title)[1].split("\n## ")[0].rstrip() + "\n")
        PAGE.write_text("\n".join(pages))
    if (found := disagreement(PAGE.read_text())) is not None:
        sys.exit(f"figures of one preset come of different Verilog: {found}")


if __name__ == "__main__":
    main()
