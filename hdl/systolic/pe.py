"""Processing element of the systolic array."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..blocks.unit import Unit

__all__ = ["PEControl", "ProcessingElement"]


class PEControl(data.Struct):
    """Control bits that move right through a row of PEs, one PE a cycle.

    Each bit enters the row just when the first PE needs it, so that one register a PE is enough.
    Delays are relative to the activation that the bit belongs to, at the input of the same PE.
    """

    #: 1 cycle earlier: the weight register before the next one takes the weight from the left,
    #: not from above (it moves with the weight, whenever that comes).
    left: unsigned(1)
    #: 1 cycle earlier: the next weight is the one that just passes.
    through: unsigned(1)
    #: Together: the active weight becomes the next one, for this activation and later ones.
    swap: unsigned(1)
    #: 1 cycle later: add the product to the PE's own sum, not to the one from above.
    output_stationary: unsigned(1)
    #: 1 cycle later: the product is the first of a sum (only with ``output_stationary``).
    clear: unsigned(1)
    #: 2 cycles later: the drain register takes the PE's sum, not the value from above.
    drain: unsigned(1)
    #: 2 cycles later: the drain register takes a value at all.
    move: unsigned(1)


class ProcessingElement(Unit):
    """Multiply-accumulate element for weight- and output-stationary dataflow.

    The element is part of a lock-step array: it provides no flow control, takes an operand of each
    kind every cycle, and never stalls. Idle operands are just not counted by whoever reads the
    results.

    * An activation moves right one PE a cycle. Its product with the active weight is registered,
      so the multiplier stands between registers.
    * A weight moves down and right one PE a cycle; the PE takes the one from above or the one from
      the left. A capture token moves at half that speed, and where it stands the passing weight
      becomes the next weight.
    * Weight-stationary: ``psum`` becomes the product plus the sum from above.
      Output-stationary: ``psum`` becomes the product plus the sum of the PE itself.
    * The drain register ``sum`` takes ``psum`` or the value from above.

    An activation at the input in cycle t is registered in t + 1, its product in t + 2, ``psum`` in
    t + 3, and ``sum`` in t + 4. Nothing is reset: what a reset cut short moves out ahead of what
    comes next, like everything in the array.

    Parameters
    ----------
    operand_bits : int
        Width of a signed activation or weight.
    psum_bits : int
        Width of a signed sum; additions wrap around.

    Members
    -------
    a_left, a : :py:`In(signed(operand_bits))`, :py:`Out(signed(operand_bits))`
        Activation from the left and to the right.
    control_left, control : :py:`In(PEControl)`, :py:`Out(PEControl)`
        Control bits from the left and to the right.
    weight_above, weight_left, weight : :py:`In(signed(operand_bits))`, ..., :py:`Out(...)`
        Weights from above and from the left; weight to below and to the right.
    token_above, token_left, token : :py:`In(1)`, :py:`In(1)`, :py:`Out(1)`
        Capture token, likewise.
    psum_above, psum : :py:`In(signed(psum_bits))`, :py:`Out(signed(psum_bits))`
        Partial sum from above and to below.
    sum_above, sum : :py:`In(signed(psum_bits))`, :py:`Out(signed(psum_bits))`
        Drained sum from above and to below.
    """

    unit_name = "pe"

    def __init__(self, operand_bits: int, psum_bits: int):
        self._operand = signed(operand_bits)
        self._psum = signed(psum_bits)
        super().__init__({
            "a_left": In(self._operand),
            "a": Out(self._operand),
            "control_left": In(PEControl),
            "control": Out(PEControl),
            "weight_above": In(self._operand),
            "weight_left": In(self._operand),
            "weight": Out(self._operand),
            "token_above": In(1),
            "token_left": In(1),
            "token": Out(1),
            "psum_above": In(self._psum),
            "psum": Out(self._psum),
            "sum_above": In(self._psum),
            "sum": Out(self._psum),
        })

    def elaborate(self, platform):
        """Build the element."""
        m = Module()

        # Operands: a swap is seen together with its activation, before either is registered.
        activation = Signal(self._operand, reset_less=True)
        weight_passing = Signal(self._operand, reset_less=True)
        weight_next = Signal(self._operand, reset_less=True)
        weight_active = Signal(self._operand, reset_less=True)
        arrived = Signal(reset_less=True)
        token = Signal(reset_less=True)
        control = Signal(PEControl, reset_less=True)
        m.d.sync += [
            control.eq(self.control_left),
            activation.eq(self.a_left),
            weight_passing.eq(Mux(self.control_left.left, self.weight_left, self.weight_above)),
            arrived.eq(Mux(self.control_left.left, self.token_left, self.token_above)),
            token.eq(arrived),
        ]
        with m.If(arrived | self.control_left.through):
            m.d.sync += weight_next.eq(weight_passing)
        with m.If(self.control_left.swap):
            m.d.sync += weight_active.eq(weight_next)
        m.d.comb += [
            self.control.eq(control),
            self.a.eq(activation),
            self.weight.eq(weight_passing),
            self.token.eq(token),
        ]

        # Sum: the other operand of the adder is one 4-input function a bit. The product's register is
        # as wide as a sum (synthesis merges the copies of its sign), which is less work to simulate
        # than to extend the sign of both operands every cycle.
        product = Signal(self._psum, reset_less=True)
        total = Signal(self._psum, reset_less=True)
        addend = Signal(self._psum.width)
        m.d.comb += addend.eq(Mux(control.output_stationary, Mux(control.clear, 0, total), self.psum_above))
        m.d.sync += [
            product.eq(activation * weight_active),
            total.eq(addend + product.as_unsigned()),
        ]
        m.d.comb += self.psum.eq(total)

        # Drain.
        drained = Signal(self._psum, reset_less=True)
        with m.If(control.move):
            m.d.sync += drained.eq(Mux(control.drain, total, self.sum_above))
        m.d.comb += self.sum.eq(drained)

        return m
