"""Float operators: order of the sums against plain loops, values and gradients against PyTorch.

An output is compared with PyTorch's of the same operands. Both add K products in float32 in their
own order, so that each may be off by K rounding errors of the sum of magnitudes; the bound is twice
that, computed for each output from the operands, and a few roundings for what follows the sum.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pearray.golden import attention, attention_gradients, floating, gradients
from pearray.golden.tensors import float_type

EPSILON = float(np.finfo(np.float32).eps)
SEED = st.integers(0, 1 << 32)
SMALL = st.integers(1, 7)

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def normal(rng, *shape):
    """Random float32 tensor."""
    return rng.normal(size=shape).astype(np.float32)


def assert_close(ours, theirs, magnitude, depth):
    """Compare within 2 (depth + 4) rounding errors of a sum of magnitudes, one for all or one each."""
    assert ours.dtype == np.float32
    theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else theirs
    assert ours.shape == theirs.shape
    bound = 2 * (depth + 4) * EPSILON * np.maximum(np.asarray(magnitude), np.finfo(np.float32).tiny)
    excess = np.abs(ours.astype(np.float64) - theirs) / bound
    assert excess.max() <= 1, f"off by {excess.max():.3g} times the bound"


def leaf(array):
    """Tensor whose gradient is recorded."""
    return torch.from_numpy(array.copy()).requires_grad_()


@given(SMALL, st.integers(1, 30), SMALL, st.one_of(st.none(), st.integers(1, 9)), SEED)
def test_matmul_adds_in_order(m, k, n, tile, number):
    """If it failed, float sums would not be those of an array whose columns add product after product."""
    rng = np.random.default_rng(number)
    a, b = normal(rng, m, k), normal(rng, k, n)
    expected = np.empty((m, n), np.float32)
    for i in range(m):
        for j in range(n):
            total = None
            for start in range(0, k, tile or k):
                partial = np.float32(0)
                for index in range(start, min(k, start + (tile or k))):
                    partial = np.float32(partial + np.float32(a[i, index] * b[index, j]))
                total = partial if total is None else np.float32(total + partial)
            expected[i, j] = total
    assert (floating.matmul(a, b, tile=tile) == expected).all()


def test_an_order_is_any_tiles_of_any_products(rng):
    """If it failed, a program that cuts its contraction otherwise would be compared with other sums."""
    a, b = normal(rng, 3, 11), normal(rng, 11, 2)
    order = np.split(rng.permutation(11), [4, 5, 9])
    expected = np.zeros((3, 2), np.float32)
    for number, tile in enumerate(order):
        partial = np.zeros((3, 2), np.float32)
        for k in tile:
            partial = partial + a[:, k, None] * b[k]
        expected = expected + partial if number else partial
    assert (floating.matmul(a, b, tile=order) == expected).all()
    assert (expected != floating.matmul(a, b)).any()


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float8_e4m3fn"])
def test_sums_are_within_a_bound_of_float64(rng, kind):
    """If it failed, sums would not be float32's: each addition is wrong by half a last bit at most."""
    a, b = (rng.standard_normal((20, 200)).astype(float_type(kind)) for _ in range(2))
    exact = a.astype(np.float64) @ b.T.astype(np.float64)
    bound = 200 * EPSILON / 2 * (np.abs(a.astype(np.float64)) @ np.abs(b.T.astype(np.float64)))
    for tile in (None, 8, 32):
        assert (np.abs(floating.matmul(a, b.T, tile=tile) - exact) <= bound).all()


def test_conv2d_adds_channels_then_columns_then_rows(rng):
    """If it failed, a convolution would not add in the order in which the accelerator walks NHWC lines."""
    x, w = normal(rng, 1, 3, 4, 5), normal(rng, 2, 3, 2, 3)
    y = floating.conv2d(x, w, padding=(1, 0), stride=(1, 2))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    for m in range(2):
        for p in range(y.shape[2]):
            for q in range(y.shape[3]):
                total = np.float32(0)
                for r in range(2):
                    for s in range(3):
                        for c in range(3):
                            total += padded[0, c, p + r, 2 * q + s] * w[m, c, r, s]
                assert y[0, m, p, q] == total


