"""What the systolic array brings to the hardware."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from ..kinds import ArrayHardware
from .config import SystolicConfig
from .core import SystolicCore
from .execute import Execute
from .slots import drain_cycles, tile_slots
from .stream_array import StreamArray
from .stream_pe import StreamPE
from .tiles import TileWalker

__all__ = ["SYSTOLIC"]


def _execute_cycles(config: SystolicConfig, body: Mapping[str, Any]) -> int:
    """Cycles of an EXECUTE as if no tile overlapped the next."""
    rows, pixels = config.array.rows, body["m_count0"] * body["m_count1"] * body["m_count2"]
    slots = tile_slots(config, left=True)
    ramp = 2 * (TileWalker.PREPARATION + slots + Execute.through_of(config) + drain_cycles(config))
    if body["output_stationary"]:
        return int(body["n_count"] * (pixels * config.arithmetic.add_latency + ramp))
    run = max(1, body["run"])
    tiles = ceil(body["k_total"] / rows) if body["fold"] else ceil(body["k_total"] / run) * ceil(run / rows)
    return int(body["n_count"] * tiles * (max(pixels, slots) + ramp))


SYSTOLIC = ArrayHardware(
    config=SystolicConfig,
    core=SystolicCore,
    pe=lambda config: StreamPE(config.arithmetic, config.os_depth),
    array=lambda config: StreamArray(config.array.rows, config.array.cols, config.arithmetic, config.os_depth),
    execute_cycles=_execute_cycles,
)
