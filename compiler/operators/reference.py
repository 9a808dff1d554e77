"""Golden models as the operators call them: roles of tensors in, arrays out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...golden import activation as activations
from ...golden import attention as attentions
from ...golden import fixed_point, floating, gradients, integer, integer_gradients, pool, quantised
from ...golden import requantise as rule
from ...hdl.errors import PearrayError
from ...hdl.shell.commands import Rounding
from .requant import FixedPoint, Requant


def _wide(x: np.ndarray) -> int:
    """Width of the sums of operands like `x`."""
    return 32 if x.dtype.itemsize == 1 else 48


def requantise(sums: np.ndarray, requant: Requant, low: int, high: int, axis: int, x_dtype: Any) -> np.ndarray:
    """Requantise sums of operands of `x_dtype`, whose channels lie along `axis`, clamped to low..high."""
    if requant.rounding is Rounding.ONNX:
        assert requant.scale is not None
        return rule.onnx(sums, requant.scale, requant.y_zero_point, low, high, axis)
    mode, multiplier = requant.tflite_rule(x_dtype)
    rounding: Any = "double" if mode is Rounding.TFLITE_DOUBLE else "single"
    assert requant.shift is not None
    return rule.tflite(sums, multiplier, requant.shift, requant.y_zero_point, low, high, axis, rounding)


def look_up(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Entries of a table (256,), or of one (C, 256) for each channel along axis 1."""
    if table.ndim == 1:
        return activations.apply_table(values, table)
    channel = np.arange(table.shape[0]).reshape((1, -1) + (1,) * (values.ndim - 2))
    return table[channel, values.astype(np.int64) & 255]


def _zero_points(requant: Requant | None) -> tuple[int, int]:
    return (0, 0) if requant is None else (requant.x_zero_point, requant.w_zero_point)


def gemm_sums(a: np.ndarray, b: np.ndarray, c: np.ndarray | None,
              requant: Requant | FixedPoint | None) -> np.ndarray:
    """Sums of a matrix product: exact, in fixed point, or in the operands' float type."""
    if isinstance(requant, FixedPoint):
        return fixed_point.gemm(a, b, c, shift=requant.shift)
    if a.dtype.kind == "f":
        return floating.gemm(a, b, c)
    c = None if c is None else c.reshape(-1) if c.shape[0] == 1 else c
    a_zero, b_zero = _zero_points(requant)
    return integer.gemm(a, b, c, a_zero_point=a_zero, b_zero_point=b_zero, acc_bits=_wide(a))


def conv_sums(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: tuple[int, int],
              padding: tuple[int, int, int, int], dilation: tuple[int, int], groups: int,
              requant: Requant | FixedPoint | None) -> np.ndarray:
    """Sums of a convolution: exact, in fixed point, or in the operands' float type."""
    if isinstance(requant, FixedPoint):
        return fixed_point.conv2d(x, w, b, shift=requant.shift, stride=stride, padding=padding, dilation=dilation,
                                  groups=groups)
    if x.dtype.kind == "f":
        return floating.conv2d(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    x_zero, w_zero = _zero_points(requant)
    return integer.conv2d(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups,
                          x_zero_point=x_zero, w_zero_point=w_zero, acc_bits=_wide(x))


def conv_transpose_sums(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: tuple[int, int],
                        padding: tuple[int, int, int, int], dilation: tuple[int, int], extra: tuple[int, int],
                        groups: int, x_zero: int, w_zero: int) -> np.ndarray:
    """Sums of a transposed convolution of integers."""
    if x.dtype.kind == "f":
        raise PearrayError(f"x must be of an integer type for ConvTranspose2d, not {x.dtype}")
    return integer.conv_transpose2d(x, w, b, stride=stride, padding=padding, dilation=dilation,
                                    output_padding=extra, groups=groups, x_zero_point=x_zero,
                                    w_zero_point=w_zero, acc_bits=_wide(x))


def max_pool(x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int],
             padding: tuple[int, int, int, int], dilation: tuple[int, int], ceil_mode: bool) -> np.ndarray:
    """Greatest element of each window."""
    return pool.max_pool2d(x, kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)


def float_activation(sums: np.ndarray, activation: Any) -> np.ndarray:
    """Activation of float sums."""
    if activation is None:
        return sums
    if activation == "relu":
        return activations.relu(sums)
    if isinstance(activation, tuple) and activation[0] == "clip":
        return activations.clip(sums, *activation[1:])
    return activations.function_of(activation)(sums).astype(sums.dtype)


