"""From steps to commands: where tiles stand in the scratchpads, when they are loaded, who waits for whom.

A lowering states *what* is computed, as steps in order. Each step is one EXECUTE that needs tiles; each
group of steps fills one bank of the accumulators and ends in POSTs and STOREs. The scheduler decides the
rest: it loads each tile as early as a place for it is free, over a tile whose next use lies further
away, and emits commands in an order that never needs a wait for a later one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...hdl.shell.commands import ADDRESS_BITS
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ..program import Program
from ..steps import Group, Output, Step, Tile, Use
from .cost import execute_cycles, load_cycles

__all__ = ["Buffer", "ContractionStep", "OutputBuffer", "Scheduler"]

#: Plain numbers: the scheduler looks them up more often than an enumeration's hash is cheap.
_OPERANDS = {Destination.ACTIVATION.value, Destination.WEIGHT.value}

#: Steps to look ahead for tiles to load.
_HORIZON = 32


@dataclass(eq=False)
class ContractionStep(Step):
    """One EXECUTE of the systolic array.

    Parameters
    ----------
    group : Group
        Group it adds to.
    a, w : Use
        Tiles of activations and weights.
    body : dict
        EXECUTE body without bank, with ``a_base`` and ``w_base`` relative to the tiles, in operands.
    w_first : bool
        Load weights before activations.
    """

    a: Use
    w: Use
    body: dict[str, int]
    w_first: bool = False

    @property
    def operands(self) -> tuple[Use, Use]:
        """Tiles of activations and weights, in the order in which they are loaded."""
        return (self.w, self.a) if self.w_first else (self.a, self.w)


class Buffer:
    """Places in one scratchpad."""

    def __init__(self, capacity: int, alignment: int):
        self.capacity = capacity
        self._alignment = alignment
        self._tiles: list[Tile] = []

    def _rounded(self, tile: Tile) -> int:
        return -(-tile.size // self._alignment) * self._alignment

    def place(self, tile: Tile, step: int, newest: int | None) -> bool:
        """Find room for `tile`, needed by `step`; with `newest`, only over tiles last used by then."""
        if tile.size > self.capacity:
            raise AssertionError(f"tile of {tile.size} bytes in a memory of {self.capacity}")
        size = self._rounded(tile)
        top = self.capacity - size
        starts = {0, top}
        for other in self._tiles:
            starts |= {other.address + self._rounded(other), other.address - size}
        best: tuple[tuple[int, int, bool, int], int, list[Tile]] | None = None
        for start in starts:
            if not 0 <= start <= top:
                continue
            victims = [other for other in self._tiles
                       if other.address < start + size and start < other.address + other.size]
            if any(other.uses and other.uses[0] <= step for other in victims):
                continue
            latest = max((max(other.last_use, other.clear) for other in victims), default=0)
            if newest is not None and latest > newest:
                continue
            # Tiles at either end leave the room between them in one piece, whatever their sizes.
            cost = (sum(bool(other.uses) for other in victims), latest, 0 < start < top, start)
            if best is None or cost < best[0]:
                best = (cost, start, victims)
        if best is None:
            return False
        (_, latest, _, _), start, victims = best
        for other in victims:
            other.address, other.ordinals = -1, []
            self._tiles.remove(other)
        tile.address, tile.clear, tile.last_use, tile.ordinals = start, latest, 0, []
        self._tiles.append(tile)
        return True


class OutputBuffer:
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
        hit = [entry for entry in self._taken if entry[0] < start + size and start < entry[1]]
        wait = max((entry[2] for entry in hit), default=0)
        # What was only partly overwritten stays taken: its rest may still be waiting to be read.
        self._taken = [entry for entry in self._taken if entry[0] < start or start + size < entry[1]]
        return start, wait

    def take(self, start: int, size: int, store: int) -> None:
        """Record the STORE that reads a place."""
        self._taken.append((start, start + size, store))


class Scheduler:
    """Emit the commands of all layers' steps.

    Parameters
    ----------
    config : SystolicConfig
        Configuration.
    """

    def __init__(self, config: SystolicConfig):
        self._config = config
        self.program = Program(config.commands)
        pads, beat = config.scratchpads, config.beat_bytes
        line = config.post.lanes
        self._buffers = {
            Destination.ACTIVATION.value: Buffer(pads.activation_bytes, max(beat, config.operand_bytes)),
            Destination.WEIGHT.value: Buffer(pads.weight_bytes, max(beat, config.operand_bytes)),
            Destination.BIAS.value: Buffer(pads.channels * 4, line * 4),
            Destination.SCALE.value: Buffer(pads.channels * 8, line * 8),
            Destination.TABLE.value: Buffer(config.array.cols * 256, config.array.cols * 256),
        }
        self._output = OutputBuffer(pads.output_bytes, line * config.sum_bytes)
        self._steps: Sequence[ContractionStep] = ()
        #: Group whose sums stand in a bank: the group, the bank, its last EXECUTE, its last step.
        self._deferred: tuple[Group, int, int, int] | None = None
        self._bank = 1
        self._bank_post = [0, 0]
        #: When, in cycles, what has been emitted will have been loaded and executed.
        self._load_clock = self._execute_clock = 0.0

    def _needs(self, index: int) -> list[Use]:
        """Operands of a step, and the constants of the step before: they are wanted only when its sums are there."""
        step, before = self._steps[index], self._steps[index - 1] if index else None
        if before is None or before.group is step.group:
            return [*step.operands]
        return [*step.operands, *before.group.outputs[0].constants]

    def run(self, steps: Sequence[ContractionStep]) -> Program:
        """Emit everything.

        Parameters
        ----------
        steps : sequence of ContractionStep
            Steps of all layers in order; those of a group stand together.

        Returns
        -------
        Program
            The program.
        """
        self._steps = steps
        last = {id(step.group): index for index, step in enumerate(steps)}
        for index, step in enumerate(steps):
            step.a.tile.uses.append(index)
            step.w.tile.uses.append(index)
            if last[id(step.group)] == index:
                for output in step.group.outputs:
                    for use in output.constants:
                        use.tile.uses.append(index)
        group: Group | None = None
        for index, step in enumerate(steps):
            opens = step.group is not group
            if opens:
                group = step.group
                self._bank ^= 1
            self._ensure(index)
            ordinal = self._execute(step)
            self._prefetch(index)
            if opens:
                # Only now: the next group's first EXECUTE need not stand behind POSTs that wait.
                self._flush()
            if last[id(group)] == index:
                assert group is not None
                self._deferred = group, self._bank, ordinal, index
        self._flush()
        return self.program

    def _execute(self, step: ContractionStep) -> int:
        ordinal = self.program.execute(
            {"load": max(max(use.tile.ordinals[:use.pieces]) for use in (step.a, step.w)),
             "post": self._bank_post[self._bank]},
            **step.body | {
                "bank": self._bank,
                "a_base": self._operand(step.a.tile, step.body["a_base"]),
                "w_base": self._operand(step.w.tile, step.body["w_base"]),
            })
        for use in (step.a, step.w):
            use.tile.uses.popleft()
            use.tile.last_use = ordinal
        loaded = max(use.tile.loaded for use in (step.a, step.w))
        self._execute_clock = max(self._execute_clock, loaded) + execute_cycles(self._config, step.body)
        return ordinal

    def _operand(self, tile: Tile, offset: int) -> int:
        return (tile.address // self._config.operand_bytes + offset) % (1 << ADDRESS_BITS)

    def _bring(self, use: Use, step: int, newest: int | None = None, until: float | None = None) -> bool:
        """Load the missing pieces of a tile; return whether all stand.

        With `newest`, only over what that EXECUTE and those before it were the last to read; with
        `until`, only what will have come by then.
        """
        tile = use.tile
        if tile.address < 0:
            if tile.pieces[0].ready() is None or (until is not None and self._load_clock > until):
                return False
            if not self._buffers[tile.memory].place(tile, step, newest):
                return False
        queue = "execute" if tile.memory in _OPERANDS else "post"
        while len(tile.ordinals) < use.pieces:
            piece = tile.pieces[len(tile.ordinals)]
            store = piece.ready()
            if store is None or (until is not None and self._load_clock > until):
                return False
            ordinal = 0
            for body in piece.loads:
                ordinal = self.program.load(
                    {queue: tile.clear, "store": store},
                    **body | {"destination": tile.memory, "address": tile.address + body["address"]})
                self._load_clock += load_cycles(self._config, body)
            tile.ordinals.append(ordinal)
            tile.loaded = self._load_clock
        return True

    def _ensure(self, index: int) -> None:
        for use in self._needs(index):
            # Constants may have to wait until those of the group before have been used: POST brings them.
            if self._bring(use, index) or use.tile.memory not in _OPERANDS:
                continue
            self._flush()
            if not self._bring(use, index):
                raise AssertionError(f"step {index} can't have its {Destination(use.tile.memory).name.lower()} tile of "
                                     f"{use.tile.size} bytes")

    def _prefetch(self, index: int) -> None:
        """Emit LOADs for later steps: all for the next one, and more as far as there is time for them.

        LOADs that the port has no time for yet would only keep it from fetching the next EXECUTE.
        """
        # A place that the EXECUTE just emitted still reads would be free only when it ends.
        newest = self.program.counts["execute"] - 1
        blocked: set[int] = set()
        for ahead in range(index + 1, min(index + _HORIZON, len(self._steps))):
            until = None if ahead == index + 1 else self._execute_clock
            for use in self._needs(ahead):
                memory = use.tile.memory
                if len(use.tile.ordinals) >= use.pieces:
                    continue
                if memory not in blocked and not self._bring(use, ahead, newest if memory in _OPERANDS else None,
                                                             until):
                    blocked.add(memory)
            if blocked >= _OPERANDS or (until is not None and self._load_clock > until):
                return

    def _flush(self) -> None:
        """Emit the POSTs and STOREs of the group that has been executed last."""
        if self._deferred is None:
            return
        (group, bank, execute, index), self._deferred = self._deferred, None
        for output in group.outputs:
            self._post(output, bank, execute, index)
        if group.profile is not None:
            count = self.program.counts["store"]
            self.program.store({"store": count}, profile=1, dram=group.profile)

    def _post(self, output: Output, bank: int, execute: int, index: int) -> None:
        body = output.body | {"bank": bank}
        load = 0
        for name, use in (("bias", output.bias), ("scale", output.scale), ("table", output.table)):
            if use is None:
                continue
            # Constants of the group's later outputs may have to go, and come back.
            if not self._bring(use, index - 1):
                raise AssertionError(f"no room for a {name} tile of {use.tile.size} bytes")
            load = max(load, *use.tile.ordinals[:use.pieces])
            if name != "table":
                line = self._config.post.lanes * (4 if name == "bias" else 8)
                body[f"{name}_base"] = body.get(f"{name}_base", 0) + use.tile.address // line
        place, store = self._output.place(output.size)
        body["out_base"] = body.get("out_base", 0) + place
        ordinal = self.program.post({"load": load, "execute": execute, "store": store}, **body)
        for use in output.constants:
            use.tile.uses.popleft()
            use.tile.last_use = ordinal
        self._bank_post[bank] = ordinal
        for fields in output.stores:
            latest = self.program.store({"post": ordinal}, **fields | {"address": place + fields["address"]})
        self._output.take(place, output.size, latest)
        stored, pixels, channels = output.target
        stored.note_store(pixels, channels, latest)
