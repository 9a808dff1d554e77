"""What a layer's lowering gives to the scheduler: passes and setups, and blocks of psums."""

from dataclasses import dataclass
from math import prod

from ..steps import Step, Use

__all__ = ["Areas", "PassStep", "PsumBlock"]


@dataclass(frozen=True)
class Areas:
    """Lines of the global buffer that a layer uses: ifmaps from line 0 on, biases and blocks of psums above.

    Parameters
    ----------
    ifmaps : int
        Lines for tiles of ifmaps.
    blocks : tuple of int
        First line of each place for a block.
    biases : tuple of int
        First line of each place for a block's biases.
    """

    ifmaps: int
    blocks: tuple[int, ...]
    biases: tuple[int, ...]


@dataclass(eq=False)
class PsumBlock:
    """Psums that are together in the global buffer until all channels have been added.

    Parameters
    ----------
    areas : Areas
        Where the layer's blocks stand.
    pixels, lines : int
        Pixels, and lines of each.
    bias : dict of int to Use
        Tile of biases, for each of their places; empty for none.
    """

    areas: Areas
    pixels: int
    lines: int
    bias: dict[int, Use]
    #: First line and number of the place, and number of the biases' place, once the scheduler has chosen them.
    address: int = -1
    place: int = -1
    bias_place: int = -1


@dataclass(eq=False)
class PassStep(Step):
    """One EXECUTE: a pass, or a setup, which has no ifmap and no block.

    Parameters
    ----------
    group : Group
        Outputs that can be made when the pass is done; a record behind it if it is the last one of its layer.
    filters : Use
        Filters, or lines of a setup.
    body : dict
        Body, with addresses relative to the tiles and the block.
    ifmap : Use or None
        Tile of ifmaps.
    block : PsumBlock or None
        Where sums go.
    pixels, lines : (int, int)
        Pixels of the block, and lines of each, that the pass works on: first and end.
    biased : bool
        Sums begin at the block's biases.
    """

    filters: Use
    body: dict[str, int]
    ifmap: Use | None = None
    block: PsumBlock | None = None
    pixels: tuple[int, int] = (0, 0)
    lines: tuple[int, int] = (0, 0)
    biased: bool = False

    @property
    def operands(self) -> tuple[Use, ...]:
        """Tiles that the pass reads, in the order in which they are loaded."""
        return (self.filters,) if self.ifmap is None else (self.filters, self.ifmap)

    @property
    def products(self) -> int:
        """Products that the pass begins, those of padding and of zero filters included."""
        if self.ifmap is None:
            return 0
        body, loops = self.body, ("filter_height", "filter_sets", "psum_rows", "filters", "window", "windows", "rows")
        return prod(body[name] + 1 for name in loops)
