"""Where operands and sums of dot-product units stand: two scratchpads, and two banks of accumulators."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pearray.compiler.program import Program
from pearray.compiler.schedule import OperandMemory, Scheduler, Scratchpad
from pearray.compiler.steps import Step, Use
from pearray.hdl.shell.commands import Opcode

from .commands import Destination
from .config import DotConfig

__all__ = ["DotStep", "schedule"]

#: Steps among which to look for one whose tiles do not stand yet.
_AHEAD = 8


@dataclass(eq=False)
class DotStep(Step):
    """One EXECUTE of dot-product units.

    Parameters
    ----------
    group : Group
        Group whose sums it adds to.
    a, w : Use
        Tiles of activations and weights.
    body : dict
        EXECUTE body without bank, with ``a_base`` and ``w_base`` relative to the tiles, in lines.
    """

    a: Use
    w: Use
    body: dict[str, int]

    @property
    def operands(self) -> tuple[Use, ...]:
        """Tiles of activations and weights."""
        return self.a, self.w


class _Memory(OperandMemory[DotStep]):
    """Both scratchpads, and banks that groups of sums take in turn."""

    posted = ("bank",)

    def __init__(self, config: DotConfig):
        pads = config.scratchpads
        self._lines = {Destination.ACTIVATION.value: config.array.cols, Destination.WEIGHT.value: config.pes}
        self._pads = {Destination.ACTIVATION.value: Scratchpad(pads.activation_bytes, config.array.cols),
                      Destination.WEIGHT.value: Scratchpad(pads.weight_bytes, config.pes)}
        #: Bank of each group, and the POST that has read the sums of each bank last.
        self._banks: dict[int, int] = {}
        self._posts = [0, 0]

    def begin(self, scheduler: Scheduler[DotStep], steps: Sequence[DotStep]) -> None:
        super().begin(scheduler, steps)
        self._execute = scheduler.program.stream(Opcode.EXECUTE, ("bank", "a_base", "w_base"))
        bank = 1
        for index, step in enumerate(steps):
            if index == 0 or step.group is not steps[index - 1].group:
                bank ^= 1
            self._banks[index] = bank

    def enter(self, index: int) -> None:
        """There is nothing to decide: groups take banks in turn."""

    def needs(self, index: int) -> Iterable[Use]:
        step = self.steps[index]
        return *step.operands, *step.group.outputs[0].constants

    def bring(self, use: Use, index: int) -> bool:
        if use.tile.memory not in self._pads:
            return self.scheduler.bring_constant(use, index)
        return self._bring(use, index, None)

    def _bring(self, use: Use, index: int, newest: int | None) -> bool:
        """Load a tile that does not stand; with `newest` only over what that EXECUTE or one before it read last."""
        tile = use.tile
        if tile.ordinals:
            return True
        (piece,) = tile.pieces
        store = piece.ready()
        if store is None or not self._pads[tile.memory].place(tile, index, newest):
            return False
        tile.ordinals.append(self.scheduler.load(tile, piece, tile.clear, 0, store))
        return True

    def execute(self, index: int) -> None:
        step, bank = self.steps[index], self._banks[index]
        load, bases = 0, []
        for use, base in ((step.a, "a_base"), (step.w, "w_base")):
            load = max(load, use.tile.ordinals[-1])
            bases.append(use.tile.address // self._lines[use.tile.memory] + step.body[base])
        ordinal = self._execute.append(step.body, load, 0, self._posts[bank], 0, bank, *bases)
        for use in step.operands:
            use.tile.uses.popleft()
            use.tile.last_use = ordinal

    def look_ahead(self, index: int) -> None:
        # Over what the EXECUTE just emitted reads, nothing can be loaded before it ends.
        newest = self.scheduler.program.counts["execute"] - 1
        for ahead in range(index + 1, min(index + 1 + _AHEAD, len(self.steps))):
            missing = [use for use in self.steps[ahead].operands if not use.tile.ordinals]
            for use in missing:
                self._bring(use, ahead, newest)
            if missing:
                # More LOADs would only wait, and keep the next POST from being fetched.
                return

    def post_fields(self, index: int) -> tuple[int, ...]:
        return (self._banks[index],)

    def released(self, index: int, ordinal: int) -> None:
        self._posts[self._banks[index]] = ordinal


def schedule(config: DotConfig, steps: Sequence[DotStep]) -> Program:
    """Commands of steps."""
    return Scheduler(config, _Memory(config)).run(steps)
