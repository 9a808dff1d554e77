"""Operators and requantisation: shapes, defaults and the one-line errors of bad input."""

import itertools

import numpy as np
import pytest
from random_workloads import configuration, interpret

from pearray.compiler.graph.graph import Graph, Node, Tensor
from pearray.compiler.operators import (
    Add,
    AvgPool2d,
    Conv2d,
    ConvTranspose2d,
    Gemm,
    Linear,
    Logistic,
    Lookup,
    MaxPool2d,
    Mul,
    Relu,
    Requant,
    Reshape,
    Softmax,
    Sub,
)
from pearray.golden import litert
from pearray.hdl.errors import PearrayError


def _zeros(*shape, dtype=np.int8):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Requant.onnx(np.nan, 0, 1, 0, 1, 0), "^x_scale must be finite and above 0, not nan$"),
    (lambda: Requant.onnx(1, 0, [1, -2], 0, 1, 0), r"^w_scale must be finite and above 0, not -2\.0$"),
    (lambda: Requant.onnx(1, 0, 1, 0, 0, 0), r"^y_scale must be finite and above 0, not 0\.0$"),
    (lambda: Requant.onnx(1, 300, 1, 0, 1, 0), r"^x_zero_point must be an integer in -128\.\.255, not 300$"),
    (lambda: Requant.onnx(1, 0.5, 1, 0, 1, 0), r"^x_zero_point must be one integer, not 0\.5$"),
    (lambda: Requant.onnx([1, 2], 0, 1, 0, 1, 0), "^x_scale must be one number, not 2$"),
    (lambda: Requant.tflite(-1, 0), r"^multiplier must be in 0\.\.2147483647, not -1$"),
    (lambda: Requant.tflite(1, 31), r"^shift must be in -31\.\.30, not 31$"),
    (lambda: Requant.tflite(1, 0, rounding="half"), "^rounding must be 'double', 'single' or 'int32', not 'half'$"),
    (lambda: Requant.tflite(1, 0, clamp=(5, 1)), r"^clamp must be \(low, high\), integers within a 16-bit type"),
    (lambda: Requant.onnx(1, 0, 1, 0, 1, 0, clamp=(0, np.inf)),
     r"^clamp must be \(low, high\), integers within a 16-bit type and low <= high, not \(0, inf\)$"),
    (lambda: Requant.onnx(1e39, 0, 1, 0, 1, 0), "^x_scale must be finite and above 0, not inf$"),
    (lambda: Gemm(requant=1), "^requant must be None, a Requant or a FixedPoint, not 1$"),
    (lambda: Gemm(activation="swish"), "^activation must be None, 'relu'"),
    (lambda: Conv2d(stride=0), "^stride must be one or two integers in 1..65535, not 0$"),
    (lambda: Conv2d(padding=(1, 2, 3)), "^padding must be an integer in 0..65535"),
    (lambda: Conv2d(groups=0), "^groups must be an integer in 1..65535, not 0$"),
    (lambda: Add(1.0, 0, None, 0, 1.0, 0), "^A_scale, B_scale and C_scale must all be given or none$"),
    (lambda: Add(1.0, 0, np.inf, 0, 1.0, 0), "^B_scale must be finite and above 0, not inf$"),
    (lambda: Add(1.0, 0, 1.0, 0, 1e-39, 0), r"^A_scale / C_scale must be at most 7\.92e\+28 \(2\*\*96\), not 1e\+39$"),
    (lambda: Add(1.0, 0, 1e30, 0, 1e30, 0), r"^C_scale must be at most 7\.92e\+28 \(2\*\*96\), not 1e\+30$"),
    (lambda: Add(1.0, 43, 1e3, 199, 1e-27, 18), r"^B_scale / C_scale must be at most .*, not 1e\+30$"),
    (lambda: Add(1.0, 0, 1.0, 0, 1.0, 0, "half"), "^rounding must be 'onnx', 'float' or 'tflite', not 'half'$"),
    (lambda: Add(rounding="tflite"), "^rounding 'tflite' needs A_scale, B_scale and C_scale$"),
    (lambda: Add(1.0, 0, 1.0, 0, 1e-7, 0, "tflite"), r"^C_scale must be more than 1\.91e-06 "),
    (lambda: Sub(rounding="tflite"), "^rounding 'tflite' needs A_scale, B_scale and C_scale$"),
    (lambda: Sub().infer(dict.fromkeys("ab", np.zeros(1, np.int8))),
     "^A_scale, B_scale and C_scale must be given for Sub of int8 and int8, as for all but floats$"),
    (lambda: Mul(1e28, 0, 1e28, 0, 1.0, 0), "^A_scale \\* B_scale / C_scale must be finite, not inf$"),
    (lambda: AvgPool2d(x_scale=1.0, x_zero_point=3, y_scale=1e-45), r"^x_scale / y_scale must be at most 7\.92e\+28 "),
    (lambda: AvgPool2d(2, x_scale=3e38, y_scale=1e-10), r"^x_scale must be at most .*, not 3e\+38$"),
    (lambda: AvgPool2d(2, rounding="half"), "^rounding must be 'onnx', 'float' or 'tflite', not 'half'$"),
    (lambda: AvgPool2d(2, x_scale=1.0), "^x_scale and y_scale must all be given or none$"),
    (lambda: Softmax(X_scale=[1.0, 2.0], y_scale=1.0), r"^X_scale must be one number, not 2$"),
    (lambda: Softmax(rounding="tflite"), r"^y_scale must be 1 / 256 with rounding 'tflite', not None$"),
    (lambda: Softmax(X_scale=0.1, y_scale=0.1, rounding="tflite"), r"^y_scale must be 1 / 256 with "),
    (lambda: Softmax(X_scale=0.1, y_scale=0.1, beta=2), r"^beta must be 1 without rounding 'tflite', not 2\.0$"),
    (lambda: Softmax(X_scale=1e-9, y_scale=1 / 256, rounding="tflite"), r"^X_scale \* beta: scale must be greater "),
    (lambda: Logistic(0.1, 200), r"^x_zero_point must be in -128\.\.127 for int8, not 200$"),
    (lambda: Lookup(np.zeros(255, np.int8)), r"^table must be int8 or uint8 of shape \(256,\)"),
])
def test_bad_parameters(make, message):
    """A mistake must be told before anything is built, in one line."""
    with pytest.raises(PearrayError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("operator", "tensors", "message"), [
    (Gemm(), {"a": _zeros(2, 3), "b": _zeros(4, 5)}, r"^b must have 3 rows to match a of shape \(2, 3\)"),
    (Gemm(), {"a": _zeros(2, 3)}, "^Gemm needs a tensor 'b'"),
    (Gemm(), {"a": _zeros(2, 3), "b": _zeros(3, 5), "d": _zeros(1)}, "^Gemm has no tensor 'd'; it takes a, b, c$"),
    (Gemm(), {"a": _zeros(2, 3), "b": _zeros(3, 5), "c": _zeros(4, dtype=np.int32)},
     r"^c must have shape \(5,\) or \(1, 5\) or \(2, 5\), not \(4,\)$"),
    (Gemm(), {"a": _zeros(2, 3, dtype=np.int32), "b": _zeros(3, 5)}, "^a must be of type int8"),
    (Linear(), {"x": _zeros(2, 3), "w": _zeros(4, 5)},
     r"^w must have 3 columns to match x of shape \(2, 3\), not shape \(4, 5\)$"),
    (Linear(), {"x": _zeros(2, 3), "w": _zeros(4, 3), "b": _zeros(4)}, "^b must be of type int32, not int8$"),
    (Linear(requant=Requant.onnx(1, 0, [1, 2], 0, 1, 0)), {"x": _zeros(2, 3), "w": _zeros(4, 3)},
     r"^requant must have one factor or one per output channel \(4\), not 2$"),
    (Linear(requant=Requant.onnx(1, 200, 1, 0, 1, 0)), {"x": _zeros(2, 3), "w": _zeros(4, 3)},
     r"^zero point of x must be in -128\.\.127 for int8, not 200$"),
    (Conv2d(), {"x": _zeros(1, 3, 4, 4), "w": _zeros(2, 3, 5, 5)}, "the filter must fit$"),
    (Conv2d(groups=2), {"x": _zeros(1, 4, 4, 4), "w": _zeros(3, 2, 1, 1)}, "^groups must divide the 3 output"),
    (ConvTranspose2d(), {"x": _zeros(1, 3, 4, 4), "w": _zeros(2, 3, 5, 5)},
     r"^w must have shape \(3, M / groups, R, S\)"),
    (MaxPool2d(2, padding=2), {"x": _zeros(1, 3, 4, 4)}, "^padding must be less than the 2 elements of height"),
    (Reshape((3, -1)), {"x": _zeros(2, 4)}, "^shape must hold the 8 elements"),
    (Lookup(np.zeros((3, 256), np.int8)), {"x": _zeros(2, 4)}, "^table must have one row for each channel"),
    (Relu(200), {"x": _zeros(2, 4)}, r"^zero_point must be in -128\.\.127 for int8, not 200$"),
    (Relu(1), {"x": _zeros(2, 4, dtype=np.float32)}, "^zero_point must be 0 for x of type float32, not 1$"),
    (Add(1, 200, 1, 0, 1, 0), {"a": _zeros(2), "b": _zeros(2)}, r"^A_zero_point must be in -128\.\.127 for int8"),
    (Add(1, 0, 1, -1, 1, 0), {"a": _zeros(2), "b": _zeros(2, dtype=np.uint8)}, r"^B_zero_point must be in 0\.\.255"),
    (Add(1, 0, 1, 0, 1, -1), {"a": _zeros(2, dtype=np.uint8), "b": _zeros(2)}, r"^C_zero_point must be in 0\.\.255"),
    (Add(1, 0, 1, 0, 1, np.int16(0)), {"a": _zeros(2), "b": _zeros(2)}, "^y must be of type int8 or uint8 where"),
    (Add(1, 0, 1, 0, 1, 0), {"a": _zeros(2, dtype=np.int16), "b": _zeros(2)}, "^a must be of type int8 or uint8 where"),
    (Add(1, 0, 1, 0, 1, 0), {"a": _zeros(2, dtype=np.float32), "b": _zeros(2, dtype=np.float32)},
     "^a must be of type int8 or uint8 where scales are given, not float32$"),
    (AvgPool2d(2, x_scale=1, x_zero_point=-1, y_scale=1), {"x": _zeros(1, 1, 2, 2, dtype=np.uint8)},
     r"^x_zero_point must be in 0\.\.255 for uint8, not -1$"),
    (AvgPool2d(2, x_scale=1, y_scale=1), {"x": _zeros(1, 1, 2, 2, dtype=np.float32)},
     "^x must be of type int8 or uint8 where scales are given, not float32$"),
    (Softmax(X_scale=1, y_scale=1, y_zero_point=np.int16(0)), {"x": _zeros(2, 4)}, "^y must be of type int8 or uint8"),
    (Softmax(X_scale=1, y_scale=1 / 256, rounding="tflite"), {"x": _zeros(2, 4)},
     "^y must be int8 and y_zero_point -128 with rounding 'tflite', not int8 and 0$"),
    (Softmax(X_scale=1, y_scale=1 / 256, y_zero_point=-128, rounding="tflite"), {"x": _zeros(1, 4096)},
     "^x must have at most 4095 elements along axis -1 with rounding 'tflite', not 4096$"),
    (Logistic(0.1), {"x": _zeros(2, 4).astype(np.uint8)}, "^x must be of type int8, not uint8$"),
    (Linear(requant=Requant.tflite(1, 8)), {"x": _zeros(2, 3, dtype=np.int16), "w": _zeros(4, 3, dtype=np.int16)},
     r"^shift must be in -31\.\.7 with 16-bit operands and double rounding, not 8$"),
])
def test_bad_tensors(operator, tensors, message):
    """A shape or type that does not fit must be named with what is allowed."""
    with pytest.raises(PearrayError, match=message):
        Graph.of(operator, tensors)


