"""How a layer has been chosen to be lowered."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from ..placement import MemoryPlan
from .layer import Layer
from .steps import ContractionStep

__all__ = ["Lowering"]


@runtime_checkable
class _Finer(Protocol):
    """How a layer is cut where sizes of groups can be chosen."""

    def finer(self, share: float) -> "_Finer":
        """The same with groups of a share of their size."""


@dataclass(frozen=True, eq=False)
class Lowering:
    """What lowers a layer, and how that is cut.

    Parameters
    ----------
    by : callable
        Gives the steps of a layer, ``by(cut, layer, plan)``.
    cut
        What was chosen, of the kind that `by` takes.
    """

    by: Callable[[Any, Layer, MemoryPlan], list[ContractionStep]]
    cut: Any

    def __call__(self, layer: Layer, plan: MemoryPlan) -> list[ContractionStep]:
        """Steps of a layer, whose packed constants go to a plan."""
        return self.by(self.cut, layer, plan)

    def finer(self, share: float) -> "Lowering":
        """The same with groups of a share of their size, where it can be chosen."""
        return replace(self, cut=self.cut.finer(share)) if share != 1 and isinstance(self.cut, _Finer) else self