def average_pool(operator: Any, x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int],
                 padding: tuple[int, int, int, int], dtype: Any) -> np.ndarray:
    """Mean of each window; sums of integers if no scales are given."""
    geometry: dict[str, Any] = {"stride": stride, "padding": padding, "ceil_mode": bool(operator.ceil_mode)}
    if x.dtype.kind == "f":
        sums = pool.sequential_sums(x, kernel, **geometry)
        counts = pool.window_counts(x.shape[2], x.shape[3], kernel, **geometry,
                                    count_include_pad=operator.count_include_pad)
        return np.asarray(sums / counts.astype(np.float32)).astype(x.dtype)
    if operator.rounding == "tflite":
        return quantised.integer_average_pool2d(x, kernel, **geometry)
    if operator.x_scale is None:
        return pool.window_sums(x, kernel, **geometry, x_zero_point=int(operator.x_zero_point)).astype(dtype)
    scales = (operator.x_scale, int(operator.x_zero_point), operator.y_scale, int(operator.y_zero_point))
    if operator.kernel is None and not any(padding):
        return quantised.global_average_pool2d(x, *scales, dtype=dtype)
    return quantised.average_pool2d(x, *scales, kernel, **geometry, count_include_pad=operator.count_include_pad,
                                    dtype=dtype)


def add(operator: Any, a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
    """Sum of two tensors, quantised if scales are given."""
    if operator.A_scale is None and a.dtype.kind == "f":
        return a + b
    if operator.A_scale is None:
        return integer.add(a, b, a_zero_point=int(operator.A_zero_point),
                           b_zero_point=int(operator.B_zero_point), acc_bits=max(_wide(a), _wide(b))).astype(dtype)
    return quantised.add(a, operator.A_scale, int(operator.A_zero_point), b, operator.B_scale,
                         int(operator.B_zero_point), operator.C_scale, int(operator.C_zero_point), dtype=dtype)


def softmax(operator: Any, x: np.ndarray) -> np.ndarray:
    """Softmax along the operator's axis, quantised if scales are given."""
    if operator.X_scale is None:
        return attentions.softmax(x, operator.axis)
    moved = np.moveaxis(x, operator.axis, -1)
    y = quantised.softmax(moved, operator.X_scale, int(operator.x_zero_point), operator.y_scale,
                          int(operator.y_zero_point), dtype=operator.infer({"x": x})["y"][1])
    return np.moveaxis(y, -1, operator.axis)


def attention(operator: Any, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Attention."""
    return attentions.attention(tensors["q"], tensors["k"], tensors["v"], scale=operator.scale,
                                causal=operator.causal)


def multi_head_attention(operator: Any, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Attention of each head, heads side by side in the last axis."""
    split = [np.stack(np.split(tensors[role], operator.heads, axis=-1), axis=1) for role in ("q", "k", "v")]
    y = attentions.attention(*split, scale=operator.scale, causal=operator.causal)
    return np.concatenate(list(np.moveaxis(y, 1, 0)), axis=-1)


def linear_grad(x: np.ndarray, w: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, ...]:
    """Gradients of Linear: exact, or in float32."""
    if x.dtype.kind == "f":
        return gradients.linear_grad(x, w, dy)
    return integer_gradients.linear_grad(x, w, dy, acc_bits=_wide(x))


def conv_grad(x: np.ndarray, w: np.ndarray, dy: np.ndarray, **window: Any) -> tuple[np.ndarray, ...]:
    """Gradients of Conv2d: exact, or in float32; `window` is its stride, padding, dilation and groups."""
    if x.dtype.kind == "f":
        return gradients.conv2d_grad(x, w, dy, **window)
    return integer_gradients.conv2d_grad(x, w, dy, **window, acc_bits=_wide(x))


def attention_grad(operator: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gradients of Attention."""
    results = gradients.attention_grad(*(tensors[role] for role in ("q", "k", "v", "dy")), scale=operator.scale,
                                       causal=operator.causal)
    return dict(zip(("dq", "dk", "dv"), results, strict=True))


def sgd(operator: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One optimiser step."""
    w, velocity = gradients.sgd(tensors["w"], tensors["dw"], operator.lr, momentum=operator.momentum,
                                velocity=tensors.get("v"))
    return {"w": w, "v": velocity}
