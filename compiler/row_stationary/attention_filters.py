"""Blocks of keys, or of values, in the filter buffer, from where they are sent as filters."""

from collections.abc import Callable, Mapping

from ...hdl.row_stationary.commands import Destination
from ...hdl.row_stationary.ports import LINE_BYTES
from ..hazards import Region
from ..transfers import block

__all__ = ["MatrixSlots"]


class MatrixSlots:
    """Places of matrices of bytes, taken in turn.

    Parameters
    ----------
    first, lines, count : int
        First line of the filter buffer, lines of a place, and places.
    row : int
        Bytes of a row, which follow one another.
    load : callable
        Emits a LOAD: its destination, its body, and the lines that it writes.
    """

    def __init__(self, first: int, lines: int, count: int, row: int,
                 load: Callable[[Destination, Mapping[str, int], Region], None]):
        self._row, self._load = row, load
        self._regions = [Region("filters", first + slot * lines, first + (slot + 1) * lines) for slot in range(count)]
        self._stands: list[object] = [None] * count
        self._next = 0

    def bring(self, dram: int, rows: int, step: int) -> Region:
        """Load rows, `step` bytes apart in memory, if they don't stand, and return where they do."""
        wanted = dram, rows
        if wanted in self._stands:
            return self._regions[self._stands.index(wanted)]
        slot, self._next = self._next, (self._next + 1) % len(self._regions)
        region = self._regions[slot]
        self._load(Destination.FILTER_BUFFER, block(dram=dram, address=region.first * LINE_BYTES, length=self._row,
                                                    dims=[(rows, step, self._row)]), region)
        self._stands[slot] = wanted
        return region
