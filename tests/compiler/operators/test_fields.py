"""Fields of operators, each with values that it should hardly be given: it is refused in one line, or means a number.

One that is taken for another, or stops a program in the middle, is found here before a user finds it.
"""

from dataclasses import fields

import numpy as np
import pytest
from hostile import VALUES, refused_or

import pearray as pe
from pearray.compiler.operators import Dequantize, Lookup, Quantize, Relu, Reshape

IMAGE = np.arange(4 * 4 * 5 * 4, dtype=np.int8).reshape(1, 16, 5, 4)
IMAGES = {"x": IMAGE, "w": np.arange(16 * 8 * 4, dtype=np.int8).reshape(16, 8, 2, 2)}
MATRICES = {"a": np.ones((3, 3), np.int8), "b": np.eye(3, dtype=np.int8)}
ROWS = {"x": np.ones((2, 3), np.int8), "w": np.ones((4, 3), np.int8)}
FLOATS = {role: np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 3, 4) for role in "qkv"}
TURNED = {"x": np.arange(24, dtype=np.int8).reshape(2, 3, 4)} | dict.fromkeys(("cos", "sin"), np.full((9, 2), 0.5))
REQUANT = pe.Requant.onnx(0.5, 0, 0.5, 0, 0.5, 0)
QUARTERS = dict.fromkeys(("A_scale", "B_scale", "C_scale"), 0.25)
HALVES = {"x_scale": 0.5, "y_scale": 0.5}

#: Operators with other fields that are right, and tensors that fit them.
CASES = [
    (pe.Conv2d, {"groups": 2, "requant": REQUANT}, IMAGES),
    (pe.Conv2dGrad, {"groups": 2}, IMAGES | {"dy": np.ones((1, 16, 4, 3), np.int8)}),
    (pe.ConvTranspose2d, {"groups": 2, "stride": 2, "requant": REQUANT}, IMAGES),
    (pe.Gemm, {"requant": REQUANT}, MATRICES), (pe.Linear, {"requant": REQUANT}, ROWS),
    (pe.MaxPool2d, {"kernel": 2}, {"x": IMAGE}), (pe.AvgPool2d, {"kernel": 2}, {"x": IMAGE}),
    (pe.AvgPool2d, {"kernel": 2, **HALVES}, {"x": IMAGE}),
    (pe.Add, QUARTERS, MATRICES), (pe.Add, {}, MATRICES), (pe.Softmax, {}, {"x": ROWS["x"].astype(np.float32)}),
    (pe.Attention, {}, FLOATS),
    (pe.Attention, dict.fromkeys(("q_scale", "k_scale", "v_scale", "y_scale"), 0.25),
     {name: tensor.astype(np.int8) for name, tensor in FLOATS.items()}), (pe.MultiHeadAttention, {"heads": 2}, FLOATS),
    (pe.MultiHeadAttention, {"heads": 2, **dict.fromkeys(("requant_q", "requant_k", "requant_v", "requant_z"), REQUANT),
                             "av_scale": 0.5}, {"x": ROWS["x"], **{f"w_{name}": ROWS["w"] for name in "qkv"},
                                                "w_z": MATRICES["b"][:, [0, 1, 2, 0]]}),
    (pe.AttentionGrad, {}, FLOATS | {"dy": FLOATS["q"]}), (pe.Gelu, HALVES, {"x": IMAGE}),
    (pe.Append, {}, {"past": TURNED["x"], "x": TURNED["x"][:, :1]}),
    (pe.RotaryEmbedding, {"x_scale": 0.5, "y_scale": 0.5}, TURNED),
    (pe.Silu, {}, {"x": FLOATS["q"]}), (pe.SGD, {"lr": 0.1}, {"w": FLOATS["q"], "dw": FLOATS["k"]}),
    (Relu, {}, {"x": IMAGE}), (Reshape, {"shape": (-1,)}, {"x": IMAGE}),
    (Lookup, {"table": np.arange(256, dtype=np.uint8)}, {"x": IMAGE}),
    (Quantize, {"scale": 0.5, "zero_point": np.int8(1)}, {"x": FLOATS["q"]}),
    (Dequantize, {"scale": 0.5}, {"x": IMAGE}),
]
SCALES = {"x_scale": 1, "x_zero_point": 0, "w_scale": 1, "w_zero_point": 0, "y_scale": 1, "y_zero_point": 0}
FLAGS = "trans_a", "trans_b", "ceil_mode", "count_include_pad", "causal", "two_bytes", "interleaved"


