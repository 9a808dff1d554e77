"""Golden models as the operators call them: one function each, so that names of roles stay out of ``golden``."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..golden import requantise as rule
from ..hdl.commands import Rounding
from ..hdl.errors import PearrayError
from .requant import Requant


def requantise(sums: np.ndarray, requant: Requant, low: int, high: int, axis: int) -> np.ndarray:
    """Requantise sums whose channels lie along `axis`, clamped to low..high."""
    if requant.rounding is Rounding.ONNX:
        assert requant.scale is not None
        return rule.onnx(sums, requant.scale, requant.y_zero_point, low, high, axis)
    assert requant.multiplier is not None and requant.shift is not None
    rounding: Any = "double" if requant.rounding is Rounding.TFLITE_DOUBLE else "single"
    return rule.tflite(sums, requant.multiplier, requant.shift, requant.y_zero_point, low, high, axis, rounding)


def look_up(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Entries of a table (256,), or of one (C, 256) for each channel along axis 1."""
    index = values.astype(np.int64) & 255
    if table.ndim == 1:
        return table[index]
    channel = np.arange(table.shape[0]).reshape((1, -1) + (1,) * (values.ndim - 2))
    return table[channel, index]


def gemm_sums(a: np.ndarray, b: np.ndarray, c: np.ndarray | None, a_zero: int, b_zero: int) -> np.ndarray:
    """``(a - a_zero) (b - b_zero) + c`` in int64, or in the operands' float type."""
    if a.dtype.kind == "f":
        y = a @ b
        return y if c is None else y + c
    sums = (a.astype(np.int64) - a_zero) @ (b.astype(np.int64) - b_zero)
    return sums if c is None else sums + c.astype(np.int64)


def conv_sums(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: tuple[int, int],
              padding: tuple[int, int, int, int], dilation: tuple[int, int], groups: int,
              x_zero: int, w_zero: int) -> np.ndarray:
    """Sums (N, M, P, Q) of a convolution, in int64 or the operands' float type."""
    is_float = x.dtype.kind == "f"
    x = x if is_float else x.astype(np.int64) - x_zero
    w = w if is_float else w.astype(np.int64) - w_zero
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    m, _, r, s = w.shape
    view = np.lib.stride_tricks.sliding_window_view(x, (dilation[0] * (r - 1) + 1, dilation[1] * (s - 1) + 1), (2, 3))
    view = view[:, :, ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]]
    n, c, p, q = view.shape[:4]
    view = view.reshape(n, groups, c // groups, p, q, r, s)
    y = np.einsum("ngcpqrs,gmcrs->ngmpq", view, w.reshape(groups, m // groups, c // groups, r, s), optimize=True)
    y = y.reshape(n, m, p, q)
    return y if b is None else y + b.astype(y.dtype).reshape(1, -1, 1, 1)


def max_pool(x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int],
             padding: tuple[int, int, int, int], dilation: tuple[int, int]) -> np.ndarray:
    """Greatest element of each window."""
    least = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=least)
    view = np.lib.stride_tricks.sliding_window_view(
        x, (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1), (2, 3))
    return view[:, :, ::stride[0], ::stride[1], ::dilation[0], ::dilation[1]].max((4, 5))


def _missing(name: str) -> Any:
    raise PearrayError(f"{name} has no golden model yet")


def float_activation(sums: np.ndarray, activation: Any) -> np.ndarray:
    """Activation of float sums."""
    return sums if activation is None else _missing(f"activation {activation!r} of floats")


def conv_transpose_sums(*args: Any) -> np.ndarray:
    """Sums of a transposed convolution."""
    return _missing("ConvTranspose2d")


def average_pool(operator: Any, x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int],
                 padding: tuple[int, int, int, int], dtype: Any) -> np.ndarray:
    """Mean, or sum, of each window."""
    return _missing("AvgPool2d")


def add(operator: Any, a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
    """Quantised sum of two tensors."""
    return _missing("Add")


def softmax(operator: Any, x: np.ndarray) -> np.ndarray:
    """Softmax along the operator's axis."""
    return _missing("Softmax")


def attention(operator: Any, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Attention."""
    return _missing("Attention")


def multi_head_attention(operator: Any, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Multi-head attention."""
    return _missing("MultiHeadAttention")


def linear_grad(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gradients of Linear."""
    return _missing("LinearGrad")


def conv_grad(tensors: Mapping[str, np.ndarray], *window: Any) -> dict[str, np.ndarray]:
    """Gradients of Conv2d."""
    return _missing("Conv2dGrad")


def attention_grad(operator: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gradients of Attention."""
    return _missing("AttentionGrad")


def sgd(operator: Any, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One optimiser step."""
    return _missing("SGD")
