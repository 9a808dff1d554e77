"""What a POST of averages does to the states of post-processing."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..hdl.post.average import SEARCH

__all__ = ["averaged"]

#: Fields that must be zero.
_ZERO = ("pair", "bias", "bias_nstep", "per_channel", "scale_nstep", "table", "out_nstep")


def averaged(states: np.ndarray, tiles: Iterable[np.ndarray], entries: np.ndarray,
             body: Mapping[str, Any]) -> np.ndarray | None:
    """Add terms of tiles to states, or store sums there, and find the steps that these have reached.

    Parameters
    ----------
    states : ndarray of shape (places, lanes), int32
        States, or the bits of float32 numbers, which are changed.
    tiles : iterable of ndarray of shape (rows, columns), int64
        Sums.
    entries : ndarray of shape (256, 2), int32
        Terms and steps.
    body : mapping
        Fields of the command.

    Returns
    -------
    ndarray of shape (rows, columns), int64, or None
        Numbers of the steps; None without a search.

    Raises
    ------
    ValueError
        If a field must be zero, or there are too few states.
    """
    for name in _ZERO:
        if body[name]:
            raise ValueError(f"{name} must be zero with average or search")
    fresh = not body["resume"]
    for sums in tiles:
        shape, places = sums.shape, sums.size // states.shape[1]
        if places > len(states):
            raise ValueError(f"an average has {len(states)} states of a lane, not {places}")
        held, found = states[:places], sums.reshape(places, -1)
        if body["average"]:
            before = np.zeros(found.shape, np.float32) if fresh else held.view(np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                held[:] = (before + entries[found & 255, 0].view(np.float32)).view(np.int32)
        else:
            held[:] = found
        fresh = False
    if not body["search"]:
        return None
    order = held ^ (held >> 31 & 0x7FFFFFFF) if body["average"] else held
    position = np.zeros(held.shape, np.int64)
    for bit in reversed(range(SEARCH)):
        probe = position | 1 << bit
        position = np.where(order >= entries[probe, 1], probe, position)
    return position.reshape(shape)
