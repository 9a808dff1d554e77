"""Commands of fused attention on a row-stationary array, each with the waits that its regions make.

Products of queries and keys, QK, and of numerators and values, AV, take turns, so that softmax of a block of scores
runs under the products that follow it: QK0, QK1, AV0, QK2, AV1, ... and straight on into the next block of queries and
the next head. Keys and values are filters, queries and numerators ifmaps. Outputs stand in the global buffer from
block to block, where what an AV makes joins them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from itertools import product as product_of

import numpy as np

from ...hdl.row_stationary.commands import Destination
from ...hdl.shell.commands import Opcode, Rounding
from ..hazards import Hazards, Region
from ..mask_rows import MASK_BYTES, mask_rows
from ..placement import MemoryPlan
from ..places import Ring
from ..positions import mark_bounds
from ..program import Program
from ..transfers import block, fill
from .attention_cut import AttentionLayer, Form, KeyBlock, QueryBlock
from .attention_filters import MatrixSlots
from .setup import setup_lines, setup_size

__all__ = ["emit"]

#: A field of 16 bits, in two's complement.
_HALF = 1 << 16


@dataclass(frozen=True, eq=False)
class _Product:
    """A block of queries, its number among all, and a block of keys, with the number of this pair."""

    query: QueryBlock
    queries: int
    keys: KeyBlock
    number: int


class _Emitter:
    """Emits the commands of a layer.

    In the global buffer stand one or two blocks of queries, two of numerators, one or two of outputs, and a block of
    scores; states of two blocks of queries, and shifts of two products, take turns.
    """

    def __init__(self, layer: AttentionLayer, plan: MemoryPlan):
        self._layer, self._plan, config = layer, plan, layer.config
        self.program = Program(config.commands)
        self._hazards = Hazards(self.program)
        self._rows, self._line = layer.most_rows, config.line_bytes
        query, numerators = layer.query_lines(self._rows), layer.parts * layer.numerator_lines(self._rows)
        places = [query] * layer.query_places + [numerators] * 2 + [self._rows * layer.sum_lines] * layer.output_places
        *lines, self._scores = accumulate(places, initial=0)
        behind = layer.query_places + 2
        self._queries, self._numerators, self._outputs = lines[:behind - 2], lines[behind - 2:behind], lines[behind:]
        first = setup_size(config)
        self._setup = Region("filters", 0, first)
        self._keys = MatrixSlots(first, layer.key_lines, layer.slots, layer.elements, self._load)
        first += layer.slots * layer.key_lines
        self._values = MatrixSlots(first, layer.value_lines, layer.slots, layer.width, self._load)
        self._scratchpad = Ring(config.scratchpads.output_bytes, config.psum_lanes)
        lanes = config.psum_lanes
        self._biases = Ring(config.scratchpads.channels // lanes * lanes // layer.block)

    def run(self) -> Program:
        """Emit all."""
        blocks = self._layer.query_blocks()
        products = [_Product(query, number, keys, 0) for number, query in enumerate(blocks) for keys in query.blocks]
        products = [_Product(each.query, each.queries, each.keys, number) for number, each in enumerate(products)]
        self._begin()
        scores = values = 0
        while values < len(products):
            if scores < len(products) and scores - values <= 1:
                self._emit_scores(products[scores])
                scores += 1
            else:
                self._emit_values(products[values])
                values += 1
        return self.program

    def _load(self, destination: Destination, body: Mapping[str, int], region: Region) -> None:
        self._hazards.emit(Opcode.LOAD, {**body, "destination": destination.value}, writes=[region])

    def _constant(self, destination: Destination, data: bytes, address: int, region: Region) -> None:
        """Load packed constants."""
        place = self._plan.constant(self._layer.kernel.name, len(data), lambda: data, key=(destination, data))
        self._load(destination, block(dram=place, address=address, length=len(data), dims=[]), region)

    def _begin(self) -> None:
        """Set the array up, load the factor of scores, and fill what is read beyond queries and numerators."""
        layer, config, line = self._layer, self._layer.config, self._line
        self._constant(Destination.FILTER_BUFFER, setup_lines(layer.scores.placement, config), 0, self._setup)
        self._hazards.emit(Opcode.EXECUTE, {"setup": 1}, reads=[self._setup])
        entry = np.zeros((config.psum_lanes, 2), np.float32)
        entry[:, 0] = layer.kernel.scale
        self._constant(Destination.SCALE, entry.tobytes(), 0, Region("scale", 0, 1))
        for places, size, pitch, lines in (
                (self._queries, layer.elements, layer.query_pitch, layer.query_lines(self._rows)),
                (self._numerator_places, layer.block, layer.numerator_pitch, layer.numerator_lines(self._rows))):
            for place in places if size < pitch else ():
                for body in fill(0, 1, address=place * line + size, length=pitch - size, dims=[(self._rows, pitch)]):
                    self._load(Destination.GLOBAL_BUFFER, body, Region("global", place, place + lines))

    @property
    def _numerator_places(self) -> list[int]:
        """First lines of both blocks of numerators, one for each byte."""
        lines = self._layer.numerator_lines(self._rows)
        return [place + byte * lines for place in self._numerators for byte in range(self._layer.parts)]

    def _numerator_place(self, product: _Product, byte: int) -> int:
        """First line of the upper or lower bytes of the numerators of a product."""
        return self._numerator_places[product.number % 2 * self._layer.parts + byte]

    def _output_place(self, product: _Product) -> int:
        """First line of the outputs of a product."""
        return self._outputs[product.queries % len(self._outputs)]

    # Products.

    def _pass(self, form: Form, product: _Product, filters: tuple[Region, int, int, int], ifmap: tuple[int, int, int],
              sums: tuple[int, int], fields: Mapping[str, int], others: list[Region]) -> None:
        """Emit a pass over all queries.

        `filters` is where their matrix stands, the first byte, and steps to the next filter and channel; `ifmap` the
        first line of the ifmaps, its first byte and the bytes of a query; `sums` the first line of sums and the lines
        of a query; `others` what it reads besides.
        """
        rows, (first, byte, pitch), (line, step) = product.query.rows, ifmap, sums
        (region, start, filter_step, channel_step), beats = filters, form.p // form.lanes
        start += region.first * self._line
        body = {
            "window": form.q - 1, "moved": form.q, "filters": form.p - 1, "windows": rows - 1,
            "ifmap_base": first * self._line + byte, "ifmap_channels": form.q - 1, "ifmap_sets": form.r - 1,
            "ifmap_set_step": form.q, "ifmap_columns": rows - 1, "ifmap_column_step": pitch,
            "by_word": 1, "by_line": int(form.by_line),
            "filter_base": start // self._line, "filter_last": start % self._line,
            "filter_sets": form.t * form.r - 1, "psum_image_step": form.p * filter_step,
            "psum_row_step": form.q * channel_step, "ifmap_line_step": filter_step, "ifmap_row_step": channel_step,
            "psum_read": line, "psum_write": line, "psum_sets": form.t - 1, "psum_beats": beats - 1,
            "psum_last": form.lanes - 1, "psum_set_step": beats, "psum_window_step": step}
        read = -(-(byte + (rows - 1) * pitch + form.depth) // self._line)
        written = line + (rows - 1) * step + form.psum_lines
        self._hazards.emit(Opcode.EXECUTE, {**body, **fields},
                           reads=[region, Region("global", first, first + read), *others],
                           writes=[Region("global", line, written)])

    def _emit_scores(self, product: _Product) -> None:
        """Emit a product QK, and the POSTs and MOVEs of its numerators."""
        layer, form, query = self._layer, self._layer.scores, product.query
        place = self._queries[product.queries % len(self._queries)]
        if product.keys.is_first:
            self._load_queries(query, place)
        view = layer.kernel.k.view
        at = layer.kernel.element(view, query.head // layer.shared, m=product.keys.number * layer.block)
        filters = self._keys.bring(view.buffer.address + at, product.keys.keys, view.stride("m"))
        for chunk in range(form.chunks):
            for part in range(form.parts):
                element = part * form.depth
                start = chunk * form.width * layer.elements + element
                self._pass(form, product, (filters, start, layer.elements, 1), (place, element, layer.query_pitch),
                           (self._scores + chunk * form.psum_lines, layer.score_lines),
                           {"fresh": int(part == 0)}, [])
        self._emit_numerators(product)

    def _load_queries(self, query: QueryBlock, place: int) -> None:
        """Load a block of queries."""
        layer, view = self._layer, self._layer.kernel.q.view
        group, inner = divmod(query.head, layer.shared)
        at = view.buffer.address + layer.kernel.element(view, group, h=inner, p=query.start)
        body = block(dram=at, address=place * self._line, length=layer.elements,
                     dims=[(query.rows, view.stride("p"), layer.query_pitch)])
        self._load(Destination.GLOBAL_BUFFER, body, Region("global", place, place + layer.query_lines(query.rows)))

    def _emit_values(self, product: _Product) -> None:
        """Emit a product AV, and what becomes of outputs behind the last of a block of queries."""
        layer, form, query, keys = self._layer, self._layer.values, product.query, product.keys
        view, base = layer.kernel.v.view, product.number % 2 * self._rows
        shifts = Region("shifts", base, base + query.rows)
        at = layer.kernel.element(view, query.head // layer.shared, m=keys.number * layer.block)
        filters = self._values.bring(view.buffer.address + at, keys.keys, view.stride("m"))
        for byte in range(layer.parts):
            fields = {"join": 1, "shift_base": base, "low_part": byte} if byte or not keys.is_first else {"fresh": 1}
            for chunk in range(form.chunks):
                self._pass(form, product, (filters, chunk * form.width, 1, layer.width),
                           (self._numerator_place(product, byte), 0, layer.numerator_pitch),
                           (self._output_place(product) + chunk * form.psum_lines, layer.sum_lines),
                           {"no_sign": 1, **fields}, [shifts])
        if keys.is_last:
            self._finish(product)

    # Softmax.

    def _parts(self, product: _Product) -> Iterator[tuple[int, int]]:
        """Rows of a block of scores whose numerators are moved together."""
        most = self._scratchpad.capacity // 2 // self._layer.block
        for at in range(0, product.query.rows, most):
            yield at, min(at + most, product.query.rows)

    def _emit_numerators(self, product: _Product) -> None:
        """Emit the POSTs of a block of scores, and the MOVEs of their numerators."""
        layer, keys = self._layer, product.keys
        found = layer.segments(product.query, keys)
        most = max(self._biases.capacity // 2, 1) if keys.has_bias else self._rows
        for (first, end), byte in product_of(self._parts(product), range(layer.parts)):
            size = (end - first) * layer.block
            place = self._scratchpad.take(size)
            self._scratchpad.give_back()
            for segment in found:
                at, stop = max(segment.first, first), min(segment.end, end)
                while at < stop:
                    count, along = min(stop - at, most), segment.slope * (at - segment.first)
                    self._post_scores(product, at, count, place + (at - first) * layer.block,
                                      (segment.low + along, segment.high + along, segment.slope), byte)
                    at += count
            pitch, rows = layer.numerator_pitch, end - first
            target = self._numerator_place(product, byte) * self._line + first * pitch
            body = {"destination": Destination.GLOBAL_BUFFER.value, "address": place, "target": target,
                    "length": layer.block, "count1": rows, "step1": layer.block, "target_step1": pitch, "count2": 1}
            if pitch == layer.block:
                body |= {"length": size, "count1": 1}
            lines = Region("global", target // self._line, -(-(target + rows * pitch) // self._line))
            self._hazards.emit(Opcode.MOVE, body, reads=[Region("output", place, place + size)], writes=[lines])

    def _post_scores(self, product: _Product, start: int, rows: int, place: int, limits: tuple[int, int, int],
                     byte: int) -> None:
        """POST of some rows of scores, to a place in the output scratchpad: upper or lower bytes of two, or all."""
        layer, lines, lanes = self._layer, self._layer.score_lines, self._layer.config.psum_lanes
        low, high, slope = limits
        line = self._scores + start * lines
        shifts, state = (number % 2 * self._rows + start for number in (product.number, product.queries))
        factor = int(np.float32(layer.kernel.unit).view(np.uint32))
        body = {"rounding": Rounding.ONNX.value, "softmax": 1, "opens": int(product.keys.is_first), "slope": slope,
                "two_bytes": int(layer.parts > 1), "low_byte": byte,
                "n_count": 1, "m_count": rows * lines, "acc_base": line, "acc_nstep": high % _HALF,
                "bias_nstep": low % _HALF, "scale_nstep": shifts, "out_nstep": state, "low": factor % _HALF,
                "high": factor // _HALF, "out_base": place, "out_mstep": lanes}
        reads = [Region("global", line, line + rows * lines), Region("scale", 0, 1)]
        if product.keys.has_bias:
            bias = self._load_bias(product, start, rows)
            body |= {"bias": 1, "bias_base": bias.first * lines, "bias_mstep": 1}
            reads.append(bias)
        writes = [Region("output", place, place + rows * layer.block)]
        if byte == 0:
            writes.append(Region("shifts", shifts, shifts + rows))
        self._hazards.emit(Opcode.POST, body, reads, writes)
        mark_bounds(self.program, layer.kernel)

    def _load_bias(self, product: _Product, start: int, rows: int) -> Region:
        """Load what a mask adds to some rows of a block of scores, and return where it stands, in rows."""
        layer, query, mask = self._layer, product.query, self._layer.kernel.mask
        assert mask is not None
        place = self._biases.take(rows)
        self._biases.give_back()
        region, first = Region("bias", place, place + rows), product.keys.number * layer.block
        for body in mask_rows(mask, self._plan, layer.kernel.name,
                              (query.head * layer.queries + query.start + start, rows),
                              (first, first + product.keys.keys), layer.block, place * layer.block * MASK_BYTES):
            self._load(Destination.BIAS, body, region)
        return region

    # Outputs.

    def _finish(self, product: _Product) -> None:
        """Emit the POSTs of the outputs of a block of queries, and their STOREs."""
        layer, query, pitch = self._layer, product.query, self._layer.output_pitch
        lanes, view = layer.config.psum_lanes, layer.kernel.y.view
        group, inner = divmod(query.head, layer.shared)
        most = self._scratchpad.capacity // 2 // pitch
        for first in range(0, query.rows, most):
            rows = min(most, query.rows - first)
            place = self._scratchpad.take(rows * pitch)
            self._scratchpad.give_back()
            line = self._output_place(product) + first * layer.sum_lines
            region = Region("output", place, place + rows * pitch)
            body = {"rounding": Rounding.ONNX.value, "normalise": 1, "low": -128, "high": 127, "n_count": rows,
                    "m_count": pitch // lanes, "acc_base": line, "acc_nstep": layer.sum_lines,
                    "scale_base": product.queries % 2 * self._rows + first, "scale_nstep": 1, "out_base": place,
                    "out_nstep": pitch, "out_mstep": lanes}
            self._hazards.emit(Opcode.POST, body, [Region("global", line, line + rows * layer.sum_lines)], [region])
            at = view.buffer.address + layer.kernel.element(view, group, h=inner, p=query.start + first)
            self._hazards.emit(Opcode.STORE, block(dram=at, address=place, length=layer.width,
                                                   dims=[(rows, view.stride("p"), pitch)]), reads=[region])


def emit(layer: AttentionLayer, plan: MemoryPlan) -> Program:
    """Commands of a layer, whose constants go to a plan."""
    return _Emitter(layer, plan).run()
