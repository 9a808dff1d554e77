"""Attention that is differentiated, and its gradients: golden models without a lowering yet."""

from dataclasses import dataclass
from math import prod
from typing import Annotated, ClassVar

import numpy as np

from ...golden import attention, attention_gradients
from ...hdl.errors import PearrayError
from .fields import Flag, number
from .operator import Operator, Spec, Typed

__all__ = ["AttentionGrad", "AttentionKept", "Scores"]


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
