"""Where operands and sums of the row-stationary array stand: a global buffer for ifmaps and psums, and one for filters.

Ifmaps and psums share the global buffer. Each layer divides it (:class:`.steps.Areas`): tiles of ifmaps lie
below, blocks of psums above. What a line holds, and which commands have to be over before it may be
written, is kept for each line, so that a group of filters waits only for the sums that stood where its own shall.

A LOAD waits for the passes that read what it overwrites only until they have read it. For psums and biases it waits
for the POST or STORE of the sums instead. A STORE of sums whose place is not wanted yet waits for the LOADs of the next
pass, since both share the link to memory.

In fixed point a layer's passes begin when the record of the layer before has been written, so that the records tell
exactly what each layer did; its LOADs go ahead. That costs the time of the last STORE.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence

import numpy as np

from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.shell.commands import Opcode
from ..program import Program
from ..schedule import OperandMemory, Scheduler
from ..scratchpads import Scratchpad
from ..steps import Output, Tile, Use
from .steps import PassStep, PsumBlock

__all__ = ["schedule"]

#: Steps to look ahead for tiles to load, and tiles of ifmaps and of filters to load ahead.
_HORIZON = 24
_AHEAD = 2


class _Lines:
    """What must be over before a line of the global buffer may be written.

    Members
    -------
    ifmap, post, store, load : ndarray of int32
        Last pass that reads the line as ifmap, POST or STORE of its sums, and LOAD that writes it.
    busy : ndarray of int32
        Blocks whose psums or biases the line holds, and whose POST or STORE has not been emitted.
    owner : ndarray of int64
        Identity of what stands there.
    """

    def __init__(self, lines: int):
        self.ifmap, self.post, self.store, self.load = (np.zeros(lines, np.int32) for _ in range(4))
        self.busy = np.zeros(lines, np.int32)
        self.owner = np.zeros(lines, np.int64)


class _Buffers(OperandMemory[PassStep]):
    """The global buffer, of ifmaps and psums, and the filter buffer."""

    posted = ("acc_base",)

    def __init__(self, config: RowStationaryConfig):
        self._config = config
        self._width = config.line_bytes
        self._lines = _Lines(config.buffer_lines)
        #: Tiles of ifmaps that stand, by their addresses.
        self._ifmaps: list[Tile] = []
        self._filters = Scratchpad(config.filter_lines * self._width, self._width)
        self._block: PsumBlock | None = None
        #: Tile of biases that the present block, just opened, has yet to get.
        self._missing_bias: Use | None = None
        #: STORE of the record that the next pass waits for.
        self._record = 0
        #: Latest LOAD that a pass so far waits for.
        self._loaded = 0
        self._now = 0

    def begin(self, scheduler: Scheduler[PassStep], steps: Sequence[PassStep]) -> None:
        super().begin(scheduler, steps)
        program = scheduler.program
        self._setups = program.stream(Opcode.EXECUTE, ("filter_base",))
        self._passes = program.stream(Opcode.EXECUTE, ("filter_base", "ifmap_base", "psum_read", "psum_write"))
        self._stores = program.stream(Opcode.STORE, ("address",))
        before: PsumBlock | None = None
        for step in steps:
            if step.block is not None and step.block is not before:
                again = before is not None and before.areas is step.block.areas
                step.block.bias_place = (before.bias_place + 1) % len(before.areas.biases) if again and before else 0
                before = step.block

    def enter(self, index: int) -> None:
        """Open the step's block; in fixed point, wait for the record of the layer before."""
        if self._config.truncate and index and self.steps[index - 1].group.profile is not None:
            self.scheduler.flush()
            self._record = self.scheduler.program.counts["store"]
        block = self.steps[index].block
        self._missing_bias = None
        if block is not None and block is not self._block:
            self._open(block)

    def needs(self, index: int) -> Iterable[Use]:
        operands = self.steps[index].operands
        return operands if self._missing_bias is None else (self._missing_bias, *operands)

    def bring(self, use: Use, index: int) -> bool:
        if use is self._missing_bias:
            assert self._block is not None
            return self._bring_bias(self._block)
        if use is self.steps[index].filters:
            return self._bring_filters(use, index, None)
        found = self._bring_ifmap(use, index, None)
        if not found:
            # What the layer before has given out frees its part of the buffer: only this one divides it now.
            self._now = index
        return found

    def _open(self, block: PsumBlock) -> None:
        """Give a block the place that has been free for longest."""
        now, places = self._block, block.areas.blocks
        again = now is not None and now.areas is block.areas and now.place == 0
        block.place = int(again and len(places) > 1)
        block.address, self._block = places[block.place], block
        self._drop(block.address, block.address + block.pixels * block.lines)
        if block.bias:
            self._missing_bias = block.bias[block.bias_place]

    def _drop(self, start: int, end: int) -> None:
        """Forget tiles of ifmaps that stand where psums shall."""
        for tile in self._ifmaps[:]:
            first = tile.address // self._width
            if first < end and start < first + self._size(tile):
                self._ifmaps.remove(tile)
                tile.address, tile.ordinals = -1, []

    def _size(self, tile: Tile) -> int:
        return -(-tile.size // self._width)

    def _bring_bias(self, block: PsumBlock) -> bool:
        """Load the biases of a block if they don't stand; return whether they do."""
        tile, line, lines = block.bias[block.bias_place].tile, block.areas.biases[block.bias_place], self._lines
        part = slice(line, line + self._size(tile))
        if tile.address == line * self._width and (lines.owner[part] == id(tile)).all():
            return True
        if lines.busy[part].any() or not self._ready(tile):
            return False
        self._put(tile, line)
        return True

    def _put(self, tile: Tile, line: int) -> None:
        """Load a tile to a line of the global buffer and those behind it, over whatever stands there."""
        part, lines = slice(line, line + self._size(tile)), self._lines
        self._drop(part.start, part.stop)
        tile.address = line * self._width
        self._load(tile, *(int(last[part].max()) for last in (lines.ifmap, lines.post, lines.store)))
        lines.owner[part], lines.load[part] = id(tile), tile.ordinals[-1]

    def _load(self, tile: Tile, execute: int, post: int = 0, store: int = 0) -> None:
        """Emit the LOADs of a tile."""
        store = max(store, *(piece.ready() or 0 for piece in tile.pieces))
        tile.ordinals = [self.scheduler.load(tile, piece, execute, post, store) for piece in tile.pieces][-1:]

    @staticmethod
    def _ready(tile: Tile) -> bool:
        return all(piece.ready() is not None for piece in tile.pieces)

    def _bring_ifmap(self, use: Use, step: int, newest: int | None) -> bool:
        """Load a tile of ifmaps if it does not stand; with `newest`, only over what that EXECUTE read last."""
        tile = use.tile
        if tile.ordinals:
            return True
        if not self._ready(tile):
            return False
        start = self._place(tile, step, newest)
        if start is None:
            return False
        self._put(tile, start)
        insort(self._ifmaps, tile, key=lambda other: other.address)
        return True

    def _place(self, tile: Tile, step: int, newest: int | None) -> int | None:
        """Line for a tile of ifmaps that step `step` needs."""
        size, lines = self._size(tile), self._lines
        limit = self._limit(step)
        firsts = [other.address // self._width for other in self._ifmaps]
        ends = [first + self._size(other) for first, other in zip(firsts, self._ifmaps, strict=True)]
        starts = {0, limit - size, *ends, *(first - size for first in firsts)}
        best: tuple[tuple[int, int, bool, int], int] | None = None
        for start in starts:
            if start < 0 or start + size > limit or lines.busy[start:start + size].any():
                continue
            victims = self._ifmaps[bisect_right(ends, start):bisect_left(firsts, start + size)]
            if any(other.uses and other.uses[0] <= step for other in victims):
                continue
            latest = int(lines.ifmap[start:start + size].max())
            if newest is not None and latest > newest:
                continue
            cost = sum(bool(other.uses) for other in victims), latest, 0 < start < limit - size, start
            if best is None or cost < best[0]:
                best = cost, start
        return None if best is None else best[1]

    def _limit(self, step: int) -> int:
        """Lines below all blocks of psums from now up to a step."""
        blocks = self._block, *(self.steps[index].block for index in range(self._now, step + 1))
        return min((block.areas.ifmaps for block in blocks if block is not None), default=self._config.buffer_lines)

    def _bring_filters(self, use: Use, step: int, newest: int | None) -> bool:
        tile = use.tile
        if tile.address >= 0:
            return True
        if not self._ready(tile) or not self._filters.place(tile, step, newest):
            return False
        self._load(tile, tile.clear)
        return True

    def execute(self, index: int) -> None:
        """Emit the EXECUTE of a step, which waits for the record of the layer before, too."""
        step, lines = self.steps[index], self._lines
        filters, block = step.filters.tile, step.block
        load, post, store = filters.ordinals[-1], 0, self._record
        self._record = 0
        fields = {"filter_base": filters.address // self._width}
        if step.ifmap is not None:
            assert block is not None
            tile = step.ifmap.tile
            load = max(load, tile.ordinals[-1])
            fields["ifmap_base"] = tile.address // self._config.operand_bytes + step.body["ifmap_base"]
            read = write = block.address + step.pixels[0] * block.lines + step.lines[0]
            if step.biased:
                bias = block.bias[block.bias_place].tile
                load = max(load, bias.ordinals[-1])
                read = bias.address // self._width + step.lines[0]
            fields |= {"psum_read": read, "psum_write": write}
            sums = self._sums(block, step)
            if step.body.get("fresh") or step.biased:
                if lines.busy[sums].any():
                    self.scheduler.flush()
                load = max(load, int(lines.load[sums].max()))
                post, store = int(lines.post[sums].max()), max(store, int(lines.store[sums].max()))
                assert not lines.busy[sums].any()
                lines.busy[sums] += 1
                lines.owner[sums] = id(block)
                if step.biased:
                    lines.busy[self._biases(block, step)] += 1
        self._loaded = max(self._loaded, load)
        stream = self._setups if step.ifmap is None else self._passes
        ordinal = stream.append(step.body, load, 0, post, store, *fields.values())
        filters.uses.popleft()
        filters.last_use = ordinal
        if step.ifmap is not None:
            tile = step.ifmap.tile
            tile.uses.popleft()
            start = tile.address // self._width
            lines.ifmap[start:start + self._size(tile)] = ordinal

    @staticmethod
    def _sums(block: PsumBlock, step: PassStep) -> np.ndarray:
        """Lines of the psums that a pass works on."""
        pixels = block.address + np.arange(*step.pixels) * block.lines
        return (pixels[:, None] + np.arange(*step.lines)).reshape(-1)

    def _biases(self, block: PsumBlock, step: PassStep) -> slice:
        """Lines of the biases that a pass reads."""
        start = block.bias[block.bias_place].tile.address // self._width
        return slice(start + step.lines[0], start + step.lines[1])

    def look_ahead(self, index: int) -> None:
        """Emit LOADs for later steps, as far as there is room that no pass but those before this one reads."""
        newest = self.scheduler.program.counts["execute"] - 1
        self._now = index
        blocked: set[str] = set()
        brought = {"filters": 0, "ifmap": 0}
        following: PsumBlock | None = None
        for ahead in range(index + 1, min(index + _HORIZON, len(self.steps))):
            step = self.steps[ahead]
            if step.block not in (None, self._block, following):
                if following is None:
                    self._prefetch_bias(step.block)
                following = step.block
            for name, use, bring in (("filters", step.filters, self._bring_filters),
                                     ("ifmap", step.ifmap, self._bring_ifmap)):
                if use is None or name in blocked or use.tile.ordinals:
                    continue
                if brought[name] == _AHEAD or not bring(use, ahead, newest):
                    blocked.add(name)
                brought[name] += 1
            if len(blocked) == len(brought):
                return

    def _prefetch_bias(self, block: PsumBlock | None) -> None:
        """Load the biases of the layer's next block, if the present block's stand elsewhere."""
        now = self._block
        if now is None or block is None or not block.bias or block.areas is not now.areas:
            return
        if block.bias_place != now.bias_place:
            self._bring_bias(block)

    def post_fields(self, index: int) -> tuple[int, ...]:
        return (self._block_of(index).address,)

    def _block_of(self, index: int) -> PsumBlock:
        block = self.steps[index].block
        assert block is not None
        return block

    def store_sums(self, output: Output, index: int, execute: int) -> int | None:
        if not self._config.truncate:
            return None
        block = self._block_of(index)
        # A block whose place nothing wants yet leaves the link to what the next pass, emitted before, is loaded with.
        latest, load = 0, self._loaded if len(block.areas.blocks) > 1 else 0
        for fields in output.stores:
            latest = self._stores.append(fields, load, execute, 0, 0, block.address * self._width + fields["address"])
        return latest

    def released(self, index: int, ordinal: int) -> None:
        step, block, lines = self.steps[index], self._block_of(index), self._lines
        noted = lines.store if self._config.truncate else lines.post
        sums = self._sums(block, step)
        lines.busy[sums] -= 1
        noted[sums] = ordinal
        if block.bias:
            part = self._biases(block, step)
            lines.busy[part] -= 1
            noted[part] = ordinal

    def profile_waits(self, execute: int) -> int:
        return execute


def schedule(config: RowStationaryConfig, steps: Sequence[PassStep]) -> Program:
    """Commands of steps."""
    return Scheduler(config, _Buffers(config)).run(steps)
