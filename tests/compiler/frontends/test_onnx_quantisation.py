"""Scales, zero points and types of ONNX networks: fixed cases of each that was once dropped or misread."""

import re

import numpy as np
import onnx
import pytest
from onnx_models import MICROSOFT, load, make_model, reference

import pearray as pe
from pearray.compiler.frontends.onnx.refusals import ADVICE

INT4, UINT4, INT8, UINT8, FLOAT16 = (getattr(onnx.TensorProto, name) for name in (
    "INT4", "UINT4", "INT8", "UINT8", "FLOAT16"))

X = np.arange(-24, 24, dtype=np.int8).reshape(1, 3, 4, 4)
SCALES = {"x_s": np.float32(0.5), "x_z": np.int8(2), "w_s": np.float32(0.25), "w_z": np.int8(0), "y_s": np.float32(2)}
WEIGHTS = {"w": (np.arange(12, dtype=np.int8) * 7 % 23 - 11).reshape(4, 3, 1, 1),
           "v": (np.arange(12, dtype=np.int8) * 5 % 19 - 9).reshape(3, 4)}

#: Operators between dequantised x, or rows of it, and a float result "f".
OPERATORS = {
    "Conv": [("Conv", ["x_d", "w_d"], ["f"], {})],
    "ConvTranspose": [("ConvTranspose", ["x_d", "u_d"], ["f"], {})],
    "Gemm": [("Gemm", ["r_d", "v_d"], ["f"], {})],
    "MatMul": [("MatMul", ["r_d", "v_d"], ["f"], {})],
    "Add": [("Add", ["x_d", "x_d"], ["f"], {})],
    "Sub": [("Sub", ["x_d", "x_d"], ["f"], {})],
    "Mul": [("Mul", ["x_d", "x_d"], ["f"], {})],
    "AveragePool": [("AveragePool", ["x_d"], ["f"], {"kernel_shape": [2, 2]})],
    "GlobalAveragePool": [("GlobalAveragePool", ["x_d"], ["f"], {})],
    "MaxPool": [("MaxPool", ["x_d"], ["f"], {"kernel_shape": [2, 2]})],
    "Relu": [("Relu", ["x_d"], ["f"], {})],
    "Sigmoid": [("Sigmoid", ["x_d"], ["f"], {})],
}


def network(operator, end, constants, opset=21, output="y"):
    """Model of x and its rows, dequantised, an operator, and a QuantizeLinear with `end` for inputs and attributes."""
    weights = {"w": ["w", "w_s", "w_z"], "u": ["u", "w_s", "w_z"], "v": ["v", "w_s", "w_z"]}
    operator = OPERATORS[operator] if isinstance(operator, str) else operator
    used = {name for node in operator for name in node[1]}
    nodes = [("DequantizeLinear", ["x", "x_s", "x_z"], ["x_d"], {}),
             ("DequantizeLinear", ["r", "x_s", "x_z"], ["r_d"], {}),
             *(("DequantizeLinear", sources, [f"{name}_d"], {}) for name, sources in weights.items())]
    nodes = [node for node in nodes if node[2][0] in used] + [
        *([("DequantizeLinear", ["b", "b_s", *(["b_z"] if "b_z" in constants else [])], ["b_d"], {"axis": 0})]
          if "b_d" in used else []), *operator]
    if end is not None:
        nodes.append(("QuantizeLinear", ["f", *end[0]], [output], end[1]))
    inputs = {name: value for name, value in (("x", X), ("r", X[0, :, :, 0].T.copy())) if f"{name}_d" in used}
    constants = SCALES | WEIGHTS | {"u": WEIGHTS["w"].reshape(3, 4, 1, 1)} | constants
    kept = {name for node in nodes for name in node[1]}
    return make_model(nodes, inputs, [output], {name: constants[name] for name in kept & set(constants)}, opset), inputs


def check(model, inputs, folder, output="y"):
    """Compare an output whose sums float32 holds exactly with the runtime's float operators."""
    expected = reference(model, inputs, [output])[output]
    got = load(model, folder).graph().golden(inputs)[output]
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    return got


def refusal(model, folder):
    """Message of the error of a network, without the advice that those end with which are no mistakes of the file."""
    with pytest.raises(pe.PearrayError) as caught:
        load(model, folder).graph()
    return str(caught.value).removesuffix(ADVICE)


