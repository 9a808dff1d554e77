"""From steps to commands: where tiles stand, when they are loaded, who waits for whom.

A lowering states *what* is computed, as steps in order. Each step is one EXECUTE that needs tiles; a group of steps
ends in POSTs and STOREs. The scheduler decides the rest: it loads each tile as early as a place for it is free, over
a tile whose next use lies further away, and emits commands in an order that never needs a wait for a later one.

What is the same for every kind of array stands here: the loop over steps, constants of post-processing, outputs, and
records. Where operands and sums stand, what a LOAD of them waits for, and how far to look ahead is the kind's own
:class:`OperandMemory`.
"""

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from ..hdl.post.pairs import pair_bytes
from ..hdl.shell.commands import Opcode, Parameter
from ..hdl.shell.config import Config
from .program import Program
from .steps import Group, Output, Piece, Step, Tile, Use

__all__ = ["OperandMemory", "OutputRing", "Scheduler", "Scratchpad"]

#: Memories of post-processing that have lines, and the POST field with the first line of each.
_BASES = {Parameter.BIAS.value: "bias_base", Parameter.SCALE.value: "scale_base"}

#: More than any ordinal.
_NEVER = 1 << 62

AnyStep = TypeVar("AnyStep", bound=Step)


class Scratchpad:
    """Places of tiles in one memory.

    Parameters
    ----------
    capacity, alignment : int
        Bytes, and what places are multiples of.

    Members
    -------
    tiles, firsts, ends : list of Tile, list of int, list of int
        Tiles in the order of their places, first bytes of these, and first bytes behind the tiles.
    evicted : int
        Tiles that have had to go.
    refused : Tile or None
        Tile for which there was no room when :meth:`find` was asked last.
    retry : int
        Least `newest` with which there may be room for it.
    """

    def __init__(self, capacity: int, alignment: int):
        self.capacity = capacity
        self._alignment = alignment
        self.tiles: list[Tile] = []
        self.firsts: list[int] = []
        self.ends: list[int] = []
        self.evicted = 0
        self.refused: Tile | None = None
        self.retry = 0

    def place(self, tile: Tile, step: int, newest: int | None) -> bool:
        """Give `tile`, needed by `step`, a place if :meth:`find` finds one."""
        found = self.find(tile, step, newest)
        if found is not None:
            self.put(tile, *found)
        return found is not None

    def put(self, tile: Tile, start: int, clear: int) -> None:
        """Give a tile its place, over whatever stands there; `clear` is what must be over before it is loaded."""
        size = -(-tile.size // self._alignment) * self._alignment
        low, high = bisect_right(self.ends, start), bisect_left(self.firsts, start + size)
        for other in self.tiles[low:high]:
            other.address, other.ordinals = -1, []
        self.evicted += high - low
        self.refused = None
        tile.address, tile.clear, tile.last_use, tile.ordinals = start, clear, 0, []
        self.tiles[low:high], self.firsts[low:high], self.ends[low:high] = [tile], [start], [start + tile.size]

    def find(self, tile: Tile, step: int, newest: int | None) -> tuple[int, int] | None:
        """Find room for `tile`, needed by `step`; with `newest`, only over tiles last used by then.

        Each step is one EXECUTE, so that step n has ordinal n + 1.

        Returns
        -------
        (int, int) or None
            Address, and the command that was the last to use what stands there.
        """
        if tile.size > self.capacity:
            raise AssertionError(f"tile of {tile.size} bytes in a memory of {self.capacity}")
        alignment, limit = self._alignment, _NEVER if newest is None else newest
        size = -(-tile.size // alignment) * alignment
        top, tiles, firsts, ends = self.capacity - size, self.tiles, self.firsts, self.ends
        starts = {0, top}
        for first, end in zip(firsts, ends, strict=True):
            starts.add(first - (first - end) // alignment * alignment)
            starts.add(first - size)
        best: tuple[int, int, bool, int] | None = None
        for start in starts:
            if not 0 <= start <= top:
                continue
            wanted = latest = 0
            for other in tiles[bisect_right(ends, start):bisect_left(firsts, start + size)]:
                if other.uses:
                    if other.uses[0] <= step:
                        break
                    wanted += 1
                if other.last_use > latest:
                    latest = other.last_use
                if other.clear > latest:
                    latest = other.clear
            else:
                # Tiles at either end leave the room between them in one piece, whatever their sizes.
                cost = wanted, latest, 0 < start < top, start
                if latest <= limit and (best is None or cost < best):
                    best = cost
        if best is not None:
            return best[3], best[1]
        # Each place is over a tile that has been used too lately, or will be used too soon.
        self.refused, self.retry = tile, min(
            tile.uses[0] + 1 if tile.uses and tile.uses[0] <= step else max(tile.last_use, tile.clear)
            for tile in tiles)
        return None


class OutputRing:
    """Places in the output scratchpad, taken in turn."""

    def __init__(self, capacity: int, alignment: int):
        self._capacity = capacity
        self._alignment = alignment
        self._next = 0
        self._taken: list[tuple[int, int, int]] = []

    def place(self, size: int) -> tuple[int, int]:
        """Address of `size` bytes, and the STORE that must have read what was there."""
        if size > self._capacity:
            raise AssertionError(f"output of {size} bytes in a memory of {self._capacity}")
        start = -(-self._next // self._alignment) * self._alignment
        if start + size > self._capacity:
            start = 0
        self._next = start + size
        wait, kept = 0, []
        for entry in self._taken:
            if entry[0] < start + size and start < entry[1]:
                wait = max(wait, entry[2])
            # What was only partly overwritten stays taken: its rest may still be waiting to be read.
            if entry[0] < start or start + size < entry[1]:
                kept.append(entry)
        self._taken = kept
        return start, wait

    def take(self, start: int, size: int, store: int) -> None:
        """Record the STORE that reads a place."""
        self._taken.append((start, start + size, store))


class OperandMemory(ABC, Generic[AnyStep]):
    """Where the operands and sums of a kind of array stand.

    Members
    -------
    scheduler : Scheduler
        Who asks, and emits commands.
    steps : sequence of Step
        All steps.
    """

    scheduler: "Scheduler[AnyStep]"
    steps: Sequence[AnyStep] = ()

    def begin(self, scheduler: "Scheduler[AnyStep]", steps: Sequence[AnyStep]) -> None:
        """Take over the steps, before the first."""
        self.scheduler, self.steps = scheduler, steps

    @abstractmethod
    def enter(self, index: int) -> None:
        """Begin a step: decide where its sums stand."""

    @abstractmethod
    def needs(self, index: int) -> Iterable[Use]:
        """Tiles that a step can't do without and that do not stand yet, in the order in which they are loaded.

        Constants that it wants may be among them.
        """

    @abstractmethod
    def bring(self, use: Use, index: int) -> bool:
        """Load what a step needs of a tile, over whatever no step before it needs; return whether all stands."""

    @abstractmethod
    def execute(self, index: int) -> None:
        """Emit a step's EXECUTE."""

    @abstractmethod
    def look_ahead(self, index: int) -> None:
        """Emit LOADs for steps behind the one whose EXECUTE has just been emitted."""

    def repeat(self, index: int) -> int:
        """Emit further steps of a group, of which the first has been emitted, at once; return how many."""
        return 0

    @abstractmethod
    def post_fields(self, index: int) -> tuple[int, ...]:
        """Fields of a POST, those named by ``posted``, that say where the sums of a step stand."""

    #: Names of these fields. A body's ``acc_base`` is relative where it is one of them.
    posted: tuple[str, ...] = ()

    def store_sums(self, output: Output, index: int, execute: int) -> int | None:
        """Emit STOREs that read finished sums themselves, and return the last; None if sums leave by POSTs."""
        return None

    def released(self, index: int, ordinal: int) -> None:
        """Note that all sums of a step leave with a POST or STORE of the ordinal."""

    def profile_waits(self, execute: int) -> int:
        """EXECUTE that a record waits for beside all STOREs before it."""
        return 0

    def load_cycles(self, body: Mapping[str, int]) -> float:
        """Cycles by which a LOAD moves :attr:`Scheduler.load_clock` on, if the kind looks at it."""
        return 0.0


class Scheduler(Generic[AnyStep]):
    """Emits the commands of all layers' steps.

    Parameters
    ----------
    config : Config
        Configuration.
    memory : OperandMemory
        That of the kind of array.

    Members
    -------
    program : Program
        The commands so far.
    load_clock : float
        When, in cycles, what has been emitted will have been loaded.
    evicted : int
        Tiles of constants that have had to go.
    """

    def __init__(self, config: Config, memory: OperandMemory[AnyStep]):
        self.config, self._memory = config, memory
        self.program = program = Program(config.commands)
        lanes, channels = config.post.lanes, config.scratchpads.channels
        self._line = {Parameter.BIAS.value: lanes * 4, Parameter.SCALE.value: lanes * 8}
        self.pads = {
            Parameter.BIAS.value: Scratchpad(channels * 4, lanes * 4),
            Parameter.SCALE.value: Scratchpad(channels * 8, lanes * 8),
            Parameter.TABLE.value: Scratchpad(config.sum_columns * 256, config.sum_columns * 256),
        }
        if config.has_pairs:
            size = pair_bytes(config)
            self.pads[config.pair_memory] = Scratchpad(size, size)
        self._outputs = OutputRing(config.scratchpads.output_bytes, lanes * config.sum_bytes)
        self.loads = program.stream(Opcode.LOAD, ("destination", "address"))
        self._stores = program.stream(Opcode.STORE, ("address",))
        self.load_clock, self.evicted = 0.0, 0
        #: Group whose outputs have not been emitted: the group, its last EXECUTE, its last step.
        self._deferred: tuple[Group, int, int] | None = None

    def run(self, steps: Sequence[AnyStep]) -> Program:
        """Emit the steps of all layers, in order; those of a group stand together."""
        memory = self._memory
        last = len(steps) - 1
        for index, step in enumerate(steps):
            for use in step.operands:
                use.tile.uses.append(index)
            if index == last or steps[index + 1].group is not step.group:
                for output in step.group.outputs:
                    for use in output.constants:
                        use.tile.uses.append(index)
        memory.begin(self, steps)
        index = 0
        while index <= last:
            memory.enter(index)
            self._ensure(index)
            memory.execute(index)
            memory.look_ahead(index)
            # Only now: the next group's first EXECUTE need not stand behind POSTs that wait.
            self.flush()
            index += memory.repeat(index)
            group = steps[index].group
            if (index == last or steps[index + 1].group is not group) and (group.outputs or group.profile is not None):
                self._deferred = group, self.program.counts["execute"], index
            index += 1
        self.flush()
        return self.program

    def _ensure(self, index: int) -> None:
        memory = self._memory
        for use in memory.needs(index):
            # Constants may have to wait until those of the group before have been used: POST brings them.
            if memory.bring(use, index) or use.tile.memory in self.pads:
                continue
            self.flush()
            if not memory.bring(use, index):
                raise AssertionError(f"step {index} can't have its {self._name(use.tile)} tile of "
                                     f"{use.tile.size} bytes")

    def _name(self, tile: Tile) -> str:
        return self.config.commands.destination(tile.memory).name.lower()

    def load(self, tile: Tile, piece: Piece, execute: int, post: int, store: int) -> int:
        """Emit the LOADs of a piece of a tile that has its place, and return the last."""
        append, cycles, ordinal = self.loads.append, self._memory.load_cycles, 0
        for body in piece.loads:
            ordinal = append(body, 0, execute, post, store, body.get("destination", tile.memory),
                             tile.address + body["address"])
            self.load_clock += cycles(body)
        return ordinal

    def bring_constant(self, use: Use, step: int) -> bool:
        """Load a tile of constants if it does not stand; return whether it does."""
        tile = use.tile
        if tile.ordinals:
            return True
        (piece,) = tile.pieces
        store, pad = piece.ready(), self.pads[tile.memory]
        if store is None or not (tile.address >= 0 or pad.place(tile, step, None)):
            return False
        self.evicted = sum(each.evicted for each in self.pads.values())
        tile.ordinals.append(self.load(tile, piece, 0, tile.clear, store))
        return True

    def flush(self) -> None:
        """Emit the POSTs and STOREs of the group that has been executed last."""
        if self._deferred is None:
            return
        (group, execute, index), self._deferred = self._deferred, None
        ordinal = 0
        for output in group.outputs:
            latest = self._memory.store_sums(output, index, execute)
            if latest is None:
                ordinal, latest = self._post(output, execute, index)
            else:
                ordinal = latest
            buffer, rows, elements = output.target
            buffer.note_store(rows, elements, latest)
        if group.outputs:
            self._memory.released(index, ordinal)
        if group.profile is not None:
            self.program.stream(Opcode.STORE).append(
                {"profile": 1, "dram": group.profile}, 0, self._memory.profile_waits(execute), 0,
                self.program.counts["store"])

    def _post(self, output: Output, execute: int, index: int) -> tuple[int, int]:
        """Emit a POST and the STOREs of what it writes; return the ordinals of it and of the last of them."""
        body, load = output.body, 0
        fields: dict[str, int] = dict(zip(self._memory.posted, self._memory.post_fields(index), strict=True))
        if "acc_base" in fields:
            fields["acc_base"] += body["acc_base"]
        for use in output.constants:
            tile = use.tile
            # Constants of the group's later outputs may have to go, and come back.
            if not self.bring_constant(use, index - 1):
                raise AssertionError(f"no room for a {self._name(tile)} tile of {tile.size} bytes")
            load = max(load, tile.ordinals[-1])
            name = _BASES.get(tile.memory)
            if name:
                # Where columns are pixels, bases count entries.
                entries = self.config.post.lanes if body.get("transposed") else 1
                fields[name] = body.get(name, 0) + tile.address * entries // self._line[tile.memory]
        place, store = self._outputs.place(output.size)
        fields["out_base"] = body.get("out_base", 0) + place
        ordinal = self.program.stream(Opcode.POST, tuple(fields)).append(body, load, execute, 0, store,
                                                                         *fields.values())
        for use in output.constants:
            use.tile.uses.popleft()
            use.tile.last_use = ordinal
        latest = 0
        for stored in output.stores:
            latest = self._stores.append(stored, 0, 0, ordinal, 0, place + stored["address"])
        self._outputs.take(place, output.size, latest)
        return ordinal, latest
