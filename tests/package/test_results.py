"""Figures of layers from the records that the hardware leaves in memory, without the hardware."""

import struct

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.compiled import Compiled, PlannedLayer
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.kinds import compiler_for
from pearray.compiler.placement import MemoryPlan
from pearray.compiler.program import Program
from pearray.golden.row_stationary import Mapping
from pearray.hdl.row_stationary.commands import COMMANDS
from pearray.report import compare, figure_table, first_difference, run_record
from pearray.results import record_bytes, result_of
from pearray.sim.engine import Outcome

NAMES = COMMANDS.record
COUNTS = [name for name in NAMES if name != "active_pes"]


@pytest.fixture(scope="module")
def chip():
    return pe.load_config("eyeriss").hardware


def _graph(rng):
    """Two convolutions side by side, and their inputs."""
    x = rng.integers(0, 3, (2, 2, 5, 5)).astype(np.int16)
    w = rng.integers(-9, 9, (3, 2, 3, 3)).astype(np.int16)
    operator = pe.Conv2d(requant=pe.FixedPoint(0), activation="relu")
    nodes = [Node(name, operator, {"x": "x", "w": "w"}, {"y": f"{name}_y"}) for name in ("first", "second")]
    return Graph(nodes, {"x": Tensor("x", x.shape, x.dtype)}, {"w": w}, ["x"], ["first_y", "second_y"]), {"x": x}


def _compiled(config, graph, layers, host_packed_bytes):
    """Layers as if they had been compiled, without commands and places."""
    return Compiled(config, graph, Program(config.commands), 0, [], {}, {}, layers, host_packed_bytes, 0, graph, [],
                    MemoryPlan())


def _ran(rng, config, ends, totals, work=(0, 0)):
    graph, inputs = _graph(rng)
    chosen = Mapping(m=3, n=2, e=3, p=3, q=2, r=1, t=1)
    layers = [PlannedLayer(name=node.name, kind="Conv2d", macs=graph.macs(node), shape=(2, 3, 3, 3),
                           outputs=(node.outputs["y"],), packed_bytes=108, profile=0, notes={"mapping": chosen},
                           work=some)
              for node, some in zip(graph.nodes, work, strict=True)]
    compiled = _compiled(config, graph, layers, 216)
    outcome = Outcome(regions=[], cycles=totals["cycles"], counters=totals, build_s=1.0, sim_s=2.0,
                      verilog_sha256="0" * 64)
    records = [struct.pack("<16I", *(end[name] % (1 << 32) for name in NAMES)) for end in ends]
    return graph, inputs, result_of(compiled, outcome, records, graph.golden(inputs), inputs)


def test_layers_are_differences_of_records(rng, chip):
    """A count that is not taken from the record before, or wraps, would put one layer's work on another's account."""
    first = {name: int(rng.integers(1 << 31, 1 << 32)) for name in COUNTS} | {"active_pes": 154}
    second = {name: first[name] + int(rng.integers(9, 1 << 31)) for name in COUNTS} | {"active_pes": 135}
    first["stall_dram"], second["stall_dram"] = 3, 8
    totals = {f"execute_{name}": count for name, count in second.items() if name != "active_pes"} | {
        "cycles": second["cycles"] + 40, "fetch_beats": 100, "load_beats": second["read_beats"] - 93,
        "write_beats": second["write_beats"]}
    graph, inputs, result = _ran(rng, chip, [first, second], totals, (first["macs"] + first["gated"], 0))
    assert record_bytes(chip) == 64
    for name in COUNTS:
        later = {"cycles": 40, "read_beats": 7}.get(name, 0)
        assert result.layers[0].counters[name] == first[name]
        assert result.layers[1].counters[name] == second[name] - first[name] + later
    assert [layer.active_pes for layer in result.layers] == [154, 135]
    assert sum(layer.cycles for layer in result.layers) == result.cycles
    for layer, node in zip(result.layers, graph.nodes, strict=True):
        counts = layer.counters
        assert layer.processing_cycles == counts["cycles"] - counts["stall_dram"]
        words = counts["ifmap_reads"] + counts["psum_reads"] + counts["psum_writes"]
        assert layer.global_buffer_bytes == 2 * words
        assert layer.ifmap_zeros == np.mean(inputs["x"] == 0)
        assert layer.ofmap_zeros == np.mean(result.outputs[node.outputs["y"]] == 0)
    assert result.global_buffer_bytes == sum(layer.global_buffer_bytes for layer in result.layers)
    assert result.processing_cycles == sum(layer.processing_cycles for layer in result.layers)
    assert 135 < result.active_pes < 154
    assert result.dram_read_bytes == sum(layer.dram_read_bytes for layer in result.layers)


