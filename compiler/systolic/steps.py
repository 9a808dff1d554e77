"""What a lowering gives to the scheduler: contractions."""

from collections.abc import Callable
from dataclasses import dataclass

from ..steps import Group, Step, Use

__all__ = ["ContractionStep"]


@dataclass(eq=False, slots=True)
class ContractionStep(Step):
    """One EXECUTE of the systolic array."""

    #: Tiles of activations and weights.
    a: Use
    w: Use
    #: EXECUTE body without bank, with ``a_base`` and ``w_base`` relative to the tiles, in operands.
    body: dict[str, int]
    #: Load weights before activations.
    w_first: bool = False

    @property
    def operands(self) -> tuple[Use, Use]:
        """Tiles of activations and weights, in the order in which they are loaded."""
        return (self.w, self.a) if self.w_first else (self.a, self.w)

    def renewed(self, group: Group, use: Callable[[Use], Use]) -> "ContractionStep":
        """The same step of another group, with other tiles."""
        return ContractionStep(group, use(self.a), use(self.w), self.body, self.w_first)
