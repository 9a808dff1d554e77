"""Addition of two tensors by tables on the RTL, against onnxruntime, and its time."""

from pathlib import Path

import numpy as np
import pytest
from onnx_node import MICROSOFT, run_node
from random_workloads import operands
from slow import engines

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Job, run

SMALL = pe.load_config(Path(__file__).parents[1] / "cocotb" / "configuration.toml").hardware


def draw(rng, shape=None):
    """Draw an addition over many decades of scales, and its tensors."""
    shape = shape or tuple(int(size) for size in rng.integers(1, (3, 20, 8, 8)))[:int(rng.choice([2, 4]))]
    kind = rng.choice([np.int8, np.uint8])
    scales = (10.0**rng.uniform(-6, 6) * 10.0**rng.uniform(-1, 1, 3)).astype(np.float32)
    zeros = [operands(rng, (), kind)[()] for _ in range(3)]
    operator = pe.Add(scales[0], zeros[0], scales[1], zeros[1], scales[2], zeros[2])
    return operator, {"a": operands(rng, shape, kind), "b": operands(rng, shape, kind)}


def runtime(operator, tensors):
    """Result of onnxruntime's QLinearAdd."""
    return run_node("QLinearAdd", [
        tensors["a"], np.float32(operator.A_scale), operator.A_zero_point,
        tensors["b"], np.float32(operator.B_scale), operator.B_zero_point,
        np.float32(operator.C_scale), operator.C_zero_point], output=tensors["a"].dtype, domain=MICROSOFT)


def test_any_scales(rng):
    """What decides between two outputs is a bit of a float32 sum: any entry, byte or delay that is wrong shows."""
    pytest.importorskip("onnxruntime")
    for _ in range(20):
        operator, tensors = draw(rng)
        made = pe.run(operator, tensors, on=SMALL, effort=0).outputs["y"]
        expected = runtime(operator, tensors)
        np.testing.assert_array_equal(pe.golden_run(operator, tensors)["y"], expected)
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("engine", engines("amaranth"))
def test_mixed_types(rng, engine):
    """Operands and result of different signs read the same bytes by other tables, on each engine."""
    a, b, y = (rng.choice([np.int8, np.uint8]) for _ in range(3))
    zeros = [operands(rng, (), kind)[()] for kind in (a, b, y)]
    operator = pe.Add(0.0513, int(zeros[0]), 0.0217, int(zeros[1]), 0.0391, zeros[2])
    tensors = {"a": operands(rng, (3, 7), a), "b": operands(rng, (3, 7), b)}
    made = pe.run(operator, tensors, on=SMALL, engine=engine, effort=0).outputs["y"]
    expected = pe.golden_run(operator, tensors)["y"]
    assert made.dtype == expected.dtype == y
    np.testing.assert_array_equal(made, expected)


def test_additions_among_layers(rng):
    """Tables of two additions share one memory, and layers around them the accumulators, biases and lanes."""
    channels = 6
    x = operands(rng, (1, channels, 5, 4))
    constants = {name: operands(rng, (channels, channels, 1, 1)) for name in ("v", "w")}
    constants["bias"] = rng.integers(-500, 500, channels).astype(np.int32)
    layer = pe.Conv2d(requant=pe.Requant.onnx(1.0, 0, 0.003, 0, 1.0, np.int8(3)))
    scales = 10.0**rng.uniform(-1, 0, (2, 3))
    additions = [pe.Add(a, 3, b, -4, c, np.int8(5)) for a, b, c in scales.tolist()]
    graph = Graph(
        [Node("first", layer, {"x": "x", "w": "v", "b": "bias"}, {"y": "t0"}),
         Node("one", additions[0], {"a": "t0", "b": "x"}, {"y": "t1"}),
         Node("other", additions[1], {"a": "t1", "b": "t0"}, {"y": "t2"}),
         Node("again", additions[0], {"a": "t2", "b": "t2"}, {"y": "t3"}),
         Node("last", layer, {"x": "t3", "w": "w", "b": "bias"}, {"y": "t4"})],
        {"x": Tensor("x", x.shape, x.dtype)}, constants, ["x"], ["t4"])
    outputs, expected = pe.run(graph, {"x": x}, on=SMALL, keep="all").outputs, graph.golden({"x": x})
    for name in ("t0", "t1", "t2", "t3", "t4"):
        np.testing.assert_array_equal(outputs[name], expected[name], name)


def test_time(rng):
    """Accesses that are not predicted, or cycles, mislead the mapper; a lane that waits is slower than promised."""
    config = pe.load_config("systolic-8x8", {"post.pairs": 1}).hardware
    for shape in ((1, 64, 14, 14), (2, 5, 9, 7)):
        operator, tensors = draw(rng, shape)
        compiled = compile_graph(Graph.of(operator, tensors, ()), config)
        counters = run(Job(config, compiled.segments + compiled.bind(tensors), compiled.program_address, [])).counters
        expected = predict(config, compiled.program)
        assert {name: counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        assert abs(expected["cycles"] - counters["cycles"]) <= 0.02 * counters["cycles"]
        outputs = np.prod(shape)
        if outputs > 1000:
            bound = max(outputs / config.post.lanes, 2 * outputs / config.beat_bytes)
            assert counters["cycles"] <= 1.15 * bound + 300
