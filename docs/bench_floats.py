"""Float units against NumPy and ml_dtypes, and products of floats on the RTL: a part of docs/bench.py."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import pearray as pe
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.hdl.arithmetic.float_formats import BFLOAT16, E4M3, E5M2, FLOAT16, FLOAT32, FloatFormat

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))

__all__ = ["INTRODUCTION", "floats", "rows"]

INTRODUCTION = (
    "Results of the compiled float units that differ from NumPy's and ml_dtypes', of all pairs of 8 bits and of drawn "
    "ones, half of them about the ends of a format, about halves of a last bit and about the least numbers; then "
    "products of floats on the RTL, whose every bit is compared with the golden model. Cycles of dX and of dW are "
    "those of programs that compute one of them. Limit and utilisation are those of the table of cycles.")

#: Formats whose numbers are drawn, and how many pairs of each at a time, how often.
DRAWN = (BFLOAT16, FLOAT16, FLOAT32)
_PAIRS, _TIMES = 1 << 20, 5

#: Formats of which all pairs are taken.
WHOLE = (E4M3, E5M2)

_SEED = 20261128

#: Workloads and configurations of `pearray run`.
RUNS = [
    ("gemm:512x768x3072", "systolic-32x32-bf16"),
    *((workload, preset) for preset in ("systolic-8x8-bf16", "systolic-8x8-fp8")
      for workload in ("gemm:64x256x256", "conv:1,32,14,14,32,3,3,1,1", "linear-grad:64,128,96")),
]

#: Gradients one by one: name, operator, shapes of x and w.
GRADIENTS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {
    "linear-grad:512,768,3072": (pe.LinearGrad(), (512, 768), (3072, 768)),
    "AlexNet CONV2, batch 4": (pe.Conv2dGrad(padding=2, groups=2), (4, 96, 27, 27), (256, 48, 5, 5)),
    "AlexNet CONV3, batch 4": (pe.Conv2dGrad(padding=1), (4, 256, 13, 13), (384, 256, 3, 3)),
}
_GRADIENTS_ON = "systolic-32x32-bf16"


def rows() -> list[str]:
    """First cells of :func:`floats`."""
    return [*(f"{what} of {format.name}, all pairs" for format in WHOLE for what in ("products", "sums")),
            *(f"products of {format.name}" for format in DRAWN), "sums of float32", "conversions to and from float32",
            *(f"`pearray run {workload} --on {config}`" for workload, config in RUNS),
            *(f"{role} of {name} on {_GRADIENTS_ON}" for name in GRADIENTS for role in ("dx", "dw"))]


class _Counts:
    """Results compared, and those that differ, by row."""

    def __init__(self) -> None:
        self.compared: dict[str, int] = {}
        self.different: dict[str, int] = {}

    def add(self, row: str, found: np.ndarray, expected: np.ndarray) -> None:
        """Compare bits."""
        self.compared[row] = self.compared.get(row, 0) + found.size
        self.different[row] = self.different.get(row, 0) + int(np.count_nonzero(found != expected))


def _units() -> _Counts:
    """Put numbers through the compiled units."""
    from compiled_floats import compiled, run
    from float_draws import SHORT, draw_float32, draw_pairs, from_bits, to_bits

    rng, counts = np.random.default_rng(_SEED), _Counts()
    with tempfile.TemporaryDirectory() as name, np.errstate(all="ignore"):
        folder = Path(name)
        model = compiled(folder)

        def products(row: str, format: FloatFormat, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
            found, mask = run(model, folder, x, y), np.uint32((1 << format.bits) - 1)
            a, b = from_bits(x & mask, format), from_bits(y & mask, format)
            counts.add(row, found[f"product_{format.name}"], to_bits(a * b))
            if format is not FLOAT32:
                counts.add("conversions to and from float32", found[f"wide_{format.name}"], to_bits(a))
            return found

        def sums(row: str, x: np.ndarray, y: np.ndarray, found: dict[str, np.ndarray]) -> None:
            a, b = from_bits(x, FLOAT32), from_bits(y, FLOAT32)
            counts.add(row, found["sum"], to_bits(a + b))
            for short in SHORT:
                counts.add("conversions to and from float32", found[f"narrow_{short.name}"], to_bits(a, short))

        for format in WHOLE:
            x, y = (each.ravel().astype(np.uint32) for each in np.meshgrid(np.arange(256), np.arange(256)))
            products(f"products of {format.name}, all pairs", format, x, y)
            wide = to_bits(from_bits(x, format)), to_bits(from_bits(y, format))
            sums(f"sums of {format.name}, all pairs", *wide, run(model, folder, *wide))
        for _ in range(_TIMES):
            for format in DRAWN:
                x, y = draw_pairs(rng, format, _PAIRS)
                found = products(f"products of {format.name}", format, x, y)
                if format is FLOAT32:
                    sums("sums of float32", x, y, found)
                else:
                    x, y = draw_float32(rng, format, _PAIRS), draw_float32(rng, format, _PAIRS)
                    sums("sums of float32", x, y, run(model, folder, x, y))
    return counts


def _gradient(name: str, role: str) -> tuple[Graph, dict[str, np.ndarray], int]:
    """A graph that computes one gradient, its inputs, and its MACs."""
    operator, x, w = GRADIENTS[name]
    rng, dtype = np.random.default_rng(0), BFLOAT16.dtype
    tensors = {each: rng.standard_normal(shape).astype(dtype) for each, shape in (("x", x), ("w", w))}
    tensors["dy"] = rng.standard_normal(operator.forward.infer(tensors)["y"][0]).astype(dtype)
    inputs = {each: tensors[each] for each in ("x", "dy")}
    node = Node("gradient", operator, {each: each for each in tensors}, {role: role})
    graph = Graph([node], {each: Tensor(each, value.shape, value.dtype) for each, value in inputs.items()},
                  {"w": tensors["w"]}, list(inputs), [role])
    return graph, inputs, operator.forward.macs({each: tensors[each] for each in ("x", "w")})


def _gradient_row(name: str, role: str) -> str:
    """Run a gradient; return its row but for the first cell."""
    graph, inputs, macs = _gradient(name, role)
    result = pe.run(graph, inputs, on=_GRADIENTS_ON)
    found, expected = result.outputs[role], pe.golden_run(graph, inputs, on=_GRADIENTS_ON)[role]
    pes = pe.load_config(_GRADIENTS_ON).pes
    different = np.count_nonzero(found.view(np.uint32) != expected.view(np.uint32))
    return (f"{different} of {found.size:,} | {result.cycles:,} | {-(-macs // pes):,} "
            f"| {100 * macs / pes / result.cycles:.1f} % | `{result.verilog_sha256[:12]}`")


def floats(measure: Callable[..., dict[str, Any]]) -> Iterator[str]:
    """Table of differences, and of cycles; `measure` runs a command and returns its record."""
    yield "| what | differences | cycles | limit | utilisation | Verilog |"
    yield "|---|---|---|---|---|---|"
    counts = _units()
    for row in rows()[:len(counts.compared)]:
        yield f"| {row} | {counts.different[row]} of {counts.compared[row]:,} | | | | |"
    for workload, config in RUNS:
        record, row = measure("run", workload, "--on", config), f"`pearray run {workload} --on {config}`"
        if "error" in record:
            yield f"| {row} | {record['error']} | | | | |"
            continue
        yield (f"| {row} | {record['mismatches']} of {record['checked']:,} | {record['cycles']:,} "
               f"| {-(-record['macs'] // record['pes']):,} | {100 * record['utilisation']:.1f} % "
               f"| `{record['verilog_sha256'][:12]}` |")
    for name in GRADIENTS:
        for role in ("dx", "dw"):
            print(f"{role} of {name}", flush=True)
            yield f"| {role} of {name} on {_GRADIENTS_ON} | {_gradient_row(name, role)} |"
