"""Sums of windows: the ifmap and filter scratchpads of a PE, its multiplier and its sequence."""

from itertools import pairwise

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.arithmetic import Arithmetic
from .beats import Unpacker, beat_layout
from .scratchpad import RingScratchpad

__all__ = ["WindowMAC", "pass_shape_layout", "window_sum_layout"]


def pass_shape_layout(ifmap_words: int, filter_words: int) -> data.StructLayout:
    """Layout of the shape of a processing pass, as a PE sees it, for the words of its scratchpads.

    A window is ``q S`` words: S columns of q channels each, channels innermost. ``window`` are its words less one;
    ``kept`` those that it shares with the window before it in the row, ``moved`` those that it doesn't share with
    the one behind it, q times the stride. ``filters``, ``windows`` and ``rows`` are the filters, the windows of an
    ifmap row and the ifmap rows, each less one. ``fresh`` says that sums begin at zero: a PE at the bottom of a
    chain takes no psums from the network.
    """
    window = range(ifmap_words + 1)
    return data.StructLayout({"window": window, "kept": window, "moved": window, "filters": range(filter_words),
                              "windows": 12, "rows": 8, "fresh": 1})


def window_sum_layout(psum) -> data.StructLayout:
    """Layout of a finished sum: its value, ``fresh`` of its pass, and whether it is its window's last one."""
    return data.StructLayout({"sum": psum, "fresh": 1, "end": 1})


