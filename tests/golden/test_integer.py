"""Integer contractions against onnxruntime (8 bits) and int64 einsums (4 and 16 bits)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_node import MICROSOFT, assert_equal, run_node

from pearray.golden import integer, pool, tensors
from pearray.golden.requantise import onnx, onnx_scale

#: Types of activations and weights. On processors without VNNI onnxruntime's u8 x s8 kernels saturate
#: the sum of two products, so those weights are drawn small enough never to reach that.
EIGHT = ((np.int8, np.int8), (np.uint8, np.uint8), (np.uint8, np.int8))
RANGES = {4: (-8, 8, np.int8), 8: (-128, 128, np.int8), 16: (-(1 << 15), 1 << 15, np.int16)}


SEED = st.integers(0, 1 << 32)


def draw(rng, dtype, shape):
    """Operands over the whole range of a type."""
    bounds = np.iinfo(dtype)
    return rng.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def draw_weights(rng, kinds, shape):
    """Weights for a pair of types."""
    return rng.integers(-64, 65, shape).astype(np.int8) if kinds == EIGHT[2] else draw(rng, kinds[1], shape)


def point(rng, dtype):
    """Zero point of a type."""
    return int(draw(rng, dtype, ()))


def einsum_conv(x, w, stride, padding, dilation, groups):
    """Convolution as an int64 einsum over explicitly gathered windows."""
    top, left, bottom, right = padding
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    m, channels, r, s = w.shape
    p = (padded.shape[2] - dilation[0] * (r - 1) - 1) // stride[0] + 1
    q = (padded.shape[3] - dilation[1] * (s - 1) - 1) // stride[1] + 1
    rows = np.arange(p)[:, None] * stride[0] + np.arange(r) * dilation[0]
    columns = np.arange(q)[:, None] * stride[1] + np.arange(s) * dilation[1]
    windows = padded[:, :, rows[:, None, :, None], columns[None, :, None, :]]
    windows = windows.reshape(x.shape[0], groups, channels, p, q, r, s)
    filters = w.astype(np.int64).reshape(groups, m // groups, channels, r, s)
    return np.einsum("ngcpqrs,gmcrs->ngmpq", windows, filters).reshape(x.shape[0], m, p, q)


@st.composite
def convolutions(draw_from):
    """Shapes and attributes of a convolution that has an output."""
    def integers(low, high):
        return draw_from(st.integers(low, high))

    groups = integers(1, 3)
    channels, per_group = integers(1, 4), integers(1, 4)
    kernel, dilation = (integers(1, 4), integers(1, 4)), (integers(1, 3), integers(1, 3))
    padding = tuple(integers(0, 3) for _ in range(4))
    spans = [dilation[i] * (kernel[i] - 1) + 1 - padding[i] - padding[i + 2] for i in (0, 1)]
    size = [max(1, span) + integers(0, 6) for span in spans]
    return {"x": (integers(1, 2), groups * channels, *size), "w": (groups * per_group, channels, *kernel),
            "stride": (integers(1, 3), integers(1, 3)), "padding": padding, "dilation": dilation,
            "groups": groups}


@settings(max_examples=60)
@given(convolutions(), st.sampled_from(EIGHT), st.booleans(), st.booleans(), SEED)
def test_conv2d_equals_onnxruntime(shapes, kinds, per_channel, with_bias, number):
    """If it failed, a padding, stride, dilation, group or zero point would be walked differently."""
    rng = np.random.default_rng(number)
    dtype, weight = kinds
    x, w = draw(rng, dtype, shapes["x"]), draw_weights(rng, kinds, shapes["w"])
    m = w.shape[0]
    bias = rng.integers(-20000, 20000, m).astype(np.int32) if with_bias else None
    x_scale, y_scale = np.float32(rng.uniform(0.01, 0.1)), np.float32(rng.uniform(0.5, 5))
    w_scale = rng.uniform(0.001, 0.05, m if per_channel else ()).astype(np.float32)
    # onnxruntime takes one and the same zero point for all channels.
    w_zero = point(rng, weight)
    x_zero, y_zero = point(rng, dtype), point(rng, dtype)
    attributes = {name: shapes[name] for name in ("stride", "padding", "dilation", "groups")}
    sums = integer.conv2d(x, w, bias, x_zero_point=x_zero, w_zero_point=w_zero, **attributes)
    bounds = np.iinfo(dtype)
    ours = onnx(sums, onnx_scale(x_scale, w_scale, y_scale), y_zero, bounds.min, bounds.max).astype(dtype)
    theirs = run_node(
        "QLinearConv", [x, x_scale, dtype(x_zero), w, w_scale, np.full(w_scale.shape, w_zero, weight),
                        y_scale, dtype(y_zero), bias], output=dtype, strides=shapes["stride"],
        pads=shapes["padding"], dilations=shapes["dilation"], group=shapes["groups"])
    assert_equal(ours, theirs)


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 9), st.sampled_from(EIGHT), st.booleans(),
       SEED)
def test_gemm_equals_onnxruntime_matmul(m, k, n, kinds, per_column, number):
    """If it failed, a matrix product or the order of its scales would differ."""
    rng = np.random.default_rng(number)
    dtype, weight = kinds
    a, b = draw(rng, dtype, (m, k)), draw_weights(rng, kinds, (k, n))
    a_scale, y_scale = np.float32(rng.uniform(0.01, 0.1)), np.float32(rng.uniform(0.5, 5))
    b_scale = rng.uniform(0.001, 0.05, n if per_column else ()).astype(np.float32)
    b_zero = draw(rng, weight, n if per_column else ())
    a_zero, y_zero = point(rng, dtype), point(rng, dtype)
    sums = integer.gemm(a, b, a_zero_point=a_zero, b_zero_point=b_zero)
    bounds = np.iinfo(dtype)
    ours = onnx(sums, onnx_scale(a_scale, b_scale, y_scale), y_zero, bounds.min, bounds.max).astype(dtype)
    assert_equal(ours, run_node("QLinearMatMul", [a, a_scale, dtype(a_zero), b, b_scale, b_zero, y_scale,
                                                  dtype(y_zero)], output=dtype))


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 9), st.booleans(), st.booleans(), st.booleans(),
       SEED)
def test_gemm_equals_onnxruntime_qgemm(m, k, n, trans_a, trans_b, with_c, number):
    """If it failed, a transposition or the int32 addend of QGemm would differ."""
    rng = np.random.default_rng(number)
    a = draw(rng, np.int8, (k, m) if trans_a else (m, k))
    b = draw(rng, np.int8, (n, k) if trans_b else (k, n))
    c = rng.integers(-30000, 30000, n).astype(np.int32) if with_c else None
    spans = (0.01, 0.1), (0.001, 0.05), (0.5, 5)
    a_scale, b_scale, y_scale = (np.float32(rng.uniform(*span)) for span in spans)
    a_zero, b_zero, y_zero = (point(rng, np.int8) for _ in range(3))
    sums = integer.gemm(a, b, c, trans_a=trans_a, trans_b=trans_b, a_zero_point=a_zero, b_zero_point=b_zero)
    ours = onnx(sums, onnx_scale(a_scale, b_scale, y_scale), y_zero).astype(np.int8)
    assert_equal(ours, run_node(
        "QGemm", [a, a_scale, np.int8(a_zero), b, b_scale, np.int8(b_zero), c, y_scale, np.int8(y_zero)],
        output=np.int8, domain=MICROSOFT, transA=int(trans_a), transB=int(trans_b)))
    if not trans_a and trans_b:
        assert (integer.linear(a, b, c, x_zero_point=a_zero, w_zero_point=b_zero) == sums).all()


def test_scales_multiply_from_left_to_right(rng):
    """If it failed, `onnx_scale` would round in another order than the runtime, which few sums show."""
    scales = rng.uniform(0.001, 1, (3, 2000)).astype(np.float32)
    orders = onnx_scale(*scales), scales[0] * (scales[1] / scales[2])
    assert (orders[0] != orders[1]).any()
    for column in np.flatnonzero(orders[0] != orders[1])[:40]:
        x_scale, w_scale, y_scale = scales[:, column]
        # Sums for which the last bit of the scale decides the rounding.
        sums = np.arange(-(1 << 23), 1 << 23, 997, dtype=np.int64)
        per_order = [onnx(sums, order[column]) for order in orders]
        deciding = sums[per_order[0] != per_order[1]][:8]
        if not deciding.size:
            continue
        bias = deciding.astype(np.int32)
        zeros = np.zeros((1, 1), np.int8), np.zeros((1, bias.size), np.int8)
        theirs = run_node("QGemm", [zeros[0], x_scale, np.int8(0), zeros[1], w_scale, np.int8(0), bias,
                                    y_scale, np.int8(0)], output=np.int8, domain=MICROSOFT)
        assert_equal(onnx(bias[None], orders[0][column]).astype(np.int8), theirs)


@settings(max_examples=60)
@given(convolutions(), st.sampled_from((4, 8, 16)), SEED)
def test_conv2d_equals_int64_einsum(shapes, bits, number):
    """If it failed, a width of operands other than 8 bits would lose bits in the fast product."""
    rng = np.random.default_rng(number)
    low, high, dtype = RANGES[bits]
    x, w = (rng.integers(low, high, shapes[name]).astype(dtype) for name in ("x", "w"))
    attributes = {name: shapes[name] for name in ("stride", "padding", "dilation", "groups")}
    exact = einsum_conv(x, w, **attributes)
    assert (integer.conv2d(x, w, acc_bits=64, **attributes) == exact).all()
    wrapped = integer.conv2d(x, w, **attributes)
    assert wrapped.dtype == np.int32
    assert (wrapped == exact.astype(np.int32)).all()


@settings(max_examples=40)
@given(st.integers(1, 8), st.integers(1, 300), st.integers(1, 8), st.sampled_from((4, 8, 16)),
       st.integers(32, 64), SEED)
def test_gemm_equals_int64_einsum(m, k, n, bits, acc_bits, number):
    """If it failed, sums would not be exact or would wrap at another width than the accumulator."""
    rng = np.random.default_rng(number)
    low, high, dtype = RANGES[bits]
    a, b = rng.integers(low, high, (m, k)).astype(dtype), rng.integers(low, high, (k, n)).astype(dtype)
    exact = np.einsum("mk,kn->mn", a.astype(np.int64), b.astype(np.int64))
    ours = integer.gemm(a, b, acc_bits=acc_bits)
    assert ours.dtype == (np.int32 if acc_bits == 32 else np.int64)
    assert [[int(y) % (1 << acc_bits) for y in row] for row in ours] == [
        [int(y) % (1 << acc_bits) for y in row] for row in exact]


@settings(max_examples=20)
@given(st.sampled_from((np.int8, np.uint8, np.int16)), SEED)
def test_add_and_window_sums_are_exact(dtype, number):
    """If it failed, sums of two or of a window would wrap in the operands' narrow type."""
    rng = np.random.default_rng(number)
    a, b = draw(rng, dtype, (2, 3, 4, 5)), draw(rng, dtype, (3, 1, 1))
    a_zero, b_zero = point(rng, dtype), point(rng, dtype)
    expected = (a.astype(np.int64) - a_zero) + (b.astype(np.int64) - b_zero)
    assert_equal(integer.add(a, b, a_zero_point=a_zero, b_zero_point=b_zero), expected.astype(np.int32))
    sums = pool.window_sums(a, (4, 5), x_zero_point=a_zero, acc_bits=40)
    assert_equal(sums[:, :, 0, 0], (a.astype(np.int64) - a_zero).sum((2, 3)))


