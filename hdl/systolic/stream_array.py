# amaranth: UnusedElaboratable=no
"""The systolic array alone, with stream ports and back-pressure."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from ..arithmetic.arithmetic import Arithmetic
from ..blocks.delay import Skew
from ..blocks.stream_buffer import Credits, OperandStore, StreamBuffer
from ..blocks.unit import add
from .array import SystolicArray
from .stream_pe import turn

__all__ = ["StreamArray"]


class _Going:
    """Signals that the parts of the control share."""

    def __init__(self):
        #: A weight vector goes; it is a tile's first one, a tile's last one.
        self.take_weight = Signal()
        self.start = Signal()
        self.last = Signal()
        #: Further vectors of a tile go; all of them have gone, and the tile isn't in use yet.
        self.loading = Signal()
        self.here = Signal()
        #: An activation vector goes; it takes the tile, it takes a weight vector, it gives results.
        self.go = Signal()
        self.swap = Signal()
        self.element = Signal()
        self.gives = Signal()
        #: The activation vector before was of sums that go on.
        self.in_sum = Signal()


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

    Throughput is one activation vector a cycle, as long as a tile
    meets at least R (C) vectors and sums have at least 2 R products; a tile takes R (C) cycles. An
    output-stationary vector takes as many cycles as an addition, since here one sum stays in each element at a time.
    ``latency`` is the time from an activation vector to its result in an idle array.

    Parameters
    ----------
    rows, cols : int
        Processing elements, at least 1 x 1.
    arithmetic, products : Arithmetic, int
        See :class:`SystolicArray`.

    Members
    -------
    weights : In(stream.Signature({vector, left, output_stationary}))
        Weight vectors; ``vector`` has max(R, C) elements, the first R or C of which count.
    activations : In(stream.Signature({vector, new_tile, output_stationary, clear, drain}))
        Activation vectors of R elements, with their control bits.
    results : Out(stream.Signature(ArrayLayout(psum, cols)))
        Sums.

    Raises
    ------
    PearrayError
        If a parameter is out of range.
    """

    def __init__(self, rows: int, cols: int, arithmetic: Arithmetic, products: int):
        self._array = SystolicArray(rows, cols, arithmetic, products)
        self._weight = data.StructLayout({
            "vector": data.ArrayLayout(arithmetic.word, max(rows, cols)),
            "left": 1,
            "output_stationary": 1,
        })
        self._activation = data.StructLayout({
            "vector": data.ArrayLayout(arithmetic.word, rows),
            "new_tile": 1,
            "output_stationary": 1,
            "clear": 1,
            "drain": 1,
        })
        self._result = data.ArrayLayout(self._array.psum_shape, cols)
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
    def latency(self) -> int:
        """Cycles from the transfer of a weight-stationary vector to that of its result, at least."""
        return self._array.ws_latency + self.cols + 9

    def elaborate(self, platform):
        """Build buffers, control and the array."""
        m = Module()

        rows, cols, array = self.rows, self.cols, self._array
        add(m, "array", array, platform)

        # A tile enters the array in consecutive cycles, so it waits until all of it is here.
        sizes = (rows, cols)
        weights, weight_store = self._queue(m, "weight", self.weights, max(4, 2 << ceil_log2(max(sizes))), sizes)
        activations, activation_store = self._queue(m, "activation", self.activations, 4, ())
        depth = 1 << ceil_log2(max(array.ws_latency + cols + 12, 3 * rows))
        going = _Going()
        self._load_tiles(m, weights, going)
        m.submodules.credits = credits = Credits(depth, rows)
        leaves = self._decide(m, weights.o, activations.o, credits, going)
        control, w_control = self._control(m, weights.o.p, activations.o.p, going)
        self._feed(m, weight_store, activation_store, control, w_control, going)
        self._collect(m, platform, depth, going.gives | leaves, credits)

        return m

    def _load_tiles(self, m, weights, going):
        """Let the weights go: one tile ahead of the activations, or with them, one vector for each element."""
        rows, cols, w = self.rows, self.cols, weights.o.p
        more = Signal(range(max(rows, cols) + 1))   # vectors that the tile being loaded still wants
        final = Signal()                            # one
        owed = Signal()                             # a tile has been begun, and isn't in use yet
        size = Signal.like(more)
        m.d.comb += [
            size.eq(Mux(w.left, cols, rows)),
            going.start.eq(weights.o.valid & ~w.output_stationary & ~owed
                           & Mux(w.left, weights.enough[1], weights.enough[0])),
            going.last.eq(final | going.start & (size == 1)),
            going.take_weight.eq(going.start | going.loading | going.element),
            weights.o.ready.eq(going.take_weight),
        ]
        with m.If(going.start):
            m.d.sync += [more.eq(size - 1), going.loading.eq(size != 1), final.eq(size == 2)]
        with m.Elif(going.loading):
            m.d.sync += [more.eq(more - 1), going.loading.eq(~final), final.eq(more == 2)]
        m.d.sync += [
            owed.eq((owed | going.start) & ~going.swap),
            going.here.eq((going.here | going.last) & ~going.swap),
        ]

    def _decide(self, m, weights, activations, credits, going):
        """Let an activation vector go when there are weights for it, and room for its results.

        Return whether a row of sums leaves in this cycle. While R sums drain, nothing else may leave the array.
        """
        rows, array, x = self.rows, self._array, activations.p
        calm = Signal(init=1)
        sums = array.os_sums
        may_start = weights.valid & weights.p.output_stationary & ~going.loading
        leaves = ~calm
        if sums > 1:
            ours = turn(m, sums)
            may_start &= ours
            leaves &= ours
        m.d.comb += [
            going.go.eq(activations.valid & Mux(
                x.output_stationary,
                may_start & (~x.drain | calm & credits.many),
                (~x.new_tile | going.here | going.last) & calm & credits.one)),
            activations.ready.eq(going.go),
            going.element.eq(going.go & x.output_stationary),
            going.swap.eq(going.go & ~x.output_stationary & x.new_tile),
            going.gives.eq(going.go & (~x.output_stationary | x.drain)),
            credits.take.eq(Mux(going.gives, Mux(x.output_stationary, rows, 1), 0)),
        ]
        with m.If(going.go):
            m.d.sync += going.in_sum.eq(x.output_stationary & ~x.drain)
        if array.drain_interval > 1:
            draining = Signal(range(array.drain_interval))
            with m.If(going.element & x.drain):
                m.d.sync += [draining.eq(array.drain_interval - 1), calm.eq(0)]
            with m.Elif(~calm):
                m.d.sync += [draining.eq(draining - 1), calm.eq(draining == 1)]
        return leaves

    def _control(self, m, w, x, going):
        """Return what the array is to do with the activation vector and the weight vector that go."""
        array = self._array
        control = Signal.like(array.control)
        w_control = Signal.like(array.w_control)
        m.d.comb += [
            w_control.left.eq(w.left & ~w.output_stationary),
            w_control.capture.eq(going.start | going.element),
            control.swap.eq(going.swap),
            control.output_stationary.eq(Mux(going.go, x.output_stationary, going.in_sum)),
            control.clear.eq(going.element & x.clear),
            control.drain.eq(going.element & x.drain),
        ]
        return control, w_control

    def _feed(self, m, weight_store, activation_store, control, w_control, going):
        """Give the array both vectors, which follow the decision: the weights a cycle ahead of the activations."""
        array = self._array
        gone = Signal(2)
        a = Signal.like(array.a)
        vector = Signal.like(weight_store.o, reset_less=True)
        m.d.sync += [
            weight_store.pop.eq(going.take_weight),
            activation_store.pop.eq(going.go),
            gone.eq(Cat(going.go, gone)),
            vector.eq(weight_store.o),
            # Idle cycles of a sum add nothing to it.
            a.eq(Mux(gone[-1], activation_store.o.as_value(), 0)),
            array.a.eq(a),
        ]
        for name, value, target, cycles in (("w_control", w_control, array.w_control, 3),
                                            ("control", control, array.control, 4)):
            for stage in range(cycles):
                following = Signal.like(value, name=f"{name}_{stage}") if stage < cycles - 1 else target
                m.d.sync += following.eq(value)
                value = following
        m.d.comb += [array.w_top[c].eq(vector[c]) for c in range(self.cols)]
        m.d.comb += [array.w_left[r].eq(vector[r]) for r in range(self.rows)]

    def _collect(self, m, platform, depth, given, credits):
        """Deskew results, and buffer what the array can't hold back."""
        cols, array = self.cols, self._array
        deskew = Skew(array.psum_shape.width, cols, reverse=True)
        add(m, "deskew", deskew, platform)
        m.submodules.result_buffer = results = StreamBuffer(self._result, depth)
        due = Signal(4 + array.ws_latency + cols - 1)
        m.d.sync += due.eq(Cat(given, due))
        m.d.comb += [deskew.i[c].eq(array.psum[c]) for c in range(cols)]
        m.d.comb += [
            results.i.payload.eq(Cat(deskew.o[c] for c in range(cols))),
            results.i.valid.eq(due[-1]),
            self.results.payload.eq(results.o.payload),
            self.results.valid.eq(results.o.valid),
            results.o.ready.eq(self.results.ready),
            credits.give.eq(results.o.valid & results.o.ready),
        ]

    def _queue(self, m, name, port, depth, bursts):
        """Return the buffer of a stream's control bits, and the store of its vectors."""
        members = dict(port.payload.shape())
        vector = members.pop("vector").shape
        control = data.StructLayout({member: field.shape for member, field in members.items()})
        m.submodules[f"{name}_control"] = buffer = StreamBuffer(control, depth, bursts)
        m.submodules[f"{name}_vectors"] = store = OperandStore(vector, depth)
        m.d.comb += [
            buffer.i.valid.eq(port.valid),
            port.ready.eq(buffer.i.ready),
            store.put.eq(port.valid & buffer.i.ready),
            store.i.eq(port.p.vector),
        ]
        m.d.comb += [buffer.i.p[member].eq(port.p[member]) for member in members]
        return buffer, store
