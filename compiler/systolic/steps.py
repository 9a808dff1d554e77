"""What a lowering gives to the scheduler: contractions."""

from dataclasses import dataclass

from ..steps import Step, Use

__all__ = ["ContractionStep"]


@dataclass(eq=False, slots=True)
class ContractionStep(Step):
    """One EXECUTE of the systolic array.

    Parameters
    ----------
    group : Group
        Group it adds to.
    a, w : Use
        Tiles of activations and weights.
    body : dict
        EXECUTE body without bank, with ``a_base`` and ``w_base`` relative to the tiles, in operands.
    w_first : bool
        Load weights before activations.
    """

    a: Use
    w: Use
    body: dict[str, int]
    w_first: bool = False

    @property
    def operands(self) -> tuple[Use, Use]:
        """Tiles of activations and weights, in the order in which they are loaded."""
        return (self.w, self.a) if self.w_first else (self.a, self.w)
