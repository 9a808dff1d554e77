"""Gradients of every float operator against PyTorch's autograd in float64: relative errors of at most 1e-5."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pearray.compiler.operators import AvgPool2d
from pearray.golden import (
    activation_gradients,
    attention,
    attention_gradients,
    float_functions,
    float_normalisation,
    gradients,
    loss,
    pool,
    pool_gradients,
)

torch = pytest.importorskip("torch")
autograd = pytest.importorskip("autograd")
functional = torch.nn.functional
relative_error, vector_jacobian = autograd.relative_error, autograd.vector_jacobian

SEED = st.integers(0, 1 << 32)
MOST = 1e-5

#: Activations, and PyTorch's function of the same name.
FUNCTIONS = {
    "relu": functional.relu, ("clip", -0.5, 1.25): lambda x: torch.clamp(x, -0.5, 1.25),
    ("leaky_relu", 0.125): lambda x: functional.leaky_relu(x, 0.125), "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    "gelu": functional.gelu, "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"), "silu": functional.silu,
    ("hard_sigmoid", 1 / 6, 0.5): functional.hardsigmoid, "hard_swish": functional.hardswish,
}


def normal(rng, *shape):
    """Random float32 tensor."""
    return rng.normal(size=shape).astype(np.float32)


def test_every_activation_has_a_derivative():
    """If it failed, a network with an activation that runs forward could not be trained."""
    assert {name if isinstance(name, str) else name[0] for name in FUNCTIONS} == {*float_functions.DERIVATIVES}


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_activations(rng, function):
    """If it failed, a derivative would be that of another function, or lose its precision where it is small."""
    x, dy = 3 * normal(rng, 5000), normal(rng, 5000)
    y, [dx] = vector_jacobian(FUNCTIONS[function], [x], dy)
    assert relative_error(activation_gradients.activation_grad(function, x, dy), dx) <= MOST
    if function in activation_gradients.OF_OUTPUT or function[0] in activation_gradients.OF_OUTPUT:
        of_output = activation_gradients.activation_grad(function, y.astype(np.float32), dy)
        assert relative_error(of_output, dx) <= MOST


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_activations_of_great_arguments(function):
    """If it failed, an argument where the function is level or straight would give something that is no number."""
    x = np.array([-3e38, -1e25, -100, 100, 1e25, 3e38], np.float32)
    _, [dx] = vector_jacobian(FUNCTIONS[function], [x], np.ones(6))
    if function == "gelu_tanh":
        dx = np.array([0, 0, 0, 1, 1, 1.0])  # PyTorch's own is no number beyond the roots of its type.
    assert relative_error(activation_gradients.activation_grad(function, x, np.ones(6, np.float32)), dx) <= MOST


def window(data):
    """Window of a pooling and an image that it fits: kernel, stride, padding of four sides, dilation and sizes."""
    def two(low, high):
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    kernel, stride, dilation = two(1, 4), two(1, 4), two(1, 2)
    reach = [dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    padding = tuple(data.draw(st.integers(0, min(reach[i % 2] - 1, 2))) for i in range(4))
    size = [max(1, reach[i] - padding[i] - padding[i + 2]) + data.draw(st.integers(0, 6)) for i in (0, 1)]
    return kernel, stride, padding, dilation, (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3)), *size)


@settings(max_examples=50)
@given(st.data(), st.booleans(), SEED)
def test_max_pooling(data, equal, number):
    """If it failed, a gradient would go to padding, to another of equal elements, or be lost where windows overlap."""
    rng = np.random.default_rng(number)
    kernel, stride, (top, left, bottom, right), dilation, shape = window(data)
    x = rng.integers(-2, 3, shape).astype(np.float32) if equal else normal(rng, *shape)
    options = {"stride": stride, "padding": (top, left, bottom, right), "dilation": dilation}
    dy = normal(rng, *pool.max_pool2d(x, kernel, **options).shape)
    _, [dx] = vector_jacobian(lambda x: functional.max_pool2d(
        functional.pad(x, (left, right, top, bottom), value=-np.inf), kernel, stride, 0, dilation), [x], dy)
    assert relative_error(pool_gradients.max_pool2d_grad(x, dy, kernel, **options), dx) <= MOST


@settings(max_examples=40)
@given(st.data(), SEED)
def test_max_pooling_of_what_is_not_finite(data, number):
    """If it failed, a window with something that is no number, or of minus infinities, would lose its gradient."""
    rng = np.random.default_rng(number)
    kernel, stride, dilation = ((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))) for _ in range(3))
    padding = kernel[0] // 2, kernel[1] // 2
    size = [max(1, dilation[i] * (kernel[i] - 1) + 1 - 2 * padding[i]) + data.draw(st.integers(0, 5)) for i in (0, 1)]
    x = rng.choice(np.array([-np.inf, -np.inf, -np.inf, 1, np.inf], np.float32), (2, 2, *size))
    # One in an image: which of several gets the gradient is nobody's rule.
    x.reshape(4, -1)[:2, rng.integers(size[0] * size[1])] = np.nan
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": data.draw(st.booleans())}
    dy = rng.integers(1, 9, pool.max_pool2d(x, kernel, **options).shape).astype(np.float32)
    _, [dx] = vector_jacobian(lambda x: functional.max_pool2d(x, kernel, **options), [x], dy)
    np.testing.assert_array_equal(pool_gradients.max_pool2d_grad(x, dy, kernel, **options), dx)


@settings(max_examples=40)
@given(st.data(), st.booleans(), SEED)
def test_average_pooling(data, count, number):
    """If it failed, an element would get the share of a window that it isn't in, or of another size."""
    rng = np.random.default_rng(number)
    kernel, stride, (top, left, bottom, right), _, shape = window(data)
    top, left = bottom, right = min(top, bottom, kernel[0] // 2), min(left, right, kernel[1] // 2)
    shape = *shape[:2], max(shape[2], kernel[0]), max(shape[3], kernel[1])
    x, options = normal(rng, *shape), {"stride": stride, "padding": (top, left), "count_include_pad": count}
    sizes = pool.pooled_size(*shape[2:], kernel, stride, (top, left, bottom, right))
    dy = normal(rng, *shape[:2], *sizes)
    _, [dx] = vector_jacobian(lambda x: functional.avg_pool2d(
        x, kernel, stride, (top, left), count_include_pad=count), [x], dy)
    assert relative_error(pool_gradients.average_pool2d_grad(x, dy, kernel, **options), dx) <= MOST


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2), st.booleans(), SEED)
def test_averages_do_not_count_what_lies_behind_padding(size, kernel, stride, padding, count, number):
    """If it failed, a window that hangs over the padded image would be divided by elements that are nowhere."""
    padding, x = min(padding, kernel // 2), normal(np.random.default_rng(number), 1, 1, size, size + 1)
    if size + 2 * padding < kernel:
        return
    options = {"stride": stride, "padding": padding, "ceil_mode": True, "count_include_pad": count}
    operator = AvgPool2d(kernel, **options)
    y = operator.golden({"x": x})["y"]
    dy = normal(np.random.default_rng(number + 1), *y.shape)
    expected, [dx] = vector_jacobian(lambda x: functional.avg_pool2d(x, kernel, **options), [x], dy)
    assert relative_error(y, expected) <= MOST
    assert relative_error(pool_gradients.average_pool2d_grad(x, dy, kernel, **options), dx) <= MOST


def test_places_that_no_tap_reaches_have_no_gradient():
    """If it failed, an infinite weight would make numbers of places that it never meets into none."""
    w = np.ones((1, 1, 2, 1), np.float32)
    w[0, 0, 0, 0] = np.inf
    dx, _, _ = gradients.conv2d_grad(np.ones((1, 1, 3, 6), np.float32), w, np.ones((1, 1, 2, 2), np.float32),
                                     stride=(1, 3), padding=0)
    assert (dx[..., [1, 2, 4, 5]] == 0).all()
    assert np.isinf(dx[0, 0, 0, 0])


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pooling_with_a_window_over_the_end(rng, kind):
    """If it failed, a last window that hangs over the end would write beyond the image, or count what isn't there."""
    x, dy = normal(rng, 1, 2, 6, 7), normal(rng, 1, 2, 3, 4)
    given = {"stride": 2, "padding": 0, "ceil_mode": True}
    ours = {"max": pool_gradients.max_pool2d_grad, "average": pool_gradients.average_pool2d_grad}[kind]
    theirs = {"max": functional.max_pool2d, "average": functional.avg_pool2d}[kind]
    _, [dx] = vector_jacobian(lambda x: theirs(x, (3, 2), **given), [x], dy)
    assert relative_error(ours(x, dy, (3, 2), **given), dx) <= MOST


@settings(max_examples=40)
@given(st.lists(st.integers(1, 4), max_size=2), st.integers(1, 40), st.sampled_from((1e-5, 1e-3, 1.0)),
       st.sampled_from((0.0, 3.0)), SEED)
def test_normalisation(outer, width, epsilon, offset, number):
    """If it failed, the mean's or the variance's part of a gradient would be missing, or a sum take another axis."""
    rng = np.random.default_rng(number)
    x, dy = normal(rng, *outer, width) + np.float32(offset), normal(rng, *outer, width)
    gamma, beta = normal(rng, width), normal(rng, width)

    def rms(x, gamma):
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + epsilon) * gamma

    y, theirs = vector_jacobian(lambda x, g, b: functional.layer_norm(x, (width,), g, b, epsilon), [x, gamma, beta], dy)
    # What is left of a row of nearly equal elements has lost the digits that they share.
    spread = x.std(-1, keepdims=True)
    lost = 1 + np.abs(x).max() / np.sqrt(spread ** 2 + epsilon).min()
    steep = lost * np.abs(dy * gamma / np.sqrt(spread ** 2 + epsilon)).max()
    bounds = steep, lost * np.abs(dy).max() * np.sqrt(width), np.abs(dy).max()
    assert relative_error(float_normalisation.layer_norm(x, gamma, beta, epsilon=epsilon), y, lost) <= MOST
    for mine, other, bound in zip(float_normalisation.layer_norm_grad(x, gamma, dy, epsilon=epsilon), theirs, bounds,
                                  strict=True):
        assert relative_error(mine, other, bound) <= MOST
    y, theirs = vector_jacobian(rms, [x, gamma], dy)
    steep = np.abs(dy * gamma).max() / np.sqrt(np.square(x).mean(-1) + epsilon).min()
    assert relative_error(float_normalisation.rms_norm(x, gamma, epsilon=epsilon), y) <= MOST
    for mine, other, bound in zip(float_normalisation.rms_norm_grad(x, gamma, dy, epsilon=epsilon), theirs,
                                  (steep, np.abs(dy).max()), strict=True):
        assert relative_error(mine, other, bound) <= MOST


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 40), st.sampled_from((1.0, 30.0)), SEED)
def test_softmax_and_cross_entropy(rows, classes, steepness, number):
    """If it failed, a loss would overflow for great scores, or its gradient not be that of the mean over rows."""
    rng = np.random.default_rng(number)
    x, labels = np.float32(steepness) * normal(rng, rows, classes), rng.integers(0, classes, rows)
    factor = np.float32(1024)
    y, [dx] = vector_jacobian(lambda x: functional.cross_entropy(x, torch.from_numpy(labels)), [x], factor)
    assert relative_error(loss.softmax_cross_entropy(x, labels), y, steepness) <= MOST
    # An error of a score's difference from the greatest is a relative one of its share.
    assert relative_error(loss.softmax_cross_entropy_grad(x, labels, factor), dx, factor / rows) <= MOST
    dy = normal(rng, rows, classes)
    y, [dx] = vector_jacobian(lambda x: torch.softmax(x, -1), [x], dy)
    assert relative_error(gradients.softmax_grad(y.astype(np.float32), dy), dx, np.abs(dy).max()) <= MOST


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 5), st.lists(st.integers(1, 6), min_size=1, max_size=2), SEED)
def test_embedding(rows, width, shape, number):
    """If it failed, rows that are looked up several times would get one of their gradients only."""
    rng = np.random.default_rng(number)
    table, places = normal(rng, rows, width), rng.integers(0, rows, shape)
    dy = normal(rng, *shape, width)
    _, [dtable] = vector_jacobian(lambda table: functional.embedding(torch.from_numpy(places), table), [table], dy)
    assert relative_error(gradients.scatter_sum(dy, places, rows), dtable, np.abs(dy).max()) <= MOST


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 7), st.integers(1, 7), st.booleans(),
       st.one_of(st.none(), st.integers(1, 9)), SEED)
