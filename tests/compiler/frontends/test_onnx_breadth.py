"""Less common operators of ONNX networks, against onnxruntime on every tensor; what is not covered is named."""

import re

import numpy as np
import onnx
import pytest
from onnx_models import MICROSOFT, check, draw, load, make_model, qdq_reference, quantisation, reference, stage
from random_workloads import interpret

import pearray as pe


def powers(name, rng, dtype=np.int8):
    """Scale that is a power of two, so that the runtime's float sums are exact, and a zero point."""
    return {f"{name}_scale": np.float32(2.0 ** -int(rng.integers(3, 6))),
            f"{name}_zero": np.array(rng.integers(-10, 10), dtype)}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("activation", [None, "Relu"])
def test_transposed_convolution_in_qdq_form(rng, tmp_path, groups, activation):
    """Without it a decoder's upsampling could not be imported; the runtime has it in float only."""
    for _ in range(4):
        x = rng.uniform(-3, 3, (2, 4, 5, 4)).astype(np.float32)
        per_group = 3
        constants = powers("x", rng) | powers("y", rng) | {
            "w": draw(rng, (4, per_group, 3, 2), np.int8), "w_zero": np.zeros(per_group, np.int8),
            "w_scale": (2.0 ** -rng.integers(6, 9, per_group)).astype(np.float32),
            "b": rng.integers(-500, 500, per_group * groups).astype(np.int32)}
        if groups > 1:
            constants["w_scale"][:] = constants["w_scale"][0]
        constants["b_scale"] = np.tile(constants["x_scale"] * constants["w_scale"], groups)
        constants["b_zero"] = np.zeros(per_group * groups, np.int32)
        attributes = {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0], "dilations": [2, 1],
                      "group": groups}
        nodes = [*stage("x"), ("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"], {"axis": 1}),
                 ("DequantizeLinear", ["b", "b_scale", "b_zero"], ["b_d"], {"axis": 0}),
                 ("ConvTranspose", ["x_d", "w_d", "b_d"], ["c" if activation else "y"], attributes),
                 *([(activation, ["c"], ["y"], {})] if activation else []), *stage("y")]
        model = make_model(nodes, {"x": x}, ["y_d"], constants)
        graph = load(model, tmp_path).graph()
        assert "ConvTranspose2d" in [node.operator.kind for node in graph.nodes]
        np.testing.assert_array_equal(graph.golden({"x": x})["y_d"], qdq_reference(model, {"x": x}))


@pytest.mark.parametrize("kind", ["Gelu", "Clip"])
def test_tables_in_qdq_form(rng, tmp_path, kind):
    """A function of a stored tensor is a table, whichever function it is."""
    for _ in range(5):
        x = rng.uniform(-4, 4, (1, 3, 6, 7)).astype(np.float32)
        constants = quantisation(rng, "x", np.int8, 0.03, 0.04) | quantisation(rng, "y", np.int8, 0.01, 0.05)
        constants |= {"low": np.float32(-0.7), "high": np.float32(1.9)}
        sources = ["x_d", "low", "high"] if kind == "Clip" else ["x_d"]
        nodes = [*stage("x"), (kind, sources, ["y"], {}), *stage("y")]
        model = make_model(nodes, {"x": x}, ["y_d"], constants, opset=20)
        got = load(model, tmp_path).graph().golden({"x": x})["y_d"]
        np.testing.assert_array_equal(got, qdq_reference(model, {"x": x}))


def test_weights_of_four_bits(rng, tmp_path):
    """Weights of 4 bits are the same integers in bytes."""
    for _ in range(4):
        x = rng.uniform(-3, 3, (1, 3, 6, 5)).astype(np.float32)
        constants = powers("x", rng) | powers("y", rng) | {
            "w_scale": (2.0 ** -rng.integers(3, 5, 4)).astype(np.float32)}
        nodes = [*stage("x"), ("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"], {"axis": 0}),
                 ("Conv", ["x_d", "w_d"], ["y"], {"pads": [1, 1, 1, 1]}), *stage("y")]
        model = make_model(nodes, {"x": x}, ["y_d"], constants, opset=21)
        model.ir_version = 10
        for name, values in (("w", rng.integers(-8, 8, (4, 3, 3, 3))), ("w_zero", np.zeros(4, int))):
            model.graph.initializer.append(onnx.helper.make_tensor(
                name, onnx.TensorProto.INT4, values.shape, values.reshape(-1).tolist()))
        got = load(model, tmp_path).graph().golden({"x": x})["y_d"]
        np.testing.assert_array_equal(got, qdq_reference(model, {"x": x}))


@pytest.mark.parametrize("attributes", [
    {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": 1, "count_include_pad": 1},
])
def test_average_pooling_that_hangs_over_the_end(rng, tmp_path, attributes):
    """A window that is cut off by the end has its own count."""
    for _ in range(10):
        x = draw(rng, (2, 3, 6, 8), np.int8)
        constants = quantisation(rng, "x", np.int8) | quantisation(rng, "y", np.int8)
        model = make_model([(f"{MICROSOFT}:QLinearAveragePool", ["x", "x_scale", "x_zero", "y_scale", "y_zero"], ["y"],
                             attributes)], {"x": x}, ["y"], constants)
        assert check(model, {"x": x}, tmp_path) == 1


def test_clip_of_stored_values(rng, tmp_path):
    """ONNX clips int8 tensors, too; the bounds are then stored values."""
    x = draw(rng, (2, 3, 4), np.int8)
    model = make_model([("Clip", ["x", "low", "high"], ["y"], {}), ("Clip", ["y", "", "top"], ["z"], {})], {"x": x},
                       ["z"], {"low": np.int8(-50), "high": np.int8(70), "top": np.int8(20)})
    assert check(model, {"x": x}, tmp_path) == 2


IMAGE = np.zeros((1, 2, 4, 4), np.float32)
WEIGHTS = [*stage("x"), ("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"], {"axis": 1})]


