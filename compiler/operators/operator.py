"""What every operator has: roles of its tensors, shape inference, a golden model and a price."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ...hdl.errors import PearrayError

__all__ = ["Operator", "Quantisation", "Spec", "Typed", "padding4", "pair", "sum_bits", "sum_dtype"]

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

    An operator is a frozen dataclass of its parameters; tensors are named by role. It states ``_types``,
    ``_compute`` and, if it multiplies, ``_macs``, which take the tensors as keywords of their roles.

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

    def __post_init__(self) -> None:
        """Nothing to check."""

    @property
    def kind(self) -> str:
        """Name of the operator in reports and messages."""
        return type(self).__name__

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of all inputs."""
        return self.required + self.optional

    def quantisation(self, role: str) -> Quantisation | None:
        """How the operator says that a tensor is stored, or None if it does not tell its scale."""
        names = self.stated.get(role)
        if names is None or getattr(self, names[0]) is None:
            return None
        scale, zero_point = (np.asarray(getattr(self, name)) for name in names)
        return Quantisation(scale.astype(np.float32).item(), zero_point.item())

    def check_roles(self, tensors: Mapping[str, Any]) -> None:
        """Check that all required inputs are there and no unknown ones."""
        for role in self.required:
            if tensors.get(role) is None:
                raise PearrayError(f"{self.kind} needs a tensor {role!r}, got {sorted(tensors)}")
        for role in tensors:
            if role not in self.roles:
                raise PearrayError(f"{self.kind} has no tensor {role!r}; it takes {', '.join(self.roles)}")

    def infer(self, tensors: Mapping[str, Typed]) -> dict[str, Spec]:
        """Shape and type of each output, by role, after checking the inputs."""
        self.check_roles(tensors)
        return dict(zip(self.outputs, self._types(**tensors), strict=True))

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute the outputs by role, from NumPy alone."""
        self.infer(tensors)
        return dict(zip(self.outputs, self._compute(**tensors), strict=True))

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Multiply-accumulates of unpadded convolution and matrix products, else 0."""
        return int(self._macs(**tensors))

    def _types(self, *args: Any, **tensors: Any) -> list[Spec]:
        """Shape and type of each output, of inputs whose roles fit."""
        raise NotImplementedError

    def _compute(self, *args: Any, **tensors: Any) -> list[np.ndarray]:
        """Each output, of inputs that fit."""
        raise NotImplementedError

    def _macs(self, *args: Any, **tensors: Any) -> int:
        return 0


def sum_dtype(*operands: Any) -> np.dtype:
    """Type of sums of operands of these types: int32 for 8 bits, int64 for wider ones."""
    return np.dtype(np.int32 if sum_bits(*operands) == 32 else np.int64)


def sum_bits(*operands: Any) -> int:
    """Bits of an accumulator for sums of operands of these types."""
    return 32 if max(np.dtype(dtype).itemsize for dtype in operands) == 1 else 48


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
