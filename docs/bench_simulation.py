"""Speed of the engines: one job on the compiled model, natively and under cocotb."""

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["INTRODUCTION", "rows", "simulation"]

WORKLOAD, CONFIG = "gemm:512x512x512", "systolic-16x16"
ENGINES = ("verilator", "cocotb")

INTRODUCTION = ("Useful MACs over the seconds of the simulated run (`macs / sim_s`), on the machine that wrote "
                "this page. Each command runs twice: other time is that of the second run without the "
                "simulation itself, with start-up, compilation of the workload and comparison with NumPy.")


def rows() -> list[str]:
    """First cells of :func:`simulation`."""
    return [f"`pearray run {WORKLOAD} --on {CONFIG} --engine {engine}`" for engine in ENGINES]


def simulation(measure: Callable[..., dict[str, Any]]) -> Iterator[str]:
    """Table of speeds, one line for each engine; `measure` runs a command and returns its record."""
    yield "| command | cycles | cycles/s | M MACs/s | times cocotb | other time | mismatches |"
    yield "|---|---|---|---|---|---|---|"
    records = {}
    for engine in ENGINES:
        for _ in range(2):
            records[engine] = measure("run", WORKLOAD, "--on", CONFIG, "--engine", engine)
    for record, command in zip(records.values(), rows(), strict=True):
        if "error" in record:
            yield f"| {command} | {record['error']} | | | | | |"
            continue
        slow = records["cocotb"].get("sim_s")
        ratio = f"{slow / record['sim_s']:,.0f}" if slow else ""
        yield (f"| {command} | {record['cycles']:,} | {record['cycles'] / record['sim_s']:,.0f} "
               f"| {record['macs'] / record['sim_s'] / 1e6:,.1f} | {ratio} "
               f"| {record['wall_s'] - record['sim_s']:.1f} s | {record['mismatches']} of {record['checked']:,} |")
