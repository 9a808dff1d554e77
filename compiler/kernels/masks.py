"""Masks of attention: integers that are added to sums of products, known or in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...golden.fused_attention import MASK_BIAS
from .views import Buffer

__all__ = ["Mask"]


@dataclass(frozen=True, eq=False)
class Mask:
    """What is added to sums of products.

    Integers of less than -2**29 in all hide a key, and so does minus infinity of float32.

    Parameters
    ----------
    values : ndarray of shape (masks, rows, keys), int32, or Buffer
        Its integers, or bits of float32, or where in memory those of a run stand row-major. Heads that follow one
        another share one of `masks`, and all queries a row if `rows` is 1.
    shape : (int, int, int)
        Masks, rows and keys.
    heads, queries : int
        Heads, of all batches, and queries of each.
    hidden : int
        What hides a key.
    """

    values: np.ndarray | Buffer
    shape: tuple[int, int, int]
    heads: int
    queries: int
    hidden: int = MASK_BIAS

    def known(self, rows: np.ndarray, first: int, end: int) -> np.ndarray | None:
        """Integers of some keys for some queries, counted over all heads; None if a run gives them."""
        if isinstance(self.values, Buffer):
            return None
        masks, places = self._places(rows)
        found: np.ndarray = self.values[masks, places, first:end]
        return found

    def _places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mask and row of it of queries, counted over all heads."""
        heads, places = np.divmod(rows, self.queries)
        return heads // (self.heads // self.shape[0]), places if self.shape[1] > 1 else np.zeros_like(places)

    def is_level(self, first: int, count: int) -> bool:
        """Whether all of so many queries from one on, counted over all heads, have the same row."""
        masks, places = self._places(np.array([first, first + count - 1]))
        return bool(masks[0] == masks[1] and (count == 1 or self.shape[1] == 1) and places[0] == places[1])

    def runs(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Rows of queries from one on, counted over all heads, in memory.

        How many there are at a distance, the first element, and the distance.
        """
        share, end = self.heads // self.shape[0], first + count
        while first < end:
            masks, places = self._places(np.array([first]))
            period = self.queries * (share if self.shape[1] == 1 else 1)
            rows = min(end, (first // period + 1) * period) - first
            row = int(masks[0]) * self.shape[1] + int(places[0])
            yield rows, row * self.shape[2], self.shape[2] if self.shape[1] > 1 else 0
            first += rows