def _plain(name, value):
    """What a value that was taken means, in Python's own numbers; asserts that it is a number at all."""
    if value is None:
        return None
    if name in FLAGS:
        assert np.asarray(value).size == 1
        assert np.asarray(value).item() in (0, 1)
        return bool(np.asarray(value).item())
    found = np.asarray(value)
    assert found.dtype.kind in "iuf", f"{name} took {value!r}"
    assert not np.ma.is_masked(value), f"{name} took {value!r}"
    assert not isinstance(value, (bool, np.bool_)), f"{name} took {value!r}"
    plain = found.tolist()
    if isinstance(plain, list) and len(plain) == 1 and name != "shape":
        plain = plain[0]
    return tuple(plain) if isinstance(plain, list) else plain


@pytest.mark.parametrize(("kind", "others", "tensors"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_fields(rng, kind, others, tensors):
    """A value is refused, or gives what the number gives that it means; a program of it is compiled or refused."""
    taken = []
    for field in fields(kind):
        for value in VALUES:
            made = refused_or(lambda given={**others, field.name: value}: kind(**given), pe.PearrayError)
            name = field.name.partition("_")[0]
            if made is None or name in ("requant", "activation", "table", "rounding", "clamp", "approximate"):
                continue
            same = kind(**{**others, field.name: _plain(field.name, value)})
            got, wanted = (refused_or(lambda each=each: pe.golden_run(each, tensors), pe.PearrayError)
                           for each in (made, same))
            assert (got is None) == (wanted is None), f"{field.name}={value!r}"
            if got is not None:
                taken.append(made)
                for role in wanted:
                    np.testing.assert_array_equal(got[role], wanted[role], f"{field.name}={value!r}")
    for index in rng.permutation(len(taken))[:2]:
        refused_or(lambda made=taken[index]: pe.compile(made, tensors, on="systolic-8x8"), pe.PearrayError)


@pytest.mark.parametrize(("make", "names"), [
    (lambda **given: pe.Requant.onnx(**{**SCALES, **given}), [*SCALES, "clamp"]),
    (lambda **given: pe.Requant.tflite(**{"multiplier": 1 << 30, "shift": 0, **given}),
     ["multiplier", "shift", "x_zero_point", "w_zero_point", "y_zero_point", "rounding", "clamp"]),
    (pe.FixedPoint, ["shift"]),
], ids=["onnx", "tflite", "fixed"])
def test_requantisation(make, names):
    """The factors and zero points of sums: refused, or usable."""
    taken = 0
    for name in names:
        for value in VALUES:
            made = refused_or(lambda given={name: value}: make(**given), pe.PearrayError)
            if made is not None:
                taken += 1
                if name != "clamp":
                    _plain(name, value)
                refused_or(lambda made=made: pe.golden_run(pe.Linear(requant=made), ROWS), pe.PearrayError)
    assert taken


@pytest.mark.parametrize(("make", "message"), [
    (lambda: pe.Conv2d(groups=True), "groups must be an integer in 1..65535, not True"),
    (lambda: pe.Conv2d(padding=1 << 63), "padding must be an integer in 0..65535, "),
    (lambda: pe.ConvTranspose2d(output_padding=1 << 31), "output_padding must be one or two integers in 0..65535, "),
    (lambda: pe.Gemm(activation=np.array(["relu"])), "activation must be None, 'relu', "),
    (lambda: pe.Gemm(trans_a=np.array([1, 0])), "trans_a must be True or False, not array([1, 0])"),
    (lambda: pe.MaxPool2d(kernel=2, ceil_mode="abc"), "ceil_mode must be True or False, not 'abc'"),
    (lambda: pe.AvgPool2d(count_include_pad=float("nan")), "count_include_pad must be True or False, not nan"),
    (lambda: pe.AvgPool2d(x_zero_point=[[1], [1, 2]]), "x_zero_point must be one integer, not [[1], [1, 2]]"),
    (lambda: pe.Requant.onnx(**{**SCALES, "x_scale": "1"}),
     "x_scale must be a number, not '1'"),
    (lambda: pe.Expand(shape=(10**12, 1)), "shape must be integers in -1..1073741824, not (1000000000000, 1)"),
    (lambda: pe.Pad(pads=(0, 10**30)), "pads must be integers of 64 bits, not (0, 1000000000000000000000000000000)"),
    (lambda: pe.Pad(pads=[0, [1, 2]]), "pads must be integers of 64 bits, not [0, [1, 2]]"),
    (lambda: pe.Resize(scales=(1, 1, "2", 1)), "each of scales must be a number, not '2'"),
    (lambda: pe.Resize(scales=(1, 1, [1, 2], 1)), "each of scales must be one number, not 2"),
    (lambda: pe.Gather(indices=np.array([0, 2**64 - 1], np.uint64)),
     "indices must be integers of at most 9223372036854775807, not 18446744073709551615"),
    (lambda: pe.Requant.tflite(multiplier=1, shift=0, rounding=[]),
     "rounding must be 'double', 'single' or 'int32', not []"),
    (lambda: pe.Requant.tflite(multiplier=1, shift=0, clamp=(-1, 40_000)), "clamp must be (low, high), integers "),
])
def test_messages(make, message):
    """The field, its value and what is allowed."""
    with pytest.raises(pe.PearrayError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_arrays_of_one_number_are_numbers():
    """NumPy's integers and arrays count as the integers that they hold, whichever field they stand in."""
    assert pe.Conv2d(groups=np.int8(2), stride=np.array(2), padding=[1]).window == {
        "stride": (2, 2), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 2}
    x, w = np.ones((1, 256, 3, 3), np.int8), np.ones((2, 128, 1, 1), np.int8)
    assert (pe.golden_run(pe.Conv2d(groups=np.int8(2)), {"x": x, "w": w})["y"] == 128).all()
    assert pe.AvgPool2d(x_zero_point=[1]).x_zero_point == pe.Requant.tflite(1, 0, x_zero_point=[1]).x_zero_point == 1


def test_sizes_beyond_memory():
    """A tensor that no memory holds is refused by its shape, before anything of its size is made."""
    for operator in (pe.Conv2d(padding=60_000, groups=2), pe.Conv2d(padding=60_000, stride=60_000, groups=2),
                     pe.ConvTranspose2d(stride=65_535, groups=2, padding=1)):
        with pytest.raises(pe.PearrayError, match=r"must have at most 1073741824 elements, not shape \(1, 16"):
            pe.golden_run(operator, IMAGES)


@pytest.mark.parametrize(("operator", "message"), [
    (pe.Pad(pads=(0,) * 7 + (10**15,)), "y must have at most 1073741824 elements, not shape (1, 2, 3, 100000000000000"),
    (pe.Pad(pads=(0,) * 7 + (2**63 - 1,)), "y must have at most 1073741824 elements, not shape (1, 2, 3, 92233720368"),
    (pe.Pad(pads=(2**31, *(0,) * 7), mode="wrap"), "y must have at most 1073741824 elements, not shape (2147483649, "),
    (pe.Tile(repeats=(1, 1, 1, 10**15)), "y must have at most 1073741824 elements, not shape (1, 2, 3, 40000000000000"),
    (pe.Resize(sizes=(1, 2, 3, 2**62)), "y must have at most 1073741824 elements, not shape (1, 2, 3, 461168601842738"),
    (pe.Resize(scales=(1, 1, 1, 3e38)), "scales must make at most 1073741824 elements of each axis of x of shape (1, "),
    (pe.Expand(shape=(2**30, 1, 1, 1, 1)), "y must have at most 1073741824 elements, not shape (1073741824, 1, 2, 3, "),
    (pe.Expand(shape=(0, 1, 1, 1, 1)), "shape must be integers of at least 1, not (0, 1, 1, 1, 1)"),
    (pe.Expand(shape=(1, -1)), "shape must be integers of at least 1, not (1, -1)"),
])
def test_moves_beyond_memory(operator, message):
    """Indices of what no memory holds, or of nothing, would end in a traceback, at a run or when it is compiled."""
    x = {"x": np.zeros((1, 2, 3, 4), np.int8)}
    for call in (pe.golden_run, lambda *given: pe.compile(*given, on="systolic-8x8").compiled()):
        with pytest.raises(pe.PearrayError) as caught:
            call(operator, x)
        assert message in str(caught.value)


def test_arrays_are_the_operators_own():
    """Whoever changes an array behind an operator's back would change its meaning half-way."""
    table, scale = np.arange(256, dtype=np.uint8), np.full(4, 0.5, np.float32)
    operator, requant = Lookup(table), pe.Requant.onnx(1, 0, scale, 0, 1, 0)
    table[:], scale[:] = 7, 7
    assert operator.table[3] == 3
    assert (requant.scale == 0.5).all()
