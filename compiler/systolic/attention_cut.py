"""Fused attention cut into blocks of queries, and for each of them the blocks of keys that some of them see."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.systolic.accumulator import Accumulators
from ...hdl.systolic.config import SystolicConfig
from ..kernels.attention import Attention
from ..kernels.views import Buffer, View
from ..segments import Segment, moving_segments, seeing, segments

__all__ = ["AttentionLayer", "KeyBlock", "QueryBlock"]


@dataclass(frozen=True, eq=False)
class KeyBlock:
    """A block of as many keys as the array has columns, for a block of queries.

    Parameters
    ----------
    number, keys : int
        Which, and how many keys there are in it.
    rows : (int, int)
        First query that walks it, counted in their block, and that behind the last.
    is_first, is_last : bool
        Whether it is the first, or the last, for these queries.
    has_bias : bool
        Whether a mask adds to its scores.
    """

    number: int
    keys: int
    rows: tuple[int, int]
    is_first: bool
    is_last: bool
    has_bias: bool


@dataclass(frozen=True, eq=False)
class QueryBlock:
    """Queries of a head (:attr:`AttentionLayer.heads`) that are computed together, from number `start` on."""

    head: int
    start: int
    rows: int
    blocks: tuple[KeyBlock, ...]


class AttentionLayer:
    """A kernel of attention on a configuration.

    Members
    -------
    heads, shared, queries : int
        Heads that are computed one after another, how many of these that follow one another share keys, and queries of
        each. Heads that share keys may be taken for one, whose queries are those of all.
    tiles : int
        Tiles of columns of the values.
    parts : int
        Bytes of a numerator, which take a product each; 1 of floats.
    item : int
        Bytes of an operand.
    key_bytes, value_bytes : int
        Room of a block of keys, and of one of values with what is read behind the last.
    """

    def __init__(self, kernel: Attention, config: SystolicConfig):
        self.kernel, self.config = kernel, config
        ranks = kernel.ranks
        self.queries, self.keys, self.elements, self.width = (ranks[name] for name in "pmef")
        self.shared = ranks["h"]
        self.heads = kernel.groups * self.shared
        self.rows, self.cols, self.lanes = config.array.rows, config.array.cols, config.post.lanes
        self.tiles, self.parts, self.item = -(-self.width // self.cols), 1 + kernel.two_bytes, config.operand_bytes
        self.depth = config.accumulators.depth
        self.key_bytes = self._aligned(self.cols * self.elements * self.item)
        self.value_bytes = self._aligned(((self.cols - 1) * self.width + self.tiles * self.cols) * self.item)
        self._check()
        self._own = self.queries
        if self._stacks():
            self.queries, self.heads, self.shared = self.queries * self.shared, kernel.groups, 1
        self._low, self._high = (each.reshape(self.heads, self.queries) for each in (kernel.low, kernel.high))

    def _stacks(self) -> bool:
        """Whether heads that share keys are as one of more queries: if all see the same, or have few."""
        kernel = self.kernel
        see_the_same = not kernel.low.any() and (kernel.high == kernel.high[:, :1]).all()
        return bool(see_the_same) or 2 * self.queries <= self.depth // max(self.tiles, 2)

    def _aligned(self, size: int) -> int:
        beat = self.config.beat_bytes
        return -(-size // beat) * beat

    def _check(self) -> None:
        pads, name = self.config.scratchpads, self.kernel.name
        for key, least, given, what in (
                ("scratchpads.weight_bytes", self.key_bytes + self.value_bytes, pads.weight_bytes,
                 "a block of keys and one of values"),
                ("scratchpads.output_bytes", self.pitch + self.line, pads.output_bytes, "a row of outputs"),
                ("accumulators.depth", self.tiles, self.depth, "a row of outputs"),
                ("scratchpads.activation_bytes", self._room(1, 1), pads.activation_bytes,
                 "a query and its numerators"),
                ("scratchpads.channels", self.cols if self.kernel.mask is not None else 1, pads.channels,
                 "a row of masks")):
            if given < least:
                raise PearrayError(f"{name}: {key} must be at least {least} to hold {what}, not {given}")

    @property
    def numerators(self) -> int:
        """Bytes of a row of numerators."""
        return self.cols * self.item

    @property
    def pitch(self) -> int:
        """Bytes of a row of outputs in the output scratchpad."""
        return self.tiles * self.cols * self.item

    @property
    def line(self) -> int:
        """Bytes of which places in the output scratchpad are multiples."""
        return self.lanes * self.config.sum_bytes

    @property
    def slots(self) -> int:
        """Blocks of keys, and of values, for which there is room."""
        return self.config.scratchpads.weight_bytes // (self.key_bytes + self.value_bytes)

    @property
    def stays(self) -> bool:
        """Whether all keys and values of a head stay on chip."""
        return -(-self.keys // self.cols) <= self.slots

    def numerator_bytes(self, rows: int) -> int:
        """Room of a block of numerators."""
        return self._aligned(rows * self.numerators * self.parts)

    def query_bytes(self, rows: int) -> int:
        """Room of a block of queries."""
        return self._aligned(rows * self.elements * self.item)

    def standing(self, rows: int, blocks: int) -> int:
        """How many of some blocks of queries stand at a time: two if there is room, so that the next comes early."""
        return 2 if blocks > 1 and self._room(rows, 2) <= self.config.scratchpads.activation_bytes else 1

    def _room(self, rows: int, blocks: int) -> int:
        """Activations of so many blocks of queries, and of two blocks of numerators."""
        return blocks * self.query_bytes(rows) + 2 * self.numerator_bytes(rows)

    @cached_property
    def most_rows(self) -> int:
        """Most queries of a block: two blocks of scores, and all outputs, must stand in a bank each."""
        rows = min(self.queries, max(1, self.depth // 2), self.depth // self.tiles)
        blocks = 1 if self.heads == 1 and rows == self.queries else 2
        while rows > 1 and self._room(rows, blocks) > self.config.scratchpads.activation_bytes:
            rows -= 1
        return rows

    def query_blocks(self, most: int, last: int = 0) -> list[QueryBlock]:
        """Blocks of at most `most` queries of all heads, about equal; the very last has `last` if that is not 0."""
        found = []
        for head in range(self.heads):
            rest = self.queries - (last if head == self.heads - 1 else 0)
            count = -(-rest // most)
            cuts = [rest * index // count for index in range(count + 1)] if count else [0]
            cuts += [self.queries] * (rest < self.queries)
            found += [QueryBlock(head, start, end - start, self._key_blocks(head, start, end))
                      for start, end in pairwise(cuts)]
        return found

    def runs(self, view: View, head: int, first: int, rows: int) -> Iterator[tuple[int, int]]:
        """Queries of a head, or their outputs, from number `first` on: how many stand at one distance, and the element.

        Heads that are taken for one may stand elsewhere than its queries would.
        """
        group, inner = divmod(head, self.shared)
        joined = view.stride("h") == self._own * view.stride("p")
        at, end = first, first + rows
        while at < end:
            index, place = divmod(at, self._own)
            count = end - at if joined else min(end - at, self._own - place)
            yield count, self.kernel.element(view, group, h=inner + index, p=place)
            at += count

    def _key_blocks(self, head: int, start: int, end: int) -> tuple[KeyBlock, ...]:
        """Blocks of keys that some of the queries see, or the first one if there is none, for a row of zeros."""
        if self.kernel.position is not None:
            # Which of them are seen a run tells.
            count = -(-self.kernel.reach // self.cols)
            return tuple(KeyBlock(number, min(self.cols, self.keys - number * self.cols), (0, end - start),
                                  number == 0, number == count - 1, self.kernel.mask is not None)
                         for number in range(count))
        low, high = self.bounds(head, start, end)
        found: list[tuple[int, int, int, bool]] = []
        is_given = self.kernel.mask is not None and isinstance(self.kernel.mask.values, Buffer)
        for number in range(-(-self.keys // self.cols)):
            first = number * self.cols
            mask = self.mask(head, start, end, number)
            hidden = () if self.kernel.mask is None else (self.kernel.mask.hidden,)
            seen = seeing(low, high, first, self.cols, mask, *hidden)
            at = np.flatnonzero(seen)
            if at.size:
                found.append((number, int(at[0]), int(at[-1]) + 1,
                              is_given or (mask is not None and bool(mask.any()))))
        found = found or [(0, 0, end - start, self.kernel.mask is not None)]
        blocks: list[KeyBlock] = []
        for index, (number, first, stop, biased) in enumerate(found):
            rows = self._apart(blocks[-1].rows, first, stop) if blocks else (0, end - start)
            blocks.append(KeyBlock(number, min(self.cols, self.keys - number * self.cols), rows, index == 0,
                                   index == len(found) - 1, biased))
        return tuple(blocks)

    def _apart(self, before: tuple[int, int], first: int, end: int) -> tuple[int, int]:
        """Rows of a block, some more if its first ones would otherwise come too soon behind those of the one before.

        The array adds to a row that it has added to in the tile before only if that was some cycles ago.
        """
        period = Accumulators.period_of(self.config.arithmetic)
        if before[0] < first < before[1] < first + period:
            first = max(before[0], before[1] - period)
        return first, end

    def bounds(self, head: int, start: int, end: int) -> Sequence[np.ndarray]:
        """First key that each of some queries sees, and that behind the last."""
        return self._low[head, start:end], self._high[head, start:end]

    def mask(self, head: int, start: int, end: int, number: int) -> np.ndarray | None:
        """What is known of a mask of some queries and a block of keys, (rows, keys), or None."""
        mask = self.kernel.mask
        rows = head * self.queries + np.arange(start, end)
        return None if mask is None else mask.known(rows, number * self.cols, (number + 1) * self.cols)

    def segments(self, query: QueryBlock, block: KeyBlock) -> list[Segment]:
        """Rows of a block of scores, as POSTs take them."""
        first, end = (query.start + row for row in block.rows)
        if self.kernel.position is not None:
            low, high = (each - block.number * self.cols for each in self.bounds(query.head, first, end))
            return [*moving_segments(low if self.kernel.slides else None, high)]
        low, high = (np.clip(each - block.number * self.cols, 0, block.keys)
                     for each in self.bounds(query.head, first, end))
        return [*segments(low, high, self.cols)]
