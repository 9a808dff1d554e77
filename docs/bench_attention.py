"""Fused attention on presets, one of them after Eyeriss with bytes, and its errors: parts of docs/bench.py."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pearray.ledger import losses

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from attention_errors import DISTRIBUTIONS, LENGTHS, measured_errors

__all__ = ["ERRORS_INTRODUCTION", "INTRODUCTION", "ROWS_OF_ERRORS", "attention", "errors", "least_bytes", "rows"]

INTRODUCTION = (
    "`attention:P,M,E,F,H`, int8, on the RTL, from the start write to the done flag, with the default memory; "
    "[attention.md](attention.md) says how. The limit is MACs over PEs: those of queries with keys that they see, and "
    "of one numerator for each with the values, be it of one byte or two. The least that memory moves is Q and O once, "
    "and K and V once for each 256 queries. The loss is the largest of the [ledger](ledger.md).")

ERRORS_INTRODUCTION = (
    "Outputs of the golden model, to which the RTL is equal, against softmax in float64, in steps of the values' int8: "
    "the greatest error, and the root of the mean square, each the worst over "
    f"{', '.join(f'{length:,}' for length in LENGTHS[:-1])} and {LENGTHS[-1]:,} keys. Queries are 16 of 64 elements, "
    "blocks have 32 keys. Before and after tell of the rounding of outputs to int8. Distributions are those of "
    "`tests/attention_errors.py`.")

#: Greatest error and root of the mean square that are promised, before the last rounding, by bytes of a numerator.
PROMISED = {1: (3.0, 0.7), 2: (0.2, 0.05)}

#: Queries for which keys and values are read once.
_QUERIES = 256

#: Seed of the distributions.
_SEED = 0


class Case(NamedTuple):
    """A run, and what it must reach.

    Parameters
    ----------
    workload, config, settings : str
        Arguments of `pearray run`, of `--set` one behind another.
    percent : float
        Utilisation at least, 0 if it is measured only.
    bytes : float
        Memory bytes over the least that must move, at most; 0 for no limit.
    """

    workload: str
    config: str
    settings: str = ""
    percent: float = 0
    bytes: float = 0


CASES = [
    Case("attention:512,512,64,64,1", "systolic-32x32", percent=95),
    Case("attention:4096,4096,64,64,1", "systolic-32x32", percent=99, bytes=1.05),
    Case("attention:512,512,64,64,12", "systolic-32x32", percent=98),
    Case("attention:512,512,32,32,12", "systolic-32x32", percent=95),
    Case("attention:2048,2048,128,128,1", "systolic-32x32", percent=98),
    Case("attention:4096,4096,64,64,1", "systolic-32x32", "workload.causal=true", percent=95),
    Case("attention:512,512,64,64,1", "systolic-32x32", "workload.two_bytes=true"),
    Case("attention:512,512,64,64,1", "systolic-16x16"),
    Case("attention:512,512,64,64,1", "systolic-8x8"),
    Case("attention:512,512,64,64,1", "eyeriss",
         "array.operand_bits=8 post.softmax=1 scratchpads.moves=1 scratchpads.output_bytes=16384 "
         "global_buffer.filter_banks=9 memory.beats_per_cycle=1"),
]


def rows() -> list[str]:
    """First cells of :func:`attention`."""
    return [f"`pearray run {' '.join((case.workload, '--on', case.config, *_options(case)))}`" for case in CASES]


def _options(case: Case) -> list[str]:
    """Settings of a run as they are given on the command line."""
    return [part for setting in case.settings.split() for part in ("--set", setting)]


def least_bytes(workload: str) -> int:
    """Bytes of Q and O, and of K and V once for each 256 queries."""
    sizes = re.fullmatch(r"attention:(\d+),(\d+),(\d+),(\d+),(\d+)", workload)
    assert sizes is not None
    p, m, e, f, h = (int(size) for size in sizes.groups())
    return h * (p + -(-p // _QUERIES) * m) * (e + f)


def _goal(value: str, reached: bool, goal: float, text: str) -> str:
    return f"{value} | {text}{'' if reached else ': not reached'}" if goal else f"{value} | "


def _row(case: Case, command: str, record: dict[str, Any]) -> str:
    """Line of a run."""
    utilisation = 100 * record["utilisation"]
    moved, least = record["dram_read_bytes"] + record["dram_write_bytes"], least_bytes(case.workload)
    loss = losses(record["ledger"], 1)[0]
    used = _goal(f"{utilisation:.2f} %", utilisation >= case.percent, case.percent, f"{case.percent} %")
    times = _goal(f"{moved / least:.2f}", moved <= case.bytes * least, case.bytes, f"{case.bytes}")
    return (f"| {command} | {record['cycles']:,} | {-(-record['macs'] // record['pes']):,} | {used} | {moved:,} "
            f"| {times} | {loss.replace('_', ' ')} {record['ledger'][loss]:,} "
            f"| {record['mismatches']} of {record['checked']:,} | `{record['verilog_sha256'][:12]}` |")


def attention(measure: Callable[..., dict[str, Any]]) -> Iterator[str]:
    """Table of cycles, one line for each run; `measure` runs a command and returns its record."""
    yield ("| command | cycles | limit | utilisation | at least | memory bytes | over the least | at most "
           "| largest loss | mismatches | Verilog |")
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for case, command in zip(CASES, rows(), strict=True):
        record = measure("run", case.workload, "--on", case.config, *_options(case))
        yield _row(case, command, record) if "error" not in record else f"| {command} | {record['error']} {'| ' * 10}|"


#: First cells of :func:`errors`.
ROWS_OF_ERRORS = [*DISTRIBUTIONS, "promised"]


def errors() -> Iterator[str]:
    """Table of errors, one line for each distribution of scores."""
    sorts = [(size, when) for size in PROMISED for when in ("before", "after")]
    titles = [f"{'one byte' if size == 1 else 'two bytes'}, {when}" for size, when in sorts]
    yield f"| scores | {' | '.join(titles)} |"
    yield "|---" * (len(sorts) + 1) + "|"
    for name in DISTRIBUTIONS:
        print(name, flush=True)
        rng = np.random.default_rng(_SEED)
        measured = {size: [measured_errors(name, length, rng, size == 2) for length in LENGTHS] for size in PROMISED}
        cells = []
        for size, when in sorts:
            most, rms = (max(each) for each in zip(*(getattr(found, when) for found in measured[size]), strict=True))
            missed = when == "before" and (most > PROMISED[size][0] or rms > PROMISED[size][1])
            cells.append(f"{most:.2f} / {rms:.3f}{': not reached' if missed else ''}")
        yield f"| {name} | {' | '.join(cells)} |"
    promised = [f"{PROMISED[size][0]:g} / {PROMISED[size][1]:g}" if when == "before" else "" for size, when in sorts]
    yield f"| promised | {' | '.join(promised)} |"
