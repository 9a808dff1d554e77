"""Engine of LOAD commands: rows from memory, or a value, to the scratchpads."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks import rules
from ..blocks.fifo import StreamFIFO
from ..blocks.rotate import Rotator
from .block_walk import BlockWalker, burst_beats, burst_layout
from .commands import ADDRESS_BITS
from .config import Config
from .decoding import CODE_BYTES
from .ledger import Progress
from .load_port import Hold, LoadWrite
from .reader import IN_FLIGHT, beats_layout, request_layout

__all__ = ["Loader"]


class _Current:
    """Signals of the burst whose beats come now."""

    def __init__(self, config: Config, layout: data.StructLayout):
        self.burst = Signal(layout)
        self.valid = Signal()
        #: The next beat is the burst's first one, its last one; the word under its lane 0.
        self.head = Signal()
        self.burst_last = Signal()
        self.word = Signal(ADDRESS_BITS - exact_log2(config.beat_bytes))
        #: It is here. One of the burst has come, and it is not all.
        self.beat = Signal()
        self.begun = Signal()


class Loader(wiring.Component):
    """Loads blocks into the scratchpads, one beat a cycle, across rows and commands.

    Addresses run ahead of data: a command is taken, and its bursts are requested, while data of
    earlier ones are still on their way. The first request follows four cycles after its command.
    Beats that arrive while a fill writes wait on the bus, since both may touch the same bytes.

    With a decoder it also takes commands whose data are codes, which it decodes a word a cycle. What comes behind
    such a command waits until it has ended.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    decoder : Component, optional
        Decoder of codes, with the members of :func:`.decoding.decoder_members`.

    Members
    -------
    commands : In(stream.Signature(config.commands.load))
        Commands.
    done : Out(1)
        High for one cycle for each completed command, together with its last write on ``load``.
        Its last byte can be read two cycles later, which is when a token gate may open.
    request : Out(stream.Signature(request_layout(config)))
        Bursts to read.
    response : In(stream.Signature(beats_layout(config)))
        Their beats.
    load : Out(LoadWrite(config))
        Writes to the scratchpads.
    progress : Out(Progress)
        What comes in this cycle.
    hold : In(Hold(config))
        With MOVEs: what must be left free. Beats that would be written then wait on the bus.
    """

    def __init__(self, config: Config, decoder: Any = None):
        self._config = config
        self._decoder = decoder
        super().__init__({
            "commands": In(stream.Signature(config.commands.load)),
            "done": Out(1),
            "request": Out(stream.Signature(request_layout(config))),
            "response": In(stream.Signature(beats_layout(config))),
            "load": Out(LoadWrite(config)),
            "progress": Out(Progress),
        } | ({"hold": In(Hold(config))} if config.has_moves else {}))

    @staticmethod
    def latency_of(config: Config) -> int:
        """Return the cycles from a beat to its bytes on ``load``: a register, and their rotation."""
        return 1 + Rotator.latency_of(config.beat_bytes)

    def elaborate(self, platform):
        """Build the walker, the queue of bursts, and the alignment of their beats."""
        m = Module()

        code = self._decoder
        fields = {"fill": 1, "value": 8, "destination": self._config.commands.destination}
        kind = data.StructLayout(fields if code is None else fields | {"coded": 1})
        m.submodules.walker = walker = BlockWalker(self._config, kind)
        body = self.commands.p
        m.d.comb += [
            self.commands.ready.eq(walker.i.ready),
            walker.i.valid.eq(self.commands.valid),
            walker.i.p.kind.fill.eq(body.fill),
            walker.i.p.kind.value.eq(body.value),
            walker.i.p.kind.destination.eq(body.destination),
            walker.i.p.internal.eq(body.fill),
            walker.i.p.record.eq(0),
        ]
        m.d.comb += [
            walker.i.p[name].eq(getattr(body, name))
            for name in ("dram", "dram_step1", "dram_step2", "address", "step1", "step2", "length",
                         "count1", "count2")
        ]

        if code is not None:
            m.submodules.code = code
            coded = ~body.fill & (body.destination == code.source)
            m.d.comb += walker.i.p.kind.coded.eq(coded)

        layout = burst_layout(self._config, kind)
        m.submodules.pending = pending = StreamFIFO(layout, IN_FLIGHT)
        self._request(m, walker, pending, code)
        self._write(m, pending, layout, code)
        rules.held(m, "request", self.request.valid, self.request.ready, self.request.payload)

        return m

    def _request(self, m, walker, pending, code):
        """Give bursts to memory, and to the queue of those whose data are to come."""
        burst = walker.o.p
        fill = burst.kind.fill
        some = walker.o.valid
        ready = pending.i.ready & (self.request.ready | fill)
        if code is not None:
            allowed = ~burst.kind.coded | code.allowed
            some = some & allowed
            ready = ready & allowed | burst.kind.coded & code.skipped
            m.d.comb += [
                code.head.eq(burst.head),
                code.offered.eq(self.request.valid & burst.kind.coded),
                code.requested.eq(code.offered & self.request.ready),
            ]
        m.d.comb += [
            self.request.valid.eq(some & pending.i.ready & ~fill),
            self.request.p.beat.eq(burst.beat),
            self.request.p.more.eq(burst.more),
            walker.o.ready.eq(ready),
            pending.i.valid.eq(some & (self.request.ready | fill)),
            pending.i.p.eq(burst),
            # The data side counts beats and knows words, not addresses.
            pending.i.p.beat.eq(0),
        ]

    def _write(self, m, pending, layout, code):
        """Write what comes of the bursts to the scratchpads."""
        now = _Current(self._config, layout)
        self._follow(m, pending, code, now)
        written = now.beat if code is None else self._decode(m, code, now)
        m.d.comb += [
            self.progress.busy.eq(now.valid | (0 if code is None else code.busy)),
            self.progress.beat.eq(written),
            self.progress.begun.eq(now.begun),
            self.progress.activations.eq(Cat(
                now.burst.kind.destination == each for each in self._config.commands.activations).any()),
        ]
        rotator = self._rotate(m, code, now)
        self._place(m, code, rotator, now, written)

    def _follow(self, m, pending, code, now):
        """Follow the beats of one burst after the other."""
        burst, valid, fill = now.burst, now.valid, now.burst.kind.fill
        left = Signal(exact_log2(burst_beats(self._config)))
        free = ~valid | now.beat & now.burst_last
        if code is not None:
            # Behind a code only more of it comes before its last word.
            free = free & (pending.o.p.kind.coded & ~pending.o.p.head | ~code.busy & ~code.begin)
        if self._config.has_moves:
            free_port = Signal()
            m.d.comb += free_port.eq(~self.hold.valid | (self.hold.destination != burst.kind.destination))
            writes = valid & free_port
        else:
            writes = valid
        m.d.comb += [
            self.response.ready.eq(writes & ~fill),
            now.beat.eq(writes & (fill | self.response.valid)),
            now.burst_last.eq(left == 0),
            pending.o.ready.eq(free),
        ]
        with m.If(now.beat):
            m.d.sync += [left.eq(left - 1), now.head.eq(0), now.word.eq(now.word + 1), now.begun.eq(~now.burst_last)]
            if code is not None:
                with m.If(now.burst_last):
                    m.d.sync += valid.eq(0)
        with m.If(pending.o.ready):
            m.d.sync += [
                valid.eq(pending.o.valid),
                burst.eq(pending.o.p),
                left.eq(pending.o.p.more),
                now.head.eq(pending.o.p.head),
            ]
            # The rest of a row may be late, and an empty queue shows an old burst.
            with m.If(pending.o.valid & pending.o.p.head):
                m.d.sync += now.word.eq(pending.o.p.word)

    def _decode(self, m, code, now):
        """Give beats of codes to their decoder; return whether a beat of bytes, or a decoded word, is written."""
        burst = now.burst
        coded = now.valid & burst.kind.coded
        beat = coded & self.response.valid
        m.d.comb += [
            code.begin.eq(coded & now.head),
            code.address.eq(Cat(Const(0, len(burst.first)), now.word) + burst.first + burst.rotation),
            code.part.eq(burst.first[exact_log2(CODE_BYTES):]),
            code.beats.valid.eq(beat),
            code.beats.p.data.eq(self.response.p.data),
            code.beats.p.last.eq(self.response.p.last),
            code.beats.p.end.eq(burst.tail & now.burst_last),
        ]
        return now.valid & ~burst.kind.coded & (burst.kind.fill | self.response.valid) | code.valid

    def _rotate(self, m, code, now):
        """Rotate each lane together with its enable; return what does."""
        lanes, burst, head = self._config.beat_bytes, now.burst, now.head
        m.submodules.rotator = rotator = Rotator(lanes, 9, reverse=True)
        lane = Signal(data.ArrayLayout(data.StructLayout({"data": 8, "mask": 1}), lanes))
        tail = Signal()
        m.d.comb += tail.eq(burst.tail & now.burst_last)
        for index in range(lanes):
            byte = self.response.p.data.word_select(index, 8)
            m.d.sync += [
                lane[index].data.eq(Mux(burst.kind.fill, burst.kind.value, byte)),
                lane[index].mask.eq(~(head & (index < burst.first)) & ~(tail & (index > burst.last))),
            ]
            m.d.comb += rotator.i[index].eq(lane[index])
        if code is not None:
            with m.If(code.valid):
                for index in range(lanes):
                    m.d.sync += lane[index].mask.eq(index < len(code.word) // 8)
                m.d.sync += Cat(lane[index].data for index in range(len(code.word) // 8)).eq(code.word)
        return rotator

    def _place(self, m, code, rotator, now, written):
        """Write the rotated lanes to where they belong, which goes beside them."""
        lanes, burst = self._config.beat_bytes, now.burst
        beside_layout = data.StructLayout({
            "valid": 1,
            "end": 1,
            "destination": self._config.commands.destination,
            "word": len(now.word),
            "rotation": exact_log2(lanes),
        })
        first = Signal(beside_layout, name="beside_0")
        m.d.sync += [
            first.valid.eq(written),
            first.end.eq(written & burst.end & now.burst_last),
            first.destination.eq(burst.kind.destination),
            first.word.eq(now.word),
            first.rotation.eq(burst.rotation),
        ]
        if code is not None:
            with m.If(code.valid):
                m.d.sync += [
                    first.end.eq(code.last),
                    first.destination.eq(code.target),
                    Cat(first.rotation, first.word).eq(code.place),
                ]
        m.d.comb += rotator.amount.eq(first.rotation)
        beside = first
        for stage in range(rotator.latency):
            later = Signal(beside_layout, name=f"beside_{stage + 1}")
            m.d.sync += later.eq(beside)
            beside = later
        m.d.comb += [
            self.done.eq(beside.end),
            self.load.valid.eq(beside.valid),
            self.load.destination.eq(beside.destination),
            self.load.word.eq(beside.word),
        ]
        for index in range(lanes):
            m.d.comb += [
                self.load.wrap[index].eq(index < beside.rotation),
                self.load.data[index].eq(rotator.o[index][:8]),
                self.load.mask[index].eq(rotator.o[index][8]),
            ]
