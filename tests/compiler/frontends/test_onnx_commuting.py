"""Limits, maxima and moves of float tensors, which commute with rounding, against onnxruntime."""

import numpy as np
import onnx
import pytest
from onnx_chain import MAX, compared, dequantised, powers, product, stored
from onnx_models import draw, load, make_model, qdq_reference
from random_workloads import interpret

import pearray as pe
from pearray.compiler.frontends.onnx.storing import BEFORE


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


MOVES = {
    "Flatten": ([], {}), "Reshape": ([np.array([4, -1])], {}), "Transpose": ([], {"perm": [0, 2, 3, 1]}),
    "Squeeze": ([np.array([0])], {}), "Unsqueeze": ([np.array([0])], {}), "MaxPool": ([], MAX),
    "Slice": ([np.array([0]), np.array([2]), np.array([1])], {}), "Pad": ([np.array([0, 0, 1, 0, 0, 0, 0, 0])], {}),
    "Gather": ([np.array([1, 0])], {"axis": 1}), "Tile": ([np.array([1, 2, 1, 1])], {}), "GlobalMaxPool": ([], {}),
    "DepthToSpace": ([], {"blocksize": 2}),
}


@pytest.mark.parametrize("kind", ["Add", "Mul", "AveragePool", "GlobalAveragePool", "Softmax"])
@pytest.mark.parametrize("move", MOVES)
def test_halves_before_moves(rng, tmp_path, kind, move):
    """The runtime fuses an operator before some moves alone; its kernels round halves with the zero point inside."""
    for _ in range(3):
        inputs = {"x": draw(rng, (1, 4, 4, 4), np.int8)}
        constants = powers("x", rng, np.int8) | powers("y", rng, np.int8, 2, 5)
        constants["y_z"] = np.int8(constants["y_z"] | 1)
        if kind == "Softmax":
            constants |= {"y_s": np.float32(1 / 256), "y_z": np.int8(-127)}
        nodes, sources = [dequantised("x")], ["x_d"]
        if kind in ("Add", "Mul"):
            inputs["b"] = draw(rng, (1, 4, 4, 4), np.int8)
            constants |= powers("b", rng, np.int8)
            nodes.append(dequantised("b"))
            sources.append("b_d")
        extra, attributes = MOVES[move]
        if kind == "GlobalAveragePool" and move in ("MaxPool", "Pad"):
            continue
        names = [f"e{place}" for place in range(len(extra))]
        constants |= dict(zip(names, extra, strict=True))
        nodes += [(kind, sources, ["f"], {"kernel_shape": [2, 2]} if kind == "AveragePool" else {}),
                  (move, ["f", *names], ["g"], attributes), stored("g", "y")]
        if kind == "AveragePool" and move == "DepthToSpace":
            nodes[-3][3]["strides"] = [2, 2]
        model = make_model(nodes, inputs, ["y"], constants)
        if kind == "Softmax" and move not in BEFORE:
            with pytest.raises(pe.PearrayError, match="onnxruntime computes Softmax with real numbers"):
                load(model, tmp_path).graph()
            continue
        compared(model, inputs, tmp_path)


@pytest.mark.parametrize("move", [None, "Flatten", "Transpose", "GlobalMaxPool", "Dropout"])
@pytest.mark.parametrize("fixed", [True, False])
def test_halves_of_one_tensor(rng, tmp_path, move, fixed):
    """A sum with a constant, or a square, is a table by the same rules."""
    for _ in range(3):
        x = draw(rng, (1, 4, 4, 4), np.int8)
        constants = powers("x", rng, np.int8) | powers("b", rng, np.int8) | powers("y", rng, np.int8, 2, 5)
        constants |= {"y_z": np.int8(constants["y_z"] | 1), "b": draw(rng, (1, 4, 1, 1), np.int8)}
        nodes = [dequantised("x"), dequantised("b"), ("Add", ["x_d", "b_d"], ["f"], {})] if fixed else [
            dequantised("x"), ("Mul", ["x_d", "x_d"], ["f"], {})]
        nodes += [(move, ["f"], ["g"], {})] if move else []
        model = make_model([*nodes, stored("g" if move else "f", "y")], {"x": x}, ["y"], constants)
        compared(model, {"x": x}, tmp_path)


