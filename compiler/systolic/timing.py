"""What the array of a systolic accelerator takes, in cycles."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from ...hdl.shell.commands import ADDRESS_BITS
from ...hdl.shell.config import Config
from ...hdl.systolic.array import SystolicArray
from ...hdl.systolic.execute import Execute
from ...hdl.systolic.slots import (
    PREPARATION,
    continues_diagonally,
    continuing_slots,
    continuing_wait,
    drain_cycles,
    follows_diagonally,
    tile_slots,
    toeplitz_slots,
)
from ..timing.latencies import SharedLatencies

__all__ = ["Execution", "Latencies", "continues", "contraction_tiles", "execution", "is_toeplitz"]

#: ``w_pitch`` of rows of weights that stand one operand before the row before.
_BACK = (1 << ADDRESS_BITS) - 1


def contraction_tiles(rows: int, k_total: int, run: int, fold: int) -> int:
    """Tiles into which a weight-stationary contraction is cut."""
    if fold or run >= k_total:
        return -(-k_total // rows)
    whole, rest = divmod(k_total, run)
    return whole * -(-run // rows) + -(-rest // rows)

@dataclass(frozen=True, kw_only=True)
class Latencies(SharedLatencies):
    """What the engines of a configuration take, in cycles."""

    #: From the last operand vector of an EXECUTE to its completion.
    through: int
    #: Of preparing an EXECUTE; of a tile's weights, from the top and from the left.
    prepare: int
    slots_top: int
    slots_left: int
    #: From one tile of Toeplitz matrices to the next at least, and of the first of an EXECUTE that continues another's.
    slots_toeplitz: int
    slots_continuing: int
    #: Cycles that the latter must have been held up if it names another bank.
    wait_continuing: int
    #: Output-stationary: sums that take turns in a PE, from the first to the last row of sums that leave, and
    #: between two drains at least.
    turns: int
    leaving: int
    drain: int

    @staticmethod
    @cache
    def of(config: Config) -> "Latencies":
        """SharedLatencies of a configuration."""
        arithmetic = config.arithmetic
        return Latencies(
            **SharedLatencies.shared(config, Execute.untouched_of(config)),
            through=Execute.through_of(config), prepare=PREPARATION,
            slots_top=tile_slots(config, left=False), slots_left=tile_slots(config, left=True),
            slots_toeplitz=toeplitz_slots(config), slots_continuing=continuing_slots(config),
            wait_continuing=continuing_wait(config), turns=arithmetic.add_latency,
            leaving=SystolicArray.drain_interval_of(config.array.rows, arithmetic) - 1, drain=drain_cycles(config))


class Execution(NamedTuple):
    """What an EXECUTE takes."""

    #: Operand vectors of a tile, one a cycle.
    vectors: int
    #: Tiles.
    tiles: int
    #: Cycles from one tile to the next.
    period: int
    #: Cycles in which the first tile's weights are loaded.
    slots: int
    #: Cycles in which sums still leave the array when the last of them would otherwise be done.
    leaving: int

    @property
    def active(self) -> int:
        """Cycles in which the array is given an operand vector."""
        return self.vectors * self.tiles


def execution(config: Config, body: Mapping[str, int]) -> Execution:
    """What an EXECUTE of the systolic array takes."""
    constants = Latencies.of(config)
    vectors, tiles = body["m_count0"] * body["m_count1"] * body["m_count2"], body["n_count"]
    if body.get("output_stationary"):
        turns, slots = constants.turns, constants.slots_top
        vectors *= turns
        period = max(vectors, slots)
        # A tile that may be too short waits until the one before has drained.
        if turns * max(body["m_count0"], body["m_count1"], body["m_count2"]) < constants.drain:
            period = vectors - turns + constants.drain + 2
        # Sums that leave row by row begin to with the first of the last vectors that take turns.
        return Execution(vectors, tiles, period, slots, constants.leaving - (turns - 1))
    tiles *= contraction_tiles(config.array.rows, body["k_total"], body["run"], body.get("fold", 0))
    slots = constants.slots_left if body.get("left") else constants.slots_top
    following = constants.slots_toeplitz if is_toeplitz(config, body) else slots
    return Execution(vectors, tiles, max(vectors, following), slots, 0)


def is_toeplitz(config: Config, body: Mapping[str, int]) -> bool:
    """Whether tiles of an EXECUTE, all but the first, get their weights passed on diagonally."""
    # Of most bodies the first comparison tells it.
    return body.get("w_pitch") == _BACK and bool(follows_diagonally(config, _Fields(body)))


def continues(config: Config, body: Mapping[str, int], before: Mapping[str, int]) -> bool:
    """Whether the first tile of an EXECUTE can get its weights so, too, if the one before it is in flight then."""
    return is_toeplitz(config, body) and bool(continues_diagonally(config, _Fields(body), _Fields(before)))


class _Fields(dict[str, int]):
    """Fields of a body, zero where it does not name them."""

    def __missing__(self, name: str) -> int:
        return 0