@pytest.mark.parametrize("operator", OPERATORS)
def test_without_a_zero_point_results_are_uint8(tmp_path, operator):
    """The standard says so; as int8 the upper half of them would be cut off."""
    got = check(*network(operator, (["y_s"], {}), {}), tmp_path)
    assert got.dtype == np.uint8


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("kind", [INT8, UINT8])
def test_output_dtype(tmp_path, operator, kind):
    """From operator set 21 on an attribute names the type."""
    got = check(*network(operator, (["y_s"], {"output_dtype": kind}), {}), tmp_path)
    assert got.dtype == (np.int8 if kind == INT8 else np.uint8)


# A tensor less itself reaches no bound, nor does a sigmoid.
@pytest.mark.parametrize("operator", sorted({*OPERATORS} - {"Sigmoid", "Sub"}))
@pytest.mark.parametrize("zero", [None, 3])
@pytest.mark.parametrize("kind", [INT4, UINT4])
def test_results_of_four_bits(tmp_path, operator, zero, kind):
    """Four bits end at -8 and 7 or at 0 and 15, however wide the integer is that holds them."""
    end, constants = (["q_s"], {"output_dtype": kind}), {"q_s": np.float32(0.25)}
    if zero is not None:
        end = ["q_s", "q_z"], {}
        constants["q_z"] = onnx.helper.make_tensor("q_z", kind, [], [zero])
    model, inputs = network(operator, end, constants, output="q")
    # The runtime hands out no tensors of four bits.
    model.graph.node.append(onnx.helper.make_node("DequantizeLinear", ["q", *end[0]], ["y"]))
    model.graph.output[0].name = "y"
    got = check(model, inputs, tmp_path)
    low, high = (-8, 7) if kind == INT4 else (0, 15)
    assert got.min() >= (low - (zero or 0)) / 4
    assert got.max() == (high - (zero or 0)) / 4


def test_constants_that_the_file_quantises_to_four_bits(tmp_path):
    """A weight beyond the range ends at its bound when the network is read, too."""
    constants = {"float": np.linspace(-4, 4, 12, dtype=np.float32).reshape(3, 4),
                 "f_z": onnx.helper.make_tensor("f_z", INT4, [], [0])}
    nodes = [("QuantizeLinear", ["float", "w_s", "f_z"], ["q"], {}),
             ("DequantizeLinear", ["q", "w_s", "f_z"], ["q_d"], {}), ("MatMul", ["r_d", "q_d"], ["f"], {})]
    check(*network(nodes, (["y_s", "x_z"], {}), constants), tmp_path)


BIASED = [("Conv", ["x_d", "w_d", "b_d"], ["f"], {})]
STEP = 0.5 * 0.25


@pytest.mark.parametrize("operator", [
    BIASED, [("ConvTranspose", ["x_d", "u_d", "b_d"], ["f"], {})], [("Gemm", ["r_d", "v_d", "b_d"], ["f"], {})]])
@pytest.mark.parametrize(("bias", "fields"), [
    (np.array([31, -70, 5, 9], np.int32), {"b_s": np.float32(STEP * 2)}),
    (np.array([30, -70, 4, 8], np.int32), {"b_s": np.float32(STEP / 2)}),
    (np.array([31, -70, 5, 9], np.int8), {"b_s": np.float32(STEP), "b_z": np.int8(4)}),
    (np.array([31, 70, 5, 9], np.uint8), {"b_s": np.full(4, STEP * 3, np.float32), "b_z": np.full(4, 7, np.uint8)}),
    (np.array([31, -70, 5, 9], np.int32), {"b_s": (STEP * np.array([1, 2, 3, 4])).astype(np.float32)}),
    # Products of scales below the least normal number, of which float32 loses more.
    (np.array([31, -488, 5, 9], np.int32), {"x_s": np.float32(0.31), "w_s": np.float32(1.9e-39),
                                            "b_s": np.float32(0.31) * np.float32(1.9e-39)}),
])
def test_biases_have_scales_and_zero_points(tmp_path, operator, bias, fields):
    """A bias means what its own scale and zero point say; what is a whole number of the sum's steps is exact."""
    check(*network(operator, (["y_s", "x_z"], {}), {"b": bias, **fields}), tmp_path)