def test_exact_matmul_beyond_float64(rng):
    """If it failed, products beyond 53 bits would be taken through float64 and lose their last bits."""
    a, b = (rng.integers(-(1 << 30), 1 << 30, (5, 5)) for _ in range(2))
    exact = [[sum(int(x) * int(y) for x, y in zip(row, column, strict=True)) for column in b.T] for row in a]
    assert (tensors.exact_matmul(a, b) == np.array(exact)).all()


@settings(max_examples=40)
@given(convolutions(), SEED)
def test_conv_transpose2d_is_the_adjoint_of_conv2d(shapes, number):
    """If it failed, an input would spread over other outputs than those that a convolution draws from."""
    rng = np.random.default_rng(number)
    attributes = {name: shapes[name] for name in ("stride", "padding", "dilation", "groups")}
    x, w = draw(rng, np.int8, shapes["x"]), draw(rng, np.int8, shapes["w"])
    y = integer.conv2d(x, w, **attributes)
    dy = draw(rng, np.int8, y.shape)
    stride, padding, dilation = (attributes[name] for name in ("stride", "padding", "dilation"))
    span = [(y.shape[i + 2] - 1) * stride[i] + dilation[i] * (w.shape[i + 2] - 1) + 1
            - padding[i] - padding[i + 2] for i in (0, 1)]
    missing = tuple(x.shape[i + 2] - span[i] for i in (0, 1))
    if missing[0] >= stride[0] or missing[1] >= stride[1] or min(span) < 1:
        return
    dx = integer.conv_transpose2d(dy, w, output_padding=missing, **attributes)
    assert dx.shape == x.shape
    # <conv(x), dy> = <x, conv_transpose(dy)>
    assert (y.astype(np.int64) * dy).sum() == (x.astype(np.int64) * dx).sum()