@pytest.mark.parametrize("kind", ["Add", "Mul"])
def test_halves_of_what_several_read(rng, tmp_path, kind):
    """What two store is computed with real numbers, and stored twice."""
    inputs = {name: draw(rng, (1, 4, 4, 4), np.int8) for name in "xb"}
    constants = powers("x", rng, np.int8) | powers("b", rng, np.int8) | powers("y", rng, np.int8, 2, 5)
    constants |= {"y_z": np.int8(constants["y_z"] | 1), "u_s": np.float32(constants["y_s"] * 2), "u_z": np.int8(5)}
    nodes = [dequantised("x"), dequantised("b"), (kind, ["x_d", "b_d"], ["f"], {}), stored("f", "y"), stored("f", "u"),
             ("Concat", ["y", "u"], ["v"], {"axis": 1})]
    compared(make_model(nodes, inputs, ["v"], constants), inputs, tmp_path)


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


def float_parts(rng):
    """Nodes of three float tensors, of sums and dequantised with two scales, their constants and their inputs."""
    nodes, constants, x = product(rng, "Conv")
    nodes[2] = ("Conv", ["x_d", "w_d"], ["a"], {})
    inputs = {"x": x} | {name: draw(rng, (2, 3, 5, 5), np.int8) for name in "bc"}
    for name in "bc":
        constants |= powers(name, rng, np.int8)
    nodes += [dequantised("b"), dequantised("c")]
    return nodes, constants | powers("y", rng, np.int8, 0, 3), inputs


@pytest.mark.parametrize("behind", [None, "Relu", "MaxPool"])
def test_tensors_of_all_kinds_side_by_side(rng, tmp_path, behind):
    """Each part is stored in the scale of the whole, and stands where it would have stood as real numbers."""
    nodes, constants, inputs = float_parts(rng)
    constants["k"] = rng.normal(size=(2, 2, 5, 5)).astype(np.float32)
    nodes += [("Sigmoid", ["b_d"], ["s"], {}), ("Concat", ["a", "s", "k", "c_d"], ["f"], {"axis": 1})]
    nodes += [(behind, ["f"], ["g"], MAX if behind == "MaxPool" else {})] if behind else []
    model = make_model([*nodes, stored("g" if behind else "f", "y")], inputs, ["y"], constants)
    compared(model, inputs, tmp_path)


@pytest.mark.parametrize("value", [None, 0.0, 0.3, -9.0])
@pytest.mark.parametrize("source", ["a", "b_d"])
def test_padding_with_what_no_step_is(rng, tmp_path, value, source):
    """A value beside a tensor is rounded as the tensor is, not to the steps in which that came."""
    nodes, constants, inputs = float_parts(rng)
    constants["pads"] = np.array([0, 1, 0, 2, 0, 0, 1, 0])
    if value is not None:
        constants["value"] = np.float32(value)
    nodes += [("Pad", [source, "pads", "" if value is None else "value"], ["f"], {}), ("Relu", ["f"], ["g"], {})]
    kept, others = ("x", ("b_d", "c_d")) if source == "a" else ("b", ("x_d", "w_d", "a", "c_d"))
    nodes = [node for node in nodes if node[2][0] not in others]
    model = make_model([*nodes, stored("g", "y")], {kept: inputs[kept]}, ["y"], constants)
    compared(model, {kept: inputs[kept]}, tmp_path)


def test_parts_of_sums(rng, tmp_path):
    """Both parts are of one convolution, which is computed once."""
    nodes, constants, inputs = float_parts(rng)
    nodes = [*nodes[:3], ("Split", ["a"], ["f", "g"], {"axis": 1}), stored("f", "y"),
             ("QuantizeLinear", ["g", "y_s", "y_z"], ["z"], {}), ("Concat", ["z", "y"], ["u"], {"axis": 1})]
    model = make_model(nodes, {"x": inputs["x"]}, ["u"], constants)
    graph = compared(model, {"x": inputs["x"]}, tmp_path)
    assert [node.operator.kind for node in graph.nodes].count("Conv2d") == 1
