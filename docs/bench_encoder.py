"""Whole encoder layers on the presets of systolic arrays: a part of docs/bench.py."""

from collections.abc import Callable, Iterator
from typing import Any

from pearray.ledger import losses

__all__ = ["INTRODUCTION", "encoder", "rows"]

INTRODUCTION = (
    "`encoder-layer:P,D,H,FF`, int8, on the RTL, from the start write to the done flag, with the default memory: "
    "attention with its projections, two products with GELU between them, and both sums with their LayerNorms, as one "
    "program. The limit is MACs over PEs: sums and norms have none. Losses are the two largest of the "
    "[ledger](ledger.md).")

#: Workload, configuration, and utilisation that it must reach, in percent.
CASES = [("encoder-layer:512,768,12,3072", "systolic-32x32", 98)]


def rows() -> list[str]:
    """First cells of :func:`encoder`."""
    return [f"`pearray run {workload} --on {config}`" for workload, config, _ in CASES]


def encoder(measure: Callable[..., dict[str, Any]]) -> Iterator[str]:
    """Table of cycles, one line for each layer; `measure` runs a command and returns its record."""
    yield "| command | cycles | limit | utilisation | at least | largest losses | mismatches | Verilog |"
    yield "|---|---|---|---|---|---|---|---|"
    for (workload, config, percent), command in zip(CASES, rows(), strict=True):
        record = measure("run", workload, "--on", config)
        if "error" in record:
            yield f"| {command} | {record['error']} {'| ' * 6}|"
            continue
        utilisation, ledger = 100 * record["utilisation"], record["ledger"]
        lost = ", ".join(f"{name.replace('_', ' ')} {ledger[name]:,}" for name in losses(ledger, 2))
        yield (f"| {command} | {record['cycles']:,} | {-(-record['macs'] // record['pes']):,} | {utilisation:.2f} % "
               f"| {percent} %{'' if utilisation >= percent else ': **missed**'} | {lost} "
               f"| {record['mismatches']} of {record['checked']:,} | `{record['verilog_sha256'][:12]}` |")