@settings(max_examples=30)
@given(convolutions(), st.booleans(), SEED)
def test_conv_transpose2d_equals_onnxruntime(shapes, with_bias, number):
    """If it failed, the layout of weights, output padding or a bias would differ from ONNX's operator."""
    rng = np.random.default_rng(number)
    attributes = {name: shapes[name] for name in ("stride", "dilation", "groups")}
    padding = tuple(min(side, 1) for side in shapes["padding"])
    rows, channels, r, s = shapes["w"]
    w = draw(rng, np.int8, (rows, channels, r, s))
    x = draw(rng, np.int8, (2, rows, 4, 5))
    extra = tuple(int(rng.integers(0, step)) for step in attributes["stride"])
    x_zero, w_zero = point(rng, np.int8), point(rng, np.int8)
    outputs = channels * attributes["groups"]
    bias = rng.integers(-20000, 20000, outputs).astype(np.int32) if with_bias else None
    ours = integer.conv_transpose2d(x, w, bias, padding=padding, output_padding=extra, x_zero_point=x_zero,
                                    w_zero_point=w_zero, **attributes)
    real = [x.astype(np.float32) - x_zero, w.astype(np.float32) - w_zero,
            None if bias is None else bias.astype(np.float32)]
    # Every partial sum is an integer below 2**24, which float32 holds exactly.
    theirs = run_node("ConvTranspose", real, output=np.float32, strides=attributes["stride"], pads=padding,
                      dilations=attributes["dilation"], group=attributes["groups"], output_padding=extra)
    assert_equal(ours, theirs.astype(np.int32))


