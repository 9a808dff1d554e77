"""What convolutions and matrix products share: the types of their operands, and how sums become outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...hdl.errors import PearrayError
from . import reference
from .activation import activation_bounds, activation_table
from .operator import Activation, Operator, Quantisation, Spec, Typed, check_activation
from .requant import FixedPoint, Requant

__all__ = ["Contraction"]

_INTEGERS = ("int8", "uint8", "int16", "uint16")


@dataclass(frozen=True, eq=False, kw_only=True)
class Contraction(Operator):
    """Base of the operators whose sums are requantised: their last stages are the same.

    Parameters
    ----------
    requant : Requant or FixedPoint, optional
        How sums become outputs; without it the sums are the output, int32 for 8-bit operands and
        int64 for wider ones. Float operands take no requantisation. Fixed point says how products and sums are
        cut as well, for int16 operands.
    activation
        What follows requantisation; None or "relu" for sums and in fixed point.
    """

    requant: Requant | FixedPoint | None = None
    activation: Activation = None

    #: Roles of the activations, the weights and the bias.
    roles: ClassVar[tuple[str, str, str]] = ("x", "w", "b")

    def __post_init__(self) -> None:
        check_activation(self.activation)
        if self.requant is not None and not isinstance(self.requant, (Requant, FixedPoint)):
            raise PearrayError(f"requant must be None, a Requant or a FixedPoint, not {self.requant!r}")
        if isinstance(self.requant, FixedPoint) and self.activation not in (None, "relu"):
            raise PearrayError(f"activation must be None or 'relu' in fixed point, not {self.activation!r}")

    def quantisation(self, role: str) -> Quantisation | None:
        """How the requantisation says that the output is stored; ONNX's factors alone tell no other scale."""
        requant = self.requant
        if role != "y" or not isinstance(requant, Requant) or requant.y_scale is None:
            return None
        return Quantisation(float(np.float32(requant.y_scale)), requant.y_zero_point)

    def _operands(self, tensors: Mapping[str, Typed], ranks: tuple[int, int]) -> None:
        self.check_roles(tensors)
        for role, rank in zip(self.roles[:2], ranks, strict=True):
            tensor = tensors[role]
            kind = np.dtype(tensor.dtype)
            if kind.name not in _INTEGERS and kind.kind != "f":
                raise PearrayError(f"{role} must be of type {', '.join(_INTEGERS)} or float, not {kind}")
            if len(tensor.shape) != rank or 0 in tensor.shape:
                raise PearrayError(f"{role} must have {rank} dimensions of at least 1, "
                                   f"not shape {tuple(tensor.shape)}")
        x, w = (np.dtype(tensors[role].dtype) for role in self.roles[:2])
        if (x.kind == "f") != (w.kind == "f") or x.itemsize != w.itemsize:
            raise PearrayError(f"{self.roles[1]} must be as wide as {self.roles[0]} ({x}), not {w}")
        if isinstance(self.requant, FixedPoint):
            self._words(tensors)
            return
        if x.kind == "f" and self.requant is not None:
            raise PearrayError(f"requant must be None for {self.roles[0]} of type {x}")
        bias = tensors.get(self.roles[2])
        if bias is not None and x.kind != "f" and np.dtype(bias.dtype).name not in ("int32", "int64"):
            raise PearrayError(f"{self.roles[2]} must be of type int32, not {bias.dtype}")

    def _words(self, tensors: Mapping[str, Typed]) -> None:
        """Check that every operand of fixed point is int16."""
        for role in self.roles:
            if role in tensors and np.dtype(tensors[role].dtype) != np.int16:
                raise PearrayError(f"{role} must be of type int16 in fixed point, not {tensors[role].dtype}")

    def _result(self, tensors: Mapping[str, Typed], shape: tuple[int, ...], channels: int) -> dict[str, Spec]:
        x = np.dtype(tensors[self.roles[0]].dtype)
        if self.requant is None:
            if x.kind == "f":
                return {"y": (shape, x)}
            if self.activation not in (None, "relu"):
                raise PearrayError(f"activation {self.activation!r} needs a requant")
            return {"y": (shape, np.dtype(np.int32 if x.itemsize == 1 else np.int64))}
        if isinstance(self.requant, FixedPoint):
            return {"y": (shape, np.dtype(np.int16))}
        for role, zero_point in zip(self.roles, (self.requant.x_zero_point, self.requant.w_zero_point),
                                    strict=False):
            info = np.iinfo(np.dtype(tensors[role].dtype))
            if not info.min <= zero_point <= info.max:
                raise PearrayError(f"zero point of {role} must be in {info.min}..{info.max}, not {zero_point}")
        dtype = self.requant.output_dtype(x)
        info = np.iinfo(dtype)
        if not info.min <= self.requant.y_zero_point <= info.max:
            raise PearrayError(f"y_zero_point must be in {info.min}..{info.max}, not {self.requant.y_zero_point}")
        if self.requant.channels not in (None, channels):
            raise PearrayError(f"requant must have one factor or one per output channel ({channels}), "
                               f"not {self.requant.channels}")
        if self.requant.multiplier is not None:
            self.requant.tflite_rule(x)
        activation_table(self.activation, self.requant, x)
        return {"y": (shape, dtype)}

    def bounds(self, x_dtype: Any) -> tuple[int, int]:
        """Bounds of the stored output before any table."""
        assert self.requant is not None
        if isinstance(self.requant, FixedPoint):
            return 0 if self.activation == "relu" else -(1 << 15), (1 << 15) - 1
        if self.table(x_dtype) is not None:
            return self.requant.bounds(x_dtype)
        return activation_bounds(self.activation, self.requant, x_dtype)

    def table(self, x_dtype: Any) -> np.ndarray | None:
        """Table of the activation over stored outputs, of shape (256,), or None."""
        if not isinstance(self.requant, Requant):
            return None
        return activation_table(self.activation, self.requant, x_dtype)

    @property
    def zero_points(self) -> tuple[int, int]:
        """Zero points of the activations and the weights."""
        if not isinstance(self.requant, Requant):
            return 0, 0
        return self.requant.x_zero_point, self.requant.w_zero_point

    def _finish(self, sums: np.ndarray, x_dtype: Any, axis: int) -> dict[str, np.ndarray]:
        if isinstance(self.requant, FixedPoint):
            return {"y": np.maximum(sums, 0) if self.activation == "relu" else sums}
        if self.requant is None:
            if sums.dtype.kind == "f":
                return {"y": reference.float_activation(sums, self.activation)}
            sums = np.maximum(sums, 0) if self.activation == "relu" else sums
            return {"y": sums.astype(np.int32 if np.dtype(x_dtype).itemsize == 1 else np.int64)}
        low, high = self.bounds(x_dtype)
        dtype = self.requant.output_dtype(x_dtype)
        y = reference.requantise(sums, self.requant, low, high, axis, x_dtype).astype(dtype)
        table = self.table(x_dtype)
        return {"y": y if table is None else reference.look_up(y, table)}
