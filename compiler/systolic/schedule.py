"""Where operands and sums of the systolic array stand: two scratchpads, and two banks of accumulators.

Steps of a group add up in one bank, those of the next in the other. LOADs go ahead as far as the port has time for
them while the array is at work.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ...hdl.shell.commands import ADDRESS_BITS, COMMAND_BYTES, Opcode
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..moves import copied
from ..program import Program, Read
from ..schedule import OperandMemory, Posted, Scheduler
from ..scratchpads import NoPlaceError, Scratchpad
from ..steps import Tile, Use
from ..timing.latencies import UnendingError
from .cost import execute_cycles, load_cycles
from .handover import release
from .repeat import Repeats
from .steps import ContractionStep
from .timeline import timeline

__all__ = ["cycles_of", "note_reads", "schedule"]

#: Plain numbers: the scheduler looks them up more often than an enumeration's hash is cheap.
_ACTIVATION, _WEIGHT = Destination.ACTIVATION.value, Destination.WEIGHT.value

_ADDRESSES = 1 << ADDRESS_BITS

#: Fields of an EXECUTE that depend on where operands and sums stand.
_EXECUTE_FIELDS = ("bank", "a_base", "w_base")

#: Steps to look ahead for tiles to load.
_HORIZON = 32


def _needs_nothing(use: Use) -> bool:
    """Whether there is nothing to load ahead: it stands, or MOVEs bring it."""
    return use.tile.is_resident or len(use.tile.ordinals) >= use.pieces


class _Scratchpads(OperandMemory[ContractionStep]):
    """Activations, weights, and the accumulators."""

    posted = ("bank", "release")

    def __init__(self, config: SystolicConfig, timing: MemoryTiming):
        self._config, self._timing, self._item = config, timing, config.operand_bytes
        self.fetch_cycles = COMMAND_BYTES / config.beat_bytes
        pads, alignment = config.scratchpads, max(config.beat_bytes, config.operand_bytes)
        self.pads = {_ACTIVATION: Scratchpad(pads.activation_bytes, alignment),
                     _WEIGHT: Scratchpad(pads.weight_bytes, alignment)}
        self._bank, self._current = 1, 0
        #: POST that has read the sums of each bank last.
        self._bank_post = [0, 0]
        #: That POST, until an EXECUTE comes to its bank.
        self._reading: list[Posted | None] = [None, None]
        #: When, in cycles, what has been emitted will have been executed, and whether cycles add up without rounding.
        self.execute_clock, self.is_exact = 0.0, True
        #: Cycles of LOADs and EXECUTEs by the identity of their bodies.
        self._cycles: dict[int, float] = {}
        #: Steps before which all activations, all weights and all constants stand.
        self._a_front = self._w_front = self._constants_front = 0
        #: What :attr:`Scheduler.evicted` was when that of the constants was set.
        self._evicted = 0

    def begin(self, scheduler: Scheduler[ContractionStep], steps: Sequence[ContractionStep]) -> None:
        super().begin(scheduler, steps)
        begins: dict[int, tuple[int, Tile]] = {}
        for index, step in enumerate(steps):
            for output in step.group.outputs:
                for moves in output.moves:
                    begins.setdefault(id(moves.tile), (index, moves.tile))
        #: Resident tiles, and the first steps of the groups that are the first to move something into them.
        self._begins = list(begins.values())
        self._begun = 0
        tiles = {id(use.tile): use.tile for step in steps for use in step.operands}
        for memory, pad in self.pads.items():
            pad.has_moves = bool(begins)
            pad.shrink(tile for tile in tiles.values() if tile.memory == memory)
        self.executes = scheduler.program.stream(Opcode.EXECUTE, _EXECUTE_FIELDS)
        self._repeats = Repeats(self, _HORIZON)

    def enter(self, index: int) -> None:
        if index == 0 or self.steps[index].group is not self.steps[index - 1].group:
            self._repeats.end()
            self._bank ^= 1
        self._current = index

    def repeat(self, index: int) -> int:
        done = self._repeats.emit(index)
        self._current += done
        return done

    def needs(self, index: int) -> Iterable[Use]:
        step = self.steps[index]
        for use in (*step.loads, *self.constants(index)):
            if len(use.tile.ordinals) < use.pieces:
                yield use

    def constants(self, index: int) -> tuple[Use, ...]:
        """Constants of the group before, if a step begins one: they are wanted only when its sums are there."""
        if index == 0 or self.steps[index].group is (before := self.steps[index - 1].group):
            return ()
        return before.outputs[0].constants

    def bring(self, use: Use, index: int) -> bool:
        return self._bring(use, index) if use.tile.memory in self.pads else self._bring_constant(use, index)

    def _bring(self, use: Use, step: int, newest: int | None = None, until: float | None = None) -> bool:
        """Load the missing pieces of an operand's tile; return whether all stand.

        With `newest`, only over what that EXECUTE and those before it were the last to read; with
        `until`, only what will have come by then.
        """
        tile, scheduler = use.tile, self.scheduler
        ordinals = tile.ordinals
        while len(ordinals) < use.pieces:
            piece = tile.pieces[len(ordinals)]
            store = piece.ready()
            if store is None:
                self._repeats.waits()
                return False
            if until is not None and scheduler.load_clock > until:
                return False
            if tile.address < 0:
                pad = self.pads[tile.memory]
                if newest is not None and ((pad.refused is tile and newest < pad.retry)
                                           or self._would_be_in_the_way(tile, step)):
                    return False
                if not pad.place(tile, step, newest):
                    return False
                ordinals = tile.ordinals
                if tile.is_resident:
                    self._fill(tile)
            ordinals.append(tile.filled if tile.is_resident else scheduler.load(tile, piece, tile.clear, 0, store))
            tile.loaded = scheduler.load_clock
            self._repeats.note(step, tile)
        return True

    def _would_be_in_the_way(self, tile: Tile, step: int) -> bool:
        """Whether resident tiles that are filled before a step want the room in which its tile would stand by then."""
        begins = self._begins
        while self._begun < len(begins) and (begins[self._begun][1].address >= 0 or not begins[self._begun][1].uses):
            self._begun += 1
        wanted = 0
        for begin, resident in begins[self._begun:]:
            if begin >= step:
                break
            if resident.memory == tile.memory and resident.address < 0 and resident.uses:
                wanted += resident.size
        if not wanted:
            return False
        pad = self.pads[tile.memory]
        return wanted + tile.size + sum(other.size for other in pad.tiles if other.uses) > pad.capacity

    def hold(self, tile: Tile, index: int) -> None:
        pad = self.pads[tile.memory]
        # What is wanted before the tile itself had better stay.
        if not (pad.place(tile, tile.uses[0], None) or pad.place(tile, index + 1, None)):
            raise NoPlaceError(f"no place for a resident tile of {tile.size} bytes at step {index}")
        self._fill(tile)

    def _fill(self, tile: Tile) -> None:
        """Fill what is padding in a resident tile that has just been placed."""
        for piece in tile.pieces:
            piece.moved = 0
            tile.filled = max(tile.filled, self.scheduler.load(tile, piece, tile.clear, 0, 0))

    def _bring_constant(self, use: Use, step: int) -> bool:
        """Load a tile of constants that a step wants and that does not stand; return whether it does."""
        if not self.scheduler.bring_constant(use, step):
            self._repeats.waits()
            return False
        self._repeats.note(step, use.tile, self.constants(step).index(use))
        return True

    def load_cycles(self, body: Mapping[str, int]) -> float:
        return self._once(body, lambda: load_cycles(self._config, self._timing, body))

    def _once(self, body: Mapping[str, int], price: Callable[[], float]) -> float:
        cycles = self._cycles.get(id(body))
        if cycles is None:
            cycles = self._cycles[id(body)] = price()
            self.is_exact &= (cycles * 64).is_integer()
        return cycles

    def sums_free(self) -> tuple[int, int]:
        """POST that has read the sums of the bank in use last, and the bank."""
        return self._bank_post[self._bank], self._bank

    def execute(self, index: int) -> None:
        step = self.steps[index]
        a, w, body = step.a.tile, step.w.tile, step.body
        if any(piece.awaited for use in (step.a, step.w) for piece in use.tile.pieces[:use.pieces]):
            raise AssertionError(f"step {index} reads what has yet to be moved")
        self._hand_over(body)
        load = max(a.ordinals[:step.a.pieces] + w.ordinals[:step.w.pieces])
        move = max((piece.moved for use in (step.a, step.w) if use.tile.is_resident
                    for piece in use.tile.pieces[:use.pieces]), default=0)
        ordinal = self.executes.append(
            body, load, 0, self._bank_post[self._bank], 0, self._bank,
            (a.address // self._item + body["a_base"]) % _ADDRESSES,
            (w.address // self._item + body["w_base"]) % _ADDRESSES, move=move)
        a.uses.popleft()
        w.uses.popleft()
        a.last_use = w.last_use = ordinal
        cycles = self._once(body, lambda: execute_cycles(self._config, body))
        self.execute_clock = max(self.execute_clock, a.loaded, w.loaded) + cycles
        self.scheduler.load_clock += self.fetch_cycles

    def look_ahead(self, index: int) -> None:
        """Emit LOADs for later steps: all for the next one, and more as far as there is time for them.

        LOADs that the port has no time for yet would only keep it from fetching the next EXECUTE.
        """
        scheduler, steps, first, until = self.scheduler, self.steps, index + 1, self.execute_clock
        end = min(index + _HORIZON, len(steps))
        a, w, blocked = max(self._a_front, first), max(self._w_front, first), set[int]()
        a_open = w_open = True
        while a_open or w_open:
            ahead = end
            if a_open:
                while a < end and _needs_nothing(steps[a].a):
                    a += 1
                self._a_front = ahead = a
            if w_open:
                while w < end and _needs_nothing(steps[w].w):
                    w += 1
                self._w_front = w
                if w < ahead:
                    ahead = w
            ahead = self._missing_constants(first, ahead, blocked)
            if ahead == end or (ahead > first and scheduler.load_clock > until):
                return
            step, before = steps[ahead], None if ahead == first else until
            # A place that the EXECUTE just emitted still reads would be free only when it ends: newest is that before.
            for use in step.loads:
                if _needs_nothing(use):
                    continue
                if use is step.w:
                    w_open = w_open and self._bring(use, ahead, index, before)
                else:
                    a_open = a_open and self._bring(use, ahead, index, before)
            for use in self.constants(ahead):
                if use.tile.memory not in blocked and not use.tile.ordinals and (
                        (before is not None and scheduler.load_clock > before)
                        or not self._bring_constant(use, ahead)):
                    blocked.add(use.tile.memory)

    def _missing_constants(self, first: int, end: int, blocked: set[int]) -> int:
        """First step from `first` on that wants constants which do not stand and may be brought, or `end`."""
        if self._evicted != self.scheduler.evicted:
            self._evicted, self._constants_front = self.scheduler.evicted, first
        at = max(self._constants_front, first)
        while at < end and all(use.tile.ordinals for use in self.constants(at)):
            at += 1
        self._constants_front = at
        while at < end and all(use.tile.ordinals or use.tile.memory in blocked for use in self.constants(at)):
            at += 1
        return min(at, end)

    def post_fields(self, index: int) -> tuple[int, ...]:
        same = self.steps[index].group is self.steps[self._current].group
        return self._bank if same else self._bank ^ 1, 0

    def released(self, index: int, ordinal: int) -> None:
        bank, _ = self.post_fields(index)
        self._bank_post[bank], self._reading[bank] = ordinal, self.scheduler.last_post

    def _hand_over(self, body: Mapping[str, int]) -> None:
        """Let the POST that reads the bank in use give it back as soon as the EXECUTE allows that comes first."""
        if (reading := self._reading[self._bank]) is not None:
            self._reading[self._bank] = None
            stream, entry, post = reading
            stream.change(entry, "release", release(self._config, post, body))


def schedule(config: SystolicConfig, timing: MemoryTiming, steps: Sequence[ContractionStep]) -> Program:
    """Commands of steps."""
    return Scheduler(config, _Scratchpads(config, timing)).run(steps)


def note_reads(config: SystolicConfig, program: Program, steps: Sequence[ContractionStep]) -> None:
    """Note what the EXECUTEs of steps read, each of which has one, in a program that :func:`schedule` has made."""
    executes = program.stream(Opcode.EXECUTE, _EXECUTE_FIELDS)
    inside: dict[tuple[int, int], tuple[int, int, np.ndarray | None]] = {}
    bases = zip(executes.values("a_base"), executes.values("w_base"), strict=True)
    for ordinal, (step, each) in enumerate(zip(steps, bases, strict=True), 1):
        for base, name, use in zip(each, ("a_base", "w_base"), step.operands, strict=True):
            key = id(use.tile), use.pieces
            if key not in inside:
                inside[key] = _standing(use)
            first, end, some = inside[key]
            address = (base - step.body[name]) % _ADDRESSES * config.operand_bytes
            program.reads.append(Read(ordinal, use.tile.memory, address + first, address + end, some))


def _standing(use: Use) -> tuple[int, int, np.ndarray | None]:
    """First byte of a tile that stands when a step uses it, that behind the last, and which of them, None for all."""
    tile = use.tile
    if tile.is_resident or use.pieces == len(tile.pieces):
        return 0, tile.size, None
    parts = [copied(body, "address") for piece in tile.pieces[:use.pieces] for body in piece.loads]
    if not parts:
        return 0, 0, None
    found = np.unique(np.concatenate(parts))
    first, end = int(found[0]), int(found[-1]) + 1
    return first, end, None if end - first == found.size else found - first


def cycles_of(config: SystolicConfig, timing: MemoryTiming, steps: Sequence[ContractionStep]) -> float:
    """Cycles of a program of some steps, infinitely many if it would never end."""
    try:
        return float(timeline(config, schedule(config, timing, steps), timing).cycles)
    except UnendingError:
        return float("inf")
