"""Fused attention on a row-stationary array, as a step of its own."""

from ...hdl.row_stationary.config import RowStationaryConfig
from ...hdl.shell.commands import Opcode
from ..kernels.attention import Attention
from ..placement import MemoryPlan
from ..program_step import ProgramStep
from ..steps import Group
from .attention_cut import AttentionLayer
from .attention_emit import emit

__all__ = ["lower_attention"]


def lower_attention(kernel: Attention, config: RowStationaryConfig, plan: MemoryPlan) -> ProgramStep:
    """Cut a kernel of attention, and emit its commands.

    Raises
    ------
    PearrayError
        If the memories can't hold the smallest blocks.
    """
    program = emit(AttentionLayer(kernel, config), plan)
    work = sum((body["windows"] + 1) * (body["window"] + 1) * (body["filters"] + 1) * (body["filter_sets"] + 1)
               for stream, _, body, _, _ in program.entries()
               if stream.opcode is Opcode.EXECUTE and not body.get("setup"))
    return ProgramStep(Group([]), program, (kernel.y.view.buffer,), work)
