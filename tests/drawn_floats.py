"""Operators of floats that tests draw, and the small accelerators that compute them."""

import numpy as np

import pearray as pe
from pearray.golden import rounding
from pearray.golden.tensors import float_type

__all__ = ["FORMATS", "draw_float_operator", "float_configuration", "same_bits"]

#: Formats of operands.
FORMATS = [*rounding.FORMATS]

#: Greatest magnitude that is drawn of formats whose greatest number is small.
_MOST = {"float16": 6e4, "float8_e4m3fn": 440.0, "float8_e5m2": 5e4}

_SMALL = {
    "array.rows": 4, "array.cols": 4, "array.product_cycles": 2, "array.sum_cycles": 3, "accumulators.depth": 32,
    "scratchpads.activation_bytes": 2048, "scratchpads.weight_bytes": 1024, "scratchpads.output_bytes": 1024,
    "scratchpads.channels": 32, "memory.data_width": 64}


def float_configuration(**overrides):
    """Return a small accelerator of bfloat16; overrides have double underscores for dots."""
    given = _SMALL | {key.replace("__", "."): value for key, value in overrides.items()}
    return pe.load_config("systolic-8x8-bf16", overrides=given)


def _operands(rng, shape, form, scale):
    """Draw numbers, some of which are zeros with a sign, or subnormal."""
    values = rng.standard_normal(shape) * scale
    values = np.where(rng.random(shape) < 0.05, -0.0, values)
    values = np.where(rng.random(shape) < 0.02, values * 1e-4, values)
    most = _MOST.get(form, 3e38)
    return np.clip(values, -most, most).astype(float_type(form))


def _finish(rng):
    """Draw what becomes of sums."""
    requant = pe.Sums() if rng.random() < 0.4 else None
    activation = [None, "relu", None if requant else ("clip", -1.3, 2.7)][rng.integers(3)]
    return {"requant": requant, "activation": activation}


def _gemm(rng, draw, bias):
    m, k, n = rng.integers(1, [20, 60, 20]).tolist()
    trans_a, trans_b = (rng.random(2) < 0.5).tolist()
    tensors = {"a": draw((k, m) if trans_a else (m, k)), "b": draw((n, k) if trans_b else (k, n))}
    if shape := [None, (n,), (m, n), (1, n)][rng.integers(4)]:
        tensors["c"] = bias(shape)
    return pe.Gemm(trans_a=trans_a, trans_b=trans_b, **_finish(rng)), tensors


def _linear(rng, draw, bias):
    n, c, m = rng.integers(1, [20, 60, 20]).tolist()
    tensors = {"x": draw((n, c)), "w": draw((m, c)), "b": draw((m,))}
    return pe.Linear(**_finish(rng)), tensors


def _matmul(rng, draw, bias):
    m, k, n = rng.integers(1, [9, 25, 9]).tolist()
    outer = [(), (2,), (3, 2)][rng.integers(3)]
    others = outer if rng.random() < 0.5 else ()
    return pe.MatMul(**_finish(rng)), {"a": draw((*outer, m, k)), "b": draw((*others, k, n))}


def _window(rng, draw):
    groups = int(rng.choice([1, 1, 2, 3]))
    (r, s), (dr, ds), (cg, ng) = (rng.integers(1, most, 2).tolist() for most in (4, 3, 7))
    if rng.random() < 0.2:
        cg = ng = 1
    height, width = (rng.integers(1, 9, 2) + [dr * (r - 1), ds * (s - 1)]).tolist()
    images = int(rng.integers(1, 3))
    tensors = {"x": draw((images, groups * cg, height, width)), "w": draw((groups * ng, cg, r, s))}
    window = {"stride": tuple(rng.integers(1, 3, 2).tolist()), "padding": tuple(rng.integers(0, 2, 4).tolist())}
    return window | {"dilation": (dr, ds), "groups": groups}, tensors


def _conv(rng, draw, bias):
    window, tensors = _window(rng, draw)
    return pe.Conv2d(**window, **_finish(rng)), tensors | {"b": bias((tensors["w"].shape[0],))}


def _linear_grad(rng, draw, bias):
    n, c, m = rng.integers(1, [20, 30, 20]).tolist()
    return pe.LinearGrad(), {"x": draw((n, c)), "w": draw((m, c)), "dy": draw((n, m))}


def _conv_grad(rng, draw, bias):
    window, tensors = _window(rng, draw)
    operator = pe.Conv2dGrad(**window)
    return operator, tensors | {"dy": draw(operator.forward.infer(tensors)["y"][0])}


def _attention(rng, draw, bias):
    groups, shared, length, keys, elements, width = rng.integers(1, [3, 3, 20, 30, 12, 12]).tolist()
    tensors = {"q": draw((groups * shared, length, elements)), "k": draw((groups, keys, elements)),
               "v": draw((groups, keys, width))}
    lengths = int(rng.integers(keys + 1)) if rng.random() < 0.3 else None
    return pe.Attention(causal=bool(rng.integers(2)), lengths=lengths), tensors


OPERATORS = {maker.__name__.strip("_"): maker for maker in (
    _gemm, _linear, _matmul, _conv, _linear_grad, _conv_grad, _attention)}


def draw_float_operator(rng, name, form="bfloat16", scale=1.0):
    """Draw an operator of a name, and its tensors."""
    return OPERATORS[name](rng, lambda shape: _operands(rng, shape, form, scale),
                           lambda shape: (rng.standard_normal(shape) * scale).astype(np.float32))


def same_bits(found, expected):
    """Whether arrays are the same bit by bit; what is no number is alike, whatever its bits."""
    kind = f"u{expected.dtype.itemsize}"
    alike = found.view(kind) == expected.view(kind)
    return (found.dtype, found.shape) == (expected.dtype, expected.shape) and bool(
        (alike | (np.isnan(found) & np.isnan(expected))).all())
