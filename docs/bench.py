"""Measure what docs/benchmarks.md reports: ``make bench``, or ``python docs/bench.py --only speed``."""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import bench_attention
import bench_breadth
import bench_cells
import bench_compile
import bench_decoder
import bench_demo
import bench_encoder
import bench_eyeriss
import bench_generate
import bench_interpolation
import bench_minilm
import bench_products
import bench_shapes
import bench_simulation
import bench_sweep
import bench_vector

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

#: The vector engine without functions, and without tensors on chip.
PLAIN = " ".join(f"--set {key}=0" for key in (
    "post.pairs", "post.products", "post.averages", "post.maxima", "post.softmax",
    "scratchpads.moves"))

#: Arguments of `pearray synth`: configuration, with overrides, and top level.
COST = [
    ("systolic-8x8", "accelerator"), (f"systolic-8x8 {PLAIN} --seeds 1", "accelerator"),
    ("systolic-8x8", "array"), ("systolic-8x8", "pe"),
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
        return record | unbalanced(record)


def unbalanced(record: dict[str, Any]) -> dict[str, str]:
    """Error of a run whose ledger, or that of a layer, does not add up to its cycles; empty if all do."""
    for part in (record, *record.get("layers", ())):
        charged = sum(part.get("ledger", {}).values())
        if "ledger" in part and charged != part["cycles"]:
            return {"error": f"ledger of {part.get('name', 'the run')} adds up to {charged}, "
                             f"not {part['cycles']} cycles"}
    return {}


def speed_rows() -> list[str]:
    """First cells of :func:`speed`."""
    return [f"`pearray run {workload} --on {config}`" for workload, config, _ in SPEED]


def speed() -> Iterator[str]:
    """Table of cycles, one line for each workload."""
    yield "| command | cycles | limit | at most | utilisation | memory | mismatches | values | M MACs/s | Verilog |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for (workload, config, most), command in zip(SPEED, speed_rows(), strict=True):
        record = measure("run", workload, "--on", config)
        if "error" in record:
            yield f"| {command} | {record['error']} | | | | | | | | |"
            continue
        values = record["distinct_outputs"]
        few = ", **too few**" if most is not None and values < VALUES else ""
        goal = "" if most is None else f"{most:,}" if record["cycles"] <= most else f"{most:,}: **missed**"
        beat_bytes = load_config(config).hardware.beat_bytes
        beats = (record["dram_read_bytes"] + record["dram_write_bytes"]) / beat_bytes / record["cycles"]
        yield (f"| {command} | {record['cycles']:,} | {-(-record['macs'] // record['pes']):,} | {goal} "
               f"| {100 * record['utilisation']:.1f} % | {100 * beats:.0f} % "
               f"| {record['mismatches']} of {record['checked']:,} | {values}{few} "
               f"| {record['macs'] / record['sim_s'] / 1e6:,.1f} | `{record['verilog_sha256'][:12]}` |")


def cost_rows() -> list[str]:
    """First cells of :func:`cost`."""
    return [f"`pearray synth {config} --target ecp5-85 --top {top}`" for config, top in COST]


def _verilog(config: str, top: str) -> str:
    """Hash of the Verilog of arguments of `pearray synth`, as the page has it."""
    with tempfile.TemporaryDirectory() as folder:
        record = measure("generate", *config.split(" --seeds")[0].split(), "--top", top, "-o", folder)
    return str(record["verilog_sha256"][:12])


def cost(standing: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """Table of cells and frequencies, one line for each design.

    Of lines that are standing, by their first cells, those of the present Verilog are taken: placing takes long.
    """
    yield "| command | LUT4 | CCU2C | distributed RAM | FF | MULT18 | block RAM | MHz | Verilog |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for (config, top), command in zip(COST, cost_rows(), strict=True):
        if command in standing and standing[command].endswith(f"| `{_verilog(config, top)}` |"):
            yield standing[command]
            continue
        record = measure("synth", *config.split(), "--target", "ecp5-85", "--top", top)
        if "error" in record:
            yield f"| {command} | {record['error']} | | | | | | | |"
            continue
        cells = " | ".join(f"{record[key]:,}" for key in ("lut4", "ccu2c", "distributed_ram", "ff", "mult18",
                                                         "block_ram"))
        yield f"| {command} | {cells} | {record['fmax_mhz']:.1f} | `{record['verilog_sha256'][:12]}` |"


class Part(NamedTuple):
    """A part of the page.

    Parameters
    ----------
    heading, introduction : str
        What stands before its table.
    table : callable
        Measures, and yields the lines of the table.
    rows : list of str
        First cell of each row, for the test that holds the page to what is measured.
    """

    heading: str
    introduction: str
    table: Callable[..., Iterator[str]]
    rows: list[str]


PARTS = {
    "demo": Part("Demonstration", bench_demo.INTRODUCTION, bench_demo.demonstration, bench_demo.ROWS),
    "speed": Part(
        "Cycles", "End to end, from the start write to the done flag, with the default memory: 32 cycles of latency, "
        "8 bursts in flight, one beat a cycle. The limit is MACs over PEs. Memory is beats over cycles, reads and "
        "writes together. Values are the distinct ones among the outputs.", speed, speed_rows()),
    "products": Part("Products", bench_products.INTRODUCTION, partial(bench_products.products, measure),
                     bench_products.rows()),
    "vector": Part("Vector engine", bench_vector.INTRODUCTION, bench_vector.vector, bench_vector.rows()),
    "interpolation": Part("Interpolation", bench_interpolation.INTRODUCTION, bench_interpolation.interpolation,
                          bench_interpolation.rows()),
    "attention": Part("Attention", bench_attention.INTRODUCTION, partial(bench_attention.attention, measure),
                      bench_attention.rows()),
    "encoder": Part("Encoder layers", bench_encoder.INTRODUCTION, partial(bench_encoder.encoder, measure),
                    bench_encoder.rows()),
    "decoder": Part("Decoder", bench_decoder.INTRODUCTION, partial(bench_decoder.decoder, measure),
                    bench_decoder.rows()),
    "minilm": Part("Products of an encoder", bench_minilm.INTRODUCTION, bench_minilm.minilm, bench_minilm.rows()),
    "sentences": Part("A sentence encoder", bench_minilm.ENCODER_INTRODUCTION, partial(bench_minilm.encoder, measure),
                      bench_minilm.encoder_rows()),
    "errors": Part("Errors of attention", bench_attention.ERRORS_INTRODUCTION, bench_attention.errors,
                   bench_attention.ROWS_OF_ERRORS),
    "compile": Part("Compilation", bench_compile.INTRODUCTION, bench_compile.compilation, bench_compile.rows()),
    "cost": Part("Cost", "Lattice ECP5, speed grade 6, out of context, ports behind registers, the best of three "
                 "seeds unless the command says otherwise; cells as Yosys counts them.", cost, cost_rows()),
    "cells": Part("Cells", bench_cells.INTRODUCTION, partial(bench_cells.cells, measure), bench_cells.rows()),
    "eyeriss": Part("Eyeriss", bench_eyeriss.INTRODUCTION, partial(bench_eyeriss.eyeriss, measure),
                    bench_eyeriss.rows()),
    "generation": Part("Generation", bench_generate.INTRODUCTION, partial(bench_generate.generation, measure),
                       bench_generate.rows()),
    "simulation": Part("Simulation", bench_simulation.INTRODUCTION, partial(bench_simulation.simulation, measure),
                       bench_simulation.rows()),
    "breadth": Part("Breadth", bench_breadth.INTRODUCTION, bench_breadth.breadth, bench_breadth.rows()),
    "shapes": Part("Random shapes", bench_shapes.INTRODUCTION, bench_shapes.shapes, bench_shapes.ROWS),
    "sweep": Part("Random configurations", bench_sweep.INTRODUCTION, bench_sweep.sweep, bench_sweep.rows()),
}


def first_cells(page: str, heading: str) -> list[str]:
    """First cell of each row of a part's table, as the page has them."""
    part = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]]


