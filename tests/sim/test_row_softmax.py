"""Softmax of rows on the RTL, against LiteRT's reference kernel and onnxruntime, and its time."""

from dataclasses import replace
from itertools import product

import kinds
import numpy as np
import pytest
from litert_node import run_node as litert
from onnx_node import MICROSOFT, run_node
from random_workloads import configuration, interpret, operands
from slow import engines

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Job, run

#: Of 6 x 4 PEs with two lanes, and every function of its kind.
SMALL = kinds.SMALL["moves"]


def draw(rng, shape=None, axis=-1, rounding="tflite"):
    """Draw a softmax and its tensor: rows of any kind, of any length that the small accelerator holds."""
    kind = (np.int8, np.uint8)[rng.integers(2)]
    low = int(np.iinfo(kind).min)
    shape = shape or (int(rng.integers(1, 40)), int(rng.choice([1, 2, 4, 7, 16, 33, 100])))
    spread = int(rng.choice([1, 4, 30, 256]))
    x = (low + rng.integers(0, 257 - spread) + rng.integers(0, spread, shape)).astype(kind)
    y = {"y_scale": 1 / 256, "y_zero_point": low}
    if rounding == "onnx":
        y = {"y_scale": float(np.float32(1 / rng.choice([2, 99.5, 128, 255, 256, 511]))),
             "y_zero_point": operands(rng, (), kind)[()]}
    operator = pe.Softmax(axis, X_scale=float(2.0 ** rng.uniform(-8, 1)), x_zero_point=int(operands(rng, (), kind)),
                          rounding=rounding, **y)
    return operator, {"x": x}


def runtime(operator, x):
    """Result of LiteRT's SOFTMAX, or onnxruntime's QLinearSoftmax, of a tensor whose rows are its last axis."""
    if operator.rounding == "tflite":
        return litert("SOFTMAX", x, x_scale=operator.X_scale, x_zero_point=operator.x_zero_point, y_shape=x.shape,
                      y_scale=1 / 256, y_zero_point=operator.y_zero_point)
    kind = x.dtype.type
    return run_node("QLinearSoftmax", [x, np.float32(operator.X_scale), kind(operator.x_zero_point),
                                       np.float32(operator.y_scale), operator.y_zero_point],
                    output=x.dtype, domain=MICROSOFT, axis=-1, opset=13)


@pytest.mark.parametrize(("rounding", "package"), [("tflite", "ai_edge_litert"), ("onnx", "onnxruntime")])
def test_any_rows(rng, rounding, package):
    """A byte, term, total or quotient of another row, or another order of sums or rounding, gives other shares."""
    pytest.importorskip(package)
    for _ in range(24):
        operator, tensors = draw(rng, rounding=rounding)
        expected = runtime(operator, tensors["x"])
        np.testing.assert_array_equal(pe.golden_run(operator, tensors)["y"], expected)
        np.testing.assert_array_equal(pe.run(operator, tensors, on=SMALL).outputs["y"], expected)


@pytest.mark.parametrize("engine", engines("amaranth"))
def test_engines(rng, engine):
    """Channels of images are rows where they stand in memory; each engine computes them."""
    for rounding in ("tflite", "onnx"):
        operator, tensors = draw(rng, (2, 9, 3, 2), 1, rounding)
        made = pe.run(operator, tensors, on=SMALL, engine=engine).outputs["y"]
        np.testing.assert_array_equal(made, pe.golden_run(operator, tensors)["y"])


