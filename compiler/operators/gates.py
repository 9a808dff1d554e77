"""GELU and SiLU: functions of one tensor, element by element, which transformers have between two products."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...golden import activation, gates
from ...hdl.errors import check_choice
from .activation import float_activation
from .fields import Scale, ZeroPoint
from .operator import Spec, Typed
from .scaled import Scaled

__all__ = ["Gate", "Gelu", "Silu"]


@dataclass(frozen=True, eq=False)
class Gate(Scaled):
    """Base of functions of x, of any shape; one states its key of :data:`.golden.gates.FUNCTIONS`.

    Parameters
    ----------
    x_scale, x_zero_point, y_scale, y_zero_point
        How input and output are stored; see :class:`Scaled`. With scales it is a table of 256 entries, and both have
        one type; without, the function of floats.
    rounding : {"onnx", "exact"}
        ``onnx`` is what onnxruntime computes between DequantizeLinear and QuantizeLinear, in float32: within half a
        step of the output, and 2**-20 of x. ``exact`` is the function itself, rounded once: within half a step, and
        2**-40 of x.
    """

    stated: ClassVar = {"x": ("x_scale", "x_zero_point"), "y": ("y_scale", "y_zero_point")}
    roundings: ClassVar = ("onnx", "exact")

    x_scale: Scale = None
    x_zero_point: ZeroPoint = 0
    y_scale: Scale = None
    y_zero_point: ZeroPoint = 0
    rounding: str = "onnx"

    @property
    def function(self) -> str:
        """Name of the function."""
        raise NotImplementedError

    def _types(self, x: Typed) -> list[Spec]:
        return [(tuple(x.shape), self._kept_dtype(x))]

    def table(self, dtype: Any) -> np.ndarray:
        """Table (256,) over stored values of a type."""
        make = activation.table if self.rounding == "onnx" else gates.table
        return make(self.function, *self.stored("x"), *self.stored("y"), dtype)

    def _compute(self, x: np.ndarray) -> list[np.ndarray]:
        if self.is_scaled:
            return [activation.apply_table(x, self.table(x.dtype))]
        return [float_activation(self.function, x)]


@dataclass(frozen=True, eq=False)
class Gelu(Gate):
    """Gaussian error linear unit, ``x * (1 + erf(x / sqrt(2))) / 2``.

    Parameters are those of :class:`Gate`, and `approximate`: "none", or "tanh" for
    ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2``.
    """

    approximate: str = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("approximate", self.approximate, ("none", "tanh"))

    @property
    def function(self) -> str:
        """Name of the function."""
        return "gelu" if self.approximate == "none" else "gelu_tanh"


@dataclass(frozen=True, eq=False)
class Silu(Gate):
    """``x / (1 + exp(-x))``, also called swish; parameters are those of :class:`Gate`."""

    @property
    def function(self) -> str:
        """Name of the function."""
        return "silu"
