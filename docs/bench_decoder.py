"""Decoder blocks token by token on the RTL, and how well they use the memory: a part of docs/bench.py."""

from collections.abc import Callable, Iterator
from typing import Any

from pearray import load_config

__all__ = ["INTRODUCTION", "decoder", "rows"]

PRESET = "systolic-16x16"

INTRODUCTION = (
    "`llama-block`, int8, on the RTL, with the default memory: a small block, of which a prompt of 16 tokens is one "
    "program and 16 more are runs of another, and a step of the block of LLaMA-7B at a context of 2,048, where all "
    "keys and values so far are read. Memory is beats over cycles, reads and writes together, the program included; "
    "of a step the weights alone are more than nine tenths. Every token is compared with the golden model. "
    "[operators.md](operators.md) says what the block is, and how near it is to transformers' Llama.")

#: Settings of runs, and the share of the memory's beats in percent that each must reach, 0 for none.
CASES = [
    ({"tokens": 32}, 0.0),
    ({"tokens": 1, "start": 2047, "width": 4096, "heads": 32, "kv_heads": 32, "wide": 11008}, 95.0),
]


def _command(settings: dict[str, int]) -> list[str]:
    return ["run", "llama-block", "--on", PRESET,
            *(word for key, value in settings.items() for word in ("--set", f"workload.{key}={value}"))]


def rows() -> list[str]:
    """First cells of :func:`decoder`."""
    return [f"`pearray {' '.join(_command(settings))}`" for settings, _ in CASES]


def decoder(measure: Callable[..., dict[str, Any]]) -> Iterator[str]:
    """Table of cycles, one line for each run; `measure` runs a command and returns its record."""
    yield "| command | cycles | memory bytes | memory | at least | mismatches | Verilog |"
    yield "|---|---|---|---|---|---|---|"
    for (settings, percent), command in zip(CASES, rows(), strict=True):
        record = measure(*_command(settings))
        if "error" in record:
            yield f"| {command} | {record['error']} | | | | | |"
            continue
        moved = record["dram_read_bytes"] + record["dram_write_bytes"]
        share = 100 * moved / load_config(PRESET).hardware.beat_bytes / record["cycles"]
        goal = f"{percent:g} %{'' if share >= percent else ': not reached'}" if percent else ""
        yield (f"| {command} | {record['cycles']:,} | {moved:,} | {share:.1f} % | {goal} "
               f"| {record['mismatches']} of {record['checked']:,} | `{record['verilog_sha256'][:12]}` |")
