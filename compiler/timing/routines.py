"""How long POSTs run routines: what instructions stand in memory is known, and which of them LOADs have brought."""

from collections.abc import Mapping, Sequence

from ...hdl.routines.instructions import INSTRUCTION_BYTES, INSTRUCTIONS
from ...hdl.shell.commands import Opcode
from ...hdl.shell.config import Config
from ..program import Program

__all__ = ["routine_cycles"]

_LOAD, _POST = (opcode.value - 1 for opcode in (Opcode.LOAD, Opcode.POST))


def routine_cycles(config: Config, program: Program, queues: Sequence[int],
                   bodies: Sequence[Mapping[str, int]]) -> dict[int, int]:
    """Cycles of the instructions of all passes of each POST that runs a routine, by its place in the program.

    Parameters
    ----------
    config : Config
        Configuration with routines.
    program : Program
        Program, which knows the instructions in memory.
    queues, bodies : sequence
        Number of the queue, and body, of each command.
    """
    memory = config.commands.destination["ROUTINE"].value
    held, found = [0] * INSTRUCTIONS, dict[int, int]()
    for place, (queue, body) in enumerate(zip(queues, bodies, strict=True)):
        if queue == _LOAD and body.get("destination") == memory:
            first = body["address"] // INSTRUCTION_BYTES
            cycles = program.routines[body["dram"]]
            held[first:first + len(cycles)] = cycles
        elif queue == _POST and body.get("routine"):
            first = body["scale_base"]
            found[place] = body["n_count"] * sum(held[first:first + body["scale_nstep"]])
    return found
