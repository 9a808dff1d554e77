"""What every operator has: roles of its tensors, shape inference, a golden model and a price."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ...golden.activation import function_of, listed
from ...hdl.errors import PearrayError

__all__ = ["Activation", "Operator", "Quantisation", "Spec", "Typed", "check_activation", "padding4", "pair"]

#: None, "relu", ("clip", low, high), or a function of the table :data:`.golden.activation.FUNCTIONS`.
Activation = Any

#: Shape and type of a tensor.
Spec = tuple[tuple[int, ...], np.dtype]


@dataclass(frozen=True)
class Quantisation:
    """How a tensor stands for real numbers: ``(stored - zero_point) * scale``.

    Parameters
    ----------
    scale : float or tuple of float
        Factor, or one for each index of `axis`; float32 values.
    zero_point : int
        Stored value of zero.
    axis : int or None
        Axis of the factors.
    """

    scale: float | tuple[float, ...]
    zero_point: int = 0
    axis: int | None = None

    def __str__(self) -> str:
        return f"scale {self.scale} and zero point {self.zero_point}"


class Typed(Protocol):
    """Anything with a shape and a type: an array, or a tensor of a graph."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape."""

    @property
    def dtype(self) -> Any:
        """Type."""


class Operator:
    """Base of all operators.

    An operator is a frozen dataclass of its parameters; tensors are named by role.

    Attributes
    ----------
    required, optional : tuple of str
        Roles of the inputs.
    outputs : tuple of str
        Roles of the outputs.
    constants : tuple of str
        Roles that :meth:`Graph.of` takes as known at compile time.
    stated : mapping of str to (str, str)
        Fields with the scale and the zero point of roles whose quantisation the operator tells.
    """

    required: ClassVar[tuple[str, ...]] = ("x",)
    optional: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ("y",)
    constants: ClassVar[tuple[str, ...]] = ()
    stated: ClassVar[Mapping[str, tuple[str, str]]] = {}

    @property
    def kind(self) -> str:
        """Name of the operator in reports and messages."""
        return type(self).__name__

    def quantisation(self, role: str) -> Quantisation | None:
        """How the operator says that a tensor is stored, or None if it does not tell its scale."""
        names = self.stated.get(role)
        if names is None or getattr(self, names[0]) is None:
            return None
        scale, zero_point = (np.asarray(getattr(self, name)) for name in names)
        return Quantisation(scale.astype(np.float32).item(), zero_point.item())

    def check_roles(self, tensors: Mapping[str, Any]) -> None:
        """Check that all required inputs are there and no unknown ones.

        Raises
        ------
        PearrayError
            If one is missing or unknown.
        """
        allowed = self.required + self.optional
        for role in self.required:
            if tensors.get(role) is None:
                raise PearrayError(f"{self.kind} needs a tensor {role!r}, got {sorted(tensors)}")
        for role in tensors:
            if role not in allowed:
                raise PearrayError(f"{self.kind} has no tensor {role!r}; it takes {', '.join(allowed)}")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Shape and type of each output, by role, after checking the inputs.

        Raises
        ------
        PearrayError
            If a shape or type does not fit.
        """
        raise NotImplementedError

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute the outputs by role, from NumPy alone."""
        raise NotImplementedError

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Multiply-accumulates of unpadded convolution and matrix products, else 0."""
        return 0


def _integers(value: Any, low: int) -> tuple[int, ...]:
    """Return an integer or a sequence of them as a tuple, empty if it holds anything else or too small."""
    values = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value,)
    if any(type(item) is bool or not isinstance(item, (int, np.integer)) or item < low for item in values):
        return ()
    return tuple(int(item) for item in values)


def pair(name: str, value: Any, low: int = 1) -> tuple[int, int]:
    """Return `value` as (vertical, horizontal), both integers of at least `low`."""
    values = _integers(value, low)
    if len(values) not in (1, 2):
        raise PearrayError(f"{name} must be one or two integers of at least {low}, not {value!r}")
    return values[0], values[-1]


def padding4(value: Any) -> tuple[int, int, int, int]:
    """Return padding given as an int, (h, w) or (top, left, bottom, right) as the last."""
    values = _integers(value, 0)
    if len(values) not in (1, 2, 4):
        raise PearrayError("padding must be an integer of at least 0, (h, w) or (top, left, bottom, right), "
                           f"not {value!r}")
    top, left, bottom, right = values * (4 // len(values))
    return top, left, bottom, right


def check_activation(activation: Activation) -> None:
    """Check the form of an activation.

    Raises
    ------
    PearrayError
        If it is none of the known ones, or a parameter is not a finite number.
    """
    if activation is None or activation == "relu":
        return
    if isinstance(activation, tuple) and activation[:1] == ("clip",):
        limits = activation[1:]
        if len(limits) == 2 and all(isinstance(limit, (int, float, np.number)) and np.isfinite(limit)
                                    for limit in limits) and limits[0] <= limits[1]:
            return
    else:
        try:
            function_of(activation)
        except ValueError:
            pass
        else:
            return
    raise PearrayError(f"activation must be {listed('None', repr('relu'), '(' + repr('clip') + ', low, high)')}, "
                       f"not {activation!r}")
