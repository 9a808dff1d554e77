"""Fused attention in integers: against its definition in plain Python, and against softmax in floating point."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from attention_errors import (
    DISTRIBUTIONS,
    LENGTHS,
    directed,
    distribution,
    draw,
    measured_errors,
    normal,
    quotients,
    reference,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from pearray.golden import fused_attention as golden

SEED = st.integers(0, 1 << 32)
ONE = {"q_scale": 1.0, "k_scale": 1.0, "v_scale": 1.0, "y_scale": 1.0}


# --- The integers, one number at a time -------------------------------------------------------------------------------

@given(st.integers(-(1 << 50), 1 << 50), st.integers(0, 62))
def test_rshift_rounds_halves_upwards(x, amount):
    """If it failed, outputs that are rescaled would drift, or differ from the accumulators'."""
    assert int(golden.rshift(x, amount)) == (Fraction(x, 1 << amount) + Fraction(1, 2)).__floor__()


def test_numerators_are_powers_of_two_to_the_last_bit():
    """If it failed, a table made by another library of floating point might have other entries."""
    for r, found in enumerate(golden.NUMERATORS):
        exact = 65280 * Decimal(2) ** (Decimal(-r) / 256)
        assert abs(found - exact) < Decimal("0.4999"), r


@settings(max_examples=300)
@given(st.floats(-40, 60), st.integers(0, 40), SEED)
def test_quotients_are_truncated_significands(exponent, bits, number):
    """If it failed, the divider would be held to other bits than the specification's, or be too coarse."""
    factor = np.float32(np.clip(2.0 ** exponent, 2.0 ** -40, 2.0 ** 60))
    total = number % (1 << bits)
    found = golden.quotient(factor, total)
    assert found.dtype == np.float32
    if total == 0:
        assert found == 0
        return
    fields = int(factor.view(np.uint32))
    mantissa, power = fields & 0x7FFFFF | 0x800000, (fields >> 23) - 150
    length = total.bit_length()
    leading = int(Fraction(total) / Fraction(2) ** (length - 24))
    bits_of_quotient = mantissa * 2 ** 24 // leading
    assert 2 ** 23 < bits_of_quotient < 2 ** 25
    kept = bits_of_quotient if bits_of_quotient < 2 ** 24 else bits_of_quotient // 2 * 2
    assert Fraction(float(found)) == kept * Fraction(2) ** (power - (length - 24) - 24)
    exact = Fraction(float(factor)) / total
    assert abs(Fraction(float(found)) - exact) < exact / 2 ** 22


def shifted(x, amount):
    """Round ``x / 2**amount``, halves upwards."""
    return (x + (1 << amount - 1)) >> amount if amount else x


