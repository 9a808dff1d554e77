"""Layers of a graph for a row-stationary array: their rectangles, mappings and codes, and the steps that follow."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...golden.row_stationary import Mapping as PassMapping
from ...hdl.errors import PearrayError
from ...hdl.row_stationary.config import RowStationaryConfig
from ..kernels.layout import Layout
from ..kernels.nest import Nest
from ..kernels.views import Buffer, View
from ..placement import MemoryPlan
from .codes import CodedTensor, Unit, room
from .forms import Operand, folded, merged, operands, shape_of
from .lower import Lowering
from .mapper import mapping_of
from .mapping import LayerPlan, Traffic
from .steps import PassStep

__all__ = ["Chooser", "lower"]

#: Share of zeros with which codes are estimated, since values are not known yet.
_ZEROS = 0.5


@dataclass
class Chooser:
    """How layers get their mappings, and what they get.

    Parameters
    ----------
    given : mapping
        Parameters of mappings by layer, as for :func:`.mapper.mapping_of`.
    coded_inputs, coded_outputs : collection of str
        Tensors that shall stand in memory as run-length codes, where a layer can read and write them.
    """

    given: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    coded_inputs: Collection[str] = frozenset()
    coded_outputs: Collection[str] = frozenset()
    #: Mapping of each layer that has been lowered, by its name: that of its first rectangle.
    chosen: dict[str, PassMapping] = field(default_factory=dict)
    #: Plans of each layer's rectangles.
    plans: dict[str, list[LayerPlan]] = field(default_factory=dict)
    #: Tensors that stand in memory as codes.
    codes: dict[str, CodedTensor] = field(default_factory=dict)
    #: How the array is set up behind the last layer.
    setup: object = None

    def plan(self, problem: Nest, first: Operand, config: RowStationaryConfig, coded_input: bool) -> LayerPlan:
        """Plan of a rectangle of a layer."""
        bias = problem.finish.bias
        matrix = problem.finish.bias_rows is not None
        if matrix and config.truncate:
            raise PearrayError(f"{problem.name}: c must have one row in fixed point, not {problem.q}")
        traffic = Traffic(
            bias=bias is not None and not matrix, coded_input=coded_input,
            coded_output=config.truncate and problem.finish.relu and problem.y.name in self.coded_outputs,
            output_bytes=problem.finish.item(config), input_zeros=_ZEROS * coded_input, output_zeros=_ZEROS,
            transposed=problem.columns)
        shape = shape_of(problem, first.groups, first.cg, first.ng)
        return mapping_of(shape, config, self.given, problem.images, traffic,
                          lanes_only=isinstance(problem.weights, View), split_images=True)


def lower(problem: Nest, config: RowStationaryConfig, memory: MemoryPlan, chooser: Chooser) -> list[PassStep]:
    """Steps of a layer.

    Raises
    ------
    PearrayError
        If the buffers can't hold the smallest pass.
    """
    layers = [(part, operands(part, config)) for part in [_folded(problem, config)]]
    coded = config.truncate and not problem.columns and problem.x.name in chooser.coded_inputs
    plans = [chooser.plan(part, parts[0], config, coded) for part, parts in layers]
    if coded and any(len(plan.mapped.strips) > 1 for plan in plans):
        # A code can't be read from its middle.
        plans = [chooser.plan(part, parts[0], config, False) for part, parts in layers]
    chooser.chosen.setdefault(problem.name, plans[0].mapped.mapping)
    chooser.plans.setdefault(problem.name, []).extend(plans)
    steps: list[PassStep] = []
    inputs, outputs = _Codes(problem.x.buffer), _Codes(problem.y.buffer)
    for (_, parts), plan in zip(layers, plans, strict=True):
        lowering = Lowering([merged(operand, plan.merged) for operand in parts], plan, memory, chooser.setup)
        steps += lowering.steps()
        chooser.setup = lowering.setup
        inputs.add(lowering.maker.codes, lowering.maker.code_loads)
        outputs.add(lowering.outputs.codes, lowering.outputs.code_stores)
    for codes in (inputs, outputs):
        if codes.units:
            chooser.codes[codes.stored.name] = codes.placed(memory, config)
    return steps


class _Codes:
    """Codes of a tensor, from all rectangles of a layer."""

    def __init__(self, stored: Buffer):
        self.stored = stored
        self.units: list[Unit] = []
        self._bodies: list[dict[str, int]] = []
        self._size = 0

    def add(self, units: list[Unit], bodies: list[dict[str, int]]) -> None:
        """Add those of a rectangle."""
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


def _folded(problem: Nest, config: RowStationaryConfig) -> Nest:
    """Fold a row of pixels, so that the array's columns have ofmap rows to work on."""
    if not problem.is_row:
        return problem
    # Sets on different channels and filters need no ofmap rows: only where they are few are rows better.
    sets = 1 if problem.channelwise else -(-problem.ng // config.pe.psum_words) * problem.groups
    wide = min(config.array.cols, -(-config.pes // sets))
    return folded(problem, max(1, min(256, -(-problem.q // wide))))
