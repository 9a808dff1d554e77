"""Engine of routines: a small processor, whose lanes all run the same instructions on elements of their own."""

from collections.abc import Iterable

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from ..blocks import rules, unit
from ..blocks.banks import BankWrite
from ..blocks.pipeline import delay, taps
from ..shell.config import Config
from ..shell.load_port import LoadWrite
from .decode import decode
from .instructions import INSTRUCTIONS, LAYOUT, SLOTS, Instruction, Operation
from .lane import RoutineLane
from .outputs import GroupWriter
from .sequencer import Sequencer
from .vector_memory import WORD_BYTES, VectorMemory, place_bits

__all__ = ["RoutineEngine"]

#: Fields that a command of a routine may have; all others are zero.
_FIELDS = ("routine", "n_count", "m_count", "scale_base", "scale_nstep", "bias_base", "out_base", "index")


class RoutineEngine(wiring.Component):
    """Runs POSTs with ``routine``: see :mod:`.instructions`.

    A command is accepted when none runs. Its first instruction begins :attr:`START` cycles later, each takes
    :func:`~.instructions.cycles_of` cycles, and it is done :attr:`END` cycles after the last of them. Registers that
    the last instruction writes can be read by the next command.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator, with ``post.routines``.

    Members
    -------
    commands : :py:`In(stream.Signature(PostBody))`
        Commands, all with ``routine``.
    done : :py:`Out(1)`
        High for one cycle per command, in the cycle after its last output was written, if it has any.
    load : :py:`In(LoadWrite(config))`
        Bytes for the vector memory.
    number : :py:`Out(8)`
        Number of an instruction.
    instruction : :py:`In(64)`
        The instruction, at most :attr:`Sequencer.FETCH` cycles later.
    output : :py:`Out(BankWrite(config.output_banks, config.output_lines, 8))`
        Write port of the output scratchpad.
    group : :py:`Out(1)`
        A group of lanes begins an instruction.
    """

    #: Cycles from acceptance to the first instruction.
    START = Sequencer.START

    #: Cycles from the last cycle of the last instruction to ``done``: operands, outputs on their way to the banks, the
    #: write, and one.
    END = RoutineLane.FUNCTIONS + 3

    #: To when nothing changes any more.
    SETTLED = RoutineLane.WRITTEN + 1

    @classmethod
    def cycles_of(cls, passes: int, instructions: Iterable[Instruction]) -> int:
        """Return the cycles from the acceptance of a command that runs instructions to when it is done."""
        return cls.START + passes * sum(instruction.cycles for instruction in instructions) + cls.END - 1

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "commands": In(stream.Signature(config.commands.post)),
            "done": Out(1),
            "load": In(LoadWrite(config)),
            "number": Out(exact_log2(INSTRUCTIONS)),
            "instruction": In(LAYOUT),
            "output": Out(BankWrite(config.output_banks, config.output_lines, 8)),
            "group": Out(1),
        })

    def elaborate(self, platform):
        """Build the sequencer, the memory, the lanes and the way to the output scratchpad."""
        m = Module()

        m.submodules.sequencer = sequencer = Sequencer()
        m.submodules.memory = memory = VectorMemory(self._config)
        m.submodules.writer = writer = GroupWriter(self._config)
        body = self.commands.p
        command = Signal.like(body, name="command", reset_less=True)
        with m.If(self.commands.valid & self.commands.ready):
            m.d.sync += command.eq(body)
        run = sequencer.commands
        m.d.comb += [
            run.valid.eq(self.commands.valid),
            self.commands.ready.eq(run.ready),
            run.p.first.eq(body.scale_base),
            run.p.count.eq(body.scale_nstep),
            run.p.passes.eq(body.n_count),
            run.p.slots.eq(body.m_count),
            self.number.eq(sequencer.number),
            sequencer.instruction.eq(self.instruction),
            self.group.eq(sequencer.valid),
            self.done.eq(delay(m, sequencer.last, self.END, "done")),
        ]
        wiring.connect(m, wiring.flipped(self.load), memory.load)
        wiring.connect(m, writer.output, wiring.flipped(self.output))

        operation = sequencer.current.op
        narrow = (operation == Operation.LOAD_NARROW) | (operation == Operation.STORE_NARROW)
        stores = (operation == Operation.STORE_WORD) | (operation == Operation.STORE_NARROW)
        lanes = self._lanes(m, platform, sequencer, command, memory, stores)
        self._place(m, sequencer, command, memory, writer, narrow, stores)
        m.d.comb += [writer.data[index].eq(lane.a) for index, lane in enumerate(lanes)]
        self._state_rules(m, body, sequencer)

        return m

    def _place(self, m, sequencer, command, memory, writer, narrow, stores):
        """Find the group of an element in the vector memory, or in the output scratchpad."""
        config = self._config
        size = config.post.lanes * config.operand_bytes
        part_bits = exact_log2(WORD_BYTES // config.operand_bytes)
        base = Mux(stores, command.out_base[exact_log2(size):], command.bias_base << part_bits)
        bits = max(place_bits(config, each) for each in (config.scratchpads.vector_bytes,
                                                         config.scratchpads.output_bytes))
        place = Signal(bits, reset_less=True)
        m.d.sync += place.eq(base + Mux(narrow, sequencer.element, sequencer.element << part_bits))
        later = delay(m, narrow, 1, "narrow", reset_less=True)
        reads = sequencer.valid & ~stores
        cycles = RoutineLane.FUNCTIONS - 1
        m.d.comb += [
            memory.en.eq(delay(m, reads, 1, "reads")),
            memory.place.eq(place),
            memory.narrow.eq(later),
            writer.en.eq(delay(m, sequencer.valid & stores, cycles + 1, "stores")),
            writer.place.eq(delay(m, place, cycles, "stored_place", reset_less=True)),
            writer.narrow.eq(delay(m, later, cycles, "stored_narrow", reset_less=True)),
        ]

    def _lanes(self, m, platform, sequencer, command, memory, stores):
        """Build the lanes, and bring what an instruction asks of them to each of their parts."""
        config, current, kind = self._config, sequencer.current, RoutineLane
        functions, results = decode(m, current.op)
        rounds = Signal.like(functions, name="functions_of_round")
        m.d.comb += [rounds.eq(functions), rounds.round.eq(sequencer.round)]
        functions = delay(m, rounds, kind.FUNCTIONS, "functions", reset_less=True)
        results = taps(m, results, kind.LATE, "results", reset_less=True)
        written = Cat(sequencer.valid & sequencer.completes & ~stores, current.dst, sequencer.slot)
        written = delay(m, written, kind.WRITTEN, "written")
        counts, given = self._given(m, sequencer, command, kind.EARLY)
        assert memory.LATENCY + 1 == kind.EARLY, "words come with what else is there early"
        lanes = [RoutineLane(config) for _ in range(config.post.lanes)]
        for index, lane in enumerate(lanes):
            unit.add(m, f"lane_{index}", lane, platform)
            m.d.comb += [
                lane.number.eq(index),
                *(getattr(lane.operands, name).eq(getattr(current, name)) for name in ("a", "b", "c")),
                lane.operands.slot.eq(sequencer.slot),
                lane.functions.eq(functions),
                lane.early.eq(results[kind.EARLY].early),
                lane.word.eq(memory.data[index]),
                lane.given.eq(given),
                lane.counts.eq(counts),
                lane.middle.eq(results[kind.MIDDLE].middle),
                lane.late.eq(results[kind.LATE].late),
                lane.write.eq(written),
            ]
        return lanes

    def _given(self, m, sequencer, command, cycles):
        """What all lanes are given, some cycles later: a literal, or the index of the first lane's element."""
        current = sequencer.current
        counts = delay(m, current.op == Operation.INDEX, 1, "counts", reset_less=True)
        index = command.index + (sequencer.element << ceil_log2(self._config.post.lanes))
        given = Signal(32, reset_less=True)
        m.d.sync += given.eq(Mux(current.op == Operation.INDEX, index, current.literal))
        return (delay(m, value, cycles - 1, name, reset_less=True) for value, name in (
            (counts, "counts"), (given, "given")))

    def _state_rules(self, m, body, sequencer):
        """State what commands and instructions may not be."""
        accepted = self.commands.valid & self.commands.ready
        unit_bytes = self._config.post.lanes * WORD_BYTES
        others = Cat(Value.cast(getattr(body, str(name))) for name, _ in data.Layout.cast(body.shape())
                     if name not in (*_FIELDS, "reserved"))
        rules.never(m, "routine_fields", accepted & others.any(), "a field that a routine has not is not zero")
        rules.never(m, "routine_counts", accepted & (
            (body.scale_nstep == 0) | (body.scale_nstep > INSTRUCTIONS) | (body.m_count > SLOTS)),
            f"scale_nstep is not in 1..{INSTRUCTIONS}, or m_count not in 1..{SLOTS}")
        rules.never(m, "routine_outputs", accepted & (body.out_base[:exact_log2(unit_bytes)] != 0),
                    f"out_base is no multiple of lanes * {WORD_BYTES} = {unit_bytes}")
        known = Cat(sequencer.current.op == operation for operation in Operation).any()
        rules.never(m, "instruction", sequencer.runs & ~known, "an instruction's operation is none")
