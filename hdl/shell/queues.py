"""Command queues: one block RAM that holds all, and a slot of registers for each."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks import rules
from ..errors import PearrayError
from .commands import COMMAND_BYTES, CommandSet, Opcode
from .config import Config
from .waits import QUEUE_DEPTH

__all__ = ["CommandQueues", "slot_bits", "slot_name"]


def slot_bits(opcode: Opcode, commands: CommandSet) -> int:
    """Bits of a command of this queue that matter, with this kind of array: its header and its body."""
    return commands.header_bits + Shape.cast(commands.bodies[opcode]).width


def slot_name(opcode: Opcode) -> str:
    """Name of the member that holds this queue's oldest command."""
    return f"slot_{opcode.name.lower()}"


class _State:
    """Signals that the parts of the queues share."""

    def __init__(self, depth: int, beat_bits: int, queues: int):
        pointers = data.ArrayLayout(exact_log2(depth), queues)
        #: Next command of each queue to write and to read, and commands in the memory.
        self.put_at = Signal(pointers)
        self.get_at = Signal(pointers)
        self.held = Signal(data.ArrayLayout(range(depth + 1), queues))
        #: Queues of which the memory holds a whole command.
        self.some = Signal(queues)
        self.some_next = Signal(queues)
        #: Queues whose slot holds a command, or the memory does.
        self.busy_slots = Signal(queues)
        #: The beat is its command's first, last; it goes to the memory.
        self.first = Signal()
        self.put_last = Signal()
        self.store = Signal()
        #: A command that begins goes straight to its slot; one that has begun does, this queue's.
        self.direct_first = Signal()
        self.direct_on = Signal()
        self.direct_queue = Signal(range(queues))
        #: Queue and beats of the command of which the memory holds a part.
        self.coming = Signal(range(queues))
        self.come = Signal(beat_bits)
        #: A command is read, of this queue; its next beat; this is read now, and is the last one.
        self.reading = Signal()
        self.source = Signal(range(queues))
        self.beat = Signal(beat_bits)
        self.read_now = Signal()
        self.read_last = Signal()
        #: Queues whose next command is read from the next cycle on; those whose slot is being filled so, and then
        #: will be; there is none.
        self.chosen = Signal(queues)
        self.filling = Signal(queues)
        self.filling_next = Signal(queues)
        self.filled = Signal(init=1)
        #: Queues whose slot gets its last beat, straight.
        self.completed = Signal(queues)


