"""Additions of two tensors of drawn scales, each compared with onnxruntime: ``python docs/bench_additions.py``.

Each is compiled for systolic-8x8, its program is interpreted on tensors of 64 x 14 x 14, whose outputs must equal those
of QLinearAdd, and its cycles are those of the timing model, which ``tests/sim/test_pairs.py`` holds to the RTL. The
tables of pairs are compared with QLinearAdd on all 65,536 pairs of stored values besides.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from onnx_node import MICROSOFT, run_node
from random_workloads import operands

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.kernels.addition import Addition
from pearray.compiler.kernels.pairs import find_pair
from pearray.compiler.kinds import interpreter
from pearray.compiler.systolic.timeline import timeline
from pearray.golden.requantise import onnx

__all__ = ["main"]

SHAPE = (1, 64, 14, 14)


def draw(rng: np.random.Generator) -> tuple[list[np.float32], list[np.integer]]:
    """Draw scales, irregular ones, hundredths, multiples of 1/255 or powers of two, and zero points of one type."""
    scales = [np.exp(rng.uniform(-4, 1, 3)), rng.integers(1, 60, 3) / 100, rng.integers(1, 20, 3) / 255,
              2.0**rng.integers(-8, 3, 3)][rng.integers(4)].astype(np.float32)
    kind = rng.choice([np.int8, np.uint8])
    return list(scales), [operands(rng, (), kind)[()] for _ in range(3)]


def fused(scales: list[np.float32], zeros: list[np.integer], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return what onnxruntime's QLinearAdd computes."""
    return run_node("QLinearAdd", [a, scales[0], zeros[0], b, scales[1], zeros[1], scales[2], zeros[2]],
                    output=a.dtype, domain=MICROSOFT)


def pairs_differ(scales: list[np.float32], zeros: list[np.integer]) -> int:
    """Pairs of stored values, of 65,536, whose tables do not add up to what QLinearAdd computes."""
    kind = zeros[0].dtype
    given = [value for scale, zero in zip(scales, zeros, strict=True) for value in (float(scale), int(zero), str(kind))]
    found = find_pair(Addition(*given))
    if found is None:
        return 65536
    every, info = np.arange(256, dtype=np.uint8).view(kind), np.iinfo(kind)
    sums = (found.tables[0].view(np.uint32)[:, None] + found.tables[1].view(np.uint32)).view(np.int32).reshape(-1)
    made = onnx(sums, np.float32(found.scale), found.point, info.min, info.max)
    return int((made != fused(scales, zeros, np.repeat(every, 256), np.tile(every, 256))).sum())


def main() -> None:
    """Draw additions, and print how many were refused, differ or are slow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="additions")
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--programs", type=int, default=20, help="additions that are compiled and interpreted")
    options = parser.parse_args()
    rng, config = np.random.default_rng(options.seed), pe.load_config("systolic-8x8", {"post.pairs": 1}).hardware
    outputs = int(np.prod(SHAPE))
    limit = 1.15 * max(outputs / config.post.lanes, 3 * outputs / config.beat_bytes) + 300
    refused, wrong, differ, most, begin = 0, 0, 0, 0, time.time()
    for number in range(options.count):
        scales, zeros = draw(rng)
        differ += bool(pairs_differ(scales, zeros))
        operator = pe.Add(*(value for each in zip(scales, zeros, strict=True) for value in each))
        tensors = {name: operands(rng, SHAPE, zeros[0].dtype) for name in "ab"}
        if number >= options.programs:
            continue
        try:
            compiled = compile_graph(Graph.of(operator, tensors, ()), config)
        except pe.PearrayError as error:
            refused += 1
            print(error)
            continue
        machine = interpreter(config, 1 << 20)
        machine.write(compiled.segments + compiled.bind(tensors))
        machine.run(compiled.program_address)
        made = compiled.extract("y", machine.read)
        wrong += not np.array_equal(made, fused(scales, zeros, tensors["a"], tensors["b"]))
        most = max(most, timeline(config, compiled.program).cycles)
    print(f"{options.count} additions, seed {options.seed}: {differ} without tables exact for all 65,536 pairs")
    print(f"{min(options.programs, options.count)} programs: {refused} refused, {wrong} with outputs that differ, "
          f"at most {most:,} cycles of {limit:,.0f}; {time.time() - begin:.0f} s")


if __name__ == "__main__":
    main()
