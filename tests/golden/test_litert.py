"""TensorFlow Lite's requantisation against LiteRT's reference kernels, where LiteRT is installed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litert_node import run_node

import pearray as pe
from pearray.golden import elementwise, integer
from pearray.golden.requantise import tflite, tflite_multiplier

pytest.importorskip("ai_edge_litert")

SEED = st.integers(0, 1 << 32)


def parameters(rng, channels):
    """Scales, zero points and biases, with outputs that spread over the whole range."""
    return {"x_scale": np.float32(rng.uniform(0.01, 0.1)), "x_zero_point": int(rng.integers(-128, 128)),
            "w_scale": rng.uniform(0.001, 0.05, channels).astype(np.float32),
            "y_scale": np.float32(rng.uniform(0.05, 3)), "y_zero_point": int(rng.integers(-128, 128))}


def requantise(sums, given, rounding, axis):
    """Requantise sums with the multipliers that the runtime derives from the scales."""
    real = np.float64(given["x_scale"]) * np.atleast_1d(given["w_scale"]).astype(np.float64) / np.float64(
        given["y_scale"])
    multipliers, shifts = zip(*(tflite_multiplier(float(scale)) for scale in real), strict=True)
    return tflite(sums, multipliers, shifts, given["y_zero_point"], axis=axis, rounding=rounding)


def draw(rng, *shape):
    """Operands over the full range of int8."""
    return rng.integers(-128, 128, shape).astype(np.int8)


@settings(max_examples=60)
@given(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3),
       st.integers(1, 2), SEED)
def test_conv2d_equals_litert(n, c, m, r, s, stride, number):
    """If it failed, one of the two roundings of CONV_2D would differ from the runtime."""
    rng = np.random.default_rng(number)
    x, w = draw(rng, n, c, r + 4, s + 5), draw(rng, m, c, r, s)
    b = rng.integers(-20000, 20000, m).astype(np.int32)
    chosen = parameters(rng, m)
    sums = integer.conv2d(x, w, b, stride=stride, x_zero_point=chosen["x_zero_point"])
    y = requantise(sums, chosen, "double", 1)
    theirs = run_node("CONV_2D", x.transpose(0, 2, 3, 1), w.transpose(0, 2, 3, 1), b, stride=(stride, stride),
                      y_shape=y.transpose(0, 2, 3, 1).shape, **chosen)
    assert (y == theirs.transpose(0, 3, 1, 2)).all()


@settings(max_examples=40)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), SEED)
def test_depthwise_conv2d_equals_litert(c, multiplier, r, s, number):
    """If it failed, a depthwise convolution would order its outputs or round differently."""
    rng = np.random.default_rng(number)
    m = c * multiplier
    x, w = draw(rng, 1, c, r + 4, s + 5), draw(rng, m, 1, r, s)
    b = rng.integers(-20000, 20000, m).astype(np.int32)
    chosen = parameters(rng, m)
    sums = integer.conv2d(x, w, b, groups=c, x_zero_point=chosen["x_zero_point"])
    y = requantise(sums, chosen, "double", 1)
    theirs = run_node("DEPTHWISE_CONV_2D", x.transpose(0, 2, 3, 1), w.transpose(1, 2, 3, 0), b, dimension=3,
                      multiplier=multiplier, y_shape=y.transpose(0, 2, 3, 1).shape, **chosen)
    assert (y == theirs.transpose(0, 3, 1, 2)).all()


@settings(max_examples=60)
@given(st.sampled_from(["CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"]), st.sampled_from([1, 7, 60, 2000]), SEED)
def test_sixteen_bits_equal_litert(kind, depth, number):
    """If it failed, sums of more than 32 bits would be rounded by another rule than the runtime's."""
    rng = np.random.default_rng(number)
    n, m, product = 12, 5, kind == "BATCH_MATMUL"
    x = rng.integers(-32768, 32768, (n, depth)).astype(np.int16)
    w = rng.integers(-32768, 32768, (depth, m)).astype(np.int16) if product else draw(rng, m, depth)
    x[0], b = 32767, None
    w_scale = rng.uniform(0.001, 0.01, m if kind == "CONV_2D" else 1).astype(np.float32)
    sums = x.astype(np.int64) @ (w if product else w.T).astype(np.int64)
    if not product:
        b = rng.integers(-1 << 31, 1 << 31, m)
        sums += b
    largest = np.abs(sums).max()
    x_scale = np.float32(rng.uniform(0.001, 0.01))
    y_scale = np.float32(x_scale * w_scale.max() * largest / np.exp2(rng.uniform(7, 17)))
    given = {"x_scale": x_scale, "w_scale": w_scale, "y_scale": y_scale, "x_zero_point": 0, "y_zero_point": 0}
    real = np.float64(x_scale) * w_scale.astype(np.float64) / np.float64(y_scale)
    multipliers, shifts = zip(*(tflite_multiplier(float(scale)) for scale in real), strict=True)
    requant = pe.Requant.tflite(multipliers, shifts, clamp=(-32768, 32767),
                                rounding="single" if kind == "FULLY_CONNECTED" else "double")
    ours = pe.golden_run(pe.Gemm(trans_b=not product, requant=requant), {
        "a": x, "b": w.astype(np.int16), "c": None if b is None else b.astype(np.int32)})["y"]
    if kind == "CONV_2D":
        x, w, shape = x.reshape(n, 1, 1, depth), w.reshape(m, 1, 1, depth), (n, 1, 1, m)
    else:
        shape = n, m
    assert (ours == run_node(kind, x, w, b, y_shape=shape, **given).reshape(n, m)).all()


