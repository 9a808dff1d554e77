"""Exact multiplication of two quantised tensors by integer products."""

import numpy as np

from pearray.compiler.kernels.addition import Multiplication
from pearray.compiler.kernels.products import ADDENDS, find_product
from pearray.golden import requantise


def check(case):
    """Compare all pairs with the golden model, through that of the lanes; return whether they can be multiplied."""
    found = find_product(case)
    if found is None:
        return False
    sums = np.multiply.outer(*case.operands()) + found.addend
    assert ADDENDS[0] <= sums.min() <= sums.max() <= ADDENDS[1]
    made = requantise.onnx(sums.reshape(-1, 1), np.array([found.scale], np.float32), found.point, *case.bounds, 1)
    np.testing.assert_array_equal(made.reshape(256, 256), case.outputs(), str(case))
    return True


def draw(rng, scales, fused=True):
    """Draw zero points and types."""
    kinds = rng.choice(["int8", "uint8"], 3) if not fused else [rng.choice(["int8", "uint8"])] * 3
    given = [value for scale, kind in zip(scales, map(str, kinds), strict=True)
             for value in (float(scale), int(rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1)), kind)]
    return Multiplication(*given, fused=fused)


def test_drawn_scales(rng):
    """One wrong pair of 65,536 would break a network now and then; scales without a simple ratio are hardly refused."""
    for fused, least in ((True, 76), (False, 70)):
        made = [check(draw(rng, np.exp(rng.uniform((-4, -4, -1), (0, 0, 3))), fused)) for _ in range(80)]
        assert sum(made) >= least


def test_halves(rng):
    """Powers of two put products half-way between outputs: of an odd zero point the other half is the even one."""
    addends = 0
    for _ in range(60):
        case = draw(rng, 2.0**rng.integers((-6, -6, -8), (1, 1, 3)))
        assert check(case), str(case)
        addends += find_product(case).addend != 0
    assert addends > 10


def test_what_is_found_is_exact(rng):
    """Of scales of a simple ratio some are refused; those that are not must be right."""
    made = [check(draw(rng, rng.integers(1, 60, 3) / 100 * (1, 1, 8), bool(number % 2))) for number in range(80)]
    assert 40 <= sum(made)
