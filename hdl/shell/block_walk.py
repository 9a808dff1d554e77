"""Walk over the rows of a block in DRAM and on chip, cut into AXI bursts."""

from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ..blocks.axi import BOUNDARY
from ..blocks.fifo import StreamFIFO
from .commands import ADDRESS_BITS
from .config import Config

__all__ = ["BlockWalker", "block_layout", "burst_beats", "burst_layout"]


def burst_beats(config: Config) -> int:
    """Return the beats of the longest burst.

    Bursts are cut at multiples of this many beats, so that none crosses 4 KB, and a program fetch
    never waits long behind the bursts of a load. 16 beats in each of a few bursts still hide any
    usual latency. Where loads are of codes, whose end shows only when it has come, bursts are half as long.
    """
    return min(16 if config.has_post else 8, BOUNDARY // config.beat_bytes)


def block_layout(kind: Any) -> data.StructLayout:
    """Layout of a block: count2 x count1 rows, with the fields of ``LoadBody`` and ``StoreBody``.

    ``kind`` is the shape of what is passed on with each of the block's bursts.
    """
    return data.StructLayout({
        "kind": kind,
        "internal": 1,
        "record": 1,
        "dram": 32,
        "dram_step1": 32,
        "dram_step2": 32,
        "address": ADDRESS_BITS,
        "step1": ADDRESS_BITS,
        "step2": ADDRESS_BITS,
        "length": 24,
        "count1": 16,
        "count2": 16,
    })


def burst_layout(config: Config, kind: Any) -> data.StructLayout:
    """Layout of a burst of a block of some kind, with the place on chip of a row's first beat.

    Lane ``i`` of a row's first beat in DRAM belongs to byte
    ``word * beat_bytes + (i + rotation)`` on chip, before carries into the next word.
    """
    lane_bits = exact_log2(config.beat_bytes)
    return data.StructLayout({
        "kind": kind,
        # Address in beats.
        "beat": 32 - lane_bits,
        # One less than the beats of the burst.
        "more": exact_log2(burst_beats(config)),
        # First and last lane of the row.
        "first": lane_bits,
        "last": lane_bits,
        "rotation": lane_bits,
        "word": ADDRESS_BITS - lane_bits,
        # First burst of a row, last burst of a row, last burst of a block.
        "head": 1,
        "tail": 1,
        "end": 1,
    })


class BlockWalker(wiring.Component):
    """Walks over the rows of blocks and cuts each row into bursts.

    The first burst follows :attr:`LATENCY` cycles after its block; then one burst leaves a cycle, across
    rows; between two blocks there is one idle cycle. Every stage stalls on its own.

    Bursts cover whole beats and are cut at multiples of :func:`burst_beats` beats. With
    ``internal`` set a row is cut as if it had in DRAM the address that it has on chip. With
    ``record`` set the block is a record at ``dram`` (a multiple of its size), whatever its rows are.

    Parameters
    ----------
    config : Config
        Configuration of the accelerator.
    kind : shape-like
        Shape of what is passed on from a block to its bursts.
    record_bytes : int
        Bytes of a record, a power of two of at most 64.

    Members
    -------
    i : In(stream.Signature(block_layout(kind)))
        Blocks.
    o : Out(stream.Signature(burst_layout(config, kind)))
        Bursts.
    """

    #: Cycles from a block to its first burst: a stage each for rows, their extent, and bursts.
    LATENCY = 3

    def __init__(self, config: Config, kind: Any, *, record_bytes: int = 16):
        self._config = config
        self._kind = kind
        self._record_bytes = record_bytes
        super().__init__({
            "i": In(stream.Signature(block_layout(kind))),
            "o": Out(stream.Signature(burst_layout(config, kind))),
        })

    def elaborate(self, platform):
        """Build the three stages: rows, their extent, bursts."""
        m = Module()
        row = stream.Signature(_row_layout(self._kind)).create(path=("row",))
        self._walk_rows(m, row)
        cut, cut_last = self._cut(m, row)
        self._give(m, cut, cut_last)
        return m

    def _walk_rows(self, m, row):
        # Nothing here counts unless a row is valid.
        block = Signal(block_layout(self._kind), reset_less=True)
        length_less = Signal.like(row.p.length_less, reset_less=True)
        row_dram, block_dram = Signal(32, reset_less=True), Signal(32, reset_less=True)
        row_address = Signal(ADDRESS_BITS, reset_less=True)
        block_address = Signal(ADDRESS_BITS, reset_less=True)
        # Turns left minus two, so that the sign bit says "last" without a comparator.
        turns1 = Signal(signed(17), reset_less=True)
        left1, left2 = Signal(signed(17), reset_less=True), Signal(signed(17), reset_less=True)
        last1, last2 = Signal(), Signal()
        next_dram, next_address = Signal(32), Signal(ADDRESS_BITS)

        m.d.comb += [
            last1.eq(left1[-1] | block.record),
            last2.eq(left2[-1] | block.record),
            next_dram.eq(Mux(last1, block_dram + block.dram_step2, row_dram + block.dram_step1)),
            next_address.eq(Mux(last1, block_address + block.step2, row_address + block.step1)),
            row.p.kind.eq(block.kind),
            row.p.internal.eq(block.internal),
            row.p.record.eq(block.record),
            row.p.dram.eq(row_dram),
            row.p.address.eq(row_address),
            row.p.length_less.eq(length_less),
            row.p.end.eq(last1 & last2),
            # Between two blocks a cycle is lost, as the way of ready through all stages is long.
            self.i.ready.eq(~row.valid),
        ]
        with m.If(row.valid & row.ready):
            m.d.sync += [
                row_dram.eq(next_dram),
                row_address.eq(next_address),
                left1.eq(Mux(last1, turns1, left1 - 1)),
                row.valid.eq(~row.p.end),
            ]
            with m.If(last1):
                m.d.sync += [
                    block_dram.eq(next_dram),
                    block_address.eq(next_address),
                    left2.eq(left2 - 1),
                ]
        with m.If(self.i.ready):
            m.d.sync += [
                row.valid.eq(self.i.valid),
                block.eq(self.i.p),
                length_less.eq(self.i.p.length - self._one_burst(1)),
                row_dram.eq(self.i.p.dram),
                block_dram.eq(self.i.p.dram),
                row_address.eq(self.i.p.address),
                block_address.eq(self.i.p.address),
                turns1.eq(self.i.p.count1 - 2),
                left1.eq(self.i.p.count1 - 2),
                left2.eq(self.i.p.count2 - 2),
            ]

    def _one_burst(self, more: int) -> int:
        """Return the bytes of the longest burst, and some more."""
        return burst_beats(self._config) * self._config.beat_bytes + more

    def _cut(self, m, row):
        """Cut a row where bursts must end; return what is left of it, and whether that is the last burst."""
        lane_bits = exact_log2(self._config.beat_bytes)
        beat_bits = exact_log2(burst_beats(self._config))
        low_bits = lane_bits + beat_bits

        # Extent of the row: where in its first block of `burst_beats` beats it starts, in which
        # block and where in it it ends.
        low = Signal(low_bits)
        on_chip = Signal(lane_bits)
        # Where its last byte stands, a burst less: so the sign says that no second one follows.
        last_byte = Signal(signed(25))
        end_at = Signal(signed(26))
        cut = stream.Signature(data.StructLayout({
            "block": 32 - low_bits,
            "more_blocks": signed(26 - low_bits),
            "low": beat_bits,
            "high": beat_bits,
            "burst": burst_layout(self._config, self._kind),
        })).create(path=("cut",))
        cut_last = Signal()
        m.d.comb += [
            low.eq(Mux(row.p.internal, row.p.address, row.p.dram)),
            on_chip.eq(row.p.address),
            last_byte.eq(Mux(row.p.record, self._record_bytes - self._one_burst(1), row.p.length_less)),
            end_at.eq(last_byte + low),
            cut_last.eq(cut.p.more_blocks < 0),
            row.ready.eq(~cut.valid | cut.ready & cut_last),
        ]
        with m.If(row.ready):
            m.d.sync += [
                cut.valid.eq(row.valid),
                cut.p.block.eq(row.p.dram[low_bits:]),
                cut.p.more_blocks.eq(end_at[low_bits:]),
                cut.p.low.eq(low[lane_bits:]),
                cut.p.high.eq(end_at[lane_bits:low_bits]),
                cut.p.burst.kind.eq(row.p.kind),
                cut.p.burst.first.eq(low),
                cut.p.burst.last.eq(end_at),
                cut.p.burst.rotation.eq(on_chip - low),
                # The word under lane 0 of the first beat, which may lie before the row.
                cut.p.burst.word.eq(row.p.address[lane_bits:] - (on_chip < low[:lane_bits])),
                cut.p.burst.head.eq(1),
                cut.p.burst.end.eq(row.p.end),
            ]
        with m.Elif(cut.ready):
            m.d.sync += [
                cut.p.block.eq(cut.p.block + 1),
                cut.p.more_blocks.eq(cut.p.more_blocks - 1),
                cut.p.low.eq(0),
                cut.p.burst.head.eq(0),
            ]
        return cut, cut_last

    def _give(self, m, cut, cut_last):
        """Give the first burst of what is left of a row."""
        # A queue's `ready` comes from a register, so that the way of ready through all stages ends here.
        m.submodules.bursts = bursts = StreamFIFO(self.o.p.shape(), 2)
        wiring.connect(m, bursts.o, wiring.flipped(self.o))
        m.d.comb += [
            cut.ready.eq(bursts.i.ready),
            bursts.i.valid.eq(cut.valid),
            bursts.i.p.eq(cut.p.burst),
            bursts.i.p.beat.eq(Cat(cut.p.low, cut.p.block)),
            bursts.i.p.more.eq(Mux(cut_last, cut.p.high, burst_beats(self._config) - 1) - cut.p.low),
            bursts.i.p.tail.eq(cut_last),
            bursts.i.p.end.eq(cut_last & cut.p.burst.end),
        ]


def _row_layout(kind: Any) -> data.StructLayout:
    return data.StructLayout({
        "kind": kind,
        "internal": 1,
        "record": 1,
        "dram": 32,
        "address": ADDRESS_BITS,
        # Length minus one byte and the longest burst.
        "length_less": signed(25),
        "end": 1,
    })
