"""Random operators on random accelerators of every kind, on RTL against golden: a part of docs/bench.py.

Each configuration is drawn from the seed and its number, and each operator from the seed, that number, the operator's
name and its own number. Every operator that has a lowering is drawn :data:`RUNS` times or more on every kind of array
that has it, on those configurations that have the functions that it needs. Results are kept by number and by the
hashes of the Verilog that ran and of the sources that made programs, so a sweep that was interrupted goes on where it
stopped, and one after a change starts anew.

``python docs/bench_sweep.py --number 17`` repeats one configuration, and ``--only attention`` one operator.
"""

import argparse
import atexit
import hashlib
import json
import math
import os
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from drawn_configurations import drawn_configuration, kind_of
from draws import DRAWS, draw, draws_of, is_refusal
from example import provide
from random_workloads import briefly

from pearray.compiler.compile import compile_graph
from pearray.compiler.compiled import Compiled
from pearray.hdl.errors import PearrayError
from pearray.hdl.shell.config import Config
from pearray.memory import MemoryTiming
from pearray.sim import Disturbance, Job, run
from pearray.sim.design import emitted

__all__ = ["INTRODUCTION", "check", "rows", "sweep"]

SEED = 20261127
CONFIGURATIONS = 30
#: Least runs of an operator on each kind of array that has it.
RUNS = 20
#: Drawn layers for each run that is wanted, at most: small memories can't hold some.
_ATTEMPTS = 8
RESULTS = ROOT / "build" / "sweep"

#: Kinds of array, in the order of the table's columns.
_KINDS = ("systolic", "row-stationary", "dot")

INTRODUCTION = (
    "Random operators with random shapes, types, scales, masks and memories on random configurations of every kind of "
    "array, from 1 x 1 to 64 x 64, every second run with stalls, against golden. Every run checks the rules of the "
    "hardware, and that the ledger adds up to the cycles. Names are those of `tests/draws.py`; every operator that has "
    f"a lowering is among them, {RUNS} times or more, as the plan has it, on each kind of array that has it (an empty "
    "cell: it has not), and `dot` is the plug-in of `examples`. `python docs/bench_sweep.py --seed N --number "
    "CONFIGURATION` repeats a configuration. Errors are runs that did not end, or programs that could not be made.")


def draw_configuration(seed: int, number: int) -> Config:
    """Draw configuration ``number``."""
    return drawn_configuration(np.random.default_rng([seed, number]), number)


def plan(seed: int, configurations: int) -> list[dict[str, int]]:
    """Runs of each operator on each configuration, by the configuration's number."""
    held = [draws_of(draw_configuration(seed, number)) for number in range(configurations)]
    holders = Counter((kind_of(number), name) for number, names in enumerate(held) for name in names)
    return [{name: math.ceil(RUNS / holders[kind_of(number), name]) for name in names}
            for number, names in enumerate(held)]


def _mismatches(rng: np.random.Generator, config: Config, inputs: Any, compiled: Compiled) -> tuple[int, int]:
    """Run on RTL with a random memory, in one run of two with stalls; return mismatches and elements."""
    memory = MemoryTiming(
        read_latency=int(rng.choice([1, 3, 32, 32, 100])), write_latency=int(rng.choice([1, 32, 100])),
        outstanding=int(rng.choice([1, 2, 8, 8])), beats_per_cycle=float(rng.choice([1.0, 1.0, 0.3])))
    regions = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
    job = Job(config, compiled.segments + compiled.bind(inputs), compiled.program_address, regions, memory)
    stall = float(rng.choice([0.0, 0.0, 0.1, 0.5]))
    outcome = run(job, disturbance=Disturbance(stall=stall, seed=int(rng.integers(1 << 30))))
    charged = sum(part.total() for part in outcome.ledger)
    if charged != outcome.cycles:
        raise ValueError(f"ledger adds up to {charged}, not {outcome.cycles} cycles")
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


def _case(config: Config, seed: tuple[int, ...], name: str, attempt: int) -> dict[str, Any] | None:
    """Draw an operator and run it; return a record, or None if the configuration can't hold it."""
    rng = np.random.default_rng([*seed, zlib.crc32(name.encode()), attempt])
    case: dict[str, Any] = {"operator": name, "attempt": attempt, "checked": 0, "mismatches": 0}
    try:
        graph, inputs = draw(rng, config, name)
        # The search for the best program takes longer than its simulation.
        compiled = compile_graph(graph, config, **({} if rng.integers(8) == 0 else briefly(config)))
    except PearrayError as error:
        return None if is_refusal(error) else case | {"error": str(error)}
    try:
        case["mismatches"], case["checked"] = _mismatches(rng, config, inputs, compiled)
    except (PearrayError, ValueError) as error:
        case["error"] = str(error)
    return case


