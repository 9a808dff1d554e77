"""Figures of a layer that only a row-stationary array counts, and their table."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from ...golden.row_stationary import Mapping as PassMapping
from ...hdl.shell.config import Config
from ..graph.graph import Node
from ..kinds import ArrayCompiler, FigureTable
from ..operators import Contraction, Requant

__all__ = ["FigureCompiler", "zero_share"]


def zero_share(values: np.ndarray, zero: int = 0) -> float:
    """Share of the elements that stand for zero."""
    return float(np.count_nonzero(values == zero) / values.size) if values.size else 0.0


def _parameters(mapping: PassMapping | None) -> dict[str, int]:
    if mapping is None:
        return {}
    values = {item.name: (getattr(mapping, item.name), item.default) for item in fields(mapping)}
    return {name: value for name, (value, default) in values.items() if value != default}


class FigureCompiler(ArrayCompiler):
    """The part of the compiler that makes figures of what a run has counted."""

    def layer_figures(self, config: Config, node: Node, notes: Mapping[str, Any], record: Mapping[str, int],
                      counts: Mapping[str, int], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Figures of a layer.

        ``active_pes``, that passes use at most; ``processing_cycles``, all but those in which the array waited for
        memory; ``global_buffer_bytes``, read from the global buffer into the array (ifmaps and psums) and written
        back (psums), without loads and stores; ``ifmap_zeros`` and ``ofmap_zeros``, shares of zeros in the activations
        and the output of a contraction, where these tensors are there; ``mapping``, its parameters, those with a
        default only where they differ from it; and ``counters``, all that the record counts.
        """
        # The greatest number of PEs is no count, and has no difference.
        counters = {**counts, "active_pes": record["active_pes"]}
        words = counts["psum_reads"] + counts["psum_writes"]
        figures: dict[str, Any] = {
            "active_pes": record["active_pes"], "processing_cycles": counts["cycles"] - counts["stall_dram"],
            "global_buffer_bytes": counts["ifmap_reads"] * config.operand_bytes + words * config.sum_bytes}
        operator = node.operator
        if isinstance(operator, Contraction):
            requant = operator.requant
            zeros = operator.zero_points[0], requant.y_zero_point if isinstance(requant, Requant) else 0
            names = node.inputs[operator.roles[0]], next(iter(node.outputs.values()))
            for key, name, zero in zip(("ifmap_zeros", "ofmap_zeros"), names, zeros, strict=True):
                if name in tensors:
                    figures[key] = zero_share(tensors[name], zero)
        return figures | {"mapping": _parameters(notes.get("mapping")), "counters": counters}

    def run_figures(self, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Figures of a run: sums, and the mean of active PEs, weighted by processing cycles."""
        cycles = sum(layer["processing_cycles"] for layer in layers)
        active = sum(layer["active_pes"] * layer["processing_cycles"] for layer in layers)
        return {"active_pes": round(active / cycles, 1) if cycles else 0.0, "processing_cycles": cycles,
                "global_buffer_bytes": sum(layer["global_buffer_bytes"] for layer in layers)}

    def figure_table(self, layers: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> FigureTable | None:
        """Lay out the figures of layers and of their run."""
        found = FigureTable("Row-stationary array", (
            "layer", "mapping", "active PEs", "processing", "gated", "global buffer", "DRAM", "zeros in", "out"))
        gated = sum(layer["counters"]["gated"] for layer in layers)
        done = sum(layer["counters"]["macs"] for layer in layers)
        rows = [(layer["name"], layer, layer["counters"]["macs"], layer["counters"]["gated"]) for layer in layers]
        for name, row, macs, skipped in [*rows, ("total", total, done, gated)]:
            found.rows.append((
                name, " ".join(f"{key}{value}" for key, value in row.get("mapping", {}).items()),
                f"{row['active_pes']:g}", f"{row['processing_cycles']:,}",
                f"{100 * skipped / max(1, macs + skipped):.1f} %", f"{row['global_buffer_bytes'] / 1e6:.2f} MB",
                f"{(row['dram_read_bytes'] + row['dram_write_bytes']) / 1e6:.2f} MB",
                *(f"{100 * row[key]:.1f} %" if key in row else "" for key in ("ifmap_zeros", "ofmap_zeros"))))
        return found
