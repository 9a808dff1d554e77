"""Rounding of significands to nearest, halves to even (IEEE 754-2019, 4.3.1), and what float32 makes of them."""

from amaranth.hdl import Cat, Const, Mux, Value

from .float_formats import FLOAT32

__all__ = ["packed_float32", "rounds_up"]

#: Exponent of infinities in float32, and of what is no number.
_SPECIAL = (1 << FLOAT32.exponent) - 1


def rounds_up(value: Value, low: int) -> Value:
    """Whether a value is rounded up where all below bit `low` is left out."""
    return value[low - 1] & (value[:low - 1].any() | value[low])


def packed_float32(sign: Value, special: Value, number: Value, exponent: Value, significand: Value) -> Value:
    """Bits of float32 of a number that has not been rounded.

    Parameters
    ----------
    sign : Value
        Its sign.
    special, number : Value
        Whether it is infinite or no number, and whether it is one.
    exponent, significand : Value
        What it is otherwise: the significand's highest bit is the one that is not stored, which subnormal numbers have
        not. Bits below the fraction are rounded.
    """
    low = len(significand) - FLOAT32.fraction - 1
    # A carry out of the fraction makes the next exponent, and beyond the greatest one infinity.
    rounded = (Cat(significand[low:-1], Mux(significand[-1], exponent[:FLOAT32.exponent], 0))
               + rounds_up(significand, low))[:FLOAT32.bits - 1]
    beyond = special | (significand[-1] & (exponent >= _SPECIAL))
    infinite = Cat(Const(0, FLOAT32.fraction - 1), ~number, Const(_SPECIAL, FLOAT32.exponent))
    return Cat(Mux(beyond, infinite, rounded), sign & number)
