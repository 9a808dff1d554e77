"""Processing element of the systolic array."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..arithmetic.arithmetic import Arithmetic
from ..blocks.unit import Unit

__all__ = ["DiagonalPEControl", "PEControl", "ProcessingElement", "pe_control"]


class PEControl(data.Struct):
    """Control bits that move right through a row of PEs, one PE a cycle.

    Each bit enters the row just when the first PE needs it, so that one register a PE is enough.
    Delays are relative to the activation that the bit belongs to, at the input of the same PE; P and A are the
    cycles that the arithmetic takes to multiply and to add.
    """

    #: 1 cycle earlier: the weight register before the next one takes the weight from the left,
    #: not from above (it moves with the weight, whenever that comes).
    left: unsigned(1)
    #: 1 cycle earlier: the next weight is the one that just passes.
    through: unsigned(1)
    #: Together: the active weight becomes the next one, for this activation and later ones.
    swap: unsigned(1)
    #: P cycles later: add the product to the PE's own sum, not to the one from above.
    output_stationary: unsigned(1)
    #: P cycles later: the product is the first of a sum (only with ``output_stationary``).
    clear: unsigned(1)
    #: P + A cycles later: the drain register takes the PE's sum, not the value from above.
    drain: unsigned(1)
    #: P + A cycles later: the drain register takes a value at all.
    move: unsigned(1)


class DiagonalPEControl(data.Struct):
    """The same, in an array whose PEs can take weights from those above on the left."""

    left: unsigned(1)
    through: unsigned(1)
    swap: unsigned(1)
    #: Together with ``swap``: the active weight becomes that of the PE above on the left, not the next one.
    diagonal: unsigned(1)
    output_stationary: unsigned(1)
    clear: unsigned(1)
    drain: unsigned(1)
    move: unsigned(1)


def pe_control(toeplitz: bool) -> type[data.Struct]:
    """Control bits of a PE, in an array with tiles of Toeplitz matrices or without."""
    return DiagonalPEControl if toeplitz else PEControl


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
    * With ``toeplitz``, a swap may instead take the active weight of the PE above on the left, which works an addition
      and a cycle ahead.
    * Weight-stationary: ``psum`` becomes the product plus the sum from above.
      Output-stationary: ``psum`` becomes the product plus the sum of the PE itself.
    * The drain register ``sum`` takes ``psum`` or the value from above.

    With P and A the cycles that the arithmetic takes to multiply and to add, an activation at the input in
    cycle t is registered in t + 1, its product in t + 1 + P, ``psum`` in t + 1 + P + A, and ``sum`` in
    t + 1 + P + 2 A. The adder holds A sums of the PE itself, which take turns, and the drain register is A deep
    and holds as many. Nothing is reset: what a reset cut short moves out ahead of what comes next, like
    everything in the array.

    Parameters
    ----------
    arithmetic : Arithmetic
        Arithmetic of the array.
    products : int
        Products that a sum can hold.
    toeplitz : bool
        Whether there are the two members that are named so.

    Members
    -------
    a_left, a : :py:`In(word)`, :py:`Out(word)`
        Activation from the left and to the right.
    control_left, control : :py:`In(PEControl)`, :py:`Out(PEControl)`
        Control bits from the left and to the right.
    weight_above, weight_left, weight : :py:`In(word)`, ..., :py:`Out(...)`
        Weights from above and from the left; weight to below and to the right.
    token_above, token_left, token : :py:`In(1)`, :py:`In(1)`, :py:`Out(1)`
        Capture token, likewise.
    active_above, active : :py:`In(word)`, :py:`Out(word)`
        With ``toeplitz``: active weight of the PE above on the left, and to the PE below on the right.
    psum_above, psum : :py:`In(psum)`, :py:`Out(psum)`
        Partial sum from above and to below.
    sum_above, sum : :py:`In(psum)`, :py:`Out(psum)`
        Drained sum from above and to below.
    """

    unit_name = "pe"

    def __init__(self, arithmetic: Arithmetic, products: int, toeplitz: bool = False):
        self._arithmetic = arithmetic
        self._toeplitz = toeplitz
        self._control = pe_control(toeplitz)
        self._word = arithmetic.word
        self._psum = arithmetic.psum(products)
        super().__init__({
            "a_left": In(self._word),
            "a": Out(self._word),
            "control_left": In(self._control),
            "control": Out(self._control),
            "weight_above": In(self._word),
            "weight_left": In(self._word),
            "weight": Out(self._word),
            "token_above": In(1),
            "token_left": In(1),
            "token": Out(1),
            "psum_above": In(self._psum),
            "psum": Out(self._psum),
            "sum_above": In(self._psum),
            "sum": Out(self._psum),
        } | ({"active_above": In(self._word), "active": Out(self._word)} if toeplitz else {}))

    def elaborate(self, platform):
        """Build the element."""
        m = Module()

        # Operands: a swap is seen together with its activation, before either is registered.
        activation = Signal(self._word, reset_less=True)
        weight_passing = Signal(self._word, reset_less=True)
        weight_next = Signal(self._word, reset_less=True)
        weight_active = Signal(self._word, reset_less=True)
        arrived = Signal(reset_less=True)
        token = Signal(reset_less=True)
        control = Signal(self._control, reset_less=True)
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
            if self._toeplitz:
                with m.If(self.control_left.diagonal):
                    m.d.sync += weight_active.eq(self.active_above)
        m.d.comb += [
            self.control.eq(control),
            self.a.eq(activation),
            self.weight.eq(weight_passing),
            self.token.eq(token),
        ]
        if self._toeplitz:
            m.d.comb += self.active.eq(weight_active)

        # Sum: the other operand of the adder is one 4-input function a bit.
        arithmetic = self._arithmetic
        product = arithmetic.multiply(m, activation, weight_active, self._psum)
        addend = Signal(self._psum.width)
        total = arithmetic.add(m, addend, product.as_unsigned(), self._psum, "total")
        m.d.comb += addend.eq(Mux(control.output_stationary, Mux(control.clear, 0, total), self.psum_above))
        m.d.comb += self.psum.eq(total)

        # Drain.
        drained = Mux(control.drain, total, self.sum_above)
        for stage in range(arithmetic.add_latency):
            register = Signal(self._psum, name=f"drained_{stage}" if stage else "drained", reset_less=True)
            with m.If(control.move):
                m.d.sync += register.eq(drained)
            drained = register
        m.d.comb += self.sum.eq(drained)

        return m
