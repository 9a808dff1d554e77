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


def _windows(products, shift):
    """Windows of products, by definition: 16 bits of each in two's complement."""
    bits = products.astype(np.int64) >> shift & 0xFFFF
    return np.where(bits >= 1 << 15, bits - (1 << 16), bits)


@pytest.mark.parametrize("shift", [0, 1, 7, 15, 16])
def test_convolution_is_an_einsum_of_windows(rng, shift):
    """If it failed, some tap, group, dilation or bias would be wrong, or sums would not wrap."""
    x, w = _operands(rng, 2, 2, 3, 5, 3, 2, 6)
    # The least operands of all: the only product that a wrong width would spoil.
    x[0, 0, 2, 2:5] = w[0, 0] = -(1 << 15)
    b = rng.integers(-(1 << 15), 1 << 15, 10).astype(np.int16)
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (1, 2), (3, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (5, 2), (2, 3))[:, :, ::2, ::3, ::2]
    images, _, p, q = seen.shape[:4]
    seen = seen.reshape(images, 2, 3, p, q, 3, 2)
    products = np.einsum("ngcpqrs,gmcrs->ngmpqcrs", seen, w.astype(np.int64).reshape(2, 5, 3, 3, 2))
    sums = _windows(products, shift).sum((-3, -2, -1)).reshape(images, 10, p, q) + b[:, None, None]
    assert np.abs(sums).max() >= 1 << 15
    y = fixed_point.conv2d(x, w, b, shift=shift, stride=(2, 3), padding=(1, 3, 2, 0), dilation=(2, 1), groups=2)
    assert y.dtype == np.int16
    np.testing.assert_array_equal(y, wrap(sums, 16))


def test_blocks_of_pixels_join(rng, monkeypatch):
    """If it failed, outputs would depend on how many sums are computed at a time."""
    x, w = _operands(rng, 3, 1, 2, 7, 3, 3, 6)
    whole = fixed_point.conv2d(x, w, shift=9)
    monkeypatch.setattr(fixed_point, "_BLOCK", 100)
    np.testing.assert_array_equal(fixed_point.conv2d(x, w, shift=9), whole)


@pytest.mark.parametrize("bias", [None, (6,), (1, 6), (5, 6)])
def test_matrix_product_is_an_einsum_of_windows(rng, bias):
    """If it failed, matrix products would take other windows than convolutions, or lay the bias along rows."""
    a, b = (rng.integers(-(1 << 15), 1 << 15, shape).astype(np.int16) for shape in ((5, 7), (7, 6)))
    c = None if bias is None else rng.integers(-(1 << 15), 1 << 15, bias).astype(np.int16)
    sums = _windows(np.einsum("mk,kn->mnk", a.astype(np.int64), b.astype(np.int64)), 11).sum(-1)
    np.testing.assert_array_equal(fixed_point.gemm(a, b, c, shift=11), wrap(sums + (0 if c is None else c), 16))


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
