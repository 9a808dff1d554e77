"""Tokens: which commands may start, by how many of each queue have completed."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..blocks import rules
from ..errors import PearrayError
from .commands import CommandSet, Opcode
from .queues import slot_bits, slot_name
from .waits import WAIT_BITS

__all__ = ["STALLS", "TokenGates"]

#: Causes for which the execute engine waits, in the order of the bits of ``stalls``.
STALLS = ("stall_load", "stall_post", "stall_empty")


class TokenGates(wiring.Component):
    """Holds each queue's oldest command back until the counts it waits for have been reached.

    Completed commands are counted modulo ``2**count_bits``; a command may start when, for each queue, the
    count minus the command's wait, modulo that, is below half of it (:mod:`~pearray.hdl.shell.waits`). For an EXECUTE,
    a POST counts as soon as ``released`` says so: it will have read its last sums when an EXECUTE that starts now
    could reach them. For a LOAD, an EXECUTE of a kind of array that gives buffers back early counts as soon as what
    the LOAD writes over has been read. A command is seen by
    its engine two cycles after the last ``done`` it waited for, and one cycle after it came into its slot.
    The end of the program stands in the load queue.

    Parameters
    ----------
    commands : CommandSet
        Commands of the kind of array.
    count_bits : int
        Width of the counts, which may be narrower than a command's waits: these are then compared modulo the
        same.

    Members
    -------
    slot_load, slot_execute, ... : In(slot_bits(opcode, commands))
        Oldest command of each queue.
    valid : In(queues)
        Which slots hold a command.
    take : Out(queues)
        Commands that start: their slots are free.
    done : In(queues)
        One cycle for each completed command of each queue.
    released : In(1)
        One cycle for each POST whose sums may be written over by EXECUTEs that start now.
    each of ``commands.frees`` : In(1)
        One cycle for each EXECUTE that has given this buffer back.
    load, execute, ... : Out(stream.Signature(body))
        Bodies of the commands that may start.
    finished : Out(1)
        The end of the program may be taken.
    stalls : Out(3)
        The execute engine waits for a load, for post-processing, or for a command (:data:`STALLS`).
    blocked : Out(ArrayLayout(queues, queues))
        For each queue, for which others the command in its slot waits; means nothing where there is none.

    Raises
    ------
    PearrayError
        If the counts are wider than a command's waits, or too narrow to be told apart.
    """

    #: Cycles from the last ``done`` that a command waited for, and from its arrival in its slot, to its start.
    DONE_LATENCY = 2
    SLOT_LATENCY = 1

    def __init__(self, commands: CommandSet, count_bits: int = WAIT_BITS):
        if not 2 <= count_bits <= WAIT_BITS:
            raise PearrayError(f"count_bits must be in 2..{WAIT_BITS}, not {count_bits!r}")
        self._commands = commands
        self._queues = commands.queues
        self._count_bits = count_bits
        #: Completed commands of each queue, and POSTs that have released their sums, modulo ``2**count_bits``; public
        #: for proofs.
        self.completed = [Signal(count_bits, name=f"completed_{opcode.name.lower()}") for opcode in self._queues]
        self.posted = Signal(count_bits)
        #: EXECUTEs that have given each buffer back, modulo the same.
        self.freed = {name: Signal(count_bits) for name in commands.frees}
        queues = len(self._queues)
        super().__init__({
            **{name: In(1) for name in commands.frees},
            "valid": In(queues),
            "take": Out(queues),
            "done": In(queues),
            "released": In(1),
            "finished": Out(1),
            "stalls": Out(len(STALLS)),
            "blocked": Out(data.ArrayLayout(queues, queues)),
        } | {slot_name(opcode): In(slot_bits(opcode, commands)) for opcode in self._queues}
          | {opcode.name.lower(): Out(stream.Signature(commands.bodies[opcode])) for opcode in self._queues})

    def elaborate(self, platform):
        """Build the counts and one gate for each queue."""
        m = Module()

        counts = self.completed
        for queue, count in enumerate(counts):
            with m.If(self.done[queue]):
                m.d.sync += count.eq(count + 1)

        with m.If(self.released):
            m.d.sync += self.posted.eq(self.posted + 1)

        freed = self._count_freed(m, counts[self._queues.index(Opcode.EXECUTE)])
        for queue, opcode in enumerate(self._queues):
            self._gate(m, queue, opcode, freed)

        return m

    def _gate(self, m, queue, opcode, freed):
        """Let a queue's oldest command start when what it waits for has been reached."""
        name = opcode.name.lower()
        slot = getattr(self, slot_name(opcode))
        header = Signal(self._commands.header, name=f"header_{name}")
        may_start = Signal(name=f"may_start_{name}")
        m.d.comb += header.eq(slot)
        reached, early = self._compare(m, opcode, header, freed)
        rules.never(m, f"{name}_waits", may_start & Cat(early).any(), "started before what it waits for")
        m.d.sync += may_start.eq(self.valid[queue] & reached.all() & ~self.take[queue])
        m.d.comb += self.blocked[queue].eq(~reached)

        commands = getattr(self, name)
        m.d.comb += [
            commands.valid.eq(may_start),
            commands.p.eq(slot[self._commands.header_bits:]),
            self.take[queue].eq(commands.valid & commands.ready),
        ]
        # The body stands in the queue's slot, which has a rule of its own.
        rules.held(m, f"{name}_commands", commands.valid, commands.ready)
        if opcode is Opcode.LOAD:
            is_end = Signal()
            m.d.comb += [
                is_end.eq(header.opcode.as_value() == Opcode.END.value),
                commands.valid.eq(may_start & ~is_end),
                self.finished.eq(may_start & is_end),
            ]
        if opcode is Opcode.EXECUTE:
            waits = Signal(len(STALLS))
            load_reached = reached[self._queues.index(Opcode.LOAD)]
            m.d.comb += waits.eq(Cat(
                self.valid[queue] & ~load_reached,
                self.valid[queue] & load_reached,
                ~self.valid[queue],
            ))
            m.d.sync += self.stalls.eq(waits & (commands.ready & ~commands.valid).replicate(len(STALLS)))

    def _compare(self, m, opcode, header, freed):
        """Return which of the counts that a command waits for have been reached, and which surely have not."""
        name = opcode.name.lower()
        reached = Signal(len(self._queues), name=f"reached_{name}")
        early = []
        for other, count in zip(self._queues, self.completed, strict=True):
            ahead = Signal(self._count_bits, name=f"ahead_{name}_{other.name.lower()}")
            if (opcode, other) == (Opcode.EXECUTE, Opcode.POST):
                count = self.posted
            if (opcode, other) == (Opcode.LOAD, Opcode.EXECUTE):
                count = freed
            m.d.comb += [
                ahead.eq(count - header[f"wait_{other.name.lower()}"]),
                reached[self._queues.index(other)].eq(~ahead[-1]),
            ]
            # A count that has come as far ahead as can be told may take one step more at the last moment.
            early.append(ahead[-1] & ahead[:-1].any())
        return reached, early

    def _count_freed(self, m, completed):
        """Count the EXECUTEs that are done with what the oldest LOAD writes over, those completed at least."""
        frees = self._commands.frees
        if not frees:
            return completed
        for name, count in self.freed.items():
            with m.If(getattr(self, name)):
                m.d.sync += count.eq(count + 1)
        body = Signal(self._commands.load, name="body_load")
        m.d.comb += body.eq(getattr(self, slot_name(Opcode.LOAD))[self._commands.header_bits:])
        total = completed
        for name, destination in frees.items():
            if destination is None:
                total = self.freed[name]
        for name, destination in frees.items():
            if destination is not None:
                total = Mux(body.destination == destination, self.freed[name], total)
        return total
