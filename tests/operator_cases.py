"""Operators with drawn shapes, and the outside runtime's answer to each: cases for the RTL and for `make bench`.

A case is an operator, its tensors, and a function that computes the expected output without any code of
ours: by onnxruntime's CPU kernels or LiteRT's reference kernels, or by NumPy alone where neither has the operator.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from litert_node import run_node as litert
from moved_draws import concat, moved_case
from onnx_moves import MOVES
from onnx_node import MICROSOFT, run_node
from tflite_models import Tflite, reference

import pearray as pe
from pearray.golden.requantise import tflite_multiplier

__all__ = ["FAMILIES", "WIDTHS", "Case"]

EIGHT = (np.int8, np.uint8)


@dataclass
class Case:
    """One drawn operator.

    Parameters
    ----------
    operator : Operator
        The operator.
    tensors : dict of str to ndarray
        Its tensors by role.
    expected : callable
        Returns the output as the outside runtime computes it.
    """

    operator: Any
    tensors: dict[str, np.ndarray] = field(repr=False)
    expected: Callable[[], np.ndarray] = field(repr=False)

    def __repr__(self) -> str:
        shapes = {name: f"{value.dtype}{value.shape}" for name, value in self.tensors.items()}
        return f"Case({self.operator}, {shapes})"


def draw(rng, dtype, *shape):
    """Values over the full range of a type."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def _unsigned(x):
    """Stored values as uint8, whose zero point is 128 more where they were int8."""
    return x if x.dtype == np.uint8 else (x.astype(np.int16) + 128).astype(np.uint8)


@dataclass
class Scales:
    """Scales and zero points of activations, weights and outputs; the types are those of the zero points."""

    x: Any
    x_zero: Any
    w: Any
    w_zero: Any
    y: Any
    y_zero: Any

    @classmethod
    def draw(cls, rng, types, depth, channels=None):
        """Draw scales with which sums of `depth` products spread over the output's range."""
        x_kind, w_kind, y_kind = types
        per = channels if channels and rng.integers(2) else ()
        y = np.float32(rng.uniform(0.05, 2))
        x = np.float32(rng.uniform(0.01, 0.1))
        w = (rng.uniform(0.5, 1.5, per) * y / (x * 100 * np.sqrt(depth))).astype(np.float32)
        w_zero = draw(rng, w_kind)[()] if rng.integers(2) else w_kind(0)
        return cls(x, draw(rng, x_kind)[()], w, w_zero, y, draw(rng, y_kind)[()])

    @property
    def requant(self):
        return pe.Requant.onnx(self.x, self.x_zero, self.w, self.w_zero, self.y, self.y_zero)

    @property
    def types(self):
        return self.x_zero.dtype, self.w_zero.dtype, self.y_zero.dtype

    @property
    def native(self):
        """Whether onnxruntime has a kernel for these types that does not saturate halfway on older processors."""
        return len(set(self.types)) == 1

    def unsigned(self):
        """The same real numbers stored as uint8."""
        zeros = [np.uint8(int(zero) + (128 if zero.dtype == np.int8 else 0))
                 for zero in (self.x_zero, self.w_zero, self.y_zero)]
        return Scales(self.x, zeros[0], self.w, zeros[1], self.y, zeros[2])


def contraction(scales, x, w, run):
    """Expected output of a quantised contraction; `run` takes x, w and scales of one type.

    onnxruntime has kernels for few mixtures of types. The same real numbers stored as uint8 have the same
    sums, and outputs that are 128 more where they should be int8.
    """
    if scales.native:
        return run(x, w, scales)
    y = run(_unsigned(x), _unsigned(w), scales.unsigned())
    return y if scales.y_zero.dtype == np.uint8 else (y.astype(np.int16) - 128).astype(np.int8)


def activated(y, activation, scale, zero):
    """Apply an activation to stored outputs as onnxruntime does, between its own dequantisation and quantisation."""
    if activation is None:
        return y
    name, values = (activation[0], activation[1:]) if isinstance(activation, tuple) else (activation, ())
    if name == "leaky_relu":
        return run_node("QLinearLeakyRelu", [y, scale, zero, scale, zero], output=y.dtype, domain=MICROSOFT,
                        alpha=float(values[0]))
    if name == "sigmoid":
        return run_node("QLinearSigmoid", [y, scale, zero, scale, zero], output=y.dtype, domain=MICROSOFT)
    real = run_node("DequantizeLinear", [y, scale, zero], output=np.float32)
    if name == "clip":
        real = run_node("Clip", [real, *(np.float32(value) for value in values)], output=np.float32)
    else:
        real = _function(name, real)
    return run_node("QuantizeLinear", [real, scale, zero], output=y.dtype)


def _function(name, real):
    """Function of real numbers by the runtime."""
    kind, domain, attributes = {
        "relu": ("Relu", "", {}), "tanh": ("Tanh", "", {}), "gelu": ("Gelu", "", {}),
        "gelu_tanh": ("Gelu", "", {"approximate": "tanh"}), "silu": ("QuickGelu", MICROSOFT, {"alpha": 1.0})}[name]
    return run_node(kind, [real], output=np.float32, domain=domain, **attributes)


TYPES = st.sampled_from([(np.int8, np.int8, np.int8), (np.uint8, np.uint8, np.uint8), (np.uint8, np.int8, np.uint8),
                         (np.int8, np.uint8, np.int8), (np.int8, np.int8, np.uint8), (np.uint8, np.uint8, np.int8)])
ACTIVATIONS = st.sampled_from([None, None, None, "relu", "clip", "leaky_relu", "sigmoid", "tanh", "gelu",
                               "gelu_tanh", "silu"])
SEED = st.integers(0, 1 << 32)


def _activation(name, rng, scales):
    span = float(scales.y) * 100
    if name == "clip":
        return name, float(rng.choice([0.0, -span / 3])), float(rng.choice([6.0, span / 4]))
    return (name, float(rng.choice([0.01, 0.1, 0.3]))) if name == "leaky_relu" else name


def _bias(rng, count, depth):
    return rng.integers(-2000, 2000, count).astype(np.int32) * int(np.sqrt(depth)) if rng.integers(4) else None