class CommandQueues(wiring.Component):
    """Queues of commands that arrive beat by beat, in program order.

    The beats lie in one block RAM, a region for each queue. The oldest command of each queue is
    copied, a beat a cycle, to a slot of registers that its engine sees whole. A command that
    arrives at an empty queue while no other is copied goes straight to its slot, which is valid
    in the cycle after the last beat that holds a bit of it; else it takes at least :attr:`LATENCY` + 2 cycles.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    depth : int
        Commands of each queue, besides the one in its slot; a power of two of at least four.

    Members
    -------
    put : In(1)
        A beat arrives. It is never refused; see ``room``.
    queue : In(range(queues))
        Queue of the beat's command, a place in ``config.commands.queues``.
    beat : In(max(log2(beats of a command), 1))
        Number of the beat in its command.
    data : In(data_width)
        The beat.
    room : Out(1)
        Each queue has room for half its depth of commands, as it was one cycle ago.
    hungry : Out(1)
        The loader or the execute engine has no command waiting.
    slot_load, slot_execute, ... : Out(slot_bits(opcode, config.commands))
        Oldest command of each queue.
    valid : Out(queues)
        Which slots hold a command.
    take : In(queues)
        Empty the slots.

    Raises
    ------
    PearrayError
        If the depth is not a power of two of at least four.
    """

    #: Commands of each queue, unless said otherwise.
    DEPTH = QUEUE_DEPTH
    #: Cycles from the reading of a beat to its place in a slot: memory, its output register, slot.
    LATENCY = 3

    def __init__(self, config: Config, depth: int = DEPTH):
        if type(depth) is not int or depth < 4 or depth & depth - 1:
            raise PearrayError(f"depth must be a power of two of at least 4, not {depth!r}")
        self._width = config.memory.data_width
        self._depth = depth
        self._beats = COMMAND_BYTES // config.beat_bytes
        self._beat_bits = exact_log2(self._beats)
        self._queues = config.commands.queues
        queues = len(self._queues)
        #: Last beat of each queue's commands that holds a bit of its slot.
        self._lasts = [(slot_bits(opcode, config.commands) - 1) // self._width for opcode in self._queues]
        super().__init__({
            "put": In(1),
            "queue": In(range(queues)),
            "beat": In(max(self._beat_bits, 1)),
            "data": In(self._width),
            "room": Out(1),
            "hungry": Out(1, init=1),
            "valid": Out(queues),
            "take": In(queues),
        } | {slot_name(opcode): Out(slot_bits(opcode, config.commands)) for opcode in self._queues})

    def elaborate(self, platform):
        """Build the memory, its two sides, and the slots."""
        m = Module()

        memory = Memory(shape=self._width, depth=len(self._queues) * self._depth * self._beats, init=[],
                        attrs={"no_rw_check": 1})
        m.submodules.storage = memory
        write = memory.write_port()
        read = memory.read_port()

        state = _State(self._depth, self._beat_bits, len(self._queues))
        self._choose_way(m, state)
        self._write(m, write, state)
        self._read(m, read, state)
        self._choose_queue(m, state)
        self._count(m, state)
        self._fill_slots(m, read.data, state)

        return m

    def _choose_way(self, m, state):
        """Send a command straight to its slot, if nothing else is on its way to one, else to the memory.

        While one goes straight, beats of other queues stay in the memory. What beats after the first do depends on
        registers only.
        """
        busy_slots = state.busy_slots
        m.d.comb += [
            state.first.eq(self.beat[:self._beat_bits] == 0),
            state.direct_first.eq(~busy_slots.bit_select(self.queue, 1) & state.filled),
            state.store.eq(self.put & ~Mux(state.first, state.direct_first, state.direct_on)),
        ]
        for queue in range(len(self._queues)):
            m.d.comb += busy_slots[queue].eq(self.valid[queue] | state.some[queue])
        # From a register, since requests for commands and for loads wait for each other.
        watched = [self._queues.index(opcode) for opcode in (Opcode.LOAD, Opcode.EXECUTE)]
        has = self.valid & ~self.take | state.completed | state.some_next | state.filling | state.chosen
        m.d.sync += self.hungry.eq(~Cat(has[queue] for queue in watched).all())
        with m.If(self.put):
            with m.If(state.first):
                m.d.sync += [state.direct_on.eq(state.direct_first), state.direct_queue.eq(self.queue)]
            with m.If(state.put_last):
                m.d.sync += state.direct_on.eq(0)

    def _write(self, m, write, state):
        """Write a beat to the memory."""
        m.d.comb += [
            state.put_last.eq(self.put & (self.beat[:self._beat_bits] == self._beats - 1)),
            write.en.eq(state.store),
            write.addr.eq(Cat(self.beat[:self._beat_bits], state.put_at[self.queue], self.queue)),
            write.data.eq(self.data),
        ]
        with m.If(state.store):
            m.d.sync += [state.come.eq(state.come + 1), state.coming.eq(self.queue)]

    def _read(self, m, read, state):
        """Read the beats of one command after the other, as far as they are there."""
        there = Signal()
        m.d.comb += [
            there.eq(state.some.bit_select(state.source, 1)
                     | (state.coming == state.source) & (state.beat < state.come)),
            state.read_now.eq(state.reading & there),
            state.read_last.eq(state.read_now & (state.beat == self._beats - 1)),
            read.en.eq(1),
            read.addr.eq(Cat(state.beat, state.get_at[state.source], state.source)),
        ]
        with m.If(state.read_now):
            m.d.sync += state.beat.eq(state.beat + 1)

    def _choose_queue(self, m, state):
        """Choose whose next command is read: the first queue's whose slot is empty."""
        wanted = Signal(len(self._queues))
        for queue in range(len(self._queues)):
            some = state.some[queue] | (state.come != 0) & (state.coming == queue)
            m.d.comb += wanted[queue].eq(~self.valid[queue] & ~state.filling[queue] & some)
        # Choosing waits until `held` tells what the command read last has left.
        with m.If(state.read_last):
            m.d.sync += state.reading.eq(0)
        with m.If(~state.reading & ~(self.put & state.first) & ~state.direct_on):
            m.d.comb += state.chosen.eq(wanted & -wanted)
            m.d.sync += state.reading.eq(wanted.any())
        for queue in range(len(self._queues)):
            with m.If(state.chosen[queue]):
                m.d.sync += state.source.eq(queue)

    def _count(self, m, state):
        """Count the commands of each queue in the memory, and watch that there is room for more."""
        full = Signal(len(self._queues))
        for queue in range(len(self._queues)):
            held = state.held[queue]
            put = state.store & state.put_last & (self.queue == queue)
            get = state.read_last & (state.source == queue)
            with m.If(put):
                m.d.sync += state.put_at[queue].eq(state.put_at[queue] + 1)
            with m.If(get):
                m.d.sync += state.get_at[queue].eq(state.get_at[queue] + 1)
            m.d.comb += state.some_next[queue].eq(put | Mux(get, held != 1, state.some[queue]))
            m.d.sync += [held.eq(held + put - get), state.some[queue].eq(state.some_next[queue])]
            m.d.comb += full[queue].eq(held >= self._depth // 2)
            rules.never(m, f"{self._queues[queue].name.lower()}_queue", put & (held == self._depth), "overflow")
        m.d.sync += self.room.eq(~full.any())

    def _fill_slots(self, m, read_data, state):
        """Fill the slots, from the memory through its output register, or straight."""
        word = Signal(self._width, reset_less=True)
        read, target = Signal(), Signal(range(len(self._queues)))
        place_1, place_2 = Signal(self._beat_bits), Signal(self._beat_bits)
        # Queue to whose slot the word goes that has been read; a slot needs not all beats of its command.
        arrives = Signal(len(self._queues))
        needed = Signal()
        m.d.sync += [
            word.eq(read_data),
            read.eq(state.read_now), target.eq(state.source), arrives.eq(Mux(read, 1 << target, 0)),
            place_1.eq(state.beat), place_2.eq(place_1),
        ]
        with m.Switch(target):
            for queue, last in enumerate(self._lasts):
                with m.Case(queue):
                    m.d.sync += needed.eq(read & (place_1 <= last))
        # A slot that is being filled from the memory keeps beats from going straight.
        to_slot = Signal(self._width)
        m.d.comb += to_slot.eq(Mux(needed, word, self.data))
        may_begin = Signal(len(self._queues))
        m.d.comb += [
            may_begin.eq(Mux(state.first & state.filled, ~state.busy_slots, 0)),
            state.filling_next.eq(state.filling | state.chosen),
        ]
        m.d.sync += [state.filling.eq(state.filling_next), state.filled.eq(~state.filling_next.any())]
        overwritten = Signal(len(self._queues))
        rules.never(m, "slots", overwritten, "a command was overwritten before it was taken")
        for queue, opcode in enumerate(self._queues):
            slot = Signal(len(getattr(self, slot_name(opcode))), name=slot_name(opcode), reset_less=True)
            m.d.comb += getattr(self, slot_name(opcode)).eq(slot)
            with m.If(self.take[queue]):
                m.d.sync += self.valid[queue].eq(0)
            for index in range(self._lasts[queue] + 1):
                part = slot[index * self._width:(index + 1) * self._width]
                # What goes straight is taken from before it comes, as whatever may come instead: whether it comes, and
                # a first beat whither, is known late. So a slot that is not valid may hold anything.
                if index:
                    straight = expected = state.direct_on & (state.direct_queue == queue) & (self.beat == index)
                else:
                    expected = may_begin[queue]
                    straight = state.first & state.direct_first & (self.queue == queue)
                from_memory = arrives[queue] & (place_2 == index)
                with m.If(expected | from_memory):
                    m.d.sync += part.eq(to_slot)
                with m.If(self.put & straight | from_memory):
                    m.d.comb += overwritten[queue].eq(self.valid[queue])
                    if index == self._lasts[queue]:
                        m.d.sync += self.valid[queue].eq(1)
                if index == self._lasts[queue]:
                    m.d.comb += state.completed[queue].eq(self.put & straight)
                    # Until its slot is valid, a queue that is being read must not be chosen again.
                    with m.If(from_memory):
                        m.d.comb += state.filling_next[queue].eq(0)
