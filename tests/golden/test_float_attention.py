"""Fused attention of floats: against its definition, number by number, and against softmax in floating point."""

from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pearray.golden import float_attention as golden
from pearray.golden.attention import attention_online
from pearray.golden.fused_attention import EMPTY, quotient

SEED = st.integers(0, 1 << 32)
FORMATS = (ml_dtypes.bfloat16, np.float16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)


def drawn(rng, kind, shape, spread=1.0):
    """Numbers of a format."""
    return (rng.standard_normal(shape) * spread).astype(kind)


def reference(q, k, v, scale, mask=0.0):
    """Outputs (H, P, F) and weights (H, P, M) in float64."""
    queries, keys, values = (each.astype(np.float64) for each in (q, k, v))
    scores = queries @ keys.swapaxes(1, 2) * scale + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weights @ values, weights


# --- The numbers, one at a time ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: np.dtype(kind).name)
def test_numerators_are_powers_of_two_of_the_format(kind):
    """If it failed, a numerator would be another number than the nearest one, or a small one lost before it must."""
    number = np.dtype(kind)
    top = golden.greatest_numerator(number)
    t = -np.arange(0, 40 * 256, 7)
    total = t.astype(np.float32)[:, None]
    # A block of the greatest and one other.
    pairs = np.concatenate([np.zeros_like(total), total], axis=1)
    found, _, state = golden.float_softmax_block(pairs, np.float32(1), np.zeros(pairs.shape, bool),
                                                 golden.SoftmaxState.empty(len(t)), kind)
    least = 2.0 ** int(ml_dtypes.finfo(number).minexp)
    for below, numerator, sum_ in zip(-t, found[:, 1], state.total, strict=True):
        octaves, rest = divmod(int(below), 256)
        exact = Decimal(2) ** (Decimal(-rest) / 256)
        nearest = Fraction(float(np.array(float(exact)).astype(kind)))
        lost = octaves > 31 or Fraction(1, 2) * Fraction(2) ** (top - octaves) < Fraction(least)
        expected = 0 if lost else nearest * Fraction(2) ** (top - octaves)
        assert Fraction(float(numerator)) == expected, below
        counted = 0 if lost else (nearest * 2 ** 23 / 2 ** octaves + Fraction(1, 2)).__floor__()
        assert int(sum_) == 2 ** 23 + counted
    assert float(found[0, 0]) == 2.0 ** top


@settings(max_examples=200)
@given(st.integers(0, (1 << 32) - 1), st.integers(0, 31))
def test_rescaling_is_exact_or_zero(bits, amount):
    """If it failed, outputs that are rescaled would lose bits, or differ from the accumulators'."""
    number = np.array([bits], np.uint32).view(np.float32)
    found = golden.rescaled(number, amount)
    if not np.isfinite(number[0]):
        assert found.view(np.uint32)[0] == bits
        return
    exact = Fraction(float(number[0])) / 2 ** amount
    if amount and abs(exact) < Fraction(2) ** -126:
        exact = Fraction(0)
    assert Fraction(float(found[0])) == exact
    assert np.signbit(found[0]) == (np.signbit(number[0]) and (exact != 0 or amount == 0))


