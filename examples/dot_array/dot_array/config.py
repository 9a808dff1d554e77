"""Configuration of an accelerator with dot-product units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pearray import PearrayError
from pearray.hdl.shell.commands import ADDRESS_BITS
from pearray.hdl.shell.config import Array, Config, Memory, OutputScratchpads, Post, Section, integer

from .commands import COMMANDS

__all__ = ["Accumulators", "DotConfig", "Scratchpads"]


@dataclass(frozen=True, kw_only=True)
class Scratchpads(OutputScratchpads):
    """Buffers of operands as well, in bytes."""

    activation_bytes: int = integer(None, 64, 1 << ADDRESS_BITS, "activation scratchpad", power=True)
    weight_bytes: int = integer(None, 64, 1 << ADDRESS_BITS, "weight scratchpad", power=True)


@dataclass(frozen=True, kw_only=True)
class Accumulators(Section):
    """Two banks of finished sums."""

    SECTION = "accumulators"

    depth: int = integer(None, 4, 1 << 16, "pixels, a sum of each unit, in each of the two banks", power=True)


@dataclass(frozen=True, kw_only=True)
class DotConfig(Config):
    """Parameters of an accelerator with N = ``array.rows`` units of K = ``array.cols`` products.

    A line of the activation scratchpad holds K operands, one of the weight scratchpad K x N, and a beat of memory
    is a part of a line: hence the powers of two.

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

    KIND = "dot"
    NUMBER = 100
    SECTIONS: ClassVar[dict[str, type[Any]]] = {
        "array": Array, "scratchpads": Scratchpads, "accumulators": Accumulators, "post": Post, "memory": Memory,
    }
    commands = COMMANDS

    scratchpads: Scratchpads
    accumulators: Accumulators

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.array.operand_bits > 8:
            raise PearrayError(f"array.operand_bits must be at most 8 for array.kind = {self.KIND!r}, "
                               f"not {self.array.operand_bits}")
        for name, least in (("rows", 1), ("cols", max(1, self.beat_bytes // self.operand_bytes))):
            value = getattr(self.array, name)
            if value < least or value & value - 1:
                raise PearrayError(f"array.{name} must be a power of two of at least {least} for array.kind = "
                                   f"{self.KIND!r} and this memory, not {value}")
        if self.array.rows % self.post.lanes:
            raise PearrayError(f"post.lanes must divide array.rows = {self.array.rows}, not {self.post.lanes}")
        for name, line in (("activation_bytes", self.array.cols), ("weight_bytes", self.pes)):
            if getattr(self.scratchpads, name) < 2 * line:
                raise PearrayError(f"scratchpads.{name} must be at least {2 * line} (two lines), "
                                   f"not {getattr(self.scratchpads, name)}")

    @property
    def accumulator_bits(self) -> int:
        """Width of a sum."""
        return 32

    @property
    def sum_columns(self) -> int:
        """Sums of a row that post-processing works through: one of each unit."""
        return self.array.rows

    @property
    def sum_rows(self) -> int:
        """Rows of sums from which post-processing reads: the pixels of a bank."""
        return self.accumulators.depth

    @property
    def activation_lines(self) -> int:
        """Lines of K operands in the activation scratchpad."""
        return self.scratchpads.activation_bytes // self.array.cols

    @property
    def weight_lines(self) -> int:
        """Lines of K x N operands in the weight scratchpad."""
        return self.scratchpads.weight_bytes // self.pes

    @property
    def memories(self) -> dict[str, int]:
        """On-chip memories of data, and the bytes of each."""
        pads = self.scratchpads
        return {"scratchpads": pads.activation_bytes + pads.weight_bytes + pads.output_bytes,
                "accumulators": 2 * self.accumulators.depth * self.array.rows * self.sum_bytes}

    @property
    def capabilities(self) -> Mapping[str, tuple[int, str]]:
        """Value and meaning of registers that tell the host what was generated, by name."""
        return {
            "activation_bytes": (self.scratchpads.activation_bytes, "bytes of the activation scratchpad"),
            "weight_bytes": (self.scratchpads.weight_bytes, "bytes of the weight scratchpad"),
            "accumulator_depth": (self.accumulators.depth, "pixels of each bank of sums"),
        }
