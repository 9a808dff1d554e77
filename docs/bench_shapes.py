"""Random shapes against a bound without stalls: a part of docs/bench.py."""

from collections.abc import Iterator

import numpy as np
from shape_bound import Product, least_cycles

import pearray as pe
from pearray.workloads.workload import load_workload

__all__ = ["INTRODUCTION", "ROWS", "SEED", "shapes"]

INTRODUCTION = (
    "Fifty workloads drawn by a seed (`python docs/bench.py --only shapes --seed N`) on the RTL of systolic-8x8. The "
    "bound (`docs/shape_bound.py`) is what no schedule of the hardware whose weights stay in the array goes below: the "
    "way of the first operands to the array, the array's cycles without an idle one but for those that the first tile "
    "must cost, lanes a group a cycle with a cycle between POSTs and the array before the first, the beats of each "
    "operand read once and of the outputs, and the way of the last sums through post-processing to memory.")

_COUNT = 50

#: Seed of the page.
SEED = 20261127

#: First cells of :func:`shapes`.
ROWS = [str(SEED)]


def _draw(rng: np.random.Generator) -> tuple[str, Product]:
    """A workload of the command line, and what its bound is found from."""
    if rng.random() < 0.5:
        m, k, n = (int(size) for size in rng.integers(32, 257, 3))
        return f"gemm:{m}x{k}x{n}", Product(m, k, n, k, False, m * k + k * n, m * n)
    c, out, size = int(rng.integers(3, 65)), int(rng.integers(8, 97)), int(rng.integers(12, 33))
    r, s = (int(taps) for taps in rng.integers(1, 4, 2))
    name = f"conv:1,{c},{size},{size},{out},{r},{s},1,0"
    p, q, k = size - r + 1, size - s + 1, c * r * s
    return name, Product(p * q, k, out, c, True, c * size * size + k * out, p * q * out)


def shapes(seed: int = SEED) -> Iterator[str]:
    """Table of how far cycles lie above the bound."""
    config, rng = pe.load_config("systolic-8x8").hardware, np.random.default_rng(seed)
    over = []
    for _ in range(_COUNT):
        name, product = _draw(rng)
        workload = load_workload(name, seed)
        cycles = pe.run(workload.graph, workload.inputs, on=config).cycles
        over.append((100 * (cycles / least_cycles(config, product) - 1), name, cycles))
        print(f"{name}: {cycles:,} cycles, {over[-1][0]:.1f} % above the bound", flush=True)
    over.sort()
    excess = [each[0] for each in over]
    yield "| seed | shapes | within 5 % | median | 90 % | most | of |"
    yield "|---|---|---|---|---|---|---|"
    yield (f"| {seed} | {len(over)} | {sum(each <= 5 for each in excess)} | {np.median(excess):.1f} % "
           f"| {np.percentile(excess, 90):.1f} % | {excess[-1]:.1f} % | `{over[-1][1]}` |")
