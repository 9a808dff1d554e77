# amaranth: UnusedElaboratable=no
"""Rounding at random against the golden model, and to nearest against ml_dtypes, bit by bit."""

import numpy as np
import pytest
from float_draws import SHORT, draw_float32, to_bits, wrong
from pipelines import run
from unit_draws import rounded_at_random

from pearray.hdl.arithmetic.float_at_random import FloatNarrowAtRandom


@pytest.mark.parametrize("latency", [0, FloatNarrowAtRandom.MOST])
@pytest.mark.parametrize("format", SHORT, ids=lambda format: format.name)
def test_numbers_are_rounded_by_goldens_rule(rng, monkeypatch, format, latency):
    """A bit cut off too many, or equal taken for greater in a comparison, makes other weights than golden's."""
    bits = draw_float32(rng, format, 600)
    random = rng.integers(0, 1 << 16, len(bits), dtype=np.uint32)
    # Random numbers that are just what is cut off, or one beside it.
    rest = bits << np.uint32(format.fraction + 9) >> np.uint32(16)
    near = rng.random(len(bits)) < 0.4
    random[near] = (rest + rng.integers(-1, 2, len(bits)))[near] & 0xFFFF
    choice = rng.integers(0, 4, len(bits)) > 0
    found = run(FloatNarrowAtRandom(format, latency), {"number": bits, "random": random, "at_random": choice},
                "narrow", latency)
    drawn = rounded_at_random(bits, random, format, monkeypatch)
    assert not wrong(found, np.where(choice, drawn, to_bits(bits.view(np.float32), format)), bits, random)
    assert (drawn != to_bits(bits.view(np.float32), format)).any()
