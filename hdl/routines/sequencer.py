"""Which instruction runs in a cycle, of which slot, and which group of elements it names."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..arithmetic.float_divide_root import FloatDivideRoot
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

    #: Cycles from the acceptance of a command to its first instruction: the fetch, and where its elements begin.
    START = FETCH + 4

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
        """Build the counters of slots and rounds, and what fetches the next instruction."""
        m = Module()

        command = Signal(RunBody, reset_less=True)
        starts, take = Signal(), Signal()
        # Of the instruction that runs: whether this is its last round, and whether it is the command's last one.
        ends, final = Signal(), Signal()
        begin = self._fetch(m, command, take, final)
        turned = self.runs & (self.slot == SLOTS - 1)
        m.d.comb += [
            self.completes.eq(ends),
            self.valid.eq(self.runs & (self.slot < command.slots)),
            self.last.eq(turned & ends & final),
            take.eq(starts & (self.slot == self.START - 2) | turned & ends & ~final),
            self.commands.ready.eq(~starts & ~self.runs),
        ]
        m.d.sync += [self.slot.eq(self.slot + 1), self.element.eq(self.element + self.current.literal[-ELEMENT_BITS:])]
        with m.If(turned):
            m.d.sync += [self.round.eq(self.round + 1), ends.eq(self.round == _MOST_ROUNDS - 2)]
        with m.If(self.last):
            m.d.sync += self.runs.eq(0)
        with m.If(take):
            m.d.sync += [
                starts.eq(0),
                self.runs.eq(1),
                self.slot.eq(0),
                self.round.eq(0),
                self.current.eq(self.instruction),
                self.element.eq(begin),
                ends.eq(~Cat(self.instruction.op == operation for operation in ROUNDS).any()),
            ]
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += [command.eq(self.commands.p), starts.eq(1), self.slot.eq(0), self.round.eq(0)]

        return m

    def _fetch(self, m, command, take, final):
        """Fetch instructions ahead; return where the elements of the next one begin."""
        left, passes, fresh = Signal.like(command.count), Signal.like(command.passes), Signal()
        with m.If(take):
            m.d.sync += [self.number.eq(self.number + 1), left.eq(left - 1), final.eq((left == 1) & (passes == 1))]
            with m.If(left == 1):
                m.d.sync += [self.number.eq(command.first), left.eq(command.count), passes.eq(passes - 1), fresh.eq(0)]
        with m.If(self.commands.valid & self.commands.ready):
            body = self.commands.p
            m.d.sync += [self.number.eq(body.first), left.eq(body.count), passes.eq(body.passes), fresh.eq(1)]

        offset, step, _ = (self.instruction.literal.word_select(part, ELEMENT_BITS) for part in range(3))
        write, before = word_memory(m, "elements", ELEMENT_BITS, INSTRUCTIONS, self.number)
        begin = Signal(ELEMENT_BITS, reset_less=True)
        # In later rounds the memory holds already where they begin in the next pass.
        with m.If((self.round == 0) & (self.slot == self.FETCH)):
            m.d.sync += begin.eq(Mux(fresh, offset, before))
        m.d.comb += [
            write.en.eq(self.slot == self.FETCH + 1),
            write.addr.eq(self.number),
            write.data.eq(begin + step),
        ]
        return begin
