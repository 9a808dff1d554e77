"""Seeded randomness: with pearray's own tests ``--seed N`` chooses the seed of these, too."""

import os

import numpy as np
import pytest

# Every simulation of a test checks the rules of the hardware.
os.environ.setdefault("PEARRAY_RULES", "1")


@pytest.fixture
def seed(request):
    """Seed of this run."""
    return request.config.getoption("--seed", default=0)


@pytest.fixture
def rng(seed):
    """Generator of this test's random numbers."""
    return np.random.default_rng(seed)
