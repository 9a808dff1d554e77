"""Outputs of fused attention: where sums stand in the accumulators, and when they are normalised and stored."""

from collections import deque
from collections.abc import Sequence

from ...hdl.shell.commands import Opcode
from ..hazards import Hazards, Region
from ..places import Ring
from ..transfers import block
from .attention_bodies import normalise_body
from .attention_cut import AttentionLayer
from .attention_loads import Queries

__all__ = ["Outputs"]

#: Parts into which the outputs of the very last block of queries are cut, so that they are soon stored.
_LAST_PARTS = 4

#: Cycles that a POST needs beside its groups, about, before the array may add to the bank that it has read.
_AROUND = 80


class Outputs:
    """Emits the POSTs and STOREs of outputs.

    All are normalised as soon as they stand, tile by tile, as the array may write over them. Or, with `spreads`, where
    there is room for the outputs of two blocks of queries, part by part, each under a product QK of the next block.

    Parameters
    ----------
    queries : sequence of Queries
        Blocks of queries, in order.
    scratchpad : Ring
        Places in the output scratchpad.
    spreads : bool
        Whether parts are normalised one after each product.

    Members
    -------
    states : Ring
        Places of states and quotients of blocks of queries, given back when their outputs have been normalised.
    """

    def __init__(self, layer: AttentionLayer, hazards: Hazards, queries: Sequence[Queries], scratchpad: Ring,
                 spreads: bool):
        self._layer, self._hazards, self._queries, self._scratchpad = layer, hazards, queries, scratchpad
        self._spreads = spreads
        self._sums, self.states = Ring(layer.depth), Ring(layer.depth)
        #: Parts that have yet to be normalised: queries, first row, and that behind the last.
        self._left: deque[tuple[Queries, int, int]] = deque()

    def place(self, query: Queries) -> None:
        """Give the outputs of a block of queries their place."""
        size = self._layer.tiles * query.block.rows
        if not self._sums.has_room(size):
            self.flush()
        query.sums = self._sums.take(size)

    def finish(self, query: Queries) -> None:
        """Note that all sums of a block of queries have been emitted."""
        self.flush()
        layer, rows = self._layer, query.block.rows
        is_last = query is self._queries[-1]
        most = max(self._scratchpad.capacity // 2 // layer.pitch, 1)
        if is_last:
            most = max(min(most, -(-rows // _LAST_PARTS)), 1)
        elif self._may_spread(query):
            most = min(most, self._under_scores(query))
        elif rows <= most:
            self._normalise(query, 0, rows, [(tile, tile + 1) for tile in range(layer.tiles)])
            return
        self._left.extend((query, first, min(first + most, rows)) for first in range(0, rows, most))
        if is_last or not self._may_spread(query):
            self.flush()

    def _may_spread(self, query: Queries) -> bool:
        """Whether there is time to normalise outputs while the next block of queries goes on."""
        return self._spreads and self._sums.has_room(self._layer.tiles * self._queries[query.number + 1].block.rows)

    def _under_scores(self, query: Queries) -> int:
        """Rows that can be normalised under a product QK of the block of queries that follows."""
        layer, following = self._layer, self._queries[query.number + 1].block.rows
        window = following * -(-layer.elements // layer.rows)
        each = layer.tiles * (layer.cols // layer.lanes)
        return max(max(window - _AROUND, window // 2) // each, 1)

    def go_on(self) -> None:
        """Normalise a part of what is left, behind a product AV."""
        if self._left:
            query, first, end = self._left.popleft()
            self._normalise(query, first, end, [(0, self._layer.tiles)])

    def flush(self) -> None:
        """Normalise all that is left."""
        while self._left:
            self.go_on()

    def _normalise(self, query: Queries, first: int, end: int, cuts: Sequence[tuple[int, int]]) -> None:
        """Emit the POSTs of some rows of outputs, one for each range of tiles, and their STORE."""
        layer, rows = self._layer, query.block.rows
        pitch = layer.pitch
        size = (end - first) * pitch
        place = self._scratchpad.take(size)
        self._scratchpad.give_back()
        region = Region("output", place, place + size)
        for cut in cuts:
            body = normalise_body(rows=end - first, tiles=cut, row=query.sums + first, tile_rows=rows,
                                  quotients=query.state + first, out_base=place, tile_bytes=layer.numerators,
                                  pitch=pitch, bounds=None if layer.kernel.is_float else (-128, 127))
            reads = [Region("sums 1", query.sums + tile * rows + first, query.sums + tile * rows + end)
                     for tile in range(*cut)]
            self._hazards.emit(Opcode.POST, body, [*reads, Region("port 1", 0, 1)], [region])
        view, at = layer.kernel.y.view, place
        for count, element in layer.runs(view, query.block.head, query.block.start + first, end - first):
            body = block(dram=view.buffer.address + element * layer.item, address=at, length=layer.width * layer.item,
                         dims=[(count, view.stride("p") * layer.item, pitch)])
            self._hazards.emit(Opcode.STORE, body, reads=[region])
            at += count * pitch
        if end == rows:
            self._sums.give_back()
            self.states.give_back()
