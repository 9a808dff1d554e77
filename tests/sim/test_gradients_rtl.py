"""Backward products on the RTL of both kinds of array, against PyTorch's autograd, with drawn shapes."""

import numpy as np
import pytest
from kinds import SMALL
from random_workloads import OPERATORS, briefly, operands

import pearray as pe
from pearray import PearrayError
from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.row_stationary.estimate import estimate
from pearray.golden.tensors import four_sides

pytest.importorskip("torch")

from autograd import conv2d_grad, linear_grad

#: All are built by other tests as well.
CONFIGURATIONS = {"systolic-8x8": "systolic-8x8", "systolic": SMALL["systolic"],
                  "row-stationary": SMALL["row-stationary-8"]}


@pytest.mark.parametrize("config", CONFIGURATIONS)
@pytest.mark.parametrize("name", ["linear_grad", "conv_grad"])
def test_rtl_equals_autograd(rng, name, config):
    """A tap, a phase of the stride, padding or a group that is walked differently shows as an element."""
    on = pe.load_config(CONFIGURATIONS[config])
    done = 0
    for _ in range(4):
        operator, tensors, _ = OPERATORS[name](rng, 8)
        if name == "linear_grad":
            expected = linear_grad(**tensors)
        else:
            expected = conv2d_grad(**tensors, padding=four_sides(operator.padding), stride=operator.stride,
                                   dilation=operator.dilation, groups=operator.groups)
        try:
            result = pe.run(operator, tensors, on=on, **briefly(on.hardware))
        except PearrayError as error:
            # Scratchpads of 1 KB hold no tile of some large filters.
            if "can't hold" not in str(error):
                raise
            continue
        for role, sums in zip(("dx", "dw", "db"), expected, strict=True):
            np.testing.assert_array_equal(result.outputs[role], sums.astype(np.int32), role)
        done += 1
    assert done


@pytest.mark.parametrize("config", CONFIGURATIONS)
def test_forward_and_backward_in_one_program(rng, config):
    """A LOAD of what the same program has made, that does not wait for its STORE, reads what was there before."""
    requant = pe.Requant.onnx(1.0, 0, 1.0, 0, 900.0, np.int8(0))
    layer, backward = pe.Conv2d(padding=1, stride=2, requant=requant), pe.Conv2dGrad(padding=1, stride=2)
    constants = {"w1": operands(rng, (7, 5, 3, 3)), "w2": operands(rng, (6, 7, 3, 3))}
    nodes = [Node("conv1", layer, {"x": "x", "w": "w1"}, {"y": "h"}),
             Node("conv2", layer, {"x": "h", "w": "w2"}, {"y": "dy"}),
             Node("grad2", backward, {"x": "h", "w": "w2", "dy": "dy"}, {"dx": "dh", "dw": "dw2", "db": "db2"}),
             Node("grad1", backward, {"x": "x", "w": "w1", "dy": "h"}, {"dw": "dw1"})]
    inputs = {"x": operands(rng, (2, 5, 11, 9))}
    outputs = ["h", "dy", "dh", "dw2", "db2", "dw1"]
    graph = Graph(nodes, {"x": Tensor("x", (2, 5, 11, 9), np.dtype(np.int8))}, constants, ["x"], outputs)
    made = pe.run(graph, inputs, on=CONFIGURATIONS[config]).outputs
    assert sorted(made) == sorted(outputs)
    window = {"padding": (1, 1, 1, 1), "stride": (2, 2)}
    backward_of = conv2d_grad(made["h"], constants["w2"], made["dy"], **window)
    expected = dict(zip(("dh", "dw2", "db2"), backward_of, strict=True))
    expected["dw1"] = conv2d_grad(inputs["x"], constants["w1"], made["h"], **window)[1]
    for name, sums in expected.items():
        np.testing.assert_array_equal(made[name], sums.astype(np.int32), name)
    np.testing.assert_array_equal(made["dy"], graph.golden(inputs)["dy"])


def test_sums_come_round():
    """Sums beyond 32 bits are modulo 2**32, as the golden model has them: neither cut off nor refused."""
    x, w = np.full((1, 1, 380, 380), -128, np.int8), np.ones((1, 1, 1, 1), np.int8)
    node = Node("grad", pe.Conv2dGrad(), {"x": "x", "w": "w", "dy": "x"}, {"dw": "dw"})
    graph = Graph([node], {"x": Tensor("x", x.shape, x.dtype)}, {"w": w}, ["x"], ["dw"])
    result = pe.run(graph, {"x": x}, on="systolic-8x8")
    assert result.outputs["dw"].item() == (380 * 380 << 14) - (1 << 32)


def test_fixed_point_arrays_refuse():
    """The row-stationary array of 16 bits cuts products to a window of bits, so that its sums would not be exact."""
    tensors = {role: np.ones((2, 2), np.int16) for role in ("x", "w", "dy")}
    with pytest.raises(PearrayError, match=r"^operator must be Conv2d, Linear or Gemm on a row-stationary array of 16 "
                                           r"bits, not LinearGrad$"):
        pe.run(pe.LinearGrad(), tensors, on="eyeriss")


@pytest.mark.parametrize(("operator", "shapes"), [
    (pe.LinearGrad(), {"x": (64, 96), "w": (80, 96), "dy": (64, 80)}),
    (pe.Conv2dGrad(padding=1), {"x": (1, 8, 10, 10), "w": (16, 8, 3, 3), "dy": (1, 16, 10, 10)}),
    (pe.Conv2dGrad(), {"x": (4, 3, 9, 9), "w": (8, 3, 2, 2), "dy": (4, 8, 8, 8)}),
    (pe.Conv2dGrad(padding=1, stride=2), {"x": (2, 6, 13, 11), "w": (10, 6, 3, 3), "dy": (2, 10, 7, 6)}),
])
def test_estimates_of_row_stationary_gradients(rng, operator, shapes):
    """Short bursts and the many LOADs of gathered words and taps would be taken for free, and be chosen."""
    tensors = {role: operands(rng, shape) for role, shape in shapes.items()}
    graph = Graph.of(operator, tensors)
    handle = pe.compile(graph, {role: tensors[role] for role in graph.inputs}, CONFIGURATIONS["row-stationary"])
    (layer,) = handle.compiled().layers
    estimated = sum(estimate(plan).cycles for plan in layer.notes["plans"])
    cycles = handle.run({role: tensors[role] for role in graph.inputs}).cycles
    assert 0.9 * cycles < estimated < 1.1 * cycles
