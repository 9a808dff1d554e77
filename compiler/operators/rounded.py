"""Float32 numbers brought to a narrower format."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...golden import rounding
from ...hdl.errors import PearrayError, check_choice
from .fields import Stored
from .floats import check_float
from .operator import Operator, Spec, Typed

__all__ = ["Rounded"]


@dataclass(frozen=True, eq=False)
class Rounded(Operator):
    """Numbers of a format nearest to those of x, or beside them at random if a run gives a key.

    Tensors: x float32, and an optional `key` () uint32; y of the format and of the shape of x.

    Parameters
    ----------
    format : str
        Name of :data:`.golden.rounding.FORMATS`.
    number : int
        Number of the tensor, so that each has random bits of its own.
    """

    format: str
    number: Stored = 0

    optional: ClassVar[tuple[str, ...]] = ("key",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("format", self.format, (*rounding.FORMATS,))

    def _types(self, x: Typed, key: Typed | None = None) -> list[Spec]:
        check_float(x=x)
        if key is not None and (tuple(key.shape), np.dtype(key.dtype)) != ((), np.uint32):
            raise PearrayError(f"key must be uint32 of shape (), not {key.dtype} of shape {tuple(key.shape)}")
        return [(tuple(x.shape), rounding.FORMATS[self.format])]

    def _compute(self, x: np.ndarray, key: np.ndarray | None = None) -> list[np.ndarray]:
        if key is None:
            return [rounding.nearest(x, self.format)]
        return [rounding.stochastic(x, self.format, rounding.key_of(int(key), self.number))]
