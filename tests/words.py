"""Signed words in NumPy: wrapped around, cut into beats of a bus, and packed into lines of a buffer."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

__all__ = ["beats", "pack", "unpack", "wrap"]


def wrap(values: np.ndarray, bits: int) -> np.ndarray:
    """Reduce to signed words of a number of bits."""
    return (values + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1)


def beats(words: Iterable[Any], lanes: int) -> Iterator[dict[str, Any]]:
    """Cut words into beats of up to ``lanes``, as ports of ``beat_layout`` take them."""
    words = [int(word) for word in words]
    for start in range(0, len(words), lanes):
        part = words[start:start + lanes]
        yield {"words": part + [0] * (lanes - len(part)), "last": len(part) - 1}


def pack(rows: Iterable[Iterable[Any]], bits: int) -> list[int]:
    """Lines of words, the first one in the lowest bits."""
    return [sum((int(word) & (1 << bits) - 1) << bits * lane for lane, word in enumerate(row)) for row in rows]


def unpack(lines: Iterable[int], bits: int, lanes: int) -> np.ndarray:
    """Signed words of lines, the inverse of :func:`pack`: an array (lines, lanes)."""
    words = [[line >> bits * lane & (1 << bits) - 1 for lane in range(lanes)] for line in lines]
    return wrap(np.array(words, np.int64), bits)
