"""Engine of STORE commands of the 16-bit kind: rows of words, or their codes, from the global buffer to memory."""

from amaranth import *
from amaranth.lib import data
from amaranth.utils import exact_log2

from ..blocks.pipeline import delay
from ..shell.storer import Storer
from .buffer import WideRead, buffer_ways
from .coded_store import CODE_ALIGNMENT, CodedStore
from .config import RowStationaryConfig

__all__ = ["WordStorer"]

_WORD_BITS = 16


class WordStorer(Storer):
    """Stores rows of 16-bit words of the global buffer, one beat a cycle, or their run-length code, a word a cycle.

    With ``global_buffer.skip_zeros`` zeros beside a word take no cycle of their own.

    As commands say, words below zero become zero, and all words of a command become one code. What comes behind a
    command with a code waits until that code has been given to memory.

    Parameters
    ----------
    config : RowStationaryConfig
        Configuration of the accelerator.

    Members
    -------
    read : Out(WideRead(ways, lines, 64))
        Wide port of the global buffer, whose ways are ``buffer_ways(beat_bytes)``.
    commands, done, record, request, data, sent, marked
        See :class:`~pearray.hdl.shell.storer.Storer`.
    """

    _KIND = data.StructLayout({"profile": 1, "relu": 1, "coded": 1})

    def __init__(self, config: RowStationaryConfig):
        self._ways = buffer_ways(config.beat_bytes)
        self._line_bytes = config.line_bytes
        self._lines = config.buffer_lines
        super().__init__(config, self._ways * config.line_bytes)

    def _read_port(self) -> WideRead:
        return WideRead(self._ways, self._lines // self._ways, 8 * self._line_bytes)

    def _profile(self, kind, beat):
        # Beats of codes are sent while there are none of rows.
        return kind.profile & beat

    def _rest(self, m, coming):
        # A code that has been closed is still given to memory.
        super()._rest(m, coming | m.submodules.code.busy)

    def _describe(self, block, body):
        coded = body.coded & ~body.profile
        # Places in DRAM do not matter to the rows of a code: their beats are those on chip.
        return [block.kind.profile.eq(body.profile), block.kind.relu.eq(body.relu), block.kind.coded.eq(coded),
                block.internal.eq(coded)]

    def _govern(self, m, walker, burst, beat, credit):
        m.submodules.code = code = CodedStore(self._config)
        # Behind a code only more of its words come before it has been given to memory.
        coded = walker.o.p.kind.coded
        some = walker.o.valid & Mux(coded, ~code.closed, ~code.busy)
        m.d.comb += [
            code.targets.valid.eq(walker.i.valid & walker.i.ready & walker.i.p.kind.coded),
            code.targets.payload.eq(walker.i.p.dram[exact_log2(CODE_ALIGNMENT):]),
            code.take.eq(walker.o.valid & walker.o.ready & coded),
            code.last.eq(walker.o.p.end),
            code.beat.eq(beat & burst.kind.coded),
            code.request.ready.eq(self.request.ready),
            code.data.ready.eq(credit != 0),
        ]
        taken = some & (coded | self.request.ready)
        room = Mux(burst.kind.coded, code.room, credit != 0)
        return some & ~coded, taken, room, beat & ~burst.kind.coded | code.data.valid & code.data.ready

    def _read(self, m, beat, word, rotation):
        values = super()._read(m, beat, word, rotation)
        # Of the ways, those that hold the beat under lane 0, or the one behind it where that is needed.
        beats = self._banks // self._config.beat_bytes
        first = word[:exact_log2(beats)]
        enable = Signal(self._ways)
        for way in range(self._ways):
            start = way * self._line_bytes
            places = range(start // self._config.beat_bytes, -(-(start + self._line_bytes) // self._config.beat_bytes))
            needed = [(first == place) | (first == (place - 1) % beats) & (rotation != 0) for place in places]
            m.d.sync += enable[way].eq(beat & Cat(needed).any())
        m.d.comb += self.read.en.eq(enable)
        return values

    def _banks_of(self, lane):
        # Only where a beat is the last one of a line of all ways do the lines of lanes differ: then those of the
        # first lanes are the next one, in the lower half of the ways.
        half = self._ways // 2
        return [*(range(half) if lane == 0 else ()),
                *(range(half, self._ways) if lane == self._config.beat_bytes - 1 else ())]

    def _bytes(self):
        return [self.read.data[bank // self._line_bytes].word_select(bank % self._line_bytes, 8)
                for bank in range(self._banks)]

    def _align(self, m, lane_values, beat, burst, head, tail):
        super()._align(m, lane_values, beat, burst, head, tail)
        latency, code = self._latency, m.submodules.code
        kind = delay(m, burst.kind, latency, "kind", reset_less=True)
        row = Signal(self._config.memory.data_width)
        for at in range(0, len(row), _WORD_BITS):
            word = m.submodules.rotator.o.as_value()[at:at + _WORD_BITS]
            m.d.comb += row[at:at + _WORD_BITS].eq(Mux(kind.relu & word[-1], 0, word))
        with m.If(~kind.profile):
            m.d.comb += self.data.p.data.eq(row)

        # Beats of words that are encoded go another way, and their code comes instead.
        extent = Signal(data.StructLayout({"start": code.beats.p.start.shape(), "stop": code.beats.p.stop.shape(),
                                           "end": 1}))
        m.d.comb += [
            extent.start.eq(Mux(head, burst.first[1:], 0)),
            extent.stop.eq(Mux(tail, burst.last[1:], -1)),
            extent.end.eq(tail & burst.end),
        ]
        extent = delay(m, extent, latency, "extent", reset_less=True)
        m.d.comb += [
            code.beats.valid.eq(delay(m, beat & burst.kind.coded, latency, "coded")),
            code.beats.p.data.eq(row),
            code.beats.p.start.eq(extent.start),
            code.beats.p.stop.eq(extent.stop),
            code.beats.p.end.eq(extent.end),
        ]
        with m.If(code.beats.valid):
            m.d.comb += self.data.valid.eq(0)
        with m.If(code.data.valid & code.data.ready):
            m.d.comb += [self.data.valid.eq(1), self.data.p.eq(code.data.p)]
        with m.If(code.request.valid):
            m.d.comb += [self.request.valid.eq(1), self.request.p.eq(code.request.p)]
