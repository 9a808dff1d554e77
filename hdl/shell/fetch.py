"""Program fetch: reads commands ahead, checks them, and puts each into its queue."""

from itertools import pairwise

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .commands import COMMAND_BYTES, FORMAT_VERSION, HEADER_BITS, Opcode
from .config import Config
from .queues import QUEUES
from .reader import beats_layout, request_layout

__all__ = ["Fetch"]


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
            "queue": Out(2),
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

        command_bits = exact_log2(COMMAND_BYTES)
        request_at = Signal(32 - command_bits)
        arrived_at = Signal(32 - command_bits)
        in_flight = Signal(range(self.ahead + 1))
        beat = Signal(self._beat_bits)
        stopped = Signal()
        arrives = Signal()
        first = Signal()
        last = Signal()
        requested = Signal()
        # Commands behind the one that arrives, or from the next one on, as far as its header tells.
        following = Signal(4)
        m.d.comb += [
            arrives.eq(self.response.valid & self.run),
            first.eq(beat == 0),
            last.eq(arrives & (beat == (1 << self._beat_bits) - 1)),
            requested.eq(self.request.valid & self.request.ready),
            self.request.valid.eq(self.run & self.room & ~stopped & (in_flight != self.ahead)
                                  & (in_flight <= following)),
            self.request.p.beat.eq(request_at << self._beat_bits),
            self.request.p.more.eq((1 << self._beat_bits) - 1),
            self.response.ready.eq(1),
            self.defer.eq(~self.hungry | (in_flight >= self.PRESSING)),
        ]

        header = self.response.p.data
        opcode, version = header[:8], header[8:16]
        queue = Signal(2)
        known = Signal()
        is_end = Signal()
        queue_held = Signal(2)
        ending = Signal()
        accepted = Signal()
        # The end waits in the queue of loads. The last bits tell the known opcodes apart.
        with m.Switch(opcode[:3]):
            with m.Case(Opcode.END.value):
                m.d.comb += queue.eq(QUEUES.index(Opcode.LOAD))
            for index, each in enumerate(QUEUES):
                with m.Case(each.value):
                    m.d.comb += queue.eq(index)
        is_known = opcode <= max(each.value for each in Opcode)
        if not self._config.has_post:
            is_known &= opcode != Opcode.POST.value
        m.d.comb += [
            known.eq(is_known & (version == FORMAT_VERSION)),
            is_end.eq(opcode == Opcode.END.value),
            accepted.eq(~stopped & (~first | known)),
            # A command of several beats is found to be unknown before it is whole, so its first beat
            # need not wait for the check.
            self.put.eq(arrives & (accepted if self._beat_bits == 0 else ~stopped)),
            self.queue.eq(Mux(first, queue, queue_held)),
            self.beat.eq(beat),
            self.data.eq(self.response.p.data),
        ]

        unknown = Signal()
        bad = Signal()
        empty = self._find_zeros(m, arrives & accepted & ~Mux(first, is_end, ending))
        # One cycle after the last beat but one at the earliest, the address is still the command's.
        bad_at = Signal.like(arrived_at)
        if self._beat_bits > 1:
            m.d.comb += bad_at.eq(arrived_at)
        else:
            m.d.sync += bad_at.eq(arrived_at)
        m.d.comb += bad.eq(unknown | empty)
        m.d.sync += [
            unknown.eq(arrives & first & ~stopped & ~accepted),
            self.bad.eq(bad),
            self.bad_address.eq(bad_at << command_bits),
            self.command.eq(last & accepted),
            # An error response to the last beat of the end comes one cycle later.
            self.ended.eq(stopped),
        ]
        with m.If(arrives):
            m.d.sync += beat.eq(beat + 1)
            with m.If(first):
                m.d.sync += [queue_held.eq(queue), ending.eq(is_end)]
                with m.If(~accepted):
                    m.d.sync += stopped.eq(1)
        with m.If(bad):
            m.d.sync += stopped.eq(1)
        behind = Signal.like(following)
        near_end = Signal(4)
        m.d.comb += [near_end.eq(header[16:]), behind.eq(Mux(first, ~near_end, following))]
        with m.If(arrives):
            m.d.sync += following.eq(Mux(last, behind - 1, behind))
        with m.If(last):
            m.d.sync += arrived_at.eq(arrived_at + 1)
            with m.If(Mux(first, is_end, ending)):
                m.d.sync += stopped.eq(1)
        with m.If(requested):
            m.d.sync += request_at.eq(request_at + 1)
        m.d.sync += in_flight.eq(in_flight + requested - last)
        with m.If(~self.run):
            m.d.sync += [
                request_at.eq(self.program_address[command_bits:]),
                arrived_at.eq(self.program_address[command_bits:]),
                in_flight.eq(0),
                following.eq(15),
                beat.eq(0),
                # A misaligned program counts as an unknown command, in the first cycle of the run.
                stopped.eq(self.program_address[:command_bits].any()),
                unknown.eq(self.program_address[:command_bits].any()),
                self.ended.eq(0),
                self.bad.eq(0),
            ]

        return m

    def _find_zeros(self, m, look):
        """Return a signal that is high one cycle after a beat with ``look`` in which a count is zero."""
        width = len(self.data)
        watched = Signal()
        queue = Signal(2)
        beat = Signal.like(self.beat)
        # The first bit of the body says which counts may be zero.
        excepted = Signal()
        empty = Signal()
        m.d.sync += [watched.eq(look), queue.eq(self.queue), beat.eq(self.beat)]
        with m.If(look & (self.beat == HEADER_BITS // width)):
            m.d.sync += excepted.eq(self.data[HEADER_BITS % width])

        commands = self._config.commands
        # Whether aligned groups of 16 bits, which the commands share, hold a one.
        groups = {}
        fields = []
        for index, opcode in enumerate(QUEUES):
            for name in commands.counts[opcode]:
                field = data.Layout.cast(commands.bodies[opcode])[name]
                number, start = divmod(HEADER_BITS + field.offset, width)
                edges = [start, *range(start // 16 * 16 + 16, start + field.width, 16), start + field.width]
                for low, high in pairwise(edges):
                    if (low, high) not in groups:
                        groups[low, high] = Signal(name=f"some_{low}_{high}")
                        m.d.sync += groups[low, high].eq(self.data[low:high].any())
                may_be = excepted if name in commands.counts_except.get(opcode, ()) else 0
                some = Cat(groups[edge] for edge in pairwise(edges)).any()
                fields.append((number, index, ~(some | may_be)))
        for number, index, is_zero in fields:
            with m.If((beat == number) & (queue == index) & is_zero):
                m.d.comb += empty.eq(watched)
        return empty
