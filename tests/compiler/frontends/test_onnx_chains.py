"""Chains of float operators between DequantizeLinear and QuantizeLinear, against onnxruntime."""

import numpy as np
import onnx
import pytest
from onnx_models import MICROSOFT, draw, load, make_model, qdq_reference, quantisation, stage
from random_workloads import interpret

import pearray as pe

MAX = {"kernel_shape": [2, 2], "strides": [2, 2]}


def powers(name, rng, dtype, low=3, high=6):
    """Scale that is a power of two, so that the runtime's float sums are exact, and a zero point."""
    info = np.iinfo(dtype)
    return {f"{name}_s": np.float32(2.0 ** -int(rng.integers(low, high))),
            f"{name}_z": np.array(rng.integers(info.min + 90, info.max - 90), dtype)}


def dequantised(name, **attributes):
    return "DequantizeLinear", [name, f"{name}_s", f"{name}_z"], [f"{name}_d"], attributes


def stored(name, output):
    return "QuantizeLinear", [name, f"{output}_s", f"{output}_z"], [output], {}


def compared(model, inputs, folder, kinds=None):
    """Compare the golden model of a graph with onnxruntime; return the graph."""
    graph = load(model, folder).graph_for(inputs)
    if kinds is not None:
        assert [node.operator.kind for node in graph.nodes] == kinds
    got, expected = graph.golden(inputs)[graph.outputs[0]], qdq_reference(model, inputs)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(got, expected)
    return graph


