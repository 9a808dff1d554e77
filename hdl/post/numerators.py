"""Numerators of softmax: powers of two of scores less the greatest score of their row."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from ..blocks.line import Line
from ..blocks.pipeline import delay
from ..blocks.unit import Unit, add

__all__ = ["EMPTY", "EXPONENT", "NUDGES", "NUMERATORS", "SCORE_BITS", "Numerator", "looked_up", "shifted"]

#: Bits of a score, in the base-2 logarithm with as many bits behind the point as :data:`NUMERATORS` has.
SCORE_BITS = 25

#: Shape of a score rounded up to a whole number.
EXPONENT = signed(18)

#: What stands in the place of such a number where there is none.
EMPTY = -(1 << 17)

#: 255 * 256 times 2 to the power -r / 256, for r from 0 to 255.
NUMERATORS = tuple(round(65280 * 2 ** (-r / 256)) for r in range(256))

#: What is added to numerators of one byte before their lower bits are cut off, by column modulo 32: the column's bits,
#: the lowest first, then half of a step. So numerators of a row are right on average, however small they are.
NUDGES = tuple(int(f"{column:05b}"[::-1], 2) * 8 + 4 for column in range(32))

#: Bits of a numerator of two bytes.
_BITS = 16


def looked_up(m: Module, place: Value, words: Sequence[int], bits: int) -> Signal:
    """Look a word up, a cycle later: a ROM, of which hardware without initial values makes logic."""
    entry = Signal(bits, reset_less=True)
    with m.Switch(place):
        for number, word in enumerate(words):
            with m.Case(number):
                m.d.sync += entry.eq(word)
    return entry


def shifted(value: Value, distance: Value, bits: Sequence[int]) -> Value:
    """Shift right by some bits of a distance."""
    for bit in bits:
        value = Mux(distance[bit], value >> (1 << bit), value)
    return value


class Numerator(Unit):
    """A lane's part of softmax: exponents of its scores, and their numerators once the row's greatest is known.

    One score a cycle; there is no flow control. In the cycle after a score its exponent stands on the output, the
    score divided by 256 and rounded up. ``wait`` cycles later the greatest exponent of its row must stand on
    :py:`greatest`; from then its numerator takes :attr:`VALUE` cycles, and what is written of it one more. With
    ``e = greatest * 256 - score``, which is not negative, the numerator is ``65280 * 2**(-e / 256)``: an entry of a
    table, shifted and rounded to nearest, halves upwards. Unless it has two bytes it is cut off, shifted and
    :py:`nudge` added, to a multiple of 256.

    Parameters
    ----------
    wait : int
        Cycles from an exponent to the greatest of its row, at least 2.

    Members
    -------
    score : :py:`In(signed(25))`
        Score.
    masked : :py:`In(1)`
        Whether it does not count: its numerator is zero.
    exponent : :py:`Out(signed(18))`
        Exponent; :data:`EMPTY` if masked.
    greatest : :py:`In(signed(18))`
        Greatest exponent of its row, ``wait`` + 1 cycles after the score.
    two_bytes : :py:`In(1)`
        Whether a numerator has two bytes; a cycle before :py:`value`.
    nudge : :py:`In(8)`
        What is added to a numerator of one byte; with ``two_bytes``.
    low_byte : :py:`In(1)`
        Whether the lower one is written; with :py:`value`.
    value : :py:`Out(16)`
        Numerator, of 16 bits.
    output : :py:`Out(8)`
        Byte that is written, a cycle later.
    """

    #: Cycles from the greatest exponent to a numerator: difference and table, two for the shifter, rounding.
    VALUE = 4

    def __init__(self, wait: int):
        self._wait = wait
        super().__init__({
            "score": In(signed(SCORE_BITS)), "masked": In(1), "exponent": Out(EXPONENT), "greatest": In(EXPONENT),
            "two_bytes": In(1), "nudge": In(8), "low_byte": In(1), "value": Out(_BITS), "output": Out(8),
        })

    def elaborate(self, platform):
        """Build the exponent, the line of those that wait, and the shifter."""
        m = Module()

        exponent = Signal(EXPONENT, name="exponent_reg", reset_less=True)
        rest = Signal(8, reset_less=True)
        m.d.sync += [
            exponent.eq(Mux(self.masked, EMPTY, self.score.shift_right(8) + self.score[:8].any())),
            # What rounding up has added.
            rest.eq(-self.score[:8]),
        ]
        m.d.comb += self.exponent.eq(exponent)

        add(m, "exponents", exponents := Line(len(exponent), self._wait), platform)
        # A memory that tools make of the table is slow, so that it is looked up a cycle early.
        add(m, "rests", rests := Line(len(rest), self._wait - 1), platform)
        m.d.comb += [exponents.i.eq(exponent), rests.i.eq(rest)]
        waited = exponents.o.as_signed()
        entry = delay(m, looked_up(m, rests.o, NUMERATORS, _BITS), 1, "entry", reset_less=True)
        difference = Signal(EXPONENT.width + 1, reset_less=True)
        # No exponent but that of nothing is below -2**16.
        nothing = Signal(reset_less=True)
        m.d.sync += [difference.eq(self.greatest - waited), nothing.eq(waited[-1] & ~waited[-2])]

        # A bit more below, which rounds.
        first = Signal(_BITS + 1, name="shifted_1", reset_less=True)
        second = Signal(_BITS + 1, name="shifted_2", reset_less=True)
        far = Signal(reset_less=True)
        value = Cat(Const(0, 1), entry)
        m.d.sync += [
            first.eq(shifted(value, difference, (0, 1))),
            far.eq(nothing | difference[5:].any()),
            second.eq(Mux(far, 0, shifted(first, delay(m, difference[:5], 1, "distance", reset_less=True), (2, 3, 4)))),
        ]
        nudged = second[1:] + self.nudge
        m.d.sync += self.value.eq(Mux(self.two_bytes, second[1:] + second[0], Cat(Const(0, 8), nudged[8:_BITS])))
        m.d.sync += self.output.eq(Mux(self.low_byte, self.value[:8], self.value[8:]))

        return m
