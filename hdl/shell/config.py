"""Configuration of an accelerator: what all kinds of array have of it, and what the shell asks the kind."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from ..arithmetic.arithmetic import Arithmetic
from ..arithmetic.floating import FloatArithmetic
from ..arithmetic.integer import IntegerArithmetic
from ..errors import PearrayError
from ..sections import Section, integer
from .commands import ADDRESS_BITS, CommandSet
from .functions import FUNCTIONS

__all__ = ["Array", "CommandsOf", "Config", "Memory", "OutputScratchpads", "Post"]


@dataclass(frozen=True, kw_only=True)
class Array(Section):
    """Array of processing elements. Without a ``kind`` it is of the kind of the configuration that it is put in."""

    SECTION = "array"

    kind: str = ""
    rows: int = integer(None, 1, 256, "rows of processing elements")
    cols: int = integer(None, 1, 256, "columns of processing elements")
    operand_bits: int = integer(8, 4, 16, "width of an activation or weight")


@dataclass(frozen=True, kw_only=True)
class OutputScratchpads(Section):
    """On-chip buffers of post-processing, in bytes unless said otherwise."""

    SECTION = "scratchpads"

    output_bytes: int = integer(4096, 64, 1 << ADDRESS_BITS, "output scratchpad", power=True)
    channels: int = integer(256, 16, 4096, "output channels whose bias and scale are held", power=True)
    moves: int = integer(0, 0, 1, "1 for MOVE commands, which copy outputs to scratchpads of operands")


@dataclass(frozen=True, kw_only=True)
class Post(Section):
    """Post-processing lanes."""

    SECTION = "post"

    lanes: int = integer(1, 1, 64, "outputs processed a cycle; divides array.cols", power=True)
    pairs: int = integer(0, 0, 1, "1 for tables that add two tensors of any scales, where operands have 8 bits")
    products: int = integer(0, 0, 1, "1 for products of two tensors, element by element, where operands have 8 bits")
    averages: int = integer(0, 0, 1, "1 for sums in float32 and steps of any size; needs post.pairs = 1")
    transposed: int = integer(0, 0, 1, "1 for rows of sums that are pixels of one channel, as of depthwise layers")
    maxima: int = integer(0, 0, 1, "1 to write only the greatest of the outputs of a window")
    softmax: int = integer(0, 0, 1, "1 for softmax of scores and fused attention, where operands have 8 bits")
    row_softmax: int = integer(0, 0, 1, "1 for softmax of the rows of a tensor; needs post.pairs = 1")
    float_softmax: int = integer(0, 0, 1, "1 for such softmax with sums in float32 as well; needs post.row_softmax = 1")
    norms: int = integer(0, 0, 1, "1 for LayerNorm and RMSNorm, where operands have 8 bits")
    routines: int = integer(0, 0, 1, "1 for routines on float32 numbers, where operands are floats")


@dataclass(frozen=True, kw_only=True)
class Memory(Section):
    """AXI4 port."""

    SECTION = "memory"

    data_width: int = integer(None, 32, 512, "bits of a beat", power=True)


class CommandsOf:
    """Commands of a configuration; of the class, those of one without functions of the vector engine and MOVEs.

    Parameters
    ----------
    command_set : callable
        Makes them, from the functions, and ``moves``, whether there are MOVEs.
    """

    def __init__(self, command_set: Callable[..., CommandSet]):
        self._command_set = command_set

    def __get__(self, config: "Config | None", owner: type["Config"]) -> CommandSet:
        functions, moves = (frozenset(), False) if config is None else (config.functions, config.has_moves)
        return self._command_set(functions, moves=moves)


@dataclass(frozen=True, kw_only=True)
class Config(ABC):
    """Parameters of one accelerator, of whichever kind; each kind of array has a class of its own.

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
    #: What the register ``kind`` tells the host, unlike that of any other kind. Kinds are listed in this order, and
    #: the first is that of a file that names none.
    NUMBER: ClassVar[int]
    #: Tables of a configuration file, each with the dataclass that holds it.
    SECTIONS: ClassVar[dict[str, type[Any]]]
    #: Commands of programs.
    commands: ClassVar[CommandSet]
    #: Functions of the vector engine that its configurations can have: keys of :data:`.functions.FUNCTIONS`.
    FUNCTIONS: ClassVar[tuple[str, ...]] = ()
    #: Whether its configurations can have MOVEs.
    can_move: ClassVar[bool] = False

    name: str
    array: Array
    scratchpads: OutputScratchpads
    post: Post
    memory: Memory

    def __post_init__(self) -> None:
        if self.array.kind == "":
            object.__setattr__(self, "array", replace(self.array, kind=self.KIND))
        if self.array.kind != self.KIND:
            raise PearrayError(f"array.kind must be {self.KIND!r} in a {type(self).__name__}, not {self.array.kind!r}")
        for key, function in FUNCTIONS.items():
            value = getattr(self._post, key)
            if value and key not in self.FUNCTIONS:
                raise PearrayError(f"post.{key} must be 0 with array.kind = {self.KIND!r}, not {value}")
            if value and function.needs and not getattr(self._post, function.needs):
                raise PearrayError(f"post.{key} must be 0 without post.{function.needs} = 1, not {value}")
            if value and function.floats_only and not self.has_floats:
                raise PearrayError(f"post.{key} must be 0 where operands are integers, not {value}")
        if self.has_moves and not self.can_move:
            raise PearrayError(f"scratchpads.moves must be 0 with array.kind = {self.KIND!r}, "
                               f"not {self.scratchpads.moves}")
        if self.has_post and self.output_lines < 2:
            raise PearrayError(f"scratchpads.output_bytes must be at least {2 * self.output_banks} (two beats, and two "
                               f"groups of post.lanes = {self.post.lanes} sums), not {self.scratchpads.output_bytes}")

    @property
    def arithmetic(self) -> Arithmetic:
        """Numbers that the array computes with, chosen by ``array.operand_bits``."""
        return IntegerArithmetic(self.array.operand_bits)

    @property
    def has_floats(self) -> bool:
        """Whether these are of floating point, and so is post-processing."""
        return isinstance(self.arithmetic, FloatArithmetic)

    @cached_property
    def operand_bytes(self) -> int:
        """Bytes of an activation or weight in memory: a power of two."""
        return self.arithmetic.operand_bytes

    @property
    def accumulator_bits(self) -> int:
        """Width of a finished sum."""
        return self.arithmetic.accumulator.width

    @cached_property
    def sum_bytes(self) -> int:
        """Bytes of an unrounded sum in memory: a power of two."""
        return self.arithmetic.sum_bytes

    @cached_property
    def output_banks(self) -> int:
        """Byte-wide banks of the output scratchpad: a beat or a group of sums, the larger."""
        return max(self.beat_bytes, self.post.lanes * self.sum_bytes)

    @property
    def output_lines(self) -> int:
        """Lines of each bank of the output scratchpad."""
        return self.scratchpads.output_bytes // self.output_banks

    @property
    def has_post(self) -> bool:
        """Whether there is post-processing, and POST commands."""
        return True

    @property
    def _post(self) -> Post:
        """Post-processing; of a kind that has none, one without functions."""
        return getattr(self, "post", Post())

    @cached_property
    def functions(self) -> frozenset[str]:
        """Functions of the vector engine that it has: those chosen in ``[post]``, where operands allow them."""
        return frozenset(key for key, function in FUNCTIONS.items() if getattr(self._post, key)
                         and (self.has_floats if function.floats_only else
                              self.array.operand_bits == 8 or not function.bytes_only))

    @property
    def has_pairs(self) -> bool:
        """Whether post-processing has tables of pairs."""
        return "pairs" in self.functions

    @property
    def has_products(self) -> bool:
        """Whether post-processing multiplies pairs."""
        return "products" in self.functions

    @property
    def has_averages(self) -> bool:
        """Whether post-processing adds float32 numbers, and searches steps."""
        return "averages" in self.functions

    @property
    def has_transposed(self) -> bool:
        """Whether a row of sums may be pixels of one channel."""
        return "transposed" in self.functions

    @property
    def has_maxima(self) -> bool:
        """Whether post-processing can reduce rows of outputs to their maxima."""
        return "maxima" in self.functions

    @property
    def has_softmax(self) -> bool:
        """Whether post-processing makes numerators of softmax, and sums can be rescaled."""
        return "softmax" in self.functions

    @property
    def has_row_softmax(self) -> bool:
        """Whether post-processing makes softmax of rows of bytes, in passes over their sums."""
        return "row_softmax" in self.functions

    @property
    def has_float_softmax(self) -> bool:
        """Whether it makes such softmax with sums in float32, too."""
        return "float_softmax" in self.functions

    @property
    def has_norms(self) -> bool:
        """Whether post-processing normalises rows."""
        return "norms" in self.functions

    @property
    def has_routines(self) -> bool:
        """Whether post-processing runs routines."""
        return "routines" in self.functions

    @property
    def vector_bytes(self) -> int:
        """Bytes of the memory that routines read; 0 without them."""
        return int(getattr(self.scratchpads, "vector_bytes", 0)) if self.has_routines else 0

    @property
    def has_moves(self) -> bool:
        """Whether there are MOVE commands and their queue."""
        return bool(self.scratchpads.moves)

    @property
    def pair_memory(self) -> int:
        """Number of the memory of these tables in LOADs; a kind that can have them names it ``PAIR``."""
        return self.commands.destination["PAIR"].value

    @property
    @abstractmethod
    def sum_columns(self) -> int:
        """Sums of a row that post-processing works through."""

    @property
    @abstractmethod
    def sum_rows(self) -> int:
        """Rows of sums from which post-processing reads (in each bank, where there are banks)."""

    @property
    def score_columns(self) -> int:
        """Scores of a row of softmax: the keys of a block."""
        return self.sum_columns

    @property
    def score_rows(self) -> int:
        """Rows of which softmax keeps what it knows."""
        return self.sum_rows

    @property
    def key_tile(self) -> int:
        """Keys whose products with a numerator each are added before they join the outputs."""
        return self.array.rows

    @property
    @abstractmethod
    def memories(self) -> dict[str, int]:
        """On-chip memories of data, and the bytes of each."""

    @property
    @abstractmethod
    def capabilities(self) -> Mapping[str, tuple[int, str]]:
        """Value and meaning of registers that tell the host what was generated, by name.

        At least three, of which the third has to do with sums; see :func:`.registers.capabilities`.
        """

    @cached_property
    def beat_bytes(self) -> int:
        """Bytes of an AXI beat."""
        return self.memory.data_width // 8

    @property
    def pes(self) -> int:
        """Processing elements."""
        return self.array.rows * self.array.cols