def test_between_other_layers(rng):
    """A softmax must wait for what it reads, layers behind it for what it makes, and none may overwrite the other's."""
    requant = pe.Requant.onnx(0.05, 0, 0.05, 0, 0.3, np.int8(3))
    softmax, _ = draw(rng, (1, 1))
    softmax = replace(softmax, y_zero_point=-128, x_zero_point=3)
    tensors = {"x": Tensor("x", (12, 20), np.dtype(np.int8))}
    constants = {"w": operands(rng, (20, 33)), "v": operands(rng, (33, 5))}
    nodes = [Node("scores", pe.Gemm(requant=requant), {"a": "x", "b": "w"}, {"y": "s"}),
             Node("softmax", softmax, {"x": "s"}, {"y": "p"}),
             Node("weighed", pe.Gemm(), {"a": "p", "b": "v"}, {"y": "y"})]
    graph = Graph(nodes, tensors, constants, ["x"], ["y"])
    inputs = {"x": operands(rng, (12, 20))}
    compiled = interpret(graph, inputs, SMALL, keep="all")
    regions = [(placed.address, placed.nbytes) for placed in compiled.outputs.values()]
    job = Job(SMALL, compiled.segments + compiled.bind(inputs), compiled.program_address, regions)
    contents = dict(zip(regions, run(job).regions, strict=True))
    for name, expected in graph.golden(inputs).items():
        made = compiled.extract(name, lambda address, length: contents[address, length])
        np.testing.assert_array_equal(made, expected)


def test_many_on_the_interpreter(rng):
    """Programs for arrays of many shapes are interpreted, which finds races, and rows that do not fit their blocks."""
    for _ in range(24):
        lanes = int(rng.choice([1, 2, 4]))
        rows, cols = int(rng.integers(lanes, 12)), lanes * int(rng.integers(1, 5))
        config = configuration(rows, cols, lanes=lanes, depth=64, activation=2048, output=2048, pairs=1,
                               averages=int(rng.integers(2)), row_softmax=1, float_softmax=1)
        operator, tensors = draw(rng, rounding=str(rng.choice(["tflite", "onnx"])))
        interpret(Graph.of(operator, tensors), tensors, config)


def test_time(rng):
    """Accesses that are not predicted, or cycles, mislead who compares accelerators."""
    for shape, rounding in product(((40, 33), (64, 2), (3, 100)), ("tflite", "onnx")):
        operator, tensors = draw(rng, shape, rounding=rounding)
        compiled = compile_graph(Graph.of(operator, tensors), SMALL)
        counters = run(Job(SMALL, compiled.segments + compiled.bind(tensors), compiled.program_address, [])).counters
        expected = predict(SMALL, compiled.program)
        assert {name: counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        assert abs(expected["cycles"] - counters["cycles"]) <= 0.02 * counters["cycles"]


@pytest.mark.parametrize("rounding", ["tflite", "onnx"])
def test_throughput(rng, rounding):
    """Long rows take little more than a cycle a lane and element for each pass; blocks hide all but the first load."""
    config = configuration(pairs=1, row_softmax=1, float_softmax=1)
    operator, tensors = draw(rng, (64, 128), rounding=rounding)
    cycles = predict(config, compile_graph(Graph.of(operator, tensors), config).program)["cycles"]
    assert cycles < 1.08 * 3 * tensors["x"].size / config.post.lanes


@pytest.mark.parametrize(("operator", "shape", "overrides", "message"), [
    ({}, (3, 5), {"post.row_softmax": 0, "post.float_softmax": 0},
     "^Softmax with rounding 'tflite' needs an accelerator with post.row_softmax = 1 and operands of 8 bits$"),
    ({"rounding": "onnx"}, (3, 5), {"post.float_softmax": 0},
     "^Softmax with rounding 'onnx' needs an accelerator with post.float_softmax = 1 and operands of 8 bits$"),
    ({"axis": 0}, (3, 5), {}, "^axis of Softmax must be what stands side by side in memory, the last one, or that of "),
    ({}, (1, 300), {}, "^Softmax: scratchpads.output_bytes must be at least 608 to hold rows of 300 "),
    ({"rounding": "onnx", "y_scale": 1 / 512}, (3, 5), {},
     "^y_scale must be greater than 1 / 512 on this accelerator, not 0.001953125$"),
])
def test_what_is_refused(operator, shape, overrides, message):
    """A user must learn what an accelerator cannot do, and what would help."""
    config = pe.load_config(SMALL, overrides).hardware
    fields = {"X_scale": 0.1, "y_scale": 1 / 256, "y_zero_point": -128, "rounding": "tflite"} | operator
    with pytest.raises(pe.PearrayError, match=message):
        pe.run(pe.Softmax(**fields), {"x": np.zeros(shape, np.int8)}, on=config)
