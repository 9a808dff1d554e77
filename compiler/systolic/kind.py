"""The systolic array's part of the compiler, behind the interface of every kind."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...hdl.shell.config import Config
from ...hdl.systolic.config import SystolicConfig
from ..graph.arithmetic import check_integers
from ..graph.graph import Graph
from ..interpreter import Interpreter
from ..kernels.kernel import Kernel
from ..kernels.nest import Nest
from ..kinds import ArrayCompiler, LayerPlanner
from ..placement import MemoryPlan
from ..program import Program
from ..steps import Step, all_of
from .columns import lower_columns
from .cost import estimate, operand_vectors, predict
from .forms import forms
from .interpreter import SystolicInterpreter
from .lower import lower
from .schedule import schedule
from .steps import ContractionStep
from .tiling import choose_tiling
from .timing import UnendingError

__all__ = ["COMPILER"]


def _checked(config: Config) -> SystolicConfig:
    assert isinstance(config, SystolicConfig)
    return config


class _Planner(LayerPlanner):
    """Layers of one program."""

    def __init__(self, config: SystolicConfig):
        self._config = config

    def lower(self, kernel: Kernel, plan: MemoryPlan) -> Sequence[Step]:
        steps: list[Step] = []
        for part in forms(Nest.of(kernel, self._config.array.operand_bits), self._config, plan):
            if part.columns:
                steps += lower_columns(part, self._config, plan)
            else:
                steps += lower(part, self._config, plan, choose_tiling(part, self._config))
        return steps

    def schedule(self, steps: Sequence[Step]) -> Program:
        return schedule(self._config, all_of(ContractionStep, steps))


class _Compiler(ArrayCompiler):
    """Weight-stationary contractions, and channel by channel on the diagonal."""

    def check(self, graph: Graph, config: Config) -> None:
        check_integers(graph, config)

    def planner(self, config: Config, graph: Graph, **settings: Any) -> LayerPlanner:
        return _Planner(_checked(config))

    def interpreter(self, config: Config, dram_bytes: int) -> Interpreter:
        return SystolicInterpreter(_checked(config), dram_bytes)

    def cycles(self, config: Config, program: Program) -> float | None:
        with suppress(UnendingError):
            return float(estimate(config, program))
        return None

    def counters(self, config: Config, program: Program) -> dict[str, int]:
        return predict(config, program)

    def work(self, config: Config, step: Step) -> int:
        assert isinstance(step, ContractionStep)
        return operand_vectors(config, step.body)

    def ahead(self, config: Config, counts: Mapping[str, int], work: int) -> int:
        return counts["active"] - work


COMPILER = _Compiler()
