"""Softmax of floats: scores in fixed point, and numerators of the operands' format."""

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.float_formats import FLOAT32, FloatFormat
from ..arithmetic.float_round import rounds_up
from ..arithmetic.stages import named, shifted_right
from ..blocks.line import Line
from ..blocks.pipeline import delay, taps
from ..blocks.unit import Unit, add
from .numerators import EMPTY, EXPONENT, SCORE_BITS, looked_up, shifted

__all__ = ["FloatNumerator", "FloatScore", "greatest_numerator"]

#: Distance beyond which a numerator counts for nothing, for its shifter has no more bits.
_FARTHEST = 31


def greatest_numerator(form: FloatFormat) -> int:
    """Exponent of the greatest numerator of a format: 0 if all that count are normal numbers, else its bias."""
    return 0 if form.bias > _FARTHEST + 1 else form.bias


class FloatScore(wiring.Component):
    """Pipeline that rounds float32 numbers to integers: to nearest, halves to even, at most 2**24 - 1 in magnitude.

    One number per cycle, :attr:`LATENCY` cycles later; there is no flow control. Infinities, and what is no number, are
    as great as can be.

    Members
    -------
    number : :py:`In(32)`
        Number.
    score : :py:`Out(signed(25))`
        The integer.
    """

    #: Cycles from a number to its integer: two for the shifter, rounding.
    LATENCY = 3

    #: Stored exponent of numbers whose last bit is a one.
    _WHOLE = FLOAT32.bias + FLOAT32.fraction

    def __init__(self):
        super().__init__({"number": In(FLOAT32.bits), "score": Out(signed(SCORE_BITS))})

    def elaborate(self, platform):
        """Build the shifter and the rounding."""
        m = Module()

        exponent = self.number[FLOAT32.fraction:-1]
        beyond = taps(m, exponent > self._WHOLE, self.LATENCY - 1, "beyond", reset_less=True)
        sign = delay(m, self.number[-1], self.LATENCY - 1, "sign", reset_less=True)
        # Two bits below, of which the lower one is sticky; a shift of 31 leaves that alone.
        distance = Signal(signed(10))
        m.d.comb += distance.eq(self._WHOLE - exponent)
        steps = named(m, "steps", Mux(distance[5:9].any(), _FARTHEST, distance[:5]))
        value = Cat(Const(0, 2), FLOAT32.significand(self.number))
        for stage, bits in enumerate(((4, 3), (2, 1, 0))):
            for bit in bits:
                value = named(m, f"value_{bit}", Mux(steps[bit], shifted_right(value, 1 << bit), value))
            value, steps = (delay(m, each, 1, f"{name}_{stage}", reset_less=True)
                            for each, name in ((value, "shifted"), (steps, "steps")))
        most = (1 << SCORE_BITS - 1) - 1
        size = named(m, "size", Mux(beyond[-1], most, value[2:] + rounds_up(value, 2))[:SCORE_BITS - 1])
        m.d.sync += self.score.eq(Mux(sign, -size, size))

        return m


