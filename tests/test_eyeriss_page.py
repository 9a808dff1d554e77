"""The page about Eyeriss: that it states what it was given, and finds what was not as predicted."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from pearray.golden.gating import accesses
from pearray.golden.models import ALEXNET_CONV
from pearray.golden.row_stationary import LayerMapping, Mapping
from pearray.workloads.published import ALEXNET_MAPPINGS

spec = importlib.util.spec_from_file_location("bench_eyeriss", Path(__file__).parents[1] / "docs" / "bench_eyeriss.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


IFMAPS = [np.ones((4, shape.c, shape.h, shape.w), np.int16) for shape in ALEXNET_CONV]


@pytest.fixture
def run():
    """A run as the closed-form model has it, with a thousand cycles of waiting in each layer."""
    layers = []
    for shape, parameters, ifmap in zip(ALEXNET_CONV, ALEXNET_MAPPINGS, IFMAPS, strict=True):
        mapping = Mapping(**parameters)
        mapped = LayerMapping(layer=shape, mapping=mapping, batch=4)
        counts = accesses(mapped, ifmap)
        words = counts["ifmap_reads"] + counts["psum_reads"] + counts["psum_writes"]
        cycles = shape.macs(4) // mapped.active_pes
        layers.append({
            "mapping": {name: vars(mapping)[name] for name in "mnepqrt"}, "macs": shape.macs(4),
            "counters": {**counts, "fills": 1, "stall_dram": 1000},
            "active_pes": mapped.active_pes, "global_buffer_bytes": 2 * words, "processing_cycles": cycles,
            "cycles": cycles + 1000, "dram_read_bytes": 2_000_000, "dram_write_bytes": 1_000_000, "ifmap_zeros": 0.5,
            "ofmap_zeros": 0.25})
    summed = ("macs", "global_buffer_bytes", "processing_cycles", "cycles", "dram_read_bytes", "dram_write_bytes")
    return {"layers": layers, "pes": 168, "active_pes": 148.0, "mismatches": 0, "checked": 9, "wall_s": 1.0,
            "verilog_sha256": "0" * 64, **{name: sum(layer[name] for layer in layers) for name in summed}}


def _rows(page, heading):
    """Cells of the table under a heading, by the name of the row."""
    section = page.split(f"## {heading}\n")[1].split("\n#")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_paper_mapping_is_the_published_one(run):
    """If it failed, the paper's mapping as we have it would not be the one whose accesses the paper prints."""
    page = bench.page(run, run, IFMAPS)
    pes, buffer = _rows(page, "Active PEs"), _rows(page, "Global buffer, MB")
    assert pes["the paper's mapping"][:5] == pes["published"][:5] == ["154", "135", "156", "156", "156"]
    for ours, printed in zip(buffer["the paper's mapping"], buffer["published"], strict=True):
        assert abs(float(ours) - float(printed)) <= 0.051


def test_model_finds_what_it_did_not_predict(run):
    """If it failed, the page would call counts predicted that are not."""
    assert "**not" not in bench.page(run, run, IFMAPS)
    wrong = {**run, "layers": [dict(layer) for layer in run["layers"]]}
    counters = wrong["layers"][2]["counters"]
    wrong["layers"][2]["counters"] = counters | {"psum_reads": counters["psum_reads"] + 1}
    found = re.findall(r"([\d,]+), \*\*not ([\d,]+)\*\*", bench.page(run, wrong, IFMAPS))
    assert found == [(f"{counters['psum_reads'] + 1:,}", f"{counters['psum_reads']:,}")]


def test_missed_goals_are_marked(run):
    """If it failed, a figure beyond its limit would stand there as if it were within."""
    assert "missed" not in bench.page(run, run, IFMAPS)
    slow = {**run, "cycles": 21_000_001, "dram_read_bytes": 15_000_000}
    assert bench.page(slow, run, IFMAPS).count("**missed**") == 2
