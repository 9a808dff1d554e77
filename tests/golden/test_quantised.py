"""Quantised operators against onnxruntime, element for element."""

from fractions import Fraction

import numpy as np
import pytest
import standard
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_node import MICROSOFT, assert_equal, run_node

from pearray.golden import pool, quantise, quantised

TYPES = st.sampled_from((np.int8, np.uint8))
SEED = st.integers(0, 1 << 32)


def draw(rng, dtype, shape=()):
    """Operands, or a zero point, over the whole range of a type."""
    bounds = np.iinfo(dtype)
    return rng.integers(bounds.min, bounds.max + 1, shape).astype(dtype)


def scales(rng, count, low=0.005, high=0.05):
    """Random float32 scales."""
    return rng.uniform(low, high, count).astype(np.float32)


FLOATS = st.floats(-(2.0**40), 2.0**40, width=32)


@given(FLOATS, FLOATS, FLOATS)
def test_fused_multiply_add_rounds_once(a, b, c):
    """If it failed, QLinearAdd and the sigmoid would differ from the runtime in rare last bits."""
    ours = Fraction(float(quantise.fused_multiply_add(a, b, c)))
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    near = np.float32(float(exact))
    candidates = {Fraction(float(np.nextafter(near, np.float32(side)))) for side in (-np.inf, np.inf)}
    candidates.add(Fraction(float(near)))
    assert abs(ours - exact) == min(abs(candidate - exact) for candidate in candidates)


def test_fused_multiply_add_in_float64_would_round_twice():
    """If it failed, a sum just below a float32 tie would be rounded as if it were the tie."""
    # a * b is 2**-24 - 2**-70, and half a last place above c would round up, to even.
    a, b, c = np.float32([2.0**-12 + 2.0**-35, 2.0**-12 - 2.0**-35, 1 + 2.0**-23])
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) == np.float32(1 + 2.0**-22)
    assert quantise.fused_multiply_add(a, b, c) == c


@settings(max_examples=60)
@given(TYPES, st.sampled_from(("same", "scalar", "channel", "row", "first scalar", "first channel")),
       st.booleans(), SEED)
def test_add_equals_onnxruntime(dtype, spread, ties, number):
    """If it failed, the order of the float32 operations, or of the terms under broadcasting, would differ."""
    rng = np.random.default_rng(number)
    full = (2, 3, 5, 40)
    other = {"same": full, "scalar": (), "channel": (3, 1, 1), "row": (40,), "first scalar": (1, 1, 1, 1),
             "first channel": (3, 1, 1)}[spread]
    shapes = (other, full) if spread.startswith("first") else (full, other)
    a, b = (draw(rng, dtype, shape) for shape in shapes)
    a_scale, b_scale, y_scale = scales(rng, 3)
    if ties:
        a_scale, b_scale, y_scale = np.float32([0.5, 0.25, 1.0])
    a_zero, b_zero, y_zero = (int(draw(rng, dtype)) for _ in range(3))
    ours = quantised.add(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)
    theirs = run_node("QLinearAdd", [a, a_scale, dtype(a_zero), b, b_scale, dtype(b_zero), y_scale,
                                     dtype(y_zero)], output=dtype, domain=MICROSOFT)
    assert_equal(ours, theirs)


def test_add_equals_onnxruntime_on_all_pairs(rng):
    """If it failed, one of the 65,536 pairs of operands would be rounded differently for some scales."""
    for trial in range(40):
        dtype = (np.int8, np.uint8)[trial % 2]
        every = np.arange(256, dtype=np.uint8).view(dtype)
        a, b = np.repeat(every, 256), np.tile(every, 256)
        a_scale, b_scale, y_scale = scales(rng, 3)
        a_zero, b_zero, y_zero = (int(draw(rng, dtype)) for _ in range(3))
        assert_equal(quantised.add(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero),
                     run_node("QLinearAdd", [a, a_scale, dtype(a_zero), b, b_scale, dtype(b_zero), y_scale,
                                             dtype(y_zero)], output=dtype, domain=MICROSOFT))


