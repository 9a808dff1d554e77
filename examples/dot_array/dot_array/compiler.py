"""What the kind brings to the compiler."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pearray.compiler.graph.arithmetic import check_integers
from pearray.compiler.graph.graph import Graph
from pearray.compiler.interpreter import Interpreter
from pearray.compiler.kernels.kernel import Kernel
from pearray.compiler.kernels.nest import Nest
from pearray.compiler.kinds import ArrayCompiler, LayerPlanner
from pearray.compiler.placement import MemoryPlan
from pearray.compiler.program import Program
from pearray.compiler.steps import Step, all_of
from pearray.hdl.shell.config import Config
from pearray.memory import DEFAULT_MEMORY, MemoryTiming

from .config import DotConfig
from .cost import estimate
from .hardware import lines_of
from .interpreter import DotInterpreter
from .lower import lower
from .mapper import choose
from .schedule import DotStep, schedule

__all__ = ["COMPILER"]


def _checked(config: Config) -> DotConfig:
    assert isinstance(config, DotConfig)
    return config


class _Planner(LayerPlanner):
    """Layers of one program."""

    def __init__(self, config: DotConfig, timing: MemoryTiming):
        self._config, self._timing = config, timing
        self._notes: dict[str, dict[str, Any]] = {}

    def lower(self, kernel: Kernel, plan: MemoryPlan) -> Sequence[Step]:
        nest, mapping = choose(Nest.of(kernel, self._config.array.operand_bits), self._config, self._timing)
        self._notes[kernel.name] = asdict(mapping)
        return list(lower(nest, self._config, plan, mapping))

    def schedule(self, steps: Sequence[Step]) -> Program:
        return schedule(self._config, all_of(DotStep, steps))

    def notes(self, name: str) -> dict[str, Any]:
        return self._notes.get(name, {})


class _Compiler(ArrayCompiler):
    """Sums of products of whole lines; channel by channel with weights that pick one operand of a line."""

    def check(self, graph: Graph, config: Config) -> None:
        check_integers(graph, config)

    def planner(self, config: Config, timing: MemoryTiming, graph: Graph, **settings: Any) -> LayerPlanner:
        return _Planner(_checked(config), timing)

    def interpreter(self, config: Config, dram_bytes: int) -> Interpreter:
        return DotInterpreter(_checked(config), dram_bytes)

    def cycles(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> float | None:
        return estimate(_checked(config), program, timing)

    def work(self, config: Config, step: Step) -> int:
        assert isinstance(step, DotStep)
        return lines_of(step.body)

    def ahead(self, config: Config, counts: Mapping[str, int], work: int) -> int:
        return counts["active"] - work

    def products(self, config: Config, work: int) -> int:
        return config.pes * work


COMPILER = _Compiler()