def test_layers_that_overlap(rng, chip):
    """Cycles in which the array worked for the second layer before the first one's record must be the second one's."""
    first = dict.fromkeys(NAMES, 0) | {"cycles": 1000, "macs": 60 * chip.pes, "gated": 40 * chip.pes + 7}
    second = dict.fromkeys(NAMES, 0) | {"cycles": 1050, "macs": 140 * chip.pes, "gated": 60 * chip.pes}
    totals = {f"execute_{name}": count for name, count in second.items()} | {
        "cycles": 1070, "fetch_beats": 0, "load_beats": 0, "write_beats": 0}
    _, _, result = _ran(rng, chip, [first, second], totals, (70 * chip.pes, 130 * chip.pes))
    assert [layer.cycles for layer in result.layers] == [970, 100]
    assert [layer.processing_cycles for layer in result.layers] == [970, 100]


def test_record_and_table_hold_them(rng, chip):
    """What the command line writes has the figures under their names, for each layer and the whole."""
    ends = [dict.fromkeys(NAMES, 10), dict.fromkeys(NAMES, 30)]
    totals = {"cycles": 30, "fetch_beats": 10, "load_beats": 20, "write_beats": 30}
    _, _, result = _ran(rng, chip, ends, totals)
    document = run_record("two", "eyeriss", "verilator", 0, result, {"first_y": (54, 0), "second_y": (54, 0)})
    names = {"active_pes", "processing_cycles", "global_buffer_bytes"}
    assert names < set(document)
    for layer in document["layers"]:
        assert {*names, "ifmap_zeros", "ofmap_zeros", "counters"} < set(layer)
        assert set(layer["counters"]) == set(NAMES)
        assert layer["mapping"] == {"m": 3, "n": 2, "e": 3, "p": 3, "q": 2, "r": 1, "t": 1}
    assert figure_table(compiler_for(chip).figure_table(document["layers"], document)).row_count == 3


def test_systolic_runs_have_none_of_them(rng):
    """The figures of the other array would otherwise appear as zeros, as if they had been counted."""
    graph, inputs = _graph(rng)
    config = pe.load_config("systolic-8x8").hardware
    layers = [PlannedLayer(name="first", kind="Conv2d", macs=9, shape=(2, 3, 3, 3), outputs=("first_y",),
                           packed_bytes=0)]
    compiled = _compiled(config, graph, layers, 0)
    outcome = Outcome(regions=[], cycles=7, counters={"fetch_beats": 1, "load_beats": 2, "write_beats": 3}, build_s=0.0,
                      sim_s=0.0, verilog_sha256="")
    result = result_of(compiled, outcome, [], graph.golden(inputs), inputs)
    assert result.layers[0].cycles == 7
    assert not hasattr(result.layers[0], "active_pes")
    document = run_record("one", "systolic-8x8", "verilator", 0, result, {"first_y": (54, 0)})
    assert "active_pes" not in document
    assert "counters" not in document["layers"][0]


def test_every_output_of_a_layer_is_checked(rng, chip):
    """Gradients make three tensors: one that is wrong must not be missing from its layer's account."""
    totals = {"cycles": 30, "fetch_beats": 10, "load_beats": 20, "write_beats": 30}
    _, _, result = _ran(rng, chip, [], totals)
    result.layers[0].outputs = ("first_y", "second_y")
    wrong = result.outputs | {"second_y": result.outputs["second_y"] + 1}
    record = run_record("two", "eyeriss", "verilator", 0, result, compare(wrong, result.outputs))
    size = result.outputs["first_y"].size
    assert (record["checked"], record["mismatches"]) == (2 * size, size)
    assert [(layer["output"], layer["checked"], layer["mismatches"]) for layer in record["layers"]] == [
        ("first_y", 2 * size, size), ("second_y", size, size)]


def test_the_first_difference_is_named():
    """Whoever debugs a mismatch would have to find it again: tensor, index, got and wanted, or what is wrong of all."""
    golden = {"x": np.zeros((2, 3), np.int8), "y": np.arange(6, dtype=np.int8).reshape(2, 3)}
    assert first_difference(golden, golden) is None
    wrong = golden | {"y": golden["y"].copy()}
    wrong["y"][1, 0] = -4
    wrong["y"][1, 2] = 9
    assert first_difference(wrong, golden) == "y[1, 0] is -4, and should be 3"
    nothing = {"z": np.array([np.nan, 1.0], np.float32)}
    assert first_difference(nothing, nothing) is None
    assert compare(nothing, nothing) == {"z": (2, 0)}
    assert first_difference({"y": golden["y"].astype(np.int16)}, golden) == (
        "y is int16 of shape (2, 3), and should be int8 of shape (2, 3)")