@pytest.mark.parametrize(("bias", "fields", "message"), [
    (np.array([31, -70, 5, 9], np.int32), {"b_s": np.float32(0.001)},
     "node 'Conv of f' (Conv): scale of bias 'b' must be 0.125, the product of the operands' scales (with alpha and "
     "beta), or the bias a whole number of such steps, not 0.001, by which 31 is 0.248 steps"),
    (np.array([31, -70, 5, 9], np.int32), {"b_s": np.float32(STEP / 2)},
     "node 'Conv of f' (Conv): scale of bias 'b' must be 0.125, the product of the operands' scales (with alpha and "
     "beta), or the bias a whole number of such steps, not 0.0625, by which 31 is 15.5 steps"),
    (np.array([31, -70, 5, 1 << 30], np.int32), {"b_s": np.float32(STEP * 4)},
     "node 'Conv of f' (Conv): bias 'b' must be within int32 in steps of 0.125"),
    (np.array([31, -70, 5, 9], np.int32), {"b_s": np.float32(STEP), "b_z": np.int32(3)},
     "node 'DequantizeLinear of b_d' (DequantizeLinear): x_zero_point must be absent or 0 for int32, not 3"),
    (np.array([31, -70, 5, 9], np.int32), {"b_s": np.full(3, STEP, np.float32)},
     "node 'DequantizeLinear of b_d' (DequantizeLinear): x_scale must have one value or 4, as axis 0 of the tensor "
     "has, not 3"),
    (np.zeros(1, np.int32), {"b_s": np.float32(STEP)}, "node 'Conv of f' (Conv): b must have shape (4,), not (1,)"),
])
def test_biases_that_no_integer_sum_can_hold(tmp_path, bias, fields, message):
    """Rounded to whole steps, such a bias would change outputs now and then."""
    model, _ = network(BIASED, (["y_s", "x_z"], {}), {"b": bias, **fields})
    text = refusal(model, tmp_path)
    assert text.startswith(message)
    assert "\n" not in text


def test_biases_whose_scales_differ_by_a_rounding_are_the_same(tmp_path):
    """Quantisers multiply scales in float64 or in float32; what they write differs in the last place."""
    scales = {"x_s": np.float32(0.0123), "w_s": np.float32(0.00371)}
    product = scales["x_s"] * scales["w_s"]
    for scale in (product, np.nextafter(product, np.float32(0)), np.nextafter(product, np.float32(1))):
        model, _ = network(BIASED, (["y_s", "x_z"], {}), {"b": np.array([31, -70, 5, 900], np.int32), **scales,
                                                         "b_s": scale})
        graph = load(model, tmp_path).graph()
        assert graph.constants["b"].tolist() == [31, -70, 5, 900]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 0, -0.5])
@pytest.mark.parametrize("name", ["x_s", "w_s", "b_s", "y_s"])
def test_scales_are_finite_and_positive(tmp_path, name, value):
    """Nothing can be said of a tensor whose scale is no number, and a bias's scale is a scale."""
    constants = {"b": np.array([31, -70, 5, 9], np.int32), "b_s": np.float32(STEP)} | {name: np.float32(value)}
    model, _ = network(BIASED, (["y_s", "x_z"], {}), constants)
    assert re.fullmatch(rf"node '[^']*' \(\w+\): \w+_scale must be finite and above 0, not {np.float32(value)}",
                        refusal(model, tmp_path))
    for operator in ("Relu", "Add", "AveragePool", "Sigmoid"):
        if name in "x_s y_s":
            model, _ = network(operator, (["y_s", "x_z"], {}), {name: np.float32(value)})
            assert "scale must be finite and above 0" in refusal(model, tmp_path)


@pytest.mark.parametrize(("alpha", "beta", "scale"), [
    (2.0, 1.0, 2.0), (0.5, 1.0, 0.5), (0.5, 2.0, 0.25), (2.0, 0.5, 4.0), (1.0, 4.0, 0.5), (2.0, 1.0, 4.0),
    (1.0, 0.0, 1.0),
])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 4), (4, 1), (1,), ()])
def test_gemm_scales_its_product_and_its_addend(tmp_path, alpha, beta, scale, shape):
    """C is a real tensor of its own scale; alpha is not for it."""
    constants = {"b": np.arange(-7, -7 + int(np.prod(shape)), dtype=np.int32).reshape(shape) * 8,
                 "b_s": np.float32(STEP * scale)}
    node = [("Gemm", ["r_d", "v_d", "b_d"], ["f"], {"alpha": alpha, "beta": beta, "transB": 0})]
    check(*network(node, (["y_s", "x_z"], {}), constants), tmp_path)


