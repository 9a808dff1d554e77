"""Configuration of an accelerator: the parameters that decide its Verilog, and its memory's timing."""

from dataclasses import dataclass, field, fields
from typing import Any

from amaranth.utils import ceil_log2

from .commands import ADDRESS_BITS
from .errors import PearrayError

__all__ = ["Accumulators", "Array", "Config", "Memory", "Post", "Scratchpads"]


def _integer(default: int | None, low: int, high: int, doc: str, *, power: bool = False) -> Any:
    """Declare an integer field that is checked against its range when the section is made."""
    metadata = {"low": low, "high": high, "power": power, "doc": doc}
    if default is None:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


class _Section:
    """A group of checked fields, one table of the configuration file."""

    def __post_init__(self) -> None:
        section = type(self).__name__.lower()
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            if "low" not in item.metadata:
                continue
            low, high = item.metadata["low"], item.metadata["high"]
            allowed = f"an integer in {low}..{high}"
            if item.metadata["power"]:
                allowed = f"a power of two in {low}..{high}"
            if (type(value) is not int or not low <= value <= high
                    or (item.metadata["power"] and value & value - 1)):
                raise PearrayError(f"{section}.{item.name} must be {allowed}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Array(_Section):
    """Array of processing elements."""

    kind: str = "systolic"
    rows: int = _integer(None, 1, 256, "rows of processing elements")
    cols: int = _integer(None, 1, 256, "columns of processing elements")
    operand_bits: int = _integer(8, 4, 16, "width of an activation or weight")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind != "systolic":
            raise PearrayError(f"array.kind must be 'systolic', not {self.kind!r}")


@dataclass(frozen=True, kw_only=True)
class Scratchpads(_Section):
    """On-chip buffers between memory and the array, in bytes unless said otherwise."""

    activation_bytes: int = _integer(None, 64, 1 << ADDRESS_BITS, "activation scratchpad", power=True)
    weight_bytes: int = _integer(None, 64, 1 << ADDRESS_BITS, "weight scratchpad", power=True)
    output_bytes: int = _integer(None, 64, 1 << ADDRESS_BITS, "output scratchpad", power=True)
    channels: int = _integer(256, 16, 4096, "output channels whose bias and scale are held", power=True)


@dataclass(frozen=True, kw_only=True)
class Accumulators(_Section):
    """Two banks of sums below the array."""

    depth: int = _integer(None, 4, 1 << 16, "rows of C sums in each of the two banks", power=True)


@dataclass(frozen=True, kw_only=True)
class Post(_Section):
    """Post-processing lanes."""

    lanes: int = _integer(1, 1, 64, "outputs processed a cycle; divides array.cols", power=True)


@dataclass(frozen=True, kw_only=True)
class Memory(_Section):
    """AXI4 port, and the timing of the memory model behind it (which the Verilog does not depend on)."""

    data_width: int = _integer(None, 32, 512, "bits of a beat", power=True)
    read_latency: int = _integer(32, 1, 10_000, "cycles from a read address to its first beat")
    write_latency: int = _integer(32, 1, 10_000, "cycles from the last beat of a write to its response")
    outstanding: int = _integer(8, 1, 256, "bursts in flight each way")
    beats_per_cycle: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.beats_per_cycle
        if type(value) not in (int, float) or not 0 < value <= 1:
            raise PearrayError(f"memory.beats_per_cycle must be a number above 0 and at most 1, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Parameters of one accelerator.

    Parameters
    ----------
    name : str
        Name of the configuration, used in reports and for the top-level module.
    array, scratchpads, accumulators, post, memory : section
        See the sections.

    Raises
    ------
    PearrayError
        If the sections contradict one another.
    """

    name: str
    array: Array
    scratchpads: Scratchpads
    accumulators: Accumulators
    post: Post
    memory: Memory

    def __post_init__(self) -> None:
        if self.array.cols % self.post.lanes:
            raise PearrayError(f"post.lanes must divide array.cols = {self.array.cols}, not {self.post.lanes}")
        line = self.banks * self.operand_bytes
        for name in ("activation_bytes", "weight_bytes", "output_bytes"):
            if getattr(self.scratchpads, name) < 2 * line:
                raise PearrayError(f"scratchpads.{name} must be at least {2 * line} (two lines of this array "
                                   f"and memory), not {getattr(self.scratchpads, name)}")
        if self.accumulators.depth < self.array.rows:
            raise PearrayError(f"accumulators.depth must be at least array.rows = {self.array.rows}, "
                               f"not {self.accumulators.depth}")

    @property
    def operand_bytes(self) -> int:
        """Bytes of an activation or weight in memory: 1 up to 8 bits, else 2."""
        return 1 if self.array.operand_bits <= 8 else 2

    @property
    def accumulator_bits(self) -> int:
        """Width of an accumulator: 32 up to 8-bit operands, else 48."""
        return 32 if self.array.operand_bits <= 8 else 48

    @property
    def sum_bytes(self) -> int:
        """Bytes of an unrounded sum in memory."""
        return 4 if self.accumulator_bits == 32 else 8

    @property
    def pe_bits(self) -> int:
        """Width of an operand inside the array: one bit more, after its zero point has gone."""
        return self.array.operand_bits + 1

    @property
    def os_depth(self) -> int:
        """Products that a PE can sum in output-stationary mode before it must drain."""
        return max(64, 2 << ceil_log2(self.array.rows))

    @property
    def psum_bits(self) -> int:
        """Width of a partial sum inside the array: never overflows over R rows or ``os_depth`` products."""
        return 2 * self.array.operand_bits + 1 + ceil_log2(max(self.array.rows, self.os_depth))

    @property
    def beat_bytes(self) -> int:
        """Bytes of an AXI beat."""
        return self.memory.data_width // 8

    @property
    def banks(self) -> int:
        """Operand-wide banks of the activation and weight scratchpads (a power of two)."""
        return 1 << ceil_log2(max(self.array.rows, self.array.cols, self.beat_bytes // self.operand_bytes))

    @property
    def pes(self) -> int:
        """Processing elements."""
        return self.array.rows * self.array.cols
