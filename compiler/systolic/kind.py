"""The systolic array's part of the compiler, behind the interface of every kind."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from ...hdl.arithmetic.floating import FloatArithmetic
from ...hdl.errors import PearrayError, check_choice, check_count
from ...hdl.shell.config import Config
from ...hdl.shell.ledger import Cause
from ...hdl.systolic.config import SystolicConfig
from ...memory import DEFAULT_MEMORY, MemoryTiming
from ..graph.arithmetic import check_floats, check_integers
from ..graph.graph import Graph
from ..interpreter import Interpreter
from ..kernels.attention import Attention
from ..kernels.kernel import Contraction, Kernel
from ..kernels.nest import Nest
from ..kernels.normalisation import Normalisation
from ..kernels.routine import Routine
from ..kernels.softmax import RowSoftmax
from ..kernels.views import Buffer
from ..kinds import ArrayCompiler, LayerPlanner, Setting
from ..placement import MemoryPlan
from ..program import Program
from ..program_step import ProgramStep
from ..residency import Arrangement
from ..routine_program import routine_program
from ..steps import Step
from ..timing.latencies import UnendingError
from .alternate import keeps_lanes_busy
from .arrange import arrange
from .attention import lower_attention
from .cost import predict
from .forms import forms
from .interpreter import SystolicInterpreter
from .ledger import predicted_ledger
from .mapper import DATAFLOWS, Mapper
from .norms import lower_normalisation
from .order import Order
from .parts import commands_of
from .program_step import program_step
from .row_softmax import lower_softmax
from .steps import ContractionStep
from .strips import Stage
from .timeline import timeline
from .timing import execution

__all__ = ["COMPILER"]


def _checked(config: Config) -> SystolicConfig:
    assert isinstance(config, SystolicConfig)
    return config


class _Planner(LayerPlanner):
    """Layers of one program."""

    def __init__(self, config: SystolicConfig, timing: MemoryTiming, mapper: Mapper):
        self._config, self._timing, self._mapper = config, timing, mapper
        self._stages: list[Stage] = []
        self._plan: MemoryPlan | None = None
        self._wanted: Collection[Buffer] = ()
        self._orders: dict[str, list[Order]] = {}

    @property
    def is_overtaken(self) -> bool:
        """Whether the next layer may take turns with the last one."""
        arranges = self._config.has_moves and not self._config.has_floats
        return arranges and bool(self._stages) and keeps_lanes_busy(self._config, self._stages[-1].steps)

    def lower(self, kernel: Kernel, plan: MemoryPlan) -> Sequence[Step]:
        self._plan = plan
        if isinstance(kernel, Attention):
            return [lower_attention(kernel, self._config, self._timing, plan)]
        if isinstance(kernel, RowSoftmax):
            return [lower_softmax(kernel, self._config, self._timing, plan)]
        if isinstance(kernel, Normalisation):
            return [lower_normalisation(kernel, self._config, self._timing, plan)]
        if isinstance(kernel, Routine):
            return [program_step(self._config, routine_program(kernel, self._config, plan), *kernel.made)]
        stages = [Stage(part, self._mapper.steps(part, plan), self._mapper.way(part))
                  for part in forms(Nest.of(kernel, self._config.array.operand_bits), self._config, plan)]
        self._stages += stages
        if self._config.has_floats:
            self._note_orders(kernel, stages)
        return [step for stage in stages for step in stage.steps]

    def _note_orders(self, kernel: Kernel, stages: Sequence[Stage]) -> None:
        numbers = kernel.numbers if isinstance(kernel, Contraction) else None
        for stage in stages:
            order = self._mapper.order(stage.problem)
            assert order is not None
            known = self._orders.setdefault(kernel.y.view.buffer.name, [])
            known.append(order if numbers is None else tuple(numbers[tile] for tile in order))

    def orders(self) -> Mapping[str, Sequence[Order]]:
        return self._orders

    def arrange(self, layers: Sequence[Sequence[Step]], wanted: Collection[Buffer]) -> Arrangement:
        self._wanted = wanted
        is_apart = any(isinstance(step, ProgramStep) for steps in layers for step in steps)
        # What is moved may be cut anew, and so added in another order.
        if not self._config.has_moves or self._config.has_floats or self._plan is None or is_apart:
            return super().arrange(layers, wanted)
        return arrange(self._config, self._timing, self._plan, self._stages, layers, wanted)

    def cycles(self, kernel: Kernel) -> float:
        parts = forms(Nest.of(kernel, self._config.array.operand_bits), self._config, MemoryPlan(keep=False))
        return sum(map(self._mapper.cycles, parts))

    def schedule(self, steps: Sequence[Step]) -> Program:
        return commands_of(self._config, self._timing, steps, self._wanted)


def _dataflow(value: Any, graph: Graph) -> str:
    check_choice("dataflow", value, DATAFLOWS)
    return str(value)


def _effort(value: Any, graph: Graph) -> int:
    return check_count("effort", value)


class _Compiler(ArrayCompiler):
    """Contractions with weights or outputs stationary, and channel by channel on the diagonal."""

    settings: ClassVar[Mapping[str, Setting]] = {
        "dataflow": Setting("what stays in the array during a product: weight-stationary, output-stationary, or "
                            "cheapest, for each layer what takes fewer cycles", _dataflow),
        "effort": Setting("how many times as long as usual to search for the best beginning and end of a layer: 0 "
                          "or more, 1 unless it is given", _effort),
    }

    def check(self, graph: Graph, config: Config) -> None:
        if isinstance(config.arithmetic, FloatArithmetic):
            check_floats(graph, config, config.arithmetic.format)
        else:
            check_integers(graph, config)

    def planner(self, config: Config, timing: MemoryTiming, graph: Graph, **settings: Any) -> LayerPlanner:
        if config.has_floats and settings.get("dataflow") == "output-stationary":
            raise PearrayError(f"dataflow must be cheapest or weight-stationary on an array of "
                               f"{config.arithmetic.operands}, not 'output-stationary'")
        mapper = Mapper(_checked(config), timing, max(1, len(graph.nodes)), **settings)
        return _Planner(_checked(config), timing, mapper)

    def interpreter(self, config: Config, dram_bytes: int) -> Interpreter:
        return SystolicInterpreter(_checked(config), dram_bytes)

    def cycles(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> float | None:
        with suppress(UnendingError):
            return float(timeline(config, program, timing).cycles)
        return None

    def charges(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> Counter[Cause]:
        with suppress(UnendingError):
            return predicted_ledger(config, program, timing)
        return Counter()

    def counters(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> dict[str, int]:
        return predict(config, program, timing)

    def work(self, config: Config, step: Step) -> int:
        if isinstance(step, ProgramStep):
            return step.work
        assert isinstance(step, ContractionStep)
        return execution(config, step.body).active

    def ahead(self, config: Config, counts: Mapping[str, int], work: int) -> int:
        return counts["active"] - work

    def products(self, config: Config, work: int) -> int:
        return config.pes * work


COMPILER = _Compiler()
