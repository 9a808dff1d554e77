# amaranth: UnusedElaboratable=no
"""Float32 additions against NumPy's, bit by bit."""

import numpy as np
import pytest
from pipelines import run

from pearray.hdl.arithmetic.float_add import FloatAdd
from pearray.hdl.arithmetic.float_sum import FloatSum

#: Zeros, subnormal and least normal numbers, ones and their neighbours, greatest numbers, infinities, no number.
CORNERS = [0x00000000, 0x00000001, 0x007FFFFF, 0x00800000, 0x00800001, 0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x4B800000,
           0x7F7FFFFF, 0x7F000000, 0x7F800000, 0x7FC00001]


def draw(rng, count):
    """Pairs of numbers: corners, any bits, and such as differ little, so that they cancel, tie or round up."""
    corners = np.array([corner | sign << 31 for corner in CORNERS for sign in (0, 1)], np.uint32)
    every = np.stack([each.ravel() for each in np.meshgrid(corners, corners)])
    bits = rng.integers(0, 1 << 32, (2, count), dtype=np.uint32)
    near = bits.copy()
    near[1] = near[0] ^ rng.integers(0, 1 << 32, count, dtype=np.uint32) >> rng.integers(0, 32, count).astype(np.uint32)
    near[1] ^= rng.integers(0, 2, count, dtype=np.uint32) << np.uint32(31)
    far = bits.copy()
    far[1] = near[0] - (rng.integers(0, 28, count).astype(np.uint32) << np.uint32(23))
    # Few bits set below the point make ties.
    far[1] &= ~((np.uint32(1) << rng.integers(0, 24, count).astype(np.uint32)) - np.uint32(1))
    small = bits & np.uint32(0x81FFFFFF)
    return np.concatenate([every, bits, near, far, small], axis=1)


@pytest.mark.parametrize("kind", [FloatAdd, FloatSum])
@pytest.mark.parametrize("latency", [0, 3, FloatAdd.MOST])
def test_sums_are_those_of_numpy(rng, latency, kind):
    """A bit lost in aligning, a tie that goes the other way, or a register beside the others would show."""
    a, b = draw(rng, 300 if latency else 100)
    with np.errstate(all="ignore"):
        expected = a.view(np.float32) + b.view(np.float32)
    found, bits = run(kind(latency), {"a": a, "b": b}, "sum", latency), expected.view(np.uint32).copy()
    bits[np.isnan(expected)] = 0x7FC00000
    wrong = np.flatnonzero(found != bits)
    assert not wrong.size, (f"{len(wrong)} wrong, first {a[wrong[0]]:08x} + {b[wrong[0]]:08x} = {bits[wrong[0]]:08x}, "
                            f"not {found[wrong[0]]:08x}")


def test_latency_is_bounded():
    """More registers than parts would be lost without a word."""
    with pytest.raises(ValueError, match=r"^latency of an addition must be in 0\.\.8, not 9$"):
        FloatAdd(9)
