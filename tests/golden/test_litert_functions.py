"""Functions in integers: against LiteRT's reference kernels, bit for bit, and SOFTMAX and LOGISTIC against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litert_node import run_node
from tflite_models import Tflite, reference

from pearray.golden import gemmlowp, litert
from pearray.golden.requantise import tflite, tflite_multiplier

SEED = st.integers(0, 1 << 32)
SCALE = st.floats(-10, 1)
EVERY = np.arange(-128, 128).astype(np.int8)[None]
OUTPUT = {"y_scale": 1 / 256, "y_zero_point": -128}


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 600), SCALE, SEED)
def test_softmax_equals_litert(rows, length, exponent, number):
    """If it failed, a graph of LiteRT would have other probabilities than the runtime's."""
    pytest.importorskip("ai_edge_litert")
    rng = np.random.default_rng(number)
    x = rng.integers(-128, rng.integers(-127, 129), (rows, length)).astype(np.int8)
    scale, point = np.float32(2.0 ** exponent), int(rng.integers(-128, 128))
    theirs = run_node("SOFTMAX", x, x_scale=scale, x_zero_point=point, y_shape=x.shape, **OUTPUT)
    np.testing.assert_array_equal(litert.softmax(x, scale), theirs)


@settings(max_examples=20)
@given(st.integers(1, 300), SCALE, SEED)
def test_softmax_of_bytes_equals_litert(length, exponent, number):
    """If it failed, unsigned probabilities would begin at another number."""
    pytest.importorskip("ai_edge_litert")
    x = np.random.default_rng(number).integers(0, 256, (2, length)).astype(np.uint8)
    scale = np.float32(2.0 ** exponent)
    theirs = run_node("SOFTMAX", x, x_scale=scale, x_zero_point=7, y_shape=x.shape, y_scale=1 / 256, y_zero_point=0)
    np.testing.assert_array_equal(litert.softmax(x, scale), theirs)


@settings(max_examples=40)
@given(st.floats(-16, 6), st.integers(-128, 127))
def test_logistic_equals_litert(exponent, point):
    """If it failed, a gate would open by another amount than the runtime's for some of the 256 arguments."""
    pytest.importorskip("ai_edge_litert")
    scale = np.float32(2.0 ** exponent)
    theirs = run_node("LOGISTIC", EVERY, x_scale=scale, x_zero_point=point, y_shape=EVERY.shape, **OUTPUT)
    np.testing.assert_array_equal(litert.logistic(EVERY, scale, point), theirs)


@settings(max_examples=60)
@given(st.integers(1, 300), SCALE, SEED)
def test_errors_are_as_stated(length, exponent, number):
    """If it failed, the stated bounds would be wrong."""
    x = np.random.default_rng(number).integers(-128, 128, (4, length)).astype(np.int8)
    scale = float(np.float32(2.0 ** exponent))
    scores = x * scale
    exact = np.exp(scores - scores.max(axis=-1, keepdims=True))
    exact /= exact.sum(axis=-1, keepdims=True)
    most = 0.501 + length / 4096
    assert np.abs(litert.softmax(x, scale) + 128.0 - np.minimum(exact * 256, 255)).max() <= most
    exact = np.minimum(256 / (1 + np.exp(-EVERY.astype(np.float64) * scale)), 255)
    assert np.abs(litert.logistic(EVERY, scale) + 128.0 - exact).max() <= 0.501


@pytest.mark.parametrize("bits", [4, 5])
def test_fixed_point_is_near(rng, bits):
    """If it failed, exponentials would be good to fewer bits than what is made of them needs."""
    words = -rng.integers(0, 1 << 31, 10000)
    exact = np.exp(words / (1 << 31 - bits))
    assert np.abs(gemmlowp.exponential(words, bits) / 2 ** 31 - exact).max() <= 2 ** -22
    assert np.abs(gemmlowp.reciprocal(-words) / 2 ** 31 - 1 / (1 - words / 2 ** 31)).max() <= 2 ** -27


@pytest.mark.parametrize(("call", "message"), [
    (lambda: litert.softmax(np.zeros(3, np.int16), 0.1), "x must be int8 or uint8"),
    (lambda: litert.softmax(np.zeros(4096, np.int8), 0.1), "at most 4095 scores in a row, not 4096"),
    (lambda: litert.softmax(np.zeros(3, np.int8), 1e-9), r"scale must be greater than 2\*\*-26"),
    (lambda: litert.logistic(np.zeros(3, np.int16), 0.1), "x must be int8 or uint8"),
])
def test_refuses_what_does_not_fit(call, message):
    """If it failed, words would wrap without a word."""
    with pytest.raises(ValueError, match=message):
        call()


def table_of(kind, x_scale, x_zero, y_scale, y_zero, dtype="int8", more=(), options=None, **fields):
    """Outputs of LiteRT's kernel for all 256 numbers."""
    model, stored = Tflite(), np.arange(256, dtype=np.uint8).view(dtype)
    x = model.tensor((256,), x_scale, x_zero, dtype, name="x")
    y = model.tensor((256,), y_scale, y_zero, dtype, name="y")
    model.node(kind, [x, *(model.constant(*each) for each in more)], [y], options, **fields)
    return stored, reference(model.content([x], [y]), {"x": stored})["y"]