def test_windows_are_kept_in_one_form():
    """Lowerings and golden models read them as they are: a number that stays one would be no pair there."""
    conv = Conv2d(stride=2, padding=(1, 2))
    assert (conv.stride, conv.dilation, conv.padding) == ((2, 2), (1, 1), (1, 2, 1, 2))
    pool = MaxPool2d(np.int64(3), padding=1, dilation=[2, 1])
    assert (pool.kernel, pool.stride, pool.dilation, pool.padding) == ((3, 3), None, (2, 1), (1, 1, 1, 1))
    assert ConvTranspose2d(stride=2, output_padding=1).output_padding == (1, 1)


def _stored(real, scale, zero_point):
    """Nearest stored values, and which of them are so near to half-way that float32 decides."""
    info, quotient = np.iinfo(zero_point.dtype), real / scale
    values = np.clip(np.rint(quotient) + int(zero_point), info.min, info.max).astype(zero_point.dtype)
    return values, np.abs(quotient - np.floor(quotient) - 0.5) < 1e-4


@pytest.mark.parametrize("types", list(itertools.product([np.int8, np.uint8], repeat=3)))
def test_results_of_another_signedness(rng, types):
    """The type of a result is that of its zero point, in the golden model and in the program."""
    kinds, x = [np.dtype(kind) for kind in types], {}
    for role, kind in zip(("a", "b"), kinds, strict=False):
        info = np.iinfo(kind)
        x[role] = rng.integers(info.min, info.max + 1, (2, 3, 8, 4)).astype(kind)
    points = [kind.type(rng.integers(np.iinfo(kind).min + 60, np.iinfo(kind).max - 60)) for kind in kinds]
    scales = [float(np.float32(scale)) for scale in rng.uniform([0.03, 0.03, 0.08], [0.05, 0.05, 0.1])]
    a, b = (scales[i] * (x[role].astype(np.int64) - int(points[i])) for i, role in enumerate("ab"))
    mean = {"x_scale": scales[0], "x_zero_point": points[0], "y_scale": scales[2], "y_zero_point": points[2]}
    fields = [field for pair in zip(scales, points, strict=True) for field in pair]
    for operator, tensors, real in (
            (Add(*fields), x, a + b),
            (AvgPool2d(2, **mean), {"x": x["a"]}, a.reshape(2, 3, 4, 2, 2, 2).mean((3, 5))),
            (AvgPool2d(**mean), {"x": x["a"]}, a.mean((2, 3), keepdims=True))):
        graph = Graph.of(operator, tensors)
        expected, near = _stored(real, scales[2], points[2])
        actual = graph.golden(tensors)["y"]
        assert actual.dtype == kinds[2]
        np.testing.assert_array_equal(actual[~near], expected[~near])
        assert near.mean() < 0.1
        interpret(graph, tensors, configuration())


