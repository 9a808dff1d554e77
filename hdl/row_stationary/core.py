"""Core of the accelerator with the row-stationary array: global buffer, filter buffer, pass engine, outputs."""

from typing import Any

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.utils import bits_for

from ..blocks.scratchpad import Scratchpad
from ..post.engine import Post, PostEvents
from ..shell.commands import Opcode
from ..shell.core import Core, Happening, event_names, let_moved
from ..shell.ledger import ArrayState
from ..shell.loader import Loader
from ..shell.mover import Mover
from ..shell.storer import Storer
from .buffer import GlobalBuffer, buffer_ways
from .coded_load import CodedLoad
from .commands import COMMANDS, Destination
from .config import RowStationaryConfig
from .passes import PassEngine, PassEvents
from .ports import LineLoadPort, LineSums
from .row import array_shape
from .word_storer import WordStorer

__all__ = ["RowStationaryCore"]


class RowStationaryCore(Core):
    """Loads go to the buffers, passes add to sums in the global buffer, from where they leave.

    With 8-bit operands sums leave through post-processing and an output scratchpad, with 16-bit operands straight
    to memory. What reads the global buffer for that goes before the passes, as loads do.

    Parameters
    ----------
    config : RowStationaryConfig
        Configuration of the accelerator.
    """

    def __init__(self, config: RowStationaryConfig):
        self._config = config
        self._ways = buffer_ways(config.beat_bytes)
        self._loader = Loader(config) if config.has_post else Loader(config, CodedLoad(config))
        self._execute = PassEngine(array_shape(config), config.buffer_lines, config.filter_lines,
                                   config.score_rows * config.has_softmax)
        engines = {Opcode.LOAD: self._loader, Opcode.EXECUTE: self._execute}
        self._post = None
        if config.has_post:
            self._post = engines[Opcode.POST] = Post(config)
            self._storer = Storer(config, config.output_banks)
        else:
            self._storer = WordStorer(config)
        engines[Opcode.STORE] = self._storer
        self._mover: Any = None
        if config.has_moves:
            self._mover = engines[Opcode.MOVE] = Mover(config, config.output_banks)
        super().__init__(engines)

    @staticmethod
    def counters(config: Any) -> dict[str, int]:
        """Words of the record but the first three, events of post-processing, beats of parameters and outputs."""
        pes = bits_for(config.pes)
        psums = Shape.cast(data.Layout.cast(PassEvents)["psum_read"].shape).width
        widths = {
            "macs": pes, "gated": pes, "passed": pes, "ifmap_spad_writes": pes, "filter_spad_writes": pes,
            "psum_reads": psums, "psum_writes": psums, "fills": bits_for(buffer_ways(config.beat_bytes)),
        }
        counters = {f"execute_{name}": widths.get(name, 1) for name in COMMANDS.record[3:]}
        if config.has_post:
            counters |= dict.fromkeys((f"post_{name}" for name in event_names(PostEvents)), 1)
            counters["parameter_write_beats"] = 1
        return counters | {"output_read_beats": 1} | ({"moved_beats": 1} if config.has_moves else {})

    def connect(self, m: Any, gates: Any) -> None:
        """Add the buffers and, for outputs, a scratchpad."""
        config, ways, width = self._config, self._ways, 8 * self._config.line_bytes
        execute, post, storer = self._execute, self._post, self._storer
        banks = config.global_buffer
        m.submodules.global_buffer = buffer = GlobalBuffer(
            banks.banks, banks.bank_lines, width, readers=2, writers=1, ways=ways, wide=True)
        m.submodules.filter_buffer = filters = GlobalBuffer(
            banks.filter_banks, banks.bank_lines, width, readers=2, writers=0, ways=ways)
        self._loads = {}
        for destination, memory, lines in ((Destination.GLOBAL_BUFFER, buffer, config.buffer_lines),
                                           (Destination.FILTER_BUFFER, filters, config.filter_lines)):
            name = destination.name.lower()
            m.submodules[f"{name}_load"] = load = self._loads[destination] = LineLoadPort(config, destination, lines)
            self._load(m, load)
            wiring.connect(m, load.write, memory.load)
        # Psums first: a chain that waits for them holds up the array, ifmap words are read ahead.
        wiring.connect(m, execute.psums, buffer.read[0])
        wiring.connect(m, execute.ifmap, buffer.read[1])
        wiring.connect(m, execute.result, buffer.write[0])
        wiring.connect(m, execute.filters, filters.read[0])
        wiring.connect(m, execute.setups, filters.read[1])
        m.d.comb += [gates.filters_free.eq(execute.filters_free), gates.ifmap_free.eq(execute.ifmap_free)]
        if post is None:
            wiring.connect(m, storer.read, buffer.wide)
            return
        self._load(m, post)
        m.submodules.line_sums = sums = LineSums(ways, config.buffer_lines // ways, post.accumulators.data.shape())
        pad = Scratchpad(config.output_banks, config.output_lines, 8)
        m.submodules.output_scratchpad = pad
        m.d.comb += [
            sums.en.eq(post.accumulators.en),
            sums.row.eq(post.accumulators.row),
            post.accumulators.data.eq(sums.data),
        ]
        wiring.connect(m, sums.port, buffer.wide)
        wiring.connect(m, post.output, pad.write)
        wiring.connect(m, storer.read, pad.read)
        if config.has_softmax:
            wiring.connect(m, post.shifts, execute.shifts)
        if self._mover is not None:
            self._move(m)

    def _move(self, m: Any) -> None:
        """Connect the mover, whose beats go to the global buffer."""
        mover, loader, storer, destination = self._mover, self._loader, self._storer, Destination.GLOBAL_BUFFER
        wiring.connect(m, mover.reads, storer.reads)
        wiring.connect(m, mover.hold, loader.hold)
        m.d.comb += mover.read.eq(storer.moved)
        let_moved(m, "global_buffer", destination, self._loads[destination], loader.load, mover.move)

    def _load(self, m: Any, target: Any) -> None:
        for name in target.load.signature.members:
            m.d.comb += getattr(target.load, name).eq(getattr(self._loader.load, name))

    def record(self, m: Any, happening: Happening) -> tuple[list[Any], list[Any]]:
        """Words of the record: what happens in the array and at its buffers, and the most PEs that were active."""
        execute, storer = self._execute, self._storer
        events, pes = execute.events, execute.pe_events
        stall = self._wait_for_memory(m, happening)

        fills = Signal(bits_for(self._ways))
        mask = self._loads[Destination.GLOBAL_BUFFER].write.en
        bytes_ = len(mask) // self._ways
        m.d.sync += fills.eq(_sum(mask.word_select(way, bytes_).any() for way in range(self._ways)))

        # A record is about to be written: the next one begins with the PEs that work now, if any do. What the array
        # was set up for before does not count until it works again.
        working = Signal.like(execute.active_pes)
        most = Signal.like(execute.active_pes)
        recorded = Signal.like(execute.active_pes)
        m.d.comb += working.eq(Mux(execute.active, execute.active_pes, 0))
        with m.If(storer.commands.valid & storer.commands.ready & storer.commands.p.profile):
            m.d.sync += [recorded.eq(most), most.eq(working)]
        with m.Elif(happening.start | (working > most)):
            m.d.sync += most.eq(working)
        # The counter of this name counts each PE by which the number exceeds all before it.
        top = Signal.like(execute.active_pes)
        more = Signal()
        m.d.comb += more.eq(working > top)
        with m.If(happening.start):
            m.d.sync += top.eq(0)
        with m.Elif(more):
            m.d.sync += top.eq(top + 1)

        by_name = {
            "active": execute.active, "stall_dram": stall, "macs": pes.mac, "gated": pes.gated, "passed": pes.passed,
            "ifmap_reads": events.ifmap_read, "psum_reads": events.psum_read, "psum_writes": events.psum_write,
            "filter_reads": events.filter_read, "fills": fills, "ifmap_spad_writes": pes.ifmap_write,
            "filter_spad_writes": pes.filter_write,
        }
        amounts = [by_name[name] for name in COMMANDS.record[3:-1]]
        self._counted = Cat(*amounts, more)
        return amounts, [recorded]

    def _wait_for_memory(self, m, happening):
        """Whether no pass is in the array, and memory has been asked for what must come first."""
        load, store = (self._config.commands.queues.index(opcode) for opcode in (Opcode.LOAD, Opcode.STORE))
        fetched = Signal()
        asked = Signal(8)
        stall = Signal()
        with m.If(happening.start):
            m.d.sync += [fetched.eq(0), asked.eq(0)]
        with m.Else():
            m.d.sync += asked.eq(asked + happening.take[load] + happening.take[store]
                                 - happening.done[load] - happening.done[store])
            with m.If(happening.fetched):
                m.d.sync += fetched.eq(1)
        m.d.comb += stall.eq(~self._execute.active & ((asked != 0) | ~fetched))
        return stall

    def state(self, m: Any) -> ArrayState:
        """It works in a cycle for as many products as there are PEs in use, in whichever cycles they have begun.

        When so many have begun that the cycles before do not account for, this cycle does. In others PEs wait for
        filters or ifmap words that are offered to them.
        """
        execute = self._execute
        begun = Signal(range(2 * self._config.pes))
        total = Signal.like(begun)
        work = Signal()
        m.d.comb += [
            total.eq(begun + execute.pe_events.mac + execute.pe_events.gated),
            work.eq((total >= execute.active_pes) & (total != 0)),
        ]
        m.d.sync += begun.eq(Mux(work, total - execute.active_pes, total))
        with m.If(execute.setting):
            m.d.sync += begun.eq(0)
        return ArrayState(work=work, weights=execute.filling, activations=execute.streaming, fill=execute.setting)

    def count(self, m: Any) -> tuple[list[Any], list[Any]]:
        """Words of the record, and what happens in post-processing and on the way out."""
        execute, post, load = self._execute, self._post, self._loader.load
        beats = Signal(1 if post is None else 2)
        parameters = ~Cat(load.destination == each for each in self._loads).any()
        sent = self._storer.data.valid
        m.d.sync += beats.eq(sent if post is None else Cat(load.valid & parameters, sent))
        setting_up = execute.setups.address.valid & execute.setups.address.ready
        moved = [execute.events.as_value(), execute.pe_events.as_value(), setting_up]
        events = [] if post is None else [post.events.as_value()]
        if self._mover is not None:
            moves = Signal()
            m.d.sync += moves.eq(self._mover.move.valid)
            return [self._counted, *events, beats, moves], [*moved, *events, self._mover.move.valid]
        return [self._counted, *events, beats], [*moved, *events]


def _sum(bits):
    total = Const(0)
    for bit in bits:
        total = total + bit
    return total
