"""Masks that a run gives: what the host makes of them before it, since no hardware computes with real numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...golden.fused_attention import mask_bias
from ...hdl.errors import PearrayError
from .attention import Attention
from .operator import Operator, Spec, Typed

__all__ = ["MaskBias"]


@dataclass(frozen=True, eq=False)
class MaskBias(Operator):
    """What a mask adds to sums of products of attention, one int32 for each of its elements, on the host.

    Parameters
    ----------
    attention : Attention
        Operator that the mask is of.
    sizes : (int, int, int, int)
        Heads, queries, keys and elements of a key.
    shape : (int, int, int)
        Masks, of heads that follow one another, rows, and keys: of the result.
    name : str
        Name of the mask for messages.
    """

    attention: Attention
    sizes: tuple[int, int, int, int]
    shape: tuple[int, int, int]
    name: str = "mask"

    at_edge: ClassVar[bool] = True
    required: ClassVar[tuple[str, ...]] = ("mask",)
    optional: ClassVar[tuple[str, ...]] = ("position",)
    masks: ClassVar[tuple[str, ...]] = ("mask",)
    positions: ClassVar[tuple[str, ...]] = ("position",)

    def most_position(self, tensors: Mapping[str, Typed]) -> int:
        """Greatest position of the operator."""
        return self.sizes[2] - self.sizes[1]

    def _types(self, mask: Typed, position: Typed | None = None) -> list[Spec]:
        heads, queries, keys, _ = self.sizes
        if self.shape[2] != keys:
            raise PearrayError(f"{self.name} must have a number for each of {keys} keys where a run gives it, not "
                               f"shape {tuple(mask.shape)}")
        low, high = self.attention.bounds(heads, queries, keys, clipped=False)
        if np.dtype(mask.dtype).kind == "f" and not all(
                (each == self._of_rows(each).repeat(heads // self.shape[0], 0)).all() for each in (low, high)):
            # Great numbers of a row are counted from the greatest that the row sees.
            raise PearrayError(f"{self.name} must be of bool, or have a row for each query and head that sees other "
                               f"keys, where a run gives it, not {mask.dtype} of shape {tuple(mask.shape)}")
        return [(self.shape, np.dtype(np.int32))]

    def _of_rows(self, each: np.ndarray) -> np.ndarray:
        """Of numbers of all heads and queries those of the mask's rows."""
        return each[::len(each) // self.shape[0], :self.shape[1]]

    def _compute(self, mask: np.ndarray, position: np.ndarray | None = None) -> list[np.ndarray]:
        heads, queries, keys, elements = self.sizes
        placed = self.attention if position is None else replace(self.attention, offset=int(position))
        low, high = placed.bounds(heads, queries, keys)
        bias = mask_bias(mask.reshape(self.shape), placed.unit(elements), (self._of_rows(low), self._of_rows(high)))
        return [np.ascontiguousarray(np.broadcast_to(bias, self.shape))]
