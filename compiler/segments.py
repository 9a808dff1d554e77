"""Rows of a block of scores: those that see some of its keys, and cuts into those whose keys one POST can hide."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..golden.fused_attention import MASK_BIAS

__all__ = ["Segment", "moving_segments", "seeing", "segments"]

#: More than any bound of a key.
_FAR = 1 << 14


@dataclass(frozen=True)
class Segment:
    """Rows of a block of scores whose keys one POST can hide.

    The m-th of them sees keys from ``low + slope * m`` to that before ``high + slope * m``.
    """

    first: int
    end: int
    low: int
    high: int
    slope: int


def seeing(low: np.ndarray, high: np.ndarray, first: int, count: int, mask: np.ndarray | None,
           hidden: int = MASK_BIAS) -> np.ndarray:
    """Rows that see some of the `count` keys from `first` on, of bool, (rows,).

    They see keys `low` to `high`, both (rows,), but those to which a mask, (rows, keys), adds what is `hidden`.
    """
    seen: np.ndarray = (low < np.minimum(high, first + count)) & (high > first)
    return seen if mask is None else seen & (mask != hidden).any(axis=1)


def _reach(bounds: np.ndarray, slope: int, cols: int) -> tuple[int, int]:
    """Rows for which one number and a slope give some bounds, and the number; a bound of 0 or `cols` may be beyond."""
    along = slope * np.arange(bounds.size)
    least = np.maximum.accumulate(np.where(bounds == 0, -_FAR, bounds - along))
    most = np.minimum.accumulate(np.where(bounds == cols, _FAR, bounds - along))
    wrong = np.flatnonzero(least > most)
    count = int(wrong[0]) if wrong.size else bounds.size
    number = int(least[count - 1]) if least[count - 1] > -_FAR else min(int(most[count - 1]), 0)
    return count, number


def segments(low: np.ndarray, high: np.ndarray, cols: int) -> Iterator[Segment]:
    """Cut rows that see keys `low` to `high` of a block, both (rows,) in 0..cols, into those of one POST each."""
    at = 0
    while at < low.size:
        found: list[tuple[int, int, int, int]] = []
        for slope in (0, 1):
            (begins, first), (ends, last) = (_reach(bounds[at:], slope, cols) for bounds in (low, high))
            count = min(begins, ends)
            if count < max(begins, ends):
                first, last = (_reach(bounds[at:at + count], slope, cols)[1] for bounds in (low, high))
            found.append((count, -slope, first, last))
        count, slope, first, last = max(found)
        yield Segment(at, at + count, first, last, -slope)
        at += count


def moving_segments(low: np.ndarray | None, high: np.ndarray) -> Iterator[Segment]:
    """Cut rows that see keys `low` to `high` of a block, both (rows,), neither of them cut off at its ends.

    Bounds of all rows may be moved by one number then. Without `low` there is no first key.
    """
    at = 0
    while at < high.size:
        slope = int(at + 1 < high.size and high[at + 1] == high[at] + 1)
        wrong = np.flatnonzero(high[at:] != high[at] + slope * np.arange(high.size - at))
        count = int(wrong[0]) if wrong.size else high.size - at
        yield Segment(at, at + count, -_FAR if low is None else int(low[at]), int(high[at]), slope)
        at += count
