"""An ONNX network of many operators on the RTL, against onnxruntime on every tensor."""

import re

import numpy as np
import onnx_draw
import onnx_draw_integer
import pytest
from onnx_models import MICROSOFT, draw, load, make_model, quantisation, reference

import pearray as pe

FAMILIES = onnx_draw.FAMILIES | onnx_draw_integer.FAMILIES

#: What the import refuses, and what 8-bit integers can't hold or follow.
REFUSED = r"^node |can't be computed exactly|at most 8 bits|has no lowering|takes two tensors of one shape"


def network(rng, x):
    """Dense, strided and depthwise convolutions, pooling in ceil_mode, a residual addition, a table, a product."""
    def scale(low, high, count=None):
        return rng.uniform(low, high, count).astype(np.float32) if count else np.float32(rng.uniform(low, high))

    constants = quantisation(rng, "x", np.int8, 0.02, 0.05)
    shapes = {"wa": (12, 5, 3, 3), "wb": (12, 1, 3, 2), "wc": (12, 6, 1, 1), "wd": (12 * 6, 7)}
    for name, shape in shapes.items():
        constants |= {name: draw(rng, shape, np.int8), f"{name}_zero": np.int8(0)}
    constants |= {"wa_scale": scale(0.001, 0.002, 12), "wb_scale": scale(0.004, 0.008, 12),
                  "wc_scale": scale(0.003, 0.006), "wd_scale": scale(0.002, 0.004), "shape": np.array([2, -1]),
                  "ba": rng.integers(-900, 900, 12).astype(np.int32)}
    for name in "acdefgh":
        constants |= quantisation(rng, name, np.int8, 0.02, 0.06)
    constants |= {"s_scale": np.float32(1 / 256), "s_zero": np.int8(-128)}

    def stored(name):
        return [name, f"{name}_scale", f"{name}_zero"]

    def end(name):
        return stored(name)[1:]

    nodes = [
        ("QLinearConv", [*stored("x"), *stored("wa"), *end("a"), "ba"], ["a"], {"pads": [1, 1, 0, 1]}),
        ("MaxPool", ["a"], ["b"], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
        ("QLinearConv", ["b", *end("a"), *stored("wb"), *end("c")], ["c"], {"group": 12, "pads": [1, 1, 1, 0]}),
        ("QLinearConv", ["c", *end("c"), *stored("wc"), *end("d")], ["d"], {"group": 2}),
        (f"{MICROSOFT}:QLinearAdd", ["d", *end("d"), "c", *end("c"), *end("e")], ["e"], {}),
        (f"{MICROSOFT}:QLinearLeakyRelu", ["e", *end("e"), *end("f")], ["f"], {"alpha": 0.1}),
        (f"{MICROSOFT}:QLinearAveragePool", ["f", *end("f"), *end("g")], ["g"],
         {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Reshape", ["g", "shape"], ["flat"], {}),
        (f"{MICROSOFT}:QGemm", ["flat", *end("g"), *stored("wd"), "", *end("h")], ["h"], {}),
        (f"{MICROSOFT}:QLinearSigmoid", ["h", *end("h"), *end("s")], ["s"], {}),
    ]
    return make_model(nodes, {"x": x}, ["s"], constants)


def test_network_equals_onnxruntime_on_every_tensor(rng, tmp_path):
    """A layout, a scale or a memory plan that is wrong between two layers shows in no single operator's test."""
    x = draw(rng, (2, 5, 8, 11), np.int8)
    model = network(rng, x)
    expected = reference(model, {"x": x})
    result = pe.run(load(model, tmp_path), {"x": x}, on="systolic-8x8", keep="all")
    assert set(expected) <= set(result.outputs)
    for name, value in expected.items():
        assert result.outputs[name].dtype == value.dtype, name
        np.testing.assert_array_equal(result.outputs[name], value, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_models_on_the_rtl(family, seed, tmp_path):
    """A type, a zero point or a range that the compiler reads otherwise than the golden model does."""
    done, number = 0, 0
    while done < 3:
        number += 1
        assert number < 20, "the import refuses nearly all"
        case = FAMILIES[family](np.random.default_rng([seed, number, 1]))
        model = make_model(case.nodes, case.inputs, [case.output], case.constants, case.opset)
        try:
            graph = load(model, tmp_path).graph()
            expected = graph.golden(case.inputs)[case.output]
            actual = pe.run(graph, case.inputs, on="systolic-8x8", effort=0).outputs[case.output]
        except pe.PearrayError as error:
            if re.search(REFUSED, str(error)):
                continue
            raise
        done += 1
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected, str(case.nodes))


@pytest.mark.parametrize(("operator", "tensors", "expected"), [
    (pe.Add(1.0, 0, 1.0, 0, 2.0, np.uint8(1)), {"a": np.int8([[[[1, 3, 5, 7]]]]), "b": np.zeros((1, 1, 1, 4), np.int8)},
     np.uint8([1, 3, 3, 5])),
    (pe.AvgPool2d((1, 2), x_scale=1.0, y_scale=1.0, y_zero_point=np.uint8(1)), {"x": np.int8([[[[0, 1, 1, 2]]]])},
     np.uint8([1, 3])),
    (pe.AvgPool2d(x_scale=1.0, y_scale=1.0, y_zero_point=np.uint8(1)), {"x": np.int8([[[[0, 1]], [[1, 2]]]])},
     np.uint8([1, 3])),
    (pe.Add(1.0, 0, 1.0, 0, 2.0, 1), {"a": np.int8([[[[1, 3, 5, 7]]]]), "b": np.zeros((1, 1, 1, 4), np.int8)},
     np.int8([2, 2, 4, 4])),
], ids=["add", "average", "image", "fused add"])
def test_halves_on_the_rtl(operator, tensors, expected):
    """Written out: 0.5 and 1.5 become 0 and 2, and then the zero point is added; fused kernels add it first."""
    result = pe.run(operator, tensors, on="systolic-8x8").outputs["y"]
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.ravel(), expected)
