"""Losses, and their gradients."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...golden import loss
from ...hdl.errors import PearrayError
from .floats import check_float, check_like
from .operator import Operator, Spec, Typed

__all__ = ["SoftmaxCrossEntropy", "SoftmaxCrossEntropyGrad"]


@dataclass(frozen=True, eq=False)
class SoftmaxCrossEntropy(Operator):
    """Mean over rows of the cross-entropy of softmax: x (N, K) float32 and labels (N,) int64 give y ()."""

    required = ("x", "labels")

    def _types(self, x: Typed, labels: Typed) -> list[Spec]:
        check_float(x=x)
        if len(x.shape) != 2 or 0 in x.shape:
            raise PearrayError(f"x must have 2 dimensions of at least 1, not shape {tuple(x.shape)}")
        if np.dtype(labels.dtype) != np.int64 or tuple(labels.shape) != tuple(x.shape[:1]):
            raise PearrayError(f"labels must be int64 of shape {tuple(x.shape[:1])}, not {labels.dtype} of shape "
                               f"{tuple(labels.shape)}")
        return [((), np.dtype(np.float32))]

    def _compute(self, x: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        return [loss.softmax_cross_entropy(x, labels)]


@dataclass(frozen=True, eq=False)
class SoftmaxCrossEntropyGrad(Operator):
    """Gradient of :class:`SoftmaxCrossEntropy`: x, labels and dy () give dx."""

    required = ("x", "labels", "dy")
    outputs: ClassVar[tuple[str, ...]] = ("dx",)

    def _types(self, x: Typed, labels: Typed, dy: Typed) -> list[Spec]:
        [(shape, _)] = SoftmaxCrossEntropy()._types(x, labels)
        check_like("dy", dy, shape)
        return [(tuple(x.shape), np.dtype(np.float32))]

    def _compute(self, x: np.ndarray, labels: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        return [loss.softmax_cross_entropy_grad(x, labels, dy)]
