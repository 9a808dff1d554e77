"""Pooled convolutions on the RTL: all engines under stalls, accesses and cycles as predicted, and their figures."""

from pathlib import Path

import numpy as np
import pytest
from random_workloads import operands, pooled
from slow import engines

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Disturbance, Job, run

SMALL = pe.load_config(Path(__file__).parents[1] / "cocotb" / "configuration.toml").hardware


def network(rng):
    """Draw two pooled convolutions, the second of which reads what the first makes."""
    x = operands(rng, (1, 3, 9, 8))
    constants = {"v": operands(rng, (4, 3, 3, 3)), "w": operands(rng, (5, 4, 3, 3)),
                 "b": rng.integers(-500, 500, 4).astype(np.int32)}
    point = int(rng.integers(-20, 20))
    first = pe.Conv2d(padding=1, activation="relu",
                      requant=pe.Requant.onnx(1.0, 3, rng.uniform(0.5, 2, 4) / 1300, 0, 1.0, np.int8(point)))
    second = pe.Conv2d(padding=1, requant=pe.Requant.onnx(1.0, point, 1 / 1900, 0, 1.0, np.uint8(120)))
    graph = Graph(
        [Node("first", first, {"x": "x", "w": "v", "b": "b"}, {"y": "t0"}),
         Node("pool", pe.MaxPool2d(2), {"x": "t0"}, {"y": "t1"}),
         Node("second", second, {"x": "t1", "w": "w"}, {"y": "t2"}),
         Node("other", pe.MaxPool2d((2, 3)), {"x": "t2"}, {"y": "t3"})],
        {"x": Tensor("x", x.shape, x.dtype)}, constants, ["x"], ["t3"])
    return graph, {"x": x}


@pytest.mark.parametrize("engine", engines("amaranth"))
def test_engines_under_stalls(rng, engine):
    """A window that a stall cuts, or a row that waits for another's, is wrong on one engine or on all."""
    graph, inputs = network(rng)
    compiled = compile_graph(graph, SMALL, effort=0)
    assert len(compiled.layers) == 2
    regions = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
    job = Job(SMALL, compiled.segments + compiled.bind(inputs), compiled.program_address, regions)
    outcome = run(job, engine, disturbance=Disturbance(stall=0.2, seed=int(rng.integers(1 << 30))))
    contents = dict(zip(regions, outcome.regions, strict=True))
    made = compiled.extract("t3", lambda address, length: contents[address, length])
    np.testing.assert_array_equal(made, graph.golden(inputs)["t3"])


def test_random_windows(rng):
    """Windows of any size over convolutions of any kind, and the time and accesses that the mapper relies on."""
    fused = exact = 0
    for _ in range(6):
        graph, inputs = pooled(rng, 8)
        try:
            handle = pe.compile(graph, inputs, SMALL, effort=0)
            compiled = handle.compiled()
        except pe.PearrayError as error:
            if "can't hold" not in str(error):
                raise
            continue
        result = handle.run(inputs)
        np.testing.assert_array_equal(result.outputs["y"], graph.golden(inputs)["y"])
        expected = predict(SMALL, compiled.program)
        assert {name: result.counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        assert abs(expected["cycles"] - result.cycles) <= 0.02 * result.cycles
        exact += expected["cycles"] == result.cycles
        fused += len(compiled.layers) == 1
        assert sum(layer.work for layer in compiled.layers) == result.counters["execute_active"]
    assert fused
    assert exact


def test_layers_of_a_run(rng):
    """A pooled convolution is one layer with both names, whose figures add up to those of the run."""
    graph, inputs = network(rng)
    result = pe.run(graph, inputs, on=SMALL)
    assert [layer.name for layer in result.layers] == ["first + pool", "second + other"]
    assert [layer.output for layer in result.layers] == ["t1", "t3"]
    # Rows and columns that no window covers are neither computed nor counted.
    assert [layer.macs for layer in result.layers] == [8 * 8 * 4 * 27, 4 * 3 * 5 * 36]
    assert sum(layer.cycles for layer in result.layers) == result.cycles
    apart = pe.run(graph, inputs, on=SMALL, keep="all")
    assert len(apart.layers) == 4
    np.testing.assert_array_equal(apart.outputs["t3"], result.outputs["t3"])
    assert result.cycles < apart.cycles
    assert result.dram_write_bytes < apart.dram_write_bytes
