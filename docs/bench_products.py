"""Products in both dataflows, by a vector, and backwards: a part of docs/bench.py."""

from collections.abc import Callable, Iterator
from typing import Any

from pearray import load_config

__all__ = ["INTRODUCTION", "products", "rows"]

INTRODUCTION = (
    "What stays in the systolic array is the mapper's choice unless the user makes it. A product with a vector reads "
    "each weight once, so memory is its limit. Gradients are exact int32 sums of int8 operands; theirs are the MACs of "
    "dx and dw. Limit and memory are those of the table of cycles.")

_ROW_STATIONARY = "tests/cocotb/row_stationary.toml"

#: Arguments of `pearray run`: workload, configuration, and settings.
RUNS: list[tuple[str, str, str]] = [
    *((workload, "systolic-32x32", f"workload.dataflow={dataflow}") for workload in ("gemm:256x256x256", "alexnet-conv")
      for dataflow in ("weight-stationary", "output-stationary")),
    ("gemm:1x4096x32000", "systolic-8x8", ""),
    ("linear-grad:64,32,16", "systolic-8x8", ""),
    ("linear-grad:64,32,16", _ROW_STATIONARY, ""),
    ("conv-grad:1,64,14,14,64,3,3,1,1", "systolic-8x8", ""),
    ("conv-grad:1,8,10,10,16,3,3,1,1", "systolic-8x8", ""),
    ("conv-grad:1,8,10,10,16,3,3,1,1", _ROW_STATIONARY, ""),
]


def rows() -> list[str]:
    """First cells of :func:`products`."""
    return [f"`pearray run {workload} --on {config}{' --set ' * bool(settings)}{settings}`"
            for workload, config, settings in RUNS]


def products(measure: Callable[..., dict[str, Any]]) -> Iterator[str]:
    """Table of cycles, one line for each run; `measure` runs a command and returns its record."""
    yield "| command | cycles | limit | utilisation | memory | mismatches | Verilog |"
    yield "|---|---|---|---|---|---|---|"
    for (workload, config, settings), command in zip(RUNS, rows(), strict=True):
        record = measure("run", workload, "--on", config, *(["--set", settings] if settings else []))
        if "error" in record:
            yield f"| {command} | {record['error']} | | | | | |"
            continue
        beats = (record["dram_read_bytes"] + record["dram_write_bytes"]) / load_config(config).hardware.beat_bytes
        yield (f"| {command} | {record['cycles']:,} | {-(-record['macs'] // record['pes']):,} "
               f"| {100 * record['utilisation']:.1f} % | {100 * beats / record['cycles']:.0f} % "
               f"| {record['mismatches']} of {record['checked']:,} | `{record['verilog_sha256'][:12]}` |")