def _given(**tensors):
    return {name: value for name, value in tensors.items() if value is not None}


@st.composite
def _window(draw_from, taps=5, groups=1, channels=9):
    """Shapes of a convolution: groups, x, w, stride, asymmetric padding and dilation, with at least one output."""
    def integers(low, high):
        return draw_from(st.integers(low, high))

    count, per_group, outputs = integers(1, groups), integers(1, channels), integers(1, channels)
    kernel, dilation = (integers(1, taps), integers(1, taps)), (integers(1, 3), integers(1, 3))
    padding = tuple(integers(0, 3) for _ in range(4))
    spans = [dilation[i] * (kernel[i] - 1) + 1 - padding[i] - padding[i + 2] for i in (0, 1)]
    size = [max(1, span) + integers(0, 9) for span in spans]
    return {"x": (integers(1, 3), count * per_group, *size), "w": (count * outputs, per_group, *kernel),
            "stride": (integers(1, 4), integers(1, 4)), "padding": padding, "dilation": dilation, "groups": count}


def _conv_case(shapes, types, activation, number):
    rng = np.random.default_rng(number)
    m, depth = shapes["w"][0], int(np.prod(shapes["w"][1:]))
    x, w = draw(rng, types[0], *shapes["x"]), draw(rng, types[1], *shapes["w"])
    b, scales = _bias(rng, m, depth), Scales.draw(rng, types, depth, m)
    activation = _activation(activation, rng, scales)
    windows = {name: shapes[name] for name in ("stride", "padding", "dilation", "groups")}
    operator = pe.Conv2d(**windows, requant=scales.requant, activation=activation)

    def run(x, w, scales):
        w_zero = np.full(scales.w.shape, scales.w_zero)
        return run_node("QLinearConv", [x, scales.x, scales.x_zero, w, scales.w, w_zero, scales.y, scales.y_zero, b],
                        output=scales.y_zero.dtype, strides=shapes["stride"], pads=shapes["padding"],
                        dilations=shapes["dilation"], group=shapes["groups"])

    return Case(operator, _given(x=x, w=w, b=b),
                lambda: activated(contraction(scales, x, w, run), activation, scales.y, scales.y_zero))


@st.composite
def conv(draw_from):
    """Conv2d with everything: stride, asymmetric padding, dilation, types, scales for each channel, activations."""
    return _conv_case(draw_from(_window()), draw_from(TYPES), draw_from(ACTIVATIONS), draw_from(SEED))


@st.composite
def grouped_conv(draw_from):
    """Conv2d in 1 to 6 groups of several channels."""
    return _conv_case(draw_from(_window(4, 6, 5)), draw_from(TYPES), draw_from(ACTIVATIONS), draw_from(SEED))


@st.composite
def depthwise_conv(draw_from):
    """Conv2d with a group for each channel, and 1 to 3 outputs of each."""
    shapes = draw_from(_window(5, 1, 1))
    c, multiplier = draw_from(st.integers(2, 21)), draw_from(st.sampled_from([1, 1, 2, 3]))
    n, _, *size = shapes["x"]
    shapes |= {"x": (n, c, *size), "w": (c * multiplier, 1, *shapes["w"][2:]), "groups": c}
    return _conv_case(shapes, draw_from(TYPES), draw_from(ACTIVATIONS), draw_from(SEED))


@st.composite
def conv_sums(draw_from):
    """Conv2d without requantisation: int32 sums, as onnxruntime's ConvInteger, plus a bias; with ReLU, too."""
    shapes, number = draw_from(_window(4, 3, 6)), draw_from(SEED)
    rng = np.random.default_rng(number)
    x, w = draw(rng, np.uint8, *shapes["x"]), draw(rng, np.uint8, *shapes["w"])
    b, relu = _bias(rng, w.shape[0], 10000 * w[0].size), draw_from(st.booleans())
    operator = pe.Conv2d(**{name: shapes[name] for name in ("stride", "padding", "dilation", "groups")},
                         activation="relu" if relu else None)

    def expected():
        sums = run_node("ConvInteger", [x, w], output=np.int32, strides=shapes["stride"], pads=shapes["padding"],
                        dilations=shapes["dilation"], group=shapes["groups"])
        sums = sums if b is None else sums + b[:, None, None]
        return np.maximum(sums, 0) if relu else sums

    return Case(operator, _given(x=x, w=w, b=b), expected)


def _multipliers(scales):
    real = np.float64(scales.x) * np.atleast_1d(scales.w).astype(np.float64) / np.float64(scales.y)
    return [list(part) for part in zip(*(tflite_multiplier(float(value)) for value in real), strict=True)]


def _litert_requant(rng, scales, activation, rounding):
    clamp = {None: (-128, 127), "relu": (int(scales.y_zero), 127),
             "relu6": (int(scales.y_zero), min(127, round(6 / float(scales.y)) + int(scales.y_zero)))}[activation]
    return pe.Requant.tflite(*_multipliers(scales), int(scales.x_zero), int(scales.w_zero), int(scales.y_zero),
                             rounding, clamp)


def _litert_scales(scales, axis):
    return {"x_scale": scales.x, "x_zero_point": int(scales.x_zero), "w_scale": scales.w, "y_scale": scales.y,
            "w_zero_point": int(scales.w_zero), "y_zero_point": int(scales.y_zero), "dimension": axis}


INT8 = (np.int8, np.int8, np.int8)