def test_attention(p, m, e, f, causal, block, number):
    """If it failed, probabilities computed again would not be those of the forward pass, or a product be wrong."""
    rng = np.random.default_rng(number)
    q, k, v, dy = (normal(rng, 2, 1, *shape) for shape in ((p, e), (m, e), (m, f), (p, f)))
    mask = torch.ones(p, m, dtype=torch.bool).tril() if causal else None
    y, theirs = vector_jacobian(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask=mask),
                                [q, k, v], dy)
    made = attention.attention_statistics(q, k, v, causal=causal, block=block)
    assert relative_error(made[0], y) <= MOST
    ours = attention_gradients.attention_grad_kept(q, k, v, *made, dy, causal=causal, block=block)
    # Scores of one key have no gradient: what is left are roundings of dY V and of D, of this size.
    terms = np.abs(dy).max() * np.abs(v).max() * f / np.sqrt(e)
    for mine, other, bound in zip(ours, theirs, (terms * np.abs(k).max(), terms * np.abs(q).max(), 0), strict=True):
        assert relative_error(mine, other, bound) <= MOST
    for mine, again in zip(ours, attention_gradients.attention_grad(q, k, v, dy, causal=causal, block=block),
                           strict=True):
        np.testing.assert_array_equal(mine, again)


