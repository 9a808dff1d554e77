"""Float units in millions: every pair of numbers of 8 bits, and drawn ones of the longer formats."""

import numpy as np
import pytest
from compiled_floats import Quotients, compiled, run
from float_draws import ALL, SHORT, draw_float32, draw_pairs, from_bits, to_bits, wrong
from unit_draws import (
    draw_near,
    draw_quotients,
    draw_squares,
    integers_of,
    quotients_and_roots,
    results_of_rounds,
    rounded_at_random,
    turns,
)

from pearray.golden.rounding import mix
from pearray.hdl.arithmetic.float_formats import BFLOAT16, E4M3, E5M2, FLOAT16, FLOAT32

#: Numbers of each kind that are drawn.
COUNT = 1 << 20


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The compiled units."""
    return compiled(tmp_path_factory.mktemp("floats"))


def check(found, x, y, *formats):
    """Compare every result that is defined for numbers of these formats."""
    with np.errstate(all="ignore"):
        for format in formats:
            mask = np.uint32((1 << format.bits) - 1)
            a, b = from_bits(x & mask, format), from_bits(y & mask, format)
            name = format.name
            assert not wrong(found[f"product_{name}"], to_bits(a * b), x & mask, y & mask), name
            if format is FLOAT32:
                assert not wrong(found["sum"], to_bits(a + b), x, y)
                for short in SHORT:
                    assert not wrong(found[f"narrow_{short.name}"], to_bits(a, short), x), short.name
            else:
                assert not wrong(found[f"wide_{name}"], to_bits(a), x & mask), name


@pytest.mark.slow
@pytest.mark.parametrize("format", [E4M3, E5M2], ids=lambda format: format.name)
def test_every_pair_of_8_bits(model, tmp_path, format):
    """All 65,536 products, all 65,536 sums, and all 256 numbers in float32: nothing is left to a draw."""
    x, y = (each.ravel().astype(np.uint32) for each in np.meshgrid(np.arange(256), np.arange(256)))
    check(run(model, tmp_path, x, y), x, y, format)
    wide = to_bits(from_bits(x, format)), to_bits(from_bits(y, format))
    check(run(model, tmp_path, *wide), *wide, FLOAT32)


@pytest.mark.slow
@pytest.mark.parametrize("format", ALL, ids=lambda format: format.name)
def test_a_million_pairs(rng, model, tmp_path, format):
    """Corners that a thousand pairs miss: ties, carries into the exponent, products at the edge of what is left."""
    x, y = draw_pairs(rng, format, COUNT)
    check(run(model, tmp_path, x, y), x, y, format)


@pytest.mark.slow
@pytest.mark.parametrize("format", SHORT, ids=lambda format: format.name)
def test_a_million_roundings(rng, model, tmp_path, format):
    """Numbers about the ends of each format, and half-way between two of it; sums of such cancel and tie."""
    x, y = draw_float32(rng, format, COUNT), draw_float32(rng, format, COUNT)
    check(run(model, tmp_path, x, y), x, y, FLOAT32)


@pytest.mark.slow
@pytest.mark.parametrize("format", SHORT, ids=lambda format: format.name)
def test_a_million_roundings_at_random(rng, monkeypatch, model, tmp_path, format):
    """Golden's rule for every size of number, and every random number beside what is cut off."""
    x, y = draw_float32(rng, format, COUNT), rng.integers(0, 1 << 16, COUNT).astype(np.uint32)
    found = run(model, tmp_path, x, y)[f"random_{format.name}"]
    assert not wrong(found, rounded_at_random(x, y, format, monkeypatch), x, y)


@pytest.mark.slow
def test_a_million_integers(rng, model, tmp_path):
    """Integers of floats, floats of integers, and hashes."""
    x = draw_near(rng, COUNT)
    found = run(model, tmp_path, x, x)
    assert not wrong(found["integer"], integers_of(x), x)
    assert not wrong(found["number"], to_bits(x.view(np.int32).astype(np.float32)), x)
    assert not wrong(found["mixed"], mix(x), x)


@pytest.mark.slow
def test_a_million_quotients_and_roots(rng, tmp_path):
    """Quotients of every kind, subnormal ones and such next to halves, and roots of squares and their neighbours."""
    model = compiled(tmp_path, Quotients)
    a, b = draw_quotients(rng, COUNT // 4)
    squares = draw_squares(rng, COUNT // 4)
    for x, y, name, root in ((a, b, "quotient", False), (squares, squares, "square_root", True)):
        found = run(model, tmp_path, turns(x, Quotients.PLACES), turns(y, Quotients.PLACES), Quotients)[name]
        assert not wrong(results_of_rounds(found, len(x), Quotients.PLACES), quotients_and_roots(x, y, root), x, y)


def test_formats_are_all_there():
    """A format without a unit in the model would be compared with nothing."""
    assert {*ALL} == {BFLOAT16, FLOAT16, FLOAT32, E4M3, E5M2}