def check(config: Config, seed: tuple[int, ...], runs: Mapping[str, int]) -> tuple[list[dict[str, Any]], int]:
    """Run random operators on a configuration; return a record of each run, and how many layers it can't hold.

    Parameters
    ----------
    config : Config
        The accelerator.
    seed : tuple of int
        Seed of what is drawn.
    runs : mapping of str to int
        Runs of each operator, by the names of ``tests/draws.py``.
    """
    cases: list[dict[str, Any]] = []
    refused = 0
    for name, wanted in runs.items():
        made: list[dict[str, Any]] = []
        for attempt in range(_ATTEMPTS * wanted):
            if len(made) == wanted:
                break
            case = _case(config, seed, name, attempt)
            refused += case is None
            made += [] if case is None else [case]
        cases += made
    return cases, refused


@cache
def _sources() -> str:
    """Hash of what makes programs, what they are compared with, and what draws them."""
    found = hashlib.sha256()
    for folder in ("compiler", "examples", "golden", "hdl", "sim", "tests"):
        for path in sorted((ROOT / folder).glob("*.py" if folder == "tests" else "**/*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def check_configuration(seed: int, number: int, runs: Mapping[str, int]) -> dict[str, Any]:
    """Run random operators on configuration ``number``; return a record of what came out.

    Returns
    -------
    dict
        ``number``, ``kind``, ``config`` in words, ``cases`` (a list of dictionaries with ``operator``, ``checked``,
        ``mismatches`` and, where a run failed, ``error``), ``refused`` (layers that the configuration can't hold),
        ``cpu_s``, and what they depend on.
    """
    config = draw_configuration(seed, number)
    begin = sum(os.times()[:4])
    basis = {"verilog_sha256": emitted(config).sha256, "sources_sha256": _sources(), "runs": dict(runs)}
    place = RESULTS / f"{seed}-{number}.json"
    if place.is_file():
        record: dict[str, Any] = json.loads(place.read_text())
        if {name: record.get(name) for name in basis} == basis:
            return record
    cases, refused = check(config, (seed, number), runs)
    record = {"number": number, "kind": config.KIND, "config": describe(config), **basis, "cases": cases,
              "refused": refused, "cpu_s": round(sum(os.times()[:4]) - begin, 1)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_suffix(".partial")
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    unfinished.rename(place)
    return record


def describe(config: Config) -> str:
    """Describe what a configuration has that others have not, in a few words."""
    memories = " + ".join(f"{size} ({name})" for name, size in config.memories.items())
    functions = ", ".join(sorted(config.functions)) or "no functions"
    return (f"{config.KIND} {config.array.rows} x {config.array.cols} int{config.array.operand_bits}, "
            f"{config.memory.data_width} bits, {memories} bytes, {functions}")


def _prepare() -> None:
    """Let every run of this process check the rules of the hardware; other parts' figures are without."""
    os.environ["PEARRAY_RULES"] = "1"


def records(seed: int, numbers: Mapping[int, Mapping[str, int]], processes: int = 2) -> Iterator[dict[str, Any]]:
    """Check configurations in several processes, given the runs of each; yield each record as it comes."""
    with ProcessPoolExecutor(processes, initializer=_prepare) as pool:
        futures = [pool.submit(check_configuration, seed, number, runs) for number, runs in numbers.items()]
        for future in as_completed(futures):
            yield future.result()


def _all() -> str:
    return f"all, on {CONFIGURATIONS} configurations"


def rows() -> list[str]:
    """First cells of :func:`sweep`."""
    return [*sorted(DRAWS), _all()]


def sweep() -> Iterator[str]:
    """Table for the page of benchmarks: operators over all configurations."""
    provide(atexit.register)
    runs: Counter[tuple[str, str]] = Counter()
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("checked", "mismatches", "errors")}
    for record in records(SEED, dict(enumerate(plan(SEED, CONFIGURATIONS)))):
        for case in record["cases"]:
            name = case["operator"]
            runs[name, record["kind"]] += 1
            for key, found in counts.items():
                found[name] += int("error" in case) if key == "errors" else case[key]
    yield f"| operator | runs, {' | '.join(_KINDS)} | elements | mismatches | errors |"
    yield "|---" * (len(_KINDS) + 4) + "|"
    for name in sorted(DRAWS):
        each = " | ".join(str(runs[name, kind] or "") for kind in _KINDS)
        yield (f"| {name} | {each} | {counts['checked'][name]:,} | {counts['mismatches'][name]} "
               f"| {counts['errors'][name]} |")
    each = " | ".join(str(sum(count for (_, of), count in runs.items() if of == kind)) for kind in _KINDS)
    yield (f"| {_all()} | {each} | {counts['checked'].total():,} "
           f"| {counts['mismatches'].total()} | {counts['errors'].total()} |")


def main() -> None:
    """Run the sweep or a part of it, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--number", type=int, action="append", help="check this configuration only; may be repeated")
    parser.add_argument("--only", choices=sorted(DRAWS), action="append", help="draw this only; may be repeated")
    parser.add_argument("--configurations", type=int, default=CONFIGURATIONS)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    provide(atexit.register)
    planned = dict(enumerate(plan(options.seed, options.configurations)))
    chosen = {number: {name: count for name, count in planned[number].items()
                       if options.only is None or name in options.only} for number in options.number or planned}
    begin, bad, runs = time.monotonic(), 0, 0
    for record in records(options.seed, chosen, options.processes):
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
