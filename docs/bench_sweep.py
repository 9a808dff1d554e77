"""Random operators on random accelerators, on RTL against golden: a part of docs/bench.py.

Each configuration is drawn from the seed and its number, from 1 x 1 to 64 x 64, and each operator from the
seed, that number and its own. Results are kept by number and by the hash of the Verilog that ran, so a
sweep that was interrupted goes on where it stopped, and one after a change of the hardware starts anew.

``python docs/bench_sweep.py --number 17`` repeats one configuration.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from drawn_graphs import GRAPHS, graphs_of
from random_workloads import (
    FLOAT_ROW_OPERATORS,
    NARROW_OPERATORS,
    OPERATORS,
    PAIR_OPERATORS,
    ROW_OPERATORS,
    configuration,
    operands,
    pooled,
    random_functions,
    random_requant,
)

from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph
from pearray.compiler.operators import Gemm
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.config import Config
from pearray.memory import MemoryTiming
from pearray.sim import Disturbance, Job, run
from pearray.sim.design import emitted

__all__ = ["INTRODUCTION", "check", "rows", "sweep"]

INTRODUCTION = (
    "Random operators with random shapes, types, scales and memories on random configurations, from 1 x 1 to "
    "64 x 64, against golden, the rules of the hardware checked in every run "
    "(`python docs/bench_sweep.py --seed N --number CONFIGURATION` repeats a configuration). Errors are runs that did "
    "not end, or programs that could not be made.")

SEED = 20261122
CONFIGURATIONS = 30
OPERATORS_EACH = 7
RESULTS = ROOT / "build" / "sweep"

#: What a layer that a configuration cannot hold says.
REFUSALS = ("can't hold", "must be at least", "can't be computed exactly")

#: Sides of the array, small ones often since they build fast; the last ones once in a while.
_SIDES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16]
_LARGE_SIDES = [17, 24, 31, 32, 48, 64]
#: Configurations that every sweep has: both ends of the range.
_CORNERS = {0: (1, 1), 1: (64, 64), 2: (64, 1), 3: (1, 64)}


def _power(least: int) -> int:
    return 1 << max(0, int(least) - 1).bit_length()


def draw_configuration(seed: int, number: int) -> Config:
    """Draw configuration ``number``: array, memory width, scratchpads down to the smallest allowed, lanes."""
    rng = np.random.default_rng([seed, number])
    sides = _LARGE_SIDES if number % 8 == 5 else _SIDES
    rows, cols = (int(side) for side in rng.choice(sides, 2))
    rows, cols = _CORNERS.get(number, (rows, cols))
    divisors = [lanes for lanes in (1, 2, 4, 8, 16) if cols % lanes == 0]
    lanes = int(rng.choice([*divisors, divisors[-1], divisors[-1]]))
    data_width, bits = int(rng.choice([32, 64, 128, 256, 512])), int(rng.choice([4, 8, 8, 8, 16]))
    item, sums = (1, 4) if bits <= 8 else (2, 8)
    least = max(64, 2 * item * _power(max(rows, cols, data_width // 8 // item)))

    def times(*factors: int) -> int:
        return int(rng.choice(factors))

    memories = (least * times(1, 2, 8, 64), least * times(1, 2, 8, 64),
                max(least, _power(cols * sums) * times(1, 2, 16)), max(16, _power(cols) * times(1, 8)),
                max(4, _power(rows) * times(1, 2, 8)))
    moves, functions = times(0, 1), random_functions(rng)
    # Of no use without MOVEs: softmax of blocks is there for attention alone.
    moves |= functions["softmax"]
    return configuration(rows, cols, *memories, lanes, data_width, bits, moves, **functions)


def _filling_gemm(rng: np.random.Generator, config: Config) -> tuple[Any, dict[str, Any], list[str]]:
    """Gemm of a few ragged tiles each way, whatever the size of the array."""
    rows, cols, bits = config.array.rows, config.array.cols, config.array.operand_bits
    m, k, n = (1 + int(rng.integers(0, 2 * size + 8)) for size in (max(rows, cols), rows, cols))
    kind = np.int8 if bits <= 8 else np.int16
    operator = Gemm(requant=random_requant(rng, n, k, (kind, kind), bits))
    return operator, {"a": operands(rng, (m, k), kind, bits), "b": operands(rng, (k, n), kind, bits)}, []


def _rare(config: Config) -> list[str]:
    """Name what few configurations have the functions for: each of these draws it at least once, if it holds it."""
    return [name for name in graphs_of(config) if GRAPHS[name].needs]


def _draw(rng: np.random.Generator, config: Config, wanted: str | None = None) -> tuple[str, Graph, dict[str, Any]]:
    """Draw an operator, or that which is wanted; return its name, a graph of it and the graph's inputs."""
    bits = config.array.operand_bits
    makers = OPERATORS | (NARROW_OPERATORS if bits == 8 else {})
    makers |= PAIR_OPERATORS if config.has_pairs and config.has_products else {}
    makers |= ROW_OPERATORS if config.has_row_softmax else {}
    makers |= FLOAT_ROW_OPERATORS if config.has_float_softmax else {}
    graphs = graphs_of(config)
    name = wanted or str(rng.choice([*makers, *graphs, "filling_gemm", "pooled"]))
    if name == "pooled":
        return name, *pooled(rng, bits)
    if name in graphs:
        return name, *graphs[name](rng, config)
    if name == "filling_gemm":
        operator, tensors, constants = _filling_gemm(rng, config)
    else:
        operator, tensors, constants = makers[name](rng, bits)
    graph = Graph.of(operator, tensors, constants)
    return name, graph, {key: tensors[key] for key in graph.inputs}


