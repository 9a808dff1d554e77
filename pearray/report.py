"""Results of a run for people and for other programs."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from .results import Figures, Result

__all__ = ["activity_table", "compare", "layer_table", "process_seconds", "run_record"]

#: Figures that only an array has whose profile record tells of the activity of its PEs.
_ACTIVITY = ("active_pes", "processing_cycles", "global_buffer_bytes", "ifmap_zeros", "ofmap_zeros")


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
        counts[name] = expected.size, int(np.count_nonzero(value != expected)) if same else expected.size
    return counts


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
            **{name: round(value, 6) for name in _ACTIVITY if (value := getattr(of, name)) is not None},
        }

    layers = [{"name": layer.name, "operator": layer.operator, "output": layer.output,
               "shape": list(layer.shape), **figures(layer, [layer.output]),
               **({"mapping": layer.mapping, "counters": layer.counters} if layer.counters else {})}
              for layer in result.layers]
    return {
        "workload": workload, "config": config, "engine": engine, "seed": seed, **figures(result, counts),
        "build_s": round(result.build_s, 3), "sim_s": round(result.sim_s, 6),
        "verilog_sha256": result.verilog_sha256, "counters": result.counters, "layers": layers,
    }


def layer_table(title: str, layers: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> Table:
    """Lay out the layers of a run and their sum as a table."""
    table = Table(title=title, title_justify="left")
    table.add_column("layer", overflow="fold")
    for heading in ("output", "MACs", "cycles", "utilisation", "DRAM read", "DRAM written", "mismatches"):
        table.add_column(heading, justify="right")
    rows = [(layer["name"], " x ".join(map(str, layer["shape"])), layer) for layer in layers]
    for name, shape, row in [*rows, ("total", "", total)]:
        wrong = row["mismatches"]
        table.add_row(
            name, shape, f"{row['macs']:,}", f"{row['cycles']:,}", f"{100 * row['utilisation']:.1f} %",
            f"{row['dram_read_bytes']:,}", f"{row['dram_write_bytes']:,}",
            f"[red]{wrong:,}[/] of {row['checked']:,}" if wrong else f"0 of {row['checked']:,}",
            end_section=row is not total and row is layers[-1])
    return table


def activity_table(layers: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> Table:
    """Lay out what an array counts that records the activity of its PEs, by layer."""
    table = Table(title="Activity", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("mapping", justify="right", no_wrap=True)
    for heading in ("active PEs", "processing", "gated", "global buffer", "DRAM", "zeros in", "out"):
        table.add_column(heading, justify="right")
    gated = sum(layer["counters"]["gated"] for layer in layers)
    done = sum(layer["counters"]["macs"] for layer in layers)
    rows = [(layer["name"], layer, layer["counters"]["macs"], layer["counters"]["gated"]) for layer in layers]
    for name, row, macs, skipped in [*rows, ("total", total, done, gated)]:
        mapping = " ".join(f"{key}{value}" for key, value in row.get("mapping", {}).items())
        table.add_row(
            name, mapping, f"{row['active_pes']:g}", f"{row['processing_cycles']:,}",
            f"{100 * skipped / max(1, macs + skipped):.1f} %", f"{row['global_buffer_bytes'] / 1e6:.2f} MB",
            f"{(row['dram_read_bytes'] + row['dram_write_bytes']) / 1e6:.2f} MB",
            *(f"{100 * row[key]:.1f} %" if key in row else "" for key in ("ifmap_zeros", "ofmap_zeros")),
            end_section=row is not total and row is layers[-1])
    return table
