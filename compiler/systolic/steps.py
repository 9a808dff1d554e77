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
    #: Pieces of activations to load before weights; None for all.
    ahead: int | None = None

    @property
    def operands(self) -> tuple[Use, Use]:
        """Tiles of activations and weights."""
        return self.a, self.w

    @property
    def loads(self) -> tuple[Use, ...]:
        """Tiles of activations and weights, in the order in which they are loaded."""
        if self.ahead is None or self.ahead >= self.a.pieces:
            return self.operands
        return (*((Use(self.a.tile, self.ahead),) if self.ahead else ()), self.w, self.a)

    def renewed(self, group: Group, use: Callable[[Use], Use]) -> "ContractionStep":
        """The same step of another group, with other tiles."""
        return ContractionStep(group, use(self.a), use(self.w), self.body, self.ahead)
