"""Timing of the memory behind an accelerator: what those assume who simulate or plan programs. No hardware knows it."""

from dataclasses import dataclass

from .hdl.errors import PearrayError
from .hdl.sections import Section, integer

__all__ = ["DEFAULT_MEMORY", "MemoryTiming"]


@dataclass(frozen=True, kw_only=True)
class MemoryTiming(Section):
    """Memory that takes one address and one beat a cycle on each channel; by default that of all published figures.

    Parameters
    ----------
    read_latency, write_latency : int
        Cycles from a read address to its first beat, and from the last beat of a write to its response.
    outstanding : int
        Bursts in flight each way.
    beats_per_cycle : float
        Beats a cycle, of reads and writes together if below 1; at least 0.001.

    Raises
    ------
    PearrayError
        If a value is out of range.
    """

    SECTION = "memory"

    read_latency: int = integer(32, 1, 10_000, "cycles from a read address to its first beat")
    write_latency: int = integer(32, 1, 10_000, "cycles from the last beat of a write to its response")
    outstanding: int = integer(8, 1, 256, "bursts in flight each way")
    beats_per_cycle: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.beats_per_cycle
        if type(value) not in (int, float) or not 0.001 <= value <= 1:
            raise PearrayError(f"memory.beats_per_cycle must be a number in 0.001..1, not {value!r}")


#: The memory that every figure assumes which says nothing else.
DEFAULT_MEMORY = MemoryTiming()
