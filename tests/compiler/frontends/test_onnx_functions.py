"""Functions of one tensor in ONNX networks, the forms that transformers have, against onnxruntime."""

import re

import numpy as np
import pytest
from onnx_models import MICROSOFT, load, make_model, qdq_reference, quantisation, stage

import pearray as pe


def model_of(rng, node, inputs, attributes, x, bias=None):
    """Model of a function between two quantised tensors."""
    constants = quantisation(rng, "x", np.int8, 0.03, 0.04) | quantisation(rng, "y", np.int8, 0.01, 0.05)
    constants |= {} if bias is None else {"bias": bias}
    return make_model([*stage("x"), (node, inputs, ["y"], attributes), *stage("y")], {"x": x}, ["y_d"], constants,
                      opset=20)


@pytest.mark.parametrize(("node", "attributes"), [
    ("Gelu", {"approximate": "none"}), ("Gelu", {"approximate": "tanh"}), (f"{MICROSOFT}:Gelu", {}),
    (f"{MICROSOFT}:FastGelu", {}),
])
def test_forms_of_gelu(rng, tmp_path, node, attributes):
    """If it failed, one form would be taken for another, which differ by a step or more."""
    for _ in range(5):
        x = rng.uniform(-4, 4, (1, 5, 7)).astype(np.float32)
        model = model_of(rng, node, ["x_d"], attributes, x)
        graph = load(model, tmp_path).graph()
        assert [item.operator.kind for item in graph.nodes] == ["Quantize", "Lookup", "Dequantize"]
        np.testing.assert_array_equal(graph.golden({"x": x})["y_d"], qdq_reference(model, {"x": x}))


@pytest.mark.parametrize("node", ["BiasGelu", "FastGelu"])
@pytest.mark.parametrize("shape", [(5, 7), (1, 4, 7)])
def test_biases_make_a_table_for_each_channel(rng, tmp_path, node, shape):
    """A bias differs along the last axis, whatever the number of dimensions."""
    x, bias = rng.uniform(-4, 4, shape).astype(np.float32), rng.normal(size=7).astype(np.float32)
    model = model_of(rng, f"{MICROSOFT}:{node}", ["x_d", "bias"], {}, x, bias)
    np.testing.assert_array_equal(load(model, tmp_path).graph().golden({"x": x})["y_d"],
                                  qdq_reference(model, {"x": x}))


def test_stored_bias(rng, tmp_path):
    """A bias that is dequantised first has the scale and the zero point of its own."""
    x = rng.uniform(-4, 4, (3, 6)).astype(np.float32)
    constants = {key: value for name in "xyb" for key, value in quantisation(rng, name, np.int8, 0.03, 0.04).items()}
    constants["b_q"] = rng.integers(-128, 128, 6).astype(np.int8)
    nodes = [*stage("x"), stage("b")[1], (f"{MICROSOFT}:BiasGelu", ["x_d", "b_d"], ["y"], {}), *stage("y")]
    model = make_model(nodes, {"x": x}, ["y_d"], constants)
    np.testing.assert_array_equal(load(model, tmp_path).graph().golden({"x": x})["y_d"], qdq_reference(model, {"x": x}))


@pytest.mark.parametrize(("node", "inputs", "attributes", "message"), [
    ("Gelu", ["x_d"], {"approximate": "sigmoid"}, "(Gelu): onnxruntime, which computes the table, refuses it: "),
    (f"{MICROSOFT}:BiasGelu", ["x_d", "bias"], {},
     "(com.microsoft.BiasGelu): constants of shapes (6,) must broadcast to (2, 7)"),
    (f"{MICROSOFT}:FastGelu", ["x_d"], {"what": 1},
     "(com.microsoft.FastGelu): onnxruntime, which computes the table, refuses it: "),
])
def test_mistakes_name_the_node(rng, tmp_path, monkeypatch, node, inputs, attributes, message):
    """An attribute that is passed over would be another function."""
    monkeypatch.setattr("onnx.checker.check_model", lambda model: None)
    model = model_of(rng, node, inputs, attributes, np.zeros((2, 7), np.float32), np.zeros(6, np.float32))
    with pytest.raises(pe.PearrayError, match=re.escape(message)):
        load(model, tmp_path).graph()