def plain_row(query, keys, values, biases, scale, end, block, tile, two_bytes):
    """One row of attention in Python's integers: sums, and the sum of the numerators."""
    sums, maximum, total = [0] * len(values[0]), golden.EMPTY, 0
    for start in range(0, len(keys), block):
        scores, numerators = [], []
        for j in range(start, min(start + block, len(keys))):
            score = sum(a * b for a, b in zip(query, keys[j], strict=True)) + biases[j]
            t = int(np.rint(np.float32(score) * scale))
            t = max(-(2 ** 24 - 1), min(2 ** 24 - 1, t))
            scores.append(None if j >= end or score < -2 ** 29 else t)
        found = max([-(-t // 256) for t in scores if t is not None], default=golden.EMPTY)
        for t in scores:
            if t is None:
                numerators.append(0)
                continue
            octaves, rest = divmod(found * 256 - t, 256)
            entry = int((65280 * Decimal(2) ** (Decimal(-rest) / 256)).to_integral_value())
            # Bits of the key's place in the block, the lowest first, are those of a fraction.
            nudge = sum(128 >> bit for bit in range(5) if (len(numerators) >> bit) & 1) + 4
            numerators.append(shifted(entry, octaves) if two_bytes else (entry >> octaves) + nudge >> 8)
        risen = max(maximum, found)
        old, part = min(risen - maximum, 31), min(risen - found, 31)
        added = sum(numerators) * (1 if two_bytes else 256) * 16
        maximum, total = risen, shifted(total, old) + shifted(added, part)
        sums = [shifted(each, old) for each in sums]
        for byte in ((8, 0) if two_bytes else (0,)):
            amount = min(part + 8, 31) if two_bytes and byte == 0 else part
            for first in range(0, len(numerators), tile):
                chosen = range(first, min(first + tile, len(numerators)))
                products = [sum((numerators[i] >> byte & 255) * values[start + i][f] for i in chosen)
                            for f in range(len(sums))]
                sums = [each + shifted(product, amount) for each, product in zip(sums, products, strict=True)]
    return sums, total


@settings(max_examples=60)
@given(st.integers(1, 3), st.integers(1, 25), st.integers(1, 8), st.integers(1, 8), st.booleans(),
       st.floats(-14, -2), st.booleans(), SEED)
def test_equals_the_definition_in_plain_integers(rows, length, block, tile, two_bytes, spread, masks, number):
    """If it failed, a step of the model would differ from what the command format says."""
    rng = np.random.default_rng(number)
    q, k, v = draw(rng, (1, rows, 3)), draw(rng, (1, length, 3)), draw(rng, (1, length, 2))
    unit = 2.0 ** spread
    mask = np.where(rng.random((rows, length)) < 0.2, -np.inf, rng.normal(0, 3, (rows, length))) if masks else None
    high = int(rng.integers(0, length + 1))
    options = {"q_scale": unit, "k_scale": 1.0, "scale": 1.0, "mask": mask, "lengths": high, "block": block,
               "tile": tile, "two_bytes": two_bytes}
    sums, state = golden.attention_sums(q, k, v, **options)
    y = golden.fused_attention(q, k, v, v_scale=0.02, y_scale=0.015, **options)
    scale = np.float32(unit * np.log2(np.e) * 256)
    for p in range(rows):
        biases = [0] * length if mask is None else [
            -2 ** 30 if np.isneginf(each) else int(np.rint(each / unit)) for each in mask[p]]
        expected, total = plain_row(q[0, p].tolist(), k[0].tolist(), v[0].tolist(), biases, scale, high, block,
                                    min(tile, block), two_bytes)
        assert (sums[0, p].tolist(), int(state.total[0, p])) == (expected, total)
        factor = golden.quotient(np.float32(0.02 / 0.015 * 4096), total)
        rounded = [int(np.clip(np.rint(np.float32(each) * factor), -128, 127)) for each in expected]
        assert y[0, p].tolist() == rounded


# --- Errors -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("two_bytes", [False, True])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_errors_are_small(rng, name, two_bytes):
    """If it failed, peaked, long or level rows would lose more precision than is promised."""
    most, rms = (0.2, 0.05) if two_bytes else (3.0, 0.7)
    for length in LENGTHS:
        errors = measured_errors(name, length, rng, two_bytes)
        assert errors.before[0] <= most, length
        assert errors.before[1] <= rms, length
        # Rounding to int8 adds a half at most, and of rms what an even distribution over one step has.
        assert errors.after[0] <= (most + 0.5 if two_bytes else most), length
        assert errors.after[1] <= (np.hypot(rms, 0.35) if two_bytes else rms), length


@pytest.mark.parametrize("block", [4, 8, 16, 64])
def test_errors_of_other_blocks_are_small(rng, block):
    """If it failed, the promise would hold for arrays of 32 columns only."""
    for name in ("N(0, 1)", "sink first"):
        q, k, v, unit = distribution(name, 512, rng)
        y = golden.fused_attention(q, k, v, q_scale=unit, k_scale=1.0, v_scale=1.0, y_scale=1.0, scale=1.0,
                                   block=block, tile=max(block // 2, 1))
        error = y - reference(q, k, v, unit)
        assert np.abs(error).max() <= 3
        assert np.sqrt(np.square(error).mean()) <= 0.7


@pytest.mark.parametrize("two_bytes", [False, True])
def test_errors_are_within_what_numerators_are_off(rng, two_bytes):
    """If it failed, rows of any scores and values could be further off than the page says."""
    off = 1 / 512 if two_bytes else 1
    for _ in range(40):
        length = int(rng.choice([1, 2, 31, 32, 33, 64, 200]))
        along = [rng.normal(0, rng.uniform(0.1, 8), length), rng.uniform(-rng.uniform(0, 10), 0, length),
                 np.where(rng.random(length) < 0.1, rng.uniform(0, 10), 0.0)][int(rng.integers(3))]
        q, k, unit = directed(rng, along, 8, 16)
        # Values at the ends of their range are the worst.
        v = np.where(rng.integers(0, 2, (1, length, 16)), np.int8(127), np.int8(-128))
        exact, weights = reference(q[None], k[None], v, unit), q.astype(np.float64) @ k.astype(np.float64).T * unit
        sums, state = golden.attention_sums(q[None], k[None], v, q_scale=unit, k_scale=1.0, scale=1.0,
                                            two_bytes=two_bytes)
        total = state.total[0] / 4096
        apart = np.abs(v[0][None].astype(np.float64) - exact[0][:, None])
        shares = np.exp(weights - weights.max(-1, keepdims=True)) * 255
        # What joins of blocks round away is less than a sum of a numerator and a value for each block.
        bound = (np.einsum("pmf,pm->pf", apart, off + 0.0015 * shares) + -(-length // 32)) / total[:, None]
        assert (np.abs(quotients(sums, state)[0] - exact[0]) <= bound).all()


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40), st.integers(1, 24), st.sampled_from((1, 2, 3)),
       st.sampled_from((1, 2)), st.sampled_from(("none", "bool", "float", "row")), st.booleans(), SEED)
def test_agrees_with_pytorch(rows, length, elements, features, groups, shared, sort, causal, number):
    """If it failed, heads, masks or the default scale would mean something else than in other libraries."""
    rng = np.random.default_rng(number)
    q, k = normal(rng, (groups * shared, rows, elements)), normal(rng, (groups, length, elements))
    v = normal(rng, (groups, length, features))
    seen = rng.random((rows, length)) < 0.7
    seen[:, 0] = True
    mask = {"none": None, "bool": seen, "row": seen[-1], "float": np.where(seen, rng.normal(0, 1, seen.shape), -np.inf)
            }[sort]
    sums, state = golden.attention_sums(q, k, v, q_scale=1 / 32, k_scale=1 / 32, mask=mask, causal=causal,
                                        two_bytes=True)
    added = np.zeros((rows, length))
    if mask is not None:
        added = added + (np.where(mask, 0, -np.inf) if mask.dtype == bool else mask)
    if causal:
        added = added + np.where(np.tri(rows, length, dtype=bool), 0, -np.inf)
    operands = [torch.tensor(each.astype(np.float32) * scale) for each, scale in ((q, 1 / 32), (k, 1 / 32), (v, 1))]
    operands[1:] = [each.repeat_interleave(shared, 0) for each in operands[1:]]
    theirs = torch.nn.functional.scaled_dot_product_attention(*operands, attn_mask=torch.tensor(added,
                                                                                               dtype=torch.float32))
    assert np.abs(quotients(sums, state) - theirs.numpy()).max() <= 0.2


# --- Properties -------------------------------------------------------------------------------------------------------

def case(number, heads=(2, 2), length=None):
    """Operands, and scales with which outputs are not all alike."""
    rng = np.random.default_rng(number)
    rows, keys, elements, features = (int(rng.integers(1, most)) for most in (20, 50, 30, 10))
    keys = length or keys
    q, k = draw(rng, (heads[0], rows, elements)), draw(rng, (heads[1], keys, elements))
    scales = {"q_scale": 0.02, "k_scale": 0.01, "v_scale": 0.05, "y_scale": 0.04, "block": int(rng.integers(1, 12)),
              "tile": int(rng.integers(1, 12)), "two_bytes": bool(rng.integers(2))}
    return rng, (q, k, draw(rng, (heads[1], keys, features))), scales


@settings(max_examples=40)
@given(SEED)
def test_blocks_that_no_row_sees_may_be_left_out(number):
    """If it failed, a schedule that skips blocks would have other results than one that computes them."""
    rng, (q, k, v), scales = case(number)
    block, length = scales["block"], k.shape[1]
    kept = rng.random(-(-length // block)) < 0.5
    keys = np.repeat(kept, block)[:length]
    if not keys.any():
        return
    seen = rng.random((2, q.shape[1], length)) < 0.8
    whole = golden.fused_attention(q, k, v, **scales, mask=seen & keys)
    parts = golden.fused_attention(q, k[:, keys], v[:, keys], **scales, mask=seen[..., keys])
    np.testing.assert_array_equal(whole, parts)


@settings(max_examples=60)
@given(SEED, st.booleans(), st.one_of(st.none(), st.integers(1, 20)), st.integers(-20, 20), st.booleans())
def test_bounds_are_masks(number, causal, window, offset, ragged):
    """If it failed, causal rows, windows, lengths or the place of the first query would hide other keys."""
    rng, (q, k, v), scales = case(number)
    lengths = rng.integers(0, k.shape[1] + 1, 2) if ragged else None
    place, m = np.arange(q.shape[1])[:, None] + offset, np.arange(k.shape[1])
    seen = np.ones((2, *np.broadcast_shapes(place.shape, m.shape)), bool)
    if causal:
        seen &= m <= place
    if window is not None:
        seen &= np.abs(m - place) < window
    if lengths is not None:
        seen &= m < lengths[:, None, None]
    y = golden.fused_attention(q, k, v, **scales, causal=causal, window=window, offset=offset, lengths=lengths)
    np.testing.assert_array_equal(y, golden.fused_attention(q, k, v, **scales, mask=seen))
    hidden = np.where(seen, 0.0, -np.inf)
    np.testing.assert_array_equal(y, golden.fused_attention(q, k, v, **scales, mask=hidden))
    assert not y[~seen.any(axis=-1)].any()


@settings(max_examples=30)
@given(SEED, st.sampled_from(((2, 1), (6, 2), (4, 4))))
def test_grouped_heads_are_repeated_heads(number, heads):
    """If it failed, heads of queries would meet keys or values of another group."""
    _, (q, k, v), scales = case(number, heads)
    shared = heads[0] // heads[1]
    whole = golden.fused_attention(q, k, v, **scales)
    for head in range(heads[0]):
        one = golden.fused_attention(q[head:head + 1], k[head // shared:head // shared + 1],
                                     v[head // shared:head // shared + 1], **scales)
        np.testing.assert_array_equal(whole[head], one[0])


def test_rows_without_keys_are_zero(rng):
    """If it failed, a padded query would give NaN's cousin: a division by a sum of nothing."""
    q, k, v = draw(rng, (1, 5, 8)), draw(rng, (1, 40, 8)), draw(rng, (1, 40, 6))
    for two_bytes in (False, True):
        for mask in (np.zeros((5, 40), bool), np.full((5, 40), -np.inf), np.full((5, 40), -3e38)):
            assert not golden.fused_attention(q, k, v, **ONE, mask=mask, two_bytes=two_bytes).any()


@pytest.mark.parametrize("value", [-1e4, -1e5, -1e9])
@pytest.mark.parametrize("unit", [1e-8, 1 / 1024])
def test_what_is_added_to_all_keys_changes_nothing(rng, value, unit):
    """Libraries hide keys by numbers; of a row whose keys all have the same one, softmax is that of the scores.

    If it failed, such a row would give zeros, or the mean of all values, according to the scales.
    """
    q, k, v = draw(rng, (1, 3, 8)), draw(rng, (1, 40, 8)), draw(rng, (1, 40, 6))
    scales = ONE | {"q_scale": unit, "scale": 1.0}
    mask = np.zeros((3, 40))
    mask[0], mask[1, 3:] = value, value
    mask[2] = value
    mask[2, ::2] = -np.inf
    found = golden.fused_attention(q, k, v, **scales, mask=mask)
    shown = np.ones((3, 40), bool)
    shown[1, 3:] = False
    shown[2, ::2] = False
    # A number that leaves scores their precision stays, and the scores round elsewhere.
    assert np.abs(found - golden.fused_attention(q, k, v, **scales, mask=shown).astype(int)).max() <= 1
    # What differs within such a row counts.
    mask[0, 5] += 30 + 2 * 8 * 2 ** 14 * unit
    assert np.array_equal(golden.fused_attention(q, k, v, **scales, mask=mask)[0, 0], v[0, 5])


@pytest.mark.parametrize("value", [-96768.0, -1e9, 5e4, 3e38])
@pytest.mark.parametrize("unit", [1e-8, 1 / 73.9 ** 2])
@pytest.mark.parametrize("shape", [(1, 40), (9, 40), (2, 9, 40)])
def test_great_masks_of_visible_keys_change_nothing(rng, value, unit, shape):
    """What is hidden besides does not count, whichever way rows are great.

    If it failed, causal rows whose other keys have a mask of 0, or lengths, would give zeros or the mean of values.
    """
    q, k, v = draw(rng, (2, 9, 1)), draw(rng, (2, 40, 1)), draw(rng, (2, 40, 6))
    mask = np.zeros(shape)
    mask[..., :12] = value
    scales = ONE | {"q_scale": unit, "scale": 1.0}
    for bounds in ({"causal": True, "offset": 2}, {"lengths": [5, 12]}, {"causal": True, "window": 3, "lengths": 11}):
        found = golden.fused_attention(q, k, v, **scales, **bounds, mask=mask)
        np.testing.assert_array_equal(found, golden.fused_attention(q, k, v, **scales, **bounds))
    # Without them keys of the greatest value alone count.
    assert np.array_equal(golden.fused_attention(q, k, v, **scales, mask=mask),
                          golden.fused_attention(q, k, v, **scales, mask=np.broadcast_to(mask == mask.max(), shape)))


@pytest.mark.parametrize("two_bytes", [False, True])
def test_outputs_of_the_most_keys_do_not_wrap(two_bytes):
    """If it failed, the stated bound on the keys would be too high, and level rows would change their sign."""
    length = golden.MOST_KEYS
    zero, v = np.zeros((1, length, 1), np.int8), np.full((1, length, 1), -128, np.int8)
    sums, state = golden.attention_sums(zero[:, :1], zero, v, q_scale=1.0, k_scale=1.0, two_bytes=two_bytes)
    assert sums.min() == -128 * 255 * length
    assert state.total.max() == 255 * 4096 * length


def test_maxima_of_rising_rows_shift_outputs_away():
    """If it failed, a shift by more bits than there are would wrap around instead of leaving nothing."""
    q, k = np.full((1, 1, 1), 127, np.int8), np.array([-128, 127], np.int8).reshape(1, 2, 1)
    v = np.array([-128, 5], np.int8).reshape(1, 2, 1)
    for order in (slice(None), slice(None, None, -1)):
        y = golden.fused_attention(q, k[:, order], v[:, order], **ONE, block=1)
        assert y.item() == 5


def test_great_shifts_are_of_31_bits():
    """If it failed, sums that are left far behind would leave other bits than the hardware's, which shifts by 31."""
    state = golden.SoftmaxState(np.array([0]), np.array([3 << 37]))
    score = np.array([[100 * 256]])
    for sign, total, shift in ((1, (3 << 37 >> 31) + (65280 << 4), 31), (-1, (3 << 37) + 0, -31)):
        _, shifts, new = golden.softmax_block(sign * score, np.zeros((1, 1), bool), state)
        assert (shifts.tolist(), new.total.tolist(), new.maximum.tolist()) == ([shift], [total], [max(100 * sign, 0)])


@pytest.mark.parametrize(("change", "message"), [
    ({"q": np.zeros((1, 2, 3), np.uint8)}, "q must be int8, not uint8"),
    ({"k": np.zeros((2, 4, 3), np.int8)}, "Hkv divides H, not"),
    ({"q": np.zeros((1, 2, 1 << 15), np.int8), "k": np.zeros((1, 4, 1 << 15), np.int8)}, "E must be at most 32767"),
    ({"k": np.zeros((1, 65537, 3), np.int8), "v": np.zeros((1, 65537, 1), np.int8)}, "M at most 65536, not"),
    ({"mask": np.zeros((2, 4), int)}, "mask must be bool, int32, or float without NaN"),
    ({"mask": np.full((2, 4), np.nan)}, "mask must be bool, int32, or float without NaN"),
    ({"mask": np.array([[0, -3, -1e4, -np.inf]]), "q_scale": 1e-9},
     "mask must not add less than -0.232 to keys that count, not -3: a sum of products of 1 is a score of 5.77e-10"),
    ({"scale": 0.0}, "scale must be finite and positive, not 0.0"),
    ({"window": 0}, "window must be at least 1, not 0"),
    ({"lengths": 5}, "lengths must be one number of 0..4"),
    ({"block": 0}, "block must be at least 1, not 0"),
    ({"v_scale": 1e30}, "factor must be in"),
])
def test_refuses_what_does_not_fit(change, message):
    """If it failed, operands for which the integers wrap or mean nothing would give results."""
    operands = {"q": np.zeros((1, 2, 3), np.int8), "k": np.zeros((1, 4, 3), np.int8),
                "v": np.zeros((1, 4, 1), np.int8)} | ONE | change
    with pytest.raises(ValueError, match=message):
        golden.fused_attention(**operands)


@pytest.mark.parametrize("mask", [[0, -1e4, -30, -np.inf], [-1e4, -1e4, -2e4, -np.inf], [5, -40, 5, 5]])
def test_small_scores_with_masks_that_hide(mask):
    """Where a sum of 1 is next to nothing, what is far below the greatest of a row is hidden, and the rest counts."""
    keys, values = np.zeros((1, 4, 3), np.int8), np.array([[[10], [20], [30], [40]]], np.int8)
    made = golden.fused_attention(np.zeros((1, 1, 3), np.int8), keys, values, mask=np.array([mask], float),
                                  **ONE | {"q_scale": 1e-9})
    shown = np.array(mask) - max(mask)
    assert made == np.rint(values[0, shown > -20, 0].mean())
