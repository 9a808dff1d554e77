"""Floating point: operands of a short format, float32 sums, each rounded to nearest, halves to even."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value, unsigned

from ..errors import PearrayError
from .arithmetic import Arithmetic
from .float_formats import FLOAT32, FloatFormat
from .float_multiply import FloatMultiply
from .float_sum import FloatSum

__all__ = ["FloatArithmetic", "less_than"]

#: Zero with a sign, which leaves every number as it is that it is added to, zeros of both signs among them.
_NEUTRAL = 1 << 31


@dataclass(frozen=True)
class FloatArithmetic(Arithmetic):
    """Numbers of floating point: products and sums are float32, and each sum is rounded as IEEE 754 says.

    A word has a bit above its operand which says that there is one. Without it, a word is none that engines clear: its
    product with any other, an infinity as well, is the zero with a sign, which changes no sum.

    Sums depend on the order of additions, which is the array's. What is no number is 0x7FC00000.

    Parameters
    ----------
    format : FloatFormat
        Format of operands, of at most 16 bits.
    product_latency, add_latency : int
        Cycles of a product, 1 to 6, and of a sum, 1 to 8.

    Raises
    ------
    PearrayError
        If the format is too long, or there is no such latency.
    """

    format: FloatFormat
    product_latency: int = 1
    add_latency: int = 1

    def __post_init__(self) -> None:
        if self.format.bits > 16:
            raise PearrayError(f"format must be one of at most 16 bits, not {self.format.name}")
        for name, most in (("product_latency", FloatMultiply.MOST), ("add_latency", FloatSum.MOST)):
            if not 1 <= getattr(self, name) <= most:
                raise PearrayError(f"{name} must be in 1..{most} cycles, not {getattr(self, name)}")

    @property
    def bits(self) -> int:
        """Bits of an operand."""
        return self.format.bits

    @property
    def operands(self) -> str:
        """Name of their format."""
        return self.format.name

    @property
    def word(self) -> Shape:
        """Shape of a word: a bit above the operand's says that there is one."""
        return unsigned(self.bits + 1)

    @property
    def product(self) -> Shape:
        """Bits of a float32."""
        return unsigned(FLOAT32.bits)

    def psum(self, products: int) -> Shape:
        """Bits of a float32, whatever it sums."""
        return unsigned(FLOAT32.bits)

    @property
    def accumulator(self) -> Shape:
        """Bits of a float32."""
        return unsigned(FLOAT32.bits)

    @property
    def accumulate_latency(self) -> int:
        """A cycle to choose what enters the sum, and an addition."""
        return 1 + self.add_latency

    def prepare(self, operand: Value, sign: Value, zero_point: Value) -> Value:
        """Say that there is an operand."""
        return Cat(operand, Const(1, 1))

    def multiply(self, m: Module, a: Value, w: Value, shape: Shape, *, enable: Value | None = None) -> Value:
        """Multiply, and clear what has no word behind it."""
        multiplier = FloatMultiply(self.format, self.product_latency, _NEUTRAL)
        m.submodules.multiplier = multiplier
        product = Signal(shape, name="product")
        m.d.comb += [
            multiplier.a.eq(a[:-1]), multiplier.b.eq(w[:-1]), multiplier.absent.eq(~(a[-1] & w[-1])),
            product.eq(multiplier.product),
        ]
        return product

    def add(self, m: Module, a: Value, b: Value, shape: Shape, name: str) -> Value:
        """Add as IEEE 754 does."""
        total = Signal(shape, name=name)
        m.d.comb += total.eq(_sum(m, a, b, self.add_latency, name))
        return total

    def accumulate(self, m: Module, old: Value, new: Value, control: Any) -> Value:
        """Choose what enters the sum in one cycle, then add."""
        return self._accumulated(m, old, new, less_than(old, new), control)

    def _accumulated(self, m: Module, old: Value, new: Value, is_less: Value, control: Any) -> Value:
        """Choose, where `is_less` says whether the accumulator is less than the partial sum, and add."""
        kept, added = Signal(FLOAT32.bits, name="kept"), Signal(FLOAT32.bits, name="added")
        m.d.sync += [
            kept.eq(Mux(control.first | control.maximum & is_less, _NEUTRAL, old)),
            added.eq(Mux(~control.first & control.maximum & ~is_less, _NEUTRAL, new)),
        ]
        return self.add(m, kept, added, self.accumulator, "accumulated")

    def accumulate_shifted(self, m: Module, old: Value, new: Value, control: Any) -> Value:
        """Subtract from the exponent of one of both, then accumulate them."""
        shift = control.shift
        chosen, divided = Signal(FLOAT32.bits, name="to_divide"), Signal(FLOAT32.bits, name="divided")
        exponent = chosen[FLOAT32.fraction:-1]
        lower = Signal(FLOAT32.exponent, name="lower_exponent")
        m.d.comb += [
            chosen.eq(Mux(shift.old, old, new)),
            lower.eq(exponent - shift.amount),
            divided.eq(Mux(exponent.all() | (shift.amount == 0), chosen, Mux(
                exponent > shift.amount, Cat(chosen[:FLOAT32.fraction], lower, chosen[-1]), 0))),
        ]
        # What is divided is not compared.
        return self._accumulated(m, Mux(shift.old, divided, old), Mux(shift.old, new, divided), less_than(old, new),
                                 control)

    def combine(self, m: Module, a: Value, b: Value, without: Value, maximum: Value) -> Value:
        """Add or compare at once."""
        is_less = less_than(a, b)
        first = Mux(maximum & ~without & is_less, _NEUTRAL, a)
        second = Mux(without | maximum & ~is_less, _NEUTRAL, b)
        return _sum(m, first, second, 0, "combined")

    def neutral(self, maximum: Value) -> Value:
        """Zero, or the infinity below all numbers."""
        return Mux(maximum, _NEUTRAL | FLOAT32.beyond, 0)

    def windows(self) -> range:
        """No choice: sums take whole products."""
        return range(1)

    def term(self, product: Value, shift: Value) -> Value:
        """All of a product."""
        return product

    def operand_range(self, is_unsigned: bool) -> tuple[int, int]:
        """Greatest finite numbers of both signs, towards zero to integers."""
        most = int(self.words(np.array(self.format.greatest), False, 0))
        return -most, most

    def to_memory(self, values: np.ndarray, item: int) -> np.ndarray:
        """Bits of numbers of the format, or of float32; integers are bits already."""
        if values.dtype.kind in "iu":
            return values.astype(np.int64).astype(f"<u{item}")
        return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}").astype(f"<u{item}")

    def from_memory(self, data: bytes, item: int, dtype: np.dtype) -> np.ndarray:
        """Numbers of a type of as many bytes."""
        return np.frombuffer(data, f"<u{item}").astype(f"u{item}").view(dtype)

    @property
    def one(self) -> int:
        """An exponent alone."""
        return self.format.bias << self.format.fraction

    def words(self, stored: np.ndarray, is_unsigned: bool, zero_point: int) -> np.ndarray:
        """Float32 values of operands."""
        return stored.astype(f"u{self.format.dtype.itemsize}").view(self.format.dtype).astype(np.float32)

    @property
    def sum_type(self) -> np.dtype:
        """Float32."""
        return np.dtype(np.float32)

    def column_sums(self, a: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Add products to zero as they stand below one another, each sum rounded to float32."""
        total = np.zeros((len(a), w.shape[1]), np.float32)
        with np.errstate(all="ignore"):
            for row, weights in enumerate(w):
                total += a[:, row, None] * weights
        return total

    def total(self, old: np.ndarray | None, new: np.ndarray, maximum: bool) -> np.ndarray:
        """Float32 sums, or the greater ones; of two that are equal the older."""
        if old is None:
            return new
        with np.errstate(all="ignore"):
            return np.where(old < new, new, old) if maximum else old + new


def _sum(m: Module, a: Value, b: Value, latency: int, name: str) -> Value:
    adder = FloatSum(latency)
    m.submodules[f"{name}_adder"] = adder
    m.d.comb += [adder.a.eq(a), adder.b.eq(b)]
    return adder.sum


def less_than(a: Value, b: Value) -> Value:
    """Whether a float32 is less than another: zeros of both signs are equal, what is no number is not compared."""
    a_sign, b_sign, is_zero = a[-1], b[-1], ~(a[:-1].any() | b[:-1].any())
    magnitude = Mux(a_sign, a[:-1] > b[:-1], a[:-1] < b[:-1])
    is_number = ~(FLOAT32.is_none(a) | FLOAT32.is_none(b))
    return is_number & ~is_zero & Mux(a_sign ^ b_sign, a_sign, magnitude)
