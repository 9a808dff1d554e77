"""Parts of a program, each made as if it were alone, behind one another: what they load twice, or store and load again.

Parts are the steps between kernels that bring their commands along, and these. Steps of several layers use one tile in
the place of those that hold the same, and tensors stay on chip between parts, where the whole is no slower.
"""

from collections.abc import Collection, Sequence

from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..forwarding import Scratchpads, forwarded
from ..kernels.views import Buffer
from ..program import Program
from ..program_step import ProgramStep, joined, scheduled
from ..residency import Price, renewed
from ..sharing import same_tiles
from ..steps import Step, all_of
from .arrange import price_of, rooms
from .schedule import note_reads, schedule
from .steps import ContractionStep

__all__ = ["commands_of"]

#: Fields of an EXECUTE that say where operands begin, and in which scratchpad.
_BASES = {"a_base": Destination.ACTIVATION.value, "w_base": Destination.WEIGHT.value}

#: Steps of a part at most of which tiles are compared.
_MOST_STEPS = 8_000


class _Parts:
    """Makes the parts of a program, and puts them together.

    Parameters
    ----------
    steps : sequence of Step
        Steps of all layers.
    wanted : collection of Buffer
        Tensors that must be in memory at the end.
    """

    def __init__(self, config: SystolicConfig, timing: MemoryTiming, steps: Sequence[Step], wanted: Collection[Buffer]):
        self._config, self._timing, self._steps, self._wanted = config, timing, steps, wanted
        #: Whether there are several parts; else tensors stay on chip as steps were arranged.
        self._has_others = any(isinstance(step, ProgramStep) for step in steps)
        self._pads = Scratchpads(rooms(config), _BASES, config.operand_bytes, config.has_moves)
        #: By the identity of a part, the same with fewer tiles.
        self._shared: dict[int, Program] = {}

    def run(self) -> Program:
        """Make and join all: the cheapest program that is no slower than all parts as they are."""
        parts = scheduled(self._steps, self._part)
        usual = joined(parts, self._config.commands)
        if len(parts) < 2:
            return usual
        choices = [usual, self._forwarded(parts)]
        if self._shared:
            choices.append(self._forwarded([self._shared.get(id(part), part) for part in parts]))
        prices = [price_of(self._config, self._timing, each) for each in choices]
        return min(zip(prices, choices, strict=True), key=lambda choice: self._cost(choice[0], prices[0]))[1]

    def _forwarded(self, parts: Sequence[Program]) -> Program:
        whole = joined(parts, self._config.commands)
        return forwarded(whole, [part.length for part in parts], self._pads, self._wanted)

    @staticmethod
    def _cost(price: Price, usual: Price) -> tuple[bool, float]:
        return price.cycles > usual.cycles, price.total

    def _part(self, steps: Sequence[Step]) -> Program:
        """Commands of some steps; behind them nobody asks any more which of them stored what."""
        program = self._scheduled(steps)
        same = same_tiles(steps) if self._has_others and len(steps) <= _MOST_STEPS else {}
        if same:
            self._shared[id(program)] = self._scheduled(renewed(steps, same))
        for step in steps:
            for output in step.group.outputs:
                output.target[0].settle()
        return program

    def _scheduled(self, steps: Sequence[Step]) -> Program:
        own = all_of(ContractionStep, steps)
        program = schedule(self._config, self._timing, own)
        if self._has_others:
            note_reads(self._config, program, own)
        return program


def commands_of(config: SystolicConfig, timing: MemoryTiming, steps: Sequence[Step],
                wanted: Collection[Buffer]) -> Program:
    """Commands of all layers' steps; `wanted` are tensors that must be in memory at the end."""
    return _Parts(config, timing, steps, wanted).run()
