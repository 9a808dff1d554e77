"""What every operator has: roles of its tensors, shape inference, a golden model and a price."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol

import numpy as np

from ...hdl.errors import PearrayError
from .fields import check_size

__all__ = ["Operator", "Part", "Quantisation", "Spec", "Typed", "check_position", "one_order", "sum_bits", "sum_dtype"]

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


@dataclass(frozen=True)
class Part:
    """A part of an operator that is made of others.

    Parameters
    ----------
    name : str
        Name of what it makes; the last part has that of the operator's output.
    operator : Operator
        What it computes.
    inputs : mapping of str to str
        For each of its roles a role of the whole, or the name of a part before.
    constants : mapping of str to ndarray
        Further inputs by role, which the whole brings along.
    """

    name: str
    operator: "Operator"
    inputs: Mapping[str, str]
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)


class Typed(Protocol):
    """Anything with a shape and a type: an array, or a tensor of a graph."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape."""

    @property
    def dtype(self) -> Any:
        """Type."""


@dataclass(frozen=True, eq=False)
class Operator:
    """Base of all operators.

    An operator is a frozen dataclass of its parameters, whose annotations name the kinds of :mod:`.fields`; tensors
    are named by role. It states ``_types``, ``_compute`` and, if it multiplies, ``_macs``, which take the tensors as
    keywords of their roles.

    Attributes
    ----------
    required, optional : tuple of str
        Roles of the inputs.
    outputs : tuple of str
        Roles of the outputs.
    constants : tuple of str
        Roles that :meth:`Graph.of` takes as known at compile time.
    masks : tuple of str
        Roles of tensors that may be of bool, or have values of minus infinity.
    positions : tuple of str
        Roles of positions: integers that each run gives, which no hardware reads, since the host writes what follows
        from them into the program.
    in_place : mapping of str to str
        Roles of inputs that a program writes over, each with that of the output that stands there then.
    stated : mapping of str to (str, str)
        Fields with the scale and the zero point of roles whose quantisation the operator tells.
    at_edge : bool
        Whether the host computes it where all that it reads is known before a run.
    """

    required: ClassVar[tuple[str, ...]] = ("x",)
    optional: ClassVar[tuple[str, ...]] = ()
    outputs: ClassVar[tuple[str, ...]] = ("y",)
    constants: ClassVar[tuple[str, ...]] = ()
    masks: ClassVar[tuple[str, ...]] = ()
    positions: ClassVar[tuple[str, ...]] = ()
    in_place: ClassVar[Mapping[str, str]] = {}
    stated: ClassVar[Mapping[str, tuple[str, str]]] = {}
    at_edge: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Bring each field into the form of its kind; one whose default is None may be absent."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None or item.default is not None:
                for check in getattr(item.type, "__metadata__", ()):
                    vars(self)[item.name] = value = check(item.name, value)

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

    def for_array(self, rows: int, cols: int) -> "Operator":
        """The same as an array of so many PEs computes it, where that is a matter of its size.

        Raises
        ------
        PearrayError
            If it is stated for another size.
        """
        return self

    def in_order(self, orders: Mapping[str, Sequence[Sequence[np.ndarray]]]) -> "Operator":
        """The same as an array computes it whose sums depend on the order of additions.

        That is told of each kernel by the role of what it makes.
        """
        raise NotImplementedError(f"{self.kind} has no order of additions")

    def parts(self, tensors: "Mapping[str, Typed]") -> list[Part]:
        """Operators that compute it one after another, for inputs that fit; none if it is none of parts."""
        return []

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
        for role in self.positions:
            if role in tensors and (tuple(tensors[role].shape), np.dtype(tensors[role].dtype)) != ((), np.int64):
                raise PearrayError(f"{role} must be one integer, int64 of shape (), not {tensors[role].dtype} of shape "
                                   f"{tuple(tensors[role].shape)}")
        specs = dict(zip(self.outputs, self._types(**tensors), strict=True))
        for role, (shape, _) in specs.items():
            check_size(role, shape)
        return specs

    def golden(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute the outputs by role, from NumPy alone."""
        self.infer(tensors)
        for role in self.positions:
            if role in tensors:
                check_position(role, tensors[role], self.most_position(tensors))
        try:
            return dict(zip(self.outputs, self._compute(**tensors), strict=True))
        except MemoryError:
            shapes = ", ".join(f"{role} {tensor.shape}" for role, tensor in tensors.items())
            raise PearrayError(f"{self.kind} must fit in the memory of this machine, which tensors of these shapes do "
                               f"not: {shapes}") from None

    def most_position(self, tensors: Mapping[str, Typed]) -> int:
        """Greatest position that tensors which fit leave room for; of operators with :attr:`positions`."""
        raise NotImplementedError

    def macs(self, tensors: Mapping[str, Typed]) -> int:
        """Multiply-accumulates of unpadded convolution and matrix products, else 0.

        Those that an array among the tensors hides, if that is a mask, are not counted.
        """
        return int(self._macs(**tensors))

    def _types(self, *args: Any, **tensors: Any) -> list[Spec]:
        """Shape and type of each output, of inputs whose roles fit."""
        raise NotImplementedError

    def _compute(self, *args: Any, **tensors: Any) -> list[np.ndarray]:
        """Each output, of inputs that fit."""
        raise NotImplementedError

    def _macs(self, *args: Any, **tensors: Any) -> int:
        return 0


def one_order(operator: Operator, orders: Sequence[Sequence[np.ndarray]]) -> Sequence[np.ndarray]:
    """The order of additions that all kernels of an operator have."""
    first, *others = orders
    if any(len(each) != len(first) or not all(map(np.array_equal, each, first)) for each in others):
        raise AssertionError(f"kernels of one {operator.kind} add in different orders")
    return first


def check_position(name: str, value: np.ndarray, most: int) -> None:
    """Check that a position lies in 0 to the greatest one."""
    if not 0 <= value <= most:
        raise PearrayError(f"{name} must be in 0..{most}, not {value}")


def sum_dtype(*operands: Any) -> np.dtype:
    """Type of sums of operands of these types: int32 for 8 bits, int64 for wider ones."""
    return np.dtype(np.int32 if sum_bits(*operands) == 32 else np.int64)


def sum_bits(*operands: Any) -> int:
    """Bits of an accumulator for sums of operands of these types."""
    return 32 if max(np.dtype(dtype).itemsize for dtype in operands) == 1 else 48
