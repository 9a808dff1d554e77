"""ONNX networks on float32 as graphs that can be trained, against onnxruntime."""

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.graph.derivatives import DERIVATIVES
from pearray.compiler.graph.passes.apart import operators_apart

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
models = pytest.importorskip("onnx_models")


def saved(folder, nodes, inputs, outputs, constants, opset=20):
    """Write a model, and return its path."""
    path = folder / "network.onnx"
    onnx.save(models.make_model(nodes, inputs, outputs, constants, opset), path)
    return path


def normal(rng, *shape):
    """Random float32 tensor."""
    return rng.normal(size=shape).astype(np.float32)


def check(path, inputs):
    """Compare the graph with onnxruntime, and that all of it has derivatives; return it."""
    graph = pe.load_onnx(path).float_graph()
    made = graph.golden(inputs)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for name, wanted in zip(graph.outputs, session.run(None, inputs), strict=True):
        assert (made[name].shape, made[name].dtype) == (wanted.shape, wanted.dtype)
        np.testing.assert_allclose(made[name], wanted, rtol=1e-4, atol=1e-5)
    assert all(type(node.operator) in DERIVATIVES for node in operators_apart(graph).nodes)
    return graph


def test_images(rng, tmp_path):
    """If it failed, an attribute of a window, a bias or a layout would be read otherwise than onnxruntime reads it."""
    constants = {"w1": normal(rng, 6, 3, 3, 2), "b1": normal(rng, 6), "w2": normal(rng, 4, 3, 1, 3),
                 "w3": normal(rng, 5, 16), "b3": normal(rng, 5), "w4": normal(rng, 5, 4), "low": np.float32(-1),
                 "high": np.float32(2), "shape": np.array([0, -1]), "four": np.float32(4)}
    nodes = [
        ("Conv", ["x", "w1", "b1"], ["c1"], {"pads": [1, 0, 2, 1], "strides": [1, 2], "dilations": [1, 1]}),
        ("LeakyRelu", ["c1"], ["r1"], {"alpha": 0.125}),
        ("MaxPool", ["r1"], ["p1"], {"kernel_shape": [2, 2], "strides": [2, 1]}),
        ("Conv", ["p1", "w2"], ["c2"], {"group": 2, "auto_pad": "SAME_UPPER"}),
        ("Clip", ["c2", "low", "high"], ["l2"], {}),
        ("AveragePool", ["l2"], ["p2"], {"kernel_shape": [2, 1], "strides": [2, 1], "pads": [0, 0, 0, 0]}),
        ("Reshape", ["p2", "shape"], ["flat"], {}),
        ("Gemm", ["flat", "w3", "b3"], ["h"], {"transB": 1}),
        ("Identity", ["h"], ["same"], {}),
        ("Relu", ["same"], ["r3"], {}),
        ("MatMul", ["r3", "w4"], ["scores"], {}),
        ("Div", ["scores", "four"], ["divided"], {}),
        ("Softmax", ["divided"], ["shares"], {}),
        ("GlobalAveragePool", ["l2"], ["means"], {}),
    ]
    x = normal(rng, 2, 3, 9, 6)
    graph = check(saved(tmp_path, nodes, {"x": x}, ["shares", "means"], constants), {"x": x})
    assert {"w1", "b1", "w2", "w3", "b3", "w4"} <= {*graph.constants}


def test_rows(rng, tmp_path):
    """If it failed, a transformer's block would be read otherwise than onnxruntime reads it."""
    constants = {"g": normal(rng, 8), "b": normal(rng, 8), "w": normal(rng, 8, 8), "axes": np.array([1]),
                 "last": np.array([-1]), "place": normal(rng, 5, 8), "turned": normal(rng, 8, 8), "two": np.array([2])}
    nodes = [
        ("Add", ["x", "place"], ["placed"], {}),
        ("LayerNormalization", ["placed", "g", "b"], ["n"], {"epsilon": 1e-4}),
        ("Transpose", ["turned"], ["v"], {"perm": [1, 0]}),
        ("MatMul", ["n", "v"], ["k"], {}), ("MatMul", ["n", "w"], ["q"], {}),
        ("Transpose", ["k"], ["kt"], {"perm": [0, 2, 1]}), ("MatMul", ["q", "kt"], ["s"], {}),
        ("Softmax", ["s"], ["a"], {"axis": -1}), ("MatMul", ["a", "n"], ["y"], {}),
        ("Gelu", ["y"], ["bent"], {"approximate": "tanh"}), ("Sigmoid", ["y"], ["gate"], {}),
        ("Mul", ["bent", "gate"], ["m"], {}), ("Sub", ["m", "placed"], ["d"], {}), ("Tanh", ["d"], ["t"], {}),
        ("Concat", ["t", "x"], ["both"], {"axis": 2}), ("Unsqueeze", ["both", "two"], ["u"], {}),
        ("Squeeze", ["u", "two"], ["sq"], {}), ("ReduceMean", ["sq", "axes"], ["mean"], {"keepdims": 0}),
        ("HardSwish", ["mean"], ["hs"], {}), ("HardSigmoid", ["hs"], ["end"], {"alpha": 0.25}),
        ("Flatten", ["sq"], ["flat"], {"axis": 2}),
    ]
    x = normal(rng, 3, 5, 8)
    graph = check(saved(tmp_path, nodes, {"x": x}, ["end", "flat"], constants), {"x": x})
    # What is computed of a constant is the weight.
    assert "v" in graph.constants


def test_a_network_of_a_file_learns(rng, tmp_path):
    """If it failed, a file's weights would not be those that change, or the batch not be the one asked for."""
    constants = {"w": normal(rng, 4, 6), "b": np.zeros(4, np.float32)}
    path = saved(tmp_path, [("Gemm", ["x", "w", "b"], ["scores"], {"transB": 1})], {"x": normal(rng, 1, 6)},
                 ["scores"], constants)
    training = pe.train_step(pe.load_onnx(path), pe.SoftmaxCrossEntropy(), pe.SGD(lr=0.5, momentum=0.5), batch=12)
    batch = {"x": normal(rng, 12, 6), "labels": rng.integers(0, 4, 12)}
    losses = [training.step(batch) for _ in range(60)]
    assert losses[-1] < losses[0] / 2
    assert {*training.weights} == {"w", "b"}
    assert training.outputs["scores"].shape == (12, 4)


@pytest.mark.parametrize(("nodes", "message"), [
    ([("Erf", ["x"], ["y"], {})], r"^node 'Erf of y' \(Erf\): operator must be one of Add, AveragePool, .* to be "),
    ([("Gemm", ["x", "w"], ["y"], {"alpha": 2.0})],
     r"^node 'Gemm of y' \(Gemm\): alpha must be 1 to be trained, not 2\.0$"),
    ([("Reshape", ["x", "s"], ["y"], {})], r"^node 'Reshape of y' \(Reshape\): shape must be one of 12 elements, as "),
    ([("Conv", ["x", "w"], ["y"], {})], r"^node 'Conv of y' \(Conv\): w must have 4 dimensions, not shape \(6, 4\)$"),
])
def test_what_cannot_be_trained_is_named(tmp_path, nodes, message):
    """If it failed, a file that can't be trained would end in a traceback, or be trained as another network."""
    constants = {"w": np.zeros((6, 4), np.float32), "s": np.array([1, 6])}
    path = saved(tmp_path, nodes, {"x": np.zeros((2, 6), np.float32)}, ["y"], constants)
    with pytest.raises(pe.PearrayError, match=message):
        pe.load_onnx(path).float_graph()
