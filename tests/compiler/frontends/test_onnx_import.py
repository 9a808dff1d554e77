"""ONNX networks as graphs, against onnxruntime on every tensor."""

import re

import numpy as np
import onnx
import pytest
from onnx_models import MICROSOFT, check, draw, load, make_model, qdq_reference, quantisation, reference, stage

import pearray as pe
from pearray.compiler.frontends.onnx.importer import load_onnx
from pearray.workloads.digits import mnist_digits, quantise_mnist


@pytest.fixture(scope="module")
def digits():
    return mnist_digits()


@pytest.fixture(scope="module")
def mnist(tmp_path_factory, digits):
    return quantise_mnist(tmp_path_factory.mktemp("mnist") / "mnist.onnx", digits[0])


def test_mnist_equals_onnxruntime(mnist, digits):
    """The network of `make run`, every tensor of it."""
    graph = load_onnx(mnist).graph()
    model = onnx.load(str(mnist))
    for image in digits[0][::1000]:
        expected = reference(model, {"Input3": image[None]})
        got = graph.golden({"Input3": image[None]})
        assert set(got) == set(expected)
        for name, value in expected.items():
            assert got[name].dtype == value.dtype
            np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_mnist_is_quantised_the_same_every_time(mnist, digits, tmp_path):
    """A recipe that wavers would give another network, and other figures, on every machine."""
    again = quantise_mnist(tmp_path / "again.onnx", digits[0])
    assert again.read_bytes() == mnist.read_bytes()


