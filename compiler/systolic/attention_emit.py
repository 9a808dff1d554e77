"""Commands of fused attention, in an order that keeps the array at work, each with the waits that its regions make.

Products of queries and keys, QK, and of numerators and values, AV, take turns, so that softmax of a block of scores
runs under the products that follow it: QK0, QK1, AV0, QK2, AV1, ... and straight on into the next block of queries and
the next head. Scores stand in bank 0 of the accumulators, outputs in bank 1. Post-processing can't read a bank to which
the array adds, but can while the array only writes over others of its rows, as the first tile of elements does.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from ...hdl.shell.commands import Opcode, Parameter
from ...hdl.systolic.commands import Destination
from ..placement import MemoryPlan
from ..program import Program
from ..transfers import block
from .attention_bodies import moved, normalise_body, numerators_body, scores_body, values_body
from .attention_cut import AttentionLayer, KeyBlock, QueryBlock
from .hazards import Hazards, Region
from .places import Ring, Tiles

__all__ = ["Emission", "emit"]

_ACTIVATION, _WEIGHT = Destination.ACTIVATION.value, Destination.WEIGHT.value
_BIAS, _SCALE = Parameter.BIAS.value, Parameter.SCALE.value

#: Rows of the shortest part of a block of scores that a POST takes, if it is cut for the sake of an early MOVE.
_LEAST_PART = 16

#: Parts at least of the very last block of scores.
_LAST_PARTS = 3


@dataclass(frozen=True)
class Emission:
    """What may be chosen about the order.

    Parameters
    ----------
    lead : int
        Products QK by which they may be ahead of AV, where there is room.
    strip : int
        Queries of each EXECUTE of the very first products, which begin before all queries have come; 0 for all.
    parts : int
        Parts into which POSTs cut a block of scores at most, each half as long as the one before.
    ahead : int
        Blocks of keys and values that are loaded ahead.
    """

    lead: int = 2
    strip: int = 32
    parts: int = 4
    ahead: int = 2


@dataclass(eq=False)
class _Queries:
    """A block of queries on its way, and its number: where its queries, its states and its outputs stand."""

    number: int
    block: QueryBlock
    activation: int = -1
    state: int = -1
    sums: int = -1
    #: Parts of the queries that have yet to be loaded: first row, and that behind the last.
    left: deque[tuple[int, int]] = field(default_factory=deque)


@dataclass(eq=False)
class _Product:
    """A block of keys of a block of queries: where its numerators and shifts stand."""

    query: _Queries
    keys: KeyBlock
    numerators: int = -1
    shifts: int = -1

    @property
    def rows(self) -> int:
        return self.keys.rows[1] - self.keys.rows[0]

    @property
    def start(self) -> int:
        """First query, counted in the whole head."""
        return self.query.block.start + self.keys.rows[0]


class _Emitter:
    """Emits the commands of some blocks of queries."""

    def __init__(self, layer: AttentionLayer, blocks: Sequence[QueryBlock], choice: Emission, plan: MemoryPlan):
        self._layer, self._choice, self._plan = layer, choice, plan
        self.program = Program(layer.config.commands)
        self._hazards = Hazards(self.program)
        self._queries = [_Queries(number, block) for number, block in enumerate(blocks)]
        self._products = [_Product(query, keys) for query in self._queries for keys in query.block.blocks]
        uses = [(product.query.block.head // layer.shared, product.keys.number) for product in self._products]
        self._keys, self._values = Tiles(uses, layer.slots), Tiles(uses, layer.slots)
        most, pads, depth = max(block.rows for block in blocks), layer.config.scratchpads, layer.depth
        beat = layer.config.beat_bytes
        # Blocks of numerators, then queries.
        room = min((choice.lead + 1) * layer.numerator_bytes(most),
                   pads.activation_bytes - layer.query_bytes(most) * min(2, len(blocks)))
        self._numerators, self._first_query = Ring(room // beat * beat, beat), room // beat * beat
        self._activations = Ring(pads.activation_bytes - self._first_query, beat)
        self._scores, self._shifts, self._states, self._sums = (Ring(depth) for _ in range(4))
        self._outputs = Ring(pads.output_bytes // layer.line * layer.line, layer.line)
        self._biases = Ring(pads.channels // layer.cols)
        self._next_query = 0
        self._scale = -1
        #: Block of scores whose POSTs have not been emitted, and where it stands.
        self._held: tuple[_Product, int, int] | None = None

    def run(self) -> Program:
        """Emit all."""
        scores = values = 0
        while values < len(self._products):
            if scores < len(self._products) and scores - values <= self._choice.lead and self._has_room(scores):
                self._emit_scores(scores, values)
                scores += 1
            else:
                self._emit_values(values, scores)
                values += 1
        return self.program

    def _has_room(self, index: int) -> bool:
        """Whether there is room for what a product QK makes, and for its queries."""
        product, layer = self._products[index], self._layer
        if not (self._numerators.has_room(layer.numerator_bytes(product.rows)) and self._shifts.has_room(product.rows)):
            return False
        query = product.query
        if not product.keys.is_first:
            return True
        return (self._states.has_room(query.block.rows)
                and (query.activation >= 0 or self._activations.has_room(layer.query_bytes(query.block.rows))))

    # Loads.

    def _place_queries(self) -> None:
        """Give the next block of queries its place, if there is room."""
        if self._next_query == len(self._queries):
            return
        query = self._queries[self._next_query]
        size = self._layer.query_bytes(query.block.rows)
        if self._activations.has_room(size):
            query.activation = self._first_query + self._activations.take(size)
            rows = query.block.rows
            # In strips the first ones meet the array as they come; the others come a strip with each product.
            strip = self._choice.strip or rows
            cuts = [*range(0, rows, strip)]
            # The last strip is not shorter than the others.
            cuts = [*(cuts[:-1] if len(cuts) > 1 and rows - cuts[-1] < strip else cuts), rows]
            query.left.extend(pairwise(cuts))
            self._next_query += 1

    def _load_queries(self, query: _Queries) -> tuple[int, int]:
        """Load the next part of a block of queries, and return its rows."""
        layer, view = self._layer, self._layer.kernel.q.view
        first, end = query.left.popleft()
        start = (query.block.head * layer.queries + query.block.start + first) * layer.elements
        length, address = (end - first) * layer.elements, query.activation + first * layer.elements
        self._hazards.emit(
            Opcode.LOAD, {"destination": _ACTIVATION} | block(dram=view.address + start, address=address, length=length,
                                                              dims=[]),
            writes=[Region("activation", address, address + length)])
        return first, end

    def _load_tile(self, tiles: Tiles, index: int, done: int) -> bool:
        """Load the block of keys or values that a product needs, if it does not stand; return whether it stands."""
        if tiles.place(index) is not None:
            return True
        place = tiles.make_room(index, done)
        if place is None:
            return False
        layer, product, is_keys = self._layer, self._products[index], tiles is self._keys
        view, width = (layer.kernel.k.view, layer.elements) if is_keys else (layer.kernel.v.view, layer.width)
        head = product.query.block.head // layer.shared
        start = (head * layer.keys + product.keys.number * layer.cols) * width
        region = self._tile(tiles, place)
        body = block(dram=view.address + start, address=region.first, length=product.keys.keys * width, dims=[])
        self._hazards.emit(Opcode.LOAD, {"destination": _WEIGHT} | body, writes=[region])
        return True

    def _tile(self, tiles: Tiles, place: int) -> Region:
        """Where a block of keys, or of values, stands."""
        layer = self._layer
        first, size = (place * layer.key_bytes, layer.key_bytes) if tiles is self._keys else (
            layer.slots * layer.key_bytes + place * layer.value_bytes, layer.value_bytes)
        return Region("weight", first, first + size)

    def _load_ahead(self, scores: int, values: int) -> None:
        """Load what the next products need, of which so many have been emitted."""
        # At the beginning all wait for the first ones.
        for ahead in range(self._choice.ahead if values else 1):
            for tiles, index, done in ((self._keys, scores + ahead, scores - 1), (self._values, values + ahead,
                                                                                  values - 1)):
                if index < len(self._products):
                    self._load_tile(tiles, index, done)

    # Products of queries and keys, and softmax.

    def _emit_scores(self, index: int, values: int) -> None:
        """Emit a product QK, when so many AV have been, and the POSTs and MOVEs of its numerators."""
        product, layer = self._products[index], self._layer
        query = product.query
        if query.activation < 0:
            self._place_queries()
        if product.keys.is_first:
            query.state = self._states.take(query.block.rows)
        if not self._load_tile(self._keys, index, index - 1):
            raise AssertionError("no room for a block of keys")
        product.numerators = self._numerators.take(layer.numerator_bytes(product.rows))
        product.shifts = self._shifts.take(product.rows)
        # Nothing adds to the other bank yet, so that softmax of the first block need not wait for the second product.
        bank = int(index == 0)
        row = 0 if bank else self._scores.take(product.rows)
        self._execute_scores(product, index, bank, row)
        self._keys.use(index)
        if product.keys.is_last:
            self._activations.give_back()
        self._load_scale()
        self._load_ahead(index + 1, values)
        if values:
            following = self._queries[-1 if query is self._queries[-1] else query.number + 1]
            if following.activation < 0:
                self._place_queries()
            if following.left:
                self._load_queries(following)
        self._emit_held()
        self._held = product, bank, row
        if not bank or len(self._products) == 1:
            self._emit_held()

    def _emit_held(self) -> None:
        """Emit the POSTs and MOVEs of the last block of scores, but those of the first one behind the next EXECUTEs."""
        if self._held is None:
            return
        (product, bank, row), self._held = self._held, None
        for first, end in self._parts(product):
            self._emit_part(product, bank, row, first, end)
        if not bank:
            self._scores.give_back()

    def _execute_scores(self, product: _Product, index: int, bank: int, row: int) -> None:
        layer, query, elements = self._layer, product.query, self._layer.elements
        first, end = product.keys.rows
        # The first tile of elements writes over what stands, and need not wait for POSTs that read the bank.
        cuts = [(0, elements)] if query.left or elements <= layer.rows else [(0, layer.rows), (layer.rows, elements)]
        strips = [(first, end)]
        if query.left:
            strips = []
        while query.left or strips:
            start, stop = self._load_queries(query) if query.left else strips.pop()
            for cut in cuts:
                self._execute_strip(product, index, bank, row, (start, stop), cut)

    def _execute_strip(self, product: _Product, index: int, bank: int, row: int, strip: tuple[int, int],
                       cut: tuple[int, int]) -> None:
        """Emit an EXECUTE of some queries and some of their elements."""
        layer, elements, (start, stop) = self._layer, self._layer.elements, strip
        place = self._keys.place(index)
        assert place is not None
        keys, base = self._tile(self._keys, place), product.query.activation + start * elements
        at = row + start - product.keys.rows[0]
        writes = [Region(f"sums {bank}", at, at + stop - start)]
        if cut[1] > layer.rows:
            writes.append(Region(f"port {bank}", 0, 1))
        self._hazards.emit(
            Opcode.EXECUTE, scores_body(rows=stop - start, elements=cut, pitch=elements, a_base=base, w_base=keys.first,
                                        row=at, bank=bank),
            reads=[Region("activation", base, base + (stop - start) * elements), keys], writes=writes)

    def _load_scale(self) -> None:
        """Load the factor of scores, once."""
        if self._scale >= 0:
            return
        lanes = self._layer.lanes
        entry = np.zeros((lanes, 2), np.float32)
        entry[:, 0] = self._layer.kernel.scale
        data = entry.tobytes()
        address = self._plan.constant(self._layer.kernel.name, len(data), lambda: data, key=("scale", data))
        self._scale = 0
        self._hazards.emit(Opcode.LOAD, {"destination": _SCALE} | block(dram=address, address=0, length=len(data),
                                                                        dims=[]), writes=[Region("scale", 0, 1)])

    def _parts(self, product: _Product) -> Iterator[tuple[int, int]]:
        """Rows of a block of scores that are moved together, each part half as long as the one before."""
        at, rows, parts = 0, product.rows, self._choice.parts
        # Nothing is left for the array to do while it waits for the very last.
        for _ in range((max(parts, _LAST_PARTS) if product is self._products[-1] else parts) - 1):
            if rows - at < 2 * _LEAST_PART:
                break
            size = -(-(rows - at) // 2)
            yield at, at + size
            at += size
        yield at, rows

    def _emit_part(self, product: _Product, bank: int, row: int, first: int, end: int) -> None:
        """Emit the POSTs of some rows of a block of scores, and the MOVEs of their numerators."""
        layer, cols = self._layer, self._layer.cols
        most = max(self._outputs.capacity // 2 // cols, 1)
        for byte in range(layer.parts):
            for at in range(first, end, most):
                stop = min(at + most, end)
                size = (stop - at) * cols
                place = self._outputs.take(size)
                self._outputs.give_back()
                for start, count, fields in self._posts(product, at, stop):
                    self._post_scores(product, bank, row + start, start, count, place + (start - at) * cols, fields,
                                      byte)
                target = product.numerators + byte * product.rows * cols + at * cols
                self._hazards.emit(Opcode.MOVE, moved(_ACTIVATION, place, target, size),
                                   reads=[Region("output", place, place + size)],
                                   writes=[Region("activation", target, target + size)])

    def _posts(self, product: _Product, first: int, end: int) -> Iterator[tuple[int, int, tuple[int, int, int]]]:
        """Rows of a part that one POST takes each: the first, how many, and bounds of their keys."""
        most = max(self._biases.capacity // 2, 1) if product.keys.has_bias else end - first
        for segment in self._layer.segments(product.query.block, product.keys):
            at, stop = max(segment.first, first), min(segment.end, end)
            while at < stop:
                count, shift = min(stop - at, most), segment.slope * (at - segment.first)
                yield at, count, (segment.low + shift, segment.high + shift, segment.slope)
                at += count

    def _post_scores(self, product: _Product, bank: int, row: int, start: int, rows: int, place: int,
                     fields: tuple[int, int, int], byte: int) -> None:
        layer, (low, high, slope) = self._layer, fields
        state = product.query.state + product.keys.rows[0] + start
        shifts = product.shifts + start
        body = numerators_body(
            rows=rows, bank=bank, row=row, low=low, high=high, slope=slope, factor=layer.kernel.unit, shift_base=shifts,
            state_base=state, out_base=place, cols=layer.cols, opens=product.keys.is_first,
            byte=byte if layer.parts > 1 else None)
        reads = [Region(f"sums {bank}", row, row + rows), Region(f"port {bank}", 0, 1), Region("scale", 0, 1)]
        if product.keys.has_bias:
            bias = self._load_bias(product, start, rows)
            body |= {"bias": 1, "bias_base": bias.first * (layer.cols // layer.lanes),
                     "bias_mstep": layer.cols // layer.lanes}
            reads.append(bias)
        writes = [Region("output", place, place + rows * layer.cols)]
        if byte == 0:
            writes.append(Region("shifts", shifts, shifts + rows))
        self._hazards.emit(Opcode.POST, body, reads, writes)

    def _load_bias(self, product: _Product, start: int, rows: int) -> Region:
        """Load what a mask adds to some rows of a block of scores, and return where it stands, in rows."""
        layer, query = self._layer, product.query.block
        first = product.start + start
        mask = layer.mask(query.head, first, first + rows, product.keys.number)
        assert mask is not None
        padded = np.zeros((rows, layer.cols), np.int32)
        padded[:, :mask.shape[1]] = mask
        data = padded.tobytes()
        address = self._plan.constant(layer.kernel.name, len(data), lambda: data, key=("mask", data))
        place = self._biases.take(rows)
        self._biases.give_back()
        region = Region("bias", place, place + rows)
        body = block(dram=address, address=place * layer.cols * 4, length=len(data), dims=[])
        self._hazards.emit(Opcode.LOAD, {"destination": _BIAS} | body, writes=[region])
        return region

    # Products of numerators and values, and outputs.

    def _emit_values(self, index: int, scores: int) -> None:
        """Emit a product AV, and when it is the last of a block of queries, what becomes of its outputs."""
        self._emit_held()
        product, layer = self._products[index], self._layer
        query = product.query
        if product.keys.is_first:
            query.sums = self._sums.take(layer.tiles * query.block.rows)
        if not self._load_tile(self._values, index, index - 1):
            raise AssertionError("no room for a block of values")
        # Outputs of the block of queries before may be read meanwhile, tile by tile.
        cuts = [(0, layer.tiles)]
        if product.keys.is_first:
            cuts = [(tile, tile + 1) for tile in range(layer.tiles)]
        for cut in cuts:
            for byte in range(layer.parts):
                self._execute_values(product, index, cut, byte)
        self._values.use(index)
        self._numerators.give_back()
        self._shifts.give_back()
        self._load_ahead(scores, index + 1)
        if product.keys.is_last:
            self._finish(query)

    def _execute_values(self, product: _Product, index: int, cut: tuple[int, int], byte: int) -> None:
        layer, query, keys = self._layer, product.query, product.keys
        place = self._values.place(index)
        assert place is not None
        values, rows = self._tile(self._values, place), product.rows
        base, at = product.numerators + byte * rows * layer.cols, query.sums + keys.rows[0]
        is_first = keys.is_first and byte == 0
        writes = [Region("sums 1", at + tile * query.block.rows, at + tile * query.block.rows + rows)
                  for tile in range(*cut)]
        if not is_first or keys.keys > layer.rows:
            writes.append(Region("port 1", 0, 1))
        body = values_body(rows=rows, keys=keys.keys, cols=layer.cols, width=layer.width, tiles=cut, a_base=base,
                           w_base=values.first, row=at, tile_rows=query.block.rows, shift_base=product.shifts,
                           is_first=is_first, is_low=byte == 1)
        self._hazards.emit(
            Opcode.EXECUTE, body,
            reads=[Region("activation", base, base + rows * layer.cols), values,
                   Region("shifts", product.shifts, product.shifts + rows)], writes=writes)

    def _finish(self, query: _Queries) -> None:
        """Normalise the outputs of a block of queries, and store them."""
        layer, rows = self._layer, query.block.rows
        pitch, is_last = layer.tiles * layer.cols, query is self._queries[-1]
        most = self._outputs.capacity // 2 // pitch
        if rows <= most and not is_last:
            # Tile by tile, so that the array may soon write over the first.
            self._normalise(query, 0, rows, [(tile, tile + 1) for tile in range(layer.tiles)])
        else:
            most = max(min(most, -(-rows // 4) if is_last else rows), 1)
            for first in range(0, rows, most):
                self._normalise(query, first, min(first + most, rows), [(0, layer.tiles)])
        self._sums.give_back()
        self._states.give_back()

    def _normalise(self, query: _Queries, first: int, end: int, cuts: Sequence[tuple[int, int]]) -> None:
        """Emit the POSTs of some rows of outputs, one for each range of tiles, and their STORE."""
        layer, rows = self._layer, query.block.rows
        pitch = layer.tiles * layer.cols
        size = (end - first) * pitch
        place = self._outputs.take(size)
        self._outputs.give_back()
        region = Region("output", place, place + size)
        for cut in cuts:
            body = normalise_body(rows=end - first, tiles=cut, row=query.sums + first, tile_rows=rows,
                                  quotients=query.state + first, out_base=place, cols=layer.cols, pitch=pitch)
            reads = [Region("sums 1", query.sums + tile * rows + first, query.sums + tile * rows + end)
                     for tile in range(*cut)]
            self._hazards.emit(Opcode.POST, body, [*reads, Region("port 1", 0, 1)], [region])
        start = (query.block.head * layer.queries + query.block.start + first) * layer.width
        body = block(dram=layer.kernel.y.view.address + start, address=place, length=layer.width,
                     dims=[(end - first, layer.width, pitch)])
        self._hazards.emit(Opcode.STORE, body, reads=[region])


def emit(layer: AttentionLayer, blocks: Sequence[QueryBlock], choice: Emission, plan: MemoryPlan) -> Program:
    """Commands of some blocks of queries, whose constants go to a plan."""
    return _Emitter(layer, blocks, choice, plan).run()
