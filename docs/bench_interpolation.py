"""Images in another size, for the page of benchmarks."""

from collections.abc import Iterator

import numpy as np

import pearray as pe
from pearray.compiler.graph.graph import Graph

__all__ = ["INTRODUCTION", "interpolation", "rows"]

INTRODUCTION = (
    "`Interpolate` of int8 as LiteRT computes it, run by `python docs/bench.py --only interpolation` on the RTL of "
    "systolic-8x8 with the default memory: what [operators.md](operators.md) says of the ways to state it. Outputs are "
    "elements of y, and cycles are those of all layers.")

_CONFIG = "systolic-8x8"

#: Channels, rows and columns of an image, its new rows and columns, and how places are found.
CASES = [(8, 8, 16, "half_pixel"), (8, 8, 12, "half_pixel"), (16, 17, 40, "half_pixel"), (16, 33, 65, "half_pixel"),
         (21, 33, 129, "align_corners")]


def rows() -> list[str]:
    """First cells of :func:`interpolation`."""
    return [f"{size} x {size} x {channels} to {new} x {new}, {mode}" for channels, size, new, mode in CASES]


def interpolation() -> Iterator[str]:
    """Table, one line for each case."""
    yield "| image | kernels | commands | cycles | cycles an output | mismatches | Verilog |"
    yield "|---|---|---|---|---|---|---|"
    for name, (channels, size, new, mode) in zip(rows(), CASES, strict=True):
        print(name, flush=True)
        x = np.random.default_rng(0).integers(-128, 128, (1, channels, size, size), dtype=np.int8)
        graph = Graph.of(pe.Interpolate(new, mode, rounding="tflite"), {"x": x})
        handle = pe.compile(graph, {"x": x}, on=_CONFIG)
        result, [expected] = handle.run({"x": x}), graph.golden({"x": x}).values()
        [y], compiled = result.outputs.values(), handle.compiled()
        yield (f"| {name} | {len(compiled.kernels)} | {compiled.program.length + 1:,} | {result.cycles:,} "
               f"| {result.cycles / y.size:.2f} | {int((y != expected).sum())} of {y.size:,} "
               f"| `{result.verilog_sha256[:12]}` |")