def test_batch(mnist, digits):
    """Twenty digits at once are twenty digits one by one, though the file says one."""
    images, _ = digits
    model = load_onnx(mnist)
    assert model.inputs["Input3"].shape == (1, 1, 28, 28)
    whole = model.graph_for({"Input3": images[::250]}).golden({"Input3": images[::250]})[model.outputs[0]]
    each = [model.graph().golden({"Input3": image[None]})[model.outputs[0]][0] for image in images[::250]]
    np.testing.assert_array_equal(whole, np.stack(each))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_convolutions(rng, tmp_path, dtype):
    """Padding of every kind, strides, dilations, groups, zero points, scales per channel, bias or none."""
    for trial in range(24):
        groups = int(rng.choice([1, 1, 2, 3]))
        channels, filters = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
        kernel, strides, dilations = (rng.integers(1, top, 2).tolist() for top in (5, 4, 3))
        size = [int(rng.integers(reach + 1, reach + 9)) for reach in np.multiply(kernel, dilations)]
        padding = ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"][trial % 4]
        if padding.startswith("SAME"):
            # The runtime refuses dilations other than 1 with SAME padding in some versions.
            dilations = [1, 1]
        attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "group": groups,
                      "auto_pad": padding}
        if padding == "NOTSET":
            attributes["pads"] = rng.integers(0, 3, 4).tolist()
        x = draw(rng, (int(rng.integers(1, 3)), channels, *size), dtype)
        per_channel = filters if trial % 3 else None
        constants = {"w": draw(rng, (filters, channels // groups, *kernel), dtype),
                     **quantisation(rng, "x", dtype),
                     **quantisation(rng, "w", dtype, 1e-3, 0.02, per_channel),
                     **quantisation(rng, "y", dtype, 0.05, 0.5)}
        if per_channel:
            constants["w_zero"] = np.full(filters, constants["w_zero"])
        sources = ["x", "x_scale", "x_zero", "w", "w_scale", "w_zero", "y_scale", "y_zero"]
        if trial % 2:
            constants["b"] = rng.integers(-5000, 5000, filters).astype(np.int32)
            sources.append("b")
        model = make_model([("QLinearConv", sources, ["y"], attributes)], {"x": x}, ["y"], constants)
        assert check(model, {"x": x}, tmp_path) == 1


def test_gemms(rng, tmp_path):
    """QGemm with both operands either way round, a factor alpha and every shape of C."""
    for trial in range(24):
        m, k, n = rng.integers(1, 20, 3).tolist()
        trans_a, trans_b = trial & 1, trial >> 1 & 1
        a = draw(rng, (k, m) if trans_a else (m, k), np.int8)
        constants = {"b": draw(rng, (n, k) if trans_b else (k, n), np.int8),
                     **quantisation(rng, "a", np.int8),
                     **quantisation(rng, "b", np.int8, 1e-3, 0.02, n if trial % 3 == 0 else None),
                     **quantisation(rng, "y", np.int8, 0.05, 0.5)}
        if constants["b_scale"].ndim:
            constants["b_zero"] = np.full(n, constants["b_zero"])
        shape = [None, (n,), (1, n), (m, n)][trial % 4]
        if shape:
            constants["c"] = rng.integers(-5000, 5000, shape).astype(np.int32)
        sources = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "c" if shape else "",
                   "y_scale", "y_zero"]
        model = make_model([(f"{MICROSOFT}:QGemm", sources, ["y"],
                             {"transA": trans_a, "transB": trans_b, "alpha": float(rng.choice([1.0, 0.7]))})],
                           {"a": a}, ["y"], constants)
        assert check(model, {"a": a}, tmp_path) == 1


@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (2, 3, 7)])
def test_matrix_products(rng, tmp_path, shape):
    """QLinearMatMul, also over leading dimensions and with both operands given at run time."""
    sources = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
    for known in (True, False):
        inputs = {"a": draw(rng, shape, np.int8), "b": draw(rng, (7, 4), np.int8)}
        constants = {**quantisation(rng, "a", np.int8), **quantisation(rng, "b", np.int8, 1e-3, 0.02),
                     **quantisation(rng, "y", np.int8, 0.05, 0.5)}
        if known:
            constants["b"] = inputs.pop("b")
        model = make_model([("QLinearMatMul", sources, ["y"], {})], inputs, ["y"], constants)
        assert check(model, inputs, tmp_path) == 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(("shape", "constant"), [
    ((1, 3, 16, 16), ()), ((1, 3, 16, 16), (3, 1, 1)), ((1, 3, 16, 16), (1, 3, 1, 1)), ((16, 40), (40,)),
    ((16, 40), (1, 40)), ((16, 40), (1,)),
])
def test_addition_of_a_constant(rng, tmp_path, dtype, shape, constant):
    """Rounding of the runtime's fused multiply-adds, with the constant on either side."""
    for trial in range(20):
        x = draw(rng, shape, dtype)
        x.reshape(-1)[:256] = np.arange(256, dtype=np.uint8).view(dtype)
        constants = {"k": draw(rng, constant, dtype)}
        for name in "abc":
            constants |= quantisation(rng, name, dtype)
        if trial % 4 == 0:
            # Ties: ratios of scales that are powers of two.
            constants["b_scale"] = constants["a_scale"]
            constants["c_scale"] = constants["a_scale"] * np.float32(2)
        first, second = ("x", "k") if trial % 2 else ("k", "x")
        sources = [first, "a_scale", "a_zero", second, "b_scale", "b_zero", "c_scale", "c_zero"]
        model = make_model([(f"{MICROSOFT}:QLinearAdd", sources, ["y"], {})], {"x": x}, ["y"], constants)
        assert check(model, {"x": x}, tmp_path) == 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_max_pooling(rng, tmp_path, dtype):
    """Windows with padding, dilations, automatic padding, and partial windows at the end."""
    for trial in range(24):
        kernel, strides, dilations = (rng.integers(1, top, 2).tolist() for top in (4, 4, 3))
        padding = ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", "NOTSET", "NOTSET"][trial % 6]
        if padding.startswith("SAME"):
            dilations = [1, 1]
        attributes = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "auto_pad": padding}
        if padding == "NOTSET":
            attributes["pads"] = [int(rng.integers(0, taps)) for taps in kernel * 2]
            attributes["ceil_mode"] = int(trial % 6 > 3)
        x = draw(rng, (2, 3, *rng.integers(8, 14, 2).tolist()), dtype)
        model = make_model([("MaxPool", ["x"], ["y"], attributes)], {"x": x}, ["y"], {})
        assert check(model, {"x": x}, tmp_path) == 1