def test_logistic_is_that_of_litert(rng):
    """A table of another scale or zero point, or one that stands in another order, opens gates by another amount."""
    x, scale, point = rng.integers(-128, 128, (3, 400)).astype(np.int8), float(rng.uniform(0.005, 0.2)), -17
    graph = Graph.of(Logistic(scale, point), {"x": x})
    np.testing.assert_array_equal(graph.golden({"x": x})["y"], litert.logistic(x, scale, point))
    interpret(graph, {"x": x}, configuration())


def test_softmax_of_another_signedness(rng):
    """Probabilities may be unsigned where scores are signed."""
    x = rng.integers(-128, 128, (5, 9)).astype(np.int8)
    whole = Softmax(X_scale=0.05, y_scale=1 / 256, y_zero_point=np.int8(-128)).golden({"x": x})["y"]
    other = Softmax(X_scale=0.05, y_scale=1 / 256, y_zero_point=np.uint8(0)).golden({"x": x})["y"]
    assert other.dtype == np.uint8
    np.testing.assert_array_equal(other, whole.astype(np.int16) + 128)


@pytest.mark.parametrize(("rounding", "multiplier", "expected"), [
    ("single", 1 << 30, 12287), ("double", 1 << 30, 12287),
    # The single rule has all bits of the multiplier, the other one 15.
    ("single", (1 << 30) + (1 << 15) - 1, 12288), ("double", (1 << 30) + (1 << 15) - 1, 12287),
])
def test_sums_beyond_32_bits_by_tflite_rules(rounding, multiplier, expected):
    """A sum of 3,221,028,867 is no longer that when it is cut to 32 bits."""
    x = np.full((1, 3), 32767, np.int16)
    operator = Linear(requant=Requant.tflite(multiplier, -17, rounding=rounding, clamp=(-32768, 32767)))
    graph = Graph.of(operator, {"x": x, "w": x})
    assert graph.golden({"x": x})["y"].tolist() == [[expected]]
    interpret(graph, {"x": x}, configuration(bits=16))


