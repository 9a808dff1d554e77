"""Run-length code: there and back, and the sizes that the format implies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pearray.golden import run_length

#: Stretches of zeros with what stands behind them, around the longest run.
STRETCHES = st.lists(st.tuples(st.sampled_from([0, 1, 2, 30, 31, 32, 33, 63, 64, 65]), st.integers(0, 0xFFFF)),
                     max_size=12)


def _pairs(code):
    """Runs and levels by shifting and masking Python's integers, written apart from the model."""
    return [(int(word) >> shift & 31, int(word) >> shift + 5 & 0xFFFF) for word in code for shift in (0, 21, 42)]


@given(STRETCHES, st.integers(0, 70))
def test_round_trip(stretches, tail):
    """If it failed, a feature map would come back changed from DRAM."""
    words = np.array([w for run, level in stretches for w in [0] * run + [level]] + [0] * tail, np.uint16)
    code = run_length.encode(words)
    np.testing.assert_array_equal(run_length.decode(code, len(words)), words)
    assert run_length.encoded_bytes(words) == 8 * len(code)
    expanded = [w for run, level in _pairs(code) for w in [0] * run + [level]]
    assert expanded[:len(words)] == words.tolist()
    assert not any(expanded[len(words):])


@pytest.mark.parametrize(("zeros", "pairs"), [
    (31, [(31, 7)]),  # the longest run that one pair holds
    (32, [(31, 0), (0, 7)]),  # one more takes a level that is zero
    (64, [(31, 0), (31, 0), (0, 7)]),
])
def test_longest_runs(zeros, pairs):
    """If it failed, a run at the limit of five bits would be cut short or lengthened by one."""
    code = run_length.encode(np.array([0] * zeros + [7], np.uint16))
    assert len(code) == 1
    assert _pairs(code) == pairs + [(0, 0)] * (3 - len(pairs))
    assert int(code[0]) >> 63 == 1


def test_partial_last_word():
    """If it failed, the unused pairs of the last code word would add words or carry no mark."""
    code = run_length.encode(np.array([1, 2, 3, 4], np.int16))
    assert [int(word) >> 63 for word in code] == [0, 1]
    assert _pairs(code) == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 0), (0, 0)]


@pytest.mark.parametrize(("zeros", "ratio"), [(0.0, 64 / 48), (0.4, 0.6 * 64 / 48), (0.8, 0.2 * 64 / 48)])
def test_compression(rng, zeros, ratio):
    """If it failed, coded feature maps would not be as small as the share of zeros makes them."""
    words = rng.integers(1, 1 << 16, 30_000).astype(np.uint16) * (rng.random(30_000) >= zeros)
    assert run_length.encoded_bytes(words) == pytest.approx(2 * len(words) * ratio, rel=0.03)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: run_length.encode(np.zeros(3)), r"^words must be int16 or uint16"),
    (lambda: run_length.decode(np.array([1], np.uint64), 1), r"^code must mark its last word"),
    (lambda: run_length.decode(np.array([1 << 63], np.uint64), 4), r"^code must hold 4 words, not 3$"),
    (lambda: run_length.decode(run_length.encode(np.arange(9, dtype=np.uint16)), 5), r"^code must end after 5"),
])
def test_wrong_codes_are_named(call, message):
    """If it failed, a truncated or foreign code would be decoded to rubbish."""
    with pytest.raises(ValueError, match=message):
        call()
