"""Convolution and pooling as one operator, which only the compiler makes."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .channelwise import MaxPool2d
from .contractions import Conv2d
from .operator import Spec

__all__ = ["PooledConv2d"]


@dataclass(frozen=True, eq=False, kw_only=True)
class PooledConv2d(Conv2d):
    """Conv2d, of whose outputs only the greatest of each window is made; windows neither overlap nor reach padding.

    Parameters
    ----------
    pool : MaxPool2d
        Windows.
    """

    pool: MaxPool2d

    @classmethod
    def of(cls, conv: Conv2d, pool: MaxPool2d) -> "PooledConv2d":
        """The operator that stands for both."""
        return cls(**{item.name: getattr(conv, item.name) for item in fields(conv)}, pool=pool)

    @property
    def kind(self) -> str:
        """Name of both operators."""
        return f"{Conv2d.__name__} + {self.pool.kind}"

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        kernel = self.pool.kernel
        assert isinstance(kernel, tuple)
        return kernel

    def _types(self, **tensors: Any) -> list[Spec]:
        ((shape, dtype),) = super()._types(**tensors)
        return [self.pool.infer({"x": np.broadcast_to(np.zeros((), dtype), shape)})["y"]]

    def _compute(self, **tensors: Any) -> list[np.ndarray]:
        (y,) = super()._compute(**tensors)
        return [self.pool.golden({"x": y})["y"]]

    def _macs(self, **tensors: Any) -> int:
        """Products of the outputs that windows cover; others are not computed."""
        (n, m, p, q), _ = self._types(**tensors)[0]
        _, c, r, s = tensors["w"].shape
        return int(n * m * p * q * self.kernel[0] * self.kernel[1] * c * r * s)
