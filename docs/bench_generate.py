"""Time and size of generated Verilog: a part of docs/bench.py."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["INTRODUCTION", "generation", "rows"]

INTRODUCTION = (
    "Seconds of the whole command, Python's start included, on the machine that wrote this page, by the clock and of "
    "its processor, and bytes of Verilog. Limits are held against the processor's seconds, since other work stretches "
    "the clock's. How time grows with the array shows in milliseconds over rows + columns.")

SIDES = (16, 32, 64, 128, 256)

#: Arguments of `pearray generate`; rows + columns; seconds and bytes that it may take at most.
_LARGEST = 20.0, 5_000_000
RUNS: list[tuple[list[str], int, float | None, int | None]] = [
    (["systolic-16x16"], 32, 10.0, None),
    *((["systolic-16x16", "--top", "array", "--set", f"array.rows={side}", "--set", f"array.cols={side}"], 2 * side,
       *(_LARGEST if side == max(SIDES) else (None, None))) for side in SIDES),
]


def rows() -> list[str]:
    """First cells of :func:`generation`."""
    return [f"`pearray generate {' '.join(arguments)} -o DIR`" for arguments, *_ in RUNS]


def generation(measure: Callable[..., dict[str, Any]]) -> Iterator[str]:
    """Table of times and sizes, one line for each design; `measure` runs a command and returns its record."""
    yield "| command | s | s of processor | at most | ms / (rows + columns) | bytes | at most | Verilog |"
    yield "|---|---|---|---|---|---|---|---|"
    for (arguments, sides, most_s, most_bytes), command in zip(RUNS, rows(), strict=True):
        with tempfile.TemporaryDirectory() as folder:
            begin, processor = time.perf_counter(), _processor_s()
            record = measure("generate", *arguments, "-o", folder)
            elapsed, processor = time.perf_counter() - begin, _processor_s() - processor
            if "error" in record:
                yield f"| {command} | {record['error']} | | | | | | |"
                continue
            size = (Path(folder) / f"{record['name']}.v").stat().st_size
        yield (f"| {command} | {elapsed:.1f} | {processor:.1f} | {_goal(processor, most_s)} "
               f"| {1000 * processor / sides:.0f} | {size:,} | {_goal(size, most_bytes)} "
               f"| `{record['verilog_sha256'][:12]}` |")


def _processor_s() -> float:
    """Seconds that the commands so far have worked."""
    times = os.times()
    return times.children_user + times.children_system


def _goal(figure: float, most: float | None) -> str:
    """What a figure may be at most, and whether it is more."""
    return "" if most is None else f"{most:,.0f}" if figure <= most else f"{most:,.0f}: **missed**"
