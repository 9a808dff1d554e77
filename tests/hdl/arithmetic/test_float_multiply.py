# amaranth: UnusedElaboratable=no
"""Products of floats against NumPy's and ml_dtypes', bit by bit."""

import numpy as np
import pytest
from float_draws import ALL, corners, draw_pairs, from_bits, to_bits, wrong
from pipelines import run

from pearray.hdl.arithmetic.float_formats import BFLOAT16
from pearray.hdl.arithmetic.float_multiply import FloatMultiply


@pytest.mark.parametrize("latency", [0, 2, FloatMultiply.MOST])
@pytest.mark.parametrize("format", ALL, ids=lambda format: format.name)
def test_products_are_those_of_numpy(rng, format, latency):
    """A subnormal factor, one that vanishes or overflows, or a register beside the others would show."""
    a, b = (np.concatenate(each) for each in zip(draw_pairs(rng, format, 400), corners(format), strict=True))
    with np.errstate(all="ignore"):
        expected = to_bits(from_bits(a, format) * from_bits(b, format))
    found = run(FloatMultiply(format, latency), {"a": a, "b": b}, "product", latency)
    assert not wrong(found, expected, a, b)


def test_latency_is_bounded():
    """More registers than parts would be lost without a word."""
    with pytest.raises(ValueError, match=r"^latency of a multiplication must be in 0\.\.6, not 7$"):
        FloatMultiply(BFLOAT16, 7)
