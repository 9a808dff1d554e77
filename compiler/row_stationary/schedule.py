"""From passes to commands: where tiles and psums stand, when tiles are loaded, who waits for whom.

Ifmaps and psums share the global buffer. Each layer divides it (:class:`.steps.Areas`): tiles of ifmaps lie
below, blocks of psums above. What a line holds, and which commands have to be over before it may be
written, is kept for each line, so that a group of filters waits only for the sums that stood where its own shall.

A LOAD waits for the passes that read what it overwrites only until they have read it. For psums and biases it waits
for the POST or STORE of the sums instead.

In fixed point a layer's passes begin when the record of the layer before has been written, so that the records tell
exactly what each layer did; its LOADs go ahead. That costs the time of the last STORE.
"""

import numpy as np

from ...hdl.row_stationary.commands import Destination
from ...hdl.row_stationary.config import RowStationaryConfig
from ..program import Program
from ..steps import Group, Output, Tile, Use
from ..systolic.schedule import Buffer, OutputBuffer
from .steps import PassStep, PsumBlock

__all__ = ["RowStationaryScheduler"]

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

    def waits_of_load(self, start: int, end: int) -> dict[str, int]:
        """Commands that a LOAD of these lines waits for."""
        part = slice(start, end)
        return {"execute": int(self.ifmap[part].max()), "post": int(self.post[part].max()),
                "store": int(self.store[part].max())}


