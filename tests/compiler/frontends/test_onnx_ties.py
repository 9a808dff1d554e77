"""Results that lie exactly half-way between two outputs, of which many runtimes' kernels make one or the other.

All scales are powers of two or three times one, so that float32 holds every number on the way and the standard leaves
nothing open: ``saturate(round_half_even(x / y_scale) + y_zero_point)``. onnxruntime equals it without optimisations.
With them it fuses some operators whose tensors have one type, and the golden model equals those kernels.
"""

import itertools

import numpy as np
import pytest
from onnx_models import load, make_model, runtime, stage

#: What stands between DequantizeLinear and QuantizeLinear: nodes from a (and b) to f, and the same in float64.
FORMS = {
    "add": ([("Add", ["a_d", "b_d"], ["f"], {})], lambda a, b: a + b),
    "added and limited": ([("Add", ["a_d", "b_d"], ["s"], {}), ("Relu", ["s"], ["f"], {})],
                          lambda a, b: np.maximum(a + b, 0)),
    "subtract": ([("Sub", ["a_d", "b_d"], ["f"], {})], lambda a, b: a - b),
    "multiply": ([("Mul", ["a_d", "b_d"], ["f"], {})], lambda a, b: a * b),
    "multiplied and limited": ([("Mul", ["a_d", "b_d"], ["s"], {}), ("Relu", ["s"], ["f"], {})],
                               lambda a, b: np.maximum(a * b, 0)),
    "average": ([("AveragePool", ["a_d"], ["f"], {"kernel_shape": [1, 2], "strides": [1, 2]})],
                lambda a: (a[..., ::2] + a[..., 1::2]) / 2),
    "averaged and limited": ([("AveragePool", ["a_d"], ["s"], {"kernel_shape": [1, 2], "strides": [1, 2]}),
                              ("Relu", ["s"], ["f"], {})],
                             lambda a: np.maximum((a[..., ::2] + a[..., 1::2]) / 2, 0)),
    "window of an image": ([("AveragePool", ["i_d"], ["f"], {"kernel_shape": [2, 2], "strides": [2, 2]})],
                           lambda i: i.mean((2, 3), keepdims=True)),
    "image": ([("GlobalAveragePool", ["i_d"], ["f"], {})], lambda i: i.mean((2, 3), keepdims=True)),
    "image limited": ([("GlobalAveragePool", ["i_d"], ["s"], {}), ("Relu", ["s"], ["f"], {})],
                      lambda i: np.maximum(i.mean((2, 3), keepdims=True), 0)),
    "conv": ([("Conv", ["a_d", "w_d"], ["f"], {})], lambda a, w: np.einsum("nchw,mcij->nmhw", a, w)),
    "conv transpose": ([("ConvTranspose", ["a_d", "w_d"], ["f"], {})], lambda a, w: np.einsum("nchw,cmij->nmhw", a, w)),
    "matmul": ([("MatMul", ["m_d", "v_d"], ["f"], {})], lambda m, v: m @ v),
    "gemm": ([("Gemm", ["m_d", "v_d"], ["f"], {})], lambda m, v: m @ v),
    "moved": ([("Identity", ["a_d"], ["f"], {})], lambda a: a),
    "greatest": ([("MaxPool", ["a_d"], ["f"], {"kernel_shape": [1, 1]})], lambda a: a),
    "relu": ([("Relu", ["a_d"], ["f"], {})], lambda a: np.maximum(a, 0)),
    "clip": ([("Clip", ["a_d", "low", "high"], ["f"], {})], lambda a: np.clip(a, -0.75, 2)),
    "leaky relu": ([("LeakyRelu", ["a_d"], ["f"], {"alpha": 0.5})], lambda a: np.where(a < 0, a / 2, a)),
    "hard sigmoid": ([("HardSigmoid", ["a_d"], ["f"], {"alpha": 0.25, "beta": 0.5})],
                     lambda a: np.clip(a / 4 + 0.5, 0, 1)),
}

TYPES = ("int8", "uint8")


def _model(rng, nodes, kinds, step):
    """Model of some nodes, its inputs, and the real values of all tensors; `step` is the output's scale in inputs'."""
    used = {name.removesuffix("_d") for node in nodes for name in node[1] if name.endswith("_d")}
    shapes = {"a": (1, 7, 2, 28), "b": (1, 7, 2, 28), "i": (1, 80, 2, 2), "m": (25, 7), "v": (7, 6), "w": (7, 7, 1, 1)}
    constants, inputs, reals, first, product = {"low": np.float32(-0.75), "high": np.float32(2)}, {}, {}, [], 1.0
    for name, kind in zip(sorted(used), kinds, strict=False):
        info, narrow = np.iinfo(kind), name in "wv"
        # Weights are small, since the runtime's products of uint8 and int8 saturate.
        scale = np.float32(2.0 ** rng.integers(-7, -4))
        zero = int(rng.integers(*((0, 9) if narrow else (info.min, info.max + 1))))
        if name == "b":
            # Of the scale of a, for many halves.
            scale = constants["a_scale"]
        product *= 1.0 if name == "b" and nodes[0][0] != "Mul" else float(scale)
        stored = rng.integers(*((zero, zero + 3) if narrow else (info.min, info.max + 1)), shapes[name]).astype(kind)
        constants |= {f"{name}_scale": scale, f"{name}_zero": np.array(zero, kind)}
        (constants if narrow else inputs)[name] = stored
        first.append(("DequantizeLinear", [name, f"{name}_scale", f"{name}_zero"], [f"{name}_d"], {}))
        reals[name] = (stored.astype(np.float64) - zero) * float(scale)
    constants["y_scale"] = np.float32(product * step)
    names = {name for node in [*first, *nodes] for name in node[1]} | {"y_scale"}
    return first, {name: value for name, value in constants.items() if name in names}, inputs, reals


