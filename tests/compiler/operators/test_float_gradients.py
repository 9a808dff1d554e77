"""Operators on floats that only training has: what they take, what they are equal to, and what they say of the rest."""

import numpy as np
import pytest

import pearray as pe
from pearray.compiler.operators import (
    SGD,
    Adam,
    AttentionGrad,
    AttentionKept,
    AvgPool2d,
    Embedding,
    EmbeddingGrad,
    Function,
    FunctionGrad,
    LayerNorm,
    MaxPool2d,
    MovedGrad,
    NormGrad,
    PoolGrad,
    ReduceGrad,
    ReduceSum,
    RMSNorm,
    Rounded,
    Slice,
    SoftmaxCrossEntropy,
    SoftmaxCrossEntropyGrad,
    SoftmaxGrad,
    SumTo,
)
from pearray.golden import attention, attention_gradients, float_normalisation, optimisers, rounding

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 7
IMAGE, ROW, LABELS, DOUBLE = X[None], X[0, 0], np.array([0, 2]), X.astype(np.float64)
STEP = np.int64(1)


def test_attention_and_its_gradients(rng):
    """If it failed, gradients would be computed of another maximum or sum than the forward pass has kept."""
    q, k, v, dy = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 6), (2, 3, 6)))
    made = AttentionKept(0.5, True).golden({"q": q, "k": k, "v": v})
    for found, wanted in zip(made.values(), attention.attention_statistics(q, k, v, scale=0.5, causal=True),
                             strict=True):
        np.testing.assert_array_equal(found, wanted)
    ours = AttentionGrad(0.5, True).golden({"q": q, "k": k, "v": v, "dy": dy} | made)
    alone = AttentionGrad(0.5, True).golden({"q": q, "k": k, "v": v, "dy": dy})
    theirs = attention_gradients.attention_grad_kept(q, k, v, *made.values(), dy, scale=0.5, causal=True)
    for role, wanted in zip(("dq", "dk", "dv"), theirs, strict=True):
        np.testing.assert_array_equal(ours[role], wanted)
        np.testing.assert_array_equal(alone[role], wanted)
    assert AttentionKept().macs({"q": q, "k": k, "v": v}) == 2 * 3 * 5 * 10
    assert AttentionGrad().macs({"q": q, "k": k, "v": v, "dy": dy}) == 2 * 3 * 5 * (3 * 4 + 2 * 6)


def test_optimisers(rng):
    """If it failed, a field of an optimiser would not reach the golden model."""
    w, dw, m, v = (rng.random((3, 2)).astype(np.float32) for _ in range(4))
    made = SGD(lr=0.1, momentum=0.5, weight_decay=0.2).golden({"w": w, "dw": dw, "v": v})
    for found, wanted in zip(made.values(), optimisers.sgd(w, dw, 0.1, momentum=0.5, velocity=v, weight_decay=0.2),
                             strict=True):
        np.testing.assert_array_equal(found, wanted)
    adam = Adam(lr=0.1, beta1=0.5, beta2=0.25, epsilon=0.1, weight_decay=0.2)
    wanted = optimisers.adam(w, dw, 0.1, step=3, first=m, second=v, beta1=0.5, beta2=0.25, epsilon=0.1,
                             weight_decay=0.2)
    for found, each in zip(adam.golden({"w": w, "dw": dw, "m": m, "v": v, "step": np.int64(3)}).values(), wanted,
                           strict=True):
        np.testing.assert_array_equal(found, each)


def test_norms_of_floats(rng):
    """If it failed, a norm without scales would be another than that whose gradient is taken."""
    x, gamma, beta = rng.normal(size=(3, 5)), rng.normal(size=5), rng.normal(size=5)
    x, gamma, beta = (each.astype(np.float32) for each in (x, gamma, beta))
    np.testing.assert_array_equal(pe.golden_run(LayerNorm(epsilon=0.1), {"x": x, "gamma": gamma, "beta": beta})["y"],
                                  float_normalisation.layer_norm(x, gamma, beta, epsilon=0.1))
    np.testing.assert_array_equal(pe.golden_run(RMSNorm(epsilon=0.1), {"x": x, "gamma": gamma})["y"],
                                  float_normalisation.rms_norm(x, gamma, epsilon=0.1))


def test_sums_of_floats_are_in_order(rng):
    """If it failed, sums would be those of NumPy's own order, which no hardware has."""
    x = rng.normal(size=(40, 30)).astype(np.float32)
    total = np.float32(0)
    for value in x.reshape(-1):
        total += value
    assert ReduceSum(keepdims=False).golden({"x": x})["y"] == total
    assert SumTo(()).golden({"x": x})["y"] == total


