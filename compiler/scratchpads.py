"""Places in scratchpads: of tiles, one over the other, and of outputs, taken in turn."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from .steps import Tile

__all__ = ["NoPlaceError", "OutputRing", "Scratchpad"]

#: More than any ordinal.
_NEVER = 1 << 62


class NoPlaceError(AssertionError):
    """A tile finds no place: resident tiles leave too little room."""


class Scratchpad:
    """Places of tiles in one memory.

    Parameters
    ----------
    capacity, alignment : int
        Bytes, and what places are multiples of.

    Members
    -------
    tiles, firsts, ends : list of Tile, list of int, list of int
        Tiles in the order of their places, first bytes of these, and first bytes behind the tiles.
    evicted : int
        Tiles that have had to go.
    refused : Tile or None
        Tile for which there was no room when :meth:`find` was asked last.
    retry : int
        Least `newest` with which there may be room for it.
    has_moves : bool
        Whether MOVEs write some of the tiles. LOADs follow one another, so that one behind another need not wait for
        what that has waited for; a MOVE follows no LOAD, and no LOAD a MOVE.
    """

    def __init__(self, capacity: int, alignment: int):
        self.capacity = capacity
        self._alignment = alignment
        self.tiles: list[Tile] = []
        self.firsts: list[int] = []
        self.ends: list[int] = []
        self.evicted = 0
        self.refused: Tile | None = None
        self.retry = 0
        self.has_moves = False
        #: Parts of tiles that others have been placed over, whose rest nothing stands on yet: first byte and that
        #: behind the last, and the latest command to use it, LOAD into it, and MOVE into it.
        self._rests: list[tuple[int, int, int, int, int]] = []

    def shrink(self, tiles: Iterable[Tile]) -> None:
        """Leave alone what is not needed even if each of all tiles that will be placed has a place of its own."""
        self.capacity = min(self.capacity, sum(self._aligned(tile.size) for tile in tiles))

    def _aligned(self, size: int) -> int:
        return -(-size // self._alignment) * self._alignment

    def place(self, tile: Tile, step: int, newest: int | None) -> bool:
        """Give `tile`, needed by `step`, a place if :meth:`find` finds one."""
        found = self.find(tile, step, newest)
        if found is not None:
            self.put(tile, *found)
        return found is not None

    def put(self, tile: Tile, start: int, clear: int) -> None:
        """Give a tile its place, over whatever stands there; `clear` is what must be over before it is loaded."""
        size = self._aligned(tile.size)
        low, high = bisect_right(self.ends, start), bisect_left(self.firsts, start + size)
        tile.filled = tile.overwritten = 0
        rests: list[tuple[int, int, int, int, int]] = []
        for other in self.tiles[low:high]:
            if other.is_resident and other.uses:
                raise AssertionError(f"a resident tile of {other.size} bytes must keep its place")
            tile.filled = max(tile.filled, other.filled, *other.ordinals, 0)
            tile.overwritten = max(tile.overwritten, other.overwritten, *(piece.moved for piece in other.pieces))
            if self.has_moves and (self.firsts[low] < start or start + size < self.ends[high - 1]):
                rests.append((other.address, other.address + other.size, max(other.last_use, other.clear),
                              max(other.filled, *other.ordinals, 0),
                              max(other.overwritten, *(piece.moved for piece in other.pieces))))
            other.address, other.ordinals = -1, []
        for first, end, clearing, filled, overwritten in self._rests if self.has_moves else ():
            if first < start + size and start < end:
                clear, tile.filled = max(clear, clearing), max(tile.filled, filled)
                tile.overwritten = max(tile.overwritten, overwritten)
        self._rests = [rest for rest in self._rests + rests if rest[0] < start or start + size < rest[1]]
        self.evicted += high - low
        self.refused = None
        tile.address, tile.clear, tile.last_use, tile.ordinals = start, clear, 0, []
        self.tiles[low:high], self.firsts[low:high], self.ends[low:high] = [tile], [start], [start + tile.size]

    def find(self, tile: Tile, step: int, newest: int | None) -> tuple[int, int] | None:
        """Find room for `tile`, needed by `step`; with `newest`, only over tiles last used by then.

        Each step is one EXECUTE, so that step n has ordinal n + 1.

        Returns
        -------
        (int, int) or None
            Address, and the command that was the last to use what stands there.
        """
        if tile.size > self.capacity:
            raise AssertionError(f"tile of {tile.size} bytes in a memory of {self.capacity}")
        alignment, limit, size = self._alignment, _NEVER if newest is None else newest, self._aligned(tile.size)
        top, tiles, firsts, ends = self.capacity - size, self.tiles, self.firsts, self.ends
        starts = {0, top}
        for first, end in zip(firsts, ends, strict=True):
            starts.add(first - (first - end) // alignment * alignment)
            starts.add(first - size)
        best: tuple[int, int, bool, int] | None = None
        for start in starts:
            if not 0 <= start <= top:
                continue
            wanted = latest = 0
            for other in tiles[bisect_right(ends, start):bisect_left(firsts, start + size)]:
                if other.uses:
                    if other.uses[0] <= step or other.is_resident:
                        break
                    wanted += 1
                if other.last_use > latest:
                    latest = other.last_use
                if other.clear > latest:
                    latest = other.clear
            else:
                # Tiles at either end leave the room between them in one piece, whatever their sizes.
                cost = wanted, latest, 0 < start < top, start
                if latest <= limit and (best is None or cost < best):
                    best = cost
        if best is not None:
            return best[3], best[1]
        # Each place is over a tile that has been used too lately, or will be used too soon.
        self.refused, self.retry = tile, min(
            tile.uses[0] + 1 if tile.uses and tile.uses[0] <= step else max(tile.last_use, tile.clear)
            for tile in tiles)
        return None


class OutputRing:
    """Places in the output scratchpad, taken in turn."""

    def __init__(self, capacity: int, alignment: int):
        self._capacity = capacity
        self._alignment = alignment
        self._next = 0
        self._taken: list[tuple[int, int, int, int]] = []
        #: Places that have yet to be filled: first byte, and that behind the last.
        self._open: dict[int, int] = {}

    def place(self, size: int, *, is_open: bool = False) -> tuple[int, int, int]:
        """Address of `size` bytes, and the STORE and the MOVE that must have read what was there.

        Nobody else gets a place that `is_open` before it has been taken.

        Raises
        ------
        NoPlaceError
            If open places leave none.
        """
        if size > self._capacity:
            raise AssertionError(f"output of {size} bytes in a memory of {self._capacity}")
        start = self._free(self._next, size)
        start = self._free(0, size) if start is None else start
        if start is None:
            raise NoPlaceError(f"no place for an output of {size} bytes beside those that are being filled")
        self._next = start + size
        if is_open:
            self._open[start] = start + size
        store, move, kept = 0, 0, []
        for entry in self._taken:
            if entry[0] < start + size and start < entry[1]:
                store, move = max(store, entry[2]), max(move, entry[3])
            # What was only partly overwritten stays taken: its rest may still be waiting to be read.
            if entry[0] < start or start + size < entry[1]:
                kept.append(entry)
        self._taken = kept
        return start, store, move

    def _free(self, first: int, size: int) -> int | None:
        """Address of so many bytes from one on that are in no open place; None if there are none."""
        start = -(-first // self._alignment) * self._alignment
        for begin, end in sorted(self._open.items()):
            if begin < start + size and start < end:
                start = -(-end // self._alignment) * self._alignment
        return start if start + size <= self._capacity else None

    def take(self, start: int, size: int, store: int, move: int = 0) -> None:
        """Record the last STORE and the last MOVE that read a place."""
        self._open.pop(start, None)
        self._taken.append((start, start + size, store, move))