def _lines(page: str, title: str) -> dict[str, str]:
    """Lines of a part's table, by their first cells."""
    part = page.split(title)[-1].split("\n## ")[0] if title in page else ""
    return {line.split(" | ")[0].removeprefix("| "): line for line in part.splitlines() if line.startswith("| ")}


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
    parser.add_argument("--missing", action="store_true",
                        help="measure only what the page lacks, and costs of other Verilog than the present")
    parser.add_argument("--seed", type=int, default=bench_shapes.SEED, help="seed of the random shapes")
    options = parser.parse_args()
    for name, (heading, introduction, table, _) in PARTS.items():
        before = PAGE.read_text() if PAGE.is_file() else ""
        title = f"## {heading}\n"
        is_missing = title not in before
        if options.only not in (None, name) or (options.missing and not is_missing and name != "cost"):
            continue
        measured = table(*({"shapes": [options.seed], "cost": [_lines(before, title)] * options.missing}.get(name, [])))
        made = "\n".join([title, introduction, "", *measured, ""])
        pages = ["# Benchmarks\n\n<!-- Written by `make bench`: change docs/bench.py, not this. -->\n"]
        for other, part in PARTS.items():
            other_title = f"## {part.heading}\n"
            if other == name:
                pages.append(made)
            elif other_title in before:
                pages.append(other_title + before.split(other_title)[1].split("\n## ")[0].rstrip() + "\n")
        PAGE.write_text("\n".join(pages))
    if (found := disagreement(PAGE.read_text())) is not None:
        sys.exit(f"figures of one preset come of different Verilog: {found}")


if __name__ == "__main__":
    main()
