"""When tiles of execute commands may follow one another: the cycles that weights take to load, or to be passed on."""

from collections.abc import Mapping
from typing import Any

from ..shell.commands import ADDRESS_BITS
from ..shell.config import Config
from .accumulator import Accumulators
from .array import SystolicArray
from .tile_plan import TilePlan

__all__ = ["CONTINUATION", "PREPARATION", "continues_diagonally", "continuing_slots", "continuing_wait", "drain_cycles",
           "follows_diagonally", "tile_slots", "toeplitz_slots"]

#: Cycles from the acceptance of a command to the first slot of its first tile, and of one whose first tile gets weights
#: passed on diagonally.
PREPARATION, CONTINUATION = TilePlan.LATENCY + 2, 3


def tile_slots(config: Config, *, left: bool) -> int:
    """Cycles in which a tile's weights are loaded: the least distance between two tiles.

    Rows of accumulators may not come again sooner, and the next tile must have been planned.
    """
    vectors = max(config.array.rows, config.array.cols) if left else config.array.rows
    return max(vectors, Accumulators.period_of(config.arithmetic), TilePlan.LATENCY + 1)


def toeplitz_slots(config: Config) -> int:
    """Least distance between two tiles of Toeplitz matrices.

    The walk's registers settle in so many cycles, and what weights a PE has passed on has been taken before it changes.
    """
    return max(3, config.arithmetic.add_latency + 1)


def follows_diagonally(config: Config, command: Mapping[str, Any]) -> Any:
    """Whether tiles of a command, all but the first, get their weights passed on from PE to PE diagonally.

    Each must be a whole tile of one Toeplitz matrix: R elements from the top, whose weights stand one operand before
    those of the element before. Sums of one are never added to those of the next, which may come too soon.

    Parameters
    ----------
    command : mapping
        EXECUTE, as numbers or as a view of signals.
    """
    if not config.has_toeplitz:
        return False
    return ((command["output_stationary"] == 0) & (command["left"] == 0) & (command["fold"] == 1)
            & (command["k_total"] == config.array.rows) & (command["w_pitch"] == (1 << ADDRESS_BITS) - 1)
            & (command["acc_nstep"] != 0))


#: Fields that decide how far a tile's rows lie apart in the scratchpad.
_DISPLACING = ("run", "run_count", "jump1", "jump2")


def continues_diagonally(config: Config, command: Mapping[str, Any], before: Mapping[str, Any]) -> Any:
    """Whether the first tile of a command can get its weights so, too, if the command before it is still in flight.

    Rows of both lie as far apart in the scratchpad.
    """
    follows = follows_diagonally(config, command) & follows_diagonally(config, before)
    for name in _DISPLACING if config.has_toeplitz else ():
        follows = follows & (command[name] == before[name])
    return follows


def continuing_wait(config: Config) -> int:
    """Cycles that such a command must have been held up; one is enough if it names the bank of the one before.

    A POST gives back a bank that it still reads, and knows when a command that waited for it gets there at the soonest;
    see :meth:`.execute.Execute.untouched_of`. What goes on with a bank waited for that POST with the first command.
    """
    return max(1, PREPARATION + tile_slots(config, left=False) - CONTINUATION
               - continuing_slots(config))


def continuing_slots(config: Config) -> int:
    """Slots of the first tile of such a command: rows of accumulators may have come as the last of the one before."""
    return max(toeplitz_slots(config), Accumulators.period_of(config.arithmetic) - CONTINUATION)


def drain_cycles(config: Config) -> int:
    """Least number of cycles from an output-stationary tile's drain to the next one's."""
    return max(SystolicArray.drain_interval_of(config.array.rows, config.arithmetic),
               Accumulators.period_of(config.arithmetic))