class WindowMAC(wiring.Component):
    """Sums the products of each window with each filter.

    Both scratchpads are rings, so the words of the next window and of the next pass arrive while the present
    ones are used, and a pass follows another without a cycle between them. A product begins every cycle unless
    its words have not come or there is no room for its sum.

    Sums are added in a register, window by window for each filter. (The chip's PE goes through the filters for
    each ifmap word, which reads and writes its psum scratchpad for each product; this order does neither.)

    An ifmap word that is zero reads no filter word and multiplies nothing. With ``maximum`` it does, since a product
    of zero counts there: the sum is the greatest of the products whose filter word is not zero, or the least value
    of a psum if there is none.

    Parameters
    ----------
    arithmetic : Arithmetic
        What words and sums are. A sum takes :meth:`~.Arithmetic.term` of each product, and is finished when it leaves.
    ifmap_words, filter_words : int
        Words of the scratchpads.
    filter_lanes : int
        Words of a beat of filters.

    Members
    -------
    shape : In(stream.Signature(pass_shape_layout(ifmap_words, filter_words)))
        Passes, each taken when the one before has begun its last product.
    ifmap : In(stream.Signature(word))
        Ifmap words: for each row, the first window, then those that each next window adds.
    filters : In(stream.Signature(beat_layout(word, filter_lanes)))
        Filter words of a pass: for each filter, a window of them.
    shift, maximum : In(range), In(1)
        Lowest bit of a product's window; whether sums are maxima. Constant while it works.
    room : In(1)
        There is room for another sum.
    begun : Out(1)
        The last product of a sum begins; the sum takes its room from now on.
    sums : Out(stream.Signature(window_sum_layout(psum), always_ready=True))
        Finished sums.
    idle : Out(1)
        No pass is being processed.
    mac, gated, ifmap_write, filter_write : Out(1)
        A product begins, or is skipped, since its ifmap word is zero; a word enters a scratchpad.
    """

    def __init__(self, arithmetic: Arithmetic, ifmap_words: int, filter_words: int, filter_lanes: int):
        word, psum = arithmetic.word, arithmetic.accumulator
        self._arithmetic = arithmetic
        self._word = word
        self._psum = psum
        self._ifmap_words = ifmap_words
        self._filter_words = filter_words
        self._lanes = filter_lanes
        super().__init__({
            "shape": In(stream.Signature(pass_shape_layout(ifmap_words, filter_words))),
            "ifmap": In(stream.Signature(word)),
            "filters": In(stream.Signature(beat_layout(word, filter_lanes))),
            "shift": In(arithmetic.windows()),
            "maximum": In(1),
            "room": In(1),
            "begun": Out(1),
            "sums": Out(stream.Signature(window_sum_layout(psum), always_ready=True)),
            "idle": Out(1),
            "mac": Out(1),
            "gated": Out(1),
            "ifmap_write": Out(1),
            "filter_write": Out(1),
        })

    @staticmethod
    def latency_of(arithmetic: Arithmetic) -> int:
        """Return the cycles from the last product of a sum, when it begins, to the sum."""
        return arithmetic.product_latency + 3

    def elaborate(self, platform):
        """Build the scratchpads, the sequence and the multiply-accumulate pipeline."""
        m = Module()

        # Whether a word is zero is found before it is kept, so a read decides at once.
        ifmap = RingScratchpad(data.StructLayout({"word": self._word, "zero": 1}), self._ifmap_words)
        filters = RingScratchpad(self._word, self._filter_words, registered=True)
        unpacker = Unpacker(self._word, self._lanes)
        m.submodules.ifmap_scratchpad = ifmap
        m.submodules.filter_scratchpad = filters
        m.submodules.filter_unpacker = unpacker
        wiring.connect(m, wiring.flipped(self.filters), unpacker.i)
        wiring.connect(m, unpacker.o, filters.i)
        m.d.comb += [
            ifmap.i.valid.eq(self.ifmap.valid),
            ifmap.i.payload.word.eq(self.ifmap.payload),
            ifmap.i.payload.zero.eq((self.ifmap.payload == 0) & ~self.maximum),
            self.ifmap.ready.eq(ifmap.i.ready),
            self.ifmap_write.eq(ifmap.i.valid & ifmap.i.ready),
            self.filter_write.eq(filters.i.valid & filters.i.ready),
        ]

        step = self._sequence(m, ifmap, filters)
        self._pipeline(m, step, ifmap, filters)

        return m

    def _sequence(self, m, ifmap, filters):
        """Count through words, filters, windows and rows; return what the pipeline must know of a product."""
        shape = Signal.like(self.shape.payload)
        working = Signal()
        word = Signal.like(shape.window)
        filter = Signal.like(shape.filters)
        window = Signal.like(shape.windows)
        row = Signal.like(shape.rows)
        last_word = Signal()
        last_filter = Signal()
        last_window = Signal()
        last_row = Signal()
        new_word = Signal()
        new_filter = Signal()
        step = Signal()
        m.d.comb += [
            last_word.eq(word == shape.window),
            last_filter.eq(filter == shape.filters),
            last_window.eq(window == shape.windows),
            last_row.eq(row == shape.rows),
            new_word.eq((filter == 0) & ((window == 0) | (word >= shape.kept))),
            new_filter.eq((window == 0) & (row == 0)),
            step.eq(working & (ifmap.some | ~new_word) & (filters.some | ~new_filter) & (self.room | ~last_word)),
            self.shape.ready.eq(~working | step & last_word & last_filter & last_window & last_row),
            self.begun.eq(step & last_word),
            self.idle.eq(~working),
            self.mac.eq(step & ~ifmap.word.zero),
            self.gated.eq(step & ifmap.word.zero),
            ifmap.read.eq(step),
            ifmap.new.eq(new_word),
            ifmap.pop.eq(last_filter & (last_window | (word < shape.moved))),
            ifmap.rewind.eq(last_word),
            filters.read.eq(step),
            filters.enable.eq(~ifmap.word.zero),
            filters.new.eq(new_filter),
            filters.pop.eq(last_window & last_row),
            filters.rewind.eq(last_word & last_filter),
        ]
        with m.If(step):
            m.d.sync += word.eq(Mux(last_word, 0, word + 1))
            with m.If(last_word):
                m.d.sync += filter.eq(Mux(last_filter, 0, filter + 1))
                with m.If(last_filter):
                    m.d.sync += window.eq(Mux(last_window, 0, window + 1))
                    with m.If(last_window):
                        m.d.sync += row.eq(Mux(last_row, 0, row + 1))
        with m.If(self.shape.ready):
            m.d.sync += [working.eq(self.shape.valid), shape.eq(self.shape.payload)]

        return {"valid": step, "gated": ifmap.word.zero, "first": word == 0, "last": last_word,
                "fresh": shape.fresh, "end": last_word & last_filter}

    def _pipeline(self, m, step, ifmap, filters):
        """Read in a first cycle, register operands in a second, multiply in the next, and add in the last."""
        arithmetic = self._arithmetic
        layout = data.StructLayout(dict.fromkeys(step, 1))
        stages = [Signal(layout, name=f"stage_{number}") for number in range(2 + arithmetic.product_latency)]
        m.d.sync += [stages[0][name].eq(value) for name, value in step.items()]
        m.d.sync += [later.eq(earlier) for earlier, later in pairwise(stages)]

        read = Signal(self._word, reset_less=True)
        a = Signal(self._word, reset_less=True)
        w = Signal(self._word, reset_less=True)
        total = Signal(self._psum, reset_less=True)
        part = Signal(self._psum)
        base = Signal(self._psum)
        with m.If(self.mac):
            m.d.sync += read.eq(ifmap.word.word)
        with m.If(stages[0].valid & ~stages[0].gated):
            m.d.sync += [a.eq(read), w.eq(filters.word)]
        product = arithmetic.multiply(m, a, w, arithmetic.product, enable=stages[1].valid & ~stages[1].gated)
        # A product with a filter word of zero is left out too, which changes a maximum only.
        m.d.sync += stages[2].gated.eq(stages[1].gated | (w == 0))
        last = stages[-1]
        m.d.comb += [
            part.eq(arithmetic.term(product, self.shift)),
            base.eq(Mux(last.first, arithmetic.neutral(self.maximum), total)),
        ]
        result = arithmetic.combine(m, base, part, last.gated, self.maximum)
        with m.If(last.valid):
            m.d.sync += total.eq(result)
        m.d.sync += [
            self.sums.valid.eq(last.valid & last.last),
            self.sums.payload.sum.eq(result),
            self.sums.payload.fresh.eq(last.fresh),
            self.sums.payload.end.eq(last.end),
        ]
