"""Commands of fused attention, in an order that keeps the array at work, each with the waits that its regions make.

Products of queries and keys, QK, and of numerators and values, AV, take turns, so that softmax of a block of scores
runs under the products that follow it: QK0, QK1, AV0, QK2, AV1, ... and straight on into the next block of queries and
the next head. Scores stand in bank 0 of the accumulators, outputs in bank 1. Post-processing can't read a bank to which
the array adds, but can while the array only writes over others of its rows, as the first tile of elements does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...hdl.shell.commands import Opcode
from ...hdl.systolic.commands import Destination
from ..hazards import Hazards, Region
from ..placement import MemoryPlan
from ..places import Ring
from ..positions import mark_bounds
from ..program import Program
from ..segments import Segment
from .attention_bodies import moved, numerators_body, scores_body, values_body
from .attention_cut import AttentionLayer, QueryBlock
from .attention_loads import Loads, Product, Queries
from .attention_outputs import Outputs

__all__ = ["Emission", "emit"]

_ACTIVATION = Destination.ACTIVATION.value

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
    spreads : bool
        Whether outputs are normalised part by part while the next ones are computed.
    """

    lead: int = 2
    strip: int = 32
    parts: int = 4
    ahead: int = 2
    spreads: bool = False


class _Emitter:
    """Emits the commands of some blocks of queries."""

    def __init__(self, layer: AttentionLayer, blocks: Sequence[QueryBlock], choice: Emission, plan: MemoryPlan):
        self._layer, self._choice = layer, choice
        self.program = Program(layer.config.commands)
        self._hazards = Hazards(self.program)
        self._queries = [Queries(number, block) for number, block in enumerate(blocks)]
        self._products = [Product(query, keys, len(query.block.blocks) - number - 1) for query in self._queries
                          for number, keys in enumerate(query.block.blocks)]
        most, pads, depth = max(block.rows for block in blocks), layer.config.scratchpads, layer.depth
        beat = layer.config.beat_bytes
        # Blocks of numerators, then queries.
        room = min((choice.lead + 1) * layer.numerator_bytes(most),
                   pads.activation_bytes - layer.query_bytes(most) * layer.standing(most, len(blocks))) // beat * beat
        self._numerators = Ring(room, beat)
        self._loads = Loads(layer, self._hazards, plan, self._queries, self._products, room, choice.strip)
        self._scores, self._shifts = Ring(depth), Ring(depth)
        self._scratchpad = Ring(pads.output_bytes // layer.line * layer.line, layer.line)
        self._outputs = Outputs(layer, self._hazards, self._queries, self._scratchpad, choice.spreads)
        #: Block of scores whose POSTs have not been emitted, and where it stands.
        self._held: tuple[Product, int, int] | None = None

    def run(self) -> Program:
        """Emit all."""
        scores = values = 0
        while values < len(self._products):
            if scores < len(self._products) and scores - values <= self._choice.lead and self._has_room(scores):
                self._emit_scores(scores, values)
                scores += 1
            elif values < scores:
                self._emit_values(values, scores)
                values += 1
            else:
                # Outputs that are left keep states which the next block of queries needs.
                self._outputs.flush()
                if not self._has_room(scores):
                    raise AssertionError(f"no room for product {scores} of {len(self._products)}")
        return self.program

    def _has_room(self, index: int) -> bool:
        """Whether there is room for what a product QK makes, and for its queries."""
        product, layer = self._products[index], self._layer
        if not (self._numerators.has_room(layer.numerator_bytes(product.rows)) and self._shifts.has_room(product.rows)):
            return False
        query = product.query
        if not product.keys.is_first:
            return True
        return self._outputs.states.has_room(query.block.rows) and self._loads.can_place(query)

    # Products of queries and keys, and softmax.

    def _emit_scores(self, index: int, values: int) -> None:
        """Emit a product QK, when so many AV have been, and the POSTs and MOVEs of its numerators."""
        product, layer = self._products[index], self._layer
        query = product.query
        self._loads.place(query)
        if product.keys.is_first:
            query.state = self._outputs.states.take(query.block.rows)
        keys = self._loads.bring(self._loads.keys, index)
        product.numerators = self._numerators.take(layer.numerator_bytes(product.rows))
        product.shifts = self._shifts.take(product.rows)
        # Nothing adds to the other bank yet, so that softmax of the first block need not wait for the second product.
        bank = int(index == 0)
        row = 0 if bank else self._scores.take(product.rows)
        self._execute_scores(product, keys, bank, row)
        self._loads.keys.use(index)
        if product.keys.is_last:
            self._loads.give_back()
        self._loads.load_scale()
        # At the beginning all wait for the first blocks.
        self._loads.load_ahead(index + 1, values, self._choice.ahead if values else 1)
        if values and query is not self._queries[-1]:
            self._loads.go_on(self._queries[query.number + 1], product.following + 1)
        self._emit_held()
        self._held = product, bank, row
        if not bank or len(self._products) == 1:
            self._emit_held()

    def _emit_held(self) -> None:
        """Emit the POSTs and MOVEs of the last block of scores, but those of the first one behind the next EXECUTEs."""
        if self._held is None:
            return
        (product, bank, row), self._held = self._held, None
        segments = self._layer.segments(product.query.block, product.keys)
        for part in self._parts(product):
            self._emit_part(product, bank, row, part, segments)
        if not bank:
            self._scores.give_back()

    def _execute_scores(self, product: Product, keys: Region, bank: int, row: int) -> None:
        """Emit the EXECUTEs of a product QK, of parts of its queries if these are yet to be loaded."""
        query, elements, rows = product.query, self._layer.elements, self._layer.rows
        # The first tile of elements writes over what stands, and need not wait for POSTs that read the bank.
        cuts = [(0, elements)] if query.left or elements <= rows else [(0, rows), (rows, elements)]
        strips = iter([product.keys.rows])
        if query.left:
            strips = self._loads.strips(query)
        for strip in strips:
            for cut in cuts:
                self._execute_strip(product, keys, bank, row, strip, cut)

    def _execute_strip(self, product: Product, keys: Region, bank: int, row: int, strip: tuple[int, int],
                       cut: tuple[int, int]) -> None:
        """Emit an EXECUTE of some queries and some of their elements."""
        elements, item, (start, stop) = self._layer.elements, self._layer.item, strip
        base, at = product.query.activation + start * elements * item, row + start - product.keys.rows[0]
        writes = [Region(f"sums {bank}", at, at + stop - start)]
        if cut[1] > self._layer.rows:
            writes.append(Region(f"port {bank}", 0, 1))
        self._hazards.emit(
            Opcode.EXECUTE, scores_body(rows=stop - start, elements=cut, pitch=elements, a_base=base // item,
                                        w_base=keys.first // item, row=at, bank=bank),
            reads=[Region("activation", base, base + (stop - start) * elements * item), keys], writes=writes)

    def _parts(self, product: Product) -> Iterator[tuple[int, int]]:
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

    def _emit_part(self, product: Product, bank: int, row: int, part: tuple[int, int],
                   segments: Sequence[Segment]) -> None:
        """Emit the POSTs of some rows of a block of scores, and the MOVEs of their numerators."""
        layer, pitch, (first, end) = self._layer, self._layer.numerators, part
        most = max(self._scratchpad.capacity // 2 // pitch, 1)
        for byte in range(layer.parts):
            for at in range(first, end, most):
                stop = min(at + most, end)
                size = (stop - at) * pitch
                place = self._scratchpad.take(size)
                self._scratchpad.give_back()
                for start, count, fields in self._posts(product, segments, at, stop):
                    self._post_scores(product, bank, row + start, start, count, place + (start - at) * pitch, fields,
                                      byte)
                target = product.numerators + byte * product.rows * pitch + at * pitch
                self._hazards.emit(Opcode.MOVE, moved(_ACTIVATION, place, target, size),
                                   reads=[Region("output", place, place + size)],
                                   writes=[Region("activation", target, target + size)])

    def _posts(self, product: Product, segments: Sequence[Segment], first: int,
               end: int) -> Iterator[tuple[int, int, tuple[int, int, int]]]:
        """Rows of a part that one POST takes each: the first, how many, and bounds of their keys."""
        most = self._loads.most_biases if product.keys.has_bias else end - first
        for segment in segments:
            at, stop = max(segment.first, first), min(segment.end, end)
            while at < stop:
                count, shift = min(stop - at, most), segment.slope * (at - segment.first)
                yield at, count, (segment.low + shift, segment.high + shift, segment.slope)
                at += count

    def _post_scores(self, product: Product, bank: int, row: int, start: int, rows: int, place: int,
                     fields: tuple[int, int, int], byte: int) -> None:
        layer, (low, high, slope) = self._layer, fields
        state = product.query.state + product.keys.rows[0] + start
        shifts = product.shifts + start
        body = numerators_body(
            rows=rows, bank=bank, row=row, low=low, high=high, slope=slope,
            number=layer.kernel.scale if layer.kernel.is_float else layer.kernel.unit, shift_base=shifts,
            state_base=state, out_base=place, pitch=layer.numerators, opens=product.keys.is_first,
            byte=byte if layer.parts > 1 else None)
        reads = [Region(f"sums {bank}", row, row + rows), Region(f"port {bank}", 0, 1), Region("scale", 0, 1)]
        if product.keys.has_bias:
            bias = self._loads.load_bias(product, start, rows)
            body |= {"bias": 1, "bias_base": bias.first * (layer.cols // layer.lanes),
                     "bias_mstep": 0 if product.bias else layer.cols // layer.lanes}
            reads.append(bias)
        writes = [Region("output", place, place + rows * layer.numerators)]
        if byte == 0:
            writes.append(Region("shifts", shifts, shifts + rows))
        self._hazards.emit(Opcode.POST, body, reads, writes)
        mark_bounds(self.program, layer.kernel)

    # Products of numerators and values, and outputs.

    def _emit_values(self, index: int, scores: int) -> None:
        """Emit a product AV, and when it is the last of a block of queries, what becomes of its outputs."""
        self._emit_held()
        product, layer = self._products[index], self._layer
        query = product.query
        if product.keys.is_first:
            self._outputs.place(query)
        values = self._loads.bring(self._loads.values, index)
        # Outputs of the block of queries before may be read meanwhile, tile by tile.
        cuts = [(0, layer.tiles)]
        if product.keys.is_first:
            cuts = [(tile, tile + 1) for tile in range(layer.tiles)]
        for cut in cuts:
            for byte in range(layer.parts):
                self._execute_values(product, values, cut, byte)
        self._loads.values.use(index)
        self._numerators.give_back()
        self._shifts.give_back()
        self._loads.load_ahead(scores, index + 1, self._choice.ahead)
        if product.keys.is_last:
            self._outputs.finish(query)
        self._outputs.go_on()

    def _execute_values(self, product: Product, values: Region, cut: tuple[int, int], byte: int) -> None:
        """Emit an EXECUTE of some tiles of a product AV."""
        layer, query, keys, rows = self._layer, product.query, product.keys, product.rows
        base, at = product.numerators + byte * rows * layer.numerators, query.sums + keys.rows[0]
        is_first = keys.is_first and byte == 0
        writes = [Region("sums 1", at + tile * query.block.rows, at + tile * query.block.rows + rows)
                  for tile in range(*cut)]
        if not is_first or keys.keys > layer.rows:
            writes.append(Region("port 1", 0, 1))
        body = values_body(
            rows=rows, keys=keys.keys, cols=layer.cols, width=layer.width, tiles=cut, a_base=base // layer.item,
            w_base=values.first // layer.item, row=at, tile_rows=query.block.rows, shift_base=product.shifts,
            is_first=is_first, is_low=byte == 1)
        self._hazards.emit(
            Opcode.EXECUTE, body,
            reads=[Region("activation", base, base + rows * layer.numerators), values,
                   Region("shifts", product.shifts, product.shifts + rows)], writes=writes)


def emit(layer: AttentionLayer, blocks: Sequence[QueryBlock], choice: Emission, plan: MemoryPlan) -> Program:
    """Commands of some blocks of queries, whose constants go to a plan."""
    return _Emitter(layer, blocks, choice, plan).run()
