"""Parts of a program behind one another, between which tensors stay on chip where that is no slower."""

from collections.abc import Collection, Sequence

from ...hdl.systolic.commands import Destination
from ...hdl.systolic.config import SystolicConfig
from ...memory import MemoryTiming
from ..forwarding import Scratchpads, forwarded
from ..kernels.views import Buffer
from ..program import Program
from ..program_step import joined
from .arrange import price_of, rooms

__all__ = ["on_chip"]

#: Fields of an EXECUTE that say where operands begin, and in which scratchpad.
_BASES = {"a_base": Destination.ACTIVATION.value, "w_base": Destination.WEIGHT.value}


def on_chip(config: SystolicConfig, timing: MemoryTiming, parts: Sequence[Program],
            wanted: Collection[Buffer]) -> Program:
    """All parts as one program; `wanted` are tensors that must be in memory at the end."""
    whole = joined(parts, config.commands)
    if len(parts) < 2 or not config.has_moves:
        return whole
    pads = Scratchpads(rooms(config), _BASES, config.operand_bytes)
    other = forwarded(whole, [part.length for part in parts], pads, wanted)
    if other is None:
        return whole
    usual, found = (price_of(config, timing, each) for each in (whole, other))
    return other if found.cycles <= usual.cycles and found.total < usual.total else whole