def test_edges_and_shapes(rng, tmp_path):
    """Floats in and out, changes of shape, and shapes computed from constants on the way."""
    x = rng.normal(size=(2, 3, 4, 4)).astype(np.float32)
    constants = {**quantisation(rng, "x", np.int8), "half": np.array([2]), "rest": np.array([-1, 12]),
                 "axes": np.array([0]), "zero": np.array(0)}
    nodes = [
        ("QuantizeLinear", ["x", "x_scale", "x_zero"], ["q"], {}),
        ("Flatten", ["q"], ["flat"], {"axis": 2}),
        ("Concat", ["half", "rest"], ["shape"], {"axis": 0}),
        ("Reshape", ["flat", "shape"], ["cube"], {}),
        ("Unsqueeze", ["cube", "axes"], ["more"], {}),
        ("Squeeze", ["more", "axes"], ["less"], {}),
        ("Identity", ["less"], ["same"], {}),
        ("DequantizeLinear", ["same", "x_scale", "x_zero"], ["y"], {}),
    ]
    model = make_model(nodes, {"x": x}, ["y"], constants)
    assert check(model, {"x": x}, tmp_path) == 7


def test_weights_are_folded(rng, tmp_path):
    """Weights that the file quantises or reshapes at run time are constants all the same."""
    a = draw(rng, (2, 6), np.int8)
    constants = {"w": rng.normal(size=(2, 3, 4)).astype(np.float32), "shape": np.array([6, 4]),
                 **quantisation(rng, "a", np.int8), **quantisation(rng, "b", np.int8, 0.02, 0.03),
                 **quantisation(rng, "y", np.int8, 0.05, 0.5)}
    sources = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
    nodes = [
        ("Reshape", ["w", "shape"], ["matrix"], {}),
        ("QuantizeLinear", ["matrix", "b_scale", "b_zero"], ["b"], {}),
        ("QLinearMatMul", sources, ["y"], {}),
    ]
    model = make_model(nodes, {"a": a}, ["y"], constants)
    assert check(model, {"a": a}, tmp_path) == 1
    assert len(load(model, tmp_path).graph().nodes) == 1


def test_relu_of_stored_values(rng, tmp_path):
    """Relu on a quantised tensor is a bound on what is stored."""
    x = draw(rng, (2, 9), np.int8)
    model = make_model([("Relu", ["x"], ["y"], {})], {"x": x}, ["y"], {}, opset=14)
    assert check(model, {"x": x}, tmp_path) == 1


IMAGE = np.zeros((1, 2, 4, 4), np.int8)
SCALES = {"s": np.float32(0.1), "z": np.int8(0)}


