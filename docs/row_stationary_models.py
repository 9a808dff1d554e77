"""The lecture's image networks on a row-stationary array: a part of docs/models.py."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pearray as pe
from pearray.compiler.row_stationary.estimate import estimate
from pearray.hdl.errors import PearrayError
from pearray.workloads.workload import load_workload

__all__ = ["HEADING", "INTRODUCTION", "MEASURED", "row_stationary_rows", "row_stationary_runs"]

#: Overrides that make of the chip's preset an array of bytes with the memory of the systolic one.
_SETTINGS = {"array.operand_bits": 8, "memory.beats_per_cycle": 1}
_ON = ("--on", "eyeriss", *(part for key, value in _SETTINGS.items() for part in ("--set", f"{key}={value}")))

#: Networks that are run; the others are compiled, and their cycles estimated.
MEASURED = ("alexnet",)

HEADING = "Image networks on a row-stationary array"

INTRODUCTION = f"""\
## {HEADING}

The same networks, images and weights in int8 on 12 x 14 PEs: `pearray run NAME {' '.join(_ON)}`,
with the default memory behind it, a beat a cycle. Simulating 15 million cycles takes a quarter of an hour, VGG-16 two
hours, so one network is run, and all are compiled: the mapper's estimate of cycles is in closed form
(`compiler/row_stationary/estimate.py`), and that of AlexNet can be compared with its run. DRAM MB are those of the run,
else estimated, too. Layers of fully connected networks wait for weights, a byte of which is used once. Sums of
two tensors of any scales, and products of two tensors, are functions that lanes of a systolic array have
(`post.pairs`, `post.products`) and those of this one do not: what needs them is refused.

| network | MACs | cycles, estimated | cycles | utilisation | DRAM MB | mismatches | Verilog |
|---|---|---|---|---|---|---|---|"""


def row_stationary_rows(networks: Mapping[str, Any]) -> list[str]:
    """First cells of the table."""
    return [f"{name}, 12 x 14" for name in networks]


def row_stationary_runs(networks: Mapping[str, Any], measure: Callable[..., Mapping[str, Any]],
                        kept: Mapping[str, str]) -> Iterator[str]:
    """Lines of the table; those that are kept by their first cells."""
    for row, name in zip(row_stationary_rows(networks), networks, strict=True):
        yield kept.get(row) or f"| {row} | {' | '.join(_cells(name, measure))} |"


def _cells(name: str, measure: Callable[..., Mapping[str, Any]]) -> list[str]:
    """Cells behind the first."""
    system = pe.load_config("eyeriss", _SETTINGS)
    workload = load_workload(name, 0, {}, system.hardware)
    macs = sum(workload.graph.macs(node) for node in workload.graph.nodes)
    try:
        compiled = pe.compile(workload.graph, workload.inputs, system).compiled()
    except PearrayError as error:
        return [f"{macs:,}", f"refused: {str(error).split(';')[0]}", "", "", "", "", ""]
    estimates = [estimate(plan) for layer in compiled.layers for plan in layer.notes["plans"]]
    cycles, traffic = (sum(getattr(each, what) for each in estimates) for what in ("cycles", "dram_bytes"))
    estimated, rest = f"{cycles:,}", ["-", "-"]
    measured = "-"
    if name in MEASURED:
        record = measure("run", name, *_ON)
        cycles, traffic = record["cycles"], record["dram_read_bytes"] + record["dram_write_bytes"]
        measured = f"{cycles:,}"
        rest = [f"{record['mismatches']} of {record['checked']:,}", f"`{record['verilog_sha256'][:12]}`"]
    return [f"{macs:,}", estimated, measured, f"{100 * macs / (cycles * system.hardware.pes):.1f} %",
            f"{traffic / 1e6:.1f}", *rest]