class RowStationaryScheduler:
    """Emit the commands of all layers' steps.

    Parameters
    ----------
    config : RowStationaryConfig
        Configuration.
    """

    def __init__(self, config: RowStationaryConfig):
        self._config = config
        self.program = Program(config.commands)
        self._width = config.line_bytes
        self._lines = _Lines(config.buffer_lines)
        self._ifmaps: list[Tile] = []
        self._filters = Buffer(config.filter_lines * self._width, self._width)
        lanes, channels = config.psum_lanes, config.scratchpads.channels
        self._constants = {
            Destination.BIAS.value: Buffer(channels * 4, lanes * 4),
            Destination.SCALE.value: Buffer(channels * 8, lanes * 8),
            Destination.TABLE.value: Buffer(lanes * 256, lanes * 256),
        }
        self._output = OutputBuffer(config.scratchpads.output_bytes, lanes * config.sum_bytes)
        self._steps: list[PassStep] = []
        self._limits: list[int] = []
        self._block: PsumBlock | None = None
        #: Step whose outputs have not been emitted, its EXECUTE and its number.
        self._deferred: tuple[PassStep, int, int] | None = None

    def run(self, steps: list[PassStep]) -> Program:
        """Emit everything.

        Parameters
        ----------
        steps : list of PassStep
            Steps of all layers in order; those of a block stand together.

        Returns
        -------
        Program
            The program.
        """
        self._steps = steps
        before: PsumBlock | None = None
        for index, step in enumerate(steps):
            if step.block is not None and step.block is not before:
                again = before is not None and before.areas is step.block.areas
                step.block.bias_place = (before.bias_place + 1) % len(before.areas.biases) if again and before else 0
                before = step.block
            step.filters.tile.uses.append(index)
            if step.ifmap is not None:
                step.ifmap.tile.uses.append(index)
            for output in step.group.outputs:
                for use in output.constants:
                    use.tile.uses.append(index)
        config, record = self._config, 0
        for index, step in enumerate(steps):
            if config.truncate and index and steps[index - 1].group.profile is not None:
                self._flush()
                record = self.program.counts["store"]
            self._ensure(index, step)
            ordinal = self._execute(step, record)
            record = 0
            self._prefetch(index)
            # Only now: the next passes need not stand behind POSTs that wait.
            self._flush()
            if step.group.outputs or step.group.profile is not None:
                self._deferred = step, ordinal, index
        self._flush()
        return self.program

    def _ensure(self, index: int, step: PassStep) -> None:
        """Emit the LOADs that a step can't do without, and find a place for its sums."""
        if step.block is not None and step.block is not self._block:
            self._open(step.block)
        if not self._bring_filters(step.filters, index, None):
            raise AssertionError(f"step {index} can't have its filters of {step.filters.tile.size} bytes")
        if step.ifmap is None:
            return
        if not self._bring_ifmap(step.ifmap, index, None):
            self._flush()
            if not self._bring_ifmap(step.ifmap, index, None):
                raise AssertionError(f"step {index} can't have its ifmap tile of {step.ifmap.tile.size} bytes")

    def _open(self, block: PsumBlock) -> None:
        """Give a block the place that has been free for longest, and bring its biases."""
        now = self._block
        places = block.areas.blocks
        place = 0
        if now is not None and now.areas is block.areas and now.place == 0 and len(places) > 1:
            place = 1
        block.place, block.address = place, places[place]
        self._block = block
        self._drop(block.address, block.address + block.pixels * block.lines)
        if block.bias and not self._bring_bias(block):
            self._flush()
            if not self._bring_bias(block):
                raise AssertionError("a block can't have its biases")

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
        self._drop(part.start, part.stop)
        tile.address = line * self._width
        self._load(tile, lines.waits_of_load(part.start, part.stop))
        self._note_load(tile)
        return True

    def _load(self, tile: Tile, waits: dict[str, int]) -> None:
        """Emit the LOADs of a tile."""
        store = 0
        for piece in tile.pieces:
            ready = piece.ready()
            assert ready is not None
            store = max(store, ready)
        waits = waits | {"store": max(store, waits.get("store", 0))}
        ordinal = 0
        for piece in tile.pieces:
            for body in piece.loads:
                destination = body.get("destination", tile.memory)
                ordinal = self.program.load(waits, **body | {
                    "destination": destination, "address": tile.address + body["address"]})
        tile.ordinals = [ordinal]

    def _note_load(self, tile: Tile) -> None:
        part = slice(tile.address // self._width, tile.address // self._width + self._size(tile))
        self._lines.owner[part] = id(tile)
        self._lines.load[part] = tile.ordinals[-1]

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
        self._drop(start, start + self._size(tile))
        tile.address = start * self._width
        self._ifmaps.append(tile)
        self._load(tile, self._lines.waits_of_load(start, start + self._size(tile)))
        self._note_load(tile)
        return True

    def _place(self, tile: Tile, step: int, newest: int | None) -> int | None:
        """Line for a tile of ifmaps that step `step` needs."""
        size, lines = self._size(tile), self._lines
        limit = min(self._limit(step), self._config.buffer_lines)
        starts = {0, limit - size}
        for other in self._ifmaps:
            first = other.address // self._width
            starts |= {first + self._size(other), first - size}
        best: tuple[tuple[int, int, bool, int], int] | None = None
        for start in starts:
            if start < 0 or start + size > limit or lines.busy[start:start + size].any():
                continue
            victims = [other for other in self._ifmaps if other.address // self._width < start + size
                       and start < other.address // self._width + self._size(other)]
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
        limit = self._config.buffer_lines
        areas = {id(self._block): self._block}
        for index in range(self._now, step + 1):
            block = self._steps[index].block
            areas[id(block)] = block
        for block in areas.values():
            if block is not None:
                limit = min(limit, block.areas.ifmaps)
        return limit

    _now = 0

    def _bring_filters(self, use: Use, step: int, newest: int | None) -> bool:
        tile = use.tile
        if tile.address >= 0:
            return True
        if not self._ready(tile) or not self._filters.place(tile, step, newest):
            return False
        self._load(tile, {"execute": tile.clear})
        return True

    def _execute(self, step: PassStep, record: int) -> int:
        """Emit the EXECUTE of a step, which waits for a STORE at least."""
        filters = step.filters.tile
        waits = {"load": filters.ordinals[-1], "store": record}
        body = step.body | {"filter_base": filters.address // self._width}
        block, lines = step.block, self._lines
        sums = None
        if step.ifmap is not None:
            assert block is not None
            tile = step.ifmap.tile
            waits["load"] = max(waits["load"], tile.ordinals[-1])
            body["ifmap_base"] = tile.address // self._config.operand_bytes + body["ifmap_base"]
            read = write = block.address + step.pixels[0] * block.lines + step.lines[0]
            if step.biased:
                bias = block.bias[block.bias_place].tile
                waits["load"] = max(waits["load"], bias.ordinals[-1])
                read = bias.address // self._width + step.lines[0]
            body |= {"psum_read": read, "psum_write": write}
            sums = self._sums(block, step)
            if step.body.get("fresh") or step.biased:
                if lines.busy[sums].any():
                    self._flush()
                for name in ("post", "store", "load"):
                    waits[name] = max(waits.get(name, 0), int(getattr(lines, name)[sums].max()))
                assert not lines.busy[sums].any()
                lines.busy[sums] += 1
                lines.owner[sums] = id(block)
                if step.biased:
                    lines.busy[self._biases(block, step)] += 1
        ordinal = self.program.execute(waits, **body)
        filters.uses.popleft()
        filters.last_use = ordinal
        if step.ifmap is not None:
            tile = step.ifmap.tile
            tile.uses.popleft()
            start = tile.address // self._width
            lines.ifmap[start:start + self._size(tile)] = ordinal
        return ordinal

    @staticmethod
    def _sums(block: PsumBlock, step: PassStep) -> np.ndarray:
        """Lines of the psums that a pass works on."""
        pixels = block.address + np.arange(*step.pixels) * block.lines
        return (pixels[:, None] + np.arange(*step.lines)).reshape(-1)

    def _biases(self, block: PsumBlock, step: PassStep) -> slice:
        """Lines of the biases that a pass reads."""
        start = block.bias[block.bias_place].tile.address // self._width
        return slice(start + step.lines[0], start + step.lines[1])

    def _prefetch(self, index: int) -> None:
        """Emit LOADs for later steps, as far as there is room that no pass but those before this one reads."""
        newest = self.program.counts["execute"] - 1
        self._now = index
        blocked: set[str] = set()
        brought = {"filters": 0, "ifmap": 0}
        following: PsumBlock | None = None
        for ahead in range(index + 1, min(index + _HORIZON, len(self._steps))):
            step = self._steps[ahead]
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

    def _flush(self) -> None:
        """Emit the POSTs and STOREs of the step that has been executed last."""
        if self._deferred is None:
            return
        (step, execute, index), self._deferred = self._deferred, None
        group: Group = step.group
        assert step.block is not None
        for output in group.outputs:
            self._emit(output, step.block, execute, index)
        if group.outputs:
            self._release(step)
        if group.profile is not None:
            self.program.store({"store": self.program.counts["store"], "execute": execute}, profile=1,
                               dram=group.profile)

    def _release(self, step: PassStep) -> None:
        """Note that the sums of a step leave with the latest POST or STORE."""
        block, lines = step.block, self._lines
        assert block is not None
        sums = self._sums(block, step)
        lines.busy[sums] -= 1
        queue, noted = ("store", lines.store) if self._config.truncate else ("post", lines.post)
        ordinal = self.program.counts[queue]
        noted[sums] = ordinal
        if block.bias:
            part = self._biases(block, step)
            lines.busy[part] -= 1
            noted[part] = ordinal

    def _emit(self, output: Output, block: PsumBlock, execute: int, index: int) -> None:
        if self._config.truncate:
            latest = 0
            for fields in output.stores:
                latest = self.program.store({"execute": execute}, **fields | {
                    "address": block.address * self._width + fields["address"]})
        else:
            latest = self._post(output, block, execute, index)
        stored, pixels, channels = output.target
        stored.note_store(pixels, channels, latest)

    def _post(self, output: Output, block: PsumBlock, execute: int, index: int) -> int:
        body = output.body | {"acc_base": block.address + output.body["acc_base"]}
        load = 0
        for name, use in (("bias", output.bias), ("scale", output.scale), ("table", output.table)):
            if use is None:
                continue
            tile, buffer = use.tile, self._constants[use.tile.memory]
            if tile.address < 0:
                if not buffer.place(tile, index - 1, None):
                    raise AssertionError(f"no room for a {name} tile of {tile.size} bytes")
                self._load(tile, {"post": tile.clear})
            load = max(load, tile.ordinals[-1])
            if name != "table":
                line = self._config.psum_lanes * (4 if name == "bias" else 8)
                body[f"{name}_base"] = body.get(f"{name}_base", 0) + tile.address // line
        place, store = self._output.place(output.size)
        ordinal = self.program.post({"load": load, "execute": execute, "store": store}, **body | {"out_base": place})
        for use in output.constants:
            use.tile.uses.popleft()
            use.tile.last_use = ordinal
        latest = 0
        for fields in output.stores:
            latest = self.program.store({"post": ordinal}, **fields | {"address": place + fields["address"]})
        self._output.take(place, output.size, latest)
        return latest
