"""Program fetch: reads commands ahead, checks them, and puts each into its queue."""

from itertools import pairwise

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .commands import COMMAND_BYTES, FORMAT_VERSION, Opcode
from .config import Config
from .reader import beats_layout, request_layout

__all__ = ["Fetch"]


class _State:
    """Signals that the parts of the fetch share."""

    def __init__(self, ahead: int, beat_bits: int, queues: int):
        #: Next command to request and to arrive, in units of commands, and those between.
        self.request_at = Signal(32 - exact_log2(COMMAND_BYTES))
        self.arrived_at = Signal(32 - exact_log2(COMMAND_BYTES))
        self.in_flight = Signal(range(ahead + 1))
        self.requested = Signal()
        #: Commands behind the one that arrives, or from the next one on, as far as its header tells.
        self.following = Signal(4)
        #: A beat arrives, this one of its command; it is the first, the last.
        self.arrives = Signal()
        self.beat = Signal(beat_bits)
        self.first = Signal()
        self.last = Signal()
        #: What the first beat says: queue of the command, whether it is the end; both are kept for the other beats.
        self.queue = Signal(range(queues))
        self.queue_held = Signal(range(queues))
        self.is_end = Signal()
        self.ending = Signal()
        #: No further beat counts; the one that arrives does.
        self.stopped = Signal()
        self.accepted = Signal()
        #: A beat before was the first of an unknown command; it was of a bad one.
        self.unknown = Signal()
        self.bad = Signal()

    def of_end(self):
        """Whether the beat is of the end."""
        return Mux(self.first, self.is_end, self.ending)