def forms(rng, dtype, count):
    """Scales and zero points, many of them at the ends, with ratios of small integers among the scales."""
    info = np.iinfo(dtype)
    for number in range(count):
        scales = np.exp(rng.uniform(-6, 1, 2)) if number % 2 else rng.integers(1, 200, 2) / rng.integers(50, 400)
        zeros = [int(rng.choice([info.min, info.max, rng.integers(info.min, info.max + 1)])) for _ in range(2)]
        yield np.float32(scales[0]), zeros[0], np.float32(scales[1]), zeros[1]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_tables_equal_litert(rng, dtype):
    """If it failed, one of 256 entries would be another than the runtime's for some scales."""
    pytest.importorskip("ai_edge_litert")
    kind = np.dtype(dtype)
    for form in forms(rng, dtype, 120):
        alpha, slope = float(np.float32(rng.uniform(0, 1.2))), np.array([rng.integers(-128, 128)]).astype(np.int8)
        cases = [("QUANTIZE", litert.requantise, (), {"options": "QuantizeOptions"}),
                 ("LEAKY_RELU", litert.leaky_relu, (alpha,), {"options": "LeakyReluOptions", "alpha": alpha})]
        cases += [(name, litert.relu, bounds, {}) for name, bounds in (
            ("RELU", (0.0, np.inf)), ("RELU6", (0.0, 6.0)), ("RELU_N1_TO_1", (-1.0, 1.0)))]
        for name, function, parameters, options in cases:
            stored, theirs = table_of(name, *form, dtype, **options)
            np.testing.assert_array_equal(function(stored, *form, *parameters, dtype=kind), theirs, name)
        if dtype == "int8":
            stored, theirs = table_of("PRELU", *form, more=[(slope, 0.02, 5)])
            np.testing.assert_array_equal(litert.prelu(stored, *form, slope, 0.02, 5), theirs)
            stored, theirs = table_of("TANH", *form[:2], 1 / 128, 0)
            np.testing.assert_array_equal(litert.tanh(stored, *form[:2]), theirs)
        wide = (*form[:2], np.float32(form[0] * np.exp(rng.uniform(-4, 5))), form[3])
        stored, theirs = table_of("HARD_SWISH", *wide, dtype)
        np.testing.assert_array_equal(litert.hard_swish(stored, *wide, dtype=kind), theirs)


@pytest.mark.parametrize(("name", "function", "is_single"), [
    ("RELU", lambda x, *form: litert.relu(x, *form, 0.0, np.inf, dtype=np.dtype(np.int8)), True),
    ("QUANTIZE", lambda x, *form: litert.requantise(x, *form, dtype=np.dtype(np.int8)), False)])
def test_precision_of_factors_is_litert_s(rng, name, function, is_single):
    """If it failed, a quotient of scales would be rounded to float32 where the runtime does not, or the reverse.

    Few scales tell: those are searched for with which one of the products is half-way for one quotient alone.
    """
    pytest.importorskip("ai_edge_litert")
    steps, found = np.arange(256), 0
    while found < 6:
        x, y = (rng.integers(1, 200, 2) / rng.integers(50, 400, 2)).astype(np.float32)
        single, double = (tflite(steps, *tflite_multiplier(ratio), 0, -(1 << 31), (1 << 31) - 1)
                          for ratio in (float(x / y), float(x) / float(y)))
        if not ((single != double) & (np.minimum(single, double) < 256)).any():
            continue
        found += 1
        stored, theirs = table_of(name, x, -128, y, -128, options="QuantizeOptions" if name == "QUANTIZE" else None)
        ours, expected = function(stored, x, -128, y, -128), np.clip((single if is_single else double) - 128, -128, 127)
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(ours[np.argsort(stored, kind="stable")], expected)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: litert.hard_swish(EVERY, 1.0, 0, 1e-3, 0, dtype=np.dtype(np.int8)), "y_scale must be 0.00781 to 256"),
    (lambda: litert.hard_swish(EVERY, 1.0, 0, 1e3, 0, dtype=np.dtype(np.int8)), "y_scale must be 0.00781 to 256"),
    (lambda: litert.leaky_relu(EVERY, 1.0, 0, 1.0, 0, -0.5, dtype=np.dtype(np.int8)), "alpha must be at least 0"),
    (lambda: litert.prelu(EVERY, 1.0, 0, 1.0, 0, np.uint8([1]), 1.0, 0), "alpha must be int8, as x is, not uint8"),
    (lambda: litert.tanh(np.zeros(3, np.int16), 0.1), "x must be int8 or uint8"),
])
def test_refuses_what_kernels_do_not_define(call, message):
    """If it failed, words of 16 bits would overflow as a compiler pleases."""
    with pytest.raises(ValueError, match=message):
        call()
