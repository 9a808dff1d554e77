"""From steps to commands: where tiles stand, when they are loaded, who waits for whom.

A lowering states *what* is computed, as steps in order. Each step is one EXECUTE that needs tiles; a group of steps
ends in POSTs and STOREs. The scheduler decides the rest: it loads each tile as early as a place for it is free, over
a tile whose next use lies further away, and emits commands in an order that never needs a wait for a later one.

What is the same for every kind of array stands here: the loop over steps, constants of post-processing, outputs, and
records. Where operands and sums stand, what a LOAD of them waits for, and how far to look ahead is the kind's own
:class:`OperandMemory`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from ..hdl.post.pairs import pair_bytes
from ..hdl.shell.commands import Opcode, Parameter
from ..hdl.shell.config import Config
from .program import Program, Stream
from .scratchpads import NoPlaceError, OutputRing, Scratchpad
from .steps import Group, Output, Piece, Step, Tile, Use

__all__ = ["OperandMemory", "Posted", "Scheduler"]

#: Memories of post-processing that have lines, and the POST field with the first line of each.
_BASES = {Parameter.BIAS.value: "bias_base", Parameter.SCALE.value: "scale_base"}

#: A POST: its stream, its place among the commands of that, and its body.
Posted = tuple[Stream, int, Mapping[str, int]]

AnyStep = TypeVar("AnyStep", bound=Step)


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

    def hold(self, tile: Tile, index: int) -> None:
        """Give a resident tile its place when the outputs of a step are about to be moved into it.

        Raises
        ------
        NoPlaceError
            If there is none.
        """
        raise NotImplementedError

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

    #: Cycles by which the fetch of a command that is no LOAD moves :attr:`Scheduler.load_clock` on.
    fetch_cycles: float = 0.0

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
        self._moves = program.stream(Opcode.MOVE, ("destination", "address", "target")) if config.has_moves else None
        self.load_clock, self.evicted = 0.0, 0
        self.last_post: Posted | None = None
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
                raise NoPlaceError(f"step {index} can't have its {self._name(use.tile)} tile of "
                                   f"{use.tile.size} bytes")

    def _name(self, tile: Tile) -> str:
        return self.config.commands.destination(tile.memory).name.lower()

    def load(self, tile: Tile, piece: Piece, execute: int, post: int, store: int) -> int:
        """Emit the LOADs of a piece of a tile that has its place, and return the last."""
        append, cycles, ordinal = self.loads.append, self._memory.load_cycles, 0
        for body in piece.loads:
            ordinal = append(body, 0, execute, post, store, body.get("destination", tile.memory),
                             tile.address + body["address"], move=tile.overwritten)
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
            counts, moves = self.program.counts, any(output.moves for output in group.outputs)
            self.program.stream(Opcode.STORE).append(
                {"profile": 1, "dram": group.profile}, 0, self._memory.profile_waits(execute),
                counts["post"] if moves else 0, counts["store"], move=counts["move"] if moves else 0)

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
        place, store, move = self._place(output)
        fields["out_base"] = body.get("out_base", 0) + place
        posts = self.program.stream(Opcode.POST, tuple(fields))
        ordinal = posts.append(body, load, execute, 0, store, *fields.values(), move=move)
        self.last_post = posts, len(posts) - 1, body
        for use in output.constants:
            use.tile.uses.popleft()
            use.tile.last_use = ordinal
        latest = 0
        for stored in output.stores:
            latest = self._stores.append(stored, 0, 0, ordinal, 0, place + stored["address"])
        moved = self._move(output, place, ordinal, index)
        self.load_clock += (1 + len(output.stores)) * self._memory.fetch_cycles
        if output.stores or output.moves:
            self._outputs.take(place, output.room.size if output.room else output.size, latest, moved)
        return ordinal, latest

    def _place(self, output: Output) -> tuple[int, int, int]:
        """Place of an output, and the STORE and the MOVE that must have read what was there."""
        room = output.room
        if room is None:
            return self._outputs.place(output.size)
        if room.address < 0:
            # Groups of other layers may come before the last that fills it.
            room.address, *room.clear = self._outputs.place(room.size, is_open=True)
        store, move = room.clear
        return room.address, store, move

    def _move(self, output: Output, place: int, post: int, index: int) -> int:
        """Emit the MOVEs of what a POST writes; return the last."""
        latest = 0
        for moves in output.moves:
            tile = moves.tile
            if tile.address < 0:
                self._memory.hold(tile, index)
            assert self._moves is not None
            for body in moves.bodies:
                latest = self._moves.append(body, tile.filled, tile.clear, post, 0, tile.memory,
                                            place + body["address"], tile.address + body["target"])
            moves.piece.awaited -= 1
            moves.piece.moved = latest
        return latest