class Fetch(wiring.Component):
    """Reads a program, a command a burst, and gives its beats to the command queues.

    Up to :attr:`ahead` commands are in flight: as many as arrive before the data of the first load
    can, which costs no time. While loads request too, commands are only fetched if an engine that
    matters is about to run out of them, and no more than :attr:`PRESSING` at a time.

    The last commands say how many follow, and nothing is requested beyond the end, but for programs shorter
    than :attr:`ahead` and those that don't say so; that is dropped, errors included. After an
    unknown command, or one with a length or count of zero, nothing more is put; of such a command itself
    all may have been put, but the run ends before its engine has moved a byte.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    run : In(1)
        Fetch; while low, the state is reset.
    program_address : In(32)
        Address of the program; if it is not a multiple of 64, nothing is fetched, and ``bad`` is raised.
    room : In(1)
        Each queue has room for :attr:`ahead` commands.
    hungry : In(1)
        A queue that must not run out of commands is empty.
    defer : Out(1)
        Requests may wait for those of loads.
    request : Out(stream.Signature(request_layout(config)))
        Commands to read.
    response : In(stream.Signature(beats_layout(config)))
        Their beats, never refused.
    put, queue, beat, data : Out
        Beats to the command queues, see :class:`~pearray.hdl.shell.queues.CommandQueues`.
    ended : Out(1)
        The end of the program has been read; errors of the fetch do not count any more.
    bad : Out(1)
        High for one cycle, two cycles after a beat that shows that its command is bad: of unknown version or
        opcode, or with a length or count of zero.
    bad_address : Out(32)
        Its address.
    command : Out(1)
        High for one cycle for each command, the end included.
    """

    #: Commands in flight for which loads are held up.
    PRESSING = 2

    def __init__(self, config: Config):
        self._config = config
        self._beat_bits = exact_log2(COMMAND_BYTES // config.beat_bytes)
        super().__init__({
            "run": In(1),
            "program_address": In(32),
            "room": In(1),
            "hungry": In(1),
            "defer": Out(1),
            "request": Out(stream.Signature(request_layout(config))),
            "response": In(stream.Signature(beats_layout(config))),
            "put": Out(1),
            "queue": Out(range(len(config.commands.queues))),
            "beat": Out(max(self._beat_bits, 1)),
            "data": Out(config.memory.data_width),
            "ended": Out(1),
            "bad": Out(1),
            "bad_address": Out(32),
            "command": Out(1),
        })

    @property
    def ahead(self) -> int:
        """Commands in flight at most."""
        return self.ahead_of(self._config)

    @staticmethod
    def ahead_of(config: Config) -> int:
        """Return the commands in flight at most."""
        return max(3, min(8, 42 >> exact_log2(COMMAND_BYTES // config.beat_bytes)))

    def elaborate(self, platform):
        """Build the requests and the check of headers."""
        m = Module()

        state = _State(self.ahead, self._beat_bits, len(self._config.commands.queues))
        self._request(m, state)
        self._read_header(m, state)
        self._report(m, state)
        self._count_beats(m, state)
        self._count_commands(m, state)
        self._reset(m, state)

        return m

    def _request(self, m, state):
        """Request the next command while there is room for it, and the program has it as far as is known."""
        in_flight = state.in_flight
        m.d.comb += [
            state.arrives.eq(self.response.valid & self.run),
            state.first.eq(state.beat == 0),
            state.last.eq(state.arrives & (state.beat == (1 << self._beat_bits) - 1)),
            state.requested.eq(self.request.valid & self.request.ready),
            self.request.valid.eq(self.room & ~state.stopped & (in_flight != self.ahead)
                                  & (in_flight <= state.following)),
            self.request.p.beat.eq(state.request_at << self._beat_bits),
            self.request.p.more.eq((1 << self._beat_bits) - 1),
            self.response.ready.eq(1),
            self.defer.eq(~self.hungry | (in_flight >= self.PRESSING)),
        ]

    def _read_header(self, m, state):
        """Find the queue of a command, and put its beats there if it is known."""
        header = self.response.p.data
        opcode, version = header[:8], header[8:16]
        known = Signal()
        queues = self._config.commands.queues
        # The end waits in the queue of loads. The last bits tell the known opcodes apart.
        with m.Switch(opcode[:3]):
            with m.Case(Opcode.END.value):
                m.d.comb += state.queue.eq(queues.index(Opcode.LOAD))
            for index, each in enumerate(queues):
                with m.Case(each.value):
                    m.d.comb += state.queue.eq(index)
        is_known = opcode <= max(each.value for each in queues)
        if not self._config.has_post:
            is_known &= opcode != Opcode.POST.value
        m.d.comb += [
            known.eq(is_known & (version == FORMAT_VERSION)),
            state.is_end.eq(opcode == Opcode.END.value),
            state.accepted.eq(~state.stopped & (~state.first | known)),
            # A command of several beats is found to be unknown before it is whole, so its first beat
            # need not wait for the check.
            self.put.eq(state.arrives & (state.accepted if self._beat_bits == 0 else ~state.stopped)),
            self.queue.eq(Mux(state.first, state.queue, state.queue_held)),
            self.beat.eq(state.beat),
            self.data.eq(self.response.p.data),
        ]

    def _report(self, m, state):
        """Report commands, those that are bad, and the end."""
        empty = self._find_zeros(m, state.arrives & state.accepted & ~state.of_end())
        # One cycle after the last beat but one at the earliest, the address is still the command's.
        bad_at = Signal.like(state.arrived_at)
        if self._beat_bits > 1:
            m.d.comb += bad_at.eq(state.arrived_at)
        else:
            m.d.sync += bad_at.eq(state.arrived_at)
        m.d.comb += state.bad.eq(state.unknown | empty)
        m.d.sync += [
            state.unknown.eq(state.arrives & state.first & ~state.stopped & ~state.accepted),
            self.bad.eq(state.bad),
            self.bad_address.eq(bad_at << exact_log2(COMMAND_BYTES)),
            self.command.eq(state.last & state.accepted),
            # An error response to the last beat of the end comes one cycle later.
            self.ended.eq(state.stopped),
        ]

    def _count_beats(self, m, state):
        """Keep what a command's first beat says for the others; stop behind a bad command."""
        with m.If(state.arrives):
            m.d.sync += state.beat.eq(state.beat + 1)
            with m.If(state.first):
                m.d.sync += [state.queue_held.eq(state.queue), state.ending.eq(state.is_end)]
                with m.If(~state.accepted):
                    m.d.sync += state.stopped.eq(1)
        with m.If(state.bad):
            m.d.sync += state.stopped.eq(1)

    def _count_commands(self, m, state):
        """Count the commands that are to come, have come, and are on their way; stop behind the end."""
        following = state.following
        behind = Signal.like(following)
        near_end = Signal(4)
        m.d.comb += [near_end.eq(self.response.p.data[16:]), behind.eq(Mux(state.first, ~near_end, following))]
        with m.If(state.arrives):
            m.d.sync += following.eq(Mux(state.last, behind - 1, behind))
        with m.If(state.last):
            m.d.sync += state.arrived_at.eq(state.arrived_at + 1)
            with m.If(state.of_end()):
                m.d.sync += state.stopped.eq(1)
        with m.If(state.requested):
            m.d.sync += state.request_at.eq(state.request_at + 1)
        m.d.sync += state.in_flight.eq(state.in_flight + state.requested - state.last)

    def _reset(self, m, state):
        """Begin at the program's start, whatever was before."""
        command_bits = exact_log2(COMMAND_BYTES)
        with m.If(~self.run):
            m.d.sync += [
                state.request_at.eq(self.program_address[command_bits:]),
                state.arrived_at.eq(self.program_address[command_bits:]),
                state.in_flight.eq(0),
                state.following.eq(15),
                state.beat.eq(0),
                # A misaligned program counts as an unknown command, in the first cycle of the run.
                state.stopped.eq(self.program_address[:command_bits].any()),
                state.unknown.eq(self.program_address[:command_bits].any()),
                self.ended.eq(0),
                self.bad.eq(0),
            ]

    def _find_zeros(self, m, look):
        """Return a signal that is high one cycle after a beat with ``look`` in which a count is zero."""
        width = len(self.data)
        commands = self._config.commands
        watched = Signal()
        queue = Signal.like(self.queue)
        beat = Signal.like(self.beat)
        # The first bit of the body says which counts may be zero.
        excepted = Signal()
        empty = Signal()
        m.d.sync += [watched.eq(look), queue.eq(self.queue), beat.eq(self.beat)]
        with m.If(look & (self.beat == commands.header_bits // width)):
            m.d.sync += excepted.eq(self.data[commands.header_bits % width])

        # Whether aligned groups of 16 bits, which the commands share, hold a one; and did in the beat before.
        groups, kept = {}, {}
        fields = []
        for index, opcode in enumerate(commands.queues):
            for name in commands.counts[opcode]:
                field = data.Layout.cast(commands.bodies[opcode])[name]
                start = commands.header_bits + field.offset
                end = start + field.width
                number = (end - 1) // width
                some = []
                for low, high in pairwise([start, *range(start // 16 * 16 + 16, end, 16), end]):
                    at, key = low // width, (low % width, (high - 1) % width + 1)
                    if key not in groups:
                        groups[key] = Signal(name=f"some_{key[0]}_{key[1]}")
                        m.d.sync += groups[key].eq(self.data[key[0]:key[1]].any())
                    if at != number and key not in kept:
                        kept[key] = Signal(name=f"kept_{key[0]}_{key[1]}")
                        with m.If(watched):
                            m.d.sync += kept[key].eq(groups[key])
                    some.append(groups[key] if at == number else kept[key])
                may_be = excepted if name in commands.counts_except.get(opcode, ()) else 0
                fields.append((number, index, ~(Cat(some).any() | may_be)))
        for number, index, is_zero in fields:
            with m.If((beat == number) & (queue == index) & is_zero):
                m.d.comb += empty.eq(watched)
        return empty
