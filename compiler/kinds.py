"""Kinds of array: what each brings to the compiler, behind one interface, and the table in which they are found.

A kind is a room of its own. Its object stands in the table of entry points ``pearray.array_compiler`` under the name
that a configuration calls it by (``array.kind``), in pearray's own ``pyproject.toml`` or in that of any other package
that is installed. Nothing else names it.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

import numpy as np

from ..hdl.errors import PearrayError
from ..hdl.kinds import load_kind, origin_of
from ..hdl.shell.config import Config
from ..hdl.shell.ledger import Cause
from ..memory import DEFAULT_MEMORY, MemoryTiming
from .graph.graph import Graph, Node
from .interpreter import Interpreter
from .kernels.kernel import Kernel
from .kernels.views import Buffer
from .placed import Placed
from .placement import MemoryPlan
from .program import Program
from .residency import Arrangement
from .steps import Step

__all__ = ["GROUP", "ArrayCompiler", "FigureTable", "LayerPlanner", "Setting", "compiler_for", "interpreter", "kinds"]

#: Group of entry points.
GROUP = "pearray.array_compiler"


@dataclass(frozen=True)
class Setting:
    """A choice of the user's that one kind's mapper takes.

    Parameters
    ----------
    doc : str
        What it chooses, and what it may be, in one line.
    read : callable
        ``read(value, graph)`` checks what the user gave and returns what the kind's :class:`LayerPlanner` takes.
    """

    doc: str
    read: Callable[[Any, Graph], Any]


@dataclass(frozen=True)
class FigureTable:
    """Table of the figures that one kind alone counts: headings, and rows of cells, the last for the whole run."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)


class LayerPlanner(ABC):
    """Makes the layers of one program, in order, and then their commands."""

    @property
    def is_overtaken(self) -> bool:
        """Whether the next node may store before the one that has been lowered last has read all."""
        return False

    @abstractmethod
    def lower(self, kernel: Kernel, plan: MemoryPlan) -> Sequence[Step]:
        """Map a kernel, whose buffers have their places, and state it as steps; its packed constants go to `plan`.

        Raises
        ------
        PearrayError
            If the array cannot do it, or its memories can't hold the smallest parts of it.
        """

    def arrange(self, layers: Sequence[Sequence[Step]], wanted: Collection[Buffer]) -> Arrangement:
        """Decide in which order all is computed, and which tensors stay on chip.

        Parameters
        ----------
        layers : sequence of sequence of Step
            What :meth:`lower` has made of the kernels of each layer, in their order.
        wanted : collection of Buffer
            Tensors that must be in memory at the end.
        """
        return Arrangement.in_order(layers)

    @abstractmethod
    def schedule(self, steps: Sequence[Step]) -> Program:
        """Commands of the steps of all layers."""

    def cycles(self, kernel: Kernel) -> float:
        """Estimate the cycles of a kernel alone, whose buffers have some places, to choose between ways to state it.

        A kind whose configurations have choices has an estimate; for others all ways are alike.

        Raises
        ------
        PearrayError
            As :meth:`lower`.
        """
        return 0.0

    def orders(self) -> Mapping[str, Sequence[Sequence[np.ndarray]]]:
        """Order in which products are added, of each kernel that makes a tensor or a part of it, by the tensor's name.

        It is told where bits of sums depend on it; see :data:`.golden.floating.Order`.
        """
        return {}

    def notes(self, name: str) -> Mapping[str, Any]:
        """How a layer that has been lowered was mapped, for its figures and for tests."""
        return {}

    def recoded(self, placed: Mapping[str, Placed]) -> dict[str, Placed]:
        """Tensors among those that have a place which, when all is lowered, stand in memory in a form of the kind."""
        return {}


