"""What the kind brings to the hardware."""

from collections.abc import Mapping
from math import prod
from typing import Any

from pearray.hdl.kinds import ArrayHardware

from .commands import LOOPS
from .config import DotConfig
from .core import DotCore
from .engine import DotArray, DotEngine
from .unit import DotUnit

__all__ = ["DOT", "lines_of"]


def lines_of(body: Mapping[str, Any]) -> int:
    """Lines that an EXECUTE walks, one a cycle; fields that are absent are zero."""
    return prod(int(body.get(f"count_{loop}", 0)) + 1 for loop in LOOPS)


def _execute_cycles(config: DotConfig, body: Mapping[str, Any]) -> int:
    """Cycles of an EXECUTE in an idle engine."""
    return 2 + lines_of(body) + DotEngine.latency_of(config)


DOT = ArrayHardware(
    config=DotConfig,
    core=DotCore,
    pe=lambda config: DotUnit(config.array.cols, config.array.operand_bits + 1, config.accumulator_bits),
    array=DotArray,
    execute_cycles=_execute_cycles,
)
