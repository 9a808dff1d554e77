"""Conversions between float32 and shorter formats of floating point."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .float_formats import FLOAT32, FloatFormat
from .float_round import rounds_up
from .stages import Staged, named, shifted_right

__all__ = ["FloatNarrow", "exponent_in", "stored_in", "widened"]


def widened(m: Module, format: FloatFormat, number: Signal) -> Signal:
    """Return a number in float32, which holds all of a shorter format, in the same cycle.

    What is no number becomes 0x7FC00000, whatever its sign and payload.
    """
    exponent = Signal(signed(10), name="widened_exponent")
    # Of a significand whose highest bit is set.
    m.d.comb += exponent.eq(format.scale(number) + FLOAT32.bias - format.bias)
    significand = format.significand(number)
    width = format.fraction + 1
    # Subnormal numbers of formats with as wide an exponent stay so.
    steps = [1 << bit for bit in reversed(range(ceil_log2(width)))] if format.bias < FLOAT32.bias else []
    for step in steps:
        take = named(m, f"widened_take_{step}", ~significand[-step:].any())
        significand = named(m, f"widened_significand_{step}",
                            Mux(take, Cat(Const(0, step), significand[:-step]), significand))
        lower = Signal(exponent.shape(), name=f"widened_exponent_{step}")
        m.d.comb += lower.eq(Mux(take, exponent - step, exponent))
        exponent = lower
    finite = Cat(Const(0, FLOAT32.fraction - format.fraction), significand[:-1],
                 Mux(significand[-1], exponent[:8], 0), number[-1])
    infinite = Cat(Const(FLOAT32.beyond, 31), number[-1])
    return named(m, "widened", Mux(format.is_none(number), FLOAT32.no_number,
                                   Mux(format.is_infinite(number), infinite, finite)))


def exponent_in(m: Module, format: FloatFormat, number: Signal) -> tuple[Signal, Signal]:
    """Return the exponent of a float32 number in a shorter format, at least 1, and how far it was below that."""
    exponent = Signal(signed(10))
    m.d.comb += exponent.eq(FLOAT32.scale(number) + format.bias - FLOAT32.bias)
    distance = named(m, "distance", Mux(exponent < 1, 1 - exponent, 0)[:7])
    return named(m, "at_least_0", Mux(exponent < 1, 1, exponent)[:8]), distance


def stored_in(m: Module, format: FloatFormat, sign: Value, none: Value, infinite: Value, rounded: Value) -> Value:
    """Return the bits of a number in a format: what is beyond its greatest becomes infinite, or no number.

    Parameters
    ----------
    sign, none, infinite : Value
        Sign, and whether it is no number, or infinite.
    rounded : Value
        Its bits but for the sign, as if the format had all exponents.
    """
    beyond = infinite | (rounded > format.greatest)
    stored = named(m, "stored", Mux(none, format.no_number, Mux(beyond, format.beyond, rounded))[:format.bits - 1])
    is_number = ~none if format.infinity is not None else ~(none | beyond)
    return Cat(stored, sign & is_number)


class FloatNarrow(Staged):
    """Pipeline that rounds float32 numbers to a shorter format: to nearest, halves to even.

    One number per cycle, :attr:`latency` cycles later; there is no flow control. What is beyond the greatest number
    once it is rounded becomes infinity, or no number where the format has no infinity. What is no number has no sign
    and one payload.

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
    narrow : :py:`Out(format.bits)`
        The number in the format.

    Raises
    ------
    ValueError
        If there is no such latency.
    """

    #: Parts behind each of which there may be a register.
    MOST = 3

    def __init__(self, format: FloatFormat, latency: int):
        self._format = format
        super().__init__("a conversion", latency, {"number": In(32), "narrow": Out(format.bits)})

    def elaborate(self, platform):
        """Build the pipeline: shift what is too small in two parts, round."""
        m = Module()
        stages = self.stages(m)
        format = self._format

        # A bit below, which is sticky.
        aligned = Cat(Const(0, 1), FLOAT32.significand(self.number))
        exponent, distance = exponent_in(m, format, self.number)
        sign, none, infinite = self.number[-1], FLOAT32.is_none(self.number), FLOAT32.is_infinite(self.number)
        for bits in ((6, 5, 4, 3), (2, 1, 0)):
            for bit in bits:
                aligned = named(m, f"aligned_{bit}", Mux(distance[bit], shifted_right(aligned, 1 << bit), aligned))
            sign, none, infinite, exponent, aligned, distance = stages.end(
                sign, none, infinite, exponent, aligned, distance)

        low = len(aligned) - format.fraction - 1
        rounded = named(m, "rounded", Cat(aligned[low:-1], Mux(aligned[-1], exponent, 0)) + rounds_up(aligned, low))
        (found,) = stages.end(stored_in(m, format, sign, none, infinite, rounded))
        m.d.comb += self.narrow.eq(found)

        return m
