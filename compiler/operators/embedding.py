"""Rows of a table by numbers that a run gives, and the gradient of the table."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...golden import gradients
from ...hdl.errors import PearrayError
from .fields import Count
from .floats import check_float
from .operator import Operator, Spec, Typed

__all__ = ["Embedding", "EmbeddingGrad"]


def _check(indices: Typed) -> None:
    if np.dtype(indices.dtype) != np.int64:
        raise PearrayError(f"indices must be int64, not {indices.dtype}")


@dataclass(frozen=True, eq=False)
class Embedding(Operator):
    """Rows of w (V, D) by their numbers: indices (...) int64 give y (..., D)."""

    required = ("w", "indices")

    def _types(self, w: Typed, indices: Typed) -> list[Spec]:
        check_float(w=w)
        _check(indices)
        if len(w.shape) != 2 or 0 in w.shape:
            raise PearrayError(f"w must have 2 dimensions of at least 1, not shape {tuple(w.shape)}")
        return [((*indices.shape, w.shape[1]), np.dtype(np.float32))]

    def _compute(self, w: np.ndarray, indices: np.ndarray) -> list[np.ndarray]:
        if indices.size and not 0 <= indices.min() <= indices.max() < len(w):
            wrong = indices.min() if indices.min() < 0 else indices.max()
            raise PearrayError(f"indices must be in 0..{len(w) - 1}, not {wrong}")
        return [w[indices]]


@dataclass(frozen=True, eq=False)
class EmbeddingGrad(Operator):
    """Gradient of :class:`Embedding`: indices (...) and dy (..., D) give dw (rows, D), sums over equal indices.

    Parameters
    ----------
    rows : int
        Rows of the table.
    """

    rows: Count

    required = ("indices", "dy")
    outputs: ClassVar[tuple[str, ...]] = ("dw",)

    def _types(self, indices: Typed, dy: Typed) -> list[Spec]:
        check_float(dy=dy)
        _check(indices)
        if tuple(dy.shape[:-1]) != tuple(indices.shape):
            raise PearrayError(f"dy must have shape {tuple(indices.shape)} and one more dimension, not "
                               f"{tuple(dy.shape)}")
        return [((self.rows, dy.shape[-1]), np.dtype(np.float32))]

    def _compute(self, indices: np.ndarray, dy: np.ndarray) -> list[np.ndarray]:
        return [gradients.scatter_sum(dy, indices, self.rows)]
