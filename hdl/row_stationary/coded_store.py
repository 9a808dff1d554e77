"""The part of the storer that turns words into run-length codes."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks import rules
from ..blocks.fifo import StreamFIFO
from ..shell.config import Config
from ..shell.writer import lanes_layout, write_request_layout
from .run_length import CODE_LAYOUT, RunLengthEncoder

__all__ = ["CODE_ALIGNMENT", "CodedStore", "row_beat_layout"]

#: Beats of words on their way, or waiting to be encoded.
_BEATS = 16

#: Stores between their acceptance and their first row: more than a walker over rows holds.
_STORES = 8

#: Bytes of a burst of a code, and what the address of a code is a multiple of: so no burst crosses 4 KB.
CODE_ALIGNMENT = 64

_CODE_BITS = CODE_LAYOUT.size
_WORD_BITS = 16


def row_beat_layout(config: Config) -> data.StructLayout:
    """Layout of a beat of words: the first and last one that count, and whether that is the last one of all."""
    words = range(config.memory.data_width // _WORD_BITS)
    return data.StructLayout({"data": config.memory.data_width, "start": words, "stop": words, "end": 1})


class CodedStore(wiring.Component):
    """Encodes the words of a store, one a cycle, and writes their code in bursts of :data:`CODE_ALIGNMENT` bytes.

    With ``global_buffer.skip_zeros`` a cycle takes a word with the zeros of its beat before it, and with those behind
    it if no other word follows in the beat. A burst is requested when all of it stands in a queue, so that memory
    never waits for the encoder.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    targets : In(stream.Signature(26))
        Address of the code of each store, divided by :data:`CODE_ALIGNMENT`.
    take, last : In(1)
        A row of a store, or part of one, is taken to be read; it is the last one of the store.
    busy : Out(1)
        The code has not been given to memory whole.
    closed : Out(1)
        Its last row has been taken; until it is no more busy, none of the next store may be.
    beat : In(1)
        A beat of words will come.
    room : Out(1)
        Whether there is room for one.
    beats : In(stream.Signature(row_beat_layout(config)))
        Beats of words, for which there was room; never refused.
    request : Out(stream.Signature(write_request_layout(config)))
        Bursts to write, the last one of a code marked.
    data : Out(stream.Signature(lanes_layout(config)))
        Their beats.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__({
            "targets": In(stream.Signature(32 - exact_log2(CODE_ALIGNMENT))),
            "take": In(1),
            "last": In(1),
            "busy": Out(1),
            "closed": Out(1),
            "beat": In(1),
            "room": Out(1),
            "beats": In(stream.Signature(row_beat_layout(config))),
            "request": Out(stream.Signature(write_request_layout(config))),
            "data": Out(stream.Signature(lanes_layout(config))),
        })

    def elaborate(self, platform):
        """Build the way from words to code words, beats and bursts."""
        m = Module()

        lanes = self._config.memory.data_width // _WORD_BITS if self._config.global_buffer.skip_zeros else 1
        m.submodules.encoder = encoder = RunLengthEncoder(lanes)
        self._cut(m, encoder.i)
        parts = max(self._config.memory.data_width // _CODE_BITS, 1)
        packed = data.StructLayout({"data": self._config.memory.data_width, "parts": parts, "last": 1})
        beats = stream.Signature(packed).create(path=("packed",))
        self._pack(m, encoder.o, beats, parts)
        self._gather(m, beats)

        return m

    def _cut(self, m, words):
        """Cut beats into words, with a register between choice and encoder."""
        m.submodules.queue = queue = StreamFIFO(row_beat_layout(self._config), _BEATS)
        wiring.connect(m, wiring.flipped(self.beats), queue.i)
        rules.never(m, "room", self.beats.valid & ~self.beats.ready, "a beat of words was refused")

        places = Signal(range(_BEATS + 1), init=_BEATS)
        beat = queue.o.payload
        word = Signal.like(words.payload)
        some = Signal()
        inside = Signal()
        following = Signal.like(beat.start)
        at = Signal.like(beat.start)
        last = Signal()
        if self._config.global_buffer.skip_zeros:
            first = Signal.like(beat.start)
            m.d.comb += first.eq(Mux(inside, following, beat.start))
            self._skip(m, beat, first, at, last, word, ~some | words.ready)
        else:
            m.d.comb += [at.eq(Mux(inside, following, beat.start)), last.eq(at == beat.stop)]
        m.d.comb += [
            queue.o.ready.eq(last & (~some | words.ready)),
            self.room.eq(places != 0),
            words.valid.eq(some),
            words.payload.eq(word),
        ]
        m.d.sync += places.eq(places - self.beat + (queue.o.valid & queue.o.ready))
        with m.If(~some | words.ready):
            m.d.sync += [
                some.eq(queue.o.valid),
                word.word.eq(beat.data.word_select(at, _WORD_BITS)),
                word.last.eq(last & beat.end),
            ]
            with m.If(queue.o.valid):
                m.d.sync += [inside.eq(~last), following.eq(at + 1)]

    def _skip(self, m, beat, first, at, last, word, move):
        """Choose the next word of a beat that is not zero, from `first` on, and count the zeros around it."""
        count = self._config.memory.data_width // _WORD_BITS
        values = [beat.data.word_select(index, _WORD_BITS).any() for index in range(count)]
        some = Cat(value & (index >= first) & (index <= beat.stop) for index, value in enumerate(values))
        behind = Signal()
        m.d.comb += at.eq(beat.stop)
        for index in reversed(range(count)):
            with m.If(some[index]):
                m.d.comb += at.eq(index)
        m.d.comb += [
            behind.eq(~Cat(some[index] & (index > at) for index in range(count)).any()),
            last.eq((at == beat.stop) | behind & ~beat.end),
        ]
        with m.If(move):
            m.d.sync += [word.zeros.eq(at - first), word.after.eq(Mux(last, beat.stop - at, 0))]

    def _pack(self, m, code, beats, parts):
        """Join code words to beats, or cut them."""
        width = self._config.memory.data_width
        bits = Value.cast(code.payload)
        full = Signal()
        if width < _CODE_BITS:
            word = Signal(CODE_LAYOUT)
            high = Signal()
            m.d.comb += [
                beats.valid.eq(full),
                beats.payload.data.eq(word.as_value().word_select(high, width)),
                beats.payload.parts.eq(1),
                beats.payload.last.eq(high & word.last),
                code.ready.eq(~full | high & beats.ready),
            ]
            with m.If(full & beats.ready):
                m.d.sync += high.eq(~high)
            with m.If(code.ready):
                m.d.sync += [full.eq(code.valid), word.eq(code.payload)]
            return
        part = Signal(range(max(parts, 2)))
        held = Signal(beats.payload.shape())
        m.d.comb += [
            beats.valid.eq(full),
            beats.payload.eq(held),
            code.ready.eq(~full | beats.ready),
        ]
        with m.If(beats.ready):
            m.d.sync += full.eq(0)
        with m.If(code.valid & code.ready):
            ends = (part == parts - 1) | code.payload.last
            with m.If(part == 0):
                m.d.sync += held.parts.eq(0)
            m.d.sync += [
                held.data.word_select(part, _CODE_BITS).eq(bits),
                held.parts.bit_select(part, 1).eq(1),
                held.last.eq(code.payload.last),
                full.eq(ends),
                part.eq(Mux(ends, 0, part + 1)),
            ]

    def _gather(self, m, beats):
        """Gather beats to bursts, and give out each burst when it is whole."""
        lane_bits = exact_log2(self._config.beat_bytes)
        longest = CODE_ALIGNMENT // self._config.beat_bytes
        m.submodules.held_beats = held = StreamFIFO(beats.payload.shape(), max(2 * longest, 2))
        bursts_layout = data.StructLayout({"more": range(max(longest, 2)), "last": 1})
        m.submodules.bursts = bursts = StreamFIFO(bursts_layout, 2)
        gathered = Signal(range(max(longest, 2)))
        whole = Signal()
        m.d.comb += [
            whole.eq((gathered == longest - 1) | beats.payload.last),
            beats.ready.eq(held.i.ready & bursts.i.ready),
            held.i.valid.eq(beats.valid & bursts.i.ready),
            held.i.payload.eq(beats.payload),
            bursts.i.valid.eq(beats.valid & held.i.ready & whole),
            bursts.i.payload.more.eq(gathered),
            bursts.i.payload.last.eq(beats.payload.last),
        ]
        with m.If(beats.valid & beats.ready):
            m.d.sync += gathered.eq(Mux(whole, 0, gathered + 1))

        m.submodules.targets_queue = targets = StreamFIFO(self.targets.payload.shape(), _STORES)
        wiring.connect(m, wiring.flipped(self.targets), targets.i)
        rules.never(m, "stores", self.targets.valid & ~self.targets.ready, "a store was refused")
        target = Signal.like(self.targets.payload)
        requested = Signal()
        sent = Signal(range(max(longest, 2)))
        end = Signal()
        m.d.comb += [
            self.request.valid.eq(bursts.o.valid & ~requested),
            self.request.p.beat.eq(target << exact_log2(CODE_ALIGNMENT) - lane_bits),
            self.request.p.more.eq(bursts.o.payload.more),
            self.request.p.mark.eq(bursts.o.payload.last),
            self.data.valid.eq(requested),
            self.data.p.data.eq(held.o.payload.data),
            self.data.p.strobe.eq(Cat(part.replicate(min(_CODE_BITS // 8, self._config.beat_bytes))
                                      for part in held.o.payload.parts)),
            held.o.ready.eq(requested & self.data.ready),
            end.eq(held.o.ready & (sent == bursts.o.payload.more)),
            bursts.o.ready.eq(end),
            targets.o.ready.eq(self.take & ~self.busy),
        ]
        with m.If(self.request.valid & self.request.ready):
            m.d.sync += requested.eq(1)
        with m.If(held.o.ready):
            m.d.sync += sent.eq(sent + 1)
        with m.If(end):
            m.d.sync += [requested.eq(0), sent.eq(0), target.eq(target + 1)]
            with m.If(bursts.o.payload.last):
                m.d.sync += [self.busy.eq(0), self.closed.eq(0)]
        with m.If(self.take):
            m.d.sync += [self.busy.eq(1), self.closed.eq(self.last)]
            with m.If(~self.busy):
                m.d.sync += target.eq(targets.o.payload)
