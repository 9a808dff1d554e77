"""Exact addition of two quantised tensors by a table for each."""

import numpy as np
import pytest

from pearray.compiler.kernels.addition import Addition
from pearray.compiler.kernels.pairs import find_elements, find_pair, first_sums, solve
from pearray.golden import quantised, requantise

STORED = np.arange(256, dtype=np.uint8)


def draw(rng):
    """Draw scales, zero points, types, and the order of the additions."""
    scales = [
        lambda: np.exp(rng.uniform(-4, 1, 3)), lambda: rng.integers(1, 60, 3) / 100,
        lambda: 2.0**rng.integers(-8, 3, 3), lambda: rng.integers(1, 20, 3) / 255,
        lambda: 10.0**rng.uniform(-6, 6, 3), lambda: 10.0**rng.uniform(-1, 1, 3) * 10.0**rng.uniform(-12, 12),
    ][rng.integers(6)]()
    kinds = rng.choice(["int8", "uint8"], 3) if rng.random() < 0.4 else [str(rng.choice(["int8", "uint8"]))] * 3
    zeros = [0 if rng.random() < 0.3 else int(rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1))
             for kind in kinds]
    operands = [value for each in zip(scales.tolist(), zeros, map(str, kinds), strict=True) for value in each]
    return *operands, bool(rng.integers(2))


def check(a_scale, a_zero, a_dtype, b_scale, b_zero, b_dtype, y_scale, y_zero, y_dtype, spread, fused=True):
    """Compare all pairs with the golden model, through the golden model of the lanes; return whether there are any."""
    case = a_scale, a_zero, a_dtype, b_scale, b_zero, b_dtype, y_scale, y_zero, y_dtype, spread, fused
    found = find_pair(Addition(*case))
    if found is None:
        return False
    sums = (found.tables[0].view(np.uint32)[:, None] + found.tables[1].view(np.uint32)).view(np.int32)
    info = np.iinfo(y_dtype)
    made = requantise.onnx(sums.reshape(-1, 1), np.array([found.scale], np.float32), found.point, info.min,
                            info.max, 1)
    wanted = quantised.add(STORED.view(a_dtype)[:, None], a_scale, a_zero, STORED.view(b_dtype), b_scale, b_zero,
                           y_scale, y_zero, dtype=y_dtype, spread=spread, fused=fused)
    np.testing.assert_array_equal(made.reshape(256, 256).astype(y_dtype), wanted, str(case))
    return True


def test_no_scales_are_refused(rng):
    """One wrong pair of 65,536, or one triple without tables, would break a residual network now and then."""
    for _ in range(1000):
        case = draw(rng)
        assert check(*case), f"no tables for {case}"


def test_unfused_additions(rng):
    """Operators that follow one another round more often, not always as two numbers add up; what is found is exact."""
    assert sum(check(*draw(rng), fused=False) for _ in range(40)) >= 24


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("scales", [
    (0.5, 0.5, 1.0), (0.02, 0.03, 0.04), (0.023529, 0.019608, 0.031373), (1e-6, 1.0, 1.0), (1e6, 1.0, 1.0),
    (1.0, 1e-6, 1e-6), (1e-3, 1e3, 1.0), (4 / 255, 11 / 255, 14 / 255), (1.0, 1.0, 1e6), (1e-30, 1e-36, 1e-30),
])
def test_hard_scales(scales, spread):
    """Ties, scales of which one operand's steps vanish or saturate, and those that integers did not fit."""
    for kind, zeros in (("int8", (0, 0, 0)), ("int8", (-7, 3, 100)), ("uint8", (128, 0, 255))):
        a, b, y = ((scale, zero, kind) for scale, zero in zip(scales, zeros, strict=True))
        assert check(*a, *b, *y, spread), "no tables"


def test_no_tables():
    """What is no sum must be told from what is, and not looked for in vain."""
    outputs = np.minimum.outer(np.arange(256), np.arange(256)) // 2
    assert solve(outputs, first_sums(2.0**-22, -128, 127), -128) is None
    assert find_elements(outputs) is None
