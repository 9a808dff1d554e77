"""Processing element of the systolic array, and a row of them."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from .unit import Unit, add

__all__ = ["PEControl", "PERow", "ProcessingElement"]


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
    t + 3, and ``sum`` in t + 4. Control bits and tokens reset to 0; operands and sums don't.

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
        a = Signal(self._operand, reset_less=True)
        weight = Signal(self._operand, reset_less=True)
        weight_next = Signal(self._operand, reset_less=True)
        weight_active = Signal(self._operand, reset_less=True)
        arrived = Signal()
        m.d.sync += [
            self.control.eq(self.control_left),
            a.eq(self.a_left),
            weight.eq(Mux(self.control_left.left, self.weight_left, self.weight_above)),
            arrived.eq(Mux(self.control_left.left, self.token_left, self.token_above)),
            self.token.eq(arrived),
        ]
        with m.If(arrived | self.control_left.through):
            m.d.sync += weight_next.eq(weight)
        with m.If(self.control_left.swap):
            m.d.sync += weight_active.eq(weight_next)
        m.d.comb += [self.a.eq(a), self.weight.eq(weight)]

        # Sum: the other operand of the adder is one 4-input function a bit.
        product = Signal(signed(2 * self._operand.width), reset_less=True)
        psum = Signal(self._psum, reset_less=True)
        addend = Signal(self._psum)
        m.d.comb += [
            addend.eq(Mux(self.control.output_stationary, Mux(self.control.clear, 0, psum), self.psum_above)),
            self.psum.eq(psum),
        ]
        m.d.sync += [
            product.eq(a * weight_active),
            psum.eq(addend + product),
        ]

        # Drain.
        drained = Signal(self._psum, reset_less=True)
        with m.If(self.control.move):
            m.d.sync += drained.eq(Mux(self.control.drain, psum, self.sum_above))
        m.d.comb += self.sum.eq(drained)

        return m


class PERow(Unit):
    """Row of processing elements, wired side by side.

    Element c of what passes vertically is bits ``c * width ... (c + 1) * width - 1`` of a plain
    vector; a structured one would cost a Verilog wire an element. Timing is that of
    :class:`ProcessingElement`; column c works c cycles after column 0.

    Parameters
    ----------
    cols : int
        Processing elements.
    operand_bits, psum_bits : int
        See :class:`ProcessingElement`.

    Members
    -------
    a_left, control_left, weight_left, token_left : In
        What enters the first element from the left.
    weight_above, token_above, psum_above, sum_above : In
        What enters from above, ``cols`` elements each.
    weight, token, psum, sum : Out
        What leaves below, ``cols`` elements each.
    """

    unit_name = "pe_row"

    def __init__(self, cols: int, operand_bits: int, psum_bits: int):
        self._cols = cols
        self._operand_bits = operand_bits
        self._psum_bits = psum_bits
        super().__init__({
            "a_left": In(signed(operand_bits)),
            "control_left": In(PEControl),
            "weight_left": In(signed(operand_bits)),
            "token_left": In(1),
            "weight_above": In(cols * operand_bits),
            "token_above": In(cols),
            "psum_above": In(cols * psum_bits),
            "sum_above": In(cols * psum_bits),
            "weight": Out(cols * operand_bits),
            "token": Out(cols),
            "psum": Out(cols * psum_bits),
            "sum": Out(cols * psum_bits),
        })

    def elaborate(self, platform):
        """Build the row."""
        m = Module()

        pes = [ProcessingElement(self._operand_bits, self._psum_bits) for _ in range(self._cols)]
        for col, pe in enumerate(pes):
            add(m, f"pe_{col}", pe, platform)
            m.d.comb += [
                pe.weight_above.eq(self.weight_above.word_select(col, self._operand_bits)),
                pe.token_above.eq(self.token_above[col]),
                pe.psum_above.eq(self.psum_above.word_select(col, self._psum_bits)),
                pe.sum_above.eq(self.sum_above.word_select(col, self._psum_bits)),
            ]
            left = pes[col - 1] if col else None
            m.d.comb += [
                pe.a_left.eq(left.a if left else self.a_left),
                pe.control_left.eq(left.control if left else self.control_left),
                pe.weight_left.eq(left.weight if left else self.weight_left),
                pe.token_left.eq(left.token if left else self.token_left),
            ]
        for name in ("weight", "token", "psum", "sum"):
            m.d.comb += getattr(self, name).eq(Cat(getattr(pe, name) for pe in pes))

        return m
