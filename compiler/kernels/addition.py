"""An operator of two quantised 8-bit tensors, whose every pair of stored values is known."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...golden import elementwise, quantised
from ..operators.channelwise import every_value

__all__ = ["Addition", "Multiplication"]


@dataclass(frozen=True)
class _Binary:
    """How the tensors of an operator are stored; an accelerator's way to it must give each of :meth:`outputs`.

    Parameters
    ----------
    a_scale, b_scale, y_scale : float
        Scales.
    a_zero, b_zero, y_zero : int
        Zero points.
    a_dtype, b_dtype, y_dtype : str
        Types of the operands and the output, int8 or uint8.
    """

    a_scale: float
    a_zero: int
    a_dtype: str
    b_scale: float
    b_zero: int
    b_dtype: str
    y_scale: float
    y_zero: int
    y_dtype: str

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and greatest output."""
        info = np.iinfo(self.y_dtype)
        return int(info.min), int(info.max)

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps that each stored byte of a, and of b, stands for: two arrays (256,), int64."""
        a, b = (every_value(dtype).astype(np.int64) - zero
                for dtype, zero in ((self.a_dtype, self.a_zero), (self.b_dtype, self.b_zero)))
        return a, b

    def _apply(self, rule: Callable[..., np.ndarray], **settings: Any) -> np.ndarray:
        """Outputs of a golden model for each pair of stored bytes: (256, 256), int64."""
        return rule(every_value(self.a_dtype)[:, None], self.a_scale, self.a_zero, every_value(self.b_dtype),
                    self.b_scale, self.b_zero, self.y_scale, self.y_zero, dtype=self.y_dtype,
                    **settings).astype(np.int64)


@dataclass(frozen=True)
class Addition(_Binary):
    """What two tensors are added by, or one subtracted from the other.

    Parameters
    ----------
    spread : bool
        Whether the golden model adds a first; see :func:`~pearray.golden.quantised.first_is_spread`.
    fused : bool
        Whether its rule is that of QLinearAdd, which has the zero point of the output inside the rounding.
    negative : bool
        Whether b is subtracted, for which there is no fused rule.
    """

    spread: bool = False
    fused: bool = True
    negative: bool = False

    @property
    def ratios(self) -> tuple[float, float]:
        """Steps of the output in a step of each operand."""
        return self.a_scale / self.y_scale, (-self.b_scale if self.negative else self.b_scale) / self.y_scale

    def outputs(self) -> np.ndarray:
        """Output of the golden model for each pair of stored bytes: (256, 256), int64."""
        if self.negative:
            return self._apply(elementwise.subtract)
        return self._apply(quantised.add, spread=self.spread, fused=self.fused)


@dataclass(frozen=True)
class Multiplication(_Binary):
    """What two tensors are multiplied by.

    Parameters
    ----------
    fused : bool
        Whether its rule is that of QLinearMul, which has the zero point of the output inside the rounding.
    """

    fused: bool = True

    @property
    def ratio(self) -> float:
        """Steps of the output in a product of one step of each operand."""
        return float(elementwise.product_ratio(self.a_scale, self.b_scale, self.y_scale))

    def outputs(self) -> np.ndarray:
        """Output of the golden model for each pair of stored bytes: (256, 256), int64."""
        return self._apply(elementwise.multiply, fused=self.fused)
