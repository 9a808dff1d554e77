"""What is known of an ONNX network before a run: sizes, functions of constants, and what attention is made of."""

import numpy as np
import onnx
import pytest
from onnx_chain import dequantised, powers, stored
from onnx_models import MICROSOFT, draw, make_model
from onnx_whole import differences, reference

import pearray as pe


def _compared(model, inputs, folder):
    """Compare every tensor with onnxruntime; return the operators."""
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    graph = pe.load_onnx(path).graph_for(inputs)
    (tensors, _, wrong), _ = differences(graph, inputs, reference(path, inputs, [*graph.golden(inputs)]))
    assert tensors
    assert not wrong
    return [node.operator.kind for node in graph.nodes]


def test_dimensions_without_a_name_may_differ(rng, tmp_path):
    """Paddle calls every free dimension "?": a file with two of them would have to be given squares."""
    x = draw(rng, (1, 3, 4, 6), np.int8)
    model = make_model([dequantised("x"), ("Relu", ["x_d"], ["f"], {}), stored("f", "y")], {"x": x}, ["y"],
                       powers("x", rng, np.int8) | powers("y", rng, np.int8), 17)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "?"
    assert _compared(model, {"x": x}, tmp_path) == ["Lookup"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_functions_of_stored_constants_are_constants(rng, tmp_path, dtype):
    """Weights that a network negates and turns before it quantises them again are weights all the same."""
    x = draw(rng, (2, 3, 5, 4), dtype)
    constants = powers("x", rng, dtype) | powers("y", rng, dtype) | {
        "w": draw(rng, (3, 4, 1, 1), np.int8), "w_s": np.float32(1 / 64), "w_z": np.int8(0), "v_s": np.float32(1 / 32),
        "v_z": np.int8(0)}
    nodes = [dequantised("w"), ("Neg", ["w_d"], ["n"], {}), ("Transpose", ["n"], ["t"], {"perm": [1, 0, 2, 3]}),
             ("QuantizeLinear", ["t", "v_s", "v_z"], ["v"], {}), dequantised("v"), dequantised("x"),
             ("Conv", ["x_d", "v_d"], ["f"], {}), stored("f", "y")]
    assert _compared(make_model(nodes, {"x": x}, ["y"], constants, 17), {"x": x}, tmp_path) == ["Conv2d"]


def test_sizes_behind_operators_of_the_runtime(rng, tmp_path):
    """No size behind operators that onnx does not know is told: a network that asks for it could not be read."""
    x = draw(rng, (2, 3, 4, 6), np.int8)
    constants = powers("x", rng, np.int8) | powers("y", rng, np.int8) | {
        "first": np.array([0], np.int64), "second": np.array([2], np.int64), "rest": np.array([-1], np.int64)}
    add = ["x", "x_s", "x_z", "x", "x_s", "x_z", "y_s", "y_z"]
    nodes = [(f"{MICROSOFT}:QLinearAdd", add, ["a"], {}), ("Shape", ["a"], ["s"], {}),
             ("Slice", ["s", "first", "second"], ["begin"], {}), ("Concat", ["begin", "rest"], ["sizes"], {"axis": 0}),
             ("Reshape", ["a", "sizes"], ["y"], {})]
    assert _compared(make_model(nodes, {"x": x}, ["y"], constants, 17), {"x": x}, tmp_path) == ["Add", "Reshape"]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_attention_with_zero_points_is_taken_in_its_parts(rng, tmp_path, dtype):
    """The fused operator has none; product by product, what every quantiser writes has the runtime's bits."""
    shapes = {"q": (2, 5, 8), "k": (2, 8, 7), "v": (2, 7, 6)}
    inputs = {name: draw(rng, shape, dtype) for name, shape in shapes.items()}
    zero = np.array(dtype(117 if dtype == np.uint8 else -9))
    constants = {f"{name}_{part}": value for name, scale in
                 (("q", 1 / 64), ("k", 1 / 64), ("v", 1 / 64), ("s", 1 / 32), ("p", 1 / 256), ("y", 1 / 128))
                 for part, value in (("s", np.float32(scale)), ("z", zero))}
    constants["p_z"] = np.array(np.iinfo(dtype).min, dtype)
    nodes = [*map(dequantised, shapes), ("MatMul", ["q_d", "k_d"], ["s_f"], {}), stored("s_f", "s"), dequantised("s"),
             ("Softmax", ["s_d"], ["p_f"], {"axis": -1}), stored("p_f", "p"), dequantised("p"),
             ("MatMul", ["p_d", "v_d"], ["y_f"], {}), stored("y_f", "y")]
    kinds = _compared(make_model(nodes, inputs, ["y"], constants, 17), inputs, tmp_path)
    assert "Attention" not in kinds
    assert "Softmax" in kinds