def test_shapes_and_types():
    """Shapes follow ONNX; sums are int32, outputs have the type of their zero point."""
    x = _zeros(2, 6, 9, 8)
    cases = [
        (Conv2d(stride=2, padding=(1, 0, 2, 1)), {"x": x, "w": _zeros(4, 6, 3, 3)}, (2, 4, 5, 4), np.int32),
        (Conv2d(groups=3, dilation=2), {"x": x, "w": _zeros(6, 2, 2, 2)}, (2, 6, 7, 6), np.int32),
        (ConvTranspose2d(stride=2), {"x": x, "w": _zeros(6, 5, 3, 3)}, (2, 5, 19, 17), np.int32),
        (MaxPool2d(3, 2, 1), {"x": x}, (2, 6, 5, 4), np.int8),
        (AvgPool2d(None, None, 0, 0.5, 0, 0.25, np.uint8(3)), {"x": x}, (2, 6, 1, 1), np.uint8),
        (Gemm(trans_a=True, trans_b=True, requant=Requant.onnx(1, 0, 1, 0, 1, np.uint8(4))),
         {"a": _zeros(3, 2), "b": _zeros(5, 3)}, (2, 5), np.uint8),
        (Gemm(), {"a": _zeros(2, 3, dtype=np.int16), "b": _zeros(3, 5, dtype=np.int16)}, (2, 5), np.int64),
    ]
    for operator, tensors, shape, dtype in cases:
        graph = Graph.of(operator, tensors)
        assert (graph.tensors["y"].shape, graph.tensors["y"].dtype) == (shape, np.dtype(dtype))
        values = graph.golden({name: tensors[name] for name in graph.inputs})["y"]
        assert (values.shape, values.dtype) == (shape, np.dtype(dtype))


