"""Reciprocal of a positive integer in 32-bit fixed point, as gemmlowp defines it."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .multiplier import Multiplier

__all__ = ["HEADROOM_BITS", "LEAST", "Reciprocal"]

#: Bits of the number of zeros before the first one of 32 bits.
HEADROOM_BITS = 4

#: Least number whose reciprocal is found: its zeros have :data:`HEADROOM_BITS` bits.
LEAST = 1 << 16

#: Steps of Newton's method.
_STEPS = 3

#: Cycles of a product: operands, multiplier, and rounding.
_PRODUCT = Multiplier.LATENCY + 2

#: ``48 / 17`` and ``-32 / 17`` with 29 bits behind the point, the line on which Newton's method begins.
_BEGIN, _SLOPE = 1515870810, -1010580540


class Reciprocal(wiring.Component):
    """Find ``1 / total`` of one number at a time, with a multiplier that all products share.

    With h zeros before the first one of 32 bits, ``1 + x = total * 2**h / 2**31`` is between 1 and 2, and
    ``1 / (1 + x)`` comes from gemmlowp's three steps of Newton's method: words with 29 bits behind the point, products
    rounded to nearest, halves upwards, and a result with 31 bits behind the point that saturates.

    Members
    -------
    start : :py:`In(1)`
        Whether there is a number; not before the one before is done.
    total : :py:`In(32)`
        The number, at least :data:`LEAST`; needed with ``start`` only.
    done : :py:`Out(1)`
        High for one cycle, :attr:`LATENCY` cycles later.
    inverse : :py:`Out(31)`
        ``2**31 / (1 + x)``, at most ``2**31 - 1``, from then on until the next start.
    headroom : :py:`Out(4)`
        h, with it.
    """

    #: Cycles from a number to its reciprocal: three of normalising it, and those of the products.
    LATENCY = 3 + (1 + 2 * _STEPS) * _PRODUCT

    def __init__(self):
        super().__init__({"start": In(1), "total": In(32), "done": Out(1), "inverse": Out(31),
                          "headroom": Out(HEADROOM_BITS)})

    def elaborate(self, platform):
        """Build the shifter, the multiplier, and the counters of its products."""
        m = Module()

        half, ready = self._normalise(m)
        found, error = (Signal(signed(32), name=name, reset_less=True) for name in ("found", "error"))
        m.submodules.multiplier = multiplier = Multiplier()
        a, b = Signal(signed(32), reset_less=True), Signal(signed(32), reset_less=True)
        m.d.comb += [multiplier.a.eq(a), multiplier.b.eq(b)]
        rounded = Signal(signed(33))
        m.d.comb += rounded.eq((multiplier.product + Const(1 << 30, signed(32))) >> 31)

        # Products take turns: the first of the line, then one of the error and one of the correction for each step.
        cycle, number = Signal(range(_PRODUCT)), Signal(range(1 + 2 * _STEPS))
        busy = Signal()
        corrects = ~number[0]
        m.d.sync += [a.eq(Mux(corrects & (number != 0), found, half)),
                     b.eq(Mux(number == 0, _SLOPE, Mux(corrects, error, found)))]
        ends = Signal()
        m.d.comb += ends.eq(busy & (cycle == _PRODUCT - 1))
        m.d.sync += [self.done.eq(ends & (number == 2 * _STEPS)), cycle.eq(Mux(ends, 0, cycle + busy))]
        with m.If(ready):
            m.d.sync += [busy.eq(1), number.eq(0)]
        with m.Elif(ends):
            m.d.sync += [number.eq(number + 1), busy.eq(number != 2 * _STEPS)]
            with m.If(number == 0):
                m.d.sync += found.eq(rounded + _BEGIN)
            with m.Elif(corrects):
                m.d.sync += found.eq(found + (rounded << 2))
            with m.Else():
                m.d.sync += error.eq((1 << 29) - rounded)
        m.d.comb += self.inverse.eq(Mux(found[30], (1 << 31) - 1, found << 1))

        return m

    def _normalise(self, m):
        """Shift a number until its highest bit is set, and return half of it, and whether it has come."""
        value, zeros = self.total, Const(0, 0)
        ready = self.start
        for stage, steps in enumerate(((8, 4), (2, 1))):
            for step in steps:
                small = Signal(name=f"small_{step}")
                m.d.comb += small.eq(value[-step:] == 0)
                value, zeros = Mux(small, Cat(Const(0, step), value[:-step]), value), Cat(small, zeros)
            register, count = Signal(32, name=f"value_{stage}", reset_less=True), Signal(
                len(zeros), name=f"zeros_{stage}", reset_less=True)
            came = Signal(name=f"came_{stage}")
            m.d.sync += came.eq(ready)
            with m.If(ready):
                m.d.sync += [register.eq(value), count.eq(zeros)]
            value, zeros, ready = register, count, came
        m.d.comb += self.headroom.eq(zeros)
        return value[1:], ready
