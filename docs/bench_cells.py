"""Cells of an accelerator with and without functions of its vector engine: part of docs/bench.py."""

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["INTRODUCTION", "cells", "rows"]

INTRODUCTION = (
    "What softmax and normalisation cost: cells of systolic-8x8 for Lattice ECP5 as Yosys maps them, without placing. "
    "The preset has softmax; of a function that a configuration does not choose nothing is in its Verilog.")

#: Settings of a systolic-8x8.
SETTINGS = ("--set post.softmax=0", "", "--set post.norms=1")

#: Columns, with the fields of a report.
COLUMNS = {"LUT4": "lut4", "CCU2C": "ccu2c", "distributed RAM": "distributed_ram", "FF": "ff", "MULT18": "mult18",
           "block RAM": "block_ram"}


def _commands() -> list[str]:
    return [" ".join(("synth", "systolic-8x8", "--cells", settings)).strip() for settings in SETTINGS]


def rows() -> list[str]:
    """First cells of :func:`cells`."""
    return [f"`pearray {command}`" for command in _commands()]


def cells(measure: Callable[..., dict[str, Any]]) -> Iterator[str]:
    """Table of cells, one line for each configuration."""
    yield f"| command | {' | '.join(COLUMNS)} | Verilog |"
    yield "|---" * (len(COLUMNS) + 2) + "|"
    for command, row in zip(_commands(), rows(), strict=True):
        record = measure(*command.split())
        if "error" in record:
            yield f"| {row} | {record['error']} |" + " |" * len(COLUMNS)
            continue
        counts = " | ".join(f"{record[field]:,}" for field in COLUMNS.values())
        yield f"| {row} | {counts} | `{record['verilog_sha256'][:12]}` |"
