"""Kernels of routines: elements of tensors that lanes load, what they compute of them, and what they store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...hdl.errors import PearrayError
from ..operators.moved import OUTSIDE
from ..routines.values import Lane
from .kernel import Access, Index, Kernel
from .views import Buffer, View

__all__ = ["Elements", "Phase", "Routine"]


@dataclass(frozen=True, eq=False)
class Elements:
    """Elements of a buffer that units load or store, in each of their steps.

    Parameters
    ----------
    buffer : Buffer
        Where they stand.
    places : int64 ndarray of shape (steps or 1, units or 1)
        Element of the buffer for each step and unit; those of one are alike for all. Where it is :data:`OUTSIDE`
        zero is loaded, and nothing stored.
    """

    buffer: Buffer
    places: np.ndarray

    @property
    def is_fixed(self) -> bool:
        """Whether they are the same in all steps."""
        return len(self.places) == 1


@dataclass(frozen=True)
class Phase:
    """What units do once, or in each step.

    Parameters
    ----------
    body : callable
        What a lane does.
    repeats : bool
        Whether it does so in each step.
    """

    body: Callable[[Lane], None]
    repeats: bool = True


@dataclass(kw_only=True, eq=False)
class Routine(Kernel):
    """Phases, one after another, of units that know nothing of one another.

    Parameters
    ----------
    steps, units : int
        How many steps each has, and how many units there are.
    sources, results : mapping of str to Elements
        What is loaded and stored, by the names that bodies use.
    phases : sequence of Phase
        What units do. What they keep from one step or phase to the next are states.
    states : tuple of str
        Names of these.
    """

    ranks: dict[str, int]
    terms: tuple[()] = ()
    combine: str = "routine"
    steps: int = 1
    units: int
    sources: Mapping[str, Elements]
    results: Mapping[str, Elements]
    phases: Sequence[Phase]
    states: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, sources: Mapping[str, Elements], results: Mapping[str, Elements], phases: Sequence[Phase],
           states: tuple[str, ...] = (), *, steps: int = 1, units: int) -> "Routine":
        """Kernel of these parts."""
        first = next(iter(results.values())).buffer
        y = Access(View.rows(first, "c", (first.size,)), {"c": Index({"c": 1})})
        return cls(name=name, ranks={"c": first.size}, y=y, steps=steps, units=units, sources=sources,
                   results=results, phases=phases, states=states)

    @property
    def is_flat(self) -> bool:
        """Whether units have one step, so that it does not matter which lane computes which of them, or when."""
        return self.steps == 1 and len(self.phases) == 1 and self.phases[0].repeats and not self.states

    @property
    def buffers(self) -> Iterator[Buffer]:
        """Buffers that are read."""
        for source in self.sources.values():
            yield source.buffer

    @property
    def made(self) -> Iterator[Buffer]:
        """Buffers that are written."""
        for result in self.results.values():
            yield result.buffer

    def unrolled(self) -> "Routine":
        """The same in one step, of units that have the elements of all steps: what a lane keeps stands in one pass."""
        names = [{name: f"{name} {step}" for some in (self.sources, self.results) for name, each in some.items()
                  if len(each.places) > 1} for step in range(self.steps)]

        def body(lane: Lane) -> None:
            for phase in self.phases:
                for apart in names if phase.repeats else [{}]:
                    lane.names = apart
                    phase.body(lane)

        def parts(elements: Mapping[str, Elements]) -> dict[str, Elements]:
            found = {name: each for name, each in elements.items() if each.is_fixed}
            return found | {apart[name]: Elements(elements[name].buffer, elements[name].places[step:step + 1])
                            for step, apart in enumerate(names) for name in elements if name in apart}

        return replace(self, steps=1, sources=parts(self.sources), results=parts(self.results), phases=[Phase(body)],
                       states=())

    def check(self) -> None:
        """Raise an error unless all elements stand inside their buffers, and shapes fit."""
        for name, each in (*self.sources.items(), *self.results.items()):
            steps, units = each.places.shape
            if steps not in (1, self.steps) or units not in (1, self.units):
                raise PearrayError(f"{self.name}: elements of {name} must have shape ({self.steps}, {self.units}), or "
                                   f"1 instead, not {each.places.shape}")
            if each.places.size and not OUTSIDE <= each.places.min() <= each.places.max() < each.buffer.size:
                raise PearrayError(f"{self.name}: {name} leaves its buffer of {each.buffer.size} elements")

    def __str__(self) -> str:
        made, read = (", ".join(each.buffer.name for each in some.values()) for some in (self.results, self.sources))
        return f"{self.name}: {made} = routine({read}), {self.units} units of {self.steps} steps"