def test_relu_and_clip_fold_into_bounds():
    """Folding must not change what the operator means: bounds are real numbers where the scale is known."""
    requant = Requant.onnx(1, 0, 1, 0, 0.5, np.int8(-10))
    assert Gemm(requant=requant, activation="relu").bounds(np.int8) == (-10, 127)
    assert Gemm(requant=requant, activation=("clip", 0, 6)).bounds(np.int8) == (-10, 2)
    assert Gemm(requant=Requant.tflite(1, 0), activation=("clip", -3, 6)).bounds(np.int8) == (-3, 6)


def test_graphs_are_sorted_and_checked():
    """Nodes may come in any order; cycles, missing and doubly made tensors are named."""
    tensors = {"x": Tensor("x", (2, 3), np.dtype(np.int8))}
    nodes = [Node("second", Relu(0), {"x": "t"}, {"y": "y"}), Node("first", Relu(0), {"x": "x"}, {"y": "t"})]
    graph = Graph(list(nodes), dict(tensors), {}, ["x"], ["y"])
    assert [node.name for node in graph.nodes] == ["first", "second"]
    with pytest.raises(PearrayError, match=r"^second: tensor 't' is made by no node$"):
        Graph(nodes[:1], dict(tensors), {}, ["x"], ["y"])
    loop = [Node("a", Relu(0), {"x": "q"}, {"y": "p"}), Node("b", Relu(0), {"x": "p"}, {"y": "q"})]
    with pytest.raises(PearrayError, match=r"^a: tensor 'q' depends on itself$"):
        Graph(loop, dict(tensors), {}, ["x"], ["q"])
    with pytest.raises(PearrayError, match=r"^first: tensor 't' is made twice$"):
        Graph([nodes[1], nodes[1]], dict(tensors), {}, ["x"], ["t"])
    with pytest.raises(PearrayError, match=r"^input 'x' is missing"):
        graph.golden({})
