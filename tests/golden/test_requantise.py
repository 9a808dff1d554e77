"""Requantisation rules against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pearray.golden import requantise

INT32 = st.integers(-(1 << 31), (1 << 31) - 1)


def away_from_zero(numerator, bits):
    """``numerator / 2**bits`` rounded to the nearest integer, halves away from zero, in Python integers."""
    magnitude = (abs(numerator) + (1 << bits >> 1)) >> bits
    return magnitude if numerator >= 0 else -magnitude


def double_rounding(acc, multiplier, shift):
    """Gemmlowp's two roundings in unbounded integers, written as gemmlowp defines them."""
    left = ((acc << max(shift, 0)) + (1 << 31)) % (1 << 32) - (1 << 31)
    product = left * multiplier
    nudge = 1 << 30 if product >= 0 else 1 - (1 << 30)
    total = product + nudge
    high = total >> 31 if total >= 0 else -(-total >> 31)
    high = min(high, (1 << 31) - 1)
    return away_from_zero(high, max(-shift, 0))


@given(st.lists(INT32, min_size=1, max_size=40), st.integers(0, (1 << 31) - 1), st.integers(-31, 30),
       st.integers(-128, 127))
def test_tflite_equals_unbounded_integers(sums, multiplier, shift, zero_point):
    """If it failed, a rounding, a saturation or an overflow of int64 would differ from the definition."""
    acc = np.array(sums, np.int32)
    double = requantise.tflite(acc, multiplier, shift, zero_point, -(1 << 15), (1 << 15) - 1)
    single = requantise.tflite(acc, multiplier, shift, zero_point, -(1 << 15), (1 << 15) - 1,
                               rounding="single")
    for i, value in enumerate(sums):
        once = value * multiplier + (1 << 30 - shift) >> 31 - shift
        expected = [max(-(1 << 15), min((1 << 15) - 1, y + zero_point))
                    for y in (double_rounding(value, multiplier, shift), once)]
        assert [double[i], single[i]] == expected


@pytest.mark.parametrize(("acc", "double", "single"), [
    (1, 1, 1), (-1, -1, 0), (3, 2, 2), (-3, -2, -1), (2, 1, 1), (-2, -1, -1), (5, 3, 3), (-5, -3, -2),
])
def test_tflite_ties(acc, double, single):
    """If it failed, halves of one sign would round the wrong way; the two rules differ below zero."""
    sums = np.array([acc], np.int32)
    # Multiplication by one half, as the nearest below one times a right shift.
    assert requantise.tflite(sums, (1 << 31) - 1, -1)[0] == double
    assert requantise.tflite(sums, 1 << 30, 0, rounding="single")[0] == single


@given(st.lists(INT32, min_size=1, max_size=60),
       st.floats(2.0**-40, 2.0**8, width=32), st.integers(-128, 127))
def test_onnx_equals_exact_rounding(sums, scale, zero_point):
    """If it failed, one of the two float32 roundings or the tie to even would be missing."""
    ours = requantise.onnx(np.array(sums, np.int32), np.float32(scale), zero_point)
    for i, value in enumerate(sums):
        product = np.float32(np.float32(value) * np.float32(scale))
        exact = round(Fraction(float(product)))
        assert ours[i] == max(-128, min(127, exact + zero_point))


def test_onnx_ties_go_to_even():
    """If it failed, halves would go up or away from zero."""
    sums = np.array([-5, -3, -1, 1, 3, 5], np.int32)
    assert requantise.onnx(sums, 0.5, 1).tolist() == [-1, -1, 1, 1, 3, 3]


def test_onnx_rounds_the_sum_to_float32_first():
    """If it failed, sums beyond 24 bits would keep bits that onnxruntime drops."""
    sums = np.array([(1 << 24) + 1, (1 << 24) + 3], np.int32)
    assert requantise.onnx(sums, 1.0, 0, -(1 << 30), 1 << 30).tolist() == [1 << 24, (1 << 24) + 4]


def test_per_channel_scales_follow_the_axis(rng):
    """If it failed, a channel would be given its neighbour's scale or shift."""
    acc = rng.integers(-(1 << 20), 1 << 20, (2, 5, 3, 4)).astype(np.int32)
    scales = rng.uniform(1e-5, 1e-3, 5).astype(np.float32)
    multipliers, shifts = rng.integers(1 << 30, 1 << 31, 5), rng.integers(-15, -5, 5)
    onnx = requantise.onnx(acc, scales, 3)
    tflite = requantise.tflite(acc, multipliers, shifts, 3)
    for m in range(5):
        assert (onnx[:, m] == requantise.onnx(acc[:, m], scales[m], 3)).all()
        assert (tflite[:, m] == requantise.tflite(acc[:, m], multipliers[m], shifts[m], 3)).all()
    last = requantise.onnx(acc[:, :, 0, 0], scales, 3, axis=-1)
    assert (last == onnx[:, :, 0, 0]).all()


@given(st.floats(1e-9, 1e6))
def test_multiplier_splits_a_scale(scale):
    """If it failed, a scale given as a float would be off by more than half a unit in the last place."""
    multiplier, shift = requantise.tflite_multiplier(scale)
    assert 1 << 30 <= multiplier < 1 << 31
    ratio = Fraction(multiplier) * Fraction(2) ** (shift - 31) / Fraction(scale)
    assert abs(ratio - 1) <= Fraction(1, 1 << 31)


@pytest.mark.parametrize(("call", "message"), [
    (lambda a: requantise.onnx(a.astype(np.float32), 1.0), r"^acc must be of an integer type, not float32$"),
    (lambda a: requantise.onnx(a, np.nan), r"^scale must be finite and not negative, not nan$"),
    (lambda a: requantise.onnx(a, np.ones(2)), r"^scale must be a scalar or have shape \(3,\), not \(2,\)$"),
    (lambda a: requantise.onnx(a, 1.0, low=5, high=4), r"^low must be at most high \(4\), not 5$"),
    (lambda a: requantise.onnx(a, np.ones(3), axis=2), r"^axis must be in -2\.\.1, not 2$"),
    (lambda a: requantise.onnx_scale(1.0, 0.0, 1.0), r"^w_scale must be finite and positive, not 0\.0$"),
    (lambda a: requantise.onnx_scale(1.0, 1.0, 1e-42),
     r"^x_scale \* w_scale / y_scale must be finite, not inf$"),
    (lambda a: requantise.tflite(a, -1, 0), r"^multiplier must be in 0\.\.2147483647, not -1$"),
    (lambda a: requantise.tflite(a, 1, 31), r"^shift must be in -31\.\.30, not 31$"),
    (lambda a: requantise.tflite(a.astype(np.int64) << 40, 1, 0),
     r"^acc must be in -2147483648\.\.2147483647"),
    (lambda a: requantise.tflite(a, 1.5, 0), r"^multiplier must be of an integer type, not float64$"),
    (lambda a: requantise.tflite(a, 1, 0, rounding="up"),
     r"^rounding must be 'double' or 'single', not 'up'$"),
    (lambda a: requantise.tflite_multiplier(0.0), r"^scale must be finite and positive, not 0\.0$"),
    (lambda a: requantise.tflite_multiplier(2.0**31),
     r"^scale must be less than 2\*\*30, not 2147483648\.0$"),
])
def test_wrong_arguments_are_named(call, message):
    """If it failed, a mistake would be accepted or its message would not name the field."""
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 3), np.int32))