def _litert_conv_case(shapes, activation, number):
    rng = np.random.default_rng(number)
    m, depth = shapes["w"][0], int(np.prod(shapes["w"][1:]))
    x, w = draw(rng, np.int8, *shapes["x"]), draw(rng, np.int8, *shapes["w"])
    scales = Scales.draw(rng, INT8, depth, m)
    # A scale for every channel, and weights without a zero point: what TensorFlow Lite defines.
    scales.w, scales.w_zero = np.broadcast_to(scales.w, (m,)), np.int8(0)
    b = rng.integers(-2000, 2000, m).astype(np.int32)
    windows = {name: shapes[name] for name in ("stride", "padding", "dilation", "groups")}
    operator = pe.Conv2d(**windows, requant=_litert_requant(rng, scales, activation, "double"))
    depthwise = shapes["groups"] == shapes["x"][1] and shapes["groups"] > 1

    def expected():
        top, left, bottom, right = shapes["padding"]
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=scales.x_zero)
        (_, _, height, width), (_, _, r, s) = padded.shape, w.shape
        (u, v), (dr, ds) = shapes["stride"], shapes["dilation"]
        p, q = (height - dr * (r - 1) - 1) // u + 1, (width - ds * (s - 1) - 1) // v + 1
        kind = {"multiplier": m // x.shape[1]} if depthwise else {}
        y = litert("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", padded.transpose(0, 2, 3, 1),
                   w.transpose(1, 2, 3, 0) if depthwise else w.transpose(0, 2, 3, 1), b,
                   y_shape=(x.shape[0], p, q, m), stride=shapes["stride"], dilation=shapes["dilation"],
                   activation=activation, **kind, **_litert_scales(scales, 3 if depthwise else 0))
        return y.transpose(0, 3, 1, 2)

    return Case(operator, {"x": x, "w": w, "b": b}, expected)


FUSED = st.sampled_from([None, None, "relu", "relu6"])


def _equal(shapes):
    # TensorFlow Lite has one stride and dilation for a depthwise convolution's two axes in most of its kernels.
    shapes["stride"], shapes["dilation"] = (shapes["stride"][0],) * 2, (shapes["dilation"][0],) * 2
    (n, c, h, w), (_, _, r, s) = shapes["x"], shapes["w"]
    d = shapes["dilation"][0]
    shapes["x"] = n, c, max(h, d * (r - 1) + 1), max(w, d * (s - 1) + 1)
    return shapes


@st.composite
def litert_conv(draw_from):
    """Conv2d, grouped or not, with TensorFlow Lite's double rounding."""
    return _litert_conv_case(draw_from(_window(4, 3, 7)), draw_from(FUSED), draw_from(SEED))


@st.composite
def litert_depthwise_conv(draw_from):
    """Depthwise Conv2d with a depth multiplier and TensorFlow Lite's double rounding."""
    shapes = _equal(draw_from(_window(4, 1, 1)))
    c, multiplier = draw_from(st.integers(2, 19)), draw_from(st.integers(1, 3))
    shapes |= {"x": (shapes["x"][0], c, *shapes["x"][2:]), "w": (c * multiplier, 1, *shapes["w"][2:]), "groups": c}
    return _litert_conv_case(shapes, draw_from(FUSED), draw_from(SEED))


@st.composite
def litert_linear(draw_from):
    """Linear with TensorFlow Lite's single rounding."""
    n, c, m = (draw_from(st.integers(1, most)) for most in (9, 90, 20))
    activation, number = draw_from(FUSED), draw_from(SEED)
    rng = np.random.default_rng(number)
    x, w, b = draw(rng, np.int8, n, c), draw(rng, np.int8, m, c), rng.integers(-2000, 2000, m).astype(np.int32)
    scales = Scales.draw(rng, INT8, c, m)
    scales.w_zero = np.int8(0)
    if rng.integers(3) == 0:
        # Factors above one shift to the left.
        scales.y = np.float32(scales.y / 2.0 ** rng.integers(5, 16))
    operator = pe.Linear(requant=_litert_requant(rng, scales, activation, "single"))
    return Case(operator, {"x": x, "w": w, "b": b}, lambda: litert(
        "FULLY_CONNECTED", x, w, b, y_shape=(n, m), activation=activation, **_litert_scales(scales, 0)))


@st.composite
def litert_gemm(draw_from):
    """Product of two activations with TensorFlow Lite's double rounding (BATCH_MATMUL)."""
    m, k, n = (draw_from(st.integers(1, most)) for most in (20, 40, 20))
    rng = np.random.default_rng(draw_from(SEED))
    a, b = draw(rng, np.int8, m, k), draw(rng, np.int8, k, n)
    scales = Scales.draw(rng, INT8, k)
    scales.w_zero = draw(rng, np.int8)[()]
    operator = pe.Gemm(requant=_litert_requant(rng, scales, None, "double"))
    return Case(operator, {"a": a, "b": b}, lambda: litert(
        "BATCH_MATMUL", a, b, y_shape=(m, n), **_litert_scales(scales, 0)))


@st.composite
def _transposed(draw_from):
    """Shapes of a transposed convolution with an output."""
    def integers(low, high):
        return draw_from(st.integers(low, high))

    groups, per_group, outputs = integers(1, 3), integers(1, 7), integers(1, 7)
    kernel, dilation, stride = [(integers(1, most), integers(1, most)) for most in (4, 3, 4)]
    extra = tuple(integers(0, max(step, spread) - 1) for step, spread in zip(stride, dilation, strict=True))
    extra = tuple(min(value, step - 1) for value, step in zip(extra, stride, strict=True))
    size = integers(1, 6), integers(1, 6)
    spread = [stride[i] * (size[i] - 1) + dilation[i] * (kernel[i] - 1) + 1 + extra[i] for i in (0, 1)]
    # Padding cuts outputs away; one of each axis must be left.
    before = [integers(0, min(3, spread[i] - 1)) for i in (0, 1)]
    after = [integers(0, min(3, spread[i] - 1 - before[i])) for i in (0, 1)]
    return {"x": (integers(1, 2), groups * per_group, *size), "w": (groups * per_group, outputs, *kernel),
            "stride": stride, "padding": (*before, *after), "dilation": dilation, "groups": groups,
            "output_padding": extra}


@st.composite
def conv_transpose(draw_from):
    """ConvTranspose2d against onnxruntime's in float32, which is exact for sums below 2**24."""
    shapes, types, activation, number = draw_from(_transposed()), draw_from(TYPES), draw_from(ACTIVATIONS), \
        draw_from(SEED)
    rng = np.random.default_rng(number)
    c, per_group, r, s = shapes["w"]
    m, depth = per_group * shapes["groups"], c // shapes["groups"] * r * s
    x, w = draw(rng, types[0], *shapes["x"]), draw(rng, types[1], *shapes["w"])
    b, scales = _bias(rng, m, depth), Scales.draw(rng, types, depth, m)
    activation = _activation(activation, rng, scales)
    windows = {name: shapes[name] for name in ("stride", "padding", "dilation", "groups", "output_padding")}
    raw = number % 3 == 0
    operator = pe.ConvTranspose2d(**windows) if raw else pe.ConvTranspose2d(
        **windows, requant=scales.requant, activation=activation)
    if raw:
        b = None

    def expected():
        zeros = (0, 0) if raw else (int(scales.x_zero), int(scales.w_zero))
        real = [(values.astype(np.int32) - zero).astype(np.float32)
                for values, zero in zip((x, w), zeros, strict=True)]
        sums = run_node("ConvTranspose", [*real, None if b is None else b.astype(np.float32)], output=np.float32,
                        strides=shapes["stride"], pads=shapes["padding"], dilations=shapes["dilation"],
                        group=shapes["groups"], output_padding=shapes["output_padding"]).astype(np.int32)
        if raw:
            return sums
        # A 1 x 1 convolution by one, channel by channel, requantises: its bias carries the sum.
        flat = sums.transpose(1, 0, 2, 3).reshape(m, -1)
        factors = np.broadcast_to(scales.w, (m,))
        y = np.stack([_requantised(flat[channel], scales.x, factors[channel], scales.y, scales.y_zero)
                      for channel in range(m)]).reshape(m, sums.shape[0], *sums.shape[2:]).transpose(1, 0, 2, 3)
        return activated(np.ascontiguousarray(y), activation, scales.y, scales.y_zero)

    return Case(operator, _given(x=x, w=w, b=b), expected)


def _requantised(sums, x_scale, w_scale, y_scale, y_zero):
    """Requantise int32 sums by onnxruntime: they are the addends of a product of zeros."""
    kind = y_zero.dtype.type
    zeros = np.zeros((1, 1), kind), np.zeros((1, sums.size), kind)
    return run_node("QGemm", [zeros[0], x_scale, kind(0), zeros[1], w_scale, kind(0), sums.astype(np.int32), y_scale,
                              y_zero], output=kind, domain=MICROSOFT)[0]


@st.composite
def litert_conv_transpose(draw_from):
    """ConvTranspose2d with TensorFlow Lite's rounding (TRANSPOSE_CONV without padding)."""
    shapes, number = draw_from(_transposed()), draw_from(SEED)
    rng = np.random.default_rng(number)
    (n, c, height, width), (_, m, r, s), (u, v) = shapes["x"], shapes["w"], shapes["stride"]
    x, w, b = draw(rng, np.int8, n, c, height, width), draw(rng, np.int8, c, m, r, s), \
        rng.integers(-2000, 2000, m).astype(np.int32)
    scales = Scales.draw(rng, INT8, c * r * s, m)
    scales.w, scales.w_zero = np.broadcast_to(scales.w, (m,)), np.int8(0)
    operator = pe.ConvTranspose2d(stride=(u, v), requant=_litert_requant(rng, scales, None, "double"))
    return Case(operator, {"x": x, "w": w, "b": b}, lambda: litert(
        "TRANSPOSE_CONV", x.transpose(0, 2, 3, 1), w.transpose(1, 2, 3, 0), b, stride=(u, v),
        y_shape=(n, (height - 1) * u + r, (width - 1) * v + s, m), **_litert_scales(scales, 0)).transpose(0, 3, 1, 2))


@st.composite
def gemm(draw_from):
    """Gemm with either operand transposed, an addend of either shape, as onnxruntime's QGemm."""
    m, k, n = (draw_from(st.integers(1, most)) for most in (24, 70, 24))
    trans_a, trans_b, types = draw_from(st.booleans()), draw_from(st.booleans()), draw_from(TYPES)
    activation, number = draw_from(ACTIVATIONS), draw_from(SEED)
    rng = np.random.default_rng(number)
    a = draw(rng, types[0], *((k, m) if trans_a else (m, k)))
    b = draw(rng, types[1], *((n, k) if trans_b else (k, n)))
    scales = Scales.draw(rng, types, k, n)
    activation = _activation(activation, rng, scales)
    c = _bias(rng, [n, (m, n)][rng.integers(2)], k)
    operator = pe.Gemm(trans_a=trans_a, trans_b=trans_b, requant=scales.requant, activation=activation)

    def run(a, b, scales):
        return run_node("QGemm", [a, scales.x, scales.x_zero, b, scales.w, np.full(scales.w.shape, scales.w_zero), c,
                                  scales.y, scales.y_zero], output=scales.y_zero.dtype, domain=MICROSOFT,
                        transA=int(trans_a), transB=int(trans_b))

    return Case(operator, _given(a=a, b=b, c=c),
                lambda: activated(contraction(scales, a, b, run), activation, scales.y, scales.y_zero))


@st.composite
def linear(draw_from):
    """Linear: weights known ahead, as QGemm with its second operand transposed."""
    n, c, m = (draw_from(st.integers(1, most)) for most in (12, 120, 40))
    types, activation, number = draw_from(TYPES), draw_from(ACTIVATIONS), draw_from(SEED)
    rng = np.random.default_rng(number)
    x, w = draw(rng, types[0], n, c), draw(rng, types[1], m, c)
    scales, b = Scales.draw(rng, types, c, m), _bias(rng, m, c)
    activation = _activation(activation, rng, scales)

    def run(x, w, scales):
        return run_node("QGemm", [x, scales.x, scales.x_zero, w, scales.w, np.full(scales.w.shape, scales.w_zero), b,
                                  scales.y, scales.y_zero], output=scales.y_zero.dtype, domain=MICROSOFT, transB=1)

    return Case(pe.Linear(requant=scales.requant, activation=activation), _given(x=x, w=w, b=b),
                lambda: activated(contraction(scales, x, w, run), activation, scales.y, scales.y_zero))


@st.composite
def gemm_sums(draw_from):
    """Gemm without requantisation: int32 sums, as MatMulInteger, plus an addend; with ReLU, too."""
    m, k, n = (draw_from(st.integers(1, most)) for most in (24, 70, 24))
    trans_a, trans_b = draw_from(st.booleans()), draw_from(st.booleans())
    rng = np.random.default_rng(draw_from(SEED))
    a = draw(rng, np.uint8, *((k, m) if trans_a else (m, k)))
    b = draw(rng, np.uint8, *((n, k) if trans_b else (k, n)))
    c, relu = _bias(rng, [n, (m, n)][rng.integers(2)], 10000 * k), draw_from(st.booleans())

    def expected():
        sums = run_node("MatMulInteger", [np.ascontiguousarray(a.T if trans_a else a),
                                          np.ascontiguousarray(b.T if trans_b else b)], output=np.int32)
        sums = sums if c is None else sums + c
        return np.maximum(sums, 0) if relu else sums

    operator = pe.Gemm(trans_a=trans_a, trans_b=trans_b, activation="relu" if relu else None)
    return Case(operator, _given(a=a, b=b, c=c), expected)


@st.composite
def _pool(draw_from, dilations=1):
    kernel = draw_from(st.integers(1, 4)), draw_from(st.integers(1, 4))
    dilation = draw_from(st.integers(1, dilations)), draw_from(st.integers(1, dilations))
    padding = tuple(draw_from(st.integers(0, kernel[i % 2] - 1)) for i in range(4))
    size = [dilation[i] * (kernel[i] - 1) + 1 + draw_from(st.integers(0, 8)) for i in (0, 1)]
    shape = draw_from(st.integers(1, 3)), draw_from(st.integers(1, 19)), *size
    stride = draw_from(st.integers(1, 4)), draw_from(st.integers(1, 4))
    return shape, {"kernel": kernel, "stride": stride, "padding": padding}, dilation


@st.composite
def max_pool(draw_from):
    """MaxPool2d with asymmetric padding, dilation and ceil_mode."""
    (shape, windows, dilation), ceil_mode = draw_from(_pool(3)), draw_from(st.booleans())
    dtype, number = draw_from(st.sampled_from(EIGHT)), draw_from(SEED)
    x = draw(np.random.default_rng(number), dtype, *shape)
    return Case(pe.MaxPool2d(**windows, dilation=dilation, ceil_mode=ceil_mode), {"x": x}, lambda: run_node(
        "MaxPool", [x], output=dtype, kernel_shape=windows["kernel"], strides=windows["stride"],
        pads=windows["padding"], dilations=dilation, ceil_mode=int(ceil_mode)))


def _pool_scales(rng, dtype):
    x_scale, y_scale = (np.float32(value) for value in rng.uniform(0.02, 0.1, 2))
    return {"x_scale": x_scale, "x_zero_point": draw(rng, dtype)[()], "y_scale": y_scale,
            "y_zero_point": draw(rng, dtype)[()]}


@st.composite
def average_pool(draw_from):
    """AvgPool2d as QLinearAveragePool, padding counted or not, windows that hang over the end or not."""
    (shape, windows, _), include, ceil_mode = draw_from(_pool()), draw_from(st.booleans()), draw_from(st.booleans())
    dtype, simple, number = draw_from(st.sampled_from(EIGHT)), draw_from(st.booleans()), draw_from(SEED)
    rng = np.random.default_rng(number)
    scales, x = _pool_scales(rng, dtype), draw(rng, dtype, *shape)
    if simple:
        # Many means lie half-way between two outputs; float32 adds powers of two exactly.
        scales |= {name: np.float32(2.0 ** -int(rng.integers(2, 7))) for name in ("x_scale", "y_scale")}
    operator = pe.AvgPool2d(**windows, **scales, count_include_pad=include, ceil_mode=ceil_mode)
    return Case(operator, {"x": x}, lambda: run_node(
        "QLinearAveragePool", [x, *scales.values()], output=dtype, domain=MICROSOFT, kernel_shape=windows["kernel"],
        strides=windows["stride"], pads=windows["padding"], count_include_pad=int(include), ceil_mode=int(ceil_mode)))


@st.composite
def global_average_pool(draw_from):
    """AvgPool2d over the whole image as QLinearGlobalAveragePool, with scales whose ratio is simple, too."""
    shape = tuple(draw_from(st.integers(1, most)) for most in (3, 40, 9, 9))
    dtype, same, number = draw_from(st.sampled_from(EIGHT)), draw_from(st.booleans()), draw_from(SEED)
    rng = np.random.default_rng(number)
    scales, x = _pool_scales(rng, dtype), draw(rng, dtype, *shape)
    if same:
        scales |= {"y_scale": scales["x_scale"], "y_zero_point": scales["x_zero_point"]}
    return Case(pe.AvgPool2d(**scales), {"x": x}, lambda: run_node(
        "QLinearGlobalAveragePool", [x, *scales.values()], output=dtype, domain=MICROSOFT, channels_last=0))


@st.composite
def litert_pool(draw_from):
    """MaxPool2d and AvgPool2d as LiteRT's MAX_POOL_2D and AVERAGE_POOL_2D without padding."""
    (shape, windows, _), average = draw_from(_pool()), draw_from(st.booleans())
    rng = np.random.default_rng(draw_from(SEED))
    x, scale, zero = draw(rng, np.int8, *shape), np.float32(rng.uniform(0.02, 0.1)), int(draw(rng, np.int8))
    windows = {"kernel": windows["kernel"], "stride": windows["stride"]}
    p, q = ((shape[2 + i] - windows["kernel"][i]) // windows["stride"][i] + 1 for i in (0, 1))
    operator = pe.AvgPool2d(**windows, rounding="tflite") if average else pe.MaxPool2d(**windows)
    return Case(operator, {"x": x}, lambda: litert(
        "AVERAGE_POOL_2D" if average else "MAX_POOL_2D", x.transpose(0, 2, 3, 1), x_scale=scale, x_zero_point=zero,
        y_scale=scale, y_zero_point=zero, y_shape=(shape[0], p, q, shape[1]), **windows).transpose(0, 3, 1, 2))


@st.composite
def add(draw_from):
    """Residual addition of two tensors of their own scales, as QLinearAdd."""
    shape = tuple(draw_from(st.integers(1, most)) for most in (3, 20, 8, 8))[:draw_from(st.sampled_from([2, 4, 4]))]
    dtype, number = draw_from(st.sampled_from(EIGHT)), draw_from(SEED)
    rng = np.random.default_rng(number)
    a_scale, b_scale = (np.float32(value) for value in rng.uniform(0.01, 0.1, 2))
    c_scale = np.float32(rng.uniform(0.08, 0.2))
    zeros = [draw(rng, dtype)[()] for _ in range(3)]
    a, b = draw(rng, dtype, *shape), draw(rng, dtype, *shape)
    operator = pe.Add(a_scale, zeros[0], b_scale, zeros[1], c_scale, zeros[2])
    return Case(operator, {"a": a, "b": b}, lambda: run_node(
        "QLinearAdd", [a, a_scale, zeros[0], b, b_scale, zeros[1], c_scale, zeros[2]], output=dtype,
        domain=MICROSOFT))


def _einsum_conv(x, w, zeros, stride, padding, dilation, groups):
    """Sums of a convolution in int64, by an einsum over a view of every window."""
    (r, s), (top, left, bottom, right) = w.shape[2:], padding
    padded = np.pad(x.astype(np.int64) - zeros[0], ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [step * (taps - 1) + 1 for step, taps in zip(dilation, (r, s), strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, (2, 3))
    windows = windows[:, :, ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]]
    windows = windows.reshape(x.shape[0], groups, -1, *windows.shape[2:])
    filters = (w.astype(np.int64) - zeros[1]).reshape(groups, -1, *w.shape[1:])
    sums = np.einsum("ngcpqrs,gmcrs->ngmpq", windows, filters)
    return sums.reshape(x.shape[0], w.shape[0], *sums.shape[3:])


def _of_bits(rng, bits, is_unsigned, *shape):
    low, high = (0, 1 << bits) if is_unsigned else (-(1 << bits - 1), 1 << bits - 1)
    kind = f"{'u' if is_unsigned else ''}int{8 if bits <= 8 else 16}"
    return rng.integers(low, high, shape).astype(kind)


def _plain(draw_from, bits):
    """An operator on operands of any width, with requantisation or without, against an int64 einsum."""
    shapes, raw, number = draw_from(_window(3, 3, 6)), draw_from(st.booleans()), draw_from(SEED)
    kind = draw_from(st.sampled_from(["conv", "depthwise", "gemm", "linear", "max_pool"]))
    rng = np.random.default_rng(number)
    unsigned = [bool(value) for value in rng.integers(0, 2, 3)]
    if kind == "depthwise":
        c = shapes["w"][0] + 1
        shapes |= {"x": (shapes["x"][0], c, *shapes["x"][2:]), "w": (c, 1, *shapes["w"][2:]), "groups": c}
    if kind == "max_pool":
        x = _of_bits(rng, bits, unsigned[0], *shapes["x"][:2], 6, 7)
        return Case(pe.MaxPool2d((2, 3), 1), {"x": x}, lambda: np.lib.stride_tricks.sliding_window_view(
            x, (2, 3), (2, 3)).max((4, 5)))
    transposed = [False, False]
    if kind in ("gemm", "linear"):
        (m, k), n = shapes["x"][:2], shapes["w"][0]
        m, k = m * 5, k * 3
        transposed = [bool(value) for value in rng.integers(0, 2, 2)] if kind == "gemm" else [False, True]
        x = _of_bits(rng, bits, unsigned[0], *((k, m) if transposed[0] else (m, k)))
        w = _of_bits(rng, bits, unsigned[1], *((n, k) if transposed[1] else (k, n)))
    else:
        x, w = _of_bits(rng, bits, unsigned[0], *shapes["x"]), _of_bits(rng, bits, unsigned[1], *shapes["w"])
        n, k = w.shape[0], int(np.prod(w.shape[1:]))
    zeros = [0, 0] if raw else [int(_of_bits(rng, min(bits, 8), value)) for value in unsigned[:2]]
    low, high = (0, (1 << bits) - 1) if unsigned[2] else (-(1 << bits - 1), (1 << bits - 1) - 1)
    y_zero = _of_bits(rng, bits, unsigned[2])[()]
    factor = (rng.uniform(0.5, 2, n) / (2.0**bits * np.sqrt(k) / 2)).astype(np.float32)
    requant = None if raw else pe.Requant.onnx(1.0, zeros[0], factor, zeros[1], 1.0, y_zero, clamp=(low, high))
    windows = {name: shapes[name] for name in ("stride", "padding", "dilation", "groups")}

    def expected():
        if kind in ("gemm", "linear"):
            a = (x.T if transposed[0] else x).astype(np.int64) - zeros[0]
            b = (w.T if transposed[1] else w).astype(np.int64) - zeros[1]
            sums, scale = np.einsum("mk,kn->mn", a, b), factor
        else:
            sums, scale = _einsum_conv(x, w, zeros, **windows), factor[:, None, None]
        if raw:
            return sums.astype(np.int32 if bits <= 8 else np.int64)
        return np.clip(np.rint(sums.astype(np.float32) * scale) + int(y_zero), low, high).astype(y_zero.dtype)

    operator = {"gemm": lambda: pe.Gemm(trans_a=transposed[0], trans_b=transposed[1], requant=requant),
                "linear": lambda: pe.Linear(requant=requant)}.get(
                    kind, lambda: pe.Conv2d(**windows, requant=requant))()
    return Case(operator, {"a": x, "b": w} if kind == "gemm" else {"x": x, "w": w}, expected)


@st.composite
def gate(draw_from):
    """GELU and SiLU of tensors of any shape."""
    shape = tuple(draw_from(st.lists(st.integers(1, 7), min_size=1, max_size=4)))
    name, dtype = draw_from(st.sampled_from(["gelu", "gelu_tanh", "silu"])), draw_from(st.sampled_from(EIGHT))
    rng = np.random.default_rng(draw_from(SEED))
    x, scales, (x_zero, y_zero) = draw(rng, dtype, *shape), rng.uniform(0.005, 0.2, 2), draw(rng, dtype, 2)
    fields = {"x_scale": scales[0], "x_zero_point": x_zero, "y_scale": scales[1], "y_zero_point": y_zero}
    operator = pe.Silu(**fields) if name == "silu" else pe.Gelu(
        **fields, approximate="tanh" if name == "gelu_tanh" else "none")

    def expected():
        real = run_node("DequantizeLinear", [x, np.float32(scales[0]), x_zero], output=np.float32)
        return run_node("QuantizeLinear", [_function(name, real), np.float32(scales[1]), y_zero], output=dtype)

    return Case(operator, {"x": x}, expected)


@st.composite
def rotary(draw_from):
    """Heads turned by their position: products with a matrix for each."""
    heads, positions, pairs, rest = (draw_from(st.integers(low, most)) for low, most in (
        (1, 6), (1, 5), (1, 8), (0, 3)))
    interleaved, dtype = draw_from(st.booleans()), draw_from(st.sampled_from(EIGHT))
    rng = np.random.default_rng(draw_from(SEED))
    offset, elements = int(rng.integers(0, 20)), 2 * pairs + rest
    x, zeros = draw(rng, dtype, heads, positions, elements), draw(rng, dtype, 2)
    angles = rng.uniform(-np.pi, np.pi, (offset + positions, pairs)).astype(np.float32)
    cos, sin = np.cos(angles), np.sin(angles)
    scales = np.float32(rng.uniform(0.02, 0.1)), np.float32(rng.uniform(0.02, 0.15))
    operator = pe.RotaryEmbedding(scales[0], zeros[0], scales[1], zeros[1], interleaved=interleaved, offset=offset)
    step = np.float32(1 / 127)

    def expected():
        made = []
        for position in range(positions):
            turn = np.diag(np.full(elements, 127, np.int8))
            for pair in range(pairs):
                a, b = (2 * pair, 2 * pair + 1) if interleaved else (pair, pairs + pair)
                c, s = (np.rint(table[offset + position, pair] / step) for table in (cos, sin))
                turn[np.ix_((a, b), (a, b))] = [[c, s], [-s, c]]
            # onnxruntime wants bytes of one sign.
            y_zero = zeros[1] if dtype == np.uint8 else np.uint8(int(zeros[1]) + 128)
            x_zero = zeros[0] if dtype == np.uint8 else np.uint8(int(zeros[0]) + 128)
            made.append(run_node("QLinearMatMul", [
                _unsigned(x[:, position]), scales[0], x_zero, _unsigned(turn), step, np.uint8(128), scales[1], y_zero],
                output=np.uint8))
        y = np.stack(made, axis=1)
        return y if dtype == np.uint8 else (y.astype(np.int16) - 128).astype(np.int8)

    return Case(operator, {"x": x, "cos": cos, "sin": sin}, expected)


@st.composite
def four_bits(draw_from):
    """Operands of 4 bits."""
    return _plain(draw_from, 4)


@st.composite
def sixteen_bits(draw_from):
    """Operands of 16 bits with sums of 48."""
    return _plain(draw_from, 16)


@st.composite
def sixteen_bits_litert(draw_from):
    """Products of 16-bit operands by TensorFlow Lite's rules, most of whose sums leave 32 bits."""
    m, k, n = (draw_from(st.integers(1, most)) for most in (6, 40, 9))
    single, rng = draw_from(st.booleans()), np.random.default_rng(draw_from(SEED))
    x, w = draw(rng, np.int16, m, k), draw(rng, np.int16, n, k)
    x[0], w[0] = 32767, rng.choice([32767, -32768])
    b = rng.integers(-1 << 31, 1 << 31, n).astype(np.int32) if rng.integers(2) else None
    sums = np.einsum("mk,nk->mn", x.astype(np.int64), w.astype(np.int64)) + (0 if b is None else b)
    multipliers = rng.integers(1 << 30, 1 << 31, n) >> (rng.integers(0, 20) if rng.integers(4) == 0 else 0)
    multipliers[rng.integers(0, n)] = rng.choice([(1 << 31) - 1, 0x7FFEFFFF, 1 << 30])
    # Outputs of every size, and some that are cut off.
    spread = int(np.log2(np.abs(sums).max() + 1)) - int(rng.integers(2, 17))
    shifts = np.clip(-spread - rng.integers(0, 2, n), -31, 30 if single else 7)
    zero, (low, high) = int(rng.integers(-3000, 3000)), (-32768, 32767) if rng.integers(2) else (-9000, 12000)
    requant = pe.Requant.tflite(multipliers, shifts, 0, 0, np.int16(zero), "single" if single else "double",
                                (low, high))

    def expected():
        y = np.empty(sums.shape, np.int16)
        for (row, column), total in np.ndenumerate(sums):
            factor, bits = int(multipliers[column]), 31
            if not single:
                factor, bits = (factor + (1 << 15)) >> 16 if factor < 0x7FFF0000 else 0x7FFF, 15
            right = bits - int(shifts[column])
            y[row, column] = max(low, min(high, (int(total) * factor + (1 << right - 1) >> right) + zero))
        return y

    return Case(pe.Linear(requant=requant), _given(x=x, w=w, b=b), expected)


@st.composite
def moved(draw_from):
    """Elements in other places: every operator, axis, step, side and rounding, and tensors of several scales joined."""
    rng = np.random.default_rng(draw_from(SEED))
    name = draw_from(st.sampled_from([*MOVES, "concat"]))
    if name == "concat":
        operator, tensors, _ = concat(rng)

        def joined():
            stored = [tensors[f"x{index}"].astype(np.float32) - np.float32(point)
                      for index, point in enumerate(operator.x_zero_point)]
            real = np.concatenate([each * np.float32(scale)
                                   for each, scale in zip(stored, operator.x_scale, strict=True)], operator.axis)
            return run_node("QuantizeLinear", [real, np.float32(operator.y_scale), operator.y_zero_point],
                            output=operator.y_zero_point.dtype)

        return Case(operator, tensors, joined)
    operator, x, (node, inputs, attributes) = moved_case(rng, name, draw_from(st.sampled_from(EIGHT)))
    return Case(operator, {"x": x}, lambda: run_node(node, [x, *inputs], output=x.dtype, **attributes))


def _part_of(rng, shape):
    """A shape that broadcasts to another."""
    made = tuple(size if rng.integers(3) else 1 for size in shape)
    return made[int(rng.integers(len(made))) if rng.integers(2) else 0:]


@st.composite
def chosen(draw_from):
    """Max, Min and Where of two or three tensors that broadcast."""
    shape, number = tuple(draw_from(st.lists(st.integers(1, 6), min_size=1, max_size=4))), draw_from(SEED)
    rng, dtype = np.random.default_rng(number), draw_from(st.sampled_from(EIGHT))
    kind = draw_from(st.sampled_from(["Max", "Min", "Where"]))
    values = [draw(rng, dtype, *shape), *(draw(rng, dtype, *_part_of(rng, shape)) for _ in range(rng.integers(1, 3)))]
    if kind != "Where":
        return Case(getattr(pe, kind)(), {f"x{index}": value for index, value in enumerate(values)},
                    lambda: run_node(kind, values, output=dtype))
    mask, (a, b) = rng.integers(0, 2, _part_of(rng, shape)).astype(bool), values[:2]
    return Case(pe.Where(mask), {"a": a, "b": b}, lambda: run_node("Where", [mask, a, b], output=dtype))


@st.composite
def reduced(draw_from):
    """ReduceMax, ReduceMin, ReduceSum and ReduceMean over any axes; of sums and means with scales of powers of two."""
    shape, number = tuple(draw_from(st.lists(st.integers(1, 6), min_size=1, max_size=5))), draw_from(SEED)
    rng, dtype = np.random.default_rng(number), draw_from(st.sampled_from(EIGHT))
    kind = draw_from(st.sampled_from(["ReduceMax", "ReduceMin", "ReduceSum", "ReduceMean"]))
    axes, keepdims = np.flatnonzero(rng.integers(0, 2, len(shape))), bool(rng.integers(2))
    axes = axes if len(axes) else np.arange(len(shape))
    x, given = draw(rng, dtype, *shape), {"keepdims": int(keepdims)}
    if kind in ("ReduceMax", "ReduceMin"):
        return Case(getattr(pe, kind)(axes, keepdims), {"x": x},
                    lambda: run_node(kind, [x, axes], output=dtype, **given))
    scales = _pool_scales(rng, dtype) | {name: np.float32(2.0 ** -int(rng.integers(1, 7)))
                                         for name in ("x_scale", "y_scale")}

    def expected():
        real = run_node("DequantizeLinear", [x, scales["x_scale"], scales["x_zero_point"]], output=np.float32)
        made = run_node(kind, [real, axes], output=np.float32, **given)
        return run_node("QuantizeLinear", [made, scales["y_scale"], scales["y_zero_point"]], output=dtype)

    return Case(getattr(pe, kind)(axes, keepdims, **scales), {"x": x}, expected)


@st.composite
def matmul(draw_from):
    """MatMul of any rank, batches that broadcast, rows and columns alone."""
    m, k, n = (draw_from(st.integers(1, most)) for most in (6, 20, 9))
    batches, number = tuple(draw_from(st.lists(st.integers(1, 3), max_size=2))), draw_from(SEED)
    rng, types = np.random.default_rng(number), draw_from(TYPES)
    scales = Scales.draw(rng, types, k)
    a = draw(rng, types[0], *(_part_of(rng, batches) if batches else ()), m, k)
    b = draw(rng, types[1], *batches, k, n)
    a, b = a if rng.integers(4) else a.reshape(-1, k)[0], b if rng.integers(4) else b.reshape(-1, k)[0]

    def run(x, w, scales):
        return run_node("QLinearMatMul", [x, scales.x, scales.x_zero, w, scales.w, scales.w_zero, scales.y,
                                          scales.y_zero], output=scales.y_zero.dtype)

    return Case(pe.MatMul(requant=scales.requant), {"a": a, "b": b}, lambda: contraction(scales, a, b, run))


@st.composite
def sixteen_bits_pairs(draw_from):
    """Sum, difference or product of two tensors of 16 bits that may broadcast, as LiteRT has it."""
    shape = tuple(draw_from(st.integers(1, most)) for most in (3, 7, 5, 6))[:draw_from(st.sampled_from([1, 2, 3, 4]))]
    kind, rng = draw_from(st.sampled_from([pe.Add, pe.Sub, pe.Mul])), np.random.default_rng(draw_from(SEED))
    spread = tuple(size if rng.integers(2) else 1 for size in shape)
    tensors = {"a": draw(rng, np.int16, *shape), "b": draw(rng, np.int16, *(spread if rng.integers(3) == 0 else shape))}
    a_scale, b_scale = np.exp(rng.uniform(-11, -6, 2)).astype(np.float32)
    c_scale = np.float32(max(a_scale, b_scale) * rng.uniform(0.7, 2) if kind is not pe.Mul else
                         a_scale * b_scale * 20000)

    def expected():
        model = Tflite()
        numbers = [model.tensor(value.shape, scale, dtype="int16", name=name)
                   for (name, value), scale in zip(tensors.items(), (a_scale, b_scale), strict=True)]
        y = model.tensor(shape, c_scale, dtype="int16", name="y")
        fields = {} if kind is pe.Mul else {"potScaleInt16": False}
        model.node(kind.__name__.upper(), numbers, [y], f"{kind.__name__}Options", **fields)
        return reference(model.content(numbers, [y]), tensors)["y"]

    return Case(kind(a_scale, 0, b_scale, 0, c_scale, 0, "tflite"), tensors, expected)


#: Families for arrays of another width than 8 bits, by name, with that width.
WIDTHS = {four_bits: 4, sixteen_bits: 16, sixteen_bits_litert: 16, sixteen_bits_pairs: 16}

#: Families of operators by name.
FAMILIES = {strategy.__name__: strategy for strategy in (
    conv, grouped_conv, depthwise_conv, conv_sums, conv_transpose, gemm, linear, gemm_sums, max_pool, average_pool,
    global_average_pool, add, gate, rotary, moved, chosen, reduced, matmul, litert_conv, litert_depthwise_conv,
    litert_linear, litert_gemm, litert_conv_transpose, litert_pool)}
