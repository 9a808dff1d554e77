"""Kernels that bring their commands along, as a step of their own each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..hdl.shell.commands import CommandSet
from .kernels.views import Buffer
from .program import Program
from .steps import Group, Step, Use, all_of

__all__ = ["ProgramStep", "joined", "scheduled"]


@dataclass(eq=False, slots=True)
class ProgramStep(Step):
    """All commands of a kernel.

    Parameters
    ----------
    program : Program
        Commands, as if there were no others.
    outputs : tuple of Buffer
        What they store.
    work : int
        Work of all EXECUTEs, in the unit of the kind of array.
    """

    program: Program
    outputs: tuple[Buffer, ...]
    work: int

    @property
    def operands(self) -> tuple[Use, ...]:
        """No tiles: places are part of the commands."""
        return ()

    def renewed(self, group: Group, use: Callable[[Use], Use]) -> "ProgramStep":
        """The same step of another group."""
        return ProgramStep(group, self.program, self.outputs, self.work)

    def finished(self) -> Program:
        """Commands, and that of the kernel's record; its outputs count as stored."""
        if self.group.profile is not None:
            self.program.store({"store": self.program.counts["store"]}, profile=1, dram=self.group.profile)
        for output in self.outputs:
            output.note_store(slice(None), output.columns, 0)
        return self.program


def scheduled(steps: Sequence[Step], others: Callable[[list[Step]], Program]) -> list[Program]:
    """Commands of all steps, in order, as parts that follow one another.

    Parameters
    ----------
    steps : sequence of Step
        Steps of all layers.
    others : callable
        Makes the commands of steps that follow one another and bring none along.
    """
    parts: list[Program] = []
    for is_whole, some in groupby(steps, lambda step: isinstance(step, ProgramStep)):
        if is_whole:
            parts += map(ProgramStep.finished, all_of(ProgramStep, some))
        else:
            parts.append(others([*some]))
    return parts


def joined(parts: Sequence[Program], format: CommandSet) -> Program:
    """Parts as one program, of the commands of a configuration."""
    if len(parts) == 1:
        return parts[0]
    whole = Program(format)
    for part in parts:
        whole.follow(part)
    return whole
