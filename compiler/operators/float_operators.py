"""Attention that is differentiated, its gradients, and optimisers: golden models without a lowering yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar

import numpy as np

from ...golden import attention, attention_gradients, optimisers
from ...hdl.errors import PearrayError
from .fields import Flag, Number, number
from .operator import Operator, Part, Spec, Typed

__all__ = ["SGD", "Adam", "AdamFactors", "AdamStep", "AttentionGrad", "AttentionKept", "Scores"]


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
class AttentionKept(Scores):
    """Attention of floats that also gives what its gradients need: y, and maximum and total (..., L) of each query."""

    outputs = ("y", "maximum", "total")

    def _types(self, q: Typed, k: Typed, v: Typed) -> list[Spec]:
        rows = tuple(q.shape[:-1])
        return [((*rows, v.shape[-1]), np.dtype(q.dtype)), *[(rows, np.dtype(np.float32))] * 2]

    def _compute(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> list[np.ndarray]:
        return [*attention.attention_statistics(q, k, v, scale=self.scale, causal=self.causal)]

    def _macs(self, q: Typed, k: Typed, v: Typed) -> int:
        return prod(q.shape[:-1]) * v.shape[-2] * (q.shape[-1] + v.shape[-1])


@dataclass(frozen=True, eq=False)
class AttentionGrad(Scores):
    """Gradients of :class:`.attention.Attention`: q, k, v and dy (..., L, F) give dq, dk and dv.

    With y, maximum and total, which :class:`AttentionKept` makes, the forward pass is not computed again.
    """

    required = ("q", "k", "v", "dy")
    optional: ClassVar[tuple[str, ...]] = AttentionKept.outputs
    outputs = ("dq", "dk", "dv")

    def _types(self, q: Typed, k: Typed, v: Typed, dy: Typed, **kept: Typed) -> list[Spec]:
        if kept and len(kept) < len(self.optional):
            raise PearrayError(f"{', '.join(self.optional)} must all be given or none")
        return _like(q, k, v)

    def _compute(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, dy: np.ndarray,
                 **kept: np.ndarray) -> list[np.ndarray]:
        if not kept:
            return [*attention_gradients.attention_grad(q, k, v, dy, scale=self.scale, causal=self.causal)]
        y, maximum, total = (kept[role] for role in self.optional)
        return [*attention_gradients.attention_grad_kept(q, k, v, y, maximum, total, dy, scale=self.scale,
                                                         causal=self.causal)]

    def _macs(self, q: Typed, k: Typed, v: Typed, dy: Typed, **kept: Typed) -> int:
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
    weight_decay : float
        Times w, is added to dw.
    """

    lr: Number
    momentum: Number = 0.0
    weight_decay: Number = 0.0

    required = ("w", "dw")
    optional = ("v",)
    outputs = ("w", "v")

    def _types(self, w: Typed, dw: Typed, v: Typed | None = None) -> list[Spec]:
        return _like(w, w)

    def _compute(self, w: np.ndarray, dw: np.ndarray, v: np.ndarray | None = None) -> list[np.ndarray]:
        return [*optimisers.sgd(w, dw, self.lr, momentum=self.momentum, velocity=v,
                               weight_decay=self.weight_decay)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Adam(Operator):
    """One step of Adam: w, dw, and the running means m and v, all of one shape, and the step's number () int64, from 1.

    Outputs are w, m and v; see :func:`.golden.optimisers.adam`.

    Parameters
    ----------
    lr : float
        Learning rate.
    beta1, beta2 : float
        How much of the means is kept.
    epsilon, weight_decay : float
        Added to the divisor; times w, added to dw.
    """

    lr: Number
    beta1: Number = 0.9
    beta2: Number = 0.999
    epsilon: Number = 1e-8
    weight_decay: Number = 0.0

    required = ("w", "dw", "m", "v", "step")
    outputs = ("w", "m", "v")

    def _types(self, w: Typed, dw: Typed, m: Typed, v: Typed, step: Typed) -> list[Spec]:
        if (tuple(step.shape), np.dtype(step.dtype)) != ((), np.int64):
            raise PearrayError(f"step must be int64 of shape (), not {step.dtype} of shape {tuple(step.shape)}")
        return _like(w, w, w)

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """The factors of the step, which the host computes, and the step by these."""
        factors = AdamFactors(lr=self.lr, beta1=self.beta1, beta2=self.beta2)
        step = AdamStep(beta1=self.beta1, beta2=self.beta2, epsilon=self.epsilon, weight_decay=self.weight_decay)
        return [Part("size", factors, {"step": "step"}),
                Part("w", step, {role: role for role in (*self.required[:-1], "size", "root")})]

    def _compute(self, w: np.ndarray, dw: np.ndarray, m: np.ndarray, v: np.ndarray,
                 step: np.ndarray) -> list[np.ndarray]:
        return [*optimisers.adam(w, dw, self.lr, step=int(step), first=m, second=v, beta1=self.beta1, beta2=self.beta2,
                                 epsilon=self.epsilon, weight_decay=self.weight_decay)]


@dataclass(frozen=True, eq=False, kw_only=True)
class AdamFactors(Operator):
    """Factors of a step of Adam, of its number () int64: size and root, both () float32.

    Parameters
    ----------
    lr, beta1, beta2 : float
        As for :class:`Adam`.
    """

    lr: Number
    beta1: Number
    beta2: Number

    at_edge = True
    required = ("step",)
    outputs = ("size", "root")

    def _types(self, step: Typed) -> list[Spec]:
        return [((), np.dtype(np.float32))] * 2

    def _compute(self, step: np.ndarray) -> list[np.ndarray]:
        return [*map(np.asarray, optimisers.adam_factors(self.lr, int(step), self.beta1, self.beta2))]


@dataclass(frozen=True, eq=False, kw_only=True)
class AdamStep(Operator):
    """A step of :class:`Adam` by its factors, size and root, both () float32.

    Parameters
    ----------
    beta1, beta2, epsilon, weight_decay : float
        As for :class:`Adam`.
    """

    beta1: Number
    beta2: Number
    epsilon: Number
    weight_decay: Number

    required = ("w", "dw", "m", "v", "size", "root")
    outputs = ("w", "m", "v")

    def _types(self, w: Typed, dw: Typed, m: Typed, v: Typed, size: Typed, root: Typed) -> list[Spec]:
        return _like(w, w, w)

    def _compute(self, w: np.ndarray, dw: np.ndarray, m: np.ndarray, v: np.ndarray, size: np.ndarray,
                 root: np.ndarray) -> list[np.ndarray]:
        return [*optimisers.adam_step(w, dw, size, root, first=m, second=v, beta1=self.beta1, beta2=self.beta2,
                                      epsilon=self.epsilon, weight_decay=self.weight_decay)]