class FloatNumerator(Unit):
    """A lane's part of softmax of floats: exponents of its scores, and numerators once their row's greatest is known.

    Times are those of :class:`.numerators.Numerator`. With ``e = greatest * 256 - score`` and ``k = e >> 8``, the
    numerator is ``2**(-(e mod 256) / 256)``, an entry of a table, rounded to the format, times ``2**-k``. It is zero if
    k is more than 31, or so great that half of ``2**-k`` times :func:`greatest_numerator` is no normal number.

    Parameters
    ----------
    wait : int
        Cycles from an exponent to the greatest of its row, at least 2.
    form : FloatFormat
        Format of numerators.

    Members
    -------
    score : :py:`In(signed(25))`
        Score.
    masked : :py:`In(1)`
        Whether it does not count: its numerator is zero.
    none : :py:`In(1)`
        Whether it is no number: unless it is masked, its numerator is none either, and counts as zero.
    exponent : :py:`Out(signed(18))`
        Exponent; :data:`EMPTY` if it is masked or no number.
    greatest : :py:`In(signed(18))`
        Greatest exponent of its row, ``wait`` + 1 cycles after the score.
    value : :py:`Out(24)`
        Numerator in fixed point, with 23 bits behind the point, rounded to nearest, halves upwards.
    output : :py:`Out(form.bits)`
        Numerator, times 2 to the power :func:`greatest_numerator`, a cycle later.
    """

    #: Cycles from the greatest exponent to a numerator.
    VALUE = 4

    #: Bits of a numerator in fixed point.
    BITS = 24

    def __init__(self, wait: int, form: FloatFormat):
        self._wait, self._form = wait, form
        super().__init__({
            "score": In(signed(SCORE_BITS)), "masked": In(1), "none": In(1), "exponent": Out(EXPONENT),
            "greatest": In(EXPONENT), "value": Out(self.BITS), "output": Out(form.bits),
        })

    @property
    def _base(self) -> int:
        """Bits of half of the greatest numerator."""
        form = self._form
        return (form.bias + greatest_numerator(form) - 1) << form.fraction

    def _entries(self) -> list[int]:
        """What bits of numerators of scores less than a whole number below the greatest are more than those of half."""
        kind, top = self._form.dtype, greatest_numerator(self._form)
        table = [np.array(2.0 ** (top - r / 256)).astype(kind).view(f"u{kind.itemsize}") for r in range(256)]
        return [int(bits) - self._base for bits in table]

    def elaborate(self, platform):
        """Build the exponent, the line of those that wait, and the numerator in both forms."""
        m = Module()
        form = self._form

        exponent = Signal(EXPONENT, name="exponent_reg", reset_less=True)
        rest, none = Signal(8, reset_less=True), Signal(reset_less=True)
        m.d.sync += [
            exponent.eq(Mux(self.masked | self.none, EMPTY, self.score.shift_right(8) + self.score[:8].any())),
            # What rounding up has added.
            rest.eq(-self.score[:8]),
            none.eq(self.none & ~self.masked),
        ]
        m.d.comb += self.exponent.eq(exponent)
        add(m, "exponents", exponents := Line(len(exponent) + 1, self._wait), platform)
        add(m, "rests", rests := Line(len(rest), self._wait - 1), platform)
        m.d.comb += [exponents.i.eq(Cat(exponent, none)), rests.i.eq(rest)]
        waited = exponents.o[:-1].as_signed()
        entry = delay(m, looked_up(m, rests.o, self._entries(), form.fraction + 1), 1, "entry", reset_less=True)
        difference = Signal(EXPONENT.width + 1, reset_less=True)
        # No exponent but that of nothing is below -2**16.
        nothing = Signal(reset_less=True)
        m.d.sync += [difference.eq(self.greatest - waited), nothing.eq(waited[-1] & ~waited[-2])]

        most = min(_FARTHEST, form.bias + greatest_numerator(form) - 2)
        far, number = Signal(reset_less=True), Signal(form.bits, reset_less=True)
        m.d.sync += [
            far.eq(nothing | (difference > most)),
            number.eq(self._base + entry - Cat(Const(0, form.fraction), difference[:5])),
        ]
        self._fixed(m, entry, difference, far)
        kept = Signal(form.bits, name="kept", reset_less=True)
        is_none = delay(m, exponents.o[-1], 2, "is_none", reset_less=True)
        m.d.sync += kept.eq(Mux(is_none, form.no_number, Mux(far, 0, number)))
        m.d.comb += self.output.eq(delay(m, kept, 2, "output", reset_less=True))

        return m

    def _fixed(self, m, entry, difference, far):
        """Shift the entry with the bit above it, and a bit more below, which rounds."""
        below = self.BITS - self._form.fraction - 2
        value = Cat(Const(0, 1 + below), entry[:-1], ~entry[-1], entry[-1])
        first = Signal(self.BITS + 1, name="shifted_1", reset_less=True)
        second = Signal(self.BITS + 1, name="shifted_2", reset_less=True)
        m.d.sync += [
            first.eq(shifted(value, difference, (0, 1))),
            second.eq(Mux(far, 0, shifted(first, delay(m, difference[:5], 1, "distance", reset_less=True), (2, 3, 4)))),
        ]
        m.d.sync += self.value.eq(second[1:] + second[0])
