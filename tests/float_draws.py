"""Floats of every format that tests draw, and their types in NumPy and ml_dtypes, which say what is right."""

import numpy as np
import pytest

from pearray.hdl.arithmetic.float_formats import FLOAT32, FORMATS

#: What is no number in float32, as hardware makes it.
NO_NUMBER = FLOAT32.no_number


def type_of(format):
    """NumPy's type of a format."""
    if format.name in ("float16", "float32"):
        return np.dtype(format.name)
    return np.dtype(getattr(pytest.importorskip("ml_dtypes"), format.name))


def from_bits(bits, format):
    """Float32 values of bits of a format."""
    return bits.astype(f"u{format.bits // 8}").view(type_of(format)).astype(np.float32)


def to_bits(values, format=FLOAT32):
    """Bits of values once they are rounded to a format, with one pattern for all that is no number."""
    with np.errstate(all="ignore"):
        rounded = values.astype(type_of(format))
    bits = rounded.view(f"u{format.bits // 8}").astype(np.uint32)
    bits[np.isnan(rounded.astype(np.float32))] = format.no_number
    return bits


def draw(rng, format, count):
    """Bits of numbers: any, zeros, subnormal ones, the least normal ones, the greatest and what is beyond."""
    bits = rng.integers(0, 1 << format.bits, count, dtype=np.uint64)
    sign, tiny = bits & np.uint64(1 << format.bits - 1), bits & np.uint64((2 << format.fraction) - 1)
    top = np.uint64((1 << format.bits - 1) - 1) - (bits & np.uint64(3))
    kind = rng.random(count)
    return np.select([kind < 0.15, kind < 0.2, kind < 0.25], [sign | tiny, sign | top, sign], bits).astype(np.uint32)


def corners(format):
    """Every pair of zero, the least numbers, one, the greatest number, what is beyond, and no number, of both signs."""
    one = format.bias << format.fraction
    bits = [0, 1, 1 << format.fraction, one, one + 1, format.greatest, format.beyond, format.no_number]
    signed = np.array([each | sign << format.bits - 1 for each in bits for sign in (0, 1)], np.uint32)
    return [each.ravel() for each in np.meshgrid(signed, signed)]


def draw_pairs(rng, format, count):
    """Pairs of numbers, half of which have products about the least that float32 holds, if it ends so soon."""
    a, b = draw(rng, format, count), draw(rng, format, count)
    if format.exponent < FLOAT32.exponent:
        return a, b
    half, mask = count // 2, np.uint32(~(255 << format.fraction) & (1 << format.bits) - 1)
    exponent = rng.integers(0, 255, half)
    other = np.clip(format.bias - exponent + rng.integers(-26, 5, half), 0, 254)
    a[:half] = a[:half] & mask | exponent.astype(np.uint32) << np.uint32(format.fraction)
    b[:half] = b[:half] & mask | other.astype(np.uint32) << np.uint32(format.fraction)
    return a, b


def draw_float32(rng, format, count):
    """Bits of float32 numbers, many about the ends of a format, and with few bits below its own, which make ties."""
    bits = draw(rng, FLOAT32, count)
    half = count // 2
    least, most = max(FLOAT32.bias - format.bias - format.fraction - 3, 0), min(FLOAT32.bias + format.bias + 3, 254)
    bits[:half] = bits[:half] & 0x807FFFFF | rng.integers(least, most + 1, half).astype(np.uint32) << np.uint32(23)
    bits[:half] &= ~((np.uint32(1) << rng.integers(0, 25, half).astype(np.uint32)) - np.uint32(1))
    return bits


def wrong(found, expected, *given):
    """Say which results differ: how many, and the first with what it was made of; nothing if none does."""
    places = np.flatnonzero(found != expected)
    if not places.size:
        return ""
    first = places[0]
    operands = ", ".join(f"{bits[first]:#x}" for bits in given)
    return f"{len(places)} of {len(found)}, first {operands}: {found[first]:#x}, not {expected[first]:#x}"


ALL = list(FORMATS.values())
SHORT = [format for format in ALL if format is not FLOAT32]
