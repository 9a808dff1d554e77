"""Exact addition of two quantised tensors by integer weights."""

import numpy as np
import pytest

from pearray.compiler.kernels.addition import Addition
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
        addition = Addition(a_scale, zeros[0], kind, b_scale, zeros[1], kind, y_scale, zeros[2], kind)
        found = find_residual(addition, 127)
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
    found = find_residual(Addition(0.5, 0, "int8", 0.5, 0, "int8", 1.0, 3, "int8"), 127)
    assert found is not None
    assert (found.m, found.n) == (1, 1)


@pytest.mark.parametrize("kinds", [("int8", "int8", "uint8"), ("uint8", "int8", "int8"), ("uint8", "uint8", "int8")])
def test_sums_of_mixed_types_round_as_the_standard_says(rng, kinds):
    """The zero point outside the rounding sends halves elsewhere if it is odd; all pairs are tried.

    Expected values are float operators of the standard, written out.
    """
    stored = np.arange(256, dtype=np.uint8)
    a, b = (values.view(kind) for values, kind in zip((np.repeat(stored, 256), np.tile(stored, 256)), kinds[:2],
                                                      strict=True))
    info, halves = np.iinfo(kinds[2]), 0
    for point in (int(info.min), int(info.max), int(rng.integers(info.min, info.max)) | 1):
        scales = [np.float32(scale) for scale in 2.0 ** rng.integers(-6, -2, 3) * rng.choice([1, 3], 3)]
        zeros = [int(rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1)) for kind in kinds[:2]]
        found = find_residual(Addition(float(scales[0]), zeros[0], kinds[0], float(scales[1]), zeros[1], kinds[1],
                                       float(scales[2]), point, kinds[2], fused=False), 255)
        real = [(values.astype(np.int32) - zero).astype(np.float32) * scale
                for values, zero, scale in zip((a, b), zeros, scales, strict=False)]
        quotient = (real[0] + real[1]) / scales[2]
        halves += int((np.abs(quotient - np.rint(quotient)) == 0.5).sum())
        assert found is not None, (scales, zeros)
        sums = found.m * (a.astype(np.int64) - zeros[0]) + found.n * (b.astype(np.int64) - zeros[1]) + found.bias
        rounded = np.rint(sums.astype(np.float32) * np.float32(found.scale)) + found.point
        np.testing.assert_array_equal(rounded.clip(info.min, info.max),
                                      (np.rint(quotient) + point).clip(info.min, info.max))
    assert halves


@pytest.mark.parametrize("scales", [(2.0**96, 1.0, 1.0), (1.0, 2.0**-149, 1.0), (2.0**-149, 2.0**-149, 2.0**96),
                                    (2.0**-149, 1e-40, 2.0**-140), (2.0**96, 2.0**-149, 2.0**96)])
@pytest.mark.parametrize("point", [0, 3, 127])
def test_extreme_scales_end_the_search(scales, point):
    """Factors without an inverse, or beyond the bias of a sum, were raised as errors of Python's own."""
    found = find_residual(Addition(scales[0], 43, "uint8", scales[1], 199, "uint8", scales[2], point, "uint8"), 255)
    assert found is None or abs(found.bias) <= 1 << 30