@pytest.mark.parametrize(("nodes", "constants", "message"), [
    ([("Sigmoid", ["x"], ["y"], {})], {},
     "node 'Sigmoid of y' (Sigmoid): it is supported of float tensors"),
    ([(f"{MICROSOFT}:Inverse", ["x"], ["y"], {})], {},
     "node 'Inverse of y': operator com.microsoft.Inverse is not supported; supported: "),
    ([("MaxPool", ["x"], ["m", "y"], {"kernel_shape": [2, 2]})], {},
     "node 'MaxPool of m' (MaxPool): output 'y' is not supported; only the first one is"),
    ([("MaxPool", ["x"], ["y"], {"kernel_shape": [2]})], {},
     "node 'MaxPool of y' (MaxPool): kernel_shape must be two integers of at least 1, not [2]"),
    ([("QLinearConv", ["x", "s", "z", "x", "s", "z", "s", "z"], ["y"], {})], SCALES,
     "node 'QLinearConv of y' (QLinearConv): w must be a constant, not 'x'"),
    ([("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"], {})],
     {**SCALES, "w": np.zeros((1, 3, 1, 1), np.int8)},
     "node 'QLinearConv of y' (QLinearConv): w must have 2 channels"),
    ([("QLinearConv", ["x", "s", "z", "w", "n", "z", "s", "z"], ["y"], {})],
     {**SCALES, "w": np.zeros((1, 2, 1, 1), np.int8), "n": np.float32("nan")},
     "node 'QLinearConv of y' (QLinearConv): w_scale must be finite and above 0, not nan"),
    ([(f"{MICROSOFT}:QLinearAdd", ["x", "s", "z", "k", "s", "z", "s", "z"], ["y"], {})],
     {**SCALES, "k": np.zeros((4, 9), np.int8)},
     "node 'QLinearAdd of y' (com.microsoft.QLinearAdd): b must broadcast with a of shape "),
    ([("Reshape", ["x", "x"], ["y"], {})], {},
     "node 'Reshape of y' (Reshape): shape must be a constant, not 'x'"),
])
def test_what_cannot_be_mapped_is_named(tmp_path, nodes, constants, message):
    """An operator dropped or approximated in silence would be a wrong network."""
    model = make_model(nodes, {"x": IMAGE}, ["y"], constants)
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    with pytest.raises(pe.PearrayError, match=f"^{re.escape(message)}") as caught:
        load_onnx(path).graph()
    assert "\n" not in str(caught.value)


