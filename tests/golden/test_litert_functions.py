"""SOFTMAX and LOGISTIC in integers: against LiteRT's reference kernels, bit for bit, and against float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litert_node import run_node

from pearray.golden import gemmlowp, litert

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
    (lambda: litert.logistic(np.zeros(3, np.uint8), 0.1), "x must be int8, not uint8"),
])
def test_refuses_what_does_not_fit(call, message):
    """If it failed, words would wrap without a word."""
    with pytest.raises(ValueError, match=message):
        call()
