"""Seeded randomness for every test: the seed is printed, and ``--seed N`` replays it."""

import gc
import os

import numpy as np
import pytest
from example import provide

# Every simulation of a test checks the rules of the hardware.
os.environ.setdefault("PEARRAY_RULES", "1")

# Designs and programs are made of millions of objects, few of them garbage in circles: looking for it took a seventh.
gc.set_threshold(100_000, 50, 100)

try:
    from hypothesis import settings
except ModuleNotFoundError:
    pass
else:
    settings.register_profile("pearray", deadline=None, derandomize=True, print_blob=True)
    settings.load_profile("pearray")


def pytest_addoption(parser):
    parser.addoption("--seed", type=int, default=0, help="seed of every random test")
    parser.addoption("--fault", default=None, help="inject a fault of tests/bug_bank.py into the hardware")


def pytest_configure(config):
    provide(config.add_cleanup)
    name = config.getoption("--fault")
    if name is not None:
        from bug_bank import BANK
        from faults import inject
        inject({fault.name: fault for fault in BANK}[name])


def pytest_report_header(config):
    return f"seed: {config.getoption('--seed')} (replay with --seed {config.getoption('--seed')})"


@pytest.fixture(autouse=True)
def _figures_of_layers(monkeypatch):
    """Hold every run of every test to what must be true of its layers: no cycle is lost, and none does too much."""
    from pearray import handle
    result_of = handle.result_of

    def checked(*args):
        result = result_of(*args)
        # What the host computes has no layer.
        assert not result.layers or sum(layer.cycles for layer in result.layers) == result.cycles
        assert all(0 <= layer.utilisation <= 1 for layer in result.layers), [
            (layer.name, layer.utilisation) for layer in result.layers]
        for part in (*result.layers, result):
            assert not part.ledger or sum(part.ledger.values()) == part.cycles, (part.cycles, part.ledger)
        return result

    monkeypatch.setattr(handle, "result_of", checked)


@pytest.fixture
def seed(request):
    """Seed of this run."""
    return request.config.getoption("--seed")


@pytest.fixture
def rng(seed):
    """Generator of this test's random numbers."""
    return np.random.default_rng(seed)
