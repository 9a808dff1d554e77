"""Which tensors stay on chip between the layer that makes them and those that read them.

A tensor is *resident* if MOVEs bring what POSTs make of it into all tiles that read it. Nobody loads it then, and if
nobody wants it in memory, nobody stores it. This is done to steps that are complete: whatever a kind of array states as
tiles and outputs may stay.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .kernels.views import Buffer
from .moves import moves_between
from .scratchpads import NoPlaceError
from .sharing import use_of
from .steps import Group, Output, Piece, Room, Step, Tile, Use

__all__ = ["NEVER", "Arrangement", "Price", "Search", "Tensors", "renewed"]


#: Steps of programs, one without each tensor that may go, that are timed to find which costs most cycles.
_FEW = 6_000


@dataclass
class Arrangement:
    """Steps of each layer, and of all in the order in which they are scheduled."""

    layers: list[list[Step]]
    steps: list[Step]

    @classmethod
    def in_order(cls, layers: Sequence[Sequence[Step]]) -> "Arrangement":
        """One layer behind the other."""
        return cls([list(steps) for steps in layers], [step for steps in layers for step in steps])

    def renewed(self, steps: Sequence[Step]) -> "Arrangement":
        """The same order of the same layers, with `steps` in the place of those before."""
        fresh = {id(old): new for old, new in zip(self.steps, steps, strict=True)}
        return Arrangement([[fresh[id(step)] for step in layer] for layer in self.layers], list(steps))


def renewed(steps: Iterable[Step], same: Mapping[int, Tile] | None = None) -> list[Step]:
    """The same steps with tiles and groups of their own, as if no STORE of what they make had been emitted.

    What others make is in memory from the beginning. With `same` one tile takes the place of those that hold the same
    (:func:`.sharing.same_tiles`).
    """
    steps, same = list(steps), same or {}
    made = {id(output.target[0]) for step in steps for output in step.group.outputs}
    tiles: dict[int, Tile] = {}
    uses: dict[int, Use] = {}
    groups: dict[int, Group] = {}
    rooms: dict[int, Room] = {}

    def use(old: Use) -> Use:
        if id(old) not in uses:
            like = use_of(same.get(id(old.tile), old.tile), old)
            tile = like.tile
            if id(tile) not in tiles:
                pieces = [Piece(piece.loads, [each for each in piece.sources if id(each[0]) in made])
                          for piece in tile.pieces]
                tiles[id(tile)] = Tile(tile.memory, tile.size, pieces)
            uses[id(old)] = Use(tiles[id(tile)], like.pieces)
        return uses[id(old)]

    def output(old: Output) -> Output:
        old.target[0].expect_stores()
        bias, scale, table, pair = (None if each is None else use(each)
                                    for each in (old.bias, old.scale, old.table, old.pair))
        if old.room is not None and id(old.room) not in rooms:
            rooms[id(old.room)] = Room(old.room.size)
        return replace(old, moves=[], room=rooms.get(id(old.room)), bias=bias, scale=scale, table=table, pair=pair)

    found = []
    for step in steps:
        group = groups.get(id(step.group))
        if group is None:
            group = groups[id(step.group)] = Group([output(each) for each in step.group.outputs], step.group.profile)
        found.append(step.renewed(group, use))
    return found


class Tensors:
    """Tensors between the steps of a program.

    Parameters
    ----------
    steps : sequence of Step
        All steps, in order.
    wanted : collection of Buffer
        Those that must be in memory at the end.
    memories : collection of int
        Scratchpads that MOVEs reach.

    Members
    -------
    candidates : list of Buffer
        Tensors that may be resident.
    """

    def __init__(self, steps: Sequence[Step], wanted: Collection[Buffer], memories: Collection[int]):
        self._wanted, self._memories = {id(buffer) for buffer in wanted}, memories
        self._outputs: dict[int, list[Output]] = {}
        #: Of each tensor, tiles that read it and their pieces, and whether something else does.
        self._tiles: dict[int, dict[int, Tile]] = {}
        self._others: set[int] = set()
        #: First and last step that makes or reads each tensor.
        self._lives: dict[int, tuple[int, int]] = {}
        self._scan(steps)
        buffers = {id(buffer): buffer for each in self._outputs.values() for buffer in (each[0].target[0],)}
        self.candidates = [buffer for key, buffer in buffers.items() if self._tiles.get(key)]

    def _scan(self, steps: Sequence[Step]) -> None:
        groups: dict[int, Group] = {}
        for index, step in enumerate(steps):
            groups[id(step.group)] = step.group
            touched = [buffer for use in step.operands for buffer in self._note(use.tile)]
            for key in [*touched, *(id(output.target[0]) for output in step.group.outputs)]:
                self._lives[key] = self._lives.get(key, (index, 0))[0], index
        for group in groups.values():
            for output in group.outputs:
                self._outputs.setdefault(id(output.target[0]), []).append(output)
                for use in output.constants:
                    self._others |= {id(buffer) for piece in use.tile.pieces for buffer, _, _ in piece.sources}

    def _note(self, tile: Tile) -> Iterable[int]:
        """Note what a tile reads, and return it."""
        buffers = {id(buffer): buffer for piece in tile.pieces for buffer, _, _ in piece.sources}
        made = [key for key, buffer in buffers.items() if buffer.is_made]
        if len(buffers) == len(made) == 1 and tile.memory in self._memories:
            self._tiles.setdefault(made[0], {})[id(tile)] = tile
        else:
            self._others |= buffers.keys()
        return made

    def lives(self, buffer: Buffer) -> tuple[int, int]:
        """First and last step that makes or reads a tensor."""
        return self._lives[id(buffer)]

    def sizes(self, buffer: Buffer) -> dict[int, int]:
        """Bytes of all tiles that a tensor would stand in, by scratchpad."""
        found: dict[int, int] = {}
        for tile in self._tiles[id(buffer)].values():
            found[tile.memory] = found.get(tile.memory, 0) + tile.size
        return found

    def size(self, buffer: Buffer) -> int:
        """Bytes of all tiles that a tensor would stand in."""
        return sum(self.sizes(buffer).values())

    def keep(self, buffer: Buffer) -> None:
        """Let a tensor stay on chip."""
        key = id(buffer)
        tiles = [(tile, [piece for piece in tile.pieces if piece.sources]) for tile in self._tiles[key].values()]
        for output, moves in moves_between(self._outputs[key], tiles):
            output.moves.append(moves)
            moves.piece.awaited += 1
        for tile, pieces in tiles:
            tile.is_resident = True
            for piece in pieces:
                piece.loads, piece.sources = [body for body in piece.loads if body.get("fill")], []
        if key not in self._wanted | self._others:
            for output in self._outputs[key]:
                output.stores = []


class Price(NamedTuple):
    """What a program costs: cycles, and beats that go through memory, its own included."""

    cycles: float
    traffic: float = 0.0

    @property
    def total(self) -> float:
        """What is compared: a beat that memory is spared is worth a cycle."""
        return self.cycles + self.traffic


#: Of a program that cannot be.
NEVER = Price(float("inf"))


class Search:
    """Looks for tensors to keep on chip, with which a program is no slower than if none stayed.

    Parameters
    ----------
    wanted : collection of Buffer
        Those that must be in memory at the end.
    rooms : mapping of int to int
        Scratchpads that MOVEs reach, and their bytes.
    price : callable
        Price of a program of some steps.
    has_time : callable
        Whether more may be tried.
    """

    def __init__(self, wanted: Collection[Buffer], rooms: Mapping[int, int], price: Callable[[Sequence[Step]], Price],
                 has_time: Callable[[], bool]):
        self._wanted, self._rooms, self._price, self._has_time = wanted, rooms, price, has_time

    def arranged(self, steps: Sequence[Step], kept: Collection[Buffer]) -> list[Step]:
        """Steps anew, with some tensors on chip."""
        fresh = renewed(steps)
        tensors = Tensors(fresh, self._wanted, self._rooms)
        for buffer in tensors.candidates:
            if buffer in kept:
                tensors.keep(buffer)
        return fresh

    def price(self, steps: Sequence[Step], kept: Collection[Buffer]) -> Price:
        """Price of steps with some tensors on chip, without end if they have no room."""
        try:
            return self._price(self.arranged(steps, kept))
        except NoPlaceError:
            return NEVER

    def most(self, steps: Sequence[Step], usual: Price, must: Collection[Buffer] = ()) -> tuple[Price, list[Buffer]]:
        """As many tensors as can stay for no more cycles than is `usual`, `must` among them, and the price.

        Without any that must stay, the usual price is that of the steps with none on chip. What takes most room goes
        first where there is too little, then what costs most cycles.
        """
        tensors = Tensors(steps, self._wanted, self._rooms)
        kept = self._fitting(steps, tensors, must)
        while True:
            price, others = self.price(steps, kept), [buffer for buffer in kept if buffer not in must]
            if price.cycles <= usual.cycles or not others:
                return price, kept
            if not self._has_time():
                if not must:
                    return usual, []
                kept = [buffer for buffer in kept if buffer in must]
                return self.price(steps, kept), kept
            goes = others[-1]
            if price.cycles < NEVER.cycles and len(others) * len(steps) <= _FEW:
                goes = min(others, key=lambda buffer: self.price(steps, [each for each in kept if each is not buffer]))
            kept = [buffer for buffer in kept if buffer is not goes]

    def _fitting(self, steps: Sequence[Step], tensors: Tensors, must: Collection[Buffer]) -> list[Buffer]:
        """Tensors that stand beside one another, and beside what else a step needs, the smallest first; and `must`."""
        standing = {memory: np.zeros(len(steps), np.int64) for memory in self._rooms}
        for index, step in enumerate(steps):
            for tile in {id(use.tile): use.tile for use in step.operands}.values():
                standing[tile.memory][index] += tile.size
        kept = [buffer for buffer in tensors.candidates if buffer in must]
        for buffer in sorted(tensors.candidates, key=tensors.size):
            if buffer in must:
                continue
            (first, last), sizes = tensors.lives(buffer), tensors.sizes(buffer)
            if all((standing[memory][first:last + 1] + size <= self._rooms[memory]).all()
                   for memory, size in sizes.items()):
                kept.append(buffer)
                for memory, size in sizes.items():
                    standing[memory][first:last + 1] += size
        return kept
