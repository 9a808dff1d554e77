"""How real numbers are stored in bytes: scales and zero points that lose least of what has been seen."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..golden.activation import gelu

__all__ = ["Stored", "fitted", "gelu_stored", "weights"]

#: Parts of the range that has been seen, of which the best is taken: what lies outside is clipped.
_PARTS = 1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3

#: Least numbers before GELU: beyond, all but nothing is left.
_LEAST_BEFORE_GELU = -2.0, -2.5, -3.0, -3.5

#: Numbers that are looked at.
_SEEN = 40_000


class Stored(NamedTuple):
    """Scale and zero point of a tensor of int8."""

    scale: float
    zero: int = 0

    @classmethod
    def between(cls, low: float, high: float) -> "Stored":
        """Scale and zero point of bytes that end at two numbers."""
        scale = float(np.float32((high - low) / 255))
        return cls(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))

    def integers(self, real: np.ndarray) -> np.ndarray:
        """Nearest bytes of real numbers."""
        return np.clip(np.rint(real / self.scale) + self.zero, -128, 127).astype(np.int8)

    def real(self, integers: np.ndarray) -> np.ndarray:
        """Numbers that bytes stand for."""
        return (integers.astype(np.float64) - self.zero) * self.scale


def _some(real: np.ndarray, importance: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """As many elements as are looked at, and the importance of each."""
    rows = np.ones(len(real)) if importance is None else importance
    every = real.size // _SEEN + 1
    # Any stride that shares no factor with the columns meets all of them.
    while every > 1 and np.gcd(every, real.shape[1]) > 1:
        every += 1
    return real.reshape(-1)[::every], np.repeat(rows, real.shape[1])[::every]


def fitted(real: np.ndarray, *, symmetric: bool = False, importance: np.ndarray | None = None) -> Stored:
    """Find how rows of numbers are stored with the least mean square of what is lost.

    Parameters
    ----------
    real : (rows, columns) array
        Numbers.
    symmetric : bool
        Without a zero point.
    importance : (rows,) array, optional
        Weight of the squares of each row.
    """
    seen, weight = _some(real, importance)
    low, high = min(float(real.min()), 0.0), max(float(real.max()), 0.0)

    def candidates() -> Iterator[Stored]:
        if symmetric:
            yield from (Stored(float(np.float32(max(-low, high) * part / 127))) for part in _PARTS)
        else:
            yield from (Stored.between(low * below, high * above) for below in _PARTS for above in _PARTS)

    return min(candidates(), key=lambda stored: _lost(seen, stored.real(stored.integers(seen)), weight))


def gelu_stored(real: np.ndarray) -> Stored:
    """Find how rows of numbers are stored so that GELU of them, stored in the same way, loses least."""
    seen, _ = _some(real, None)
    wanted = gelu(seen.astype(np.float32))
    every = np.arange(-128, 128, dtype=np.int8)

    def lost(stored: Stored) -> float:
        table = stored.real(stored.integers(gelu(stored.real(every).astype(np.float32))))
        return _lost(wanted, table[stored.integers(seen).astype(int) + 128], None)

    high = float(real.max())
    return min((Stored.between(low, high * part) for low in _LEAST_BEFORE_GELU for part in _PARTS), key=lost)


def _lost(wanted: np.ndarray, found: np.ndarray, weight: np.ndarray | None) -> float:
    return float(np.average(np.square(wanted - found), weights=weight))


def weights(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (outputs, inputs) as int8, with a scale for each output, float32."""
    scales = np.maximum(np.abs(real).max(axis=1) / 127, np.finfo(np.float32).tiny).astype(np.float32)
    return np.clip(np.rint(real / scales[:, None]), -127, 127).astype(np.int8), scales