def test_rounded_has_a_key_of_its_own():
    """If it failed, tensors of one step would be rounded by the same random bits."""
    x, key = np.full(64, 1.03, np.float32), np.uint32(5)
    made = [Rounded("float8_e5m2", number).golden({"x": x, "key": key})["y"] for number in (1, 2)]
    assert (made[0] != made[1]).any()
    np.testing.assert_array_equal(
        made[1], rounding.stochastic(x, "float8_e5m2", rounding.key_of(5, 2)))
    nearest = Rounded("float8_e5m2").golden({"x": x})["y"]
    assert nearest.dtype == rounding.FORMATS["float8_e5m2"]
    np.testing.assert_array_equal(nearest.astype(np.float32), np.float32(1))


@pytest.mark.parametrize(("make", "tensors", "message"), [
    (lambda: Function(None), {}, "^activation must not be None$"),
    (lambda: Function("sine"), {}, "^activation must be None, 'relu', .* not 'sine'$"),
    (lambda: Function("relu"), {"x": DOUBLE}, "^x must be of type float32, not float64$"),
    (lambda: FunctionGrad("relu"), {"x": X, "dy": ROW}, r"^dy must have shape \(2, 3, 4\), not \(4,\)$"),
    (lambda: PoolGrad(MaxPool2d(2)), {"x": IMAGE, "dy": IMAGE},
     r"^dy must have shape \(1, 2, 1, 2\), not \(1, 2, 3, 4\)$"),
    (lambda: PoolGrad(AvgPool2d(5)), {"x": IMAGE, "dy": IMAGE}, "^kernel height must span at most 3 elements"),
    (lambda: SoftmaxGrad(3), {"y": X, "dy": X}, r"^axis must be in -3\.\.2, not 3$"),
    (lambda: NormGrad(True, 1e-5), {"x": X, "gamma": ROW[:3], "dy": X}, r"^gamma must have shape \(4,\), not \(3,\)$"),
    (lambda: SumTo((2, 4)), {"x": X}, r"^shape must broadcast to that of x, \(2, 3, 4\), not be \(2, 4\)$"),
    (lambda: ReduceGrad((1,), False), {"x": X, "dy": ROW}, r"^dy must have the axes \[2, 4\] that x of shape "),
    (lambda: MovedGrad(Slice((1,), (3,), (0,)), (4, 3)), {"dy": X[0]}, r"^dy must have shape \(2, 3\), not \(3, 4\)$"),
    (lambda: SoftmaxCrossEntropy(), {"x": X, "labels": LABELS}, r"^x must have 2 dimensions of at least 1, not shape"),
    (lambda: SoftmaxCrossEntropy(), {"x": X[0], "labels": LABELS}, r"^labels must be int64 of shape \(3,\), not int64"),
    (lambda: SoftmaxCrossEntropyGrad(), {"x": X[0, :2], "labels": LABELS, "dy": ROW},
     r"^dy must have shape \(\), not \(4,\)$"),
    (lambda: Embedding(), {"w": X[0], "indices": LABELS.astype(np.int32)}, "^indices must be int64, not int32$"),
    (lambda: Embedding(), {"w": X[0], "indices": np.array([3])}, r"^indices must be in 0\.\.2, not 3$"),
    (lambda: EmbeddingGrad(3), {"indices": LABELS, "dy": X[0]}, r"^dy must have shape \(2,\) and one more dimension, "),
    (lambda: Rounded("int8"), {}, "^format must be 'bfloat16', .* not 'int8'$"),
    (lambda: Rounded("bfloat16"), {"x": X, "key": STEP}, r"^key must be uint32 of shape \(\), not int64 of "),
    (lambda: Adam(lr=0.1), {"w": X, "dw": X, "m": X, "v": X, "step": ROW}, r"^step must be int64 of shape \(\), not "),
    (lambda: AttentionGrad(), {"q": X, "k": X, "v": X, "dy": X, "y": X},
     "^y, maximum, total must all be given or none$"),
    (lambda: LayerNorm(x_scale=1.0), {}, "^x_scale and y_scale must both be given or neither$"),
    (lambda: LayerNorm(), {"x": X.astype(np.int8), "gamma": ROW},
     "^x must be of type float32 without x_scale and y_scale, not int8$"),
])
def test_what_does_not_fit_is_named(make, tensors, message):
    """If it failed, a mistake would be accepted, or end in a traceback."""
    with pytest.raises(pe.PearrayError, match=message):
        make().golden(tensors)
