"""How long a program will run, for whoever waits for it."""

from ..hdl.systolic.config import SystolicConfig
from .compile import Compiled
from .systolic.cost import estimate
from .systolic.timing import UnendingError

__all__ = ["expected_cycles"]


def expected_cycles(compiled: Compiled) -> float:
    """Cycles that a program is expected to take: timed where its kind of array can be, else with all PEs busy."""
    config = compiled.config
    if isinstance(config, SystolicConfig):
        try:
            return float(estimate(config, compiled.program))
        except UnendingError:
            # The simulation itself tells whether a program ends.
            pass
    return sum(layer.macs for layer in compiled.layers) / config.pes
