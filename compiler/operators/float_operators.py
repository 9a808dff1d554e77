"""Softmax, attention, its gradients and the optimiser: operators that have a golden model but no lowering yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from . import reference
from .operator import Operator, Spec, Typed
from .requant import check_quantised, check_scale, check_zero_point, storage_dtype

__all__ = ["SGD", "Attention", "AttentionGrad", "MultiHeadAttention", "Softmax"]


def _like(tensors: Mapping[str, Typed], pairs: Mapping[str, str]) -> dict[str, Spec]:
    return {output: (tuple(tensors[role].shape), np.dtype(tensors[role].dtype)) for output, role in pairs.items()}


@dataclass(frozen=True, eq=False)
class Softmax(Operator):
    """Softmax of x along `axis`; quantised as onnxruntime's QLinearSoftmax if scales are given."""

    axis: int = -1
    X_scale: Any = None
    x_zero_point: Any = 0
    y_scale: Any = None
    y_zero_point: Any = 0

    def __post_init__(self) -> None:
        if (self.X_scale is None) != (self.y_scale is None):
            raise PearrayError("X_scale and y_scale must both be given or neither")
        for name in ("X_scale", "y_scale"):
            if getattr(self, name) is not None and check_scale(name, getattr(self, name)).ndim:
                raise PearrayError(f"{name} must be one number, not {getattr(self, name)!r}")
        for name in ("x_zero_point", "y_zero_point"):
            check_zero_point(name, getattr(self, name))

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        x = tensors["x"]
        if not -len(x.shape) <= self.axis < len(x.shape):
            raise PearrayError(f"axis must be in {-len(x.shape)}..{len(x.shape) - 1}, not {self.axis}")
        if self.X_scale is None:
            return {"y": (tuple(x.shape), np.dtype(x.dtype))}
        dtype = storage_dtype(self.y_zero_point) or np.dtype(x.dtype)
        check_quantised("x", x.dtype, "x_zero_point", self.x_zero_point)
        check_quantised("y", dtype, "y_zero_point", self.y_zero_point)
        return {"y": (tuple(x.shape), dtype)}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        return {"y": reference.softmax(self, tensors["x"])}


@dataclass(frozen=True, eq=False)
class Attention(Operator):
    """``softmax(q k' * scale) v`` over the last two axes: q (..., L, E), k (..., S, E), v (..., S, F).

    Parameters
    ----------
    scale : float, optional
        Factor of the scores, 1 / sqrt(E) if absent.
    causal : bool
        Let position i see only positions up to i.
    """

    scale: float | None = None
    causal: bool = False

    required = ("q", "k", "v")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        q, k, v = (tuple(tensors[role].shape) for role in self.required)
        if min(len(q), len(k), len(v)) < 2 or q[-1] != k[-1] or k[-2] != v[-2] or not q[:-2] == k[:-2] == v[:-2]:
            raise PearrayError(f"q, k, v must have shapes (..., L, E), (..., S, E), (..., S, F), not {q}, {k}, {v}")
        return {"y": ((*q[:-1], v[-1]), np.dtype(tensors["q"].dtype))}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        return {"y": reference.attention(self, tensors)}

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Do as :meth:`Operator.macs`."""
        q, v = tensors["q"].shape, tensors["v"].shape
        return int(np.prod(q[:-1], dtype=np.int64)) * v[-2] * (q[-1] + v[-1])


@dataclass(frozen=True, eq=False, kw_only=True)
class MultiHeadAttention(Operator):
    """Attention of `heads` heads over q (N, L, D), k and v (N, S, D), each head D / heads wide; y (N, L, D)."""

    heads: int
    scale: float | None = None
    causal: bool = False

    required = ("q", "k", "v")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        q, k, v = (tuple(tensors[role].shape) for role in self.required)
        if not len(q) == len(k) == len(v) == 3 or q[2] % self.heads or q[2] != k[2] or k[1] != v[1]:
            raise PearrayError(f"q, k, v must have shapes (N, L, D), (N, S, D), (N, S, D) with D a multiple of "
                               f"{self.heads} heads, not {q}, {k}, {v}")
        return {"y": ((*q[:2], v[2]), np.dtype(tensors["q"].dtype))}

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        return {"y": reference.multi_head_attention(self, tensors)}

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Do as :meth:`Operator.macs`."""
        (n, length, width), keys = tensors["q"].shape, tensors["k"].shape[1]
        return 2 * n * length * width * keys


@dataclass(frozen=True, eq=False)
class AttentionGrad(Operator):
    """Gradients of :class:`Attention`: q, k, v and dy (..., L, F) give dq, dk and dv."""

    scale: float | None = None
    causal: bool = False

    required = ("q", "k", "v", "dy")
    outputs = ("dq", "dk", "dv")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        return _like(tensors, {"dq": "q", "dk": "k", "dv": "v"})

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        return reference.attention_grad(self, tensors)

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Do as :meth:`Operator.macs`."""
        q, v = tensors["q"].shape, tensors["v"].shape
        return int(np.prod(q[:-1], dtype=np.int64)) * v[-2] * (3 * q[-1] + 2 * v[-1])


@dataclass(frozen=True, eq=False, kw_only=True)
class SGD(Operator):
    """One step of gradient descent: w and dw of one shape, optional velocity v; outputs w and v.

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float
        Factor of the velocity: ``v = momentum * v + dw``, ``w = w - lr * v``.
    """

    lr: float
    momentum: float = 0.0

    required = ("w", "dw")
    optional = ("v",)
    outputs = ("w", "v")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Do as :meth:`Operator.infer`."""
        self.check_roles(tensors)
        return _like(tensors, {"w": "w", "v": "w"})

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do as :meth:`Operator.golden`."""
        self.infer(tensors)
        return reference.sgd(self, tensors)
