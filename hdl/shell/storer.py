"""Engine of STORE commands: rows from the output scratchpad to memory."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from ..blocks import rules
from ..blocks.banks import BankRead
from ..blocks.pipeline import delay
from ..blocks.rotate import Rotator
from ..errors import PearrayError
from .block_walk import BlockWalker, burst_beats, burst_layout
from .commands import ADDRESS_BITS
from .config import Config
from .writer import DATA_DEPTH, lanes_layout, write_request_layout

__all__ = ["Storer", "read_layout"]


def read_layout(config: Config) -> data.StructLayout:
    """Layout of a beat that the storer reads for the mover.

    Lane ``i`` is byte ``word * beat_bytes + (i + rotation)`` of the output scratchpad. Strobes leave out the lanes
    before ``first`` if it is the first beat of a row (``head``), those behind ``last`` if it is the last (``tail``).
    """
    lane_bits = exact_log2(config.beat_bytes)
    return data.StructLayout({"word": ADDRESS_BITS - lane_bits, "rotation": lane_bits, "first": lane_bits,
                              "last": lane_bits, "head": 1, "tail": 1})


class Storer(wiring.Component):
    """Stores blocks of the output scratchpad, one beat a cycle, across rows and commands.

    The first address follows its command by the latency of :class:`.block_walk.BlockWalker`, and its first data follow
    the address by :meth:`latency_of`, a cycle more where a line of the scratchpad holds several beats.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    banks : int
        Banks of the output scratchpad, each a byte wide; a power of two and at least a beat.

    Members
    -------
    commands : In(stream.Signature(StoreBody))
        Commands.
    done : Out(1)
        High for one cycle for each completed command: memory has acknowledged its last byte.
    record : In(ArrayLayout(32, words of a record))
        What a command with ``profile`` writes.
    request : Out(stream.Signature(write_request_layout(config)))
        Bursts to write.
    data : Out(stream.Signature(lanes_layout(config)))
        Their beats, never more than the writer has said it can hold.
    sent : In(1)
        High in each cycle in which a beat leaves the writer's queue.
    marked : In(1)
        A marked burst has been acknowledged.
    recorded : Out(1)
        The first words of a record are taken.
    read : Out(BankRead(banks, lines, 8))
        Read port of the output scratchpad.
    reads : In(stream.Signature(read_layout(config)))
        With MOVEs: beats to read for the mover. Theirs and ours take turns while both are wanted.
    moved : Out(lanes_layout(config))
        What was read for it, a cycle less than :meth:`latency_of` after it was taken.

    Raises
    ------
    PearrayError
        If ``banks`` is not a power of two or less than a beat.
    """

    #: Shape of what goes with each burst: whether it is a record's.
    _KIND: Any = 1

    def __init__(self, config: Config, banks: int):
        if banks < config.beat_bytes or banks & banks - 1:
            raise PearrayError(f"banks must be a power of two of at least {config.beat_bytes}, not {banks!r}")
        self._config = config
        self._banks = banks
        self._record_words = len(config.commands.record)
        super().__init__({
            "commands": In(stream.Signature(config.commands.store)),
            "done": Out(1),
            "record": In(data.ArrayLayout(32, self._record_words)),
            "request": Out(stream.Signature(write_request_layout(config))),
            "data": Out(stream.Signature(lanes_layout(config))),
            "sent": In(1),
            "marked": In(1),
            "recorded": Out(1),
            "read": Out(self._read_port()),
        } | ({"reads": In(stream.Signature(read_layout(config))),
              "moved": Out(lanes_layout(config))} if config.has_moves else {}))

    def _read_port(self) -> wiring.Signature:
        """Signature of the port through which rows are read."""
        return BankRead(self._banks, self._config.scratchpads.output_bytes // self._banks, 8)

    def elaborate(self, platform):
        """Build the walker, the reading of beats, and their alignment."""
        m = Module()

        walker = self._walk(m)
        # The burst that is read now. Its address is requested when it becomes the current one.
        lanes = self._config.beat_bytes
        lane_bits = exact_log2(lanes)
        next_burst = walker.o.p
        burst = Signal(burst_layout(self._config, self._KIND))
        valid = Signal()
        left = Signal(exact_log2(burst_beats(self._config)))
        head = Signal()
        word = Signal(ADDRESS_BITS - lane_bits)
        credit = Signal(range(DATA_DEPTH + 1), init=DATA_DEPTH)
        beat = Signal()
        burst_last = Signal()
        free = Signal()
        some, taken, room, spent = self._govern(m, walker, burst, beat, credit)
        m.d.comb += [
            beat.eq(self._take_turn(m, valid & room)),
            burst_last.eq(left == 0),
            free.eq(~valid | beat & burst_last),
            self.request.valid.eq(some & free),
            self.request.p.beat.eq(next_burst.beat),
            self.request.p.more.eq(next_burst.more),
            self.request.p.mark.eq(next_burst.end),
            walker.o.ready.eq(taken & free),
        ]
        m.d.sync += credit.eq(credit - spent + self.sent)
        with m.If(beat):
            m.d.sync += [left.eq(left - 1), head.eq(0), word.eq(word + 1)]
        with m.If(free):
            m.d.sync += [
                valid.eq(walker.o.valid & taken),
                burst.eq(next_burst),
                left.eq(next_burst.more),
                head.eq(next_burst.head),
            ]
            with m.If(next_burst.head):
                m.d.sync += word.eq(next_burst.word)

        tail = burst.tail & burst_last
        if self._config.has_moves:
            burst, word, head, tail = self._share(m, burst, word, head, tail)
        lane = self._read(m, beat, word, burst.rotation)
        self._align(m, lane, beat, burst, head, tail)
        rules.held(m, "request", self.request.valid, self.request.ready, self.request.payload)
        coming = self.commands.valid | ~self.commands.ready | walker.o.valid | valid | self.sent | self.marked
        if self._config.has_moves:
            coming = coming | self.reads.valid
        self._rest(m, coming)
        rules.never(m, "data", self.data.valid & ~self.data.ready, "a beat was refused")
        rules.never(m, "credit", Mux(spent, credit == 0, self.sent & (credit == DATA_DEPTH)),
                    "more or less than the writer holds")
        return m

    def _rest(self, m, coming):
        """State that nothing happens here unless something is coming, or was some cycles ago."""
        rules.rests(m, coming, Cat(self.request.valid, self.data.valid, self.done, self.recorded),
                    BlockWalker.LATENCY + self._latency + 1)

    def _walk(self, m):
        """Take commands; return the walker over their bursts."""
        m.submodules.walker = walker = BlockWalker(self._config, self._KIND, record_bytes=4 * self._record_words)
        body = self.commands.p
        m.d.comb += [
            walker.i.valid.eq(self.commands.valid),
            self.commands.ready.eq(walker.i.ready),
            *self._describe(walker.i.p, body),
            walker.i.p.record.eq(body.profile),
            self.done.eq(self.marked),
        ]
        m.d.comb += [
            walker.i.p[name].eq(getattr(body, name))
            for name in ("dram", "dram_step1", "dram_step2", "address", "step1", "step2", "length",
                         "count1", "count2")
        ]
        return walker

    def _describe(self, block, body):
        """Return what is said of a command's block besides its rows."""
        return [block.kind.eq(body.profile), block.internal.eq(0)]

    def _govern(self, m, walker, burst, beat, credit):
        """Return whether there is a burst to request, and whether it is taken; room for a beat; credit is spent."""
        return walker.o.valid, self.request.ready, credit != 0, beat

    def _take_turn(self, m, wanted):
        """Return whether a beat of ours is read that is wanted."""
        if not self._config.has_moves:
            return wanted
        own, moved = Signal(name="own_turn"), Signal(name="moved_before")
        m.d.comb += [own.eq(wanted & (~self.reads.valid | moved)), self.reads.ready.eq(~own)]
        m.d.sync += moved.eq(self.reads.valid & self.reads.ready)
        return own

    def _share(self, m, burst, word, head, tail):
        """Return what is read of a beat: a burst's fields, word, and whether it is a row's first, last."""
        place = Signal(read_layout(self._config))
        shown = Signal.like(burst, name="shown")
        m.d.comb += [
            place.word.eq(word), place.rotation.eq(burst.rotation), place.first.eq(burst.first),
            place.last.eq(burst.last), place.head.eq(head), place.tail.eq(tail),
            shown.eq(burst),
            shown.rotation.eq(place.rotation), shown.first.eq(place.first), shown.last.eq(place.last),
        ]
        with m.If(self.reads.valid & self.reads.ready):
            m.d.comb += place.eq(self.reads.p)
        return shown, place.word, place.head, place.tail

    def _read(self, m, beat, word, rotation):
        """Read the beat's bytes; return them by lane, ``_read_latency`` cycles later."""
        lanes = self._config.beat_bytes
        beats = self._banks // lanes
        beat_bits = ceil_log2(beats)
        word_after = Signal.like(word)
        m.d.comb += [word_after.eq(word + 1), self.read.en.eq(1)]
        places = []
        for lane in range(lanes):
            place = Signal.like(word, name=f"place_{lane}")
            line = Signal.like(self.read.line[0], name=f"line_{lane}", reset_less=True)
            m.d.comb += place.eq(Mux(lane < rotation, word_after, word))
            m.d.sync += line.eq(place[beat_bits:])
            for bank in self._banks_of(lane):
                m.d.comb += self.read.line[bank].eq(line)
            places.append(place)
        values = self._bytes()
        if beats == 1:
            return values
        # A line of the scratchpad holds several beats: of its banks, take the lane's.
        chosen = []
        for lane, place in enumerate(places):
            choice = delay(m, place[:beat_bits], 1 + BankRead.LATENCY, f"choice_{lane}", reset_less=True)
            value = Signal(8, name=f"chosen_{lane}")
            banks = Signal(data.ArrayLayout(8, beats), name=f"banks_{lane}")
            m.d.comb += banks.eq(Cat(values[lane::lanes]))
            m.d.sync += value.eq(banks[choice])
            chosen.append(value)
        return chosen

    def _banks_of(self, lane):
        """Return the banks to which the line goes that a lane needs."""
        return range(lane, self._banks, self._config.beat_bytes)

    def _bytes(self):
        """Return the bytes that were read."""
        return [self.read.data[bank] for bank in range(self._banks)]

    @classmethod
    def latency_of(cls, config: Config, banks: int) -> int:
        """Return the cycles from a burst's address to its first beat, for an output scratchpad of some banks."""
        return 1 + cls._read_latency_of(config, banks) + Rotator.latency_of(config.beat_bytes)

    @staticmethod
    def _read_latency_of(config: Config, banks: int) -> int:
        return 1 + BankRead.LATENCY + (banks > config.beat_bytes)

    @property
    def _read_latency(self):
        return self._read_latency_of(self._config, self._banks)

    @property
    def _latency(self):
        return self._read_latency + Rotator.latency_of(self._config.beat_bytes)

    def _align(self, m, lane_values, beat, burst, head, tail):
        """Rotate the lanes, and send them with their strobes when they have come."""
        lanes = self._config.beat_bytes
        m.submodules.rotator = rotator = Rotator(lanes, 8)
        m.d.comb += [rotator.i[lane].eq(value) for lane, value in enumerate(lane_values)]
        m.d.comb += rotator.amount.eq(
            delay(m, burst.rotation, self._read_latency, "amount", reset_less=True))

        strobe = Signal(lanes)
        for lane in range(lanes):
            m.d.sync += strobe[lane].eq(~(head & (lane < burst.first)) & ~(tail & (lane > burst.last)))
        latency = self._latency
        m.d.comb += [
            self.data.valid.eq(delay(m, beat, latency, "valid")),
            self.data.p.strobe.eq(delay(m, strobe, latency - 1, "strobe", reset_less=True)),
            self.data.p.data.eq(rotator.o.as_value()),
        ]

        if self._config.has_moves:
            m.d.comb += [self.moved.strobe.eq(self.data.p.strobe), self.moved.data.eq(rotator.o.as_value())]

        # A record takes the place of the rotated beat: one beat, if it is long enough, or several.
        profile = delay(m, self._profile(burst.kind, beat), latency, "profile", reset_less=True)
        parts = max(4 * self._record_words // lanes, 1)
        part = Signal(range(max(parts, 2)))
        words = Signal(data.ArrayLayout(self._config.memory.data_width, parts))
        m.d.comb += words.as_value().eq(self.record.as_value())
        m.d.comb += self.recorded.eq(profile & self.data.valid & (part == 0))
        with m.If(profile & self.data.valid):
            m.d.comb += self.data.p.data.eq(words[part] if parts > 1 else words[0])
            if parts > 1:
                m.d.sync += part.eq(part + 1)

    def _profile(self, kind, beat):
        """Return whether a beat, if it is one, is a record's."""
        return kind
