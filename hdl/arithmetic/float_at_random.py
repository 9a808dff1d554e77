"""Rounding of float32 numbers to shorter formats, to nearest or at random (``golden/rounding.py``)."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib.wiring import In, Out

from .float_convert import exponent_in, stored_in
from .float_formats import FLOAT32, FloatFormat
from .float_round import rounds_up
from .stages import Staged, named, shifted_right

__all__ = ["RANDOM_BITS", "FloatNarrowAtRandom"]

#: Bits of a random number.
RANDOM_BITS = 16


class FloatNarrowAtRandom(Staged):
    """Pipeline that rounds float32 numbers to a shorter format: to nearest, halves to even, or at random.

    What is cut off is a fraction of the distance to the next number. At random, its first 16 bits, as an integer, are
    compared with the random number; if they are greater, the result is the number away from zero. All else is as of
    :class:`~.float_convert.FloatNarrow`.

    Parameters
    ----------
    format : FloatFormat
        Format of the results.
    latency : int
        Registers in line, at most :attr:`MOST`.

    Members
    -------
    number : :py:`In(32)`
        Number.
    at_random : :py:`In(1)`
        Whether to round at random.
    random : :py:`In(16)`
        Random number.
    narrow : :py:`Out(format.bits)`
        The number in the format.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    #: Parts behind each of which there may be a register.
    MOST = 4

    def __init__(self, format: FloatFormat, latency: int):
        self._format = format
        super().__init__("a conversion", latency, {
            "number": In(32), "at_random": In(1), "random": In(RANDOM_BITS), "narrow": Out(format.bits)})

    def elaborate(self, platform):
        """Build the pipeline: shift what is too small in two parts, compare, round."""
        m = Module()
        stages = self.stages(m)
        format = self._format

        # Behind what is kept as many bits as are compared, and a sticky one.
        low = RANDOM_BITS + 1
        room = low + format.fraction - FLOAT32.fraction
        whole = FLOAT32.significand(self.number)
        aligned = Cat(Const(0, room), whole) if room > 0 else shifted_right(whole, -room)
        exponent, distance = exponent_in(m, format, self.number)
        sign, none, infinite = self.number[-1], FLOAT32.is_none(self.number), FLOAT32.is_infinite(self.number)
        at_random, random = self.at_random, self.random
        for bits in ((6, 5, 4, 3), (2, 1, 0)):
            for bit in bits:
                aligned = named(m, f"aligned_{bit}", Mux(distance[bit], shifted_right(aligned, 1 << bit), aligned))
            sign, none, infinite, exponent, aligned, distance, at_random, random = stages.end(
                sign, none, infinite, exponent, aligned, distance, at_random, random)

        up = named(m, "up", Mux(at_random, aligned[1:low] > random, rounds_up(aligned, low)))
        kept = Cat(aligned[low:-1], Mux(aligned[-1], exponent, 0))
        sign, none, infinite, kept, up = stages.end(sign, none, infinite, kept, up)
        rounded = named(m, "rounded", kept + up)
        (found,) = stages.end(stored_in(m, format, sign, none, infinite, rounded))
        m.d.comb += self.narrow.eq(found)

        return m
