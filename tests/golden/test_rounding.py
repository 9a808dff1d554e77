"""Rounding at random: to neighbours in the format, as often to each as it is near, by bits that look like any."""

import ml_dtypes
import numpy as np
import pytest

from pearray.golden import rounding
from pearray.hdl.arithmetic import float_formats
from pearray.hdl.systolic.config import OPERANDS

FORMATS = [*rounding.FORMATS]


def draw(rng, count):
    """Float32 numbers of any bits that are finite."""
    values = rng.integers(0, 1 << 32, count, dtype=np.uint64).astype(np.uint32).view(np.float32)
    return values[np.isfinite(values)]


def near(rng, format, count):
    """Float32 numbers between the least subnormal number of a format and its greatest."""
    info = ml_dtypes.finfo(rounding.FORMATS[format])
    exponents = rng.uniform(info.minexp - info.nmant - 3, info.maxexp - 1, count)
    return (rng.choice([-1, 1], count) * 2.0 ** exponents).astype(np.float32)


def neighbours(x, format):
    """Magnitudes in a format, not above those of numbers and the next above them, in float64."""
    kind = rounding.FORMATS[format]
    whole = np.dtype(f"u{kind.itemsize}")
    # Integers of the bits of magnitudes follow one another as these do.
    with np.errstate(invalid="ignore"):
        held = np.arange(1 << (8 * kind.itemsize - 1)).astype(whole).view(kind).astype(np.float64)
    held = np.append(held[np.isfinite(held)], np.inf)
    above = np.searchsorted(held, np.abs(np.asarray(x, np.float64)), "right")
    return held[above - 1], held[above]


@pytest.mark.parametrize("format", FORMATS)
def test_results_are_neighbours(rng, format):
    """If it failed, a number would be rounded to one that is not beside it, or change although the format holds it."""
    kind = rounding.FORMATS[format]
    x = np.concatenate([draw(rng, 20000), near(rng, format, 20000)])
    y = rounding.stochastic(x, format, 12345)
    assert y.dtype == kind
    finite = np.isfinite(y.astype(np.float32)) & np.isfinite(rounding.nearest(x, format).astype(np.float32))
    assert finite.sum() > 15000
    x, y = x[finite], y[finite]
    (low, high), own = neighbours(x, format), np.abs(y.astype(np.float64))
    wrong = (own != low) & ((own != high) | (low == np.abs(x)))
    assert not wrong.any(), x[wrong][:3]
    assert min((own == low).mean(), (own == high).mean()) > 0.05
    held = rounding.nearest(x, format)
    np.testing.assert_array_equal(rounding.stochastic(held, format, 7).view(np.uint8), held.view(np.uint8))
    assert (np.signbit(x) == np.signbit(y.astype(np.float32))).all()


@pytest.mark.parametrize("format", FORMATS)
def test_rounding_has_no_bias(rng, format):
    """If it failed, small steps of weights would be lost, or grow, on the average."""
    for value in near(rng, format, 12):
        y = rounding.stochastic(np.full(1 << 16, value), format, int(rng.integers(1 << 32))).astype(np.float64)
        low, high = neighbours(value, format)
        share = (abs(float(value)) - low) / (high - low)
        # Six standard deviations of as many throws.
        bound = 6 * np.sqrt(max(share * (1 - share), 2.0 ** -16) / y.size)
        assert abs((np.abs(y) == high).mean() - share) <= bound


def test_formula_is_that_of_the_page(rng):
    """If it failed, hardware made from the description would round otherwise."""
    x, key = (rng.normal(size=50)).astype(np.float32), 0xDEADBEEF
    y = rounding.stochastic(x, "bfloat16", key).view(np.uint16)
    for number, value in enumerate(x.view(np.uint32)):
        a = key ^ number
        a = (a + 0x7ED55D16 + (a << 12)) % 2 ** 32
        a = a ^ 0xC761C23C ^ (a >> 19)
        a = (a + 0x165667B1 + (a << 5)) % 2 ** 32
        a = ((a + 0xD3A2646C) ^ (a << 9)) % 2 ** 32
        a = (a + 0xFD7046C5 + (a << 3)) % 2 ** 32
        a = a ^ 0xB55A4F09 ^ (a >> 16)
        for left, right in ((10, 6), (3, 11)):
            a = (a + (a << left)) % 2 ** 32
            a = a ^ (a >> right)
        a = (a + (a << 15)) % 2 ** 32
        value = int(value)
        assert y[number] == (value >> 16) + ((value & 0xFFFF) > a >> 16)


def test_mix_is_a_bijection(rng):
    """If it failed, some numbers would come more often than others."""
    first = int(rng.integers(1 << 31))
    assert len(np.unique(rounding.mix(np.arange(first, first + (1 << 18), dtype=np.uint32)))) == 1 << 18


def test_bits_look_random(rng):
    """If it failed, neighbouring elements, tensors or steps would be rounded alike."""
    count = 1 << 16

    def is_uniform(values):
        """Chi-square of 256 classes within six standard deviations of its mean."""
        found = np.bincount(values & 255, minlength=256)
        chi = ((found - count / 256) ** 2 / (count / 256)).sum()
        return abs(chi - 255) < 6 * np.sqrt(2 * 255)

    for step in range(4):
        seed = int(rng.integers(1 << 32))
        bits = rounding.random_bits(rounding.key_of(seed, step, 0), count)
        others = [np.roll(bits, 1), np.roll(bits, 8), rounding.random_bits(rounding.key_of(seed, step, 1), count),
                  rounding.random_bits(rounding.key_of(seed, step + 1, 0), count),
                  rounding.random_bits(rounding.key_of(seed + 1, step, 0), count)]
        assert is_uniform(bits)
        assert is_uniform(bits >> 8)
        for other in others:
            assert is_uniform((bits >> 12) << 4 | other >> 12)
            assert abs(np.corrcoef(bits, other)[0, 1]) < 6 / np.sqrt(count)


def test_what_is_no_finite_number():
    """If it failed, a gradient that is beyond the format would go unseen into the weights."""
    x = np.array([np.inf, -np.inf, np.nan, 1e30, -0.0], np.float32)
    assert np.isnan(rounding.stochastic(x, "float8_e4m3fn", 1).astype(np.float32)[:4]).all()
    np.testing.assert_array_equal(rounding.stochastic(x, "float8_e5m2", 1).astype(np.float32)[[0, 1, 3]],
                                  [np.inf, -np.inf, np.inf])
    assert np.signbit(rounding.stochastic(x, "bfloat16", 1).astype(np.float32)[4])


def test_scalars_and_names():
    """If it failed, a tensor without axes could not be rounded, or a wrong name would be taken."""
    assert rounding.stochastic(np.float32(1.5), "float16", 3).shape == ()
    for function in (lambda: rounding.nearest(np.zeros(1, np.float32), "int8"),
                     lambda: rounding.stochastic(np.zeros(1, np.float32), "int8", 0)):
        with pytest.raises(ValueError, match=r"^format must be one of bfloat16, .* not 'int8'$"):
            function()


def test_formats_are_those_of_arrays():
    """If it failed, a format could be trained in that no array multiplies, or the other way round."""
    assert [*rounding.FORMATS] == [*OPERANDS]
    assert all(dtype == float_formats.FORMATS[name].dtype for name, dtype in rounding.FORMATS.items())