@settings(max_examples=40)
@given(st.data(), SEED)
def test_convolutions(data, number):
    """If it failed, groups, channels of their own, dilation or uneven padding would be walked wrongly backwards."""
    rng = np.random.default_rng(number)
    groups, per_group, filters = (data.draw(st.integers(1, 3)) for _ in range(3))
    kernel, stride, dilation = ((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))) for _ in range(3))
    padding = tuple(data.draw(st.integers(0, 2)) for _ in range(4))
    top, left, bottom, right = padding
    size = [max(1, dilation[i] * (kernel[i] - 1) + 1 - padding[i] - padding[i + 2]) + data.draw(st.integers(0, 4))
            for i in (0, 1)]
    x = normal(rng, data.draw(st.integers(1, 2)), groups * per_group, *size)
    w = normal(rng, groups * filters, per_group, *kernel)
    attributes = {"stride": stride, "dilation": dilation, "groups": groups}

    def convolve(x, w, b):
        return functional.conv2d(functional.pad(x, (left, right, top, bottom)), w, b, **attributes)

    shape = convolve(torch.from_numpy(x), torch.from_numpy(w), None).shape
    dy = normal(rng, *shape)
    _, theirs = vector_jacobian(convolve, [x, w, np.zeros(len(w))], dy)
    for ours, other in zip(gradients.conv2d_grad(x, w, dy, padding=padding, **attributes), theirs, strict=True):
        assert relative_error(ours, other, np.abs(dy).max()) <= MOST


