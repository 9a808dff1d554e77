"""Places in memories that commands take in an order that is known: in turn, or by when they are used again."""

from collections import deque
from collections.abc import Sequence

__all__ = ["Ring", "Tiles"]


class Ring:
    """Places in a memory, taken in turn and given back in the same order.

    Parameters
    ----------
    capacity, alignment : int
        Size, and what places are multiples of.
    """

    def __init__(self, capacity: int, alignment: int = 1):
        self.capacity, self._alignment = capacity, alignment
        self._next = 0
        self._taken: deque[tuple[int, int]] = deque()

    def _find(self, size: int) -> int | None:
        """The first free place from that behind the last one on, at a multiple of its size if there is one.

        So places of equal size stay together, whatever smaller ones have been between them.
        """
        top, unit = self.capacity - size, max(-(-size // self._alignment) * self._alignment, 1)
        behind = {0, self._next, *(self._aligned(end) for _, end in self._taken)}
        for starts in (range(0, top + 1, unit), behind):
            free = [start for start in starts if start <= top and not any(
                start < end and first < start + size for first, end in self._taken)]
            if free:
                return min(free, key=lambda start: (start < self._next, start))
        return None

    def _aligned(self, place: int) -> int:
        return -(-place // self._alignment) * self._alignment

    def has_room(self, size: int) -> bool:
        """Whether there is a place for so much now."""
        return self._find(size) is not None

    def take(self, size: int) -> int:
        """Take a place, and return where it begins.

        Raises
        ------
        AssertionError
            If there is none.
        """
        start = self._find(size)
        if start is None:
            raise AssertionError(f"no room for {size} of {self.capacity}")
        self._taken.append((start, start + size))
        self._next = self._aligned(start + size)
        return start

    def give_back(self) -> None:
        """Give back what was taken first."""
        self._taken.popleft()


class Tiles:
    """Blocks of keys, or of values, in places of equal size, each used by products in a known order.

    What is used again the latest makes room for others.

    Members
    -------
    places : int
        Places that are taken, if there are so many.
    """

    def __init__(self, uses: Sequence[tuple[int, int]], places: int):
        self._uses, self.places = uses, min(places, len(set(uses)))
        self._next: dict[tuple[int, int], deque[int]] = {}
        for index, tile in enumerate(uses):
            self._next.setdefault(tile, deque()).append(index)
        self._at: dict[tuple[int, int], int] = {}
        #: Product that used each place last.
        self._used = [-1] * self.places

    def place(self, index: int) -> int | None:
        """Place of what a product needs, if it stands."""
        return self._at.get(self._uses[index])

    def use(self, index: int) -> None:
        """Note that a product has been emitted."""
        tile = self._uses[index]
        self._next[tile].popleft()
        self._used[self._at[tile]] = index

    def make_room(self, index: int, done: int) -> int | None:
        """Place for what a product needs, None if what stands is needed before; all before `done` have been emitted.

        What product `done` itself has used is as good a choice as none: it is read until the next one begins.
        """
        free = set(range(self.places)) - set(self._at.values())
        place = min(free) if free else None
        if place is None:
            end = len(self._uses)
            found = [(self._used[at] < done, uses[0] if uses else end, tile) for tile, at in self._at.items()
                     if not (uses := self._next[tile]) or uses[0] > index]
            if not found:
                return None
            place = self._at.pop(max(found)[2])
        self._at[self._uses[index]] = place
        return place
