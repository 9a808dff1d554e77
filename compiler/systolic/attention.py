"""Fused attention as a step of its own, which brings its commands along."""

from collections.abc import Callable
from dataclasses import dataclass

from ...hdl.shell.commands import Opcode
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..kernels.attention import Attention
from ..kernels.views import Buffer
from ..placement import MemoryPlan
from ..program import Program
from ..steps import Group, Step, Use
from .attention_cut import AttentionLayer
from .attention_emit import Emission, emit
from .timing import execution

__all__ = ["AttentionStep", "lower_attention"]


@dataclass(eq=False, slots=True)
class AttentionStep(Step):
    """All commands of a kernel of attention.

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

    @property
    def operands(self) -> tuple[Use, ...]:
        """No tiles: places are part of the commands."""
        return ()

    def renewed(self, group: Group, use: Callable[[Use], Use]) -> "AttentionStep":
        """The same step of another group."""
        return AttentionStep(group, self.program, self.output, self.work)


def lower_attention(kernel: Attention, config: SystolicConfig, timing: MemoryTiming, plan: MemoryPlan) -> AttentionStep:
    """Cut a kernel of attention, and emit its commands.

    Raises
    ------
    PearrayError
        If the memories can't hold the smallest blocks.
    """
    layer = AttentionLayer(kernel, config)
    program = emit(layer, layer.query_blocks(layer.most_rows), Emission(), plan)
    work = sum(execution(config, body).active for stream, _, body, _, _ in program.entries()
               if stream.opcode is Opcode.EXECUTE)
    return AttentionStep(Group([]), program, kernel.y.view.buffer, work)
