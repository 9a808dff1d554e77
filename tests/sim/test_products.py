"""Differences and products of two tensors on the RTL, against onnxruntime and LiteRT, and their time."""

from pathlib import Path

import numpy as np
import pytest
from litert_node import run_node as litert
from onnx_node import MICROSOFT, run_node
from random_workloads import binary, operands
from slow import engines

import pearray as pe
from pearray.compiler.compile import compile_graph
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.systolic.cost import EXACT, predict
from pearray.sim.engine import Job, run

SMALL = pe.load_config(Path(__file__).parents[1] / "cocotb" / "configuration.toml").hardware
OPERATORS = {pe.Add: "ADD", pe.Sub: "SUB", pe.Mul: "MUL"}


def draw(rng, kind, rounding, dtype, shapes):
    """Draw an operator and its tensors."""
    scales = rng.uniform((0.01, 0.01, 0.08), (0.1, 0.1, 0.2)).astype(np.float32)
    zeros = [operands(rng, (), dtype)[()] for _ in range(3)]
    operator = kind(scales[0], zeros[0], scales[1], zeros[1], scales[2], zeros[2], rounding)
    return operator, {name: operands(rng, shape, dtype) for name, shape in zip("ab", shapes, strict=True)}


def stored(operator):
    """Scale and zero point of a, b and y."""
    return [(np.float32(getattr(operator, f"{name}_scale")), getattr(operator, f"{name}_zero_point")) for name in "ABC"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_products_of_onnxruntime(rng, dtype):
    """A byte, a zero point or an addend that is wrong shows in some output; channels may have a factor each."""
    for shapes in (((2, 6, 3, 5), (2, 6, 3, 5)), ((2, 6, 3, 5), (2, 6, 1, 1)), ((3, 1, 4, 4), (1, 5, 1, 1))):
        operator, tensors = draw(rng, pe.Mul, "onnx", dtype, shapes)
        (a_scale, a_zero), (b_scale, b_zero), (y_scale, y_zero) = stored(operator)
        expected = run_node("QLinearMul", [tensors["a"], a_scale, a_zero, tensors["b"], b_scale, b_zero, y_scale,
                                           y_zero], output=dtype, domain=MICROSOFT)
        np.testing.assert_array_equal(pe.run(operator, tensors, on=SMALL, effort=0).outputs["y"], expected)


@pytest.mark.parametrize("kind", OPERATORS)
def test_rules_of_litert(rng, kind):
    """Integer terms in tables, and a rounding of theirs: LiteRT's outputs to the last bit."""
    pytest.importorskip("ai_edge_litert")
    for dtype, shapes in ((np.int8, ((1, 1, 9, 8), (1, 1, 9, 8))), (np.uint8, ((1, 1, 7, 8), (1, 1, 1, 8)))):
        operator, tensors = draw(rng, kind, "tflite", dtype, shapes)
        (a_scale, a_zero), (b_scale, b_zero), (y_scale, y_zero) = stored(operator)
        expected = litert(OPERATORS[kind], tensors["a"], tensors["b"], x_scale=a_scale, x_zero_point=int(a_zero),
                          w_scale=b_scale, w_zero_point=int(b_zero), y_scale=y_scale, y_zero_point=int(y_zero),
                          y_shape=shapes[0])
        np.testing.assert_array_equal(pe.run(operator, tensors, on=SMALL, effort=0).outputs["y"], expected)


@pytest.mark.parametrize("engine", engines("amaranth"))
def test_engines(rng, engine):
    """Each engine multiplies and subtracts, of mixed types too."""
    a, b, y = (rng.choice([np.int8, np.uint8]) for _ in range(3))
    zeros = [operands(rng, (), kind)[()] for kind in (a, b, y)]
    for kind in (pe.Mul, pe.Sub):
        operator = kind(0.0513, int(zeros[0]), 0.0217, int(zeros[1]), 0.0391, zeros[2])
        tensors = {"a": operands(rng, (3, 7), a), "b": operands(rng, (3, 7), b)}
        made = pe.run(operator, tensors, on=SMALL, engine=engine, effort=0).outputs["y"]
        np.testing.assert_array_equal(made, pe.golden_run(operator, tensors)["y"])


def test_drawn_operators(rng):
    """Whatever broadcasts reads other elements than stand beside the output, or is written out first."""
    for _ in range(25):
        operator, tensors, _ = binary(rng, 8)
        if operator.rounding != "tflite" and len({tensor.dtype for tensor in tensors.values()}) > 1:
            # Of these a few are refused.
            continue
        made = pe.run(operator, tensors, on=SMALL, effort=0).outputs["y"]
        np.testing.assert_array_equal(made, pe.golden_run(operator, tensors)["y"], str(operator))


def test_excitation(rng):
    """A squeeze and an excitation: factors of channels that the accelerator itself has computed, among layers."""
    channels = 6
    x = operands(rng, (2, channels, 5, 4))
    constants = {name: operands(rng, (channels, channels, 1, 1)) for name in ("v", "w")}
    layer = pe.Conv2d(requant=pe.Requant.onnx(1.0, 0, 0.003, 0, 1.0, np.int8(3)), activation="sigmoid")
    graph = Graph(
        [Node("pool", pe.AvgPool2d(x_scale=0.1, x_zero_point=3, y_scale=0.05, y_zero_point=np.int8(-7)), {"x": "x"},
              {"y": "t0"}),
         Node("squeeze", layer, {"x": "t0", "w": "v"}, {"y": "t1"}),
         Node("scaled", pe.Mul(0.1, 3, 0.0123, -5, 0.0711, np.int8(9)), {"a": "x", "b": "t1"}, {"y": "t2"}),
         Node("other", pe.Mul(0.1, -3, 0.0145, 8, 0.0677, np.int8(11)), {"a": "t2", "b": "x"}, {"y": "t3"}),
         Node("last", layer, {"x": "t3", "w": "w"}, {"y": "t4"})],
        {"x": Tensor("x", x.shape, x.dtype)}, constants, ["x"], ["t4"])
    outputs, expected = pe.run(graph, {"x": x}, on=SMALL, keep="all").outputs, graph.golden({"x": x})
    for name in ("t0", "t1", "t2", "t3", "t4"):
        np.testing.assert_array_equal(outputs[name], expected[name], name)


def test_time(rng):
    """Accesses that are not predicted, or cycles, mislead the mapper; a lane that waits is slower than promised."""
    for shape in ((1, 16, 9, 9), (2, 5, 3, 7)):
        operator, tensors = draw(rng, pe.Mul, "onnx", np.int8, (shape, shape))
        compiled = compile_graph(Graph.of(operator, tensors, ()), SMALL)
        counters = run(Job(SMALL, compiled.segments + compiled.bind(tensors), compiled.program_address, [])).counters
        expected = predict(SMALL, compiled.program)
        assert {name: counters[name] for name in EXACT} == {name: expected[name] for name in EXACT}
        assert abs(expected["cycles"] - counters["cycles"]) <= 0.02 * counters["cycles"]
