"""Configuration of an accelerator: the parameters that decide its Verilog, and its memory's timing."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from amaranth.utils import ceil_log2

from ..errors import PearrayError
from .commands import ADDRESS_BITS

__all__ = [
    "CONFIGS", "Accumulators", "Array", "Config", "GlobalBuffer", "Memory", "OutputScratchpads", "Post",
    "ProcessingElement", "RowStationaryConfig", "Scratchpads", "SystolicConfig",
]


def _integer(default: int | None, low: int, high: int, doc: str, *, power: bool = False) -> Any:
    """Declare an integer field that is checked against its range when the section is made."""
    metadata = {"low": low, "high": high, "power": power, "doc": doc}
    if default is None:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


class _Section:
    """A group of checked fields, one table of the configuration file."""

    #: Name of the table.
    SECTION: ClassVar[str]

    def __post_init__(self) -> None:
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
                raise PearrayError(f"{self.SECTION}.{item.name} must be {allowed}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Array(_Section):
    """Array of processing elements."""

    SECTION = "array"

    kind: str = "systolic"
    rows: int = _integer(None, 1, 256, "rows of processing elements")
    cols: int = _integer(None, 1, 256, "columns of processing elements")
    operand_bits: int = _integer(8, 4, 16, "width of an activation or weight")

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.kind) is not str or self.kind not in CONFIGS:
            raise PearrayError(f"array.kind must be {' or '.join(map(repr, CONFIGS))}, not {self.kind!r}")


@dataclass(frozen=True, kw_only=True)
class OutputScratchpads(_Section):
    """On-chip buffers of post-processing, in bytes unless said otherwise."""

    SECTION = "scratchpads"

    output_bytes: int = _integer(4096, 64, 1 << ADDRESS_BITS, "output scratchpad", power=True)
    channels: int = _integer(256, 16, 4096, "output channels whose bias and scale are held", power=True)


@dataclass(frozen=True, kw_only=True)
class Scratchpads(OutputScratchpads):
    """On-chip buffers between memory and the array as well, in bytes."""

    activation_bytes: int = _integer(None, 64, 1 << ADDRESS_BITS, "activation scratchpad", power=True)
    weight_bytes: int = _integer(None, 64, 1 << ADDRESS_BITS, "weight scratchpad", power=True)
    output_bytes: int = _integer(None, 64, 1 << ADDRESS_BITS, "output scratchpad", power=True)


@dataclass(frozen=True, kw_only=True)
class Accumulators(_Section):
    """Two banks of sums below the array."""

    SECTION = "accumulators"

    depth: int = _integer(None, 4, 1 << 16, "rows of C sums in each of the two banks", power=True)


@dataclass(frozen=True, kw_only=True)
class Post(_Section):
    """Post-processing lanes."""

    SECTION = "post"

    lanes: int = _integer(1, 1, 64, "outputs processed a cycle; divides array.cols", power=True)


@dataclass(frozen=True, kw_only=True)
class ProcessingElement(_Section):
    """Scratchpads of a processing element of the row-stationary array, in words."""

    SECTION = "pe"

    ifmap_words: int = _integer(12, 1, 255, "ifmap words: the longest window")
    filter_words: int = _integer(224, 8, 256, "filter words: the windows of all filters")
    psum_words: int = _integer(24, 4, 256, "sums that wait for those of the PE below")


@dataclass(frozen=True, kw_only=True)
class GlobalBuffer(_Section):
    """Memory of the row-stationary array for ifmaps and psums, and the one for filters, in lines of 64 bits."""

    SECTION = "global_buffer"

    banks: int = _integer(25, 1, 256, "banks for ifmaps and psums")
    bank_lines: int = _integer(512, 32, 1 << 14, "lines of a bank", power=True)
    filter_banks: int = _integer(2, 1, 64, "banks for filters and setups")


@dataclass(frozen=True, kw_only=True)
class Memory(_Section):
    """AXI4 port, and the timing of the memory model behind it (which the Verilog does not depend on)."""

    SECTION = "memory"

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
class Config(ABC):
    """Parameters of one accelerator, of whichever kind; :data:`CONFIGS` has the classes of the kinds.

    Parameters
    ----------
    name : str
        Name of the configuration, used in reports and for the top-level module.
    array, scratchpads, post, memory : section
        See the sections.

    Raises
    ------
    PearrayError
        If the sections contradict one another.
    """

    #: Value of ``array.kind``.
    KIND: ClassVar[str]
    #: Tables of a configuration file, each with the dataclass that holds it.
    SECTIONS: ClassVar[dict[str, type[Any]]]

    name: str
    array: Array
    scratchpads: OutputScratchpads
    post: Post
    memory: Memory

    def __post_init__(self) -> None:
        if self.array.kind != self.KIND:
            raise PearrayError(f"array.kind must be {self.KIND!r} in a {type(self).__name__}, not {self.array.kind!r}")

    @property
    def operand_bytes(self) -> int:
        """Bytes of an activation or weight in memory: 1 up to 8 bits, else 2."""
        return 1 if self.array.operand_bits <= 8 else 2

    @property
    @abstractmethod
    def accumulator_bits(self) -> int:
        """Width of a finished sum."""

    @property
    def sum_bytes(self) -> int:
        """Bytes of an unrounded sum in memory: a power of two."""
        return 1 << ceil_log2(self.accumulator_bits // 8)

    @property
    def has_post(self) -> bool:
        """Whether there is post-processing, and POST commands."""
        return True

    @property
    @abstractmethod
    def sum_columns(self) -> int:
        """Sums of a row that post-processing works through."""

    @property
    @abstractmethod
    def sum_rows(self) -> int:
        """Rows of sums from which post-processing reads (in each bank, where there are banks)."""

    @property
    @abstractmethod
    def memories(self) -> dict[str, int]:
        """On-chip memories of data, and the bytes of each."""

    @property
    def beat_bytes(self) -> int:
        """Bytes of an AXI beat."""
        return self.memory.data_width // 8

    @property
    def pes(self) -> int:
        """Processing elements."""
        return self.array.rows * self.array.cols


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
    SECTIONS: ClassVar[dict[str, type[Any]]] = {
        "array": Array, "scratchpads": Scratchpads, "accumulators": Accumulators, "post": Post, "memory": Memory,
    }

    scratchpads: Scratchpads
    accumulators: Accumulators

    def __post_init__(self) -> None:
        super().__post_init__()
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
    def accumulator_bits(self) -> int:
        """Width of an accumulator: 32 up to 8-bit operands, else 48."""
        return 32 if self.array.operand_bits <= 8 else 48

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
        return {"scratchpads": pads.activation_bytes + pads.weight_bytes + pads.output_bytes,
                "accumulators": 2 * self.accumulators.depth * self.array.cols * self.sum_bytes}

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
    def banks(self) -> int:
        """Operand-wide banks of the activation and weight scratchpads (a power of two)."""
        return 1 << ceil_log2(max(self.array.rows, self.array.cols, self.beat_bytes // self.operand_bytes))


@dataclass(frozen=True, kw_only=True)
class RowStationaryConfig(Config):
    """Parameters of an accelerator with the row-stationary array, after Eyeriss.

    With 8-bit operands it runs any network: words lose their zero points, sums have 32 bits, and
    post-processing is that of the systolic kind. With 16-bit operands it computes in fixed point as the chip
    does: a window of each product, sums that wrap at 16 bits, and ReLU and run-length coding on the way to
    memory instead of post-processing.

    Parameters
    ----------
    name : str
        Name of the configuration.
    array, pe, global_buffer, scratchpads, memory : section
        See the sections; ``scratchpads`` holds nothing with 16-bit operands.

    Raises
    ------
    PearrayError
        If the sections contradict one another.
    """

    KIND = "row-stationary"
    SECTIONS: ClassVar[dict[str, type[Any]]] = {
        "array": Array, "pe": ProcessingElement, "global_buffer": GlobalBuffer, "scratchpads": OutputScratchpads,
        "memory": Memory,
    }

    #: Bytes of a line of the global buffer, the filter buffer, and the networks of filters and psums.
    line_bytes: ClassVar[int] = 8

    pe: ProcessingElement = field(default_factory=ProcessingElement)
    global_buffer: GlobalBuffer = field(default_factory=GlobalBuffer)
    scratchpads: OutputScratchpads = field(default_factory=OutputScratchpads)
    #: Follows from the rest: a lane for each sum of a line.
    post: Post = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.array.operand_bits not in (8, 16):
            raise PearrayError(f"array.operand_bits must be 8 or 16 for array.kind = {self.KIND!r}, "
                               f"not {self.array.operand_bits}")
        if self.buffer_lines > 1 << ADDRESS_BITS - 4:
            raise PearrayError(f"global_buffer.banks * global_buffer.bank_lines must be at most "
                               f"{1 << ADDRESS_BITS - 4}, not {self.buffer_lines}")
        if self.filter_lines > 1 << ADDRESS_BITS - 4:
            raise PearrayError(f"global_buffer.filter_banks * global_buffer.bank_lines must be at most "
                               f"{1 << ADDRESS_BITS - 4}, not {self.filter_lines}")
        object.__setattr__(self, "post", Post(lanes=self.psum_lanes))

    @property
    def has_post(self) -> bool:
        """Whether there is post-processing, and POST commands."""
        return self.array.operand_bits == 8

    @property
    def psum_bits(self) -> int:
        """Width of a sum, in the array and in the global buffer."""
        return 32 if self.array.operand_bits == 8 else 16

    @property
    def accumulator_bits(self) -> int:
        """Width of a finished sum: that of every sum."""
        return self.psum_bits

    @property
    def sum_columns(self) -> int:
        """Sums of a row that post-processing works through: those of a line."""
        return self.psum_lanes

    @property
    def sum_rows(self) -> int:
        """Rows of sums from which post-processing reads: the lines of the global buffer."""
        return self.buffer_lines

    @property
    def memories(self) -> dict[str, int]:
        """On-chip memories of data, and the bytes of each."""
        words = (self.pe.ifmap_words + self.pe.filter_words) * self.word_bits + self.pe.psum_words * self.psum_bits
        parts = {"global buffer": self.buffer_lines * self.line_bytes, "filters": self.filter_lines * self.line_bytes,
                 "PEs": self.pes * words // 8}
        return parts if self.truncate else parts | {"outputs": self.scratchpads.output_bytes}

    @property
    def psum_bytes(self) -> int:
        """Bytes of a sum in the global buffer."""
        return self.psum_bits // 8

    @property
    def word_bits(self) -> int:
        """Width of an ifmap or filter word in the array: 8-bit words have lost their zero points."""
        return 9 if self.array.operand_bits == 8 else 16

    @property
    def truncate(self) -> bool:
        """Whether sums take a window of each product."""
        return self.array.operand_bits == 16

    @property
    def psum_lanes(self) -> int:
        """Sums of a line."""
        return self.line_bytes // self.psum_bytes

    @property
    def filter_lanes(self) -> int:
        """Filter words of a line."""
        return self.line_bytes // self.operand_bytes

    @property
    def buffer_lines(self) -> int:
        """Lines of the global buffer, without those for filters."""
        return self.global_buffer.banks * self.global_buffer.bank_lines

    @property
    def filter_lines(self) -> int:
        """Lines of the filter buffer."""
        return self.global_buffer.filter_banks * self.global_buffer.bank_lines


#: Class of the configurations of each kind of array.
CONFIGS: dict[str, type[SystolicConfig] | type[RowStationaryConfig]] = {
    kind.KIND: kind for kind in (SystolicConfig, RowStationaryConfig)
}
