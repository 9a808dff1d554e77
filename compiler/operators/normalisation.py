"""LayerNorm and RMSNorm: of integers in the fixed point of their golden model, and of floats in float32."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from ...golden import float_normalisation, normalisation
from ...golden.normalisation import Gains
from ...hdl.errors import PearrayError
from .fields import Scale, ZeroPoint, check_stored, number, storage_dtype
from .operator import Operator, Quantisation, Spec, Typed

__all__ = ["LayerNorm", "Normalisation", "RMSNorm"]

#: Types of elements.
_TYPES = "int8", "uint8", "int16"

#: Scale of x that its squares have room for.
_LEAST_SCALE = 1e-30


def _epsilon(name: str, value: Any) -> float:
    found = number(name, value)
    if found < 0:
        raise PearrayError(f"{name} must be at least 0, not {found}")
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Normalisation(Operator):
    """What LayerNorm and RMSNorm have in common: x (..., D) of integers gives y (..., D) of 8 bits.

    Gains gamma (D,) and biases beta (D,) are real numbers that are known when a program is compiled; y is at most 0.5
    of its steps and :func:`~pearray.golden.normalisation.error_bound` away from the operator of real numbers. Without
    scales x and y are float32.

    Parameters
    ----------
    x_scale, y_scale : float, optional
        Scales, both or none.
    y_zero_point : int
        Zero point of y, which is uint8 if that is a NumPy uint8, else int8.
    epsilon : float
        Added to the variance, or to the mean of the squares.
    """

    x_scale: Scale = None
    y_scale: Scale = None
    y_zero_point: ZeroPoint = 0
    epsilon: Annotated[float, _epsilon] = 1e-5

    required = ("x", "gamma")
    #: Whether elements lose the mean of their row.
    centred: ClassVar[bool]

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.x_scale is None) != (self.y_scale is None):
            raise PearrayError("x_scale and y_scale must both be given or neither")
        if not self.is_scaled:
            return
        if self.y_dtype not in (np.int8, np.uint8):
            raise PearrayError(f"y_zero_point must be of int8 or uint8, not {self.y_dtype}")
        check_stored("y_zero_point", self.y_zero_point, self.y_dtype)
        if self.x_scale < _LEAST_SCALE:
            raise PearrayError(f"x_scale must be at least {_LEAST_SCALE}, not {self.x_scale}")

    def quantisation(self, role: str) -> Quantisation | None:
        """How a tensor is stored; the zero point of x is told only where it counts."""
        if not self.is_scaled:
            return None
        if role == "y":
            return Quantisation(self.y_scale, int(self.y_zero_point))
        return None if role != "x" or self.centred else Quantisation(self.x_scale, self.x_zero)

    @property
    def is_scaled(self) -> bool:
        """Whether scales are given."""
        return self.y_scale is not None

    @property
    def y_dtype(self) -> np.dtype:
        """Type of y."""
        return storage_dtype(self.y_zero_point) or np.dtype(np.int8)

    @property
    def x_zero(self) -> int:
        """What every element loses."""
        return 0

    def gains(self, gamma: np.ndarray, beta: np.ndarray | None = None) -> Gains:
        """Gains and biases as the hardware holds them.

        Raises
        ------
        PearrayError
            If they are not finite, or so great that a step of the result has no scale.
        """
        try:
            with np.errstate(over="ignore"):
                found = Gains.of(gamma, beta, self.y_scale)
        except ValueError as error:
            raise PearrayError(str(error)) from None
        if not np.isfinite(found.scale):
            raise PearrayError(f"y_scale must be greater for gains and biases of this size, not {self.y_scale}")
        return found

    def addend(self, elements: int) -> int:
        """What is added to the squares of a row of so many bytes."""
        return normalisation.addend(elements, 8, self.x_scale, self.epsilon)

    def _types(self, x: Typed, gamma: Typed, beta: Typed | None = None) -> list[Spec]:
        if not self.is_scaled and np.dtype(x.dtype) != np.float32:
            raise PearrayError(f"x must be of type float32 without x_scale and y_scale, not {x.dtype}")
        if self.is_scaled and np.dtype(x.dtype).name not in _TYPES:
            raise PearrayError(f"x must be of type {', '.join(_TYPES[:-1])} or {_TYPES[-1]}, not {x.dtype}")
        shape, most = tuple(x.shape), normalisation.MOST_ELEMENTS
        if not shape or 0 in shape or shape[-1] > most:
            raise PearrayError(f"x must have shape (..., D) with D in 1..{most} and no axis of 0, not {shape}")
        for role, tensor in (("gamma", gamma), ("beta", beta)):
            if tensor is not None and (tuple(tensor.shape) != shape[-1:] or np.dtype(tensor.dtype).kind != "f"):
                raise PearrayError(f"{role} must be of float and of shape {shape[-1:]}, the last axis of x, not "
                                   f"{tensor.dtype} of shape {tuple(tensor.shape)}")
        if not self.is_scaled:
            return [(shape, np.dtype(np.float32))]
        check_stored("x_zero_point", self.x_zero, x.dtype)
        return [(shape, self.y_dtype)]


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerNorm(Normalisation):
    """``(x - mean) / sqrt(variance + epsilon) * gamma + beta`` over the last axis.

    The zero point of x cancels. See :class:`Normalisation`.
    """

    optional: ClassVar[tuple[str, ...]] = ("beta",)
    constants: ClassVar[tuple[str, ...]] = ("gamma", "beta")
    centred = True

    def _compute(self, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray | None = None) -> list[np.ndarray]:
        if not self.is_scaled:
            return [float_normalisation.layer_norm(x, gamma, beta, epsilon=self.epsilon)]
        return [normalisation.layer_norm(x, self.x_scale, self.gains(gamma, beta), epsilon=self.epsilon,
                                         y_zero_point=int(self.y_zero_point), dtype=self.y_dtype)]


@dataclass(frozen=True, eq=False, kw_only=True)
class RMSNorm(Normalisation):
    """``x / sqrt(mean of squares + epsilon) * gamma`` over the last axis; see :class:`Normalisation`.

    Parameters
    ----------
    x_zero_point : int
        Zero point of x.
    """

    x_zero_point: ZeroPoint = 0

    constants: ClassVar[tuple[str, ...]] = ("gamma",)
    centred = False

    @property
    def x_zero(self) -> int:
        """What every element loses."""
        return int(self.x_zero_point)

    def _compute(self, x: np.ndarray, gamma: np.ndarray) -> list[np.ndarray]:
        if not self.is_scaled:
            return [float_normalisation.rms_norm(x, gamma, epsilon=self.epsilon)]
        return [normalisation.rms_norm(x, self.x_scale, self.gains(gamma), x_zero_point=self.x_zero,
                                       y_zero_point=int(self.y_zero_point), epsilon=self.epsilon, dtype=self.y_dtype)]
