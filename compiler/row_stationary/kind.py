"""The row-stationary array's part of the compiler, behind the interface of every kind."""

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import numpy as np

from ...hdl.errors import check_names, unknown
from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.shell.commands import Opcode
from ...hdl.shell.config import Config
from ...hdl.shell.ledger import Cause
from ...memory import DEFAULT_MEMORY, MemoryTiming
from ..graph.arithmetic import check_fixed_point, check_integers
from ..graph.graph import Graph
from ..interpreter import Interpreter
from ..kinds import LayerPlanner, Setting
from ..operators import Contraction
from ..program import Program
from ..program_step import ProgramStep
from ..steps import Step
from ..timing.latencies import UnendingError
from .accesses import accesses
from .figures import FigureCompiler, zero_share
from .interpreter import RowStationaryInterpreter
from .ledger import predicted_ledger
from .planner import RowStationaryPlanner
from .settings import read_mappings
from .steps import PassStep
from .timeline import timeline

__all__ = ["CODED_FROM", "COMPILER"]

#: Share of zeros from which an input is worth its run-length code: 64 bits hold three words and their zeros.
CODED_FROM = 0.3


def _checked(config: Config) -> RowStationaryConfig:
    assert isinstance(config, RowStationaryConfig)
    return config


def _readable(coded: Collection[str], graph: Graph) -> set[str]:
    """Inputs that may stand as codes: those that one operator reads, as its activations."""
    readers: dict[str, list[bool]] = {name: [] for name in coded}
    for node in graph.nodes:
        roles = node.operator.roles if isinstance(node.operator, Contraction) else ("", "", "")
        for role, name in node.inputs.items():
            if name in readers:
                readers[name].append(role == roles[0])
    return {name for name, found in readers.items() if found == [True] and name in graph.inputs}


def _read_coded(given: Any, graph: Graph) -> frozenset[str]:
    """Names of tensors that a user wants coded, after checking that the graph has them."""
    names = check_names("coded", given)
    for name in names:
        if name not in graph.tensors:
            raise unknown("tensor of coded", name, graph.tensors)
    return frozenset(names)


def _last(graph: Graph) -> set[str]:
    """Tensors that no operator reads."""
    read = {name for node in graph.nodes for name in node.inputs.values()}
    return {name for node in graph.nodes for name in node.outputs.values() if name not in read}


def _is_timed(program: Program) -> bool:
    """Whether all passes of a program are those of attention, which the model of time knows."""
    return all(body.get("setup") or body.get("by_word") for stream, _, body, _, _ in program.entries()
               if stream.opcode is Opcode.EXECUTE)


class _Compiler(FigureCompiler):
    """Processing passes under a mapping, in integers or in 16-bit fixed point."""

    settings: ClassVar[Mapping[str, Setting]] = {
        "mapping": Setting("own for the cheapest mapping of each layer, a TOML file or tables of parameters by layer",
                           read_mappings),
        "coded": Setting("names of inputs that stand in memory as run-length codes, where the layer that reads them "
                         "can; by default those with many zeros", _read_coded),
    }
    records_last = True

    def is_fixed_point(self, config: Config) -> bool:
        return _checked(config).truncate

    def check(self, graph: Graph, config: Config) -> None:
        (check_fixed_point if self.is_fixed_point(config) else check_integers)(graph, config)

    def observe(self, graph: Graph, config: Config, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        if not self.is_fixed_point(config):
            return {}
        return {"coded": frozenset(name for name in graph.inputs if zero_share(inputs[name]) > CODED_FROM)}

    def planner(self, config: Config, timing: MemoryTiming, graph: Graph, **settings: Any) -> LayerPlanner:
        coded = _readable(settings.get("coded", ()), graph)
        return RowStationaryPlanner(_checked(config), timing, settings.get("mapping", {}), coded, _last(graph))

    def interpreter(self, config: Config, dram_bytes: int) -> Interpreter:
        return RowStationaryInterpreter(_checked(config), dram_bytes)

    def cycles(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> float | None:
        if _is_timed(program):
            with suppress(UnendingError):
                return float(timeline(_checked(config), program, timing).cycles)
        return None

    def charges(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> Counter[Cause]:
        if _is_timed(program):
            with suppress(UnendingError):
                return predicted_ledger(_checked(config), program, timing)
        return Counter()

    def counters(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> dict[str, int]:
        if not _is_timed(program):
            return {}
        return accesses(_checked(config), program) | {"cycles": timeline(_checked(config), program, timing).cycles}

    def work(self, config: Config, step: Step) -> int:
        if isinstance(step, ProgramStep):
            return step.work
        assert isinstance(step, PassStep)
        return step.products

    def ahead(self, config: Config, counts: Mapping[str, int], work: int) -> int:
        return (counts["macs"] + counts["gated"] - work) // config.pes

    def products(self, config: Config, work: int) -> int:
        return work


COMPILER = _Compiler()