@pytest.mark.parametrize(("attributes", "message"), [
    ({"alpha": 0.0}, "alpha must be finite and above 0, not 0.0"),
    ({"alpha": -1.0}, "alpha must be finite and above 0, not -1.0"),
    ({"alpha": float("nan")}, "alpha must be finite and above 0, not nan"),
    ({"beta": float("inf")}, "beta must be finite, not inf"),
])
def test_factors_of_gemm_are_numbers(tmp_path, attributes, message):
    """A factor that no scale can take up is refused by its own name."""
    constants = {"b": np.zeros(4, np.int32), "b_s": np.float32(STEP)}
    model, _ = network([("Gemm", ["r_d", "v_d", "b_d"], ["f"], attributes)], (["y_s", "x_z"], {}), constants)
    assert refusal(model, tmp_path) == f"node 'Gemm of f' (Gemm): {message}"


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_absent_zero_points_of_the_runtimes_operators_are_those_of_their_operands(tmp_path, dtype):
    """Scale and zero point of the runtime's own operators are of the type of the tensor."""
    x = np.arange(16).astype(dtype).reshape(1, 1, 4, 4) + (np.uint8(200) if dtype == np.uint8 else np.int8(-90))
    nodes = [(f"{MICROSOFT}:QLinearAveragePool", ["x", "s", "", "s"], ["p"], {"kernel_shape": [1, 1]}),
             (f"{MICROSOFT}:QLinearAdd", ["p", "s", "", "k", "s", "", "s"], ["a"], {}),
             (f"{MICROSOFT}:QLinearGlobalAveragePool", ["a", "s", "zero", "s", "zero"], ["y"], {})]
    model = make_model(nodes, {"x": x}, ["y"], {"s": np.float32(0.5), "k": dtype(3), "zero": dtype(0)})
    got = load(model, tmp_path).graph().golden({"x": x})
    assert {value.dtype for value in got.values()} == {np.dtype(dtype)}
    np.testing.assert_array_equal(got["p"], x)
    np.testing.assert_array_equal(got["a"], x + dtype(3))
    assert got["y"].item() == np.rint(x.mean() + 3)


def test_the_same_scale_in_another_type_is_not_the_same(tmp_path):
    """Values that uint8 can't hold end at 0 even where scale and zero point stay."""
    node = [("MaxPool", ["x_d"], ["f"], {"kernel_shape": [2, 2]})]
    check(*network(node, (["x_s"], {}), {"x_z": np.int8(0)}), tmp_path)


SOURCES = {"x": X, "s": np.float32(0.5), "z": np.int8(0)}
AXIS = {"m": np.zeros((4, 6), np.int8), "m_s": np.full(4, 0.5, np.float32), "m_z": np.zeros(4, np.int8),
        "shape": np.array([6, 4]), "rows": np.zeros((2, 6), np.int8)}


