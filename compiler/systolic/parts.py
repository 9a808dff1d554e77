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
from ..program_step import joined, scheduled
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
    wanted : collection of Buffer
        Tensors that must be in memory at the end.
    """

    def __init__(self, config: SystolicConfig, timing: MemoryTiming, wanted: Collection[Buffer]):
        self._config, self._timing, self._wanted = config, timing, wanted
        self._pads = Scratchpads(rooms(config), _BASES, config.operand_bytes, config.has_moves)
        #: By the identity of a part, the same with fewer tiles.
        self._shared: dict[int, Program] = {}

    def run(self, steps: Sequence[Step]) -> Program:
        """Make and join all: the cheapest program that is no slower than all parts as they are."""
        parts = scheduled(steps, self._part)
        choices = [joined(parts, self._config.commands)]
        for some in [parts, [self._shared.get(id(part), part) for part in parts]][:1 + bool(self._shared)]:
            whole = joined(some, self._config.commands)
            if len(some) > 1:
                whole = forwarded(whole, [part.length for part in some], self._pads, self._wanted)
            if some is not parts or len(some) > 1:
                choices.append(whole)
        if len(choices) == 1:
            return choices[0]
        prices = [price_of(self._config, self._timing, each) for each in choices]
        return min(zip(prices, choices, strict=True), key=lambda choice: self._cost(choice[0], prices[0]))[1]

    @staticmethod
    def _cost(price: Price, usual: Price) -> tuple[bool, float]:
        return price.cycles > usual.cycles, price.total

    def _part(self, steps: Sequence[Step]) -> Program:
        """Commands of some steps; behind them nobody asks any more which of them stored what."""
        program = self._scheduled(steps)
        same = same_tiles(steps) if len(steps) <= _MOST_STEPS else {}
        if same:
            self._shared[id(program)] = self._scheduled(renewed(steps, same))
        for step in steps:
            for output in step.group.outputs:
                output.target[0].settle()
        return program

    def _scheduled(self, steps: Sequence[Step]) -> Program:
        own = all_of(ContractionStep, steps)
        program = schedule(self._config, self._timing, own)
        note_reads(self._config, program, own)
        return program


def commands_of(config: SystolicConfig, timing: MemoryTiming, steps: Sequence[Step],
                wanted: Collection[Buffer]) -> Program:
    """Commands of all layers' steps; `wanted` are tensors that must be in memory at the end."""
    return _Parts(config, timing, wanted).run(steps)
