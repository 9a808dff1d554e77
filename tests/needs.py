"""What each command of a program must wait for: an interpreter that does it tells what it must not overtake."""

from collections import Counter

import numpy as np

from pearray.compiler.cells import Cells
from pearray.compiler.kinds import interpreter
from pearray.compiler.program import QUEUES, Program
from pearray.compiler.systolic.timing import contraction_tiles
from pearray.hdl.shell.commands import Opcode
from pearray.hdl.shell.config import Config

__all__ = ["NeededWaits"]

_NAMES = list(QUEUES.values())


class _Needs(Cells):
    """Cells that tell what an access must wait for, instead of refusing it."""

    def _need(self, own, latest):
        for queue, ordinal in latest:
            if queue != own:
                self.needs[queue] = max(self.needs[queue], int(ordinal))

    def read(self, index, ordinal, clock, *, internal=False, queue=None):
        if internal or not index.size:
            return
        self.check(index)
        own = self._reader_queue if queue is None else _NAMES.index(queue)
        self._need(own, [(writer, written[index].max()) for writer, written in self._written.items()])
        self._read[own][index] = ordinal

    def write(self, index, ordinal, clock, *, queue=None):
        if not index.size:
            return
        self.check(index)
        own = self._writer_queue if queue is None else _NAMES.index(queue)
        self._need(own, [(each, cells[index].max()) for cells_of in (self._read, self._written)
                         for each, cells in cells_of.items()])
        self._written[own][index] = ordinal


class NeededWaits:
    """A program whose commands wait for just what they must wait for.

    Parameters
    ----------
    config : SystolicConfig
        Configuration of the accelerator.
    dram_bytes : int
        Size of its memory.

    Attributes
    ----------
    machine : Interpreter
        What the commands so far have made.
    program : Program
        The commands so far.
    """

    def __init__(self, config: Config, dram_bytes: int):
        self._config = config
        self.machine = machine = interpreter(config, dram_bytes)
        self.program = Program(config.commands)
        self._needs: Counter = Counter()
        cells = [machine._dram_race, machine._out_race, machine._sums_race, *machine._races.values()]
        if config.has_softmax:
            cells.append(machine._softmax.shifts_race)
        for each in cells:
            each.__class__, each.needs = _Needs, self._needs
        #: Last EXECUTE that keeps others from a bank, and last POST of each bank.
        self._last: Counter = Counter()

    def emit(self, opcode: Opcode, body: dict[str, int]) -> None:
        """Do a command, and append it with the waits that it needs."""
        self._needs.clear()
        format = self._config.commands
        whole = format.decode(format.encode(opcode, {}, body))[2]
        ordinal = self.program.counts[QUEUES[opcode]] + 1
        getattr(self.machine, f"_{opcode.name.lower()}")(ordinal, np.zeros(self.machine._CLOCKS, np.int64), whole)
        # A bank of the accumulators is the array's or post-processing's, whatever rows they use.
        for own, other in ((Opcode.EXECUTE, Opcode.POST), (Opcode.POST, Opcode.EXECUTE)):
            if opcode is own and self._keeps_bank(opcode, whole):
                self._last[own, whole["bank"]] = ordinal
                queue = _NAMES.index(QUEUES[other])
                self._needs[queue] = max(self._needs[queue], self._last[other, whole["bank"]])
        self.program.emit(opcode, {_NAMES[queue]: number for queue, number in self._needs.items() if number}, body)

    def _keeps_bank(self, opcode: Opcode, body: dict[str, int]) -> bool:
        """Whether a command reads sums, so that no other may read the bank."""
        if opcode is Opcode.POST or not self._config.has_softmax:
            return True
        tiles = 1 if body["output_stationary"] else contraction_tiles(
            self._config.array.rows, body["k_total"], body["run"], body["fold"])
        return not body["first"] or tiles > 1
