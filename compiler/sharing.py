"""Tiles that hold the same bytes as one tile, so that steps of several layers use what has been loaded once."""

from collections.abc import Hashable, Iterable

import numpy as np

from .moves import copied
from .steps import Step, Tile, Use

__all__ = ["same_tiles", "use_of"]


def _reach(tile: Tile) -> Hashable:
    """What tiles that hold the same have in common, and few others: where they stand, and what they are part of."""
    loads = [body for piece in tile.pieces for body in piece.loads if not body.get("fill")]
    buffers = frozenset(id(buffer) for piece in tile.pieces for buffer, _, _ in piece.sources)
    return tile.memory, tile.size, buffers, min((body["dram"] for body in loads), default=-1)


def _contents(tile: Tile) -> Hashable:
    """Where in memory each byte of a tile comes from, or what it is filled with, and other memories that are loaded."""
    found, beside = np.full(tile.size, -1, np.int64), []
    for piece in tile.pieces:
        for body in piece.loads:
            if body.get("destination", tile.memory) != tile.memory:
                beside.append(tuple(sorted(body.items())))
                continue
            # Addresses are not negative, and -1 is no byte at all.
            found[copied(body, "address")] = -2 - body["value"] if body.get("fill") else copied(body, "dram")
    return found.tobytes(), tuple(beside)


def same_tiles(steps: Iterable[Step]) -> dict[int, Tile]:
    """By the identity of each tile that holds what one before it holds, that one."""
    tiles: dict[int, Tile] = {}
    for step in steps:
        for use in (*step.operands, *(use for output in step.group.outputs for use in output.constants)):
            tiles.setdefault(id(use.tile), use.tile)
    near: dict[Hashable, list[Tile]] = {}
    for tile in tiles.values():
        near.setdefault(_reach(tile), []).append(tile)
    found: dict[int, Tile] = {}
    for some in near.values():
        holding: dict[Hashable, Tile] = {}
        for tile in some if len(some) > 1 else ():
            first = holding.setdefault(_contents(tile), tile)
            if first is not tile:
                found[id(tile)] = first
    return found


def use_of(tile: Tile, use: Use) -> Use:
    """The same use of another tile that holds the same, of all of it if it is loaded in other pieces."""
    if tile is use.tile:
        return use
    loads, others = ([piece.loads for piece in each.pieces] for each in (tile, use.tile))
    return Use(tile, use.pieces if loads == others else len(loads))
