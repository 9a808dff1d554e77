"""What the row-stationary array brings to the hardware."""

from collections.abc import Mapping
from math import prod
from typing import Any

from ..kinds import ArrayHardware
from .array import RowStationaryArray
from .commands import Destination
from .config import RowStationaryConfig
from .core import RowStationaryCore
from .pe import RowStationaryPE
from .row import PERow, array_shape

__all__ = ["ROW_STATIONARY"]


def _execute_cycles(config: RowStationaryConfig, body: Mapping[str, Any]) -> int:
    """Cycles of a pass: its products, and all words and lines one after the other."""
    if body["setup"]:
        return 4 * config.pes + 256
    products = ("rows", "windows", "filters", "window")
    walks = [("rows", "ifmap_columns", "ifmap_sets", "ifmap_lines", "ifmap_channels"),
             ("filter_height", "filter_sets", "filter_beats"),
             *[("rows", "windows", "psum_beats", "psum_sets", "psum_rows")] * 2]
    if body.get("by_word"):
        walks.append(("filter_sets", "filters", "window"))
    return sum(prod(body[name] + 1 for name in names) for names in (products, *walks)) + 4 * config.pes + 256


def _transfer_cycles(config: RowStationaryConfig, body: Mapping[str, Any]) -> float:
    """Cycles of run-length codes, which come and go a word a cycle."""
    if body.get("destination") is Destination.GLOBAL_BUFFER_CODED:
        # A word of a code holds three runs of up to 31 zeros and a level.
        return float(body["length"] / 8 * 96)
    if body.get("coded"):
        return float(max(1, body["count1"]) * max(1, body["count2"]) * body["length"] / 2)
    return 0.0


ROW_STATIONARY = ArrayHardware(
    config=RowStationaryConfig,
    core=RowStationaryCore,
    pe=lambda config: RowStationaryPE(*array_shape(config).pe),
    array=lambda config: RowStationaryArray(array_shape(config)),
    execute_cycles=_execute_cycles,
    transfer_cycles=_transfer_cycles,
    row_module=PERow.unit_name,
)
