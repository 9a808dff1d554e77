"""Tiles of activations that stand in a scratchpad, for other layers that read the same pixels."""

from typing import NamedTuple

from ..kernels.nest import Nest
from ..kernels.regions import Region
from ..kernels.views import View
from ..steps import Tile
from .geometry import Box, Geometry

__all__ = ["Held"]


class Held(NamedTuple):
    """A tile of activations that stands, for others that read the same pixels."""

    x: View
    images: tuple[int, int]
    geometry: Geometry
    box: Box
    tile: Tile

    def place(self, problem: Nest, region: Region, box: Box, own: Geometry) -> int | None:
        """Operand at which `own`, the input of a region that sees nothing but its pixels, begins.

        None if not all of it is there.
        """
        at, x = self.geometry, problem.x
        if (self.x.buffer is not x.buffer
                or (self.x.axes, self.x.offset, self.x.is_bytes) != (x.axes, x.offset, x.is_bytes)
                or problem.r * problem.s > 1 or problem.stride != (1, 1) or at.row_step * at.column_step > 1
                or self.images != (region.image0, region.image1)
                or not (self.box.c0 <= box.c0 and box.c1 <= self.box.c1)
                or not (at.row0 <= own.row0 and own.row0 + own.rows <= at.row0 + at.rows)
                or not (at.column0 <= own.column0 and own.column0 + own.columns <= at.column0 + at.columns)):
            return None
        return (own.row0 - at.row0) * at.line + (own.column0 - at.column0) * at.pixel + box.c0 - self.box.c0
