"""Steps of layers, as a kind of array states them to the scheduler: the tiles that each needs, and what it makes."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from .kernels.views import Buffer

__all__ = ["Group", "Moves", "Output", "Piece", "Room", "Step", "Tile", "Use", "all_of"]


@dataclass(eq=False)
class Piece:
    """LOADs that bring one part of a tile.

    Parameters
    ----------
    loads : list of dict
        Bodies, with addresses in bytes relative to the tile.
    sources : list of (Buffer, int, int)
        Elements that must have been stored before: first, and end.

    Members
    -------
    awaited : int
        Outputs whose MOVEs into it have not been emitted yet.
    moved : int
        Last MOVE into it, as long as its tile keeps its place.
    """

    loads: list[dict[str, int]]
    sources: list[tuple[Buffer, int, int]] = field(default_factory=list)
    awaited: int = 0
    moved: int = 0

    def ready(self) -> int | None:
        """STORE to wait for, or None if one of them, or a MOVE into the piece, has not been emitted."""
        latest = 0
        if self.awaited:
            return None
        for buffer, first, end in self.sources:
            ordinal = buffer.ready(first, end)
            if ordinal is None:
                return None
            latest = max(latest, ordinal)
        return latest


@dataclass(eq=False, slots=True)
class Tile:
    """A part of a tensor that stands in a scratchpad while steps use it.

    Parameters
    ----------
    memory : int
        Which scratchpad, a number among the destinations of LOADs.
    size : int
        Bytes.
    pieces : list of Piece
        Parts, in the order in which they are loaded.
    is_resident : bool
        Whether MOVEs fill it, and LOADs only what is padding: it has its place before the first of them, all of its
        padding with it, and keeps it until its last use.
    """

    memory: int
    size: int
    pieces: list[Piece]
    is_resident: bool = False
    address: int = -1
    #: Last LOAD of each piece that stands in the scratchpad.
    ordinals: list[int] = field(default_factory=list)
    #: EXECUTE (or POST, for biases, scales and tables) to wait for before the place can be overwritten.
    clear: int = 0
    #: Last LOAD into the place before MOVEs may write it, and last MOVE that may still write it when it is taken.
    filled: int = 0
    overwritten: int = 0
    #: Last command that read the tile.
    last_use: int = 0
    #: When, in cycles, its latest piece will about have come.
    loaded: float = 0.0
    #: Steps that will use the tile, in order.
    uses: deque[int] = field(default_factory=deque)


@dataclass(eq=False, slots=True)
class Use:
    """A tile that a step needs, and how many of its pieces."""

    tile: Tile
    pieces: int


@dataclass(eq=False, slots=True)
class Room:
    """A place in the output scratchpad that several outputs share, one behind another; the last of them store it.

    Parameters
    ----------
    size : int
        Bytes.
    """

    size: int
    address: int = -1
    #: STORE and MOVE that must have read what stood there before.
    clear: list[int] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Moves:
    """MOVEs of what a POST writes into a piece of a tile.

    Parameters
    ----------
    tile : Tile
        Resident tile.
    piece : Piece
        Piece of it.
    bodies : list of dict
        MOVE bodies, with ``address`` relative to the place in the output scratchpad, ``target`` to the tile.
    """

    tile: Tile
    piece: Piece
    bodies: list[dict[str, int]]


@dataclass(eq=False)
class Output:
    """One POST, and the STOREs and MOVEs of what it writes.

    Parameters
    ----------
    body : dict
        POST body without bank, and with bases relative to the tiles and the place in the output scratchpad.
    size : int
        Bytes in the output scratchpad.
    stores : list of dict
        STORE bodies, with addresses relative to that place.
    target : (Buffer, slice or ndarray, int)
        Buffer, its rows, and elements of each that the STOREs write.
    bias, scale, table, pair : Use or None
        Constants it needs.
    room : Room or None
        Where it stands if not alone: addresses are relative to it.
    moves : list of Moves
        Where it goes on chip.
    """

    body: dict[str, int]
    size: int
    stores: list[dict[str, int]]
    target: tuple[Buffer, slice | np.ndarray, int]
    bias: Use | None = None
    scale: Use | None = None
    table: Use | None = None
    pair: Use | None = None
    room: Room | None = None
    moves: list[Moves] = field(default_factory=list)

    @cached_property
    def constants(self) -> tuple[Use, ...]:
        """The tiles of constants it needs."""
        return tuple(use for use in (self.bias, self.scale, self.table, self.pair) if use is not None)


@dataclass(eq=False)
class Group:
    """Steps that fill one bank of the accumulators, and what becomes of the sums."""

    outputs: list[Output]
    #: Address of the profile record to write after the STOREs, which ends a layer.
    profile: int | None = None


@dataclass(eq=False, slots=True)
class Step:
    """What one EXECUTE does; a kind of array derives its own.

    Parameters
    ----------
    group : Group
        Outputs to make when all its steps are done; a layer's last step has those that end it.
    """

    group: Group

    @property
    def operands(self) -> tuple[Use, ...]:
        """Tiles that the EXECUTE reads, in the order in which they are loaded."""
        raise NotImplementedError

    def renewed(self, group: Group, use: Callable[[Use], Use]) -> "Step":
        """The same step of another group, with other tiles."""
        raise NotImplementedError


_Kind = TypeVar("_Kind", bound=Step)


def all_of(kind: type[_Kind], steps: Iterable[Step]) -> list[_Kind]:
    """Steps as those of one kind of array.

    Raises
    ------
    TypeError
        If another kind's is among them: it would be lost.
    """
    found = []
    for step in steps:
        if not isinstance(step, kind):
            raise TypeError(f"steps must be of type {kind.__name__}, not {type(step).__name__}")
        found.append(step)
    return found
