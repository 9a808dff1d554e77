"""The greatest and the least of several tensors, element by element, and elements of one of two as a mask says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from ...hdl.errors import PearrayError
from .channelwise import integer_type
from .edges import Reshape
from .fields import array
from .operator import Operator, Part, Spec, Typed
from .several import Several

__all__ = ["Extreme", "Max", "Min", "Where"]


def _common(tensors: Mapping[str, Typed]) -> Spec:
    """Shape to which tensors of one type broadcast, and the type."""
    dtypes = {np.dtype(tensor.dtype) for tensor in tensors.values()}
    if len(dtypes) > 1:
        raise PearrayError(f"{', '.join(tensors)} must be of one type, not "
                           f"{' and '.join(sorted(map(str, dtypes)))}")
    [dtype] = dtypes
    if dtype.kind != "f":
        for role, tensor in tensors.items():
            integer_type(role, tensor)
    shapes = [tuple(tensor.shape) for tensor in tensors.values()]
    try:
        return np.broadcast_shapes(*shapes), dtype
    except ValueError:
        raise PearrayError(f"{', '.join(tensors)} must broadcast, not have shapes "
                           f"{', '.join(map(str, shapes))}") from None


@dataclass(frozen=True, eq=False)
class Extreme(Several):
    """Base of the greatest and the least of tensors x0, x1, ... of one type, which broadcast to y.

    Attributes
    ----------
    choice : callable
        Chooses of two arrays.
    """

    choice: ClassVar[Callable[..., Any]]

    def _types(self, **tensors: Typed) -> list[Spec]:
        return [_common(tensors)]

    def _compute(self, **tensors: np.ndarray) -> list[np.ndarray]:
        return [np.array(reduce(type(self).choice, tensors.values()))]

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """Two tensors at a time; one alone is a view."""
        names = [f"x{index}" for index in range(len(tensors))]
        if len(names) == 1:
            return [Part("y", Reshape(tuple(tensors["x0"].shape)), {"x": "x0"})]
        if len(names) == 2:
            return []
        made = [names[0], *(f"first {index + 1}" for index in range(1, len(names) - 1)), "y"]
        return [Part(name, type(self)(), {"x0": before, "x1": other})
                for name, before, other in zip(made[1:], made, names[1:], strict=False)]


@dataclass(frozen=True, eq=False)
class Max(Extreme):
    """The greatest of tensors x0, x1, ... of one type and scale, which broadcast to y."""

    choice = np.maximum


@dataclass(frozen=True, eq=False)
class Min(Extreme):
    """The least of tensors x0, x1, ... of one type and scale, which broadcast to y."""

    choice = np.minimum


@dataclass(frozen=True, eq=False)
class Where(Operator):
    """Elements of a where a mask says so, and of b elsewhere; both have one type and scale, and all three broadcast.

    Parameters
    ----------
    condition : array of bool
        The mask.
    """

    condition: np.ndarray

    required = ("a", "b")

    def __post_init__(self) -> None:
        super().__post_init__()
        # Whoever gave it may change it.
        vars(self)["condition"] = array("condition", self.condition, "an array of bool", "b").copy()

    def _types(self, a: Typed, b: Typed) -> list[Spec]:
        shape, dtype = _common({"a": a, "b": b})
        try:
            return [(np.broadcast_shapes(shape, self.condition.shape), dtype)]
        except ValueError:
            raise PearrayError(f"condition must broadcast with a and b to {shape}, not have shape "
                               f"{self.condition.shape}") from None

    def _compute(self, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        return [np.where(self.condition, a, b)]

    def parts(self, tensors: Mapping[str, Typed]) -> list[Part]:
        """The greatest of both, each of which is the least value of all where the mask says the other."""
        info = np.iinfo(integer_type("a", tensors["a"]))
        masks = (np.where(mask, info.max, info.min).astype(info.dtype) for mask in (self.condition, ~self.condition))
        return [*(Part(f"{role} alone", Min(), {"x0": role}, {"x1": mask})
                  for role, mask in zip("ab", masks, strict=True)),
                Part("y", Max(), {"x0": "a alone", "x1": "b alone"})]
