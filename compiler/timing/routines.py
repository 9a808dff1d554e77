"""How long POSTs run routines: what instructions stand in memory is known, and which of them LOADs have brought."""

from collections.abc import Iterable, Mapping

from ...hdl.routines.engine import RoutineEngine
from ...hdl.routines.instructions import INSTRUCTION_BYTES, SLOTS, Instruction
from ...hdl.shell.commands import Opcode
from ...hdl.shell.config import Config
from ..program import Program
from .latencies import Posting

__all__ = ["RoutineMemory", "routine_postings"]


class RoutineMemory:
    """Instructions that stand in their memory while the commands of a program are walked over in order.

    Parameters
    ----------
    config : Config
        Configuration with routines.
    program : Program
        Program, which knows the instructions in memory.
    """

    def __init__(self, config: Config, program: Program):
        self._memory = config.commands.destination["ROUTINE"].value
        self._routines, self._held = program.routines, dict[int, Instruction]()

    def load(self, body: Mapping[str, int]) -> None:
        """Note what a LOAD brings, if it is instructions."""
        if body.get("destination") == self._memory:
            first = body["address"] // INSTRUCTION_BYTES
            self._held |= dict(enumerate(self._routines[body["dram"]], first))

    def posting(self, body: Mapping[str, int]) -> Posting:
        """What a POST takes that runs a routine.

        A group of lanes works at each slot of an instruction, as often as that goes through all slots.
        """
        first, slots, passes = body["scale_base"], body["m_count"], body["n_count"]
        run = [self._held[number] for number in range(first, first + body["scale_nstep"])]
        cycles = RoutineEngine.cycles_of(passes, run)
        groups = passes * slots * sum(instruction.cycles // SLOTS for instruction in run)
        stores = passes * slots * sum(instruction.op.is_store for instruction in run)
        return Posting(cycles - RoutineEngine.END + 1, 0, cycles, groups, stores, groups)


def routine_postings(config: Config, program: Program, commands: Iterable[tuple[int, Mapping[str, int]]]) -> dict[
        int, Posting]:
    """What each POST takes that runs a routine, by its place in the program.

    Parameters
    ----------
    config : Config
        Configuration with routines.
    program : Program
        Program.
    commands : iterable of (int, mapping)
        Number of the queue, and body, of each command, in order.
    """
    memory, found = RoutineMemory(config, program), dict[int, Posting]()
    for place, (queue, body) in enumerate(commands):
        if queue == Opcode.LOAD.value - 1:
            memory.load(body)
        elif queue == Opcode.POST.value - 1 and body.get("routine"):
            found[place] = memory.posting(body)
    return found
