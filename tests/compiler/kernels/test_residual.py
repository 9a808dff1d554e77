"""Exact addition of two quantised tensors by integer weights."""

import numpy as np
import pytest

from pearray.compiler.kernels.residual import find_residual
from pearray.golden import quantised


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_found_weights_are_exact(rng, kind):
    """One wrong pair of 65,536 would make a residual network differ from onnxruntime now and then."""
    stored = np.arange(256, dtype=np.uint8)
    a, b, info = np.repeat(stored, 256).view(kind), np.tile(stored, 256).view(kind), np.iinfo(kind)
    exact = 0
    for _ in range(6):
        a_scale, b_scale = rng.uniform(0.01, 0.1, 2).tolist()
        y_scale, zeros = float(rng.uniform(0.08, 0.2)), rng.integers(info.min, info.max + 1, 3).tolist()
        found = find_residual(a_scale, zeros[0], kind, b_scale, zeros[1], kind, y_scale, zeros[2], kind, 127)
        if found is None:
            continue
        exact += 1
        sums = found.m * (a.astype(np.int64) - zeros[0]) + found.n * (b.astype(np.int64) - zeros[1]) + found.bias
        rounded = np.rint(sums.astype(np.float32) * np.float32(found.scale)) + found.point
        expected = quantised.add(a, a_scale, zeros[0], b, b_scale, zeros[1], y_scale, zeros[2])
        np.testing.assert_array_equal(np.clip(rounded, info.min, info.max).astype(kind), expected)
    # float32 rounds a few pairs of some scales in a way that no integers follow.
    assert exact >= 4


def test_simple_ratios_need_one_weight_each():
    """Equal scales are the common case of residual networks: they must not cost a search's worth of weights."""
    found = find_residual(0.5, 0, "int8", 0.5, 0, "int8", 1.0, 3, "int8", 127)
    assert found is not None
    assert (found.m, found.n) == (1, 1)
