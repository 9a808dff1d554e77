"""Quotients and square roots of float32 numbers, rounded to nearest, halves to even (IEEE 754-2019, 5.4.1).

Both are found bit by bit, by restoring: with S the rest, doubled, and T what must fit into it for the next bit to be
one, S becomes ``2 * (S - T)`` if T fits, and otherwise ``2 * S``. For a quotient T is the divisor; for a root whose
bits so far are Q it is ``2 * Q + w``, where w is the weight of the next one: ``(Q + w)**2 = Q**2 + w * (2 * Q + w)``
(M. Ercegovac, T. Lang, Digital Arithmetic, 2004, chapters 5 and 6).
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..blocks import unit
from ..blocks.line import Line
from ..blocks.pipeline import delay, taps
from .float_formats import FLOAT32
from .float_round import packed_float32
from .stages import named, shifted_right

__all__ = ["FloatDivideRoot"]

_FRACTION = FLOAT32.fraction

#: Bits of a quotient that say how it is rounded, besides whether a rest is left: those of a significand, one behind
#: it, and one before it that may be zero.
_LEAST = _FRACTION + 3


class FloatDivideRoot(wiring.Component):
    """Divides, or takes roots, of as many numbers at a time as there are places, one coming in each cycle.

    They go round: operands must come again, in the same order, in each of :attr:`ROUNDS` rounds of ``places`` cycles.
    In a round a number passes :attr:`STEPS` steps, each of which finds a bit. Its result comes :attr:`LATENCY` cycles
    after its operands of the last round. There is no flow control: each place may be in a round of its own.

    Infinities and subnormal numbers are included. What is no number comes out as 0x7FC00000.

    Parameters
    ----------
    places : int
        Cycles of a round, more than :attr:`STEPS`.

    Members
    -------
    a, b : :py:`In(32)`
        Dividend, or the number whose root is taken, and divisor.
    root : :py:`In(1)`
        Whether to take the root.
    round : :py:`In(range(ROUNDS))`
        Round of these operands.
    result : :py:`Out(32)`
        Quotient or root.
    """

    #: Bits that are found in a round, each by an adder, and rounds.
    STEPS = 4
    ROUNDS = -(-_LEAST // STEPS)

    #: Registers before the steps, where operands get their leading ones, and behind them, where results are rounded.
    _FRONT, _BACK = 3, 4

    #: Cycles from the operands of the last round to the result.
    LATENCY = _FRONT + STEPS + _BACK

    #: Bits that are found.
    _BITS = STEPS * ROUNDS

    def __init__(self, places: int):
        self._places = places
        super().__init__({
            "a": In(32), "b": In(32), "root": In(1), "round": In(range(self.ROUNDS)), "result": Out(32)})

    def elaborate(self, platform):
        """Build the steps, and the line in which numbers wait for the next round."""
        m = Module()

        rest, divisor, root, about = self._prepare(m)
        bits = self._BITS
        rounds = taps(m, self.round, self._FRONT + self.STEPS, "round", reset_less=True)[self._FRONT:]
        unit.add(m, "waiting", waiting := Line(2 * bits + 4, self._places - self.STEPS), platform)
        fresh = rounds[0] == 0
        rest = named(m, "rest", Mux(fresh, rest, waiting.o[bits:]))
        found = named(m, "found", Mux(fresh, 0, waiting.o[:bits]))
        for step in range(self.STEPS):
            # The one bit that this round finds here.
            mark = Signal(bits, name=f"mark_{step}")
            m.d.comb += [mark[bits - 1 - place].eq(rounds[step] == place // self.STEPS)
                         for place in range(step, bits, self.STEPS)]
            of_root = mark | Cat(Const(0, 1), found, Const(1, 1))
            trial = named(m, f"trial_{step}", Mux(root, of_root, Cat(Const(0, bits - _FRACTION), divisor)))
            left = named(m, f"left_{step}", rest - trial)
            fits = named(m, f"fits_{step}", ~left[-1])
            next_rest = Signal(bits + 4, name=f"rest_{step}", reset_less=True)
            next_found = Signal(bits, name=f"found_{step}", reset_less=True)
            m.d.sync += [next_rest.eq(Mux(fits, left, rest) << 1),
                         next_found.eq(Mux(fits, found | mark, found))]
            rest, found = next_rest, next_found
            if step + 1 < self.STEPS:
                root, divisor = (delay(m, value, 1, f"{name}_of_{step}", reset_less=True)
                                 for value, name in ((root, "root"), (divisor, "divisor")))
        m.d.comb += waiting.i.eq(Cat(found, rest))
        self._round(m, rest, found, delay(m, about, self.STEPS, "about", reset_less=True))

        return m

    def _prepare(self, m):
        """Operands with leading ones, as rest and divisor; whether it is a root, and what else decides the result."""
        root, a, b = self.root, self.a, self.b
        a_zero, b_zero = ~a[:-1].any(), ~b[:-1].any()
        a_infinite, b_infinite = FLOAT32.is_infinite(a), FLOAT32.is_infinite(b)
        none = FLOAT32.is_none(a) | Mux(root, a[-1] & ~a_zero,
                                        FLOAT32.is_none(b) | a_infinite & b_infinite | a_zero & b_zero)
        special = none | a_infinite | ~root & b_zero
        zero = a_zero | ~root & b_infinite
        about = Cat(root, a[-1] ^ (b[-1] & ~root), special, ~none, zero)
        (of_a, a_exponent), (of_b, b_exponent) = (self._normalised(m, name, number)
                                                  for name, number in (("a", a), ("b", b)))
        about = delay(m, about, self._FRONT - 1, "about_operands", reset_less=True)

        bits, fraction = self._BITS, of_a[:-1]
        # A root has half the exponent; of an odd one a factor of two stays with the number, which loses its first one.
        odd = ~a_exponent[0]
        of_root = Mux(odd, Cat(Const(0, bits - _FRACTION + 2), fraction[:-1], ~fraction[-1], fraction[-1]),
                      Cat(Const(0, bits - _FRACTION + 1), fraction))
        exponent = Mux(about[0], (a_exponent + FLOAT32.bias) >> 1, a_exponent - b_exponent + FLOAT32.bias)
        rest, stored = Signal(bits + 4, name="first_rest", reset_less=True), Signal(signed(10), reset_less=True)
        m.d.sync += [rest.eq(Mux(about[0], of_root, Cat(Const(0, bits - _FRACTION), of_a))), stored.eq(exponent)]
        about, divisor = (delay(m, value, 1, name, reset_less=True) for value, name in ((about, "of"), (of_b, "first")))
        return rest, divisor, about[0], Cat(about, stored)

    def _normalised(self, m, name, number):
        """Significand of a number with its leading one, and stored exponent, as if that had no end, in two cycles."""
        value, exponent = FLOAT32.significand(number), Signal(signed(10), name=f"{name}_exponent")
        m.d.comb += exponent.eq(FLOAT32.scale(number))
        for steps in ((16, 8, 4), (2, 1)):
            for step in steps:
                take = named(m, f"{name}_take_{step}", ~value[-step:].any())
                value = named(m, f"{name}_{step}", Mux(take, Cat(Const(0, step), value[:-step]), value))
                lower = Signal(signed(10), name=f"{name}_exponent_{step}")
                m.d.comb += lower.eq(Mux(take, exponent - step, exponent))
                exponent = lower
            value, exponent = (delay(m, each, 1, f"{name}_{kind}_{steps[0]}", reset_less=True)
                               for each, kind in ((value, "value"), (exponent, "exponents")))
        return value, exponent

    def _round(self, m, rest, found, about):
        """Make a float32 number of the bits that were found, of which quotients may begin with a zero."""
        root, sign, special, number, zero = about[:5]
        exponent = about[5:].as_signed()
        below = ~root & ~found[-1]
        sticky = rest.any()
        value = Mux(root, Cat(sticky, found, Const(1, 1)),
                    Mux(found[-1], Cat(Const(0, 1), sticky, found), Cat(Const(0, 2), sticky, found[:-1])))
        stored = Signal(signed(10), reset_less=True)
        shifted = Signal(self._BITS + 2, reset_less=True)
        m.d.sync += [stored.eq(exponent - below), shifted.eq(Mux(zero, 0, value))]
        flags = delay(m, Cat(sign, special, number), 1, "flags", reset_less=True)
        distance = named(m, "distance", Mux(stored < 1, 1 - stored, 0)[:8])
        value, state = shifted, Cat(flags, stored)
        for part in ((7, 6, 5, 4, 3), (2, 1, 0)):
            for bit in part:
                value = named(m, f"shifted_{bit}", Mux(distance[bit], shifted_right(value, 1 << bit), value))
            value, state, distance = (delay(m, each, 1, f"{name}_{part[0]}", reset_less=True) for each, name in (
                (value, "value"), (state, "state"), (distance, "distances")))
        m.d.sync += self.result.eq(packed_float32(state[0], state[1], state[2], state[3:], value))
