"""Random shapes against a bound without stalls: a part of docs/bench.py."""

from collections.abc import Iterator

import numpy as np

import pearray as pe
from pearray.compiler.systolic.timing import Latencies
from pearray.hdl.shell.config import Config
from pearray.hdl.shell.tokens import TokenGates
from pearray.memory import DEFAULT_MEMORY
from pearray.workloads.workload import load_workload

__all__ = ["INTRODUCTION", "ROWS", "SEED", "bound", "shapes"]

INTRODUCTION = (
    "Fifty workloads drawn by a seed (`python docs/bench.py --only shapes --seed N`) on the RTL of systolic-8x8. The "
    "bound is the larger of the array's cycles without an idle one, of the beats of each operand read once, of the "
    "outputs' beats, and of the outputs over the lanes, and the latencies that nothing can hide: of the first command, "
    "the first load and weights, the way through array, post-processing and the last store, and, before lanes can "
    "begin, the other tiles of the first sums.")

_COUNT = 50

#: Seed of the page.
SEED = 20261122

#: First cells of :func:`shapes`.
ROWS = [str(SEED)]


def bound(config: Config, m: int, k: int, n: int, read: int, written: int) -> int:
    """Cycles of a contraction if nothing ever waits.

    What no schedule can hide: before the first vector enters the array, it and the weights of its tile have come from
    memory, a beat a cycle. Before lanes begin, a sum is whole: the array has had the weights of every tile of its
    contraction, a row of weights a cycle, those of the first before its first vector. And the last row of sums, which
    the array's last vector makes, keeps the lanes busy for each of its groups.

    Parameters
    ----------
    config : Config
        Configuration.
    m, k, n : int
        Pixels, length of the contraction, and output channels.
    read, written : int
        Bytes that have to be read and written at least.
    """
    array, memory, latencies = config.array, DEFAULT_MEMORY, Latencies.of(config)
    tiles, depth = -(-n // array.cols), -(-k // array.rows)
    work = depth * tiles * max(m, array.rows) + latencies.groups - 1
    lanes = m * tiles * latencies.groups + (depth - 1) * array.rows
    begin = 3 + memory.read_latency + latencies.needed[0] + 6 + memory.read_latency + latencies.load_done
    end = latencies.through + latencies.post + latencies.store_data + memory.write_latency + 11 + latencies.start
    beat = config.beat_bytes
    begin += TokenGates.DONE_LATENCY + latencies.prepare + latencies.slots_top
    # The first beat is in the latency.
    first = -(-min(k, array.rows) * (min(n, array.cols) + 1) * config.operand_bytes // beat) - 1
    return max(first + max(work, lanes, -(-written // beat)), -(-read // beat)) + begin + end


def _draw(rng: np.random.Generator) -> tuple[str, tuple[int, int, int, int, int]]:
    """A workload of the command line, and what :func:`bound` wants to know of it."""
    if rng.random() < 0.5:
        m, k, n = (int(size) for size in rng.integers(32, 257, 3))
        return f"gemm:{m}x{k}x{n}", (m, k, n, m * k + k * n + 4 * n, m * n)
    c, out, size = int(rng.integers(3, 65)), int(rng.integers(8, 97)), int(rng.integers(12, 33))
    r, s = (int(taps) for taps in rng.integers(1, 4, 2))
    name = f"conv:1,{c},{size},{size},{out},{r},{s},1,0"
    p, q, k = size - r + 1, size - s + 1, c * r * s
    return name, (p * q, k, out, c * size * size + k * out + 4 * out, p * q * out)


def shapes(seed: int = SEED) -> Iterator[str]:
    """Table of how far cycles lie above the bound."""
    config, rng = pe.load_config("systolic-8x8").hardware, np.random.default_rng(seed)
    over = []
    for _ in range(_COUNT):
        name, sizes = _draw(rng)
        workload = load_workload(name, seed)
        cycles = pe.run(workload.graph, workload.inputs, on=config).cycles
        over.append((100 * (cycles / bound(config, *sizes) - 1), name, cycles))
        print(f"{name}: {cycles:,} cycles, {over[-1][0]:.1f} % above the bound", flush=True)
    over.sort()
    excess = [each[0] for each in over]
    yield "| seed | shapes | within 5 % | median | 90 % | most | of |"
    yield "|---|---|---|---|---|---|---|"
    yield (f"| {seed} | {len(over)} | {sum(each <= 5 for each in excess)} | {np.median(excess):.1f} % "
           f"| {np.percentile(excess, 90):.1f} % | {excess[-1]:.1f} % | `{over[-1][1]}` |")
