"""Which instruction runs in a cycle, of which slot, and which group of elements it names."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..arithmetic.float_divide_root import FloatDivideRoot
from ..blocks import rules
from ..blocks.word_memory import word_memory
from .instructions import ELEMENT_BITS, INSTRUCTIONS, LAYOUT, ROUNDS, SLOTS

__all__ = ["RunBody", "Sequencer"]

#: Rounds of an instruction, most of which have one.
_MOST_ROUNDS = max(ROUNDS.values())


class RunBody(data.Struct):
    """What a command says of instructions."""

    first: unsigned(exact_log2(INSTRUCTIONS))
    count: unsigned(exact_log2(INSTRUCTIONS) + 1)
    passes: unsigned(16)
    slots: unsigned(5)


class Sequencer(wiring.Component):
    """Runs the instructions of one command after another, one slot a cycle.

    While an instruction runs, the next is fetched. Where its elements begin in a pass stands in a memory of its own,
    from the pass before, so that nothing is multiplied: the step is added to where they began then.

    Members
    -------
    commands : :py:`In(stream.Signature(RunBody))`
        Commands; the first instruction begins :attr:`START` cycles after one was accepted, and the next command is
        accepted in the cycle after the last.
    number : :py:`Out(8)`
        Number of the instruction that is fetched.
    instruction : :py:`In(LAYOUT)`
        That instruction, at most :attr:`FETCH` cycles later.
    runs : :py:`Out(1)`
        Whether an instruction runs in this cycle.
    current : :py:`Out(LAYOUT)`
        The instruction.
    slot : :py:`Out(4)`
        Its slot.
    valid : :py:`Out(1)`
        Whether the command has this slot.
    round : :py:`Out(range(rounds))`
        How often the instruction has gone through all slots.
    completes : :py:`Out(1)`
        Whether it does so the last time.
    element : :py:`Out(14)`
        Group of elements that it names, if it is one of memory.
    last : :py:`Out(1)`
        Whether this is the last cycle of the command.
    """

    #: Cycles that a fetch may take.
    FETCH = 3

    #: Cycles from the acceptance of a command to its first instruction.
    START = FETCH + 3

    def __init__(self):
        super().__init__({
            "commands": In(stream.Signature(RunBody)),
            "number": Out(exact_log2(INSTRUCTIONS)),
            "instruction": In(LAYOUT),
            "runs": Out(1),
            "current": Out(LAYOUT),
            "slot": Out(exact_log2(SLOTS)),
            "valid": Out(1),
            "round": Out(range(FloatDivideRoot.ROUNDS)),
            "completes": Out(1),
            "element": Out(ELEMENT_BITS),
            "last": Out(1),
        })

    def elaborate(self, platform):
        """Build the counters, and the memory of elements."""
        m = Module()

        command = Signal(RunBody, reset_less=True)
        starts = Signal()
        # Of the instruction that runs: whether it goes round again, and whether it is the last of all.
        ends, final = Signal(), Signal()
        turned = Signal()
        take = Signal()
        m.d.comb += [
            turned.eq(self.slot == SLOTS - 1),
            self.completes.eq(ends),
            self.valid.eq(self.runs & (self.slot < command.slots)),
            self.last.eq(self.runs & turned & ends & final),
            take.eq(starts & (self.slot == self.START - 1) | self.runs & turned & ends & ~final),
            self.commands.ready.eq(~starts & ~self.runs),
        ]
        m.d.sync += self.slot.eq(self.slot + 1)
        with m.If(self.runs & turned):
            m.d.sync += [self.round.eq(self.round + 1), ends.eq(self._ends_after(self.round))]
        with m.If(self.last):
            m.d.sync += self.runs.eq(0)
        begin = self._fetch(m, command, take, final)
        with m.If(take):
            m.d.sync += [
                starts.eq(0),
                self.runs.eq(1),
                self.slot.eq(0),
                self.round.eq(0),
                self.current.eq(self.instruction),
                ends.eq(~self._goes_round()),
            ]
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += [starts.eq(1), self.slot.eq(0), self.round.eq(0), command.eq(self.commands.p)]
        with m.If(take):
            m.d.sync += self.element.eq(begin)
        with m.Else():
            m.d.sync += self.element.eq(self.element + self.current.literal[2 * ELEMENT_BITS:])

        return m
