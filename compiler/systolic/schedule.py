"""Where operands and sums of the systolic array stand: two scratchpads, and two banks of accumulators.

Steps of a group add up in one bank, those of the next in the other. LOADs go ahead as far as the port has time for
them while the array is at work.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...hdl.shell.commands import ADDRESS_BITS, Opcode
from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ..program import Program
from ..schedule import OperandMemory, Scheduler, Scratchpad
from ..steps import Step, Use
from .cost import execute_cycles, load_cycles

__all__ = ["ContractionStep", "schedule"]

#: Plain numbers: the scheduler looks them up more often than an enumeration's hash is cheap.
_ACTIVATION, _WEIGHT = Destination.ACTIVATION.value, Destination.WEIGHT.value

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


class _Scratchpads(OperandMemory[ContractionStep]):
    """Activations, weights, and the accumulators."""

    posted = ("bank",)

    def __init__(self, config: SystolicConfig):
        self._config = config
        pads, alignment = config.scratchpads, max(config.beat_bytes, config.operand_bytes)
        self._pads = {_ACTIVATION: Scratchpad(pads.activation_bytes, alignment),
                      _WEIGHT: Scratchpad(pads.weight_bytes, alignment)}
        self._bank, self._current = 1, 0
        #: POST that has read the sums of each bank last.
        self._bank_post = [0, 0]
        #: When, in cycles, what has been emitted will have been executed.
        self._execute_clock = 0.0
        #: Cycles of LOADs and EXECUTEs by the identity of their bodies.
        self._cycles: dict[int, float] = {}
        #: Steps before which all activations, all weights and all constants stand.
        self._fronts = {_ACTIVATION: 0, _WEIGHT: 0}
        self._constants_front = 0
        #: What :attr:`Scheduler.evicted` was when that of the constants was set.
        self._evicted = 0

    def begin(self, scheduler: Scheduler[ContractionStep], steps: Sequence[ContractionStep]) -> None:
        super().begin(scheduler, steps)
        self._execute = scheduler.program.stream(Opcode.EXECUTE, ("bank", "a_base", "w_base"))

    def enter(self, index: int) -> None:
        if index == 0 or self.steps[index].group is not self.steps[index - 1].group:
            self._bank ^= 1
        self._current = index

    def needs(self, index: int) -> Iterable[Use]:
        return [*self.steps[index].operands, *self._constants(index)]

    def _constants(self, index: int) -> tuple[Use, ...]:
        """Constants of the group before, if a step begins one: they are wanted only when its sums are there."""
        if index == 0 or self.steps[index].group is (before := self.steps[index - 1].group):
            return ()
        return before.outputs[0].constants

    def bring(self, use: Use, index: int) -> bool:
        return self._bring(use, index) if use.tile.memory in self._pads else self.scheduler.bring_constant(use, index)

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
            if store is None or (until is not None and scheduler.load_clock > until):
                return False
            if tile.address < 0:
                if not self._pads[tile.memory].place(tile, step, newest):
                    return False
                ordinals = tile.ordinals
            ordinals.append(scheduler.load(tile, piece, tile.clear, 0, store))
            tile.loaded = scheduler.load_clock
        return True

    def load_cycles(self, body: Mapping[str, int]) -> float:
        cycles = self._cycles.get(id(body))
        if cycles is None:
            cycles = self._cycles[id(body)] = load_cycles(self._config, body)
        return cycles

    def execute(self, index: int) -> int:
        step = self.steps[index]
        a, w, body, item = step.a.tile, step.w.tile, step.body, self._config.operand_bytes
        a_load, w_load = max(a.ordinals[:step.a.pieces]), max(w.ordinals[:step.w.pieces])
        ordinal = self._execute.append(
            body, max(a_load, w_load), 0, self._bank_post[self._bank], 0, self._bank,
            (a.address // item + body["a_base"]) % (1 << ADDRESS_BITS),
            (w.address // item + body["w_base"]) % (1 << ADDRESS_BITS))
        for tile in (a, w):
            tile.uses.popleft()
            tile.last_use = ordinal
        cycles = self._cycles.get(id(body))
        if cycles is None:
            cycles = self._cycles[id(body)] = execute_cycles(self._config, body)
        self._execute_clock = max(self._execute_clock, a.loaded, w.loaded) + cycles
        return ordinal

    def look_ahead(self, index: int) -> None:
        """Emit LOADs for later steps: all for the next one, and more as far as there is time for them.

        LOADs that the port has no time for yet would only keep it from fetching the next EXECUTE.
        """
        # A place that the EXECUTE just emitted still reads would be free only when it ends.
        newest = self.scheduler.program.counts["execute"] - 1
        end, blocked = min(index + _HORIZON, len(self.steps)), set[int]()
        while True:
            ahead = self._missing(index + 1, end, blocked)
            until = None if ahead == index + 1 else self._execute_clock
            if ahead == end or (until is not None and self.scheduler.load_clock > until):
                return
            for use in self.steps[ahead].operands:
                memory = use.tile.memory
                if (memory not in blocked and len(use.tile.ordinals) < use.pieces
                        and not self._bring(use, ahead, newest, until)):
                    blocked.add(memory)
            for use in self._constants(ahead):
                if use.tile.memory not in blocked and not use.tile.ordinals and (
                        (until is not None and self.scheduler.load_clock > until)
                        or not self.scheduler.bring_constant(use, ahead)):
                    blocked.add(use.tile.memory)
            if _ACTIVATION in blocked and _WEIGHT in blocked:
                return

    def _missing(self, first: int, end: int, blocked: set[int]) -> int:
        """First step from `first` on for which a memory that is not blocked has something to load, or `end`."""
        steps, found = self.steps, end
        if _ACTIVATION not in blocked:
            at = max(self._fronts[_ACTIVATION], first)
            while at < found and len((use := steps[at].a).tile.ordinals) >= use.pieces:
                at += 1
            self._fronts[_ACTIVATION] = found = at
        if _WEIGHT not in blocked:
            at = max(self._fronts[_WEIGHT], first)
            while at < found and len((use := steps[at].w).tile.ordinals) >= use.pieces:
                at += 1
            self._fronts[_WEIGHT] = at
            found = min(found, at)
        if self._evicted != self.scheduler.evicted:
            self._evicted, self._constants_front = self.scheduler.evicted, first
        at = max(self._constants_front, first)
        while at < found and all(use.tile.ordinals for use in self._constants(at)):
            at += 1
        self._constants_front = at
        while at < found and all(use.tile.ordinals or use.tile.memory in blocked for use in self._constants(at)):
            at += 1
        return min(found, at)

    def post_fields(self, index: int) -> tuple[int, ...]:
        same = self.steps[index].group is self.steps[self._current].group
        return (self._bank if same else self._bank ^ 1,)

    def released(self, index: int, ordinal: int) -> None:
        self._bank_post[self.post_fields(index)[0]] = ordinal


def schedule(config: SystolicConfig, steps: Sequence[ContractionStep]) -> Program:
    """Commands of steps."""
    return Scheduler(config, _Scratchpads(config)).run(steps)