def plain_row(query, keys, values, addends, unit, bounds, block, tile, kind):
    """One row of attention, an operation of float32 at a time."""
    zero, width = np.float32(0), len(values[0])
    top, sums, maximum, total = golden.greatest_numerator(np.dtype(kind)), None, EMPTY, 0
    for start in range(0, len(keys), block):
        numbers = range(start, min(start + block, len(keys)))
        t = []
        for j in numbers:
            score = None
            for first in range(0, len(query), tile):
                partial = zero
                for e in range(first, min(first + tile, len(query))):
                    partial = partial + query[e] * keys[j][e]
                score = partial if score is None else score + partial
            score = score + addends[j]
            hidden = not bounds[0] <= j < bounds[1] or score == -np.inf
            t.append(None if hidden else int(np.clip(np.rint(score * unit), -(2 ** 24 - 1), 2 ** 24 - 1)))
        found = max([-(-each // 256) for each in t if each is not None], default=EMPTY)
        numerators, added = [], 0
        for each in t:
            below = None if each is None else found * 256 - each
            if below is None or below >> 8 > 31:
                numerators.append(zero)
                continue
            n = np.float32(np.float64(2.0 ** (-(below & 255) / 256)).astype(kind))
            numerators.append(np.ldexp(n, top - (below >> 8)))
            added += (Fraction(float(n)) * 2 ** 23 / 2 ** (below >> 8) + Fraction(1, 2)).__floor__()
        risen = max(maximum, found)
        old, part = min(risen - maximum, 31), min(risen - found, 31)
        total = sum((Fraction(each, 2 ** by) + Fraction(1, 2)).__floor__() if by else each
                    for each, by in ((total, old), (added, part)))
        maximum = risen
        sums = sums if sums is None else [each * np.float32(2.0 ** -old) for each in sums]
        for first in range(0, len(numerators), tile):
            partials = [zero] * width
            for i in range(first, min(first + tile, len(numerators))):
                partials = [each + numerators[i] * values[start + i][f] for f, each in enumerate(partials)]
            partials = [each * np.float32(2.0 ** -part) for each in partials]
            sums = partials if sums is None else [a + b for a, b in zip(sums, partials, strict=True)]
    factor = quotient(np.float32(2.0 ** (23 - top)), total)
    return [np.float32(each * factor).astype(kind) for each in sums]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 25), st.integers(1, 8), st.integers(1, 8), st.booleans(), st.integers(0, 12),
       SEED)
def test_equals_the_definition_number_by_number(rows, length, block, tile, masks, spread, number):
    """If it failed, a step of the model, or an order of sums, would differ from what the command format says."""
    rng, kind = np.random.default_rng(number), FORMATS[number % 2]
    q, k, v = drawn(rng, kind, (1, rows, 9), spread), drawn(rng, kind, (1, length, 9)), drawn(rng, kind, (1, length, 2))
    mask = np.where(rng.random((rows, length)) < 0.2, -np.inf, rng.normal(0, 3, (rows, length))) if masks else None
    high = int(rng.integers(0, length + 1))
    y = golden.float_attention(q, k, v, mask=mask, lengths=high, block=block, tile=tile)
    addends = np.zeros((rows, length), np.float32) if mask is None else (mask * 3).astype(np.float32)
    unit = np.float32(np.log2(np.e) / 3 * 256)
    operands = [each[0].astype(np.float32) for each in (q, k, v)]
    for p in range(rows):
        expected = plain_row(operands[0][p], *operands[1:], addends[p], unit, (0, high), block, tile, kind)
        assert y[0, p].tobytes() == np.array(expected).tobytes()


# --- Errors -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: np.dtype(kind).name)
@pytest.mark.parametrize("length", [1, 33, 500])
@pytest.mark.parametrize("spread", [0.01, 1, 8])
def test_errors_are_within_the_bound(rng, kind, length, spread):
    """If it failed, peaked, long or level rows would lose more precision than the page says."""
    q, k = drawn(rng, kind, (2, 8, 16), spread), drawn(rng, kind, (2, length, 16))
    v = drawn(rng, kind, (2, length, 5), 0.1)
    y = golden.float_attention(q, k, v, tile=8)
    exact, weights = reference(q, k, v, 0.25)
    half, least = float(ml_dtypes.finfo(kind).eps) / 2, float(ml_dtypes.finfo(kind).smallest_subnormal)
    numerator = (1 + half) * 2 ** (1 / 512) - 1
    apart = np.abs(v.astype(np.float64)[:, None] - exact[:, :, None])
    # What a format loses is less than two of its least normal numbers, the greatest numerator being 1.
    lost = 2.0 ** max(-31, 2 * int(ml_dtypes.finfo(kind).minexp)) * length * np.abs(v.astype(np.float64)).max()
    bound = numerator / (1 - numerator) * np.einsum("hpm,hpmf->hpf", weights, apart) * 1.001 + lost
    error = np.abs(y.astype(np.float64) - exact)
    assert (error <= bound * (1 + half) + np.abs(exact) * half * 1.001 + least).all()


@pytest.mark.parametrize("length", [5, 300])
def test_is_as_near_as_pytorch(rng, length):
    """If it failed, attention in bfloat16 would be worse than that of a library which rounds its weights to it."""
    kind = ml_dtypes.bfloat16
    q, k, v = drawn(rng, kind, (2, 40, 32), 2), drawn(rng, kind, (2, length, 32)), drawn(rng, kind, (2, length, 16))
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *(torch.tensor(each.astype(np.float32)).to(torch.bfloat16) for each in (q, k, v))).float().numpy()
    exact, _ = reference(q, k, v, 32 ** -0.5)
    errors = [np.sqrt(np.square(each.astype(np.float64) - exact).mean())
              for each in (golden.float_attention(q, k, v, tile=32), theirs)]
    assert errors[0] <= 1.5 * errors[1]


