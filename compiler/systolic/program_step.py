"""Kernels that bring their commands along, as a step of their own each."""

from collections.abc import Callable
from dataclasses import dataclass

from ...hdl.shell.commands import Opcode
from ...hdl.shell.config import Config
from ..kernels.views import Buffer
from ..program import Program
from ..steps import Group, Step, Use
from .timing import execution

__all__ = ["ProgramStep"]


@dataclass(eq=False, slots=True)
class ProgramStep(Step):
    """All commands of a kernel.

    Parameters
    ----------
    program : Program
        Commands, as if there were no others.
    output : Buffer
        What they store.
    work : int
        Operand vectors of all EXECUTEs.
    """

    program: Program
    output: Buffer
    work: int

    @classmethod
    def of(cls, config: Config, program: Program, output: Buffer) -> "ProgramStep":
        """Make the step of a program that stores a tensor."""
        work = sum(execution(config, body).active for stream, _, body, _, _ in program.entries()
                   if stream.opcode is Opcode.EXECUTE)
        return cls(Group([]), program, output, work)

    @property
    def operands(self) -> tuple[Use, ...]:
        """No tiles: places are part of the commands."""
        return ()

    def renewed(self, group: Group, use: Callable[[Use], Use]) -> "ProgramStep":
        """The same step of another group."""
        return ProgramStep(group, self.program, self.output, self.work)
