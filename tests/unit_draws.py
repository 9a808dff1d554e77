"""What units of routines are given in tests, and what NumPy and golden say they must make of it."""

import numpy as np
from float_draws import FLOAT32, corners, draw, draw_pairs, from_bits, to_bits

from pearray.golden import rounding
from pearray.hdl.arithmetic.float_divide_root import FloatDivideRoot


def turns(values, places):
    """Values as they come in: as many as there are places one after another, and again in each round."""
    groups = np.resize(values, -(-len(values) // places) * places).reshape(-1, 1, places)
    return np.repeat(groups, FloatDivideRoot.ROUNDS, axis=1).ravel()


def results_of_rounds(found, count, places):
    """Results of the last rounds."""
    return found.reshape(-1, FloatDivideRoot.ROUNDS, places)[:, -1].ravel()[:count]


def draw_quotients(rng, count):
    """Pairs with quotients of every kind: any, about one, exact, beyond the greatest and below the least number."""
    a, b = draw_pairs(rng, FLOAT32, count)
    near = np.stack([a, a ^ (rng.integers(0, 1 << 24, count).astype(np.uint32) >> rng.integers(0, 24, count))])
    near = near.astype(np.uint32)
    with np.errstate(all="ignore"):
        exact = to_bits(from_bits(a & np.uint32(0xFFFFF000), FLOAT32) * from_bits(b & np.uint32(0xFFFFF000), FLOAT32))
        # About a quotient between two subnormal numbers, or at the end of all.
        small = to_bits(from_bits(b, FLOAT32) * from_bits(a & np.uint32(0x80FFFFFF), FLOAT32))
    every = np.stack(corners(FLOAT32))
    return np.concatenate([every, np.stack([a, b]), near, np.stack([exact, b & np.uint32(0xFFFFF000)]),
                           np.stack([small, b])], axis=1)


def draw_squares(rng, count):
    """Numbers whose roots are exact, just beside such, or anything."""
    any_bits = draw(rng, FLOAT32, count)
    roots = from_bits(rng.integers(0x20000000, 0x5F000000, count).astype(np.uint32) & np.uint32(0xFFFFF000), FLOAT32)
    squares = to_bits(roots * roots)
    beside = squares + rng.integers(-2, 3, count).astype(np.uint32)
    positive = any_bits & np.uint32(0x7FFFFFFF)
    return np.concatenate([any_bits, squares, beside, positive, corners(FLOAT32)[0]])


def quotients_and_roots(a, b, root):
    """Bits of NumPy's roots of a, or quotients."""
    with np.errstate(all="ignore"):
        values = np.where(root, np.sqrt(from_bits(a, FLOAT32)), from_bits(a, FLOAT32) / from_bits(b, FLOAT32))
    return to_bits(values.astype(np.float32))


def rounded_at_random(numbers, random, format, monkeypatch):
    """Bits of float32 numbers rounded by golden's rule with these random numbers, one pattern for what is none."""
    monkeypatch.setattr(rounding, "random_bits", lambda key, count: random)
    with np.errstate(invalid="ignore"):
        rounded = rounding.stochastic(numbers.view(np.float32), format.name, 0)
    return to_bits(rounded.astype(np.float32), format)


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