@pytest.mark.parametrize("order", [1, -1])
def test_a_running_maximum_loses_nothing(rng, order):
    """If it failed, scores that rise from block to block, or fall, would be weighed against another maximum."""
    kind, length = ml_dtypes.bfloat16, 200
    q, k = np.full((1, 1, 1), 1, kind), (np.arange(length)[::order, None][None] / 4).astype(kind)
    v = drawn(rng, kind, (1, length, 6))
    y = golden.float_attention(q, k, v, scale=1.0, block=8, tile=4)
    exact = attention_online(q, k, v, scale=1.0, block=8)
    assert np.abs(y.astype(np.float32) - exact).max() <= 2 ** -7 * np.abs(v.astype(np.float32)).max()


# --- Properties -------------------------------------------------------------------------------------------------------

@settings(max_examples=40)
@given(SEED, st.booleans(), st.one_of(st.none(), st.integers(1, 20)), st.integers(-20, 20), st.booleans())
def test_bounds_are_masks(number, causal, window, offset, ragged):
    """If it failed, causal rows, windows, lengths or the place of the first query would hide other keys."""
    rng, kind = np.random.default_rng(number), FORMATS[number % 4]
    rows, length, elements = (int(rng.integers(1, most)) for most in (20, 40, 20))
    q, k, v = (drawn(rng, kind, (2, size, elements)) for size in (rows, length, length))
    lengths = rng.integers(0, length + 1, 2) if ragged else None
    place, m = np.arange(rows)[:, None] + offset, np.arange(length)
    seen = np.ones((2, rows, length), bool)
    if causal:
        seen &= m <= place
    if window is not None:
        seen &= np.abs(m - place) < window
    if lengths is not None:
        seen &= m < lengths[:, None, None]
    options = {"block": int(rng.integers(1, 12)), "tile": int(rng.integers(1, 12))}
    y = golden.float_attention(q, k, v, **options, causal=causal, window=window, offset=offset, lengths=lengths)
    for mask in (seen, np.where(seen, 0.0, -np.inf)):
        assert y.tobytes() == golden.float_attention(q, k, v, **options, mask=mask).tobytes()
    assert not y[~seen.any(axis=-1)].astype(np.float32).any()


def test_grouped_heads_are_repeated_heads(rng):
    """If it failed, heads of queries would meet keys or values of another group."""
    q, k, v = (drawn(rng, ml_dtypes.bfloat16, (heads, size, 5)) for heads, size in ((6, 4), (2, 9), (2, 9)))
    whole = golden.float_attention(q, k, v)
    for head in range(6):
        group = slice(head // 3, head // 3 + 1)
        one = golden.float_attention(q[head:head + 1], k[group], v[group])
        assert whole[head].tobytes() == one[0].tobytes()


def test_what_is_no_number_spreads_to_its_query_alone(rng):
    """If it failed, an overflow would look like a result, or a key that is hidden would spoil its row."""
    kind = ml_dtypes.bfloat16
    q, k, v = drawn(rng, kind, (1, 4, 3)), drawn(rng, kind, (1, 20, 3)), drawn(rng, kind, (1, 20, 2))
    q[0, 1], q[0, 2] = np.inf, np.nan
    y = golden.float_attention(q, k, v, block=8).astype(np.float32)
    assert np.isfinite(y[0, [0, 3]]).all()
    assert np.isnan(y[0, [1, 2]]).all()
    k[0, 15] = np.nan
    y = golden.float_attention(q, k, v, block=8, lengths=15).astype(np.float32)
    assert np.isfinite(y[0, [0, 3]]).all()
