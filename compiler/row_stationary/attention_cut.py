"""Fused attention on a row-stationary array: products as passes, and blocks of queries with the keys that they see."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.row_stationary.config import RowStationaryConfig
from ..kernels.attention import Attention
from ..kernels.views import Buffer
from ..segments import Segment, moving_segments, seeing, segments
from .setup import Placement, setup_size

__all__ = ["AttentionLayer", "Form", "KeyBlock", "QueryBlock"]

#: A step of filters that fields do not hold, and channels of a line.
_MOST_STEP, _LINE = 1 << 16, 8

#: Queries of a block for which forms are compared.
_TYPICAL_ROWS = 80
#: Blocks of queries, and of outputs, that may have a place in the global buffer, the best first if rows are as many.
_PLACES = (2, 2), (1, 2), (2, 1), (1, 1)


@dataclass(frozen=True)
class Form:
    """How a product becomes passes: for each chunk of filters one for each part of the contraction.

    Parameters
    ----------
    r, q : int
        Sets of channels above one another, and channels of each.
    t, p : int
        Chains beside one another, and filters of each.
    parts, chunks : int
        Parts of the contraction, and chunks of filters.
    lanes : int
        Sums of a line.
    by_line : bool
        Whether filters are sent in lines of 8 channels, not word by word.
    """

    r: int
    q: int
    t: int
    p: int
    parts: int
    chunks: int
    lanes: int
    by_line: bool = False

    @property
    def depth(self) -> int:
        """Channels of a pass."""
        return self.r * self.q

    @property
    def width(self) -> int:
        """Filters of a pass."""
        return self.t * self.p

    @property
    def psum_lines(self) -> int:
        """Lines of the sums of a query in a pass; all of their words are sums."""
        return self.width // self.lanes

    @property
    def filter_cycles(self) -> int:
        """Cycles in which PEs are sent filters, in all passes over a block of queries."""
        return self.parts * self.chunks * self.depth * self.width // (_LINE if self.by_line else 1)

    @property
    def cycles(self) -> int:
        """Cycles of a query: of products, of words on the network of ifmaps, or of lines that are written."""
        return self.parts * self.chunks * max(self.p * self.q, self.depth, self.psum_lines)

    @property
    def placement(self) -> Placement:
        """Sets of PEs."""
        return Placement(1, 1, 1, self.t, self.r, 0, 0)


@dataclass(frozen=True, eq=False)
class KeyBlock:
    """A block of keys for a block of queries, whether it is their first or last, and whether a mask adds to it."""

    number: int
    keys: int
    is_first: bool
    is_last: bool
    has_bias: bool


@dataclass(frozen=True, eq=False)
class QueryBlock:
    """Queries of a head that are computed together, from number `start` on, and the blocks of keys that they see."""

    head: int
    start: int
    rows: int
    blocks: tuple[KeyBlock, ...]


class AttentionLayer:
    """A kernel of attention on a configuration.

    Members
    -------
    heads, shared, queries, keys, elements, width : int
        Heads, how many that follow one another share keys, and sizes of each.
    block, parts : int
        Keys of a block, and bytes of a numerator.
    scores, values : Form
        Products of queries and keys, and of numerators and values, by the same sets of PEs.
    key_lines, value_lines : int
        Lines of the filter buffer of a block of keys, and of values, with what passes read behind them.
    slots : int
        Blocks of keys, and of values, that have a place.
    query_places, output_places : int
        Blocks of queries, and of outputs, that have one in the global buffer.
    most_rows : int
        Most queries of a block; states and shifts of two have room.

    Raises
    ------
    PearrayError
        If the memories can't hold the smallest blocks.
    """

    def __init__(self, kernel: Attention, config: RowStationaryConfig):
        self.kernel, self.config, ranks = kernel, config, kernel.ranks
        self.queries, self.keys, self.elements, self.width = (ranks[name] for name in "pmef")
        self.heads, self.shared = kernel.groups * ranks["h"], ranks["h"]
        self.block = config.score_columns
        self._low, self._high = (each.reshape(self.heads, self.queries) for each in (kernel.low, kernel.high))
        self.parts = 1 + kernel.two_bytes
        self.scores, self.values, self.slots = self._choose()
        self.key_lines = self._matrix_lines(self.scores, self.elements, 1)
        self.value_lines = self._matrix_lines(self.values, 1, self.width)
        self._check()
        self.query_places, self.output_places = min(_PLACES, key=lambda places: self._price(*places))
        self.most_rows = self._most_rows(self.query_places, self.output_places)

    def _forms(self, r: int, t: int, depth: int, width: int, is_exact: bool, by_line: bool) -> Iterator[Form]:
        """Ways to contract `depth` channels with `width` filters by some chains of some sets.

        If sums of a query must stand together, filters beyond the last are allowed only in passes that nothing else
        adds to: the next query writes over them.
        """
        pe, lanes = self.config.pe, self.config.psum_lanes
        # Rows of keys, whose sums stand together, have channels side by side; whole lines of them can be sent.
        unit = _LINE if by_line else 1
        if pe.ifmap_words < unit or depth % unit:
            return
        parts = -(-depth // (r * (pe.ifmap_words // unit * unit)))
        q = -(-depth // (r * parts * unit)) * unit
        for p in range(lanes, min(pe.psum_words, pe.filter_words // q, -(-width // t) + lanes) + 1, lanes):
            chunks = -(-width // (t * p))
            if not is_exact or chunks * t * p == width or parts == chunks == 1:
                yield Form(r, q, t, p, parts, chunks, lanes, by_line)

    def _matrix_lines(self, form: Form, filter_step: int, channel_step: int) -> int:
        """Lines of a matrix of filters, with what passes read behind it."""
        words = ((form.width * form.chunks - 1) * filter_step + (form.depth * form.parts - 1) * channel_step + 1)
        return -(-words // self.config.line_bytes)

    def _choose(self) -> tuple[Form, Form, int]:
        """Take the forms of fewest cycles, then of fewest words, whose matrices have room, twice if they can."""
        config = self.config
        room = config.filter_lines - setup_size(config)
        found: list[tuple[int, int, int, Form, Form]] = []
        for r in range(-(-self.block // config.pe.ifmap_words), config.array.rows + 1):
            for t in range(1, config.array.rows // r * config.array.cols + 1):
                keys = [form for by_line in (False, True)
                        for form in self._forms(r, t, self.elements, self.block, True, by_line)]
                for scores in keys:
                    for values in self._forms(r, t, self.block, self.width, False, False):
                        lines = (self._matrix_lines(scores, self.elements, 1)
                                 + self._matrix_lines(values, 1, self.width))
                        slots = min(2, room // lines)
                        cycles = self._cycles(scores, values, min(self.queries, _TYPICAL_ROWS))
                        words = scores.filter_cycles + values.filter_cycles
                        steps = max(values.q * self.width, scores.p * self.elements)
                        if slots and steps < _MOST_STEP:
                            found.append((-slots, cycles, words, scores, values))
        if not found:
            raise PearrayError(f"{self.kernel.name}: global_buffer.filter_banks must be more than "
                               f"{config.global_buffer.filter_banks} to hold a block of keys and one of values")
        slots, _, _, scores, values = min(found, key=lambda each: each[:3])
        return scores, values, -slots

    def _cycles(self, scores: Form, values: Form, rows: int) -> int:
        """Cycles from a product AV to the next, about, for blocks of some queries.

        Filters of QK come when softmax has read the scores before, those of AV behind them.
        """
        keys = rows * self.score_lines + scores.filter_cycles
        return max(max(self.parts * rows * values.cycles, keys) + rows * scores.cycles, keys + values.filter_cycles)

    def _price(self, queries: int, outputs: int) -> float:
        """Cycles of all products, about, if so many blocks of queries, and of outputs, have a place.

        Without a second one of outputs, the first AV of a block waits until the outputs before have been read, and
        then for its filters, beside the QK before it. Queries come while softmax reads scores.
        """
        most = self._most_rows(queries, outputs)
        if not most:
            return float("inf")
        scores, values, count = self.scores, self.values, -(-self.queries // most)
        rows = -(-self.queries // count)
        first = rows * self.sum_lines + values.depth * values.width - rows * scores.cycles
        return (self.heads * count * -(-self.keys // self.block) * self._cycles(scores, values, rows)
                + (self.heads * count - 1) * max(0, first) * (outputs == 1))

    def _check(self) -> None:
        pads, name = self.config.scratchpads, self.kernel.name
        row = max(self.block, self.output_pitch)
        for key, least, given, what in (
                ("scratchpads.output_bytes", 2 * row, pads.output_bytes, "two rows of numerators or of outputs"),
                ("scratchpads.channels", self.block if self.kernel.mask is not None else 1, pads.channels,
                 "a row of masks"),
                ("global_buffer.banks * global_buffer.bank_lines", self._lines(1, 1, 1), self.config.buffer_lines,
                 "a query with its scores, numerators and outputs")):
            if given < least:
                raise PearrayError(f"{name}: {key} must be at least {least} to hold {what}, not {given}")

    # Lines of the global buffer.

    @property
    def query_pitch(self) -> int:
        """Bytes of a query: channels beyond the last are zero."""
        return self.scores.depth * self.scores.parts

    @property
    def numerator_pitch(self) -> int:
        """Bytes of the numerators of a query: channels beyond the last are zero."""
        return self.values.depth

    def query_lines(self, rows: int) -> int:
        """Lines of a block of queries."""
        return -(-rows * self.query_pitch // self.config.line_bytes)

    def numerator_lines(self, rows: int) -> int:
        """Lines of a block of numerators, of one of their bytes."""
        return -(-rows * self.numerator_pitch // self.config.line_bytes)

    @property
    def score_lines(self) -> int:
        """Lines of the scores of a query."""
        return self.block // self.config.psum_lanes

    @property
    def sum_lines(self) -> int:
        """Lines of the outputs of a query."""
        return self.values.psum_lines * self.values.chunks

    @property
    def output_pitch(self) -> int:
        """Bytes of a row of outputs in the output scratchpad."""
        lanes = self.config.psum_lanes
        return -(-self.width // lanes) * lanes

    def _lines(self, rows: int, queries: int, outputs: int) -> int:
        """Lines of blocks of queries, of two of numerators, of scores, with what is beyond, and of outputs."""
        beyond = self.scores.psum_lines * self.scores.chunks - self.score_lines
        return (queries * self.query_lines(rows) + 2 * self.parts * self.numerator_lines(rows)
                + rows * self.score_lines + max(beyond, 0) + outputs * rows * self.sum_lines)

    def _most_rows(self, queries: int, outputs: int) -> int:
        """Most queries of a block if so many of queries and outputs have a place; 0 if not even one has."""
        rows = min(self.queries, self.config.score_rows // 2)
        while rows and self._lines(rows, queries, outputs) > self.config.buffer_lines:
            rows -= 1
        return rows

    # Blocks.

    def query_blocks(self) -> list[QueryBlock]:
        """Blocks of queries of all heads, about equal."""
        count = -(-self.queries // self.most_rows)
        cuts = [self.queries * index // count for index in range(count + 1)]
        return [QueryBlock(head, start, end - start, self._key_blocks(head, start, end))
                for head in range(self.heads) for start, end in pairwise(cuts)]

    def _key_blocks(self, head: int, start: int, end: int) -> tuple[KeyBlock, ...]:
        """Blocks of keys that some of the queries see, or the first one if there is none, for rows of zeros."""
        if self.kernel.position is not None:
            # Which of them are seen a run tells.
            found = [(number, self.kernel.mask is not None) for number in range(-(-self.kernel.reach // self.block))]
            return self._listed(found)
        low, high = self._bounds(head, start, end)
        found = []
        is_given = self.kernel.mask is not None and isinstance(self.kernel.mask.values, Buffer)
        for number in range(-(-self.keys // self.block)):
            first = number * self.block
            mask = self.mask(head, start, end, number)
            seen = seeing(low, high, first, self.block, mask)
            if seen.any():
                found.append((number, is_given or (mask is not None and bool(mask.any()))))
        return self._listed(found or [(0, self.kernel.mask is not None)])

    def _listed(self, found: list[tuple[int, bool]]) -> tuple[KeyBlock, ...]:
        """Blocks of keys by their numbers, and whether masks add to them."""
        return tuple(KeyBlock(number, min(self.block, self.keys - number * self.block), index == 0,
                              index == len(found) - 1, has_bias) for index, (number, has_bias) in enumerate(found))

    def _bounds(self, head: int, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        return self._low[head, start:end], self._high[head, start:end]

    def mask(self, head: int, start: int, end: int, number: int) -> np.ndarray | None:
        """What is known of a mask of some queries and a block of keys, (rows, keys), or None."""
        mask = self.kernel.mask
        rows = head * self.queries + np.arange(start, end)
        return None if mask is None else mask.known(rows, number * self.block, (number + 1) * self.block)

    def segments(self, query: QueryBlock, block: KeyBlock) -> list[Segment]:
        """Rows of a block of scores, as POSTs take them."""
        if self.kernel.position is not None:
            low, high = (each - block.number * self.block
                         for each in self._bounds(query.head, query.start, query.start + query.rows))
            return [*moving_segments(low if self.kernel.slides else None, high)]
        low, high = (np.clip(each - block.number * self.block, 0, block.keys)
                     for each in self._bounds(query.head, query.start, query.start + query.rows))
        return [*segments(low, high, self.block)]
