"""Parameters of tests that take long for what they add to the others of their list."""

import pytest

__all__ = ["slow"]


def slow(*values):
    """Parameters of a test that is in `make proofs` alone."""
    return pytest.param(*values, marks=pytest.mark.slow)
