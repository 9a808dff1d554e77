"""Command queues: one block RAM that holds all, and a slot of registers for each."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks import rules
from ..errors import PearrayError
from .commands import COMMAND_BYTES, HEADER_BITS, CommandSet, Opcode
from .config import Config
from .waits import QUEUE_DEPTH

__all__ = ["QUEUES", "CommandQueues", "slot_bits", "slot_name"]

#: Queues in the order of their numbers.
QUEUES = (Opcode.LOAD, Opcode.EXECUTE, Opcode.POST, Opcode.STORE)


def slot_bits(opcode: Opcode, commands: CommandSet) -> int:
    """Bits of a command of this queue that matter, with this kind of array: its header and its body."""
    return HEADER_BITS + Shape.cast(commands.bodies[opcode]).width


def slot_name(opcode: Opcode) -> str:
    """Name of the member that holds this queue's oldest command."""
    return f"slot_{opcode.name.lower()}"


class CommandQueues(wiring.Component):
    """Four queues of commands that arrive beat by beat, in program order.

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
    queue : In(2)
        Queue of the beat's command, a place in :data:`QUEUES`.
    beat : In(max(log2(beats of a command), 1))
        Number of the beat in its command.
    data : In(data_width)
        The beat.
    room : Out(1)
        Each queue has room for half its depth of commands, as it was one cycle ago.
    hungry : Out(1)
        The loader or the execute engine has no command waiting.
    slot_load, slot_execute, slot_post, slot_store : Out(slot_bits(opcode, config.commands))
        Oldest command of each queue.
    valid : Out(4)
        Which slots hold a command.
    take : In(4)
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
        self._beat_bits = exact_log2(COMMAND_BYTES // config.beat_bytes)
        super().__init__({
            "put": In(1),
            "queue": In(2),
            "beat": In(max(self._beat_bits, 1)),
            "data": In(self._width),
            "room": Out(1),
            "hungry": Out(1),
            "valid": Out(4),
            "take": In(4),
        } | {slot_name(opcode): Out(slot_bits(opcode, config.commands)) for opcode in QUEUES})

    def elaborate(self, platform):
        """Build the memory, its two sides, and the slots."""
        m = Module()

        pointer_bits = exact_log2(self._depth)
        beats = 1 << self._beat_bits
        memory = Memory(shape=self._width, depth=len(QUEUES) * self._depth * beats, init=[],
                        attrs={"no_rw_check": 1})
        m.submodules.storage = memory
        write = memory.write_port()
        read = memory.read_port()

        put_at = Signal(data.ArrayLayout(pointer_bits, len(QUEUES)))
        get_at = Signal(data.ArrayLayout(pointer_bits, len(QUEUES)))
        held = Signal(data.ArrayLayout(range(self._depth + 1), len(QUEUES)))

        # Straight to a slot, if nothing else is on its way to one. While this goes on, beats of
        # other queues stay in the memory. What beats after the first do depends on registers only.
        put_last = Signal()
        first = Signal()
        busy_slots = Signal(len(QUEUES))
        filling = Signal(len(QUEUES))
        direct_first = Signal()
        direct_on = Signal()
        direct_queue = Signal(2)
        store = Signal()
        m.d.comb += [
            first.eq(self.beat[:self._beat_bits] == 0),
            direct_first.eq(~busy_slots.bit_select(self.queue, 1) & ~filling.any()),
            store.eq(self.put & ~Mux(first, direct_first, direct_on)),
        ]
        for queue in range(len(QUEUES)):
            m.d.comb += busy_slots[queue].eq(self.valid[queue] | (held[queue] != 0))
        watched = [QUEUES.index(opcode) for opcode in (Opcode.LOAD, Opcode.EXECUTE)]
        m.d.comb += self.hungry.eq(~Cat(busy_slots[queue] | filling[queue] for queue in watched).all())
        with m.If(self.put):
            with m.If(first):
                m.d.sync += [direct_on.eq(direct_first), direct_queue.eq(self.queue)]
            with m.If(put_last):
                m.d.sync += direct_on.eq(0)

        # Writing. `coming` and `come` say how much of a command that is not complete is there.
        coming = Signal(2)
        come = Signal(self._beat_bits)
        m.d.comb += [
            put_last.eq(self.put & (self.beat[:self._beat_bits] == beats - 1)),
            write.en.eq(store),
            write.addr.eq(Cat(self.beat[:self._beat_bits], put_at[self.queue], self.queue)),
            write.data.eq(self.data),
        ]
        with m.If(store):
            m.d.sync += [come.eq(come + 1), coming.eq(self.queue)]

        # Reading: one command after the other, for whichever slot is empty.
        reading = Signal()
        source = Signal(2)
        beat = Signal(self._beat_bits)
        there = Signal()
        read_now = Signal()
        read_last = Signal()
        wanted = Signal(len(QUEUES))
        chosen = Signal(len(QUEUES))
        m.d.comb += [
            there.eq((held[source] != 0) | (coming == source) & (beat < come)),
            read_now.eq(reading & there),
            read_last.eq(read_now & (beat == beats - 1)),
            read.en.eq(1),
            read.addr.eq(Cat(beat, get_at[source], source)),
        ]
        for queue in range(len(QUEUES)):
            some = (held[queue] != 0) | (come != 0) & (coming == queue)
            m.d.comb += wanted[queue].eq(~self.valid[queue] & ~filling[queue] & some)
        with m.If(read_now):
            m.d.sync += beat.eq(beat + 1)
        # Choosing waits until `held` tells what the command read last has left.
        with m.If(read_last):
            m.d.sync += reading.eq(0)
        with m.If(~reading & ~(self.put & first) & ~direct_on):
            m.d.comb += chosen.eq(wanted & -wanted)
            m.d.sync += reading.eq(wanted.any())
        for queue in range(len(QUEUES)):
            with m.If(chosen[queue]):
                m.d.sync += source.eq(queue)
        full = Signal(len(QUEUES))
        for queue in range(len(QUEUES)):
            put = store & put_last & (self.queue == queue)
            get = read_last & (source == queue)
            with m.If(put):
                m.d.sync += put_at[queue].eq(put_at[queue] + 1)
            with m.If(get):
                m.d.sync += get_at[queue].eq(get_at[queue] + 1)
            m.d.sync += held[queue].eq(held[queue] + put - get)
            m.d.comb += full[queue].eq(held[queue] >= self._depth // 2)
            rules.never(m, f"{QUEUES[queue].name.lower()}_queue", put & (held[queue] == self._depth), "overflow")
        m.d.sync += self.room.eq(~full.any())

        # From the memory through its output register to the slots.
        word = Signal(self._width, reset_less=True)
        arrived = Signal(2)
        target_1, target_2 = Signal(2), Signal(2)
        place_1, place_2 = Signal(self._beat_bits), Signal(self._beat_bits)
        m.d.sync += [
            word.eq(read.data),
            arrived.eq(Cat(read_now, arrived)),
            target_1.eq(source), target_2.eq(target_1),
            place_1.eq(beat), place_2.eq(place_1),
        ]
        # A slot that is being filled from the memory keeps beats from going straight.
        to_slot = Signal(self._width)
        m.d.comb += to_slot.eq(Mux(filling.any(), word, self.data))
        overwritten = Signal(len(QUEUES))
        rules.never(m, "slots", overwritten, "a command was overwritten before it was taken")
        for queue, opcode in enumerate(QUEUES):
            slot = getattr(self, slot_name(opcode))
            last = (len(slot) - 1) // self._width
            with m.If(self.take[queue]):
                m.d.sync += self.valid[queue].eq(0)
            # Until its slot is valid, a queue that is being read must not be chosen again.
            with m.If(chosen[queue]):
                m.d.sync += filling[queue].eq(1)
            for index in range(last + 1):
                part = slot[index * self._width:(index + 1) * self._width]
                if index:
                    straight = direct_on & (direct_queue == queue) & (self.beat == index)
                else:
                    straight = first & direct_first & (self.queue == queue)
                from_memory = arrived[1] & filling[queue] & (target_2 == queue) & (place_2 == index)
                with m.If(self.put & straight | from_memory):
                    m.d.sync += part.eq(to_slot)
                    m.d.comb += overwritten[queue].eq(self.valid[queue])
                    if index == last:
                        m.d.sync += [self.valid[queue].eq(1), filling[queue].eq(0)]

        return m
