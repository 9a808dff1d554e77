"""How the input of a region stands in the activation scratchpad: whole lines of K operands for each pixel."""

from dataclasses import dataclass

from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kernels.regions import Region

from .config import DotConfig
from .parts import Part

__all__ = ["Footprint"]


@dataclass(frozen=True)
class Footprint:
    """Input of a region of outputs, for a part of their sums, in the activation scratchpad; padding included.

    Pixels stand one behind another in whole lines: columns of a row, rows of an image, images.

    Parameters
    ----------
    images, rows, columns : (int, int, int)
        First index (negative or beyond the last: padding), distance, and number.
    pixel : int
        Lines of a pixel.
    down, right : int
        Rows and columns, as they stand, from one output to the next.
    """

    images: tuple[int, int, int]
    rows: tuple[int, int, int]
    columns: tuple[int, int, int]
    pixel: int
    down: int
    right: int

    @classmethod
    def of(cls, nest: Nest, region: Region, part: Part, config: DotConfig) -> "Footprint":
        """Footprint of a region's input."""
        (u, v), (dr, ds), (r, s) = nest.stride, nest.dilation, part.taps
        rows, down = _axis(region.p0 * u - nest.top + dr * part.rows[0], region.p1 - region.p0, u, r, dr)
        columns, right = _axis(region.q0 * v - nest.left + ds * part.columns[0], region.q1 - region.q0, v, s, ds)
        return cls((region.image0, 1, region.image1 - region.image0), rows, columns,
                   -(-part.width // config.array.cols), down, right)

    @property
    def row(self) -> int:
        """Lines from one row to the next."""
        return self.columns[2] * self.pixel

    @property
    def image(self) -> int:
        """Lines from one image to the next."""
        return self.rows[2] * self.row

    @property
    def lines(self) -> int:
        """All lines."""
        return self.images[2] * self.image


def _axis(first: int, outputs: int, stride: int, taps: int, dilation: int) -> tuple[tuple[int, int, int], int]:
    """First, distance and number of the inputs along an axis, and how many of them outputs are apart."""
    if taps == 1:
        # What lies between the outputs' inputs is not needed.
        return (first, stride, outputs), 1
    return (first, 1, (outputs - 1) * stride + dilation * (taps - 1) + 1), stride
