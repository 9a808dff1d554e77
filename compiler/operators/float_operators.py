"""Gradients of attention and the optimiser: operators that have a golden model but no lowering yet."""

from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar

import numpy as np

from ...golden import attention_gradients, optimisers
from .fields import Flag, Number, number
from .operator import Operator, Spec, Typed

__all__ = ["SGD", "AttentionGrad", "Scores"]


def _like(*tensors: Typed) -> list[Spec]:
    return [(tuple(tensor.shape), np.dtype(tensor.dtype)) for tensor in tensors]


@dataclass(frozen=True, eq=False)
class Scores(Operator):
    """Parameters of attention.

    Parameters
    ----------
    scale : float, optional
        Factor of the scores, 1 / sqrt(E) if absent, E being how wide a head is.
    causal : bool
        Let position i see only positions up to i.
    """

    scale: Annotated[float | None, number] = None
    causal: Flag = False

    required: ClassVar[tuple[str, ...]] = ("q", "k", "v")


@dataclass(frozen=True, eq=False)
class AttentionGrad(Scores):
    """Gradients of :class:`.attention.Attention`: q, k, v and dy (..., L, F) give dq, dk and dv."""

    required = ("q", "k", "v", "dy")
    outputs = ("dq", "dk", "dv")

    def _types(self, q: Typed, k: Typed, v: Typed, dy: Typed) -> list[Spec]:
        return _like(q, k, v)

    def _compute(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        return [*attention_gradients.attention_grad(q, k, v, dy, scale=self.scale, causal=self.causal)]

    def _macs(self, q: Typed, k: Typed, v: Typed, dy: Typed) -> int:
        return prod(q.shape[:-1]) * v.shape[-2] * (3 * q.shape[-1] + 2 * v.shape[-1])


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

    lr: Number
    momentum: Number = 0.0

    required = ("w", "dw")
    optional = ("v",)
    outputs = ("w", "v")

    def _types(self, w: Typed, dw: Typed, v: Typed | None = None) -> list[Spec]:
        return _like(w, w)

    def _compute(self, w: np.ndarray, dw: np.ndarray, v: np.ndarray | None = None) -> list[np.ndarray]:
        return [*optimisers.sgd(w, dw, self.lr, momentum=self.momentum, velocity=v)]
