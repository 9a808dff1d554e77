"""How real numbers are stored in bytes."""

import numpy as np
import pytest

from pearray.workloads.stored import Stored, fitted, gelu_stored, weights


def test_numbers_come_back(rng):
    """Half a step away at most, and zero exactly: padding and masks count on it."""
    real = rng.uniform(-1, 3, (40, 30))
    stored = fitted(real)
    assert np.abs(stored.real(stored.integers(real)) - real).max() <= 0.501 * stored.scale
    assert stored.real(stored.integers(np.zeros(1)))[0] == 0
    assert stored.scale == pytest.approx(4 / 255, rel=0.01)


def test_rows_that_count_little_are_clipped(rng):
    """A number far away in a row that counts for nothing would take the steps of all others."""
    real = rng.normal(0, 1, (64, 32))
    real[5, 7] = 40
    counts = np.ones(64)
    counts[5] = 0
    clipped, kept = fitted(real, symmetric=True, importance=counts), fitted(real, symmetric=True)
    assert clipped.zero == kept.zero == 0
    assert clipped.scale == pytest.approx(40 * 0.3 / 127, rel=0.01)
    assert kept.scale > 2.5 * clipped.scale


def test_range_before_gelu_holds_what_is_left_of_it(rng):
    """GELU's results are stored as its arguments are: far below zero nothing is lost, above nothing may be."""
    real = rng.normal(-1, 3, (64, 32))
    stored = gelu_stored(real)
    low, high = stored.real(np.array([-128, 127], np.int8))
    assert -4 < low < -1.9
    assert high > 0.5 * real.max()


def test_weights_have_a_scale_for_each_output(rng):
    """A scale for all would leave small rows nothing; a row of zeros has one, too."""
    real = rng.normal(0, 1, (4, 50)) * np.array([[1], [100], [0], [0.01]])
    found, scales = weights(real)
    assert np.abs(found * scales[:, None] - real).max(axis=1) == pytest.approx(0, abs=1)
    assert (np.abs(found * scales[:, None] - real) <= 0.501 * scales[:, None]).all()
    assert [*np.abs(found).max(axis=1)] == [127, 127, 0, 127]


def test_a_zero_point_is_a_byte():
    """Ranges beyond zero on one side end at a byte."""
    assert Stored.between(0.0, 1.0) == Stored(float(np.float32(1 / 255)), -128)
    assert Stored.between(-1.0, 0.0).zero == 127
