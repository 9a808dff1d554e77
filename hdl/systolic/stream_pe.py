"""One processing element alone, with stream ports and back-pressure."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from ..arithmetic.arithmetic import Arithmetic
from ..blocks.delay import Delay
from ..blocks.stream_buffer import Credits, StreamBuffer, StreamRegister
from ..blocks.unit import add
from .pe import ProcessingElement

__all__ = ["StreamPE", "turn"]


def turn(m: Module, turns: int) -> Value:
    """Whether it is the turn of the one sum, of those that fit into an adder, that stays in an element.

    It is in every ``turns``-th cycle.
    """
    count = Signal(range(turns), name="turn")
    m.d.sync += count.eq(Mux(count == turns - 1, 0, count + 1))
    return count == 0


class StreamPE(Component):
    """Processing element between streams.

    Weights and items are consumed in order; every stream may stall at any time.

    * Weight-stationary: an item with ``new_weight`` takes a weight. Each item gives one result,
      ``psum + a * weight``.
    * Output-stationary: each item takes a weight, and adds ``a * weight`` to the element's sum, which
      it first sets to zero if ``clear`` is set. One with ``drain`` gives the sum as result. The items
      of a sum follow one another, without others in between.

    Throughput is one item a cycle; an output-stationary one takes as many cycles as an addition, since here one sum
    stays in the element at a time. Latency is :attr:`latency` cycles.

    Parameters
    ----------
    arithmetic, products : Arithmetic, int
        See :class:`ProcessingElement`.

    Members
    -------
    weights : In(stream.Signature(word))
        Weights.
    items : In(stream.Signature({a, psum, new_weight, output_stationary, clear, drain}))
        Activations with the partial sums that they are added to, and their control bits.
    results : Out(stream.Signature(psum))
        Sums.
    """

    def __init__(self, arithmetic: Arithmetic, products: int):
        self._arithmetic = arithmetic
        self._products = products
        self._psum = arithmetic.psum(products)
        self._item = data.StructLayout({
            "a": arithmetic.word,
            "psum": self._psum,
            "new_weight": 1,
            "output_stationary": 1,
            "clear": 1,
            "drain": 1,
        })
        super().__init__({
            "weights": In(stream.Signature(arithmetic.word)),
            "items": In(stream.Signature(self._item)),
            "results": Out(stream.Signature(self._psum)),
        })

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a weight-stationary item to that of its result, at least."""
        return self._due + 4

    @property
    def _due(self) -> int:
        """Cycles from the decision that an item goes to its sum: three to the element, and those in it."""
        return 4 + self._arithmetic.product_latency + 2 * self._arithmetic.add_latency

    def elaborate(self, platform):
        """Build the element, its control and its buffers."""
        m = Module()

        pe = ProcessingElement(self._arithmetic, self._products)
        add(m, "pe", pe, platform)
        depth = 1 << ceil_log2(self.latency + 4)
        m.submodules.weight_register = weights = StreamRegister(self._arithmetic.word)
        m.submodules.item_register = items = StreamRegister(self._item)
        m.submodules.result_buffer = results = StreamBuffer(self._psum, depth)
        m.submodules.credits = credits = Credits(depth, 1)
        go, takes, gives = self._decide(m, weights, items, credits)
        self._feed(m, platform, pe, weights.o.payload, items.o.p, go, takes)

        due = Signal(self._due)
        m.d.sync += due.eq(Cat(go & gives, due))
        m.d.comb += [
            results.i.payload.eq(pe.sum),
            results.i.valid.eq(due[-1]),
            self.results.payload.eq(results.o.payload),
            self.results.valid.eq(results.o.valid),
            results.o.ready.eq(self.results.ready),
            credits.give.eq(results.o.valid & results.o.ready),
        ]

        return m

    def _decide(self, m, weights, items, credits):
        """Let an item go when there is a weight for it, if it takes one, and room for its result.

        Return whether one goes, and whether the next one takes a weight and gives a result.
        """
        x = items.o.p
        takes = Signal()
        gives = Signal()
        go = Signal()
        may_go = items.o.valid & (weights.o.valid | ~takes)
        if self._arithmetic.add_latency > 1:
            may_go &= ~x.output_stationary | turn(m, self._arithmetic.add_latency)
        m.d.comb += [
            weights.i.payload.eq(self.weights.payload),
            weights.i.valid.eq(self.weights.valid),
            self.weights.ready.eq(weights.i.ready),
            items.i.payload.eq(self.items.payload),
            items.i.valid.eq(self.items.valid),
            self.items.ready.eq(items.i.ready),
            takes.eq(x.new_weight | x.output_stationary),
            gives.eq(~x.output_stationary | x.drain),
            go.eq(may_go & (credits.one | ~gives)),
            items.o.ready.eq(go),
            weights.o.ready.eq(go & takes),
            credits.take.eq(go & gives),
        ]
        return go, takes, gives

    def _feed(self, m, platform, pe, weight, x, go, takes):
        """Give the element what belongs to an item, in the order in which it is needed; see PEControl.

        An idle cycle adds 0 to the element's own sum.
        """
        def late(name, value, cycles):
            """Delay a value."""
            line = Delay(len(value), cycles)
            add(m, name, line, platform)
            m.d.comb += line.i.eq(value)
            return line.o

        multiplied = 3 + self._arithmetic.product_latency
        own = Signal()
        taken = go & takes
        m.d.comb += own.eq(~go | x.output_stationary)
        m.d.comb += [
            pe.weight_above.eq(late("weight_delay", weight, 1)),
            pe.control_left.through.eq(late("through_delay", taken, 2)),
            pe.control_left.swap.eq(late("swap_delay", taken, 3)),
            pe.a_left.eq(late("a_delay", Mux(go, x.a, 0), 3)),
            pe.control_left.output_stationary.eq(late("own_delay", own, multiplied)),
            pe.control_left.clear.eq(late("clear_delay", go & x.clear, multiplied)),
            pe.psum_above.eq(late("psum_delay", x.psum, 1 + multiplied)),
            pe.control_left.drain.eq(1),
            pe.control_left.move.eq(1),
        ]