@st.composite
def windows(draw_from):
    """Input shape, kernel, stride and padding of a pooling that has an output."""
    kernel = draw_from(st.integers(1, 4)), draw_from(st.integers(1, 4))
    padding = tuple(draw_from(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    size = [kernel[i] + draw_from(st.integers(0, 6)) for i in (0, 1)]
    shape = draw_from(st.integers(1, 2)), draw_from(st.integers(1, 5)), *size
    return shape, kernel, (draw_from(st.integers(1, 3)), draw_from(st.integers(1, 3))), padding


@settings(max_examples=60)
@given(windows(), TYPES, st.booleans(), st.booleans(), SEED)
def test_average_pool_equals_onnxruntime(window, dtype, include, same_scale, number):
    """If it failed, the order of a window's sum, its count or its rounding would differ."""
    rng = np.random.default_rng(number)
    shape, kernel, stride, padding = window
    x = draw(rng, dtype, shape)
    x_scale, y_scale = scales(rng, 2)
    x_zero, y_zero = int(draw(rng, dtype)), int(draw(rng, dtype))
    if same_scale:
        x_scale, x_zero = y_scale, y_zero
    ours = quantised.average_pool2d(x, x_scale, x_zero, y_scale, y_zero, kernel, stride=stride,
                                    padding=padding, count_include_pad=include)
    theirs = run_node("QLinearAveragePool", [x, x_scale, dtype(x_zero), y_scale, dtype(y_zero)], output=dtype,
                      domain=MICROSOFT, kernel_shape=kernel, strides=stride, pads=padding,
                      count_include_pad=int(include))
    assert_equal(ours, theirs)


@settings(max_examples=60)
@given(st.integers(1, 2), st.integers(1, 20), st.integers(1, 12), st.integers(1, 12), TYPES, SEED)
def test_global_average_pool_equals_onnxruntime(n, c, height, width, dtype, number):
    """If it failed, the one scale of a global average would be rounded in another order."""
    rng = np.random.default_rng(number)
    x = draw(rng, dtype, (n, c, height, width))
    x_scale, y_scale = scales(rng, 2)
    x_zero, y_zero = int(draw(rng, dtype)), int(draw(rng, dtype))
    y_scale /= np.float32(4)
    ours = quantised.global_average_pool2d(x, x_scale, x_zero, y_scale, y_zero)
    theirs = run_node("QLinearGlobalAveragePool", [x, x_scale, dtype(x_zero), y_scale, dtype(y_zero)],
                      output=dtype, domain=MICROSOFT, channels_last=0)
    assert_equal(ours, theirs)


@settings(max_examples=60)
@given(windows(), st.booleans(), st.integers(1, 2), TYPES, SEED)
def test_max_pool_equals_onnxruntime(window, ceil_mode, dilation, dtype, number):
    """If it failed, padding would win over small numbers, or a window would be placed differently."""
    rng = np.random.default_rng(number)
    shape, kernel, stride, padding = window
    shape = (*shape[:2], *(shape[i + 2] + (dilation - 1) * (kernel[i] - 1) for i in (0, 1)))
    # Small numbers, so that a padding of zero would show.
    x = (draw(rng, dtype, shape) // 2 - (64 if dtype == np.int8 else 0)).astype(dtype)
    ours = pool.max_pool2d(x, kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
    theirs = run_node("MaxPool", [x], output=dtype, kernel_shape=kernel, strides=stride, pads=padding,
                      dilations=(dilation, dilation), ceil_mode=int(ceil_mode))
    assert_equal(ours, theirs)
    real = pool.max_pool2d(x.astype(np.float32) - 100, kernel, stride=stride, padding=padding,
                           dilation=dilation, ceil_mode=ceil_mode)
    assert_equal(real, ours.astype(np.float32) - 100)


@settings(max_examples=60)
@given(st.integers(2, 3), st.integers(2, 3), st.integers(1, 3), st.integers(6, 9), SEED)
def test_max_pool_with_padding_beyond_the_kernel(kernel, dilation, stride, size, number):
    """The taps of a window that are apart reach over more padding than the window has taps.

    onnxruntime takes no such padding, so the reference is written from the standard's text.
    """
    rng = np.random.default_rng(number)
    x, reach = draw(rng, np.int8, (1, 2, size, size)), dilation * (kernel - 1) + 1
    padding = tuple(int(side) for side in rng.integers(kernel, reach, 4))
    attributes = {"strides": [stride] * 2, "dilations": [dilation] * 2, "pads": padding}
    assert_equal(pool.max_pool2d(x, kernel, stride=stride, padding=padding, dilation=dilation),
                 standard.maximum(x, (kernel, kernel), attributes))


@settings(max_examples=80)
@given(st.integers(1, 40), TYPES, st.booleans(), SEED)
def test_softmax_equals_onnxruntime(keys, dtype, ties, number):
    """If it failed, the table, the order of a row's sum or the last rounding would differ."""
    rng = np.random.default_rng(number)
    x = draw(rng, dtype, (200, keys))
    if ties:
        x //= 32
    x_scale, y_scale = np.float32(rng.uniform(0.002, 0.6)), np.float32(1 / rng.integers(2, 1000))
    y_zero = int(draw(rng, dtype))
    ours = quantised.softmax(x, x_scale, 0, y_scale, y_zero)
    theirs = run_node("QLinearSoftmax", [x, x_scale, dtype(0), y_scale, dtype(y_zero)], output=dtype,
                      domain=MICROSOFT, axis=-1, opset=13)
    assert_equal(ours, theirs)


@settings(max_examples=60)
@given(st.sampled_from((np.int8, np.uint8, np.int16, np.uint16)), st.booleans(), SEED)
def test_quantize_and_dequantize_equal_onnxruntime(dtype, per_channel, number):
    """If it failed, the division, its tie, its clamp or the zero point's place would differ."""
    rng = np.random.default_rng(number)
    bounds = np.iinfo(dtype)
    scale = rng.uniform(0.01, 0.1, 3 if per_channel else ()).astype(np.float32)
    zero = draw(rng, dtype, 3 if per_channel else ())
    x = rng.normal(0, 0.05 * bounds.max, (2, 3, 50)).astype(np.float32)
    # Ties: multiples of half a scale.
    x[:, :, ::2] = rng.integers(-300, 300, (2, 3, 25)).astype(np.float32) * (scale.reshape(-1, 1) / 2)
    ours = quantise.quantize_linear(x, scale, zero, dtype=dtype)
    assert_equal(ours, run_node("QuantizeLinear", [x, scale, zero], output=dtype, axis=1))
    back = quantise.dequantize_linear(ours, scale, zero)
    assert_equal(back, run_node("DequantizeLinear", [ours, scale, zero], output=np.float32, axis=1))


Q = np.zeros((1, 2, 4, 4), np.int8)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: quantised.add(Q, 1, 0, Q.astype(np.int16), 1, 0, 1, 0), r"^b must be int8 or uint8, not int16$"),
    (lambda: quantised.add(Q, 1, 0, Q[..., :3], 1, 0, 1, 0),
     r"^b must broadcast with \(1, 2, 4, 4\), not have shape"),
    (lambda: quantised.add(Q, 1, 200, Q, 1, 0, 1, 0),
     r"^a_zero_point must be an integer in -128\.\.127, not 200$"),
    (lambda: quantised.add(Q, 1, 0, Q, np.nan, 0, 1, 0), r"^b_scale must be finite and positive, not nan$"),
    (lambda: quantised.add(Q, 1, 0, Q, 1, 0, 1e-39, 0), r"^a_scale / y_scale must be at most 7\.92e\+28 \(2\*\*96\)"),
    (lambda: quantised.average_pool2d(Q, 1e30, 0, 1e30, 0, 2), r"^y_scale must be at most 7\.92e\+28 \(2\*\*96\)"),
    (lambda: quantised.global_average_pool2d(Q, 1, 0, 1e-45, 0), r"^x_scale / y_scale must be at most 7\.92e\+28 "),
    (lambda: pool.window_sums(Q, 2, padding=2), r"^padding must be less than the 2 elements of height that a window"),
    (lambda: pool.max_pool2d(Q, 2, dilation=2, padding=(0, 3)), r"^padding must be less than the 3 elements of width"),
    (lambda: quantised.average_pool2d(Q.astype(np.int16), 1, 0, 1, 0, 2),
     r"^x must be int8 or uint8, not int16$"),
    (lambda: quantised.average_pool2d(Q, 1, 0, 1, 0, 0),
     r"^kernel must be one or two integers of at least 1, not 0$"),
    (lambda: quantised.global_average_pool2d(Q[0], 1, 0, 1, 0), r"^x must have 4 dimensions"),
    (lambda: quantise.quantize_linear(Q, 1), r"^x must be float32, not int8$"),
    (lambda: quantise.quantize_linear(np.float32([np.nan]), 1), r"^x must be numbers, not NaN$"),
    (lambda: quantise.dequantize_linear(Q, np.ones(3)),
     r"^scale must be a scalar or have shape \(2,\), not \(3,\)$"),
    (lambda: quantised.softmax(np.int8(1), 1, 0, 1, 0), r"^x must have at least one dimension"),
    (lambda: pool.max_pool2d(Q, 2, padding=2), r"^padding must be less than the 2 elements of height that a window"),
    (lambda: pool.max_pool2d(Q, 5), r"^kernel height must span at most 4 elements of padded input, not 5$"),
])
def test_wrong_arguments_are_named(call, message):
    """If it failed, a mistake would be accepted or its message would not name the field."""
    with pytest.raises(ValueError, match=message):
        call()
