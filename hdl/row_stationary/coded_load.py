"""The part of the loader that turns run-length codes into words."""

from amaranth import *
from amaranth.lib import wiring

from ..blocks import rules
from ..blocks.fifo import StreamFIFO
from ..shell.block_walk import burst_beats
from ..shell.config import Config
from ..shell.decoding import code_beat_layout, decoder_members
from .commands import Destination
from .run_length import CODE_LAYOUT, RunLengthDecoder

__all__ = ["CodedLoad"]

_CODE_BITS = CODE_LAYOUT.size
_WORD_BYTES = 2

#: Bursts of a code on their way, or waiting to be decoded. One more would be read in vain behind each code, and
#: passes last longer than the loads of the next one's ifmaps.
_BURSTS = 1


class CodedLoad(wiring.Component):
    """Decodes loads of codes of unknown length, one word a cycle.

    It decides which bursts of a load are requested: one at a time, and none after the mark of the
    last code word has come. What then still comes is dropped. If no mark comes, the last code word that the
    load may read counts as marked.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.

    Members
    -------
    See :func:`~pearray.hdl.shell.decoding.decoder_members`.
    """

    #: Destination of loads of codes, and of their words.
    source, target = Destination.GLOBAL_BUFFER_CODED, Destination.GLOBAL_BUFFER

    def __init__(self, config: Config):
        self._config = config
        self._parts = max(config.memory.data_width // _CODE_BITS, 1)
        super().__init__(decoder_members(config, 8 * _WORD_BYTES))

    def elaborate(self, platform):
        """Build the queue of beats, the way from beats to code words, and the decoder."""
        m = Module()

        m.submodules.queue = queue = StreamFIFO(code_beat_layout(self._config), _BURSTS * burst_beats(self._config))
        m.submodules.decoder = decoder = RunLengthDecoder()
        wiring.connect(m, wiring.flipped(self.beats), queue.i)
        rules.never(m, "room", self.beats.valid & ~self.beats.ready, "a beat of a code was refused")

        freed = Signal()
        found = Signal()
        self._decide(m, freed, found)

        marked = Signal()
        code = Signal(CODE_LAYOUT)
        whole = Signal()
        last_part = Signal()
        take = Signal()
        self._cut(m, queue.o, take, code, whole, last_part)
        m.d.comb += [
            decoder.i.valid.eq(queue.o.valid & whole & ~marked),
            decoder.i.payload.eq(code),
            decoder.i.payload.last.eq(code.last | queue.o.payload.end & last_part),
            take.eq(queue.o.valid & (marked | ~whole | decoder.i.ready)),
            queue.o.ready.eq(marked | last_part & (~whole | decoder.i.ready)),
            freed.eq(queue.o.valid & queue.o.ready & queue.o.payload.last),
            found.eq(decoder.i.valid & decoder.i.ready & decoder.i.payload.last),
        ]
        with m.If(self.begin):
            m.d.sync += marked.eq(0)
        with m.Elif(found):
            m.d.sync += marked.eq(1)

        m.d.comb += [
            decoder.o.ready.eq(1),
            self.valid.eq(decoder.o.valid),
            self.word.eq(decoder.o.payload.word),
            self.last.eq(decoder.o.payload.last),
        ]
        with m.If(self.begin):
            m.d.sync += [self.busy.eq(1), self.place.eq(self.address)]
        with m.Elif(self.valid):
            m.d.sync += [self.busy.eq(~self.last), self.place.eq(self.place + _WORD_BYTES)]

        return m

    def _decide(self, m, freed, found):
        """Count bursts from their request until their last beat has left the queue."""
        bursts = Signal(range(_BURSTS + 1))
        stop = Signal()
        waiting = Signal()
        m.d.comb += [
            # A burst that memory has been offered must not be taken back.
            self.skipped.eq(~self.head & stop & ~waiting),
            # Beats of one load must not be taken for those of the next one.
            self.allowed.eq(Mux(self.head, bursts == 0, (bursts != _BURSTS) & ~self.skipped)),
        ]
        m.d.sync += [bursts.eq(bursts + self.requested - freed), waiting.eq(self.offered & ~self.requested)]
        with m.If(self.requested & self.head):
            m.d.sync += stop.eq(0)
        with m.Elif(found):
            m.d.sync += stop.eq(1)

    def _cut(self, m, beats, take, code, whole, last_part):
        """Cut beats into code words, or join them."""
        if self._config.memory.data_width < _CODE_BITS:
            half = Signal()
            low = Signal(self._config.memory.data_width, reset_less=True)
            m.d.comb += [code.eq(Cat(low, beats.payload.data)), whole.eq(half), last_part.eq(1)]
            with m.If(self.begin):
                m.d.sync += half.eq(0)
            with m.Elif(take):
                m.d.sync += [half.eq(~half), low.eq(beats.payload.data)]
            return
        part = Signal(range(max(self._parts, 2)))
        m.d.comb += [
            code.eq(beats.payload.data.word_select(part, _CODE_BITS)),
            whole.eq(1),
            last_part.eq(part == self._parts - 1),
        ]
        if self._parts > 1:
            with m.If(self.begin):
                m.d.sync += part.eq(self.part)
            with m.Elif(take):
                m.d.sync += part.eq(part + 1)
