"""Steps of kernels that bring their commands along, with the work that these give the array."""

from ...hdl.shell.commands import Opcode
from ...hdl.shell.config import Config
from ..kernels.views import Buffer
from ..program import Program
from ..program_step import ProgramStep
from ..steps import Group
from .timing import execution

__all__ = ["program_step"]


def program_step(config: Config, program: Program, *outputs: Buffer) -> ProgramStep:
    """Make the step of a program that stores tensors, whose work is operand vectors."""
    work = sum(execution(config, body).active for stream, _, body, _, _ in program.entries()
               if stream.opcode is Opcode.EXECUTE)
    return ProgramStep(Group([]), program, outputs, work)
