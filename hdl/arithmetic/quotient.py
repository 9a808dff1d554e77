"""Quotient of a float32 number and an integer, a few bits a stage."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..blocks.line import Line
from ..blocks.pipeline import delay
from ..blocks.rules import apart

__all__ = ["DIVISOR_BITS", "Quotient"]

#: Bits of a divisor.
DIVISOR_BITS = 40

#: Bits of a significand, and of a quotient of two of them before it is normalised.
_SIGNIFICAND, _QUOTIENT = 24, 25

#: Distances of the normalising shifter, stage by stage.
_STEPS = ((32,), (16,), (8,), (4,), (2, 1))


class Quotient(wiring.Component):
    """Divide positive float32 numbers by integers.

    Of a divisor only the leading 24 bits count, l' (shifted left if it has fewer). With mc, the dividend's significand
    of 24 bits, ``q = mc * 2**24 // l'`` is in ``2**23 ... 2**25``; its leading 24 bits are the significand of the
    quotient, whose exponent follows from the divisor's length. So both are truncated. A divisor of zero gives zero.
    The quotient must have an exponent of a normal number.

    Quotients leave in the order of their divisors, :meth:`latency_of` cycles later. Divisors come at least ``every``
    cycles apart; a stage has as many cycles for as many bits, so the fewer there are, the smaller it is. There is no
    flow control. Division is by addition or subtraction of the divisor, whatever sign the remainder has.

    Parameters
    ----------
    every : int
        Cycles from a divisor to the next, at least.

    Members
    -------
    valid : :py:`In(1)`
        Whether a divisor is given.
    divisor : :py:`In(40)`
        Integer without a sign.
    dividend : :py:`In(31)`
        Normal float32 number without its sign, :attr:`DIVIDEND` cycles after its divisor.
    quotient : :py:`Out(31)`
        float32 number without its sign.
    """

    #: Cycles from a divisor to its dividend.
    DIVIDEND = len(_STEPS)

    def __init__(self, every: int = 1):
        self._every = every
        super().__init__({"valid": In(1), "divisor": In(DIVISOR_BITS), "dividend": In(31), "quotient": Out(31)})

    @classmethod
    def latency_of(cls, every: int) -> int:
        """Return the cycles from a divisor to its quotient: normalisation, bits of the quotient, and its exponent."""
        return cls.DIVIDEND + cls._bits_of(every) + 1

    @staticmethod
    def _bits_of(every: int) -> int:
        """Bits that all stages find together, maybe a few more than count."""
        return -(-_QUOTIENT // every) * every

    def elaborate(self, platform):
        """Build the shifter, the stages and the result."""
        m = Module()

        if self._every > 1:
            apart(m, "divisors", delay(m, self.valid, 1, "before"), self.valid, self._every - 1,
                  f"they must come {self._every} cycles apart")
        divisor, zeros = self._normalise(m)
        quotient = self._divide(m, divisor)
        exponent = Signal(8)
        m.d.comb += exponent.eq(self.dividend[_SIGNIFICAND - 1:] + zeros - DIVISOR_BITS)
        m.submodules.exponents = line = Line(9, self._bits_of(self._every))
        m.d.comb += line.i.eq(Cat(exponent, divisor[-1]))
        top = quotient[-1]
        fraction = Mux(top, quotient[1:_SIGNIFICAND], quotient[:_SIGNIFICAND - 1])
        m.d.sync += self.quotient.eq(Mux(line.o[-1], Cat(fraction, (line.o[:8] + top)[:8]), 0))

        return m

    def _normalise(self, m):
        """Shift the divisor's first one to the top; return its leading bits, and how far it was shifted."""
        value, zeros = self.divisor, Const(0, 0)
        for stage, steps in enumerate(_STEPS):
            taken = []
            for step in steps:
                take = Signal(name=f"take_{step}")
                m.d.comb += take.eq(~value[-step:].any())
                value = Mux(take, value << step, value)[:DIVISOR_BITS]
                taken.insert(0, take)
            register = Signal(DIVISOR_BITS, name=f"normal_{stage}", reset_less=True)
            count = Signal(len(zeros) + len(taken), name=f"zeros_{stage}", reset_less=True)
            m.d.sync += [register.eq(value), count.eq(Cat(*taken, zeros))]
            value, zeros = register, count
        return value[-_SIGNIFICAND:], zeros

    def _divide(self, m, divisor):
        """Find the quotient's bits, the highest first; a bit is whether the remainder that it leaves has no sign."""
        every = self._every
        taken = delay(m, self.valid, self.DIVIDEND, "taken") if every > 1 else Const(1, 1)
        significand = Cat(self.dividend[:_SIGNIFICAND - 1], Const(1, 1))
        # Half of the dividend's significand; behind it come its last bit, and zeros.
        remainder, behind, found = significand[1:], significand[0] & taken, Const(0, 0)
        for stage in range(self._bits_of(every) // every):
            own = [Signal(_SIGNIFICAND, name=f"divisor_{stage}", reset_less=True),
                   Signal(_SIGNIFICAND + 1, name=f"remainder_{stage}", reset_less=True),
                   Signal((stage + 1) * every, name=f"quotient_{stage}", reset_less=True)]
            given = divisor, remainder, found
            if every > 1:
                given = [Mux(taken, new, old) for new, old in zip(given, own, strict=True)]
                taken = delay(m, taken, every, f"taken_{stage}")
            divisor, remainder, found = given
            less = Signal(name=f"less_{stage}")
            after = Signal(_SIGNIFICAND + 1, name=f"after_{stage}")
            m.d.comb += [
                less.eq(~remainder[_SIGNIFICAND] if len(remainder) > _SIGNIFICAND else 1),
                after.eq(Cat(behind, remainder) + (divisor ^ less.replicate(_SIGNIFICAND + 1)) + less),
            ]
            m.d.sync += [own[0].eq(divisor), own[1].eq(after), own[2].eq(Cat(~after[-1], found))]
            (divisor, remainder, found), behind = own, Const(0, 1)
        return found[-_QUOTIENT:]