def _mismatches(rng: np.random.Generator, config: Config, inputs: Any, compiled: Any) -> tuple[int, int]:
    """Run on RTL with a random memory, in one run of two with stalls; return mismatches and elements."""
    memory = MemoryTiming(
        read_latency=int(rng.choice([1, 3, 32, 32, 100])), write_latency=int(rng.choice([1, 32, 100])),
        outstanding=int(rng.choice([1, 2, 8, 8])), beats_per_cycle=float(rng.choice([1.0, 1.0, 0.3])))
    regions = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
    job = Job(config, compiled.segments + compiled.bind(inputs), compiled.program_address, regions, memory)
    stall = float(rng.choice([0.0, 0.0, 0.1, 0.5]))
    outcome = run(job, disturbance=Disturbance(stall=stall, seed=int(rng.integers(1 << 30))))
    contents = dict(zip(regions, outcome.regions, strict=True))
    expected, wrong, checked = compiled.graph.golden(inputs), 0, 0
    for name in compiled.output_names:
        actual = compiled.extract(name, lambda address, length: contents[address, length])
        if (actual.shape, actual.dtype) != (expected[name].shape, expected[name].dtype):
            raise ValueError(f"{name} is {actual.dtype} {actual.shape}, not {expected[name].dtype} "
                             f"{expected[name].shape}")
        wrong += int((actual != expected[name]).sum())
        checked += actual.size
    return wrong, checked


def check(config: Config, seed: tuple[int, ...], operators: int) -> tuple[list[dict[str, Any]], int]:
    """Run random operators on a configuration; return a record of each, and how many it cannot hold."""
    cases: list[dict[str, Any]] = []
    refused, rare = 0, _rare(config)
    for attempt in range(8 * operators):
        if len(cases) == operators:
            break
        rng = np.random.default_rng([*seed, attempt])
        name, drawn = "?", {case["operator"] for case in cases}
        missing = [each for each in rare if each not in drawn] if attempt < 6 * len(rare) else []
        try:
            name, graph, inputs = _draw(rng, config, missing[attempt % len(missing)] if missing else None)
            compiled = compile_graph(graph, config)
        except PearrayError as error:
            if not any(part in str(error) for part in REFUSALS):
                cases.append({"operator": name, "attempt": attempt, "error": str(error), "checked": 0,
                              "mismatches": 0})
            refused += 1
            continue
        case: dict[str, Any] = {"operator": name, "attempt": attempt, "checked": 0, "mismatches": 0}
        try:
            case["mismatches"], case["checked"] = _mismatches(rng, config, inputs, compiled)
        except (PearrayError, ValueError) as error:
            case["error"] = str(error)
        cases.append(case)
    return cases, refused