@pytest.mark.parametrize("form", FORMS)
def test_halves(form, rng, tmp_path):
    """A kernel with the zero point inside the rounding sends every half to the other side if that point is odd."""
    nodes, function = FORMS[form]
    # A third is no float32, so that kernels that multiply sums of products by it round twice.
    steps = (2, 4) if form in ("conv", "conv transpose", "matmul", "gemm") else (2, 4, 6)
    steps = (2, 16, 64) if form.startswith("multipl") else steps
    halves = kernels = 0
    for *kinds, kind in itertools.product(TYPES, repeat=3):
        info = np.iinfo(kind)
        odd, even = int(rng.integers(info.min, info.max)) | 1, int(rng.integers(info.min, info.max)) & ~1
        for zero in (info.min, info.max, odd, even, 1):
            first, constants, inputs, reals = _model(rng, nodes, kinds, rng.choice(steps))
            constants["y_zero"] = np.array(zero, kind)
            model = make_model([*first, *nodes, ("QuantizeLinear", ["f", "y_scale", "y_zero"], ["y"], {})], inputs,
                               ["y"], constants, opset=21)
            quotient = function(*(reals[name] for name in sorted(reals))) / float(constants["y_scale"])
            halves += int((np.abs(quotient - np.rint(quotient)) == 0.5).sum())
            standard = np.clip(np.rint(quotient) + zero, info.min, info.max).astype(kind)
            plain, (optimised, fused) = (runtime(model, inputs, tmp_path, level) for level in (False, True))
            np.testing.assert_array_equal(plain[0], standard)
            kernels += fused
            got = load(model, tmp_path).graph().golden(inputs)["y"]
            np.testing.assert_array_equal(got, optimised if fused else standard, f"{kinds} {kind} {zero}")
    # Without halves nothing would be compared.
    assert halves > 100
    assert kernels > 0 or form in ("subtract", "conv transpose", "moved", "greatest", "relu", "clip", "hard sigmoid")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, {"ceil_mode": 1}])
def test_windows_of_whole_images(kind, attributes, rng, tmp_path):
    """The runtime's kernel adds integers there; float32's sum of scaled elements is not that, for most scales."""
    x = rng.integers(0, 100, (1, 300, 2, 2)).astype(kind)
    constants = {"x_scale": np.float32(0.03), "x_zero": np.array(0, kind), "y_scale": np.float32(0.015),
                 "y_zero": np.array(7, kind)}
    model = make_model([("DequantizeLinear", ["x", "x_scale", "x_zero"], ["a"], {}),
                        ("AveragePool", ["a"], ["f"], {"kernel_shape": [2, 2], **attributes}),
                        ("QuantizeLinear", ["f", "y_scale", "y_zero"], ["y"], {})], {"x": x}, ["y"], constants)
    expected, is_kernel = runtime(model, {"x": x}, tmp_path, True)
    assert is_kernel
    np.testing.assert_array_equal(load(model, tmp_path).graph().golden({"x": x})["y"], expected)


@pytest.mark.parametrize("others", [
    [("Relu", ["f"], ["o"], {})], [("QuantizeLinear", ["f", "x_scale", "x_zero"], ["o"], {})],
    [("Identity", ["f"], ["o"], {})], [("Shape", ["f"], ["o"], {})], [("Dropout", ["f"], ["o"], {})],
    [("QuantizeLinear", ["f", "y_scale", "y_zero"], ["o"], {})], [("QuantizeLinear", ["f", "y_scale"], ["o"], {})],
    [("Reshape", ["f", "shape"], ["g"], {}), ("Relu", ["g"], ["o"], {})],
])
@pytest.mark.parametrize("kind", ["Add", "Mul"])
def test_readers_without_results(kind, others, rng, tmp_path):
    """The runtime fuses no operator whose result a node reads, though nobody reads what that makes."""
    x = np.arange(256, dtype=np.uint8).reshape(2, 128)
    constants = {"x_scale": np.float32(0.125), "x_zero": np.uint8(4), "y_scale": np.float32(0.5),
                 "y_zero": np.uint8(63)}
    if others[0][0] == "Reshape":
        constants["shape"] = np.array([256], np.int64)
    model = make_model([("DequantizeLinear", ["x", "x_scale", "x_zero"], ["a"], {}), (kind, ["a", "a"], ["f"], {}),
                        *others, ("QuantizeLinear", ["f", "y_scale", "y_zero"], ["y"], {})], {"x": x}, ["y"], constants)
    expected, is_kernel = runtime(model, {"x": x}, tmp_path, True)
    assert is_kernel == (others[0][0] in ("Identity", "Shape", "Dropout") or "y_zero" in others[0][1])
    np.testing.assert_array_equal(load(model, tmp_path).graph().golden({"x": x})["y"], expected)


def test_pairs_in_a_row(rng, tmp_path):
    """Each of two pairs rounds, as the standard has it; one left out would move elements by a step."""
    x = rng.normal(0, 2, 500).astype(np.float32)
    constants = {"x_scale": np.float32(0.125), "x_zero": np.uint8(4), "y_scale": np.float32(0.1),
                 "y_zero": np.uint8(63)}
    model = make_model([*stage("x"), ("QuantizeLinear", ["x_d", "y_scale", "y_zero"], ["y"], {})], {"x": x}, ["y"],
                       constants)
    got = load(model, tmp_path).graph().golden({"x": x})["y"]
    np.testing.assert_array_equal(got, runtime(model, {"x": x}, tmp_path, False)[0])
    once = np.clip(np.rint(x / np.float32(0.1)) + 63, 0, 255)
    assert (got != once).any()