A = np.zeros((2, 3), np.float32)
IMAGE = np.zeros((1, 1, 4, 4), np.float32)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: activation_gradients.activation_grad("cosine", A, A),
     r"^activation must be one of relu, .* not 'cosine'$"),
    (lambda: activation_gradients.activation_grad("relu", A, A.T), r"^dy must have shape \(2, 3\), not \(3, 2\)$"),
    (lambda: pool_gradients.max_pool2d_grad(IMAGE, IMAGE, 2),
     r"^dy must have shape \(1, 1, 2, 2\), not \(1, 1, 4, 4\)$"),
    (lambda: float_normalisation.layer_norm(A, A[0, :2]), r"^gamma must have shape \(3,\), not \(2,\)$"),
    (lambda: float_normalisation.rms_norm(A, A[0], epsilon=-1), r"^epsilon must be finite and at least 0, not -1$"),
    (lambda: float_normalisation.rms_norm_grad(A, A[0], A.T), r"^dy must have shape \(2, 3\), not \(3, 2\)$"),
    (lambda: loss.softmax_cross_entropy(A, np.array([0, 3])), r"^labels must be in 0\.\.2, not 3$"),
    (lambda: loss.softmax_cross_entropy(A, np.array([0.0, 1])),
     r"^labels must be integers of shape \(2,\), not float64 of shape \(2,\)$"),
    (lambda: gradients.scatter_sum(A, np.array([0, 2]), 2), r"^places must be less than 2, not 2$"),
    (lambda: gradients.scatter_sum(A, np.array([0, 1, 1]), 2), r"^places must be integers of a shape that dy"),
    (lambda: attention_gradients.attention_grad_kept(A, A, A, A, A[:, 0], A[0], A),
     r"^total must have shape \(2,\), not \(3,\)$"),
])
def test_wrong_arguments_are_named(call, message):
    """If it failed, a mistake would be accepted or its message would not name the field."""
    with pytest.raises(ValueError, match=message):
        call()