def test_corrupt_files(tmp_path, mnist):
    """Bytes that are no network give one line, whatever the parser thinks of them."""
    whole = mnist.read_bytes()
    half = whole[:len(whole) // 2]
    for index, content in enumerate([b"", b"not a network", whole[:200], half, bytes(100)]):
        path = tmp_path / f"{index}.onnx"
        path.write_bytes(content)
        with pytest.raises(pe.PearrayError, match=r"^ONNX file '.*' cannot be read: ") as caught:
            load_onnx(path).graph()
        assert "\n" not in str(caught.value)
    with pytest.raises(pe.PearrayError, match=r"^ONNX file '.*' is not a file$"):
        load_onnx(tmp_path / "nowhere.onnx")


def test_old_operator_sets(tmp_path):
    """What onnx itself does not convert is told with the set; before set 13 some operators meant something else."""
    model = make_model([("Relu", ["x"], ["y"], {})], {"x": IMAGE.astype(np.float32)}, ["y"], {}, opset=6)
    with pytest.raises(pe.PearrayError, match=r"must have operator set 13 or later, not 6: export it again"):
        load(model, tmp_path)


def test_free_dimensions(tmp_path):
    """A free batch is one unless the input says otherwise; others are those of the input, and there must be one."""
    model = make_model([("MaxPool", ["x"], ["y"], {"kernel_shape": [2, 2]})], {"x": IMAGE}, ["y"], {})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    assert load(model, tmp_path).graph().tensors["y"].shape == (1, 2, 3, 3)
    many = np.zeros((5, 2, 4, 4), np.int8)
    assert load(model, tmp_path).graph_for({"x": many}).tensors["y"].shape == (5, 2, 3, 3)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    assert load(model, tmp_path).inputs["x"].shape == (1, 2, -1, 4)
    with pytest.raises(pe.PearrayError, match=r"^input 'x' of the ONNX file has no size for dimension 2: give the inp"):
        load(model, tmp_path).graph()
    with pytest.raises(pe.PearrayError, match=r"^input 'x' must have 4 dimensions, not shape \(2, 4, 4\)$"):
        load(model, tmp_path).graph_for({"x": many[0]})
    for height in (4, 7):
        tall = np.zeros((3, 2, height, 4), np.int8)
        assert load(model, tmp_path).graph_for({"x": tall}).tensors["y"].shape == (3, 2, height - 1, 3)


@pytest.mark.parametrize(("target", "shape"), [((1, -1), (1, 16)), ((-1, 8), (2, 8)), ((0, -1), (2, 8)),
                                               ((1, 8), "shape must hold the 16 elements")])
def test_shapes_within_a_free_batch(rng, tmp_path, target, shape):
    """Where a file leaves its batch free, a target of one row would be read as one row for each of the batch."""
    x = draw(rng, (2, 4, 2), np.int8)
    model = make_model([("Reshape", ["x", "shape"], ["y"], {})], {"x": x}, ["y"], {"shape": np.array(target)})
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    if isinstance(shape, str):
        with pytest.raises(pe.PearrayError, match=shape):
            pe.golden_run(load(model, tmp_path), {"x": x})
        return
    found = pe.golden_run(load(model, tmp_path), {"x": x})["y"]
    assert found.shape == shape
    np.testing.assert_array_equal(found, reference(model, {"x": x})["y"], strict=True)


@pytest.mark.parametrize("activation", [None, "Relu", "Clip"])
def test_convolution_in_qdq_form(rng, tmp_path, activation):
    """Float convolution, activation and pooling between dequantised tensors, and a fully connected layer."""
    for _ in range(5):
        x = rng.uniform(-1, 1, (2, 3, 8, 8)).astype(np.float32)
        constants = {
            "x_scale": np.float32(1 / 127), "x_zero": np.int8(3), "w": draw(rng, (4, 3, 3, 3), np.int8),
            "w_scale": rng.uniform(0.002, 0.004, 4).astype(np.float32), "w_zero": np.zeros(4, np.int8),
            "v": draw(rng, (64, 5), np.int8), "v_scale": np.float32(0.003), "v_zero": np.int8(0),
            "b": rng.integers(-2000, 2000, 4).astype(np.int32), "b_zero": np.zeros(4, np.int32),
            "y_scale": np.float32(0.02), "y_zero": np.int8(-20), "z_scale": np.float32(0.05), "z_zero": np.int8(5),
            "six": np.float32(1.7), "none": np.float32(0), "shape": np.array([-1, 64]),
        }
        constants["b_scale"] = constants["x_scale"] * constants["w_scale"]
        after = {None: [], "Relu": [("Relu", ["c"], ["y"], {})], "Clip": [("Clip", ["c", "none", "six"], ["y"], {})]}
        nodes = [
            *stage("x"),
            ("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_d"], {"axis": 0}),
            ("DequantizeLinear", ["b", "b_scale", "b_zero"], ["b_d"], {"axis": 0}),
            ("Conv", ["x_d", "w_d", "b_d"], ["c" if activation else "y"], {"pads": [1, 1, 1, 1]}),
            *after[activation],
            *stage("y"),
            ("MaxPool", ["y_d"], ["pool"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("QuantizeLinear", ["pool", "y_scale", "y_zero"], ["pool_q"], {}),
            ("DequantizeLinear", ["pool_q", "y_scale", "y_zero"], ["pool_d"], {}),
            ("Reshape", ["pool_d", "shape"], ["flat"], {}),
            ("QuantizeLinear", ["flat", "y_scale", "y_zero"], ["flat_q"], {}),
            ("DequantizeLinear", ["flat_q", "y_scale", "y_zero"], ["flat_d"], {}),
            ("DequantizeLinear", ["v", "v_scale", "v_zero"], ["v_d"], {}),
            ("MatMul", ["flat_d", "v_d"], ["z"], {}),
            *stage("z"),
        ]
        model = make_model(nodes, {"x": x}, ["z_d"], constants)
        graph = load(model, tmp_path).graph()
        assert [node.operator.kind for node in graph.nodes if "Reshape" != node.operator.kind] == [
            "Quantize", "Conv2d", "MaxPool2d", "Gemm", "Dequantize"]
        np.testing.assert_array_equal(graph.golden({"x": x})["z_d"], qdq_reference(model, {"x": x}))


def test_quantised_mnist_in_qdq_form(tmp_path, digits):
    """Both forms that the quantiser writes are the same network."""
    images, labels = digits
    model = load_onnx(quantise_mnist(tmp_path / "qdq.onnx", images, form="QDQ"))
    graph = model.graph_for({"Input3": images[::100]})
    got = graph.golden({"Input3": images[::100]})[model.outputs[0]]
    expected = np.concatenate([qdq_reference(onnx.load(str(tmp_path / "qdq.onnx")), {"Input3": image[None]})
                               for image in images[::100]])
    np.testing.assert_array_equal(got, expected)
    assert np.mean(got.argmax(axis=1) == labels[::100]) > 0.9


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid", "LeakyRelu", "Tanh", "AveragePool", "GlobalAveragePool"])
def test_single_operators_in_qdq_form(rng, tmp_path, kind):
    """Operators of one input between dequantised tensors, and a change of scale on the way."""
    attributes = {"AveragePool": {"kernel_shape": [2, 3], "strides": [2, 1]}, "LeakyRelu": {"alpha": 0.2}}
    for trial in range(10):
        x = rng.uniform(-4, 4, (1, 3, 6, 7)).astype(np.float32)
        constants = quantisation(rng, "x", np.int8, 0.03, 0.04) | quantisation(rng, "y", np.int8, 0.01, 0.05)
        nodes = [*stage("x"), (kind, ["x_d"], ["y"], attributes.get(kind, {})), *stage("y")]
        model = make_model(nodes, {"x": x}, ["y_d"], constants)
        got = load(model, tmp_path).graph().golden({"x": x})["y_d"]
        np.testing.assert_array_equal(got, qdq_reference(model, {"x": x}), err_msg=f"{kind} {trial}")


@pytest.mark.parametrize(("kind", "attributes"), [
    ("QLinearAveragePool", {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [1, 0, 1, 1]}),
    ("QLinearAveragePool", {"kernel_shape": [2, 2], "pads": [0, 1, 1, 0], "count_include_pad": 1}),
    ("QLinearGlobalAveragePool", {}), ("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.3}),
])
def test_channelwise_operators(rng, tmp_path, kind, attributes):
    """Quantised pooling and activations of the runtime's own domain."""
    for _ in range(10):
        x = draw(rng, (2, 3, 6, 8), np.int8)
        constants = quantisation(rng, "x", np.int8) | quantisation(rng, "y", np.int8)
        model = make_model([(f"{MICROSOFT}:{kind}", ["x", "x_scale", "x_zero", "y_scale", "y_zero"], ["y"],
                             attributes)], {"x": x}, ["y"], constants)
        assert check(model, {"x": x}, tmp_path) == 1


def test_unfinished_float_operators(rng, tmp_path):
    """A product with weights that nobody quantises cannot be computed with integers; a function is the host's."""
    constants = {**SCALES, "w": np.zeros((1, 2, 1, 1), np.float32)}
    nodes = [("DequantizeLinear", ["x", "s", "z"], ["d"], {}), ("Conv", ["d", "w"], ["y"], {})]
    with pytest.raises(pe.PearrayError, match=r"^node 'Conv of y' \(Conv\): input 'w' must come from Dequantize"):
        load(make_model(nodes, {"x": IMAGE}, ["y"], constants), tmp_path).graph()
    nodes = [("DequantizeLinear", ["x", "s", "z"], ["d"], {}), ("Exp", ["d"], ["y"], {})]
    graph = load(make_model(nodes, {"x": IMAGE}, ["y"], constants), tmp_path).graph()
    assert [node.operator.kind for node in graph.nodes] == ["RealTable"]
