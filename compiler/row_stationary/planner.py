"""Layers of a program for a row-stationary array: how they are cut, mapped and coded, and the steps that follow."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...golden.row_stationary import Mapping as PassMapping
from ...hdl.errors import PearrayError
from ...hdl.row_stationary.config import RowStationaryConfig
from ...memory import MemoryTiming
from ..kernels.attention import Attention
from ..kernels.kernel import Kernel
from ..kernels.nest import Nest
from ..kinds import LayerPlanner
from ..placed import Placed
from ..placement import MemoryPlan
from ..program import Program
from ..program_step import joined, scheduled
from ..steps import Step, all_of
from .attention import lower_attention
from .codes import CodedTensor, Codes
from .cut import Cut, cut, traffic_of
from .forms import merged, operands
from .lower import Lowering
from .mapping import LayerPlan
from .schedule import schedule
from .steps import PassStep
from .taps import as_product

__all__ = ["RowStationaryPlanner"]


class RowStationaryPlanner(LayerPlanner):
    """Layers of one program.

    Parameters
    ----------
    config : RowStationaryConfig
        The accelerator.
    timing : MemoryTiming
        Memory behind it.
    given : mapping
        Mappings by layer, which others choose for themselves.
    coded_inputs, coded_outputs : collection of str
        Tensors that shall stand in memory as run-length codes, where a layer can read and write them.
    """

    def __init__(self, config: RowStationaryConfig, timing: MemoryTiming, given: Mapping[str, PassMapping],
                 coded_inputs: Collection[str], coded_outputs: Collection[str]):
        self._config, self._timing, self._given = config, timing, given
        self._coded_inputs, self._coded_outputs = coded_inputs, coded_outputs
        #: Plans of the parts of each layer, and tensors that stand in memory as codes.
        self._plans: dict[str, list[LayerPlan]] = {}
        self._codes: dict[str, CodedTensor] = {}
        #: How the array is set up behind the last layer.
        self._setup: object = None

    def lower(self, kernel: Kernel, plan: MemoryPlan) -> Sequence[Step]:
        """Cut and map a kernel, and state it as setups and passes."""
        if isinstance(kernel, Attention):
            # What follows sets the array up again.
            self._setup = None
            return [lower_attention(kernel, self._config, plan)]
        problem = as_product(Nest.of(kernel, self._config.array.operand_bits))
        found = self._cut(problem)
        self._plans.setdefault(problem.name, []).extend(each for _, each in found.parts)
        steps: list[PassStep] = []
        codes = Codes(problem.x.buffer), Codes(problem.y.buffer)
        for part, each in found.parts:
            terms = [merged(operand, each.merged) for operand in operands(part, self._config, found.filters)]
            lowering = Lowering(terms, each, plan, codes, self._setup)
            steps += lowering.steps()
            self._setup = lowering.setup
        self._codes |= {placed.name: placed for each in codes if (placed := each.place(plan, self._config)) is not None}
        return steps

    def _cut(self, problem: Nest) -> Cut:
        """Cut a layer, and plan its parts."""
        config, given = self._config, self._given.get(problem.name)
        if problem.finish.bias_rows is not None and config.truncate:
            raise PearrayError(f"{problem.name}: c must have one row in fixed point, not {problem.q}")
        coded_output = config.truncate and problem.finish.relu and problem.y.name in self._coded_outputs
        plain = traffic_of(problem, config, self._timing, coded_output)
        if config.truncate and not problem.columns and problem.x.name in self._coded_inputs:
            found = cut(problem, config, replace(plain, coded_input=True), given)
            # A code can't be read from its middle.
            if len(found.parts) == 1 and len(found.parts[0][1].mapped.strips) == 1:
                return found
        return cut(problem, config, plain, given)

    def schedule(self, steps: Sequence[Step]) -> Program:
        """Commands of the steps of all layers."""
        parts = scheduled(steps, lambda some: schedule(self._config, all_of(PassStep, some)))
        return joined(parts, self._config.commands)

    def notes(self, name: str) -> Mapping[str, Any]:
        """Plans of a layer's parts, and the mapping of the first."""
        plans = tuple(self._plans.get(name, ()))
        return {"mapping": plans[0].mapped.mapping if plans else None, "plans": plans}

    def recoded(self, placed: Mapping[str, Placed]) -> dict[str, Placed]:
        """Tensors that stand in memory as codes."""
        return {name: replace(tensor, layout=placed[name].layout) for name, tensor in self._codes.items()}
