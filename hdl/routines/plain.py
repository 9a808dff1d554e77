"""Functions of a lane that need no roundings: integers, single bits, comparisons, choices and shifts."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.float_formats import FLOAT32
from ..arithmetic.floating import less_than
from ..blocks.pipeline import delay
from .decode import Comparison, Functions, Logic, Plain

__all__ = ["PlainFunctions"]


class PlainFunctions(wiring.Component):
    """One result a cycle, :attr:`LATENCY` cycles after its operands.

    Members
    -------
    a, b : :py:`In(32)`
        Operands.
    condition : :py:`In(1)`
        Which of them is chosen, if one is: a if it is set.
    functions : :py:`In(Functions)`
        What to do with them.
    result : :py:`Out(32)`
        What comes of it.
    """

    #: Cycles from operands to their result.
    LATENCY = 3

    def __init__(self):
        super().__init__({"a": In(32), "b": In(32), "condition": In(1), "functions": In(Functions), "result": Out(32)})

    def elaborate(self, platform):
        """Build the functions, and the shifter: distances of 16 and 8, then 4 and 2, then 1."""
        m = Module()

        a, b, functions = self.a, self.b, self.functions
        total, logic, chosen = (Signal(32, name=name, reset_less=True) for name in ("total", "logic", "chosen"))
        compared = Signal(reset_less=True)
        m.d.sync += [total.eq(a + b), chosen.eq(Mux(self.condition, a, b))]
        with m.Switch(functions.logic):
            with m.Case(Logic.AND):
                m.d.sync += logic.eq(a & b)
            with m.Case(Logic.OR):
                m.d.sync += logic.eq(a | b)
            with m.Default():
                m.d.sync += logic.eq(a ^ b)
        with m.Switch(functions.comparison):
            with m.Case(Comparison.LESS):
                m.d.sync += compared.eq(less_than(a, b))
            with m.Case(Comparison.EQUAL):
                both_zero = ~(a[:-1].any() | b[:-1].any())
                m.d.sync += compared.eq(~FLOAT32.is_none(a) & ((a == b) | both_zero))
            with m.Default():
                m.d.sync += compared.eq(a.as_signed() < b.as_signed())

        kind = delay(m, functions.plain, 1, "kind", reset_less=True)
        plain = Signal(32, reset_less=True)
        with m.Switch(kind):
            for member, value in ((Plain.SUM, total), (Plain.LOGIC, logic), (Plain.CHOSEN, chosen),
                                  (Plain.COMPARED, compared)):
                with m.Case(member):
                    m.d.sync += plain.eq(value)

        shifted = self._shifted(m)
        shifts = delay(m, functions.shifts, 2, "shifts", reset_less=True)
        m.d.sync += self.result.eq(Mux(shifts, shifted, plain))

        return m

    def _shifted(self, m):
        """Shift a by the low bits of b; to the left its bits are turned round before and after. It takes two cycles."""
        value, distance, left = Mux(self.functions.left, self.a[::-1], self.a), self.b[:5], self.functions.left
        for part, bits in enumerate(((4, 3), (2, 1))):
            for bit in bits:
                value = Mux(distance[bit], value >> (1 << bit), value)[:32]
            value, distance, left = (delay(m, each, 1, f"{name}_{part}", reset_less=True) for each, name in (
                (value, "shifted"), (distance, "distance"), (left, "left")))
        value = Mux(distance[0], value >> 1, value)[:32]
        return Mux(left, value[::-1], value)
