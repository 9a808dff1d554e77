# amaranth: UnusedElaboratable=no
"""Conversions between floats and integers against NumPy's, bit by bit."""

import numpy as np
import pytest
from float_draws import FLOAT32, draw, to_bits, wrong
from pipelines import run

from pearray.hdl.arithmetic.float_integer import FloatToInteger, IntegerToFloat


def integers_of(bits):
    """Integers that float32 numbers are rounded to, as bits in two's complement."""
    with np.errstate(all="ignore"):
        rounded = np.rint(bits.view(np.float32).astype(np.float64))
    whole = np.clip(np.nan_to_num(rounded, nan=0, posinf=2.0**31, neginf=-2.0**31), -2.0**31, 2.0**31 - 1)
    return whole.astype(np.int64).astype(np.uint32)


def draw_near(rng, count):
    """Numbers of all sizes that integers have, halves and the ends of the integers among them."""
    bits = draw(rng, FLOAT32, count)
    exponent = rng.integers(123, 162, count).astype(np.uint32)
    near = bits & np.uint32(0x807FFFFF) | exponent << np.uint32(23)
    halves = to_bits((rng.integers(-40, 40, count) / 2).astype(np.float32))
    ends = np.array([0x4F000000, 0xCF000000, 0x4EFFFFFF, 0xCEFFFFFF, 0xCF000001, 0x7FC00000, 0xFFC00001, 0x7F800000,
                     0xFF800000, 0, 0x80000000, 1], np.uint32)
    return np.concatenate([bits[:count // 4], near, halves[:count // 4], ends])


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
