"""The most negative and the greatest value of everything, on RTL of both kinds of array and on the interpreter."""

import numpy as np
import pytest
from kinds import SMALL
from random_workloads import briefly, interpret

import pearray as pe
from pearray.compiler.graph.graph import Graph

LOW, HIGH = -(1 << 31), (1 << 31) - 1


def products(rng, bias, kind):
    """Matrix products and a convolution with biases, their sums requantised by all rules or not at all."""
    requants = [None, pe.Requant.onnx(1.0, 0, 2.0**-24, 0, 1.0, np.int8(0)), pe.Requant.tflite(1 << 30, -22),
                pe.Requant.tflite(1 << 30, -22, rounding="single")]
    values = np.array([bias, HIGH, LOW + 1, 0], kind)

    def small(*shape):
        return rng.integers(-128, 128, shape).astype(np.int8)

    for requant in requants:
        yield pe.Linear(requant=requant), {"x": small(3, 5), "w": small(4, 5), "b": values}, None
        yield pe.Conv2d(requant=requant), {"x": small(1, 2, 4, 4), "w": small(4, 2, 3, 3), "b": values}, None
        tensors = {"a": small(3, 5), "b": small(5, 4), "c": np.tile(values.astype(np.int32), (3, 1))}
        yield pe.Gemm(requant=requant), tensors, []


@pytest.mark.parametrize("name", ["systolic", "row-stationary-8"])
def test_biases(rng, name):
    """The most negative bias would be refused, or a sum beyond 32 bits not come round as the standard's sums do."""
    config = SMALL[name]
    for operator, tensors, constants in products(rng, LOW, np.int32):
        graph = Graph.of(operator, tensors, constants)
        inputs = {role: tensors[role] for role in graph.inputs}
        interpret(graph, inputs, config, **briefly(config))
        actual, expected = pe.run(operator, tensors, on=config, **briefly(config)), pe.golden_run(operator, tensors)
        np.testing.assert_array_equal(actual.outputs["y"], expected["y"])


@pytest.mark.parametrize("name", ["systolic", "row-stationary-8"])
@pytest.mark.parametrize("value", [LOW - 1, HIGH + 1])
def test_biases_of_more_bits(rng, name, value):
    """A bias that 32 bits can't hold would be another one."""
    config = SMALL[name]
    operator, tensors, _ = next(products(rng, value, np.int64))
    with pytest.raises(pe.PearrayError, match=rf"^Linear: b must have values in {LOW}\.\.{HIGH} .*, not {value}$"):
        pe.run(operator, tensors, on=config)


@pytest.mark.parametrize("name", ["systolic", "row-stationary-8"])
def test_operands_and_zero_points(name):
    """Operands, zero points and clamps at the ends of their ranges would leave a field or a sum of the hardware."""
    config = SMALL[name]
    biases = np.array([LOW, HIGH, 0, 1, -1], np.int32)
    for x_type, w_type in ((np.int8, np.uint8), (np.uint8, np.int8)):
        ends = [(np.iinfo(kind).min, np.iinfo(kind).max) for kind in (x_type, w_type)]
        for corner in range(16):
            x, w, x_zero, w_zero = (end[corner >> bit & 1] for bit, end in enumerate((*ends, *ends)))
            y_zero = x_type(ends[0][corner % 2])
            requant = pe.Requant.onnx(1.0, x_zero, 2.0**-22, w_zero, 1.0, y_zero, clamp=(int(y_zero), int(y_zero))
                                      if corner == 3 else None)
            tensors = {"x": np.full((1, 40, 3, 3), x, x_type), "w": np.full((5, 40, 3, 3), w, w_type), "b": biases}
            graph = Graph.of(pe.Conv2d(padding=1, requant=requant), tensors)
            interpret(graph, {"x": tensors["x"]}, config, **briefly(config))
            if corner % 5 == 0:
                actual = pe.run(graph, {"x": tensors["x"]}, on=config, **briefly(config)).outputs["y"]
                np.testing.assert_array_equal(actual, graph.golden({"x": tensors["x"]})["y"])
