# amaranth: UnusedElaboratable=no
"""Conversions between floats and integers against NumPy's, bit by bit."""

import numpy as np
import pytest
from float_draws import to_bits, wrong
from pipelines import run
from unit_draws import draw_near, integers_of

from pearray.hdl.arithmetic.float_integer import FloatToInteger, IntegerToFloat


@pytest.mark.parametrize("latency", [0, FloatToInteger.MOST])
def test_integers_are_those_of_numpy(rng, latency):
    """A half that goes up, or a number beyond the integers that wraps, makes another index, bin or exponent."""
    bits = draw_near(rng, 400)
    assert not wrong(run(FloatToInteger(latency), {"number": bits}, "integer", latency), integers_of(bits), bits)


@pytest.mark.parametrize("latency", [0, IntegerToFloat.MOST])
def test_floats_are_those_of_numpy(rng, latency):
    """Integers of more than 24 bits must be rounded once, to even; the least one has a magnitude of 32 bits."""
    values = rng.integers(0, 1 << 32, 500, dtype=np.uint32) >> rng.integers(0, 32, 500).astype(np.uint32)
    values = np.concatenate([values, -values, np.array([0, 1 << 31, (1 << 31) - 1, 0x01000001, 0x01000003], np.uint32)])
    found = run(IntegerToFloat(latency), {"integer": values}, "number", latency)
    assert not wrong(found, to_bits(values.view(np.int32).astype(np.float32)), values)
