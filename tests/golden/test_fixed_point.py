"""Fixed-point convolution: against products written out, and against exact sums where no window cuts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pearray.golden import fixed_point, integer
from pearray.golden.tensors import wrap

SIZE = st.integers(1, 3)


def _operands(rng, n, groups, channels, filters, r, s, extra):
    x = rng.integers(-(1 << 15), 1 << 15, (n, groups * channels, r + extra, s + extra)).astype(np.int16)
    w = rng.integers(-(1 << 15), 1 << 15, (groups * filters, channels, r, s)).astype(np.int16)
    return x, w


@given(SIZE, SIZE, SIZE, SIZE, SIZE, SIZE, st.integers(0, 3), st.integers(0, 2), st.integers(1, 2), st.integers(0, 16),
       st.integers(0, 1 << 32))
def test_products_written_out(n, groups, channels, filters, r, s, extra, padding, stride, shift, seed):
    """If it failed, windows would be taken from sums instead of products, or at the wrong bit."""
    x, w = _operands(np.random.default_rng(seed), n, groups, channels, filters, r, s, extra)
    y = fixed_point.conv2d(x, w, shift=shift, stride=stride, padding=padding, groups=groups)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding))).tolist()
    image, m, p, q = (int(v) for v in np.random.default_rng(seed).integers(y.shape))
    group = m // filters
    total = sum((padded[image][group * channels + c][p * stride + i][q * stride + j] * int(w[m, c, i, j])) >> shift
                for c in range(channels) for i in range(r) for j in range(s))
    assert (int(y[image, m, p, q]) - total) % (1 << 16) == 0


def test_lowest_window_is_exact(rng):
    """If it failed, the convolution itself (strides, padding, groups) would differ from the exact one's."""
    x, w = _operands(rng, 2, 2, 3, 4, 3, 2, 5)
    y = fixed_point.conv2d(x, w, shift=0, stride=(2, 1), padding=(1, 0, 2, 1), groups=2)
    sums = integer.conv2d(x, w, stride=(2, 1), padding=(1, 0, 2, 1), groups=2, acc_bits=48)
    np.testing.assert_array_equal(y, wrap(sums, 16))


@pytest.mark.parametrize(("change", "message"), [
    ({"shift": 17}, r"^shift must be an integer in 0..16, not 17$"),
    ({"groups": 2}, r"^groups must divide the 3 input and 4 output channels, not 2$"),
    ({"x": np.zeros((1, 3, 4, 4), np.int8)}, r"^x must be int16, not int8$"),
    ({"w": np.zeros((4, 2, 3, 3), np.int16)}, r"^w must have 3 channels a group, not 2$"),
])
def test_wrong_arguments_are_named(change, message):
    """If it failed, a mistake would be accepted or its message would not name the field."""
    arguments = {"x": np.zeros((1, 3, 4, 4), np.int16), "w": np.zeros((4, 3, 3, 3), np.int16), "shift": 0} | change
    with pytest.raises(ValueError, match=message):
        fixed_point.conv2d(arguments.pop("x"), arguments.pop("w"), **arguments)
