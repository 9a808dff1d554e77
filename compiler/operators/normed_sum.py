"""Sum of two tensors and the normalisation of its rows as one operator, which only the compiler makes."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .binary import Add, Sub
from .normalisation import Normalisation
from .operator import Operator, Quantisation, Spec, Typed

__all__ = ["NormedSum"]


@dataclass(frozen=True, eq=False, kw_only=True)
class NormedSum(Operator):
    """LayerNorm or RMSNorm of the sum, or difference, of a and b, which is quantised in between.

    Parameters
    ----------
    sum : Add or Sub
        Operator of two tensors of one shape.
    norm : LayerNorm or RMSNorm
        Operator of its output.
    """

    sum: Add | Sub
    norm: Normalisation

    required = ("a", "b", "gamma")
    optional: ClassVar[tuple[str, ...]] = ("beta",)
    constants: ClassVar[tuple[str, ...]] = ("gamma", "beta")

    @property
    def kind(self) -> str:
        """Name of both operators."""
        return f"{self.sum.kind} + {self.norm.kind}"

    def quantisation(self, role: str) -> Quantisation | None:
        """How a tensor is stored, as the operator that reads or makes it says."""
        return (self.sum if role in self.sum.required else self.norm).quantisation(role)

    def _types(self, a: Typed, b: Typed, **gains: Any) -> list[Spec]:
        shape, dtype = self.sum.infer({"a": a, "b": b})["y"]
        return [self.norm.infer({"x": np.broadcast_to(np.zeros((), dtype), shape)} | gains)["y"]]

    def _compute(self, a: np.ndarray, b: np.ndarray, **gains: np.ndarray) -> list[np.ndarray]:
        x = self.sum.golden({"a": a, "b": b})["y"]
        return [self.norm.golden({"x": x} | gains)["y"]]