def test_narrow_floats_are_widened_exactly(rng):
    """If it failed, bfloat16 operands would be rejected or rounded again."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.float16):
        a, b = (rng.normal(size=(6, 6)).astype(kind) for _ in range(2))
        expected = floating.matmul(a.astype(np.float32), b.astype(np.float32))
        assert (floating.matmul(a, b) == expected).all()


@settings(max_examples=40)
@given(SMALL, st.integers(1, 40), SMALL, SEED)
def test_linear_and_its_gradients_agree_with_pytorch(n, c, m, number):
    """If it failed, a fully connected layer or one of its three gradients would be wrong."""
    rng = np.random.default_rng(number)
    x, w, b, dy = normal(rng, n, c), normal(rng, m, c), normal(rng, m), normal(rng, n, m)
    tensors = [leaf(t) for t in (x, w, b)]
    y = torch.nn.functional.linear(*tensors)
    y.backward(torch.from_numpy(dy))
    assert_close(floating.linear(x, w, b), y, np.abs(x) @ np.abs(w).T + np.abs(b), c)
    dx, dw, db = gradients.linear_grad(x, w, dy)
    assert_close(dx, tensors[0].grad, np.abs(dy) @ np.abs(w), m)
    assert_close(dw, tensors[1].grad, np.abs(dy).T @ np.abs(x), n)
    assert_close(db, tensors[2].grad, np.abs(dy).sum(0), n)


def test_gradients_of_which_one_has_an_order(rng):
    """A program that computes one gradient says in what order, and nothing of the others, which fell over it."""
    x, w, dy = normal(rng, 9, 5), normal(rng, 7, 5), normal(rng, 9, 7)
    for role, tiled, plain in zip(("dx", "dw", "db"), gradients.linear_grad(x, w, dy, tile=4),
                                  gradients.linear_grad(x, w, dy), strict=True):
        for other, found in zip(("dx", "dw", "db"), gradients.linear_grad(x, w, dy, tile={role: 4}), strict=True):
            if other == role:
                assert np.array_equal(found, tiled)
                assert not np.array_equal(found, plain)


@settings(max_examples=40)
@given(st.data(), SEED)
def test_conv2d_and_its_gradients_agree_with_pytorch(data, number):
    """If it failed, a padding, stride, dilation or group would be walked differently in some direction."""
    rng = np.random.default_rng(number)
    small = [data.draw(st.integers(1, 3)) for _ in range(11)]
    groups, (n, channels, per_group) = small[0], small[1:4]
    kernel, stride, dilation = tuple(small[4:6]), tuple(small[6:8]), tuple(small[8:10])
    padding = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
    size = [dilation[i] * (kernel[i] - 1) + 1 + data.draw(st.integers(0, 4)) for i in (0, 1)]
    x, w = normal(rng, n, groups * channels, *size), normal(rng, groups * per_group, channels, *kernel)
    b = normal(rng, groups * per_group)
    attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    tensors, absolute = [leaf(t) for t in (x, w, b)], [leaf(np.abs(t)) for t in (x, w, b)]
    y, magnitude = (torch.nn.functional.conv2d(*operands, **attributes) for operands in (tensors, absolute))
    dy = normal(rng, *y.shape)
    y.backward(torch.from_numpy(dy))
    magnitude.backward(torch.from_numpy(np.abs(dy)))
    bounds = [t.grad.numpy() for t in absolute]
    taps, pixels = kernel[0] * kernel[1], n * y.shape[2] * y.shape[3]
    assert_close(floating.conv2d(x, w, b, **attributes), y, magnitude.detach().numpy(), channels * taps)
    ours = gradients.conv2d_grad(x, w, dy, **attributes)
    for i, depth in enumerate((per_group * taps, pixels, pixels)):
        assert_close(ours[i], tensors[i].grad, bounds[i], depth)


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(0, 1), SEED)
def test_softmax_agrees_with_pytorch(rows, keys, axis, number):
    """If it failed, a softmax would be of another axis or lose precision for large scores."""
    x = 10 * normal(np.random.default_rng(number), rows, keys)
    ours = attention.softmax(x, axis)
    # The rounding of x - max, up to 40, is an error of as many units of its last place in the result.
    assert_close(ours, torch.softmax(torch.from_numpy(x), axis), ours, keys + 80)
    assert np.abs(ours.sum(axis) - 1).max() < 1e-5


@settings(max_examples=60)
@given(SMALL, st.integers(1, 20), SMALL, SMALL, st.booleans(), st.integers(1, 9), SEED)
def test_attention_and_its_gradients_agree_with_pytorch(p, m, e, f, causal, block, number):
    """If it failed, one-pass or two-pass attention, its mask, its scale or a gradient would be wrong."""
    rng = np.random.default_rng(number)
    q, k, v, dy = (normal(rng, 2, *shape) for shape in ((p, e), (m, e), (m, f), (p, f)))
    tensors = [leaf(t) for t in (q, k, v)]
    mask = torch.ones(p, m, dtype=torch.bool).tril() if causal else None
    y = torch.nn.functional.scaled_dot_product_attention(*tensors, attn_mask=mask)
    y.backward(torch.from_numpy(dy))
    spread = np.abs(q) @ np.abs(k).swapaxes(-1, -2) / np.sqrt(e)
    # An error of a score is a relative one of its weight; weights add up to one.
    amplified = (1 + spread.max()) * np.abs(v).max()
    for ours in (attention.attention(q, k, v, causal=causal),
                 attention.attention_online(q, k, v, causal=causal, block=block)):
        assert_close(ours, y, amplified, m + e)
    steep = (1 + spread.max()) ** 2 * np.abs(dy).max() * f
    greatest_q, greatest_k, greatest_v = (np.abs(t).max() for t in (q, k, v))
    bounds = steep * greatest_v * greatest_k * 2, steep * greatest_v * greatest_q * 2 * p, steep * p
    ours = attention_gradients.attention_grad(q, k, v, dy, causal=causal)
    for i, bound in enumerate(bounds):
        assert_close(ours[i], tensors[i].grad, bound, m + e + f + p)


def test_online_attention_with_one_block_adds_like_two_passes(rng):
    """If it failed, the running sums of one-pass attention would not start from nothing."""
    q, k, v = normal(rng, 3, 4), normal(rng, 6, 4), normal(rng, 6, 5)
    numerators = attention.exponential(attention.scores(q, k) - attention.scores(q, k).max(-1, keepdims=True))
    expected = floating.matmul(numerators, v) / floating.sequential_sum(numerators)[:, None]
    assert (attention.attention_online(q, k, v, block=6) == expected).all()


def test_multi_head_attention_agrees_with_pytorch(rng):
    """If it failed, heads would be split or joined in another order than the field's."""
    width, heads = 12, 3
    layer = torch.nn.MultiheadAttention(width, heads, bias=False, batch_first=True)
    x = normal(rng, 2, 7, width)
    projections = layer.in_proj_weight.detach().numpy().reshape(3, width, width)
    q, k, v = (floating.matmul(x, np.ascontiguousarray(w.T)) for w in projections)
    y = attention.multi_head_attention(q, k, v, heads)
    out = floating.matmul(y, np.ascontiguousarray(layer.out_proj.weight.detach().numpy().T))
    theirs, _ = layer(*(torch.from_numpy(x),) * 3, need_weights=False)
    assert_close(out, theirs, 10.0, 40)


A = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: floating.matmul(A.astype(np.float64), A.T),
     r"^a must be float32, float16, bfloat16 or float8, not float64$"),
    (lambda: floating.matmul(A, A), r"^a and b must have shapes \(\.\.\., M, K\) and \(\.\.\., K, N\), not"),
    (lambda: floating.matmul(A, A.T, tile=0), r"^tile must be at least 1, not 0$"),
    (lambda: floating.matmul(A, A.T, tile=[np.array([0, 1]), np.array([1])]),
     r"^tile must have each of the 3 products once, not 3 numbers$"),
    (lambda: floating.linear(A, A, np.zeros(3, np.float32)), r"^b must have shape \(2,\), not \(3,\)$"),
    (lambda: floating.gemm(A, A.T, np.zeros(3, np.float32)),
     r"^c must have shape \(2,\) or \(2, 2\), not \(3,\)$"),
    (lambda: attention.softmax(A, 2), r"^axis must be in -2\.\.1, not 2$"),
    (lambda: attention.attention(A, A[:, :2], A),
     r"^q and k must have shapes \(\.\.\., P, E\) and \(\.\.\., M, E\)"),
    (lambda: attention.attention(A, A, A[:1]), r"^v must have shape \(\.\.\., 2, F\), not \(1, 3\)$"),
    (lambda: attention.attention_online(A, A, A, block=0), r"^block must be at least 1, not 0$"),
    (lambda: attention.multi_head_attention(A, A, A, 2),
     r"^heads must divide the last dimension of q \(2, 3\), not 2$"),
    (lambda: gradients.linear_grad(A, A, A), r"^dy must have shape \(2, 2\), not \(2, 3\)$"),
])
def test_wrong_arguments_are_named(call, message):
    """If it failed, a mistake would be accepted or its message would not name the field."""
    with pytest.raises(ValueError, match=message):
        call()