@pytest.mark.parametrize(("nodes", "constants", "message"), [
    ([("QuantizeLinear", ["d", "s", "z"], ["y"], {"block_size": 2})], {}, "block_size must be 0, not 2"),
    ([("QuantizeLinear", ["d", "s", "z"], ["y"], {"precision": FLOAT16})], {}, "precision must be float32 (1), not 10"),
    ([("QuantizeLinear", ["d", "s", "z"], ["y"], {"output_dtype": UINT8})], {},
     "output_dtype must be absent or the type of y_zero_point, not uint8"),
    ([("QuantizeLinear", ["d", "s"], ["y"], {"output_dtype": onnx.TensorProto.FLOAT8E4M3FN})], {},
     "output_dtype must be int8, uint8, int16, uint16, int4, uint4, int2 or uint2, not float8e4m3fn"),
    ([("QuantizeLinear", ["d", "h", "z"], ["y"], {})], {"h": np.float16(0.5)}, "y_scale must be float32, not float16"),
    ([("QuantizeLinear", ["d", "s", "zz"], ["y"], {})], {"zz": np.zeros(2, np.int8)},
     "y_zero_point must have one value or as many as y_scale (1), not 2"),
    ([("DequantizeLinear", ["x", "s", "u"], ["y"], {})], {"u": np.uint8(0)},
     "x_zero_point must be int8, as x is, not uint8"),
    ([("DequantizeLinear", ["x", "s", "z"], ["y"], {"output_dtype": FLOAT16})], {},
     "output_dtype must be float32 (1), not 10"),
    ([("DequantizeLinear", ["x", "ss"], ["y"], {"axis": 4})], {"ss": np.full(3, 0.5, np.float32)},
     "axis must be in -4..3, not 4"),
    ([("DequantizeLinear", ["x", "ss"], ["y"], {"axis": 2})], {"ss": np.full(3, 0.5, np.float32)},
     "x_scale must have one value or 4, as axis 2 of the tensor has, not 3"),
    ([("DequantizeLinear", ["m", "m_s", "m_z"], ["m_d"], {"axis": 0}), ("Reshape", ["m_d", "shape"], ["y"], {})], AXIS,
     "axis 0 of shape (4, 6), which has a scale for each index, must still be an axis of shape (6, 4)"),
    ([("AveragePool", ["d"], ["f"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1,
                                     "count_include_pad": 1}), ("QuantizeLinear", ["f", "s", "z"], ["y"], {})], {},
     "count_include_pad must be 0 where ceil_mode lets a window hang over the padding, not 1"),
    ([("MaxPool", ["d"], ["f"], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID", "ceil_mode": 1})], {},
     "ceil_mode must be 0 with auto_pad = VALID where a window would hang over the end, not 1: give pads instead"),
    ([(f"{MICROSOFT}:QGemm", ["rows", "s", "z", "rows", "s", "z", "", "s"], ["y"], {})],
     {"rows": np.zeros((6, 6), np.int8)}, "y_zero_point is missing: a float output is not supported"),
    ([("QLinearMatMul", ["x", "s", "z", "g", "column", "z", "s", "z"], ["y"], {})],
     {"g": np.zeros((4, 4), np.int8), "column": np.full((4, 1), 0.5, np.float32)},
     "b_scale must be a scalar or a vector, not an array of shape (4, 1)"),
    ([("LeakyRelu", ["d"], ["f"], {"alpha": float("nan")}), ("QuantizeLinear", ["f", "s", "z"], ["y"], {})], {},
     "alpha must be a finite number, not nan"),
    ([(f"{MICROSOFT}:QLinearAdd", ["x", "s", "z", "x", "s", "z", "", "z"], ["y"], {})], {},
     "input C_scale is missing; inputs are A, A_scale, A_zero_point?, B, B_scale, B_zero_point?, C_scale, "
     "C_zero_point?, with ? where they may be absent"),
    ([(f"{MICROSOFT}:QLinearSigmoid", [], ["y"], {})], {}, "input X is missing; inputs are X, X_scale, X_zero_point?, "
     "Y_scale, Y_zero_point?, with ? where they may be absent"),
    ([(f"{MICROSOFT}:QLinearSigmoid", ["x", "s", "z", "s", "z"], ["y"], {"activation": "relu"})], {},
     "attribute activation = b'relu' is not supported; known: none"),
    ([("Clip", ["d", "low"], ["f"], {})], {"low": np.float32("nan")}, "min must be one number, not nan"),
])
def test_what_is_not_covered_is_refused_by_name(tmp_path, nodes, constants, message):
    """A field that is dropped in silence would be another network."""
    constants = SOURCES | constants
    first = [("DequantizeLinear", ["x", "s", "z"], ["d"], {})]
    kept = {name for node in [*first, *nodes] for name in node[1]}
    model = make_model([*first, *nodes], {"x": X}, [nodes[-1][2][0]],
                       {name: value for name, value in constants.items() if name in kept and name != "x"}, opset=23)
    text = refusal(model, tmp_path)
    assert re.fullmatch(r"node '[^']*' \([\w.]+\): " + re.escape(message), text), text


def test_clip_with_bounds_in_disorder(tmp_path):
    """The standard gives the upper bound the last word, and infinite bounds are none."""
    for low, high in ((3.0, -1.0), (-np.inf, 2.0), (1.0, np.inf)):
        constants = {"low": np.float32(low), "high": np.float32(high)}
        for nodes in ([("Clip", ["x_d", "low", "high"], ["f"], {})],
                      [("Conv", ["x_d", "w_d"], ["c"], {}), ("Clip", ["c", "low", "high"], ["f"], {})]):
            check(*network(nodes, (["y_s", "x_z"], {}), constants), tmp_path)
