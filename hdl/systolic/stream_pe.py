"""One processing element alone, with stream ports and back-pressure."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from ..blocks.delay import Delay
from ..blocks.stream_buffer import Credits, StreamBuffer, StreamRegister
from ..blocks.unit import add
from .pe import ProcessingElement

__all__ = ["StreamPE"]


class StreamPE(Component):
    """Processing element between streams.

    Weights and items are consumed in order; every stream may stall at any time.

    * Weight-stationary: an item with ``new_weight`` takes a weight. Each item gives one result,
      ``psum + a * weight``.
    * Output-stationary: each item takes a weight, and adds ``a * weight`` to the element's sum, which
      it first sets to zero if ``clear`` is set. One with ``drain`` gives the sum as result. The items
      of a sum follow one another, without others in between.

    Sums wrap around. Throughput is one item a cycle. Latency is :attr:`LATENCY` cycles.

    Parameters
    ----------
    operand_bits, psum_bits : int
        See :class:`ProcessingElement`.

    Members
    -------
    weights : In(stream.Signature(signed(operand_bits)))
        Weights.
    items : In(stream.Signature({a, psum, new_weight, output_stationary, clear, drain}))
        Activations with the partial sums that they are added to, and their control bits.
    results : Out(stream.Signature(signed(psum_bits)))
        Sums.
    """

    #: Cycles from the transfer of an item to that of its result, at least.
    LATENCY = 11

    def __init__(self, operand_bits: int, psum_bits: int):
        self._operand_bits = operand_bits
        self._psum_bits = psum_bits
        self._item = data.StructLayout({
            "a": signed(operand_bits),
            "psum": signed(psum_bits),
            "new_weight": 1,
            "output_stationary": 1,
            "clear": 1,
            "drain": 1,
        })
        super().__init__({
            "weights": In(stream.Signature(signed(operand_bits))),
            "items": In(stream.Signature(self._item)),
            "results": Out(stream.Signature(signed(psum_bits))),
        })

    def elaborate(self, platform):
        """Build the element, its control and its buffers."""
        m = Module()

        pe = ProcessingElement(self._operand_bits, self._psum_bits)
        add(m, "pe", pe, platform)
        m.submodules.weight_register = weights = StreamRegister(signed(self._operand_bits))
        m.submodules.item_register = items = StreamRegister(self._item)
        m.submodules.result_buffer = results = StreamBuffer(signed(self._psum_bits), 16)
        m.submodules.credits = credits = Credits(16, 1)
        x = items.o.p

        # An item goes when there is a weight for it, if it takes one, and room for its result.
        takes = Signal()
        gives = Signal()
        go = Signal()
        m.d.comb += [
            weights.i.payload.eq(self.weights.payload),
            weights.i.valid.eq(self.weights.valid),
            self.weights.ready.eq(weights.i.ready),
            items.i.payload.eq(self.items.payload),
            items.i.valid.eq(self.items.valid),
            self.items.ready.eq(items.i.ready),
            takes.eq(x.new_weight | x.output_stationary),
            gives.eq(~x.output_stationary | x.drain),
            go.eq(items.o.valid & (weights.o.valid | ~takes) & (credits.one | ~gives)),
            items.o.ready.eq(go),
            weights.o.ready.eq(go & takes),
            credits.take.eq(go & gives),
        ]

        # What belongs to an item reaches the element in the order in which the element needs it; see
        # PEControl. An idle cycle adds 0 to the element's own sum.
        def late(name, value, cycles):
            """Delay a value."""
            line = Delay(len(value), cycles)
            add(m, name, line, platform)
            m.d.comb += line.i.eq(value)
            return line.o

        own = Signal()
        taken = go & takes
        m.d.comb += own.eq(~go | x.output_stationary)
        m.d.comb += [
            pe.weight_above.eq(late("weight_delay", weights.o.payload, 1)),
            pe.control_left.through.eq(late("through_delay", taken, 2)),
            pe.control_left.swap.eq(late("swap_delay", taken, 3)),
            pe.a_left.eq(late("a_delay", Mux(go, x.a, 0), 3)),
            pe.control_left.output_stationary.eq(late("own_delay", own, 4)),
            pe.control_left.clear.eq(late("clear_delay", go & x.clear, 4)),
            pe.psum_above.eq(late("psum_delay", x.psum, 5)),
            pe.control_left.drain.eq(1),
            pe.control_left.move.eq(1),
        ]

        due = Signal(7)
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
