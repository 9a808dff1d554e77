"""Small stand-in for the accelerator: the same ports, but its program only copies a block.

The engines are tested with it, so that a fault of theirs can't hide behind one of the accelerator.
"""

from dataclasses import replace
from pathlib import Path

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from pearray.hdl.blocks import rules
from pearray.hdl.blocks.axi import AXI4, AXI4Lite
from pearray.hdl.shell.registers import REGISTERS
from pearray.sim.design import Design

__all__ = ["BROKEN", "BURST", "STANDIN", "Copier"]

#: Beats of each burst of the copy.
BURST = 4

COUNTERS = {"cycles": (0x100, 0x104), "read_beats": (0x108, 0x10C)}


class Copier(wiring.Component):
    """Copy bursts of :data:`BURST` beats as fast as the bus lets it.

    The program is one beat-aligned block of 32-bit words: source address, destination address,
    number of bursts. A number of 0 never finishes. An error response ends the copy. A rule says that no more
    than ``most_beats`` are read, if given.
    """

    def __init__(self, config, most_beats=None):
        self._beat_bytes = config.beat_bytes
        self._most_beats = most_beats
        super().__init__({
            "m_axi": Out(AXI4(config.memory.data_width)),
            "s_axi": In(AXI4Lite(12)),
            "irq": Out(1),
        })

    def elaborate(self, platform):
        """Build the copier."""
        m = Module()
        size = self._beat_bytes
        burst_bytes = BURST * size
        start, busy, done, error = Signal(), Signal(), Signal(), Signal()
        program = Signal(32)
        words = Signal(16 * 8 if size < 16 else size * 8)
        source, target, count = words[0:32], words[32:64], words[64:96]
        cycles, read_beats = Signal(64), Signal(64)
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=size * 8, depth=64)

        # Registers.
        b_valid, r_valid, r_data = Signal(), Signal(), Signal(32)
        take = self.s_axi.awvalid & self.s_axi.wvalid & ~b_valid
        m.d.comb += [
            self.s_axi.awready.eq(take), self.s_axi.wready.eq(take), self.s_axi.bvalid.eq(b_valid),
            self.s_axi.arready.eq(~r_valid), self.s_axi.rvalid.eq(r_valid), self.s_axi.rdata.eq(r_data),
            self.irq.eq(done),
        ]
        with m.If(take):
            m.d.sync += b_valid.eq(1)
            with m.Switch(self.s_axi.awaddr):
                with m.Case(0x008):
                    m.d.sync += [start.eq(1), done.eq(0), error.eq(0), busy.eq(1), cycles.eq(0),
                                 read_beats.eq(0)]
                with m.Case(0x010):
                    m.d.sync += program.eq(self.s_axi.wdata)
        with m.If(b_valid & self.s_axi.bready):
            m.d.sync += b_valid.eq(0)
        with m.If(self.s_axi.arvalid & ~r_valid):
            m.d.sync += r_valid.eq(1)
            with m.Switch(self.s_axi.araddr):
                for address, value in {0x00C: Cat(busy, done, error), 0x010: program, 0x014: source,
                                       0x100: cycles[:32], 0x104: cycles[32:],
                                       0x108: read_beats[:32], 0x10C: read_beats[32:]}.items():
                    with m.Case(address):
                        m.d.sync += r_data.eq(value | Mux(error & (address == 0x00C), 1 << 8, 0))
        with m.If(r_valid & self.s_axi.rready):
            m.d.sync += r_valid.eq(0)

        # The program takes one burst, and the copy the rest.
        fetch_beats = max(1, 16 // size)
        fetching, asked, word = Signal(), Signal(), Signal(range(5))
        asked_bursts, written_bursts, finished_bursts = Signal(32), Signal(32), Signal(32)
        beat = Signal(range(BURST))
        running, ar_held, aw_held = Signal(), Signal(), Signal()
        r_fire = self.m_axi.rvalid & self.m_axi.rready
        w_fire = self.m_axi.wvalid & self.m_axi.wready
        m.d.comb += [
            self.m_axi.arvalid.eq(Mux(fetching, ~asked, running & (asked_bursts != count)) | ar_held),
            self.m_axi.araddr.eq(Mux(fetching, program, source + asked_bursts * burst_bytes)),
            self.m_axi.arlen.eq(Mux(fetching, fetch_beats, BURST) - 1),
            self.m_axi.arsize.eq(size.bit_length() - 1), self.m_axi.awsize.eq(size.bit_length() - 1),
            self.m_axi.arburst.eq(1), self.m_axi.awburst.eq(1),
            self.m_axi.rready.eq(fetching | fifo.w_rdy),
            fifo.w_en.eq(r_fire & ~fetching), fifo.w_data.eq(self.m_axi.rdata),
            self.m_axi.awvalid.eq(running & (written_bursts != count) | aw_held),
            self.m_axi.awaddr.eq(target + written_bursts * burst_bytes),
            self.m_axi.awlen.eq(BURST - 1),
            self.m_axi.wvalid.eq(fifo.r_rdy), self.m_axi.wdata.eq(fifo.r_data), fifo.r_en.eq(w_fire),
            self.m_axi.wstrb.eq(-1), self.m_axi.wlast.eq(beat == BURST - 1), self.m_axi.bready.eq(1),
        ]
        # An address stays until it is taken, even if an error ends the copy.
        m.d.sync += [
            ar_held.eq(self.m_axi.arvalid & ~self.m_axi.arready),
            aw_held.eq(self.m_axi.awvalid & ~self.m_axi.awready),
            cycles.eq(cycles + busy),
        ]
        with m.If(start):
            m.d.sync += [start.eq(0), fetching.eq(1), asked.eq(0), word.eq(0), asked_bursts.eq(0),
                         written_bursts.eq(0), finished_bursts.eq(0)]
        with m.If(r_fire):
            m.d.sync += read_beats.eq(read_beats + 1)
        with m.If(fetching):
            with m.If(self.m_axi.arready):
                m.d.sync += asked.eq(1)
            with m.If(r_fire):
                m.d.sync += [words.word_select(word, size * 8).eq(self.m_axi.rdata), word.eq(word + 1)]
                with m.If(self.m_axi.rlast):
                    m.d.sync += [fetching.eq(0), running.eq(1)]
        with m.Elif(self.m_axi.arvalid & self.m_axi.arready):
            m.d.sync += asked_bursts.eq(asked_bursts + 1)
        with m.If(self.m_axi.awvalid & self.m_axi.awready):
            m.d.sync += written_bursts.eq(written_bursts + 1)
        with m.If(w_fire):
            m.d.sync += beat.eq(beat + 1)
        with m.If(self.m_axi.bvalid):
            m.d.sync += finished_bursts.eq(finished_bursts + 1)
        with m.If(running & (finished_bursts == count) & (count != 0)):
            m.d.sync += [running.eq(0), busy.eq(0), done.eq(1)]
        failed = (r_fire & self.m_axi.rresp.as_value().any()
                  | self.m_axi.bvalid & self.m_axi.bresp.as_value().any())
        if self._most_beats is not None:
            rules.never(m, "read_beats", read_beats > self._most_beats, f"more than {self._most_beats} have come")
        with m.If(failed):
            m.d.sync += [running.eq(0), fetching.eq(0), busy.eq(0), done.eq(1), error.eq(1)]
        return m


STANDIN = Design(
    create=Copier,
    counters=lambda config: COUNTERS,
    registers={register.name: register.offset for register in REGISTERS},
    causes={1: "bus error"},
    sources=(Path(__file__),),
)

#: The same with a rule that a copy of nine bursts breaks; the second source keeps the two apart in the cache.
BROKEN = replace(STANDIN, create=lambda config: Copier(config, 21), sources=(Path(__file__),) * 2)
