"""Layers of a graph for a row-stationary array: how they are cut, mapped and coded, and the steps that follow."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...golden.row_stationary import Mapping as PassMapping
from ...hdl.errors import PearrayError
from ...hdl.row_stationary.config import RowStationaryConfig
from ...memory import DEFAULT_MEMORY, MemoryTiming
from ..kernels.layout import Layout
from ..kernels.nest import Nest
from ..kernels.views import Buffer
from ..placement import MemoryPlan
from .codes import CodedTensor, Unit, room
from .cut import Cut, Cutter, traffic_of
from .forms import merged, operands
from .lower import Lowering
from .mapping import LayerPlan
from .steps import PassStep

__all__ = ["Chooser", "lower"]


@dataclass
class Chooser:
    """How layers get their mappings, and what they get.

    Parameters
    ----------
    given : mapping
        Parameters of mappings by layer, as for :func:`.mapper.mapping_of`.
    coded_inputs, coded_outputs : collection of str
        Tensors that shall stand in memory as run-length codes, where a layer can read and write them.
    timing : MemoryTiming
        Memory behind the accelerator.
    """

    given: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    coded_inputs: Collection[str] = frozenset()
    coded_outputs: Collection[str] = frozenset()
    timing: MemoryTiming = DEFAULT_MEMORY
    #: Mapping of each layer that has been lowered, by its name: that of its first part.
    chosen: dict[str, PassMapping] = field(default_factory=dict)
    #: Plans of the parts of each layer.
    plans: dict[str, list[LayerPlan]] = field(default_factory=dict)
    #: Tensors that stand in memory as codes.
    codes: dict[str, CodedTensor] = field(default_factory=dict)
    #: How the array is set up behind the last layer.
    setup: object = None

    def cut(self, problem: Nest, config: RowStationaryConfig) -> Cut:
        """Cut a layer, and plan its parts.

        Raises
        ------
        PearrayError
            If the buffers can't hold the smallest pass, or not the mapping that is given.
        """
        if problem.finish.bias_rows is not None and config.truncate:
            raise PearrayError(f"{problem.name}: c must have one row in fixed point, not {problem.q}")
        coded_output = config.truncate and problem.finish.relu and problem.y.name in self.coded_outputs
        if config.truncate and not problem.columns and problem.x.name in self.coded_inputs:
            traffic = traffic_of(problem, config, self.timing, True, coded_output)
            found = Cutter(problem, config, traffic, self.given).cut()
            # A code can't be read from its middle.
            if len(found.parts) == 1 and len(found.parts[0][1].mapped.strips) == 1:
                return found
        traffic = traffic_of(problem, config, self.timing, False, coded_output)
        return Cutter(problem, config, traffic, self.given).cut()


def lower(problem: Nest, config: RowStationaryConfig, memory: MemoryPlan, chooser: Chooser) -> list[PassStep]:
    """Steps of a layer.

    Raises
    ------
    PearrayError
        If the buffers can't hold the smallest pass, or not the mapping that is given.
    """
    cut = chooser.cut(problem, config)
    chooser.chosen.setdefault(problem.name, cut.parts[0][1].mapped.mapping)
    chooser.plans.setdefault(problem.name, []).extend(plan for _, plan in cut.parts)
    steps: list[PassStep] = []
    inputs, outputs = _Codes(problem.x.buffer), _Codes(problem.y.buffer)
    for part, plan in cut.parts:
        found = [merged(operand, plan.merged) for operand in operands(part, config, cut.filters)]
        lowering = Lowering(found, plan, memory, chooser.setup)
        steps += lowering.steps()
        chooser.setup = lowering.setup
        inputs.add(lowering.maker.codes, lowering.maker.code_loads)
        outputs.add(lowering.outputs.codes, lowering.outputs.code_stores)
    for codes in (inputs, outputs):
        if codes.units:
            chooser.codes[codes.stored.name] = codes.placed(memory, config)
    return steps


class _Codes:
    """Codes of a tensor, from all parts of a layer."""

    def __init__(self, stored: Buffer):
        self.stored = stored
        self.units: list[Unit] = []
        self._bodies: list[dict[str, int]] = []
        self._size = 0

    def add(self, units: list[Unit], bodies: list[dict[str, int]]) -> None:
        """Add those of a part."""
        for unit, body in zip(units, bodies, strict=True):
            body["dram"] = self._size
            self.units.append(replace(unit, offset=self._size))
            self._bodies.append(body)
            self._size += room(len(unit.elements))

    def placed(self, memory: MemoryPlan, config: RowStationaryConfig) -> CodedTensor:
        """Give the codes their place in memory."""
        address = memory.reserve(self.stored.name, self._size)
        for body in self._bodies:
            body["dram"] += address
        shape = self.stored.rows, self.stored.columns
        return CodedTensor(self.stored.name, address, Layout(shape, (0, 1), shape), np.dtype(np.int16),
                           config.operand_bytes, config.arithmetic, self.units, self._size)
