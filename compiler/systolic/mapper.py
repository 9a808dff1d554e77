"""Layers of a program to steps: how each is cut. Equal layers are planned once."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np

from ...hdl.systolic.config import SystolicConfig
from ..kernels.kernel import Finish
from ..kernels.nest import Nest
from ..kernels.views import View
from ..placement import MemoryPlan
from .columns import lower_columns
from .lower import lower
from .steps import ContractionStep
from .tiling import choose_tiling

__all__ = ["Mapper"]

#: Values that commands carry and no cycle depends on.
_VALUES = {"name", "a_zero", "w_zero", "a_unsigned", "w_unsigned", "zero_point", "low", "high", "shift"}

_Lower = Callable[[Nest, MemoryPlan], list[ContractionStep]]


class Mapper:
    """Maps the layers of one program.

    Parameters
    ----------
    config : SystolicConfig
        Configuration.
    effort : int
        How many times as long as usual to search for the ramps of a layer.
    """

    def __init__(self, config: SystolicConfig, effort: int = 1):
        self._config, self._effort = config, effort
        self._chosen: dict[object, _Lower] = {}

    def steps(self, problem: Nest, plan: MemoryPlan) -> list[ContractionStep]:
        """Steps of a layer, in order.

        Raises
        ------
        PearrayError
            If the scratchpads can't hold even the smallest tiles.
        """
        key = self._shape(problem)
        if key not in self._chosen:
            self._chosen[key] = self._choose(problem)
        return self._chosen[key](problem, plan)

    def _choose(self, problem: Nest) -> _Lower:
        """Choose how to lower layers like this."""
        config = self._config
        if problem.columns:
            return lambda problem, plan: lower_columns(problem, config, plan)
        tiling, _ = choose_tiling(problem, config, self._effort)
        return lambda problem, plan: lower(problem, config, plan, tiling)

    def _shape(self, part: Any) -> object:
        """What decides how long a layer takes: not its values, nor where its tensors stand."""
        if isinstance(part, Nest | Finish):
            return tuple(self._shape(getattr(part, each.name)) for each in fields(part) if each.name not in _VALUES)
        if isinstance(part, View):
            # Operands of two bytes are filled in one LOAD only if both bytes are the same.
            halves = {part.outside >> 8 * byte & 255 for byte in range(self._config.operand_bytes)}
            return part.axes, part.buffer.item, part.buffer.rows, part.buffer.columns, len(halves)
        if isinstance(part, tuple) and part and isinstance(part[0], Nest):
            return tuple(map(self._shape, part))
        return part.shape if isinstance(part, np.ndarray) else part
