"""Rotary position embedding."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from ...golden import rotary
from ...hdl.errors import PearrayError
from .fields import Flag, Scale, ZeroPoint, whole
from .operator import Spec, Typed
from .requant import Requant
from .scaled import Scaled

__all__ = ["RotaryEmbedding"]


@dataclass(frozen=True, eq=False)
class RotaryEmbedding(Scaled):
    """Pairs of elements of x (H, P, E) turned by angles that tables hold, cos and sin (T, R / 2), R <= E even.

    Row p is turned by row ``offset + position + p`` of the tables, position being 0 unless a run gives it; elements
    behind the first R stay as they are. With scales x and y have 8 bits and one type, cosines and sines are bytes, and
    outputs are rounded once, as products of matrices are; without, it is the function of floats.

    Parameters
    ----------
    x_scale, x_zero_point, y_scale, y_zero_point
        How input and output are stored; see :class:`.scaled.Scaled`.
    interleaved : bool
        Whether pairs are elements 2 i and 2 i + 1; else they are i and i + R / 2.
    offset : int
        Position of the first row.
    """

    stated: ClassVar = {"x": ("x_scale", "x_zero_point"), "y": ("y_scale", "y_zero_point")}
    roundings: ClassVar = ("onnx",)

    x_scale: Scale = None
    x_zero_point: ZeroPoint = 0
    y_scale: Scale = None
    y_zero_point: ZeroPoint = 0
    interleaved: Flag = False
    offset: Annotated[int, whole(0)] = 0

    required: ClassVar[tuple[str, ...]] = ("x", "cos", "sin")
    optional: ClassVar[tuple[str, ...]] = ("position",)
    constants: ClassVar[tuple[str, ...]] = ("cos", "sin")
    positions: ClassVar[tuple[str, ...]] = ("position",)

    def requant(self, cos: np.ndarray, sin: np.ndarray) -> Requant:
        """Requantisation of sums of products with the bytes of tables."""
        return Requant.onnx(self.x_scale, 0, rotary.table_scale(cos, sin), 0, self.y_scale, int(self.y_zero_point))

    def most_position(self, tensors: Mapping[str, Typed]) -> int:
        """Greatest position for which tables have rows."""
        return tensors["cos"].shape[0] - self.offset - tensors["x"].shape[1]

    def _types(self, x: Typed, cos: Typed, sin: Typed, position: Typed | None = None) -> list[Spec]:
        dtype = self._kept_dtype(x)
        shape = tuple(x.shape)
        if len(shape) != 3 or 0 in shape:
            raise PearrayError(f"x must have shape (H, P, E), no axis of 0, not {shape}")
        tables = tuple(cos.shape), tuple(sin.shape)
        if (tables[0] != tables[1] or len(tables[0]) != 2 or 2 * tables[0][1] > shape[2] or 0 in tables[0]
                or {np.dtype(each.dtype).kind for each in (cos, sin)} != {"f"}):
            raise PearrayError(f"cos and sin must be of float and of one shape (T, R / 2), R at most {shape[2]}, not "
                               f"{cos.dtype} of shape {tables[0]} and {sin.dtype} of shape {tables[1]}")
        if self.offset + shape[1] > tables[0][0]:
            raise PearrayError(f"cos and sin must have a row for each of {shape[1]} positions from {self.offset} on, "
                               f"not {tables[0][0]}")
        return [(shape, dtype)]

    def _compute(self, x: np.ndarray, cos: np.ndarray, sin: np.ndarray,
                 position: np.ndarray | None = None) -> list[np.ndarray]:
        first = self.offset + (0 if position is None else int(position))
        rows = slice(first, first + x.shape[1])
        if not self.is_scaled:
            return [rotary.rotated(x, cos[rows], sin[rows], self.interleaved)]
        factor = self.requant(cos, sin).scale
        assert factor is not None
        points: dict[str, Any] = {f"{role}_zero_point": self.stored(role)[1] for role in "xy"}
        return [rotary.rotary(x, cos[rows], sin[rows], rotary.table_scale(cos, sin), factor,
                              interleaved=self.interleaved, **points)]