def check_configuration(seed: int, number: int, operators: int = OPERATORS_EACH) -> dict[str, Any]:
    """Run random operators on configuration ``number``; return a record of what came out.

    Returns
    -------
    dict
        ``number``, ``config`` in words, ``verilog_sha256``, ``cases`` (a list of dictionaries with
        ``operator``, ``checked``, ``mismatches`` and, where a run failed, ``error``), ``refused``
        (operators that the configuration cannot hold) and ``cpu_s``.
    """
    config = draw_configuration(seed, number)
    begin = sum(os.times()[:4])
    sha256 = emitted(config).sha256
    place = RESULTS / f"{seed}-{number}-{operators}.json"
    if place.is_file():
        record: dict[str, Any] = json.loads(place.read_text())
        if record["verilog_sha256"] == sha256:
            return record
    cases, refused = check(config, (seed, number), operators)
    record = {"number": number, "config": describe(config), "verilog_sha256": sha256, "cases": cases,
              "refused": refused, "cpu_s": round(sum(os.times()[:4]) - begin, 1)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.rename(place)
    return record


def describe(config: Config) -> str:
    """Describe what a configuration has that others have not, in a few words."""
    pads = config.scratchpads
    return (f"{config.array.rows} x {config.array.cols} int{config.array.operand_bits}, "
            f"{config.memory.data_width} bits, "
            f"{pads.activation_bytes} + {pads.weight_bytes} + {pads.output_bytes} bytes, "
            f"{config.accumulators.depth} rows, {config.post.lanes} lanes")


def _check_rules() -> None:
    """Let every run of this process check the rules of the hardware; other parts' figures are without."""
    os.environ["PEARRAY_RULES"] = "1"


def records(seed: int, numbers: list[int], operators: int, processes: int = 2) -> Iterator[dict[str, Any]]:
    """Check configurations in several processes; yield each record as it comes."""
    with ProcessPoolExecutor(processes, initializer=_check_rules) as pool:
        futures = [pool.submit(check_configuration, seed, number, operators) for number in numbers]
        for future in as_completed(futures):
            yield future.result()


def _names() -> list[str]:
    """All operators that may be drawn."""
    return sorted([*OPERATORS, *NARROW_OPERATORS, *PAIR_OPERATORS, *ROW_OPERATORS, *FLOAT_ROW_OPERATORS,
                   *GRAPHS, "filling_gemm", "pooled"])


def rows() -> list[str]:
    """First cells of :func:`sweep`."""
    return [*_names(), f"all, on {CONFIGURATIONS} configurations"]


def sweep() -> Iterator[str]:
    """Table for the page of benchmarks: operators over all configurations."""
    runs: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    done = list(records(SEED, list(range(CONFIGURATIONS)), OPERATORS_EACH))
    for record in done:
        for case in record["cases"]:
            name = case["operator"]
            runs[name] += 1
            elements[name] += case["checked"]
            wrong[name] += case["mismatches"]
            failed[name] += "error" in case
    yield "| operator | runs | elements | mismatches | errors |"
    yield "|---|---|---|---|---|"
    # What was not drawn has a line, too, which says so.
    for name in _names():
        yield f"| {name} | {runs[name]} | {elements[name]:,} | {wrong[name]} | {failed[name]} |"
    yield (f"| all, on {len(done)} configurations | {runs.total()} | {elements.total():,} | {wrong.total()} "
           f"| {failed.total()} |")


def main() -> None:
    """Run the sweep or a part of it, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--number", type=int, action="append", help="check this configuration only; may be repeated")
    parser.add_argument("--configurations", type=int, default=CONFIGURATIONS)
    parser.add_argument("--operators", type=int, default=OPERATORS_EACH)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    numbers = options.number or list(range(options.configurations))
    begin, bad, runs = time.monotonic(), 0, 0
    for record in records(options.seed, numbers, options.operators, options.processes):
        wrong = [case for case in record["cases"] if case["mismatches"] or "error" in case]
        runs, bad = runs + len(record["cases"]), bad + len(wrong)
        print(f"{record['number']:3} {record['config']}: {len(record['cases'])} runs, {record['refused']} refused, "
              f"{len(wrong)} bad, {record['cpu_s']} s", flush=True)
        for case in wrong:
            print("   ", json.dumps(case), flush=True)
    print(f"{runs} runs, {bad} bad, {time.monotonic() - begin:.0f} s")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
