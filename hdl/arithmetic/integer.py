"""Integers: words without zero points, sums that wrap around."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, signed
from amaranth.utils import ceil_log2

from ..blocks.pipeline import delay
from ..errors import PearrayError
from .arithmetic import Arithmetic

__all__ = ["IntegerArithmetic"]


@dataclass(frozen=True)
class IntegerArithmetic(Arithmetic):
    """Integers of 4 to 16 bits, signed or unsigned with a zero point, and exact sums.

    A word has a bit more than an operand, since its zero point has gone. Partial sums never overflow; finished sums
    have 32 bits for operands of up to 8 bits, else 48, and wrap around. A product and an addition take a cycle
    each, so that a PE is two registers deep.

    Parameters
    ----------
    bits : int
        Width of an operand, 1 to 31.

    Raises
    ------
    PearrayError
        If the width is out of range.
    """

    bits: int

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 1 <= self.bits <= 31:
            raise PearrayError(f"bits must be an integer in 1..31, not {self.bits!r}")

    @property
    def word(self) -> Shape:
        """Shape of a word: signed, a bit wider than an operand."""
        return signed(self.bits + 1)

    @property
    def product(self) -> Shape:
        """Shape of a product of any two words."""
        return signed(2 * self.word.width)

    def psum(self, products: int) -> Shape:
        """Shape of a partial sum, which never overflows.

        A word is the difference of two numbers in one range of 2**bits, so a product needs two bits less
        than that of any two words.
        """
        return signed(2 * self.bits + 1 + ceil_log2(products))

    @property
    def accumulator(self) -> Shape:
        """Shape of a finished sum."""
        return signed(32 if self.bits <= 8 else 48)

    @property
    def product_latency(self) -> int:
        """The multiplier's register."""
        return 1

    @property
    def add_latency(self) -> int:
        """The adder's register."""
        return 1

    @property
    def accumulate_latency(self) -> int:
        """Comparison and clearing; the adder's result is written as it comes."""
        return 2

    def prepare(self, operand: Value, sign: Value, zero_point: Value) -> Value:
        """Subtract the zero point."""
        return Cat(operand, sign).as_signed() - zero_point

    def multiply(self, m: Module, a: Value, w: Value, shape: Shape, *, enable: Value | None = None) -> Value:
        """Multiply into one register.

        It may be as wide as a sum: synthesis merges the copies of a product's sign, and that is less work to
        simulate than to extend the sign of an adder's operands every cycle.
        """
        product = Signal(shape, name="product", reset_less=True)
        with nullcontext() if enable is None else m.If(enable):
            m.d.sync += product.eq(a * w)
        return product

    def add(self, m: Module, a: Value, b: Value, shape: Shape, name: str) -> Value:
        """Add into one register."""
        total = Signal(shape, name=name, reset_less=True)
        m.d.sync += total.eq(a + b)
        return total

    def accumulate(self, m: Module, old: Value, new: Value, control: Any) -> Value:
        """Compare, clear what must not enter the sum, and add.

        Clearing in a cycle of its own costs registers' reset inputs instead of logic.
        """
        old_after = Signal(old.shape(), reset_less=True)
        new_after = Signal(new.shape(), reset_less=True)
        below = Signal(reset_less=True)
        m.d.sync += [old_after.eq(old), new_after.eq(new), below.eq(old < new)]
        control = delay(m, control, 1, "reading_clear")
        kept = Signal(old.shape(), reset_less=True)
        added = Signal(new.shape(), reset_less=True)
        m.d.sync += [kept.eq(old_after), added.eq(new_after)]
        self._clear(m, control, below, kept, added)
        return kept + added

    def accumulate_shifted(self, m: Module, old: Value, new: Value, control: Any) -> Value:
        """Shift by whole bytes beside the comparison, by what is left beside clearing, and add.

        What is shifted is added to the other one, whichever it is: the shifter stands once, and has a bit below the
        sum's, which is the one that rounds and becomes the carry of the addition. Since nothing is compared in a
        command that shifts accumulators, and they are not shifted where they are overwritten, ``added`` is the new
        sum wherever that matters.
        """
        shift = control.shift
        chosen = Signal(old.shape())
        other = Signal(old.shape(), reset_less=True)
        bytes_after = Signal(signed(old.shape().width + 1), reset_less=True)
        below = Signal(reset_less=True)
        m.d.comb += chosen.eq(Mux(shift.old, old, new))
        m.d.sync += [
            other.eq(Mux(shift.old, new, old)),
            bytes_after.eq(Cat(Const(0, 1), chosen).as_signed() >> Cat(Const(0, 3), shift.amount[3:])),
            below.eq(old < new),
        ]
        control = delay(m, control, 1, "reading_clear")
        kept = Signal(old.shape(), reset_less=True)
        added = Signal(bytes_after.shape(), reset_less=True)
        m.d.sync += [kept.eq(other), added.eq(bytes_after >> control.shift.amount[:3])]
        self._clear(m, control, below, kept, added)
        return (Cat(Const(1, 1), kept) + added)[1:]

    def _clear(self, m: Module, control: Any, below: Value, kept: Signal, added: Signal) -> None:
        """Clear what must not enter the sum."""
        with m.If(control.first | control.maximum & below):
            m.d.sync += kept.eq(0)
        with m.If(~control.first & control.maximum & ~below):
            m.d.sync += added.eq(0)

    def combine(self, m: Module, a: Value, b: Value, without: Value, maximum: Value) -> Value:
        """Add or compare with one adder: sums are compared by subtraction."""
        operand = Signal(a.shape())
        total = Signal(signed(len(a) + 1))
        result = Signal(a.shape())
        m.d.comb += [
            operand.eq(Mux(without, 0, b) ^ maximum.replicate(len(a))),
            total.eq(a + operand + maximum),
            result.eq(Mux(maximum, Mux(total[-1] & ~without, b, a), total)),
        ]
        return result

    def neutral(self, maximum: Value) -> Value:
        """Zero, or the most negative sum."""
        return Cat(Const(0, self.accumulator.width - 1), maximum).as_signed()

    def windows(self) -> range:
        """No choice: sums take whole products."""
        return range(1)

    def term(self, product: Value, shift: Value) -> Value:
        """All of a product."""
        return product

    def operand_range(self, is_unsigned: bool) -> tuple[int, int]:
        """Range of signed or unsigned integers of the operands' width."""
        half = 1 << self.bits - 1
        return (0, 2 * half - 1) if is_unsigned else (-half, half - 1)

    def to_memory(self, values: np.ndarray, item: int) -> np.ndarray:
        """Integers in two's complement, the bits above `item` bytes cut off."""
        return values.astype(np.int64).astype(f"<u{item}")

    def from_memory(self, data: bytes, item: int, dtype: np.dtype) -> np.ndarray:
        """Integers with the sign that `dtype` says."""
        return np.frombuffer(data, f"<{'u' if dtype.kind == 'u' else 'i'}{item}").astype(dtype)

    def words(self, stored: np.ndarray, is_unsigned: bool, zero_point: int) -> np.ndarray:
        """Operands' low bits, sign-extended if signed, less the zero point."""
        low = stored.astype(np.int64) & (1 << self.bits) - 1
        return (low if is_unsigned else low - (low >> self.bits - 1 << self.bits)) - zero_point

    @property
    def sum_type(self) -> np.dtype:
        """Integers of 64 bits."""
        return np.dtype(np.int64)

    def column_sums(self, a: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Products of matrices in float64, which is exact for as many products as there are rows, and fast."""
        sums: np.ndarray = (a.astype(np.float64) @ w.astype(np.float64)).astype(np.int64)
        return sums

    def total(self, old: np.ndarray | None, new: np.ndarray, maximum: bool) -> np.ndarray:
        """Sums modulo 2**width, or the greater ones."""
        bits = self.accumulator.width
        if old is not None:
            new = np.maximum(old, new) if maximum else old + new
        wrapped: np.ndarray = (new + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1)
        return wrapped
