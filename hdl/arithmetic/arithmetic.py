"""What numbers are on an accelerator: shapes, hardware that computes with them, and how long that takes."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from amaranth.hdl import Module, Shape, Value
from amaranth.utils import ceil_log2

__all__ = ["Arithmetic"]


class Arithmetic(ABC):
    """Numbers of an accelerator, for the engines that compute with them and for the host.

    Engines ask for shapes, for hardware, and for the cycles that this hardware takes, and derive every delay of
    their own from those: skew, control, drains, how soon a row of accumulators may come again. The host asks how
    numbers stand in memory. Neither knows what the bits mean.

    Three kinds of numbers are told apart. An *operand* is an activation or weight as memory holds it. A *word* is
    what a multiplier takes: an operand without its zero point. A *sum* is a partial sum in the array
    (:meth:`psum`), or a finished one in an accumulator (:attr:`accumulator`).

    Hardware is built by methods that get the module to put it into. It takes new numbers every cycle and never
    stalls; its result is there as many cycles after its numbers as the latency says. Nothing in it is reset.
    Whatever the format,

    * all bits zero are the number zero, as operand behind its zero point, word and sum;
    * the product of zero and any word, whatever its bits, leaves a sum as it is. Engines clear one word of a product
      that must not count; what the other one holds may be left over from something else.

    Objects are immutable and hashable, since the Verilog of a design unit follows from them.

    Parameters
    ----------
    bits : int
        Width of an operand in memory.
    """

    bits: int

    @property
    def operands(self) -> str:
        """What operands are, in a few words."""
        return f"{self.bits} bits"

    # Shapes.

    @property
    def operand_bytes(self) -> int:
        """Bytes of an operand in memory: a power of two."""
        return 1 << ceil_log2(-(-self.bits // 8))

    @property
    def sum_bytes(self) -> int:
        """Bytes of a finished sum in memory: a power of two."""
        return 1 << ceil_log2(-(-self.accumulator.width // 8))

    @property
    @abstractmethod
    def word(self) -> Shape:
        """Shape of a word."""

    @property
    @abstractmethod
    def product(self) -> Shape:
        """Shape of a whole product of two words."""

    @abstractmethod
    def psum(self, products: int) -> Shape:
        """Shape of a partial sum in the array, which holds the sum of as many products."""

    @property
    @abstractmethod
    def accumulator(self) -> Shape:
        """Shape of a finished sum."""

    # Latencies, in cycles.

    @property
    @abstractmethod
    def product_latency(self) -> int:
        """Cycles from words to their product, at least 1; see :meth:`multiply`."""

    @property
    @abstractmethod
    def add_latency(self) -> int:
        """Cycles from two sums to their sum, at least 1; see :meth:`add`."""

    @property
    @abstractmethod
    def accumulate_latency(self) -> int:
        """Cycles from an accumulator and a partial sum to the new accumulator; see :meth:`accumulate`."""

    # Hardware.

    @abstractmethod
    def prepare(self, operand: Value, sign: Value, zero_point: Value) -> Value:
        """Word of an operand: combinational, to be registered by the caller.

        Parameters
        ----------
        operand : Value
            ``bits`` bits from memory.
        sign : Value
            Bit that extends an integer: the operand's highest one if it is signed, else 0. Formats whose operands
            are always of one kind ignore it.
        zero_point : Value
            What stands for zero, signed; formats without zero points ignore it.

        Returns
        -------
        Value
            The word in its low bits.
        """

    @abstractmethod
    def multiply(self, m: Module, a: Value, w: Value, shape: Shape, *, enable: Value | None = None) -> Value:
        """Product of two words, ``product_latency`` cycles later, from a register.

        Parameters
        ----------
        m : Module
            Module that gets the multiplier.
        a, w : Value
            Words, from registers.
        shape : Shape
            Shape of the result: :attr:`product`, or that of a partial sum.
        enable : Value, optional
            Whether there are words. Without them, registers may keep what they hold.

        Returns
        -------
        Value
            The product.
        """

    @abstractmethod
    def add(self, m: Module, a: Value, b: Value, shape: Shape, name: str) -> Value:
        """Sum of two sums, ``add_latency`` cycles later, from a register.

        Parameters
        ----------
        m : Module
            Module that gets the adder.
        a, b : Value
            Sums; if they are as wide as the result, their signedness doesn't matter.
        shape : Shape
            Shape of the result.
        name : str
            Name of its register.

        Returns
        -------
        Value
            The sum.
        """

    @abstractmethod
    def accumulate(self, m: Module, old: Value, new: Value, control: Any) -> Value:
        """Next value of an accumulator, ``accumulate_latency`` cycles later.

        The result is the partial sum where ``control.first`` is set, else the greater of both where
        ``control.maximum`` is, else their sum. It may come out of logic, but goes into a memory in the same cycle.

        Parameters
        ----------
        m : Module
            Module that gets the hardware.
        old, new : Value
            Accumulator and partial sum, from registers or an array.
        control : View
            Bits that come with them, ``first`` and ``maximum`` among others.

        Returns
        -------
        Value
            The accumulator's next value.
        """

    def accumulate_shifted(self, m: Module, old: Value, new: Value, control: Any) -> Value:
        """Next value of an accumulator which, or whose partial sum, is divided by a power of two beforehand.

        Parameters and result are those of :meth:`accumulate`, and it takes as long. ``control.shift`` tells what is
        divided: ``old`` if its bit of that name is set, else ``new``, by ``2**amount``, of 0 to 31. Integers are
        rounded half up. A row that overwrites or keeps the greater never divides ``old``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no shifts")

    @abstractmethod
    def combine(self, m: Module, a: Value, b: Value, without: Value, maximum: Value) -> Value:
        """Sum of two finished sums, or the greater of them, in the same cycle.

        For arrays whose PEs sum in one register, which needs an ``add_latency`` of 1.

        Parameters
        ----------
        m : Module
            Module that gets the adder.
        a, b : Value
            Sums of the accumulators' shape.
        without : Value
            ``b`` doesn't count: the result is ``a``.
        maximum : Value
            Whether the greater is wanted.

        Returns
        -------
        Value
            The sum.
        """

    @abstractmethod
    def neutral(self, maximum: Value) -> Value:
        """What a finished sum begins at: zero, or the least number where ``maximum`` is set."""

    @abstractmethod
    def windows(self) -> range:
        """Values of ``shift`` in :meth:`term`, if sums take a window of a product's bits; else 0 only."""

    @abstractmethod
    def term(self, product: Value, shift: Value) -> Value:
        """What a finished sum takes of a whole product, combinational: all, or a window above bit ``shift``."""

    # The host.

    @abstractmethod
    def operand_range(self, is_unsigned: bool) -> tuple[int, int]:
        """Least and greatest operand that memory can hold."""

    @abstractmethod
    def to_memory(self, values: np.ndarray, item: int) -> np.ndarray:
        """Numbers as memory holds them.

        Parameters
        ----------
        values : ndarray of any shape
            Operands or sums.
        item : int
            Bytes of each: ``operand_bytes`` for operands.

        Returns
        -------
        ndarray of the same shape
            Little-endian unsigned integers of `item` bytes.
        """

    @abstractmethod
    def from_memory(self, data: bytes, item: int, dtype: np.dtype) -> np.ndarray:
        """Numbers of `item` bytes each, as :meth:`to_memory` made them, as a one-dimensional array of `dtype`."""

    @property
    def one(self) -> int:
        """Bits of an operand that multiplies by one, where its zero point is 0."""
        return 1

    @abstractmethod
    def words(self, stored: np.ndarray, is_unsigned: bool, zero_point: int) -> np.ndarray:
        """Values of the words of operands, as :meth:`prepare` makes them of what memory holds.

        Parameters
        ----------
        stored : ndarray of unsigned integers
            Operands as memory holds them.
        is_unsigned : bool
            Whether integers are unsigned.
        zero_point : int
            What stands for zero.
        """

    @property
    @abstractmethod
    def sum_type(self) -> np.dtype:
        """Type that holds values of sums."""

    @abstractmethod
    def column_sums(self, a: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Partial sums that leave the columns of an array.

        Parameters
        ----------
        a : (M, K) ndarray
            Values of words, row k of the array meeting column k; see :meth:`words`.
        w : (K, N) ndarray
            Values of the words in the array, at most as many rows as it has.

        Returns
        -------
        (M, N) ndarray of :attr:`sum_type`
            Sums of products, added as the array adds them.
        """

    @abstractmethod
    def total(self, old: np.ndarray | None, new: np.ndarray, maximum: bool) -> np.ndarray:
        """Values of accumulators, as :meth:`accumulate` makes them.

        Parameters
        ----------
        old : ndarray or None
            Accumulators before; None where the partial sums are the first ones.
        new : ndarray
            Partial sums, or finished ones.
        maximum : bool
            Whether the greater of both is kept.
        """
