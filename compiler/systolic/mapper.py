"""Layers of a program to steps: what stays in the array, and how each is cut. Equal layers are planned once."""

from contextlib import suppress
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np

from ...hdl.errors import PearrayError
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.kernel import Finish
from ..kernels.nest import Nest
from ..kernels.views import View
from ..placement import MemoryPlan
from ..steps import Tile
from .beside import choose_beside
from .bounds import Bounds
from .columns import lower_columns, order_of_columns, pixels_in_order
from .layer import Layer
from .lower import lower
from .lowering import Lowering
from .order import Order, order_of
from .output_stationary import can_stay, choose_cut, least_vectors, lower_output_stationary
from .schedule import cycles_of
from .steps import ContractionStep
from .tiling import choose_tiling

__all__ = ["DATAFLOWS", "Mapper"]

#: What stays in the array while a product is computed.
DATAFLOWS = ("cheapest", "weight-stationary", "output-stationary")

#: Steps of a program that is timed to compare dataflows.
_MOST_STEPS = 3000

#: Layers that are each searched for as long as one alone.
_FEW = 12

#: Share of a layer's cycles that another dataflow must be able to spare to be looked at.
_WORTH = 0.01

#: Values that commands carry and no cycle depends on.
_VALUES = {"name", "a_zero", "w_zero", "a_unsigned", "w_unsigned", "is_unsigned", "zero_point", "low", "high", "shift",
           "many"}


class Mapper:
    """Maps the layers of one program.

    Parameters
    ----------
    dataflow : str
        One of :data:`DATAFLOWS`, for all products. What is no product has its own.
    effort : float
        How many times as long as usual to search for the ramps of a layer.
    layers : int
        Layers of the program, which share the time of the search if they are many.
    """

    def __init__(self, config: SystolicConfig, timing: MemoryTiming, layers: int, dataflow: str = "cheapest",
                 effort: float = 1):
        self._config, self._timing = config, timing
        self._dataflow, self._effort = dataflow, effort * min(1, _FEW / layers)
        self._is_alone = layers == 1
        self._chosen: dict[object, Lowering] = {}
        self._tiles: dict[object, Tile] = {}
        self._orders: dict[object, Order] = {}

    def steps(self, problem: Nest, plan: MemoryPlan) -> list[ContractionStep]:
        """Steps of a layer, in order.

        Raises
        ------
        PearrayError
            If the scratchpads can't hold even the smallest tiles.
        """
        layer = Layer(problem, self._config, self._timing)
        return self._way(layer)(layer, plan)

    def way(self, problem: Nest) -> Lowering:
        """What lowers layers like one."""
        return self._way(Layer(problem, self._config, self._timing))

    def cycles(self, problem: Nest) -> float:
        """Cycles of a layer alone, as it would be lowered; see :meth:`steps`.

        Where sums are to stay in the array, what can only be computed otherwise takes infinitely many.
        """
        if self._dataflow == "output-stationary" and problem.finish.sums > 1:
            return float("inf")
        layer = Layer(problem, self._config, self._timing)
        return self._cycles(layer, self._way(layer))

    def _way(self, layer: Layer) -> Lowering:
        """How layers like this are lowered."""
        key = self._shape(layer.problem)
        if key not in self._chosen:
            self._chosen[key] = self._choose(layer)
        return self._chosen[key]

    def _choose(self, layer: Layer) -> Lowering:
        """Choose how to lower layers like this."""
        is_product, effort = can_stay(layer.problem), self._effort * min(1, _FEW / layer.problem.many)
        is_alone = self._is_alone and layer.problem.many == 1
        if layer.is_ordered:
            return self._ordered(layer, effort, is_alone)
        if is_product and self._dataflow == "output-stationary":
            return Lowering(lower_output_stationary, choose_cut(layer)[1])
        cycles: float | None = None
        usual = Lowering(lower_columns, self._tiles)
        if not layer.problem.columns:
            cycles, tiling = choose_tiling(layer, effort, is_alone=is_alone)
            usual = Lowering(lower, tiling)
            beside = choose_beside(layer, cycles, effort, is_alone=is_alone)
            if beside is not None:
                return beside
        if not is_product or self._dataflow == "weight-stationary":
            return usual
        return self._cheaper(layer, usual, cycles)

    def _ordered(self, layer: Layer, effort: float, is_alone: bool) -> Lowering:
        """How layers are lowered whose sums depend on the order of additions, which is noted."""
        key = self._shape(layer.problem)
        if layer.problem.columns:
            pixels = pixels_in_order(layer)
            self._orders[key] = order_of_columns(layer, pixels)
            return Lowering(partial(lower_columns, pixels=pixels), self._tiles)
        _, tiling = choose_tiling(layer, effort, is_alone=is_alone)
        self._orders[key] = order_of(layer, tiling)
        return Lowering(lower, tiling)

    def order(self, problem: Nest) -> Order | None:
        """Order in which products of a layer that has been lowered are added; None where it does not matter."""
        return self._orders.get(self._shape(problem))

    def _cheaper(self, layer: Layer, usual: Lowering, cycles: float | None) -> Lowering:
        """The usual way to lower a product of so many cycles, unless it takes fewer output-stationary."""
        if cycles is None:
            cycles = self._cycles(layer, usual)
        if least_vectors(layer) > (1 - _WORTH) * cycles:
            return usual
        with suppress(PearrayError):
            cost, cut = choose_cut(layer)
            other = Lowering(lower_output_stationary, cut)
            # What is too long to be timed must be better by its estimate than the other can be at all.
            if cost < cycles and max(cost, self._cycles(layer, other)) < self._cycles(layer, usual):
                return other
        return usual

    def _cycles(self, layer: Layer, way: Lowering) -> float:
        """Cycles of a layer alone that is lowered in some way; of many steps what they take at least."""
        # Not of the same buffers each time: their tiles stand where the last schedule left them.
        steps = way(layer.alone(), MemoryPlan(keep=False))
        if len(steps) > _MOST_STEPS:
            return Bounds(self._config, self._timing).least_cycles(steps)
        return cycles_of(self._config, self._timing, steps)

    def _shape(self, part: Any) -> object:
        """What decides how long a layer takes: not its values, nor where its tensors stand."""
        if isinstance(part, Nest | Finish):
            return tuple(self._shape(getattr(part, each.name)) for each in fields(part) if each.name not in _VALUES)
        if isinstance(part, View):
            # Operands of two bytes are filled in one LOAD only if both bytes are the same.
            halves = {part.outside >> 8 * byte & 255 for byte in range(self._config.operand_bytes)}
            return part.axes, part.item, part.parts, part.buffer.rows, part.buffer.columns, len(halves)
        if isinstance(part, tuple) and part and isinstance(part[0], Nest):
            return tuple(map(self._shape, part))
        return part.shape if isinstance(part, np.ndarray) else part
