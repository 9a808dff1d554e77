"""Results of a run for people and for other programs."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from .compiler.kinds import FigureTable
from .results import Figures, HostWork, Result
from .workloads.made import Judgement

__all__ = [
    "compare", "figure_table", "first_difference", "host_record", "host_tables", "judgement_table", "layer_table",
    "loss_table", "process_seconds", "run_record",
]


def process_seconds() -> float:
    """Seconds since this process started, its imports included."""
    try:
        with open("/proc/self/stat") as file:
            # The name of the program, in parentheses, may hold anything; start time is field 22.
            started = float(file.read().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        with open("/proc/uptime") as file:
            return float(file.read().split()[0]) - started
    except (OSError, ValueError, IndexError):
        return time.process_time()


def compare(outputs: Mapping[str, np.ndarray],
            golden: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Compare tensors element by element.

    Returns
    -------
    dict of str to (int, int)
        Elements checked and elements that differ, by tensor; where shape or type is wrong all differ.
    """
    counts = {}
    for name, value in outputs.items():
        expected = golden[name]
        same = value.shape == expected.shape and value.dtype == expected.dtype
        counts[name] = expected.size, int(np.count_nonzero(_differ(value, expected))) if same else expected.size
    return counts


def _differ(value: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Which elements differ; what is no number does not differ from what is none."""
    return np.asarray((value != expected) & ((value == value) | (expected == expected)))


def first_difference(outputs: Mapping[str, np.ndarray], golden: Mapping[str, np.ndarray]) -> str | None:
    """Say where the first element that differs is, what it is and what it should be; None if none differs."""
    for name, value in outputs.items():
        expected = golden[name]
        if value.shape != expected.shape or value.dtype != expected.dtype:
            return (f"{name} is {value.dtype} of shape {value.shape}, and should be {expected.dtype} of shape "
                    f"{expected.shape}")
        differ = _differ(value, expected)
        if differ.any():
            index = tuple(int(place) for place in np.unravel_index(int(np.argmax(differ)), value.shape))
            return f"{name}[{', '.join(map(str, index))}] is {value[index]}, and should be {expected[index]}"
    return None


def run_record(workload: str, config: str, engine: str, seed: int, result: Result,
               counts: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    """Make the document that ``pearray run --json`` writes, all but ``wall_s``."""
    def figures(of: Figures, names: Iterable[str]) -> dict[str, Any]:
        checked = [counts[name] for name in names if name in counts]
        return {
            "cycles": of.cycles, "macs": of.macs, "pes": result.pes, "utilisation": round(of.utilisation, 6),
            "dram_read_bytes": of.dram_read_bytes, "dram_write_bytes": of.dram_write_bytes,
            "host_packed_bytes": of.host_packed_bytes,
            "checked": sum(count for count, _ in checked), "mismatches": sum(wrong for _, wrong in checked),
            "distinct_outputs": len(set().union(*(np.unique(result.outputs[name]).tolist() for name in names
                                                  if name in result.outputs))),
            **({"ledger": of.ledger} if of.ledger else {}),
            **{name: round(value, 6) if isinstance(value, float) else value for name, value in of.extras.items()},
        }

    layers = [{"name": layer.name, "operator": layer.operator, "output": layer.output,
               "shape": list(layer.shape), **figures(layer, layer.outputs),
               **({"counters": layer.counters} if layer.counters else {})}
              for layer in result.layers]
    return {
        "workload": workload, "config": config, "engine": engine, "seed": seed, **figures(result, counts),
        "build_s": round(result.build_s, 3), "sim_s": round(result.sim_s, 6),
        "verilog_sha256": result.verilog_sha256, "counters": result.counters, "layers": layers,
        **({} if result.host is None else {"host": host_record(result.host)}),
    }


def host_record(host: HostWork) -> dict[str, Any]:
    """What the host computes, as a document."""
    return {"parts": host.parts, "programs": host.programs, "macs": host.macs, "accelerator_macs": host.own_macs,
            "accelerator_share": round(host.share, 6), "nodes": [asdict(kind) for kind in host.kinds],
            "crossings": [asdict(crossing) for crossing in host.crossings]}


def host_tables(host: HostWork) -> list[Table]:
    """Lay out what the host computes, and what goes there and back."""
    nodes = Table(title=f"On the host: {host.parts} parts beside {host.programs} programs, "
                        f"{host.macs:,} of {host.macs + host.own_macs:,} MACs; "
                        f"{100 * host.share:.1f} % are the accelerator's", title_justify="left")
    for heading in ("operator", "nodes", "first", "why"):
        nodes.add_column(heading, overflow="fold", justify="right" if heading == "nodes" else "left")
    for kind in host.kinds:
        nodes.add_row(escape(kind.operator), f"{kind.count:,}", escape(kind.first), escape(kind.why))
    crossing = Table(title=f"Tensors between: {sum(each.nbytes for each in host.crossings):,} bytes",
                     title_justify="left")
    crossing.add_column("tensor", overflow="fold")
    crossing.add_column("bytes", justify="right")
    crossing.add_column("to")
    for each in host.crossings:
        crossing.add_row(escape(each.name), f"{each.nbytes:,}", "host" if each.to_host else "accelerator")
    return [nodes, crossing]


def layer_table(title: str, layers: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> Table:
    """Lay out the layers of a run and their sum as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("layer", overflow="fold")
    for heading in ("output", "MACs", "cycles", "utilisation", "DRAM read", "DRAM written", "mismatches"):
        table.add_column(heading, justify="right")
    rows = [(layer["name"], " x ".join(map(str, layer["shape"])), layer) for layer in layers]
    for name, shape, row in [*rows, ("total", "", total)]:
        wrong = row["mismatches"]
        checked = f"0 of {row['checked']:,}" if row["checked"] else "not kept"
        table.add_row(
            name, shape, f"{row['macs']:,}", f"{row['cycles']:,}", f"{100 * row['utilisation']:.1f} %",
            f"{row['dram_read_bytes']:,}", f"{row['dram_write_bytes']:,}",
            f"[red]{wrong:,}[/] of {row['checked']:,}" if wrong else checked,
            end_section=row is not total and row is layers[-1])
    return table


def loss_table(losses: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> Table:
    """Lay out the largest losses of a run, and what would remove them."""
    table = Table(title=f"Largest losses, of {total['cycles']:,} cycles", title_justify="left")
    table.add_column("cause")
    table.add_column("cycles", justify="right")
    table.add_column("share", justify="right")
    table.add_column("what would remove it", overflow="fold")
    for loss in losses:
        remedy = loss["remedy"]
        if "key" in loss:
            remedy += (f"; {loss['key']} is {loss['now']}, with {loss['then']} an estimated "
                       f"{100 * loss['utilisation']:.1f} % instead of {100 * total['utilisation']:.1f} %")
        table.add_row(loss["cause"].replace("_", " "), f"{loss['cycles']:,}",
                      f"{100 * loss['cycles'] / total['cycles']:.1f} %", escape(remedy))
    return table


def figure_table(found: FigureTable) -> Table:
    """Lay out the figures that one kind of array alone counts."""
    table = Table(title=found.title, title_justify="left")
    for index, heading in enumerate(found.headings):
        table.add_column(heading, overflow="fold", justify="right" if index else "left")
    for row in found.rows:
        table.add_row(*row, end_section=len(found.rows) > 1 and row is found.rows[-2])
    return table


def judgement_table(found: Judgement) -> Table:
    """Lay out what outputs are worth."""
    table = Table(title=found.title, title_justify="left",
                  caption=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.summary.items()))
    for name, value in found.records[0].items():
        table.add_column(name, overflow="fold", justify="left" if isinstance(value, str) else "right")
    for record in found.records:
        table.add_row(*(escape(str(value)) for value in record.values()))
    return table