X, W = np.zeros((1, 4, 5, 5), np.int8), np.zeros((6, 2, 3, 3), np.int8)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: integer.conv2d(X.astype(np.float32), W, groups=2),
     r"^x must be int8, uint8, int16 or uint16, not float32$"),
    (lambda: integer.conv2d(X[0], W), r"^x must have 4 dimensions, none of them 0, not shape \(4, 5, 5\)$"),
    (lambda: integer.conv2d(X, W, groups=3),
     r"^groups must divide the 4 input and 6 output channels, not 3$"),
    (lambda: integer.conv2d(X, W), r"^w must have 4 channels a group, not 2$"),
    (lambda: integer.conv2d(X, W, groups=2, stride=0),
     r"^stride must be one or two integers of at least 1, not 0$"),
    (lambda: integer.conv2d(X, W, groups=2, padding=(1, 2, 3)),
     r"^padding must be one, two or four integers"),
    (lambda: integer.conv2d(X, W, groups=2, dilation=3),
     r"^kernel height must span at most 5 elements of padded"),
    (lambda: integer.conv2d(X, W, np.zeros(6), groups=2), r"^b must be int32, not float64$"),
    (lambda: integer.conv2d(X, W, np.zeros(5, np.int32), groups=2),
     r"^b must have shape \(6,\), not \(5,\)$"),
    (lambda: integer.conv2d(X, W, groups=2, x_zero_point=128),
     r"^x_zero_point must be in -128\.\.127, not 128$"),
    (lambda: integer.conv2d(X, W, groups=2, w_zero_point=[1, 2]),
     r"^w_zero_point must be a scalar or have shape"),
    (lambda: integer.conv2d(X, W, groups=2, acc_bits=8), r"^acc_bits must be in 16\.\.64, not 8$"),
    (lambda: integer.gemm(X[0, 0], W[0, 0]), r"^b must have 5 rows of contraction, as a has, not 3$"),
    (lambda: integer.linear(X[0, 0], W[0, 0]), r"^w must have 5 columns, as x has, not 3$"),
    (lambda: integer.conv_transpose2d(X, W), r"^w must have 4 input channels, as x has, not 6$"),
    (lambda: integer.conv_transpose2d(X, W[:4], output_padding=1),
     r"^output_padding must be less than stride"),
    (lambda: integer.conv_transpose2d(X, W[:4], padding=4),
     r"^padding must leave an output of at least 1 x 1"),
])
def test_wrong_arguments_are_named(call, message):
    """If it failed, a mistake would be accepted or its message would not name the field."""
    with pytest.raises(ValueError, match=message):
        call()
