"""LayerNorm and RMSNorm in fixed point against PyTorch and float64, within the bounds that they state."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pearray.golden import normalisation as golden

SEED = st.integers(0, 1 << 32)


@settings(max_examples=300)
@given(st.integers(0, 62), SEED)
def test_inverse_roots_are_near(bits, number):
    """If it failed, all of a row would be scaled by a wrong deviation."""
    value = (1 << bits) + number % (1 << bits) if bits else number % 2
    found = Fraction(float(golden.inverse_root(value)))
    if value == 0:
        assert found == 0
        return
    square = found * found * value
    assert (1 - Fraction(1, 1 << 22)) ** 2 < square < (1 + Fraction(1, 1 << 22)) ** 2
    assert float(found) == np.float32(float(found))


def _rows(rng, name, count, elements, dtype):
    """Rows of a distribution."""
    bounds = np.iinfo(dtype)
    drawn = rng.integers(bounds.min, bounds.max + 1, (count, elements))
    if name == "level":
        drawn[:] = drawn[:, :1]
        drawn[:, 0] += np.where(drawn[:, 0] == bounds.max, -1, 1)
    if name == "outlier":
        drawn[:] = drawn[:, :1] // 64
        drawn[:, -1] = bounds.max
    if name == "normal":
        drawn = np.clip(np.rint(rng.standard_normal((count, elements)) * 32), bounds.min, bounds.max)
    return drawn.astype(dtype)


def _reference(x, scale, gamma, beta, epsilon, centred):
    """Normalisation by its definition in float64."""
    values = x.astype(np.float64) * scale
    if centred:
        values = values - values.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return values / np.sqrt(np.square(values).mean(axis=-1, keepdims=True) + epsilon) * gamma + beta


@settings(max_examples=120)
@given(st.sampled_from(("even", "level", "outlier", "normal")), st.sampled_from((1, 2, 5, 64, 768, 4096)),
       st.sampled_from((np.int8, np.uint8, np.int16)), st.booleans(), st.sampled_from((0.0, 1e-5, 1e-2)),
       st.sampled_from((np.int8, np.uint8)), SEED)
def test_errors_are_as_stated(name, elements, dtype, centred, epsilon, made, number):
    """If it failed, the stated bound would be wrong, or a row of some shape would lose its precision."""
    rng = np.random.default_rng(number)
    x = _rows(rng, name, 3, elements, dtype)
    scale = float(2.0 ** rng.uniform(-10, 2))
    gamma, beta = rng.normal(1, 0.3, elements), rng.normal(0, 0.5, elements) * centred
    y_scale = float(rng.uniform(0.02, 0.1))
    bounds = np.iinfo(made)
    point = (bounds.min + bounds.max + 1) // 2 + int(rng.integers(-20, 20))
    gains = golden.Gains.of(gamma, beta if centred else None, y_scale)
    zero = 128 if dtype == np.uint8 and not centred else 0
    exact = _reference(x.astype(np.int64) - zero, scale, gamma, beta, epsilon, centred)
    if centred:
        y = golden.layer_norm(x, scale, gains, y_zero_point=point, epsilon=epsilon, dtype=made)
    else:
        y = golden.rms_norm(x, scale, gains, x_zero_point=zero, y_zero_point=point, epsilon=epsilon, dtype=made)
    assert y.dtype == made
    expected = np.clip(np.nan_to_num(exact / y_scale, nan=0.0) + point, bounds.min, bounds.max)
    # Of rows without deviation the definition makes 0 / 0 where nothing is added; the bias is left.
    undefined = np.isnan(exact)
    expected[undefined] = np.clip(np.broadcast_to(beta / y_scale, exact.shape)[undefined] + point, bounds.min,
                                  bounds.max)
    assert np.abs(y - expected).max() <= 0.5 + golden.error_bound(gains)
    # As small as that is worth saying for the usual sizes.
    if elements <= 4096:
        assert golden.error_bound(gains) < 0.5


@pytest.mark.parametrize("elements", [7, 768])
def test_agrees_with_pytorch(rng, elements):
    """If it failed, mean, variance or epsilon would mean something else than in other libraries."""
    x = _rows(rng, "normal", 5, elements, np.int8)
    gamma, beta = (rng.normal(1, 0.2, elements).astype(np.float32) for _ in range(2))
    real = torch.tensor(x.astype(np.float32) * np.float32(0.03))
    y = golden.layer_norm(x, 0.03, golden.Gains.of(gamma, beta, 0.05))
    theirs = torch.nn.functional.layer_norm(real, (elements,), torch.tensor(gamma), torch.tensor(beta)).numpy()
    assert np.abs(y - np.clip(theirs / 0.05, -128, 127)).max() <= 0.6
    y = golden.rms_norm(x, 0.03, golden.Gains.of(gamma, None, 0.05))
    theirs = torch.nn.functional.rms_norm(real, (elements,), torch.tensor(gamma), 1e-5).numpy()
    assert np.abs(y - np.clip(theirs / 0.05, -128, 127)).max() <= 0.6


def test_greatest_elements_do_not_wrap():
    """If it failed, one outlier in a long row would leave the 16 bits, or its sum the 32, and change its sign."""
    for elements in (2, 3, 4096, 1 << 15):
        x = np.full((1, elements), -(1 << 15), np.int16)
        x[0, 0] = (1 << 15) - 1
        gains = golden.Gains.of(np.ones(elements), np.full(elements, 10.0), 1.0)
        exact = _reference(x, 1.0, 1.0, 10.0, 0.0, True)
        y = golden.layer_norm(x, 1.0, gains, epsilon=0.0)
        assert np.abs(y - np.clip(exact, -128, 127)).max() <= 0.5 + golden.error_bound(gains)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: golden.Gains.of(np.ones(3), np.ones(2), 1.0), r"must have the same shape \(D,\)"),
    (lambda: golden.Gains.of(np.array([np.inf]), None, 1.0), "gamma and beta must be finite"),
    (lambda: golden.Gains.of(np.ones(3), None, 0.0), "y_scale must be finite and positive, not 0.0"),
    (lambda: golden.layer_norm(np.zeros((2, 3), np.int32), 1.0, golden.Gains.of(np.ones(3), None, 1.0)),
     "x must be int8, uint8 or int16, not int32"),
    (lambda: golden.layer_norm(np.zeros((2, 4), np.int8), 1.0, golden.Gains.of(np.ones(3), None, 1.0)),
     "must be that of gamma, 3"),
    (lambda: golden.rms_norm(np.zeros((2, 3), np.int8), 1.0, golden.Gains.of(np.ones(3), None, 1.0), epsilon=-1.0),
     "epsilon must be finite and at least 0.0, not -1.0"),
    (lambda: golden.rms_norm(np.zeros((2, 3), np.int8), 1.0, golden.Gains.of(np.ones(3), None, 1.0), dtype=np.int16),
     "dtype must be int8 or uint8, not int16"),
])
def test_refuses_what_does_not_fit(call, message):
    """If it failed, sums could leave their bits."""
    with pytest.raises(ValueError, match=message):
        call()
