"""A part of a network that a host computes by a runtime of its own, in the middle of a graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...hdl.errors import PearrayError
from .operator import Operator, Spec, Typed

__all__ = ["HostFunction", "Hosted", "HostedKind"]


@dataclass(frozen=True)
class HostedKind:
    """Nodes of one operator of a file that the host computes.

    Parameters
    ----------
    operator : str
        Operator, with its domain.
    count : int
        How many nodes.
    first : str
        Name of the first one.
    why : str
        Why no program computes them.
    refused : bool
        Whether that is for themselves, not for what they share real numbers with.
    """

    operator: str
    count: int
    first: str
    why: str
    refused: bool = True


class HostFunction(Protocol):
    """What the host computes."""

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows of the tables in which tensors that it takes are looked up, by name: these must be less."""

    def __call__(self, inputs: Mapping[str, np.ndarray], /) -> Mapping[str, np.ndarray]:
        """Tensors made of tensors, by name."""

    def write(self, stem: Path) -> Path:
        """Write it as a file, whose name but for the ending is given; return its path."""


@dataclass(frozen=True, eq=False)
class Hosted(Operator):
    """Nodes of a file that the host computes between programs.

    Parameters
    ----------
    function : HostFunction
        Takes arrays by name, and gives arrays by name.
    takes : tuple of str
        Names of what it takes. The roles are their numbers behind ``x``.
    gives : mapping of str to (shape, dtype)
        What it gives. The roles are the numbers behind ``y``.
    kinds : tuple of HostedKind
        What the nodes are.
    products : int
        Multiply-accumulates of its convolutions, matrix products and recurrences.
    """

    function: HostFunction
    takes: tuple[str, ...]
    gives: Mapping[str, Spec]
    kinds: tuple[HostedKind, ...] = ()
    products: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        vars(self).update(required=tuple(f"x{place}" for place in range(len(self.takes))),
                          outputs=tuple(f"y{place}" for place in range(len(self.gives))))

    def _types(self, **inputs: Typed) -> list[Spec]:
        return list(self.gives.values())

    def _compute(self, **inputs: Any) -> list[np.ndarray]:
        made = self.function(dict(zip(self.takes, (inputs[role] for role in self.required), strict=True)))
        for name, (shape, dtype) in self.gives.items():
            found = made[name]
            if (found.shape, found.dtype) != (shape, dtype):
                raise PearrayError(f"{name!r}, which the host makes, must be {dtype} of shape {shape} as for inputs of "
                                   f"zeros, not {found.dtype} of shape {found.shape}: no shape may follow from values")
        return [made[name] for name in self.gives]

    def _macs(self, **inputs: Typed) -> int:
        return self.products
