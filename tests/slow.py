"""Parameters of tests that take long for what they add to the others of their list."""

import pytest

from pearray.sim.engine import ENGINES

__all__ = ["engines", "slow"]


def slow(*values):
    """Parameters of a test that is in `make proofs` alone."""
    return pytest.param(*values, marks=pytest.mark.slow)


def engines(*later):
    """Engines of simulation, of which some are slow.

    Of these, cocotb needs a build for each design, and Amaranth's simulator elaborates it for each run.
    """
    return [slow(name) if name in later else name for name in ENGINES]
