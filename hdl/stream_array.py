# amaranth: UnusedElaboratable=no
"""The systolic array alone, with stream ports and back-pressure."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from .delay import Skew
from .stream_buffer import Credits, StreamBuffer, StreamRegister
from .systolic import SystolicArray
from .unit import add

__all__ = ["StreamArray"]


class StreamArray(Component):
    """R x C systolic array between streams.

    Weights and activations are consumed in order, and results leave in the order of the activations
    that complete them. Every stream may stall at any time.

    * An activation vector x with ``new_tile`` first takes the next tile W of R x C from ``weights``:
      R vectors, its rows, or, if the first of them has ``left`` set, C vectors, its columns.
      Each activation vector gives one result, ``x @ W``. Tiles are loaded ahead, as far as one.
    * An activation vector with ``output_stationary`` takes one vector w, marked likewise, from
      ``weights`` and adds ``outer(x, w)`` to R x C sums, which it first sets to zero if ``clear`` is
      set. After the one with ``drain``, the sums leave as R results, row R-1 first, row 0 last. The
      vectors of a sum follow one another, without others in between.

    Sums wrap around at ``psum_bits``. Throughput is one activation vector a cycle, as long as a tile
    meets at least R (C) vectors and sums have at least 2 R products; a tile takes R (C) cycles.
    ``latency`` is the time from an activation vector to its result in an idle array.

    Parameters
    ----------
    rows, cols : int
        Processing elements, at least 1 x 1.
    operand_bits, psum_bits : int
        See :class:`SystolicArray`.

    Members
    -------
    weights : In(stream.Signature({vector, left, output_stationary}))
        Weight vectors; ``vector`` has max(R, C) elements, the first R or C of which count.
    activations : In(stream.Signature({vector, new_tile, output_stationary, clear, drain}))
        Activation vectors of R elements, with their control bits.
    results : Out(stream.Signature(ArrayLayout(signed(psum_bits), cols)))
        Sums.

    Raises
    ------
    PearrayError
        If a parameter is out of range.
    """

    def __init__(self, rows: int, cols: int, operand_bits: int, psum_bits: int):
        self._array = SystolicArray(rows, cols, operand_bits, psum_bits)
        self._weight = data.StructLayout({
            "vector": data.ArrayLayout(signed(operand_bits), max(rows, cols)),
            "left": 1,
            "output_stationary": 1,
        })
        self._activation = data.StructLayout({
            "vector": data.ArrayLayout(signed(operand_bits), rows),
            "new_tile": 1,
            "output_stationary": 1,
            "clear": 1,
            "drain": 1,
        })
        self._result = data.ArrayLayout(signed(psum_bits), cols)
        super().__init__({
            "weights": In(stream.Signature(self._weight)),
            "activations": In(stream.Signature(self._activation)),
            "results": Out(stream.Signature(self._result)),
        })

    @property
    def rows(self) -> int:
        """Rows of processing elements."""
        return self._array.rows

    @property
    def cols(self) -> int:
        """Columns of processing elements."""
        return self._array.cols

    @property
    def operand_bits(self) -> int:
        """Width of an operand."""
        return self._array.operand_bits

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a weight-stationary vector to that of its result, at least."""
        return self._array.ws_latency + self._array.os_weight_lead + self.cols + 4

    def elaborate(self, platform):
        """Build buffers, control and the array."""
        m = Module()

        rows, cols, array = self.rows, self.cols, self._array
        add(m, "array", array, platform)

        # Weights: a tile enters in consecutive cycles, so it waits until all of it is here.
        sizes = max(rows, cols)
        m.submodules.weight_buffer = weights = StreamBuffer(self._weight, max(4, 2 << ceil_log2(sizes)))
        m.submodules.activation_register = activations = StreamRegister(self._activation)
        for port, target in ((self.weights, weights.i), (self.activations, activations.i)):
            m.d.comb += [
                target.payload.eq(port.payload),
                target.valid.eq(port.valid),
                port.ready.eq(target.ready),
            ]
        w, x = weights.o.p, activations.o.p

        more = Signal(range(sizes + 1))         # vectors that the tile being loaded still wants
        loaded = Signal()                       # a tile is loaded, or being loaded, and not in use
        start = Signal()
        load = Signal()
        last = Signal()
        enough = Signal()
        element = Signal()
        swap = Signal()
        m.d.comb += [
            enough.eq(weights.level >= Mux(w.left, cols, rows)),
            start.eq(weights.o.valid & ~w.output_stationary & enough & ~loaded),
            load.eq(start | (more != 0)),
            last.eq(Mux(start, Mux(w.left, cols, rows) == 1, more == 1)),
            weights.o.ready.eq(load | element),
        ]
        with m.If(start):
            m.d.sync += more.eq(Mux(w.left, cols, rows) - 1)
        with m.Elif(more != 0):
            m.d.sync += more.eq(more - 1)
        with m.If(swap):
            m.d.sync += loaded.eq(0)
        with m.Elif(start):
            m.d.sync += loaded.eq(1)

        # Activations: go when there is a tile or an element for them, and room for their results.
        # While R sums drain, nothing else may leave the array.
        in_sum = Signal()
        draining = Signal(range(max(rows, 2)))
        go = Signal()
        gives = Signal(range(rows + 1))
        depth = 1 << ceil_log2(max(rows + cols + 16, 3 * rows))
        m.submodules.credits = credits = Credits(depth, rows)
        tile_ready = Signal()
        element_ready = Signal()
        m.d.comb += [
            tile_ready.eq(~x.new_tile | (loaded | start) & ((more == 0) & ~start | last)),
            element_ready.eq(weights.o.valid & w.output_stationary & (more == 0)),
            go.eq(activations.o.valid & Mux(
                x.output_stationary,
                element_ready & (~x.drain | (draining == 0) & credits.many),
                tile_ready & (draining == 0) & credits.one)),
            activations.o.ready.eq(go),
            element.eq(go & x.output_stationary),
            swap.eq(go & ~x.output_stationary & x.new_tile),
            gives.eq(Mux(x.output_stationary, Mux(x.drain, rows, 0), 1)),
            credits.take.eq(Mux(go, gives, 0)),
        ]
        with m.If(go):
            m.d.sync += in_sum.eq(x.output_stationary & ~x.drain)
        if rows > 1:
            with m.If(element & x.drain):
                m.d.sync += draining.eq(rows - 1)
            with m.Elif(draining != 0):
                m.d.sync += draining.eq(draining - 1)

        # A weight vector goes to the array a cycle ahead of the activation vector that it meets.
        a = Signal.like(array.a)
        control = Signal.like(array.control)
        vector = Signal.like(w.vector, reset_less=True)
        m.d.sync += [
            vector.eq(w.vector),
            array.w_control.left.eq(w.left & ~w.output_stationary),
            array.w_control.capture.eq(start | element),
            # Idle cycles of a sum add nothing to it.
            a.eq(Mux(go, x.vector.as_value(), 0)),
            control.swap.eq(swap),
            control.output_stationary.eq(Mux(go, x.output_stationary, in_sum)),
            control.clear.eq(element & x.clear),
            control.drain.eq(element & x.drain),
            array.a.eq(a),
            array.control.eq(control),
        ]
        m.d.comb += [array.w_top[c].eq(vector[c]) for c in range(cols)]
        m.d.comb += [array.w_left[r].eq(vector[r]) for r in range(rows)]

        # Results: deskew, and buffer what the array can't hold back.
        deskew = Skew(array.psum_bits, cols, reverse=True)
        add(m, "deskew", deskew, platform)
        m.submodules.result_buffer = results = StreamBuffer(self._result, depth)
        due = Signal(1 + array.os_weight_lead + array.ws_latency + cols - 1)
        m.d.sync += due.eq(Cat((go & (~x.output_stationary | x.drain)) | (draining != 0), due))
        m.d.comb += [deskew.i[c].eq(array.psum[c]) for c in range(cols)]
        m.d.comb += [
            results.i.payload.eq(Cat(deskew.o[c] for c in range(cols))),
            results.i.valid.eq(due[-1]),
            self.results.payload.eq(results.o.payload),
            self.results.valid.eq(results.o.valid),
            results.o.ready.eq(self.results.ready),
            credits.give.eq(results.o.valid & results.o.ready),
        ]

        return m
