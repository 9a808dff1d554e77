"""The demonstration of ``make run``: a part of docs/bench.py."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["INTRODUCTION", "ROWS", "demonstration"]

INTRODUCTION = ("A hundred handwritten digits through the quantised MNIST CNN on systolic-8x8, every tensor compared "
                "with NumPy. The images are training images, so the accuracy says nothing about unseen digits.")

#: First cells of :func:`demonstration`.
ROWS = ["`make run`"]


def demonstration() -> Iterator[str]:
    """Table of what the demonstration prints."""
    yield "| command | digits | right | cycles a digit | utilisation | mismatches | Verilog |"
    yield "|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        print("make run", flush=True)
        subprocess.run([sys.executable, "-m", "pearray.demo", "-o", folder], stdin=subprocess.DEVNULL, check=True)
        record = json.loads((Path(folder) / "mnist.json").read_text())
    yield (f"| {ROWS[0]} | {record['images']} | {record['correct']} | {record['cycles'] / record['images']:,.0f} "
           f"| {100 * record['utilisation']:.1f} % | {record['mismatches']} of {record['checked']:,} "
           f"| `{record['verilog_sha256'][:12]}` |")