class ArrayCompiler(ABC):
    """What a kind of array brings: legality, mapping and emission, price, interpretation, figures."""

    #: Settings of its mapper by name, keywords of :func:`pearray.run` and keys ``workload.NAME`` of ``--set``.
    settings: ClassVar[Mapping[str, Setting]] = {}

    #: Whether a program's last layer leaves a profile record, too. Its counts are the run's where they are the same.
    records_last: ClassVar[bool] = False

    def is_fixed_point(self, config: Config) -> bool:
        """Whether a configuration computes in 16-bit fixed point, and nothing else."""
        return False

    @abstractmethod
    def check(self, graph: Graph, config: Config) -> None:
        """Raise an error unless a configuration can compute every operator of a graph."""

    def observe(self, graph: Graph, config: Config, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What the mapper takes from the inputs of a run beside their shapes, as keywords of :meth:`planner`."""
        return {}

    @abstractmethod
    def planner(self, config: Config, timing: MemoryTiming, graph: Graph, **settings: Any) -> LayerPlanner:
        """Begin a program for an accelerator, the memory behind it, and what both it and the host compute.

        `settings` are those of :attr:`settings` that were given, as read, and what :meth:`observe` found.
        """

    @abstractmethod
    def interpreter(self, config: Config, dram_bytes: int) -> Interpreter:
        """Functional model of an accelerator, with a memory of some bytes."""

    def cycles(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> float | None:
        """Estimate the cycles of a program, or None if the kind has no price for programs, or this has no end."""
        return None

    def charges(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> Counter[Cause]:
        """Predict the cycles of a program by cause; none if the kind does not, or the program has no end."""
        return Counter()

    def counters(self, config: Config, program: Program, timing: MemoryTiming = DEFAULT_MEMORY) -> dict[str, int]:
        """Predict counters of a run; those that the kind does not predict are left out."""
        return {}

    def work(self, config: Config, step: Step) -> int:
        """Work that the EXECUTE of a step gives the array, in the unit in which :meth:`ahead` counts it."""
        return 0

    def ahead(self, config: Config, counts: Mapping[str, int], work: int) -> int:
        """Cycles that the array must have worked for the layers behind when a layer's record was written.

        A record comes when a layer's last output is in memory. The array may have begun the next layer by then.
        `counts` are the record's, since the start, and `work` is that of all steps of this layer and those before it.
        """
        return 0

    def products(self, config: Config, work: int) -> int | None:
        """Most multiply-accumulates that some work can be, or None if that is not known.

        A layer's may be more: those with nothing but padding count, and need not be computed.
        """
        return None

    def layer_figures(self, config: Config, node: Node, notes: Mapping[str, Any], record: Mapping[str, int],
                      counts: Mapping[str, int], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Figures of a layer that this kind alone has.

        They follow from its :meth:`LayerPlanner.notes`, the words of its profile record as they are, `counts`, which
        are their differences to those of the layer before, and the tensors that were given and kept.
        """
        return {}

    def run_figures(self, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Figures of a whole run from those of its layers (:meth:`layer_figures`)."""
        return {}

    def figure_table(self, layers: Sequence[Mapping[str, Any]], total: Mapping[str, Any]) -> FigureTable | None:
        """Lay out :meth:`layer_figures` of named layers, and :meth:`run_figures`, or None if there are none."""
        return None


@cache
def kinds() -> dict[str, EntryPoint]:
    """Entry point of each kind of array that is installed, by name."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name in found:
            raise PearrayError(f"name of a kind of array must be its own, but compilers of "
                               f"{origin_of(found[entry.name])} and {origin_of(entry)} both have {entry.name!r}: "
                               "uninstall one of them")
        found[entry.name] = entry
    return found


@cache
def _load(kind: str) -> ArrayCompiler:
    if kind not in kinds():
        raise PearrayError(f"array.kind must be one that a compiler is installed for ({', '.join(kinds())}), "
                           f"not {kind!r}")
    # A kind brings an object of a class of its own, which is abstract here.
    return load_kind(kinds()[kind], ArrayCompiler)  # type: ignore[type-abstract]


def compiler_for(config: Config) -> ArrayCompiler:
    """Compiler of a configuration's kind of array."""
    return _load(config.array.kind)


def interpreter(config: Config, dram_bytes: int) -> Interpreter:
    """Functional model of an accelerator of any kind, with a memory of some bytes."""
    return compiler_for(config).interpreter(config, dram_bytes)
