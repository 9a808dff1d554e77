"""What follows sums of products: factors, biases, real numbers as results, against onnxruntime."""

import numpy as np
import pytest
from onnx_chain import compared, powers, product, stored
from onnx_models import draw, load, make_model, qdq_reference, quantisation
from random_workloads import interpret

import pearray as pe

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


@pytest.mark.parametrize("kind", ["ConvInteger", "MatMulInteger"])
def test_integer_sums_with_zero_points(rng, tmp_path, kind):
    """Sums alone are results, of operands whose zero points have been taken away; padding is of zero points."""
    shapes = ((1, 3, 5, 6), (4, 3, 3, 2)) if kind == "ConvInteger" else ((2, 3, 7), (7, 4))
    for x_type, w_type in ((np.uint8, np.int8), (np.uint8, np.uint8)):
        x, w = draw(rng, shapes[0], x_type), draw(rng, shapes[1], w_type)
        constants = {"w": w, "z": x_type(77), "v": w_type(9)}
        attributes = {"pads": [1, 0, 1, 2], "strides": [2, 1]} if kind == "ConvInteger" else {}
        model = make_model([(kind, ["x", "w", "z", "v"], ["y"], attributes)], {"x": x}, ["y"], constants)
        graph = compared(model, {"x": x}, tmp_path)
    interpret(graph, {"x": x}, pe.load_config("systolic-8x8").hardware)
