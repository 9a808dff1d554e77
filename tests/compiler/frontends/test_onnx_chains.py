"""Functions of one stored tensor between DequantizeLinear and QuantizeLinear, against onnxruntime."""

import numpy as np
import onnx
import pytest
from onnx_chain import compared, dequantised, powers, product, stored
from onnx_models import MICROSOFT, draw, load, make_model, quantisation, stage

import pearray as pe

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
    compared(model, {"x": x}, tmp_path, kinds)


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


def test_float_function_as_output(rng, tmp_path):
    """A function of a stored tensor that nobody quantises is a table of real numbers on the host."""
    x, constants = draw(rng, (3, 5), np.uint8), powers("x", rng, np.uint8)
    constants["k"] = rng.normal(size=5).astype(np.float32)
    nodes = [dequantised("x"), ("Add", ["x_d", "k"], ["f"], {}), ("Sigmoid", ["f"], ["g"], {})]
    compared(make_model(nodes, {"x": x}, ["g"], constants), {"x": x}, tmp_path, ["RealTable"])


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
