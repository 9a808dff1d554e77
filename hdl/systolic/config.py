"""Configuration of an accelerator with the systolic array."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from amaranth.utils import ceil_log2

from ..arithmetic.arithmetic import Arithmetic
from ..arithmetic.float_formats import FLOAT32, FORMATS
from ..arithmetic.float_multiply import FloatMultiply
from ..arithmetic.float_sum import FloatSum
from ..arithmetic.floating import FloatArithmetic
from ..errors import PearrayError
from ..sections import Section, integer
from ..shell.commands import ADDRESS_BITS
from ..shell.config import Array as PlainArray
from ..shell.config import CommandsOf, Config, Memory, OutputScratchpads, Post
from ..shell.functions import FLOAT_FUNCTIONS, FUNCTIONS
from .commands import command_set

__all__ = ["Accumulators", "Array", "Scratchpads", "SystolicConfig"]

#: Operands that are no floats: integers of ``array.operand_bits``.
INTEGERS = "integer"

#: Formats of floats that operands may have; sums are float32.
OPERANDS = tuple(name for name in FORMATS if name != FLOAT32.name)


@dataclass(frozen=True, kw_only=True)
class Array(PlainArray):
    """Array of processing elements, which can pass weights on diagonally, and compute in floating point."""

    operands: str = field(default=INTEGERS, metadata={"doc": "integer, or a format of floats, whose sums are float32"})
    product_cycles: int = integer(1, 1, FloatMultiply.MOST, "cycles of a product of floats")
    sum_cycles: int = integer(1, 1, FloatSum.MOST, "cycles of a sum of floats")
    toeplitz: int = integer(0, 0, 1, "1 for tiles whose rows of weights are those before, one column on, in 3 cycles")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.operands not in (INTEGERS, *OPERANDS):
            raise PearrayError(f"array.operands must be {INTEGERS} or {', '.join(OPERANDS)}, not {self.operands!r}")
        if not self.is_float:
            for name in ("product_cycles", "sum_cycles"):
                if getattr(self, name) != 1:
                    raise PearrayError(f"array.{name} must be 1 with array.operands = {INTEGERS!r}, "
                                       f"not {getattr(self, name)}")
            return
        bits = FORMATS[self.operands].bits
        if self.operand_bits not in (8, bits):
            raise PearrayError(f"array.operand_bits must be {bits}, or the default 8 to mean that, with "
                               f"array.operands = {self.operands!r}, not {self.operand_bits}")
        object.__setattr__(self, "operand_bits", bits)
        if self.toeplitz:
            raise PearrayError(f"array.toeplitz must be 0 with array.operands = {self.operands!r}, not {self.toeplitz}")

    @property
    def is_float(self) -> bool:
        """Whether operands are of floating point."""
        return self.operands != INTEGERS


@dataclass(frozen=True, kw_only=True)
class Scratchpads(OutputScratchpads):
    """On-chip buffers between memory and the array as well, in bytes."""

    activation_bytes: int = integer(None, 64, 1 << ADDRESS_BITS, "activation scratchpad", power=True)
    weight_bytes: int = integer(None, 64, 1 << ADDRESS_BITS, "weight scratchpad", power=True)
    output_bytes: int = integer(None, 64, 1 << ADDRESS_BITS, "output scratchpad", power=True)
    vector_bytes: int = integer(16384, 64, 1 << ADDRESS_BITS, "memory of what routines work on, if there are any",
                                power=True)


@dataclass(frozen=True, kw_only=True)
class Accumulators(Section):
    """Two banks of sums below the array."""

    SECTION = "accumulators"

    depth: int = integer(None, 4, 1 << 16, "rows of C sums in each of the two banks", power=True)


@dataclass(frozen=True, kw_only=True)
class SystolicConfig(Config):
    """Parameters of an accelerator with the systolic array.

    Parameters
    ----------
    name : str
        Name of the configuration.
    array, scratchpads, accumulators, post, memory : section
        See the sections.

    Raises
    ------
    PearrayError
        If the sections contradict one another.
    """

    KIND = "systolic"
    NUMBER = 1
    SECTIONS: ClassVar[dict[str, type[Any]]] = {
        "array": Array, "scratchpads": Scratchpads, "accumulators": Accumulators, "post": Post, "memory": Memory,
    }
    commands: ClassVar[Any] = CommandsOf(command_set)
    FUNCTIONS = tuple({**FUNCTIONS, **FLOAT_FUNCTIONS})
    can_move = True

    scratchpads: Scratchpads
    accumulators: Accumulators

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.array.cols % self.post.lanes:
            raise PearrayError(f"post.lanes must divide array.cols = {self.array.cols}, not {self.post.lanes}")
        for key in FUNCTIONS:
            if self.has_floats and key not in FLOAT_FUNCTIONS and (value := getattr(self.post, key)):
                raise PearrayError(f"post.{key} must be 0 with array.operands = {self.array.operands!r}, not {value}")
        if self.has_floats and self.has_moves and not self.has_softmax:
            raise PearrayError(f"scratchpads.moves must be 0 with array.operands = {self.array.operands!r} and without "
                               f"post.softmax = 1, as no program moves any, not {self.scratchpads.moves}")
        if self.has_toeplitz and min(self.array.rows, self.array.cols) < 2:
            raise PearrayError(f"array.toeplitz must be 0 in an array of {self.array.rows} x {self.array.cols} PEs, "
                               f"which has no diagonal, not 1")
        if self.has_routines and self.scratchpads.vector_bytes < 2 * self.output_banks:
            raise PearrayError(f"scratchpads.vector_bytes must be at least {2 * self.output_banks} (two beats, and two "
                               f"groups of post.lanes = {self.post.lanes} words), not {self.scratchpads.vector_bytes}")
        line = self.banks * self.operand_bytes
        for name in ("activation_bytes", "weight_bytes", "output_bytes"):
            if getattr(self.scratchpads, name) < 2 * line:
                raise PearrayError(f"scratchpads.{name} must be at least {2 * line} (two lines of this array "
                                   f"and memory), not {getattr(self.scratchpads, name)}")
        if self.accumulators.depth < self.array.rows:
            raise PearrayError(f"accumulators.depth must be at least array.rows = {self.array.rows}, "
                               f"not {self.accumulators.depth}")

    @property
    def arithmetic(self) -> Arithmetic:
        """Numbers that the array computes with, chosen by ``array.operands``."""
        array = self.array
        if not isinstance(array, Array) or not array.is_float:
            return super().arithmetic
        return FloatArithmetic(FORMATS[array.operands], array.product_cycles, array.sum_cycles)

    @property
    def has_toeplitz(self) -> bool:
        """Whether tiles of Toeplitz matrices can follow one another faster than rows of weights load."""
        return isinstance(self.array, Array) and bool(self.array.toeplitz)

    @property
    def sum_columns(self) -> int:
        """Sums of a row that post-processing works through: the array's columns."""
        return self.array.cols

    @property
    def sum_rows(self) -> int:
        """Rows of sums from which post-processing reads: those of a bank of the accumulators."""
        return self.accumulators.depth

    @property
    def memories(self) -> dict[str, int]:
        """On-chip memories of data, and the bytes of each."""
        pads = self.scratchpads
        vectors = pads.vector_bytes if self.has_routines else 0
        return {"scratchpads": pads.activation_bytes + pads.weight_bytes + pads.output_bytes + vectors,
                "accumulators": 2 * self.accumulators.depth * self.array.cols * self.sum_bytes}

    @property
    def capabilities(self) -> Mapping[str, tuple[int, str]]:
        """Value and meaning of registers that tell the host what was generated, by name."""
        found = {
            "activation_bytes": (self.scratchpads.activation_bytes, "bytes of the activation scratchpad"),
            "weight_bytes": (self.scratchpads.weight_bytes, "bytes of the weight scratchpad"),
            "accumulator_depth": (self.accumulators.depth, "rows of each bank of accumulators"),
        }
        if isinstance(self.arithmetic, FloatArithmetic):
            found["exponent_bits"] = (self.arithmetic.format.exponent,
                                      "bits of the exponent of an operand, which is a float")
        if self.has_routines:
            found["vector_bytes"] = (self.scratchpads.vector_bytes, "bytes of the memory that routines read")
        return found

    @property
    def os_depth(self) -> int:
        """Products that a partial sum in the array can hold: at least R, and those that a PE sums before it drains."""
        return max(64, 2 << ceil_log2(self.array.rows))

    @cached_property
    def banks(self) -> int:
        """Operand-wide banks of the activation and weight scratchpads (a power of two)."""
        return 1 << ceil_log2(max(self.array.rows, self.array.cols, self.beat_bytes // self.operand_bytes))