@settings(max_examples=60)
@given(st.integers(1, 8), st.integers(1, 60), st.integers(1, 12), st.booleans(), SEED)
def test_linear_equals_litert(n, c, m, per_channel, number):
    """If it failed, the single rounding of FULLY_CONNECTED would differ from the runtime."""
    rng = np.random.default_rng(number)
    x, w, b = draw(rng, n, c), draw(rng, m, c), rng.integers(-20000, 20000, m).astype(np.int32)
    chosen = parameters(rng, m if per_channel else 1)
    sums = integer.linear(x, w, b, x_zero_point=chosen["x_zero_point"])
    y = requantise(sums, chosen, "single", 1)
    assert (y == run_node("FULLY_CONNECTED", x, w, b, y_shape=y.shape, **chosen)).all()


@settings(max_examples=30)
@given(st.sampled_from(["ADD", "SUB", "MUL"]), st.sampled_from([np.int8, np.uint8]), st.sampled_from("rdp"),
       st.booleans(), SEED)
def test_two_tensors_equal_litert(kind, dtype, ratio, spread, number):
    """If it failed, one of the 65,536 pairs of operands would be rounded differently for some scales."""
    rng = np.random.default_rng(number)
    scales = {"r": np.exp(rng.uniform(-4, 1, 3)), "d": rng.integers(1, 60, 3) / 100, "p": 2.0**rng.integers(-8, 3, 3)}
    a_scale, b_scale, y_scale = scales[ratio].astype(np.float32)
    info, stored = np.iinfo(dtype), np.arange(256, dtype=np.uint8).view(dtype)
    a_zero, b_zero, y_zero = (int(zero) for zero in rng.integers(info.min, info.max + 1, 3))
    a = np.broadcast_to(stored[:, None], (1, 1, 256, 256))
    b = stored.reshape(1, 1, 1, 256) if spread else np.broadcast_to(stored, (1, 1, 256, 256))
    given = a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero
    ours = elementwise.tflite_multiply(*given) if kind == "MUL" else elementwise.tflite_sum(
        *given, negative=kind == "SUB")
    theirs = run_node(kind, a, b, x_scale=a_scale, x_zero_point=a_zero, w_scale=b_scale, w_zero_point=b_zero,
                      y_scale=y_scale, y_zero_point=y_zero, y_shape=a.shape)
    assert (ours == theirs).all()
