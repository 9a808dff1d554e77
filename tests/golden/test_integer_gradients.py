"""Integer gradients against PyTorch's autograd in float64, which holds their sums exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pearray.golden import integer_gradients as gradients

pytest.importorskip("torch")

from autograd import conv2d_grad, linear_grad

SEED, SMALL = st.integers(0, 1 << 32), st.integers(1, 9)
TYPES = st.sampled_from([np.int8, np.uint8, np.int16])


def draw(rng, dtype, *shape):
    """Operands over the whole range of a type."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def assert_same(made, expected, bits):
    """Compare all three, modulo the accumulator's width."""
    for name, one, other in zip(("dx", "dw", "db"), made, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, np.int32 if bits == 32 else np.int64), name
        np.testing.assert_array_equal(one.astype(np.int64), (other + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1),
                                      name)


@settings(max_examples=40)
@given(SMALL, st.integers(1, 40), SMALL, TYPES, SEED)
def test_linear_grad_is_autograd(n, c, m, dtype, number):
    """If it failed, one of the three gradients would be contracted over another axis."""
    rng = np.random.default_rng(number)
    x, w, dy = draw(rng, dtype, n, c), draw(rng, dtype, m, c), draw(rng, dtype, n, m)
    bits = 32 if np.dtype(dtype).itemsize == 1 else 48
    assert_same(gradients.linear_grad(x, w, dy, acc_bits=bits), linear_grad(x, w, dy), bits)


@settings(max_examples=120)
@given(st.data(), TYPES, SEED)
def test_conv2d_grad_is_autograd(data, dtype, number):
    """If it failed, a padding, stride, dilation or group would be walked differently in one of the directions."""
    def some(low, high):
        return data.draw(st.integers(low, high))

    rng = np.random.default_rng(number)
    groups, n, channels, per_group = (some(1, 3) for _ in range(4))
    kernel, stride, dilation = [(some(1, 4), some(1, 4)) for _ in range(3)]
    padding = tuple(some(0, 5) for _ in range(4))
    spans = [dilation[i] * (kernel[i] - 1) + 1 - padding[i] - padding[i + 2] for i in (0, 1)]
    size = [max(1, span) + some(0, 6) for span in spans]
    x, w = draw(rng, dtype, n, groups * channels, *size), draw(rng, dtype, groups * per_group, channels, *kernel)
    window = {"stride": stride, "dilation": dilation, "groups": groups}

    p, q = ((size[i] - spans[i]) // stride[i] + 1 for i in (0, 1))
    dy, bits = draw(rng, dtype, n, groups * per_group, p, q), 32 if np.dtype(dtype).itemsize == 1 else 48
    assert_same(gradients.conv2d_grad(x, w, dy, padding=padding, acc_bits=bits, **window),
                conv2d_grad(x, w, dy, padding, **window), bits)


def test_sums_come_round():
    """Sums beyond 32 bits are modulo 2**32, as accumulators hold them; a sum cut off would hide an overflow."""
    x, w = np.full((1, 1, 400, 400), -128, np.int8), np.ones((1, 1, 1, 1), np.int8)
    _, dw, db = gradients.conv2d_grad(x, w, x)
    assert (dw.item(), db.item()) == ((160_000 << 14) - (1 << 32), -160_000 * 128)


@pytest.mark.parametrize(("call", "message"), [
    (lambda a: gradients.linear_grad(a, a, a[:1]), r"^dy must have shape \(2, 2\), not \(1, 3\)$"),
    (lambda a: gradients.linear_grad(a, a[:, :2], a), r"^w must have 3 columns, as x has, not 2$"),
    (lambda a: gradients.linear_grad(a, a, a.astype(float)), r"^dy must be int8, uint8, int16 or uint16, not float64$"),
    (lambda a: gradients.conv2d_grad(a[None, None], a[None, None], a[None, None]),
     r"^dy must have shape \(1, 1, 1, 1\), not \(1, 1, 2, 3\)$"),
])
def test_wrong_operands_are_named(call, message):
    """A message without the field and what is allowed leaves the user guessing."""
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 3), np.int8))