@pytest.mark.parametrize(("nodes", "message"), [
    ([*WEIGHTS, ("Conv", ["x_d", "w_d"], ["y"], {}), *stage("y")],
     "node 'Conv of y' (Conv): axis of the scales of 'w_d' must be 0, not 1"),
    ([*WEIGHTS, ("Conv", ["x_d", "w_d"], ["c"], {}), ("Sigmoid", ["c"], ["y"], {}), *stage("y")], None),
    ([*stage("x"), ("Einsum", ["x_d"], ["y"], {"equation": "nchw->nchw"}), *stage("y")],
     "node 'Einsum of y': operator Einsum is not supported; supported: Abs, "),
    ([*stage("x"), ("Relu", ["x_d"], ["y"], {"slope": 1.0}), *stage("y")], None),
])
def test_what_is_not_covered_is_named(tmp_path, nodes, message):
    """A node or attribute that is dropped in silence would be a wrong network."""
    constants = {f"{name}_{what}": value for name in "xy" for what, value in
                 (("scale", np.float32(0.1)), ("zero", np.int8(0)))}
    constants |= {"w": np.zeros((2, 2, 1, 1), np.int8), "w_scale": np.full(2, 0.1, np.float32),
                  "w_zero": np.zeros(2, np.int8)}
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message or '')}") as caught:
        load(make_model(nodes, {"x": IMAGE}, ["y_d"], constants), tmp_path).graph()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 3, 5), (2, 6, 1), (3, 4), (1, 3, 2, 5)])
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul"])
def test_constants_of_each_channel(rng, tmp_path, shape, kind):
    """Tables are those of columns: where channels stand elsewhere, an element would get another channel's constant."""
    x, fixed = draw(rng, shape, np.int8), draw(rng, (1, shape[1], *(1,) * (len(shape) - 2)), np.int8)
    constants = powers("x", rng) | powers("c", rng) | powers("y", rng) | {"c": fixed}
    nodes = [("DequantizeLinear", ["x", "x_scale", "x_zero"], ["x_d"], {}),
             ("DequantizeLinear", ["c", "c_scale", "c_zero"], ["c_d"], {}),
             (kind, ["x_d", "c_d"], ["f"], {}), ("QuantizeLinear", ["f", "y_scale", "y_zero"], ["y"], {})]
    model = make_model(nodes, {"x": x}, ["y"], constants)
    graph = load(model, tmp_path).graph()
    np.testing.assert_array_equal(graph.golden({"x": x})["y"], qdq_reference(model, {"x": x}))
    interpret(graph, {"x": x}, pe.load_config("systolic-8x8").hardware)


def test_names_like_those_of_the_importer(rng, tmp_path):
    """A file may call its own tensors as the importer would call those that it adds."""
    x, z = draw(rng, (1, 3, 4, 4), np.int8), draw(rng, (1, 3, 4, 4), np.int8)
    constants = {"s": np.float32(0.05), "z": np.int8(3)}
    nodes = [("DequantizeLinear", ["x", "s", "z"], ["x_d"], {}), ("MaxPool", ["x_d"], ["p"], {"kernel_shape": [1, 1]}),
             ("QuantizeLinear", ["p", "s", "z"], ["y"], {}),
             ("DequantizeLinear", ["p:stored", "s", "z"], ["z_d"], {}), ("Add", ["x_d", "z_d"], ["f"], {}),
             ("Relu", ["f"], ["g"], {}), ("QuantizeLinear", ["g", "s", "z"], ["v"], {}),
             ("Sub", ["x_d", "z_d"], ["h"], {}), ("QuantizeLinear", ["h", "s", "z"], ["v:whole"], {})]
    inputs = {"x": x, "p:stored": z}
    model = make_model(nodes, inputs, ["y", "v", "v:whole"], constants)
    assert check(model, inputs, tmp_path) >= 3


def test_negative_padding_is_refused(rng, tmp_path):
    """Runtimes make different things of SAME padding that would be negative; one was computed without a word."""
    x = draw(rng, (1, 1, 1, 9), np.int8)
    nodes = [("DequantizeLinear", ["x", "s", "z"], ["x_d"], {}),
             ("AveragePool", ["x_d"], ["f"], {"kernel_shape": [1, 1], "strides": [1, 3], "auto_pad": "SAME_UPPER"}),
             ("QuantizeLinear", ["f", "s", "z"], ["y"], {})]
    model = make_model(nodes, {"x": x}, ["y"], {"s": np.float32(1), "z": np.int8(0)})
    with pytest.raises(pe.PearrayError, match="auto_pad must not be SAME_UPPER where windows of"):
        load(model, tmp_path).graph()


@pytest.mark.parametrize(("kind", "attributes"), [("Dropout", {}), ("MaxPool", {"kernel_shape": [2, 2]})])
def test_unread_outputs(rng, tmp_path, kind, attributes):
    """Exporters name a mask, or indices, that nobody reads; a network is not refused for these."""
    x = draw(rng, (1, 3, 5, 6), np.uint8)
    constants = quantisation(rng, "x", np.uint8)
    model = make_model([("DequantizeLinear", ["x", "x_scale", "x_zero"], ["d"], {}),
                        (kind, ["d"], ["f", "unread"], attributes),
                        ("QuantizeLinear", ["f", "x_scale", "x_zero"], ["y"], {})], {"x": x}, ["y"], constants)
    got = load(model, tmp_path).graph().golden({"x": x})["y"]
    np.testing.assert_array_equal(got, reference(model, {"x": x}, ["y"])["y"])
