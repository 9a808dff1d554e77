"""Configuration of an accelerator with the row-stationary array."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ..arithmetic.fixed_point import FixedPointArithmetic
from ..arithmetic.integer import IntegerArithmetic
from ..errors import PearrayError
from ..sections import Section, integer
from ..shell.commands import ADDRESS_BITS
from ..shell.config import Array, CommandsOf, Config, Memory, OutputScratchpads
from ..shell.config import Post as PlainPost
from .commands import command_set

__all__ = ["GlobalBuffer", "Post", "ProcessingElement", "RowStationaryConfig"]

#: Rows of scores of which softmax keeps what it knows, and most scores of a row.
_SCORE_ROWS, _MOST_SCORES = 256, 128


@dataclass(frozen=True, kw_only=True)
class ProcessingElement(Section):
    """Scratchpads of a processing element of the row-stationary array, in words."""

    SECTION = "pe"

    ifmap_words: int = integer(12, 1, 255, "ifmap words: the longest window")
    filter_words: int = integer(224, 8, 256, "filter words: the windows of all filters")
    psum_words: int = integer(24, 4, 256, "sums that wait for those of the PE below")
    filter_queue: int = integer(0, 0, 32, "beats of filters that wait for room in the scratchpad; 0 or at least 2",
                                power=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.filter_queue == 1:
            raise PearrayError("pe.filter_queue must be 0 or a power of two in 2..32, not 1")


@dataclass(frozen=True, kw_only=True)
class GlobalBuffer(Section):
    """Memory of the row-stationary array for ifmaps and psums, and the one for filters, in lines of 64 bits."""

    SECTION = "global_buffer"

    banks: int = integer(25, 1, 256, "banks for ifmaps and psums")
    bank_lines: int = integer(512, 32, 1 << 14, "lines of a bank", power=True)
    filter_banks: int = integer(2, 1, 64, "banks for filters and setups")
    skip_zeros: int = integer(0, 0, 1, "1 for a coder of ofmaps that takes zeros with a word beside them")


@dataclass(frozen=True, kw_only=True)
class Post(PlainPost):
    """Post-processing, whose lanes follow from the rest of a configuration: one for each sum of a line."""

    lanes: int = integer(0, 0, 64, "outputs processed a cycle: 0, or as many as a line has sums", power=True)


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
    array, pe, global_buffer, scratchpads, post, memory : section
        See the sections; ``scratchpads`` holds nothing with 16-bit operands.

    Raises
    ------
    PearrayError
        If the sections contradict one another.
    """

    KIND = "row-stationary"
    NUMBER = 2
    SECTIONS: ClassVar[dict[str, type[Any]]] = {
        "array": Array, "pe": ProcessingElement, "global_buffer": GlobalBuffer, "scratchpads": OutputScratchpads,
        "post": Post, "memory": Memory,
    }
    commands: ClassVar[Any] = CommandsOf(command_set)
    FUNCTIONS = ("softmax",)
    can_move = True

    #: Bytes of a line of the global buffer, the filter buffer, and the networks of filters and psums.
    line_bytes: ClassVar[int] = 8

    pe: ProcessingElement = field(default_factory=ProcessingElement)
    global_buffer: GlobalBuffer = field(default_factory=GlobalBuffer)
    scratchpads: OutputScratchpads = field(default_factory=OutputScratchpads)
    post: Post = field(default_factory=Post)

    def __post_init__(self) -> None:
        if self.array.operand_bits not in (8, 16):
            raise PearrayError(f"array.operand_bits must be 8 or 16 for array.kind = {self.KIND!r}, "
                               f"not {self.array.operand_bits}")
        if self.post.lanes not in (0, self.psum_lanes):
            raise PearrayError(f"post.lanes must be {self.psum_lanes}, the sums of a line, or left out, "
                               f"not {self.post.lanes}")
        object.__setattr__(self, "post", replace(self.post, lanes=self.psum_lanes))
        super().__post_init__()
        if self.buffer_lines > 1 << ADDRESS_BITS - 4:
            raise PearrayError(f"global_buffer.banks * global_buffer.bank_lines must be at most "
                               f"{1 << ADDRESS_BITS - 4}, not {self.buffer_lines}")
        if self.filter_lines > 1 << ADDRESS_BITS - 4:
            raise PearrayError(f"global_buffer.filter_banks * global_buffer.bank_lines must be at most "
                               f"{1 << ADDRESS_BITS - 4}, not {self.filter_lines}")
        if self.truncate and (self.has_moves or self.post.softmax):
            raise PearrayError("scratchpads.moves and post.softmax must be 0 with array.operand_bits = 16, not "
                               f"{self.scratchpads.moves} and {self.post.softmax}")
        if self.has_softmax and not self.score_columns:
            raise PearrayError("post.softmax must be 0 in an array whose column contracts less than "
                               f"{self.psum_lanes} keys, not 1")

    @property
    def arithmetic(self) -> IntegerArithmetic:
        """Integers of 8 bits, or 16-bit fixed point."""
        return FixedPointArithmetic() if self.array.operand_bits == 16 else IntegerArithmetic(self.array.operand_bits)

    @property
    def has_post(self) -> bool:
        """Whether there is post-processing, and POST commands."""
        return not self.truncate

    @property
    def psum_bits(self) -> int:
        """Width of a sum, in the array and in the global buffer."""
        return self.accumulator_bits

    @property
    def sum_columns(self) -> int:
        """Sums of a row that post-processing works through: those of a line."""
        return self.psum_lanes

    @property
    def sum_rows(self) -> int:
        """Rows of sums from which post-processing reads: the lines of the global buffer."""
        return self.buffer_lines

    @property
    def score_columns(self) -> int:
        """Keys of a block of scores: as many as the chain of a column contracts in a pass, up to some."""
        most = min(self.array.rows * self.pe.ifmap_words, _MOST_SCORES)
        return most // self.psum_lanes * self.psum_lanes

    @property
    def score_rows(self) -> int:
        """Rows of which softmax keeps what it knows."""
        return _SCORE_ROWS

    @property
    def key_tile(self) -> int:
        """Keys whose products are added before they join the outputs: a block of them."""
        return self.score_columns

    @property
    def memories(self) -> dict[str, int]:
        """On-chip memories of data, and the bytes of each."""
        words = (self.pe.ifmap_words + self.filters_ahead) * self.word_bits + self.pe.psum_words * self.psum_bits
        parts = {"global buffer": self.buffer_lines * self.line_bytes, "filters": self.filter_lines * self.line_bytes,
                 "PEs": self.pes * words // 8}
        return parts if self.truncate else parts | {"outputs": self.scratchpads.output_bytes}

    @property
    def capabilities(self) -> Mapping[str, tuple[int, str]]:
        """Value and meaning of registers that tell the host what was generated, by name."""
        return {
            "global_buffer_bytes": (self.buffer_lines * self.line_bytes, "bytes of the global buffer"),
            "filter_buffer_bytes": (self.filter_lines * self.line_bytes, "bytes of the filter buffer"),
            "bank_bytes": (self.global_buffer.bank_lines * self.line_bytes, "bytes of a bank of the buffers"),
            "ifmap_words": (self.pe.ifmap_words, "words of a processing element's ifmap scratchpad"),
            "filter_words": (self.pe.filter_words, "words of a processing element's filter scratchpad"),
            "psum_words": (self.pe.psum_words, "words of a processing element's psum scratchpad"),
        }

    @property
    def psum_bytes(self) -> int:
        """Bytes of a sum in the global buffer."""
        return self.psum_bits // 8

    @property
    def word_bits(self) -> int:
        """Width of an ifmap or filter word in the array: 8-bit words have lost their zero points."""
        return self.arithmetic.word.width

    @property
    def truncate(self) -> bool:
        """Whether sums take a window of each product."""
        return isinstance(self.arithmetic, FixedPointArithmetic)

    @property
    def psum_lanes(self) -> int:
        """Sums of a line."""
        return self.line_bytes // self.psum_bytes

    @property
    def filter_lanes(self) -> int:
        """Filter words of a line."""
        return self.line_bytes // self.operand_bytes

    @property
    def filters_ahead(self) -> int:
        """Filter words that a PE holds, in its scratchpad and before it."""
        return self.pe.filter_words + self.pe.filter_queue * self.filter_lanes

    @property
    def buffer_lines(self) -> int:
        """Lines of the global buffer, without those for filters."""
        return self.global_buffer.banks * self.global_buffer.bank_lines

    @property
    def filter_lines(self) -> int:
        """Lines of the filter buffer."""
        return self.global_buffer.filter_banks * self.global_buffer.bank_lines
