"""An addition of two quantised 8-bit tensors, whose every pair of stored values is known."""

from dataclasses import dataclass

import numpy as np

from ...golden import quantised
from ..operators.channelwise import every_value

__all__ = ["Addition"]


@dataclass(frozen=True)
class Addition:
    """What two tensors are added by; an accelerator's way to add them must give each of :meth:`outputs`.

    Parameters
    ----------
    a_scale, b_scale, y_scale : float
        Scales.
    a_zero, b_zero, y_zero : int
        Zero points.
    a_dtype, b_dtype, y_dtype : str
        Types of the operands and the output, int8 or uint8.
    spread : bool
        Whether the golden model adds a first; see :func:`~pearray.golden.quantised.first_is_spread`.
    fused : bool
        Whether its rule is that of QLinearAdd, which has the zero point of the output inside the rounding.
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
    spread: bool = False
    fused: bool = True

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and greatest output."""
        info = np.iinfo(self.y_dtype)
        return int(info.min), int(info.max)

    @property
    def ratios(self) -> tuple[float, float]:
        """Steps of the output in a step of each operand."""
        return self.a_scale / self.y_scale, self.b_scale / self.y_scale

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        """Steps that each stored byte of a, and of b, stands for: two arrays (256,), int64."""
        a, b = (every_value(dtype).astype(np.int64) - zero
                for dtype, zero in ((self.a_dtype, self.a_zero), (self.b_dtype, self.b_zero)))
        return a, b

    def outputs(self) -> np.ndarray:
        """Output of the golden model for each pair of stored bytes: (256, 256), int64."""
        return quantised.add(
            every_value(self.a_dtype)[:, None], self.a_scale, self.a_zero, every_value(self.b_dtype), self.b_scale,
            self.b_zero, self.y_scale, self.y_zero, dtype=self.y_dtype, spread=self.spread,
            fused=self.fused).astype(np.int64)
