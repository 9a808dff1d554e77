"""Engine of MOVE commands: rows from the output scratchpad to the scratchpads of operands."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks import rules
from ..blocks.pipeline import taps
from .block_walk import BlockWalker, burst_beats, burst_layout
from .config import Config
from .load_port import Hold, LoadWrite
from .loader import Loader
from .storer import Storer, read_layout
from .writer import lanes_layout

__all__ = ["Mover"]


class Mover(wiring.Component):
    """Moves blocks from the output scratchpad to scratchpads of operands, one beat a cycle, across rows and commands.

    A row is cut into the beats of its destination, each of which is read, rotated and written whole. The storer reads
    for us: its beats and ours take turns while both want the port. A beat that has been read is never held up. So that
    it finds the write port of its memory free, the loader holds a beat to the same memory back.

    The first beat is read :attr:`START` cycles after its command if the port is free, and written :meth:`latency_of`
    cycles later; the others follow one a cycle.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    banks : int
        Banks of the output scratchpad.

    Members
    -------
    commands : In(stream.Signature(config.commands.move))
        Commands.
    done : Out(1)
        High for one cycle for each completed command, together with its last write on ``move``. Its last byte can be
        read two cycles later, which is when a token gate may open.
    reads : Out(stream.Signature(read_layout(config)))
        Beats to read.
    read : In(lanes_layout(config))
        What has been read, :meth:`latency_of` cycles later.
    move : Out(LoadWrite(config))
        Writes to the scratchpads.
    hold : Out(Hold(config))
        What the loader must leave free.
    """

    #: Cycles from a command to its first beat.
    START = BlockWalker.LATENCY + 1

    def __init__(self, config: Config, banks: int):
        self._config = config
        self._banks = banks
        super().__init__({
            "commands": In(stream.Signature(config.commands.move)),
            "done": Out(1),
            "reads": Out(stream.Signature(read_layout(config))),
            "read": In(lanes_layout(config)),
            "move": Out(LoadWrite(config)),
            "hold": Out(Hold(config)),
        })

    @staticmethod
    def latency_of(config: Config, banks: int) -> int:
        """Return the cycles from a beat's turn to read to its write, for an output scratchpad of some banks."""
        return Storer.latency_of(config, banks) - 1

    def elaborate(self, platform):
        """Build the walker, the beats of its bursts, and what goes beside them."""
        m = Module()

        kind = self._config.commands.destination
        m.submodules.walker = walker = BlockWalker(self._config, kind)
        block, body = walker.i.p, self.commands.p
        # What a walker takes for memory is our target, whose beats are not to be rotated.
        places = {"dram": "target", "dram_step1": "target_step1", "dram_step2": "target_step2"}
        m.d.comb += [
            walker.i.valid.eq(self.commands.valid),
            self.commands.ready.eq(walker.i.ready),
            block.kind.eq(body.destination),
            block.internal.eq(0),
            block.record.eq(0),
            *(block[name].eq(getattr(body, places.get(name, name)))
              for name in (*places, "address", "step1", "step2", "length", "count1", "count2")),
        ]
        self._write(m, self._follow(m, walker, kind))
        rules.rests(m, self.commands.valid | ~self.commands.ready | walker.o.valid | self.reads.valid,
                    Cat(self.reads.valid, self.move.valid, self.hold.valid, self.done),
                    BlockWalker.LATENCY + self.latency_of(self._config, self._banks) + 1)
        return m

    def _follow(self, m, walker, kind):
        """Read the beats of one burst after the other; return whether one is, and where it goes."""
        coming, reads = walker.o.p, self.reads
        burst = Signal(burst_layout(self._config, kind))
        left = Signal(exact_log2(burst_beats(self._config)))
        target = Signal.like(self.move.word)
        last, beat, free = Signal(), Signal(), Signal()
        m.d.comb += [
            last.eq(left == 0),
            beat.eq(reads.valid & reads.ready),
            free.eq(~reads.valid | beat & last),
            walker.o.ready.eq(free),
            reads.p.rotation.eq(burst.rotation),
            reads.p.first.eq(burst.first),
            reads.p.last.eq(burst.last),
            reads.p.tail.eq(burst.tail & last),
        ]
        with m.If(beat):
            m.d.sync += [left.eq(left - 1), target.eq(target + 1), reads.p.head.eq(0),
                         reads.p.word.eq(reads.p.word + 1)]
        with m.If(free):
            m.d.sync += [
                reads.valid.eq(walker.o.valid),
                burst.eq(coming),
                left.eq(coming.more),
                target.eq(coming.beat),
                reads.p.head.eq(coming.head),
            ]
            # An empty queue shows an old burst.
            with m.If(walker.o.valid & coming.head):
                m.d.sync += reads.p.word.eq(coming.word)
        rules.held(m, "reads", reads.valid, reads.ready, reads.payload)
        now = Signal(data.StructLayout({"valid": 1, "end": 1, "destination": kind, "word": len(target)}))
        m.d.comb += [
            now.valid.eq(beat),
            now.end.eq(beat & last & burst.end),
            now.destination.eq(burst.kind),
            now.word.eq(target),
        ]
        return now

    def _write(self, m, now):
        """Write what has been read where it belongs, and say so before to the loader."""
        latency = self.latency_of(self._config, self._banks)
        # A beat that comes to the loader is written so many cycles later.
        loading = Loader.latency_of(self._config)
        stages = taps(m, now, latency, "beside")
        soon, now = stages[latency - loading], stages[latency]
        m.d.comb += [
            self.hold.valid.eq(soon.valid),
            self.hold.destination.eq(soon.destination),
            self.done.eq(now.end),
            self.move.valid.eq(now.valid),
            self.move.destination.eq(now.destination),
            self.move.word.eq(now.word),
            self.move.wrap.eq(0),
            self.move.mask.eq(self.read.strobe),
            self.move.data.eq(self.read.data),
        ]
