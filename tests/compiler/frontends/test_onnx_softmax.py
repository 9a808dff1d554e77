"""Softmax in ONNX networks against onnxruntime, and where its rows stand in memory."""

import numpy as np
import pytest
from onnx_models import MICROSOFT, check, draw, load, make_model, qdq_reference, quantisation, reference, stage
from random_workloads import configuration, interpret

import pearray as pe
from pearray.compiler.compile import compile_graph


@pytest.mark.parametrize(("shape", "attributes"), [
    ((5, 7), {"opset": 13}), ((2, 3, 6), {"opset": 13, "axis": 1}), ((2, 3, 4, 5), {"opset": 13, "axis": 1}),
    ((4, 3, 6), {"opset": 12}), ((4, 3, 6), {"opset": 11, "axis": -1}), ((4, 3, 6), {"opset": 12, "axis": 0}),
    ((2, 3, 4, 5), {"opset": 12, "axis": 1}),
])
def test_softmax(rng, tmp_path, shape, attributes):
    """Along an axis, or before operator set 13 along all from it on; scales and zero points of any kind."""
    for dtype in (np.int8, np.uint8):
        x = draw(rng, shape, dtype)
        constants = quantisation(rng, "x", dtype) | quantisation(rng, "y", dtype)
        constants["y_scale"] = np.float32(1 / rng.integers(2, 400))
        model = make_model([(f"{MICROSOFT}:QLinearSoftmax", ["x", "x_scale", "x_zero", "y_scale", "y_zero"], ["y"],
                             attributes)], {"x": x}, ["y"], constants)
        assert check(model, {"x": x}, tmp_path)


def test_softmax_of_four_dimensions(rng, tmp_path):
    """Rows along the last axis stand side by side though an image's do not, where softmax alone reads them."""
    config = configuration(pairs=1, row_softmax=1, float_softmax=1)
    x = draw(rng, (2, 3, 4, 5), np.int8)
    constants = quantisation(rng, "x", np.int8) | {"y_scale": np.float32(1 / 200), "y_zero": np.int8(-100)}
    node = (f"{MICROSOFT}:QLinearSoftmax", ["x", "x_scale", "x_zero", "y_scale", "y_zero"], ["y"], {"opset": 13})
    graph = load(make_model([node], {"x": x}, ["y"], constants), tmp_path).graph()
    interpret(graph, {"x": x}, config)
    # Both axes in one network: the input is an image.
    nodes = [node, (node[0], node[1], ["z"], {"opset": 13, "axis": 1})]
    graph = load(make_model(nodes, {"x": x}, ["y", "z"], constants), tmp_path).graph()
    with pytest.raises(pe.PearrayError, match="axis of Softmax must be what stands side by side in memory"):
        compile_graph(graph, config)


def test_softmax_in_qdq_form(rng, tmp_path):
    """The runtime fuses a float softmax between quantised tensors of one type into QLinearSoftmax."""
    x = rng.uniform(-4, 4, (9, 20)).astype(np.float32)
    constants = quantisation(rng, "x", np.int8, 0.03, 0.04) | {"y_scale": np.float32(1 / 256), "y_zero": np.int8(-128)}
    model = make_model([*stage("x"), ("Softmax", ["x_d"], ["y"], {}), *stage("y")], {"x": x}, ["y_d"], constants)
    got = load(model, tmp_path).graph().golden({"x": x})["y_d"]
    np.testing.assert_array_equal(got, qdq_reference(model, {"x": x}))
    mixed = constants | {"y_zero": np.uint8(0)}
    model = make_model([*stage("x"), ("Softmax", ["x_d"], ["y"], {}), *stage("y")], {"x": x}, ["y_d"], mixed)
    with pytest.raises(pe.PearrayError, match="Y_zero_point must be int8, as X is, not uint8"):
        load(model, tmp_path).graph()


@pytest.mark.parametrize("behind", [
    [("Flatten", ["p"], ["f"], {}), ("QuantizeLinear", ["f", "y_scale", "y_zero"], ["y"], {})],
    [("QuantizeLinear", ["p", "x_scale", "x_zero"], ["z"], {}),
     ("QuantizeLinear", ["p", "y_scale", "y_zero"], ["y"], {})],
    [("Sigmoid", ["p"], ["unread"], {}), ("QuantizeLinear", ["p", "y_scale", "y_zero"], ["y"], {})],
    [("Transpose", ["p"], ["f"], {}), ("QuantizeLinear", ["f", "y_scale", "y_zero"], ["y"], {})],
    [("QuantizeLinear", ["p", "y_scale", "y_zero"], ["y"], {}),
     ("QuantizeLinear", ["p", "y_scale", "y_zero"], ["z"], {})],
    [("QuantizeLinear", ["p", "y_scale", "y_zero"], ["unread"], {}),
     ("QuantizeLinear", ["p", "y_scale", "y_zero"], ["y"], {})],
])
def test_softmax_that_is_not_fused(rng, tmp_path, behind):
    """Real numbers that a QuantizeLinear stores are not what QLinearSoftmax makes: a step off, if it were taken."""
    x = draw(rng, (9, 20), np.uint8)
    constants = {"x_scale": np.float32(0.05), "x_zero": np.uint8(100), "y_scale": np.float32(0.0265),
                 "y_zero": np.uint8(0)}
    outputs = ["y", "z"] if any("z" in node[2] for node in behind) else ["y"]
    model = make_model([("DequantizeLinear", ["x", "x_scale", "x_zero"], ["d"], {}), ("Softmax", ["d"], ["p"], {}),
                        *behind], {"x": x}, outputs, constants)
    expected, stored = qdq_reference(model, {"x": x}), reference(model, {"x": x}, ["y"])["y"]
    if np.array_equal(expected, stored):
        with pytest.raises(pe.PearrayError, match="onnxruntime computes Softmax with real numbers"):
            load(model, tmp_path).graph()
    else:
        np.testing.assert_array_equal(load(model, tmp_path).graph().golden({"x": x})["y"], expected)


def test_limits_behind_softmax(rng, tmp_path):
    """Relu that changes nothing is left out; of another the message names what the file holds."""
    x = draw(rng, (9, 20), np.int8)
    for zero, is_taken in ((-128, True), (0, False)):
        constants = {"x_scale": np.float32(0.05), "x_zero": np.int8(10), "y_scale": np.float32(0.004),
                     "y_zero": np.int8(zero)}
        model = make_model([("DequantizeLinear", ["x", "x_scale", "x_zero"], ["d"], {}), ("Softmax", ["d"], ["p"], {}),
                            ("Relu", ["p"], ["f"], {}), ("QuantizeLinear", ["f", "y_scale", "y_zero"], ["y"], {})],
                           {"x": x}, ["y"], constants)
        if is_taken:
            got = load(model, tmp_path).graph().golden({"x": x})["y"]
            np.testing.assert_array_equal(got, qdq_reference(model, {"x": x}))
        else:
            with pytest.raises(pe.PearrayError, match="no Relu or Clip may follow Softmax directly"):
                load(model, tmp_path).graph()
