"""Rotary position embedding against onnxruntime's operator of floats, and its bytes within the stated bound of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnxruntime")

from onnx_node import MICROSOFT, run_node

from pearray.golden import rotary


def _theirs(x, cos, sin, offset, interleaved):
    """What onnxruntime makes of float32 rows (H, P, E), all of whose elements are turned."""
    positions = np.arange(offset, offset + x.shape[1])[None]
    return run_node("RotaryEmbedding", [x[None].astype(np.float32), positions, cos, sin], output=np.float32,
                    domain=MICROSOFT, interleaved=int(interleaved))[0]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.sampled_from([2, 4, 16, 64]), st.integers(0, 500), st.booleans(),
       st.integers(0, 1 << 30))
def test_equals_onnxruntime(heads, rows, elements, offset, interleaved, number):
    """Pairs, signs or the order of positions that differ would turn by other angles; bytes err as the bound says."""
    rng = np.random.default_rng(number)
    cos, sin = rotary.rotary_tables(offset + rows, elements)
    x = rng.integers(-128, 128, (heads, rows, elements)).astype(np.int8)
    x_scale, y_scale, zeros = np.float32(0.05), np.float32(rng.uniform(0.05, 0.1)), rng.integers(-20, 20, 2).tolist()
    real = (x - np.float32(zeros[0])) * x_scale
    theirs = _theirs(real, cos, sin, offset, interleaved)
    own = slice(offset, offset + rows)
    np.testing.assert_allclose(rotary.rotated(real, cos[own], sin[own], interleaved), theirs, atol=1e-5)
    step = rotary.table_scale(cos, sin)
    found = rotary.rotary(x, cos[own], sin[own], step, x_scale * step / y_scale, x_zero_point=zeros[0],
                          y_zero_point=zeros[1], interleaved=interleaved)
    errors = np.abs(found - np.clip(theirs / y_scale + zeros[1], -128, 127))
    bound = rotary.error_bound(x, x_scale, y_scale, step, x_zero_point=zeros[0], interleaved=interleaved)
    assert (errors <= bound + 1e-3).all()
    assert errors.max() < 1.75


def test_errors_of_usual_rows(rng):
    """A table of too few steps would show as more than rounding makes, 0.29 steps as a root of the mean square."""
    cos, sin = rotary.rotary_tables(256, 64)
    x = np.clip(np.rint(rng.normal(0, 32, (8, 256, 64))), -127, 127).astype(np.int8)
    step = rotary.table_scale(cos, sin)
    errors = rotary.rotary(x, cos, sin, step, step) - np.clip(rotary.rotated(x.astype(float), cos, sin), -128, 127)
    assert np.sqrt((errors ** 2).mean()) < 0.33


@pytest.mark.parametrize("interleaved", [False, True])
def test_parts_and_factors(rng, interleaved):
    """Elements behind the turned ones stay as they are, and tables greater than one lose no bit to a clamp."""
    cos, sin = (1.3 * table for table in rotary.rotary_tables(5, 6, base=100.0))
    x = rng.integers(-60, 61, (2, 5, 9)).astype(np.int8)
    step = rotary.table_scale(cos, sin)
    found = rotary.rotary(x, cos, sin, step, np.float32(step), interleaved=interleaved)
    np.testing.assert_array_equal(found[..., 6:], x[..., 6:])
    exact = rotary.rotated(x.astype(float), cos, sin, interleaved)
    bound = rotary.error_bound(x, 1.0, 1.0, step, interleaved=interleaved, turned_elements=6)
    assert (np.abs(found - np.clip(exact, -128, 127))[..., :6] <= bound[..., :6]).all()
    matrices = rotary.turns(cos, sin, step, 9, interleaved).astype(int)
    sums = np.einsum("hpc,pcm->hpm", x.astype(int), matrices)
    np.testing.assert_array_equal(np.clip(np.rint(sums.astype(np.float32) * step), -128, 127), found)


@pytest.mark.parametrize("arguments", [(0, 4), (3, 5), (3, 0), (3, 4, 0.0)])
def test_tables_of_nothing_are_refused(arguments):
    """Half a pair, or a base without a logarithm, has no angles."""
    with pytest.raises(ValueError, match="positions must be at least 1, elements even and at least 2, and base"):
        rotary.rotary_tables(*arguments)
