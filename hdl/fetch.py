"""Program fetch: reads commands ahead, checks them, and puts each into its queue."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .commands import COMMAND_BYTES, FORMAT_VERSION, Opcode
from .config import Config
from .queues import QUEUES
from .reader import beats_layout, request_layout

__all__ = ["Fetch"]


class Fetch(wiring.Component):
    """Reads a program, a command a burst, and gives its beats to the command queues.

    Up to :attr:`ahead` commands are in flight: as many as arrive before the data of the first load
    can, which costs no time. While loads request too, commands are only fetched if an engine that
    matters is about to run out of them, and no more than :attr:`PRESSING` at a time.

    What has been read ahead beyond the end of the program is dropped, errors included. After an
    unknown command nothing more is put.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    run : In(1)
        Fetch; while low, the state is reset.
    program_address : In(32)
        Address of the program, a multiple of 64.
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
        Beats to the command queues, see :class:`~pearray.hdl.queues.CommandQueues`.
    ended : Out(1)
        The end of the program has been read; errors of the fetch do not count any more.
    bad : Out(1)
        High for one cycle after a command of unknown version or opcode.
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
        return max(3, min(8, 42 >> self._beat_bits))

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
        m.d.comb += [
            arrives.eq(self.response.valid & self.run),
            first.eq(beat == 0),
            last.eq(arrives & (beat == (1 << self._beat_bits) - 1)),
            requested.eq(self.request.valid & self.request.ready),
            self.request.valid.eq(self.run & self.room & ~stopped & (in_flight != self.ahead)),
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
        m.d.comb += [
            known.eq((opcode <= max(each.value for each in Opcode)) & (version == FORMAT_VERSION)),
            is_end.eq(opcode == Opcode.END.value),
            accepted.eq(~stopped & (~first | known)),
            # A command of several beats is found to be unknown before it is whole, so its first beat
            # need not wait for the check.
            self.put.eq(arrives & (accepted if self._beat_bits == 0 else ~stopped)),
            self.queue.eq(Mux(first, queue, queue_held)),
            self.beat.eq(beat),
            self.data.eq(self.response.p.data),
        ]

        m.d.sync += [
            self.bad.eq(arrives & first & ~stopped & ~accepted),
            self.bad_address.eq(arrived_at << command_bits),
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
                beat.eq(0),
                stopped.eq(0),
                self.ended.eq(0),
                self.bad.eq(0),
            ]

        return m
