"""Processing element of the row-stationary array."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.arithmetic import Arithmetic
from ..blocks.fifo import StreamFIFO
from ..blocks.unit import Unit
from ..errors import PearrayError
from .beats import beat_layout
from .chain import PsumChain
from .mac import WindowMAC, pass_shape_layout

__all__ = ["PEEvents", "RowStationaryPE"]


class PEEvents(data.Struct):
    """What a PE does in a cycle, for counters."""

    #: A product of an ifmap word that is not zero begins.
    mac: unsigned(1)
    #: A product is skipped, since its ifmap word is zero.
    gated: unsigned(1)
    #: A sum goes to the PE above.
    passed: unsigned(1)
    #: A word enters the ifmap scratchpad, and one the filter scratchpad.
    ifmap_write: unsigned(1)
    filter_write: unsigned(1)


class RowStationaryPE(Unit):
    """Processing element with scratchpads for ifmap, filters and psums (JSSC 2017, section V-D).

    The PE slides over ifmap rows. For each window and each filter it sums products (:class:`.mac.WindowMAC`),
    adds what the PE below has summed for the same output, and hands the result up (:class:`.chain.PsumChain`).
    It runs by itself: it waits when something has not come or can't leave, and results don't depend on when.

    Parameters
    ----------
    arithmetic : Arithmetic
        What words and sums are. All sums are finished ones, which are added in one cycle.
    ifmap_words, filter_words, psum_words : int
        Words of the three scratchpads.
    filter_lanes, psum_lanes : int
        Words of a beat of filters, and sums of a beat of psums.
    filter_queue : int
        Beats of filters that wait for room in the scratchpad, a power of two of at least two; 0 for none. The network
        brings the filters of the next pass while PEs have room for them: with a queue it can be further ahead.

    Members
    -------
    shape : In(stream.Signature(pass_shape_layout(ifmap_words, filter_words)))
        Passes; two are held ahead, so PEs needn't begin a pass together.
    ifmap, filters : In(stream)
        Words and beats of words; see :class:`.mac.WindowMAC`. A few ifmap words wait in a queue for room in the
        scratchpad, so the words of a next window are there in time though the network brings them one by one.
    psums, below, above, out : In(stream), In(stream), Out(stream), Out(stream)
        Beats of sums from the network, sums from below and to above, beats to the network; see
        :class:`.chain.PsumChain`.
    bottom, top, shift, maximum : In
        The PE is the first, and the last, of its chain; lowest bit of a product's window; sums are maxima. Constant
        while it works.
    idle : Out(1)
        No pass is being processed and no sum is waiting.
    events : Out(PEEvents)
        What happens in this cycle.

    Raises
    ------
    PearrayError
        If the arithmetic takes more than one cycle to add.
    """

    QUEUED = 8

    def __init__(self, arithmetic: Arithmetic, ifmap_words: int, filter_words: int, psum_words: int,
                 filter_lanes: int, psum_lanes: int, filter_queue: int = 0):
        if arithmetic.add_latency != 1:
            raise PearrayError(f"add_latency must be 1 for a row-stationary array, whose PEs sum in one register, "
                               f"not {arithmetic.add_latency}")
        word, psum = arithmetic.word, arithmetic.accumulator
        self._mac = arithmetic, ifmap_words, filter_words, filter_lanes
        self._filter_queue = filter_queue
        self._chain = arithmetic, psum_words, psum_lanes
        self._shape = pass_shape_layout(ifmap_words, filter_words)
        beats = stream.Signature(beat_layout(psum, psum_lanes))
        super().__init__({
            "shape": In(stream.Signature(self._shape)),
            "ifmap": In(stream.Signature(word)),
            "filters": In(stream.Signature(beat_layout(word, filter_lanes))),
            "psums": In(beats),
            "below": In(stream.Signature(psum)),
            "above": Out(stream.Signature(psum)),
            "out": Out(beats),
            "bottom": In(1),
            "top": In(1),
            "shift": In(arithmetic.windows()),
            "maximum": In(1),
            "idle": Out(1),
            "events": Out(PEEvents),
        })

    def elaborate(self, platform):
        """Connect the parts."""
        m = Module()

        m.submodules.mac = mac = WindowMAC(*self._mac)
        m.submodules.chain = chain = PsumChain(*self._chain)
        m.submodules.shapes = shapes = StreamFIFO(self._shape, 2)
        wiring.connect(m, wiring.flipped(self.shape), shapes.i)
        wiring.connect(m, shapes.o, mac.shape)
        m.submodules.ifmap_queue = ifmap = StreamFIFO(self.ifmap.payload.shape(), self.QUEUED)
        wiring.connect(m, wiring.flipped(self.ifmap), ifmap.i)
        wiring.connect(m, ifmap.o, mac.ifmap)
        if self._filter_queue:
            m.submodules.filter_queue = filters = StreamFIFO(self.filters.payload.shape(), self._filter_queue)
            wiring.connect(m, wiring.flipped(self.filters), filters.i)
            wiring.connect(m, filters.o, mac.filters)
        else:
            wiring.connect(m, wiring.flipped(self.filters), mac.filters)
        for name in ("psums", "below"):
            wiring.connect(m, wiring.flipped(getattr(self, name)), getattr(chain, name))
        for name in ("above", "out"):
            wiring.connect(m, getattr(chain, name), wiring.flipped(getattr(self, name)))
        wiring.connect(m, mac.sums, chain.sums)
        m.d.comb += [
            chain.reserve.eq(mac.begun),
            mac.room.eq(chain.room),
            chain.bottom.eq(self.bottom),
            chain.top.eq(self.top),
            mac.shift.eq(self.shift),
            mac.maximum.eq(self.maximum),
            chain.maximum.eq(self.maximum),
            self.idle.eq(~shapes.o.valid & mac.idle & chain.idle),
            self.events.mac.eq(mac.mac),
            self.events.gated.eq(mac.gated),
            self.events.passed.eq(self.above.valid & self.above.ready),
            self.events.ifmap_write.eq(mac.ifmap_write),
            self.events.filter_write.eq(mac.filter_write),
        ]

        return m