#: Nodes from "x_d" to "f", and constants.
CHAINS = {
    "silu": ([("Sigmoid", ["x_d"], ["s"], {}), ("Mul", ["x_d", "s"], ["f"], {})], {}),
    "hard swish": ([("Add", ["x_d", "three"], ["a"], {}), ("Clip", ["a", "none", "six"], ["b"], {}),
                    ("Mul", ["x_d", "b"], ["c"], {}), ("Div", ["c", "six"], ["f"], {})],
                   {"three": np.float32(3), "none": np.float32(0), "six": np.float32(6)}),
    "gelu": ([("Div", ["x_d", "root"], ["a"], {}), ("Erf", ["a"], ["b"], {}), ("Add", ["b", "one"], ["c"], {}),
              ("Mul", ["x_d", "c"], ["d"], {}), ("Mul", ["d", "half"], ["f"], {})],
             {"root": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}),
    "mish": ([("Softplus", ["x_d"], ["a"], {}), ("Tanh", ["a"], ["b"], {}), ("Mul", ["x_d", "b"], ["f"], {})], {}),
    "square": ([("Mul", ["x_d", "x_d"], ["f"], {})], {}),
    "channels": ([("Mul", ["x_d", "gains"], ["a"], {}), ("PRelu", ["a", "slopes"], ["b"], {}),
                  ("Sub", ["ones", "b"], ["f"], {})],
                 dict.fromkeys(("gains", "slopes", "ones"), (6, 1, 1))),
    "normalised": ([("BatchNormalization", ["x_d", "gain", "bias", "mean", "var"], ["a"], {}),
                    ("Relu", ["a"], ["b"], {}), ("Neg", ["b"], ["f"], {})],
                   dict.fromkeys(("gain", "bias", "mean", "var"), (6,))),
    "stored constant": ([("DequantizeLinear", ["k", "k_s"], ["k_d"], {}), ("Add", ["x_d", "k_d"], ["a"], {}),
                         ("Clip", ["a", "", "six"], ["b"], {}), ("Pow", ["b", "two"], ["f"], {})],
                        {"k": np.int8(21), "k_s": np.float32(0.03), "six": np.float32(0.6), "two": np.float32(2)}),
    "rows": ([("Mul", ["x_d", "row"], ["a"], {}), ("Elu", ["a"], ["f"], {})], {"row": (4,)}),
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("name", CHAINS)
def test_one_table(rng, tmp_path, name, dtype):
    """Any function of one stored tensor is one table; a rounding of its own between would be another network."""
    nodes, constants = CHAINS[name]
    constants = {key: rng.uniform(0.5, 2, value).astype(np.float32) if isinstance(value, tuple) else value
                 for key, value in constants.items()}
    x = draw(rng, (2, 6, 4) if name == "rows" else (2, 6, 3, 4), dtype)
    constants |= powers("x", rng, dtype) | {"y_s": np.float32(rng.uniform(0.01, 0.05)), "y_z": dtype(7)}
    model = make_model([dequantised("x"), *nodes, stored("f", "y")], {"x": x}, ["y"], constants, 18)
    kinds = ["Reshape", "Lookup", "Reshape"] if name == "rows" else ["Lookup"]
    graph = compared(model, {"x": x}, tmp_path, kinds)
    if name in ("channels", "rows") and dtype is np.int8:
        interpret(graph, {"x": x}, pe.load_config("systolic-8x8").hardware)


@pytest.mark.parametrize("kind", ["Acos", "Atan", "Elu", "Log", "Mish", "Softplus", "Sin"])
def test_entries_are_those_of_vectors(rng, tmp_path, kind):
    """The runtime's last bit depends on where an element stands; no stored value may tell, for nearly all scales."""
    for _ in range(4):
        x = np.arange(256, dtype=np.uint8).reshape(1, 256)[:, :int(rng.integers(1, 257))]
        constants = {"x_s": np.float32(rng.uniform(0.002, 0.0078)), "x_z": np.uint8(128 * (kind != "Log")),
                     "y_s": np.float32(rng.uniform(0.005, 0.02)), "y_z": np.uint8(100)}
        x = np.maximum(x, np.uint8(1)) if kind == "Log" else x
        model = make_model([dequantised("x"), (kind, ["x_d"], ["f"], {}), stored("f", "y")], {"x": x}, ["y"], constants,
                           18)
        compared(model, {"x": x}, tmp_path)


def product(rng, kind, dtype=np.int8, bias=None):
    """Nodes from a stored tensor to "f", with constants and the stored tensor; float sums of it are exact."""
    shapes = {"Conv": ((2, 3, 7, 6), (4, 3, 3, 2)), "Gemm": ((5, 9), (9, 4)), "MatMul": ((2, 3, 9), (9, 4))}
    x_shape, w_shape = shapes[kind]
    x, constants = draw(rng, x_shape, dtype), powers("x", rng, dtype)
    axis = 0 if kind == "Conv" else 1
    constants |= {"w": rng.integers(-127, 128, w_shape).astype(np.int8), "w_z": np.zeros(4, np.int8),
                  "w_s": (2.0 ** -rng.integers(4, 7, 4)).astype(np.float32)}
    sources = ["x_d", "w_d"]
    if bias is not None:
        constants["b"] = bias
        sources.append("b")
    return [dequantised("x"), dequantised("w", axis=axis), (kind, sources, ["f"], {})], constants, x


@pytest.mark.parametrize("behind", [
    ["Relu", "MaxPool"], ["MaxPool", "Relu"], ["MaxPool", "Clip", "Flatten"], ["Flatten"],
    ["Clip", "Relu", "Transpose"],
    ["Transpose", "Identity", "Relu"],
])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_what_commutes_with_rounding_moves_behind_it(rng, tmp_path, behind, dtype):
    """Limits, maxima and moves of sums are those of stored integers, since rounding never decreases."""
    nodes, constants, x = product(rng, "Conv", dtype)
    constants |= powers("y", rng, dtype, -1, 2) | {"low": np.float32(-3), "high": np.float32(5.3)}
    name = "f"
    for place, kind in enumerate(behind):
        attributes = {"MaxPool": MAX, "Transpose": {"perm": [0, 2, 3, 1]}}.get(kind, {})
        nodes.append((kind, [name, "low", "high"] if kind == "Clip" else [name], [f"f{place}"], attributes))
        name = f"f{place}"
    model = make_model([*nodes, stored(name, "y")], {"x": x}, ["y"], constants)
    graph = compared(model, {"x": x}, tmp_path)
    if "Flatten" in behind and dtype is np.uint8:
        interpret(graph, {"x": x}, pe.load_config("systolic-8x8").hardware)


def test_several_readers_of_a_float_tensor(rng, tmp_path):
    """A tensor that is stored twice alike is computed once, in two ways twice, and each in its own scale."""
    nodes, constants, x = product(rng, "Conv")
    for name in "yuv":
        constants |= powers(name, rng, np.int8, -1, 2)
    constants["v_s"] = np.float32(constants["y_s"] * 4)
    nodes += [("Relu", ["f"], ["g"], {}), stored("g", "y"), stored("g", "v"), ("MaxPool", ["g"], ["h"], MAX),
              ("QuantizeLinear", ["h", "y_s", "y_z"], ["u"], {})]
    model = make_model(nodes, {"x": x}, ["y", "u", "v"], {key: value for key, value in constants.items()
                                                         if key not in ("u_s", "u_z")})
    graph = load(model, tmp_path).graph()
    assert [node.operator.kind for node in graph.nodes].count("Conv2d") == 3
    got = graph.golden({"x": x})
    options = onnx.ModelProto()
    for name in ("y", "u", "v"):
        options.CopyFrom(model)
        del options.graph.output[:]
        options.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        np.testing.assert_array_equal(got[name], qdq_reference(options, {"x": x}))


#: Nodes behind a product, from "f" to "g", and shapes of constants for a result of some dimensions; a number stays.
FOLLOWERS = {
    "Mul": ([("Mul", ["f", "k"], ["g"], {})], ["k"]),
    "Div": ([("Div", ["f", "k"], ["g"], {})], ["k"]),
    "Add": ([("Add", ["k", "f"], ["g"], {})], ["k"]),
    "Sub": ([("Sub", ["f", "k"], ["g"], {})], ["k"]),
    "Sub from": ([("Sub", ["k", "f"], ["g"], {})], ["k"]),
    "Neg": ([("Neg", ["f"], ["g"], {})], []),
    "both": ([("Mul", ["f", "k"], ["h"], {}), ("Add", ["h", "l"], ["i"], {}), ("Relu", ["i"], ["g"], {})], ["k", "l"]),
}


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul"])
@pytest.mark.parametrize("follower", FOLLOWERS)
def test_constants_behind_products(rng, tmp_path, kind, follower):
    """Factors go into the scales, and what is added into the bias: exact where float32 is."""
    followers, names = FOLLOWERS[follower]
    for is_single in (False, True):
        nodes, constants, x = product(rng, kind, bias=np.float32([1.5, -2, 0, 0.25]) if kind != "MatMul" else None)
        for name in names:
            shape = () if is_single else (4, 1, 1) if kind == "Conv" else (4,)
            signs = rng.choice([-1, 1], shape) if follower in ("Mul", "both") else 1
            constants[name] = np.asarray(2.0 ** rng.integers(-2, 2, shape) * signs, np.float32)
        constants |= powers("y", rng, np.int8, -1, 2)
        model = make_model([*nodes, *followers, stored("g", "y")], {"x": x}, ["y"], constants)
        compared(model, {"x": x}, tmp_path)


@pytest.mark.parametrize("kind", ["Conv", "Gemm"])
def test_normalised_products_are_within_the_bound(rng, tmp_path, kind):
    """Batch normalisation has any factors: the output is the rounded one but within a bound of half-way."""
    for _ in range(3):
        nodes, constants, x = product(rng, kind)
        constants |= {"gain": rng.normal(size=4).astype(np.float32), "bias": rng.normal(size=4).astype(np.float32),
                      "mean": rng.normal(size=4).astype(np.float32), "var": rng.uniform(0.5, 2, 4).astype(np.float32)}
        constants |= {"y_s": np.float32(rng.uniform(0.2, 1)), "y_z": np.int8(3)}
        nodes += [("BatchNormalization", ["f", "gain", "bias", "mean", "var"], ["g"], {"epsilon": 0.01}),
                  stored("g", "y")]
        model = make_model(nodes, {"x": x}, ["y"], constants)
        got = load(model, tmp_path).graph().golden({"x": x})["y"]
        spread = (-1, 1, 1) if kind == "Conv" else (-1,)
        factor = constants["gain"] / np.sqrt(constants["var"].astype(np.float64) + np.float32(0.01))
        sums_model = make_model(nodes[:3], {"x": x}, ["f"], constants)
        real = qdq_reference(sums_model, {"x": x}).astype(np.float64) * factor.reshape(spread) + (
            constants["bias"] - constants["mean"] * factor).reshape(spread)
        step = np.abs(factor) * constants["x_s"] * constants["w_s"]
        wanted = np.clip(real / constants["y_s"], -128 - 3, 127 - 3)
        bound = 0.5 + (step / 2).reshape(spread) / constants["y_s"] + 2.0**-22 * np.abs(wanted)
        assert (np.abs(got - 3.0 - wanted) <= bound).all()
        differ = got != qdq_reference(model, {"x": x})
        assert differ.mean() < 0.01


@pytest.mark.parametrize("kind", ["Conv", "Gemm"])
def test_float_bias(rng, tmp_path, kind):
    """A float bias is stored in steps of the sums, as onnxruntime does; else outputs near half-way would differ."""
    for _ in range(5):
        nodes, constants, x = product(rng, kind, bias=rng.normal(size=4).astype(np.float32))
        constants |= quantisation(rng, "y", np.int8, 0.3, 0.9)
        constants["w_s"] = rng.uniform(0.01, 0.03, 4).astype(np.float32)
        nodes.append(("QuantizeLinear", ["f", "y_scale", "y_zero"], ["y"], {}))
        compared(make_model(nodes, {"x": x}, ["y"], constants), {"x": x}, tmp_path)


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul"])
@pytest.mark.parametrize("behind", [[], ["Relu"], ["Transpose"], ["Add", "Mul", "Flatten"]])
def test_float_outputs(rng, tmp_path, kind, behind):
    """A last layer that nobody quantises gives its sums, which the host scales."""
    nodes, constants, x = product(rng, kind, bias=np.float32([1.5, -2, 0, 0.25]) if kind == "Gemm" else None)
    name = "f"
    for place, each in enumerate(behind):
        if each in ("Add", "Mul"):
            constants["k"] = np.float32([0.5, 2, -1, 0.25]).reshape((4, 1, 1) if kind == "Conv" else 4)
        nodes.append((each, [name, "k"] if each in ("Add", "Mul") else [name], [f"f{place}"], {}))
        name = f"f{place}"
    if "Flatten" in behind and kind != "Gemm":
        nodes, name = nodes[:-1], "f1"
    model = make_model(nodes, {"x": x}, [name], constants)
    graph = compared(model, {"x": x}, tmp_path)
    assert graph.nodes[-1].operator.kind == "RealSums"
    if behind in (["Relu"], ["Transpose"]) and kind != "Gemm":
        interpret(graph, {"x": x}, pe.load_config("systolic-8x8").hardware)


def test_float_function_as_output(rng, tmp_path):
    """A function of a stored tensor that nobody quantises is a table of real numbers on the host."""
    x, constants = draw(rng, (3, 5), np.uint8), powers("x", rng, np.uint8)
    constants["k"] = rng.normal(size=5).astype(np.float32)
    nodes = [dequantised("x"), ("Add", ["x_d", "k"], ["f"], {}), ("Sigmoid", ["f"], ["g"], {})]
    compared(make_model(nodes, {"x": x}, ["g"], constants), {"x": x}, tmp_path, ["RealTable"])


def test_moves_of_a_float_input(rng, tmp_path):
    """The host quantises an input before it is moved: moves commute with that, and are views."""
    x = rng.uniform(-1, 1, (2, 4, 5, 3)).astype(np.float32)
    constants = {"s": np.float32(0.01), "z": np.int8(5), "shape": np.array([2, 3, -1])}
    nodes = [("Transpose", ["x"], ["a"], {"perm": [0, 3, 1, 2]}), ("Relu", ["a"], ["b"], {}),
             ("Reshape", ["b", "shape"], ["c"], {}), ("QuantizeLinear", ["c", "s", "z"], ["y"], {})]
    compared(make_model(nodes, {"x": x}, ["y"], constants), {"x": x}, tmp_path, ["Quantize", "Transpose", "Reshape"])


def test_relu_before_a_product(rng, tmp_path):
    """What a stored tensor's scale can hold exactly needs no rounding: Relu is a table of the same scale."""
    nodes, constants, x = product(rng, "Conv")
    nodes.insert(1, ("Relu", ["x_d"], ["r"], {}))
    nodes[3] = ("Conv", ["r", "w_d"], ["f"], {})
    constants |= powers("y", rng, np.int8, -1, 2)
    compared(make_model([*nodes, stored("f", "y")], {"x": x}, ["y"], constants), {"x": x}, tmp_path,
             ["Lookup", "Conv2d"])


def test_weights_that_are_moved(rng, tmp_path):
    """Weights are moved when the network is read, and their scales with them."""
    nodes, constants, x = product(rng, "MatMul")
    constants["w"] = np.ascontiguousarray(constants["w"].T)
    nodes[1:] = [dequantised("w", axis=0), ("Identity", ["w_d"], ["v"], {}), ("Transpose", ["v"], ["u"], {}),
                 ("MatMul", ["x_d", "u"], ["f"], {}), stored("f", "y")]
    constants |= powers("y", rng, np.int8, -1, 2)
    compared(make_model(nodes, {"x": x}, ["y"], constants), {"x": x}, tmp_path, ["Reshape", "Gemm", "Reshape"])


def test_bias_through_identity(rng, tmp_path):
    """Exporters share equal biases through Identity, before or behind DequantizeLinear."""
    nodes, constants, x = product(rng, "Gemm")
    constants |= {"b": rng.integers(-500, 500, 4).astype(np.int32), "b_z": np.zeros(4, np.int32)} | powers(
        "y", rng, np.int8, -1, 2)
    constants["b_s"] = constants["x_s"] * constants["w_s"]
    nodes[2:] = [("Identity", ["b"], ["c"], {}), ("DequantizeLinear", ["c", "b_s", "b_z"], ["d"], {"axis": 0}),
                 ("Identity", ["d"], ["e"], {}), ("Gemm", ["x_d", "w_d", "e"], ["f"], {}), stored("f", "y")]
    compared(make_model(nodes, {"x": x}, ["y"], constants), {"x": x}, tmp_path, ["Gemm"])


@pytest.mark.parametrize(("nodes", "message"), [
    ([("Sigmoid", ["f"], ["g"], {})],
     r"^node 'Sigmoid of g' \(Sigmoid\): Sigmoid of sums of products, which have more than 256 values, is no table"),
    ([("Relu", ["f"], ["h"], {}), ("Mul", ["h", "k"], ["g"], {})],
     r"^node 'Mul of g' \(Mul\): what follows a Relu or Clip behind sums of products must be QuantizeLinear"),
    ([("Mul", ["f", "wide"], ["g"], {})],
     r"^node 'Mul of g' \(Mul\): a constant behind sums of products must be one number, or one for each of the 4 "),
    ([("Div", ["k", "f"], ["g"], {})], r"^node 'Div of g' \(Div\): Div of sums of products"),
    ([("Add", ["f", "x_d"], ["g"], {})],
     r"^node 'Add of g' \(Add\): 'f', the result of Gemm, must be stored in 8 bits before Add: put QuantizeLinear"),
])
def test_what_is_no_table(rng, tmp_path, nodes, message):
    """A function of sums would need their rounding, which the file does not say."""
    before, constants, x = product(rng, "Gemm")
    constants |= powers("y", rng, np.int8) | {"k": np.float32(2), "wide": np.ones((5, 4), np.float32)}
    model = make_model([*before, *nodes, stored("g", "y")], {"x": x}, ["y"], constants)
    with pytest.raises(pe.PearrayError, match=message):
        load(model, tmp_path).graph()


def test_all_that_cannot_be_mapped_is_told(rng, tmp_path):
    """Whoever has to change a network wants to know all of it; what follows from a refused node is no reason."""
    nodes, constants, x = product(rng, "Conv")
    constants |= powers("y", rng, np.int8) | {"half": np.float32(0.5)}
    nodes += [("Sigmoid", ["f"], ["g"], {}), ("Mul", ["g", "half"], ["h"], {}), stored("h", "y"),
              ("DequantizeLinear", ["y", "y_s", "y_z"], ["i"], {}), ("GridSample", ["i", "i"], ["j"], {}),
              ("Hardmax", ["j"], ["k"], {}), ("Hardmax", ["k"], ["l"], {}),
              ("QuantizeLinear", ["l", "y_s", "y_z"], ["z"], {}),
              ("DequantizeLinear", ["z", "y_s", "y_z"], ["m"], {}), ("Elu", ["m"], ["n"], {}),
              ("QuantizeLinear", ["n", "y_s", "y_z"], ["o"], {})]
    model = make_model(nodes, {"x": x}, ["o"], constants, 18)
    with pytest.raises(pe.PearrayError) as caught:
        load(model, tmp_path).graph()
    assert str(caught.value).startswith(
        "4 nodes cannot be mapped. Sigmoid (node 'Sigmoid of g'): Sigmoid of sums of products, which have more than ")
    assert ". GridSample (node 'GridSample of j'): operator GridSample is not supported. Hardmax (2 nodes, first " \
        "'Hardmax of k'): operator Hardmax is not supported" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_functions_of_the_file(rng, tmp_path):
    """A function that the file defines is what it is made of."""
    x = draw(rng, (2, 3), np.int8)
    make = onnx.helper.make_node
    function = onnx.helper.make_function(
        "mine", "Twice", ["a"], ["b"], [make("Sigmoid", ["a"], ["s"]), make("Mul", ["a", "s"], ["b"])],
        [onnx.helper.make_opsetid("", 17)])
    constants = powers("x", rng, np.int8) | powers("y", rng, np.int8)
    nodes = [dequantised("x"), ("mine:Twice", ["x_d"], ["f"], {}), stored("f", "y")]
    model = make_model(nodes, {"x": x}, ["y"], constants, 17)
    model.functions.append(function)
    model.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    compared(model, {"x": x}, tmp_path, ["Lookup"])


def test_old_sets_are_converted_and_so_it_is_said(rng, tmp_path):
    """Set 10 had QuantizeLinear, and Clip with attributes."""
    x = draw(rng, (1, 2, 4, 4), np.int8)
    constants = powers("x", rng, np.int8) | powers("y", rng, np.int8)
    nodes = [dequantised("x"), ("Clip", ["x_d"], ["f"], {"min": -0.5, "max": 1.5}), stored("f", "y")]
    model = make_model(nodes, {"x": x}, ["y"], constants, 10)
    compared(model, {"x": x}, tmp_path, ["Lookup"])
    assert load(model, tmp_path).notes == ["operator set 10 has been converted to 13 by onnx.version_converter"]


def test_free_height_and_width(rng, tmp_path):
    """Sizes that the file leaves free are those of the input, and shapes that follow from them are computed."""
    nodes, constants, x = product(rng, "Conv")
    constants |= powers("y", rng, np.int8, -1, 2) | {"minus": np.array([-1]), "zero": np.array(0)}
    nodes += [("Shape", ["f"], ["shape"], {}), ("Gather", ["shape", "zero"], ["n"], {}),
              ("Unsqueeze", ["n", "axes"], ["n1"], {}), ("Concat", ["n1", "minus"], ["rows"], {"axis": 0}),
              ("Reshape", ["f", "rows"], ["g"], {}), stored("g", "y")]
    constants["axes"] = np.array([0])
    model = make_model(nodes, {"x": x}, ["y"], constants, 15)
    for axis, name in ((0, "n"), (2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    for size in ((1, 3, 5, 4), (3, 3, 8, 3)):
        x = draw(rng, size, np.int8)
        assert compared(model, {"x": x}, tmp_path).tensors["y"].shape[0] == size[0]


def test_quick_gelu_and_alpha(rng, tmp_path):
    """Forms of one function differ by their attributes."""
    x = draw(rng, (4, 64), np.int8)
    for node, attributes in ((f"{MICROSOFT}:QuickGelu", {"alpha": 1.702}), (f"{MICROSOFT}:QuickGelu", {"alpha": 0.5})):
        constants = powers("x", rng, np.int8) | {"y_s": np.float32(0.02), "y_z": np.int8(-100)}
        model = make_model([dequantised("x"), (node, ["x_d"], ["f"], attributes), stored("f", "y")], {"x": x}, ["y"],
                           constants)
        compared(model, {"x": x}, tmp_path, ["Lookup"])


def test_stages_between_are_not_left_out(rng, tmp_path):
    """A pair between two functions is a rounding of its own."""
    x = rng.uniform(-4, 4, (3, 5)).astype(np.float32)
    constants = {key: value for name in "xyz" for key, value in quantisation(rng, name, np.int8, 0.03, 0.06).items()}
    nodes = [*stage("x"), ("Sigmoid", ["x_d"], ["y"], {}), *stage("y"), ("Exp", ["y_d"], ["z"], {}), *stage("z")]
    compared(make_model(nodes, {"x": x}, ["z_d"], constants), {"x": x}, tmp_path,
             ["Quantize", "Lookup", "Lookup", "Dequantize"])
