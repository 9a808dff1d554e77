# amaranth: UnusedElaboratable=no
"""Quotients and square roots of float32 numbers against NumPy's, bit by bit."""

import numpy as np
import pytest
from float_draws import FLOAT32, corners, draw, draw_pairs, from_bits, to_bits, wrong
from pipelines import run

from pearray.hdl.arithmetic.float_divide_root import FloatDivideRoot


def turns(values, places):
    """Values as they come in: as many as there are places one after another, and again in each round."""
    groups = np.resize(values, -(-len(values) // places) * places).reshape(-1, 1, places)
    return np.repeat(groups, FloatDivideRoot.ROUNDS, axis=1).ravel()


def results(found, count, places):
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


def expected(a, b, root):
    """Bits of NumPy's roots of a, or quotients."""
    with np.errstate(all="ignore"):
        values = np.where(root, np.sqrt(from_bits(a, FLOAT32)), from_bits(a, FLOAT32) / from_bits(b, FLOAT32))
    return to_bits(values.astype(np.float32))


@pytest.mark.parametrize("places", [16, 8])
def test_quotients_and_roots_are_those_of_numpy(rng, places):
    """A bit found too late, a rest that is not seen, or one number's bits in another's would show."""
    count = 60
    a, b = draw_quotients(rng, count)
    order = rng.permutation(a.shape[0] * 2)[:800]
    squares = draw_squares(rng, a.shape[0])[:a.shape[0]]
    root = (np.arange(2 * a.shape[0]) >= a.shape[0])[order]
    a, b = np.concatenate([a, squares])[order], np.concatenate([b, squares])[order]
    dut = FloatDivideRoot(places)
    count = len(turns(a, places)) // FloatDivideRoot.ROUNDS // places
    rounds = np.tile(np.repeat(np.arange(FloatDivideRoot.ROUNDS), places), count)
    found = run(dut, {"a": turns(a, places), "b": turns(b, places), "root": turns(root, places), "round": rounds},
                "result", FloatDivideRoot.LATENCY)
    assert not wrong(results(found, len(a), places), expected(a, b, root), a, b, root)
