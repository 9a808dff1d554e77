"""What fused attention loads: queries in strips, blocks of keys and values, the factor of scores, and masks."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

import numpy as np

from ...hdl.shell.commands import Opcode, Parameter
from ...hdl.systolic.commands import Destination
from ..hazards import Hazards, Region
from ..mask_rows import MASK_BYTES, mask_rows
from ..placement import MemoryPlan
from ..places import Ring, Tiles
from ..transfers import block
from .attention_cut import AttentionLayer, KeyBlock, QueryBlock

__all__ = ["Loads", "Product", "Queries"]

_ACTIVATION, _WEIGHT = Destination.ACTIVATION.value, Destination.WEIGHT.value
_BIAS, _SCALE = Parameter.BIAS.value, Parameter.SCALE.value


@dataclass(eq=False)
class Queries:
    """A block of queries on its way, and its number: where its queries, its states and its outputs stand."""

    number: int
    block: QueryBlock
    activation: int = -1
    state: int = -1
    sums: int = -1
    #: Strips that have yet to be loaded: first row, and that behind the last.
    left: deque[tuple[int, int]] = field(default_factory=deque)


@dataclass(eq=False)
class Product:
    """A block of keys of a block of queries: where its numerators and shifts stand."""

    query: Queries
    keys: KeyBlock
    #: Products of the same block of queries that follow.
    following: int
    numerators: int = -1
    shifts: int = -1
    #: Where the row of a mask stands that all queries have.
    bias: Region | None = None

    @property
    def rows(self) -> int:
        """Queries that walk it."""
        return self.keys.rows[1] - self.keys.rows[0]


class Loads:
    """Emits the LOADs of some products.

    Parameters
    ----------
    queries, products : sequence
        Blocks of queries, and their products, in order.
    first : int
        Byte of the activation scratchpad from which on queries stand.
    strip : int
        Queries of each LOAD; 0 for all of a block.

    Members
    -------
    keys, values : Tiles
        Places of blocks of keys, and of values, that stand; each product needs one of either.
    most_biases : int
        Rows of masks of a LOAD at most.
    """

    def __init__(self, layer: AttentionLayer, hazards: Hazards, plan: MemoryPlan, queries: Sequence[Queries],
                 products: Sequence[Product], first: int, strip: int):
        self._layer, self._hazards, self._plan = layer, hazards, plan
        self._queries, self._products, self._first, self._strip = queries, products, first, strip
        config = layer.config
        self._activations = Ring(config.scratchpads.activation_bytes - first, config.beat_bytes)
        uses = [(product.query.block.head // layer.shared, product.keys.number) for product in products]
        self.keys, self.values = Tiles(uses, layer.slots), Tiles(uses, layer.slots)
        self._biases = Ring(config.scratchpads.channels // layer.cols)
        self.most_biases = max(self._biases.capacity // 2, 1)
        self._has_scale = False

    def _copy(self, destination: int, dram: int, address: int, region: Region, length: int,
              rows: tuple[int, int] = (1, 0)) -> None:
        """Emit a LOAD of bytes that follow one another, or of so many rows at a distance in memory, side by side."""
        count, step = rows
        self._hazards.emit(Opcode.LOAD, {"destination": destination} | block(
            dram=dram, address=address, length=length, dims=[(count, step, length)]), writes=[region])

    # Queries.

    def can_place(self, query: Queries) -> bool:
        """Whether a block of queries has its place, or there is room for it."""
        return query.activation >= 0 or self._activations.has_room(self._layer.query_bytes(query.block.rows))

    def place(self, query: Queries) -> None:
        """Give a block of queries its place if it has none; blocks come in order."""
        if query.activation >= 0:
            return
        rows = query.block.rows
        query.activation = self._first + self._activations.take(self._layer.query_bytes(rows))
        strip = self._strip or rows
        # The last strip is not shorter than the others.
        query.left.extend(pairwise([*range(0, max(rows - strip + 1, 1), strip), rows]))

    def go_on(self, query: Queries, times: int) -> None:
        """Load some of the strips of a block of queries that comes next, if there is room for it: all in some times."""
        if self.can_place(query):
            self.place(query)
            deque(islice(self.strips(query), -(-len(query.left) // times)), 0)

    def strips(self, query: Queries) -> Iterator[tuple[int, int]]:
        """Load the strips of a block of queries that are left, and yield the rows of each."""
        layer = self._layer
        while query.left:
            first, end = query.left.popleft()
            row, view, item = layer.elements * layer.item, layer.kernel.q.view, layer.item
            address = query.activation + first * row
            for rows, element in layer.runs(view, query.block.head, query.block.start + first, end - first):
                length = rows * row
                self._copy(_ACTIVATION, view.buffer.address + element * item, address,
                           Region("activation", address, address + length), row, (rows, view.stride("p") * item))
                address += length
            yield first, end

    def give_back(self) -> None:
        """Note that nothing reads the first of the blocks of queries that stand any more."""
        self._activations.give_back()

    # Keys and values.

    def bring(self, tiles: Tiles, index: int) -> Region:
        """Load the block of keys or values that a product needs now, if it does not stand; return where it does."""
        if not self._load(tiles, index, index - 1):
            raise AssertionError(f"no room for the block of product {index}")
        return self._region(tiles, index)

    def load_ahead(self, scores: int, values: int, ahead: int) -> None:
        """Load what the next products need, of which so many have been emitted."""
        for number in range(ahead):
            for tiles, done in ((self.keys, scores), (self.values, values)):
                if done + number < len(self._products):
                    self._load(tiles, done + number, done - 1)

    def _load(self, tiles: Tiles, index: int, done: int) -> bool:
        """Load what a product needs, if it does not stand and there is a place; return whether it stands."""
        if tiles.place(index) is not None:
            return True
        if tiles.make_room(index, done) is None:
            return False
        layer, product = self._layer, self._products[index]
        view, width = (layer.kernel.k.view, layer.elements) if tiles is self.keys else (
            layer.kernel.v.view, layer.width)
        group = product.query.block.head // layer.shared
        element = layer.kernel.element(view, group, m=product.keys.number * layer.cols)
        region = self._region(tiles, index)
        self._copy(_WEIGHT, view.buffer.address + element * layer.item, region.first, region, width * layer.item,
                   (product.keys.keys, view.stride("m") * layer.item))
        return True

    def _region(self, tiles: Tiles, index: int) -> Region:
        """Where what a product needs stands."""
        layer, place = self._layer, tiles.place(index)
        assert place is not None
        first, size = (0, layer.key_bytes) if tiles is self.keys else (self.keys.places * layer.key_bytes,
                                                                       layer.value_bytes)
        return Region("weight", first + place * size, first + (place + 1) * size)

    # Constants.

    def load_scale(self) -> None:
        """Load the factor of scores, once, unless commands have it."""
        if self._has_scale or self._layer.kernel.is_float:
            return
        self._has_scale = True
        entry = np.zeros((self._layer.lanes, 2), np.float32)
        entry[:, 0] = self._layer.kernel.scale
        data = entry.tobytes()
        address = self._plan.constant(self._layer.kernel.name, len(data), lambda: data, key=("scale", data))
        self._copy(_SCALE, address, 0, Region("scale", 0, 1), len(data))

    def load_bias(self, product: Product, start: int, rows: int) -> Region:
        """Load what a mask adds to some rows of a block of scores, and return where it stands, in rows.

        Where all queries of a product have the same row it comes once, and stands for all of them.
        """
        if product.bias is not None:
            return product.bias
        layer, query, keys = self._layer, product.query.block, product.keys
        mask, first = layer.kernel.mask, query.head * layer.queries + query.start + keys.rows[0]
        assert mask is not None
        is_level = mask.is_level(first, product.rows)
        rows = 1 if is_level else rows
        place = self._biases.take(rows)
        self._biases.give_back()
        region = Region("bias", place, place + rows)
        for body in mask_rows(mask, self._plan, layer.kernel.name, (first + start, rows),
                              (keys.number * layer.cols, keys.number * layer.cols + keys.keys), layer.cols,
                              place * layer.cols * MASK_BYTES):
            self._hazards.emit(Opcode.LOAD, {"destination": _BIAS} | body, writes=[region])
        if is_level:
            product.bias = region
        return region
