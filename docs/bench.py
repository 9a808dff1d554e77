"""Measure what docs/benchmarks.md reports: ``make bench``, or ``python docs/bench.py --only speed``."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench_breadth import INTRODUCTION as BREADTH
from bench_breadth import breadth
from bench_simulation import INTRODUCTION, simulation

from pearray import load_config

PAGE = Path(__file__).parent / "benchmarks.md"

#: Arguments of `pearray run`: workload and configuration.
SPEED = [
    ("gemm:64x64x64", "systolic-8x8"),
    ("gemm:256x256x256", "systolic-8x8"),
    ("gemm:512x512x512", "systolic-16x16"),
    ("linear:1,4096,4096", "systolic-16x16"),
    ("gemm:512x768x3072", "systolic-32x32"),
    ("gemm:512x64x512", "systolic-32x32"),
    ("gemm:512x512x64", "systolic-32x32"),
    ("alexnet-conv", "systolic-32x32"),
    ("mnist", "systolic-8x8"),
]

#: Arguments of `pearray synth`: configuration and top level.
COST = [("systolic-8x8", "accelerator"), ("systolic-8x8", "array"), ("systolic-8x8", "pe")]


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
    yield "| command | cycles | limit | utilisation | memory | mismatches | M MACs/s simulated | Verilog |"
    yield "|---|---|---|---|---|---|---|---|"
    for workload, config in SPEED:
        record = measure("run", workload, "--on", config)
        command = f"`pearray run {workload} --on {config}`"
        if "error" in record:
            yield f"| {command} | {record['error']} | | | | | | |"
            continue
        beat_bytes = load_config(config).beat_bytes
        beats = (record["dram_read_bytes"] + record["dram_write_bytes"]) / beat_bytes / record["cycles"]
        yield (f"| {command} | {record['cycles']:,} | {-(-record['macs'] // record['pes']):,} "
               f"| {100 * record['utilisation']:.1f} % | {100 * beats:.0f} % "
               f"| {record['mismatches']} of {record['checked']:,} "
               f"| {record['macs'] / record['sim_s'] / 1e6:,.1f} | `{record['verilog_sha256'][:12]}` |")


def cost() -> Iterator[str]:
    """Table of cells and frequencies, one line for each design."""
    yield "| command | LUT4 | CCU2C | distributed RAM | FF | MULT18 | block RAM | MHz | Verilog |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for config, top in COST:
        record = measure("synth", config, "--target", "ecp5-85", "--top", top)
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
              "beats over cycles, reads and writes together.", speed),
    "cost": ("Cost", "Lattice ECP5, speed grade 6, out of context, ports behind registers, the best of three "
             "seeds; cells as Yosys counts them.", cost),
    "simulation": ("Simulation", INTRODUCTION, partial(simulation, measure)),
    "breadth": ("Breadth", BREADTH, breadth),
}


def main() -> None:
    """Measure, and write the page; a part that is left out keeps its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="measure one part only")
    only = parser.parse_args().only
    before = PAGE.read_text() if PAGE.is_file() else ""
    pages = ["# Benchmarks\n\n<!-- Written by `make bench`: change docs/bench.py, not this. -->\n"]
    for name, (heading, introduction, table) in PARTS.items():
        title = f"## {heading}\n"
        if only not in (None, name) and title in before:
            pages.append(title + before.split(title)[1].split("\n## ")[0].rstrip() + "\n")
        else:
            pages.append("\n".join([title, introduction, "", *table(), ""]))
    PAGE.write_text("\n".join(pages))


if __name__ == "__main__":
    main()
